use proptest::prelude::*;
use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis, json as strict};
use shuyu_policy::{
    Action, Conflict, Constraint, Duty, LeftOperand, Operand, Operator, Policy, PolicyKind, Rule, check,
};

use super::*;

const EXAMPLES: [(&str, &str); 6] = [
    ("flights.json", include_str!("../../../../docs/profile/examples/flights.json")),
    ("weather.json", include_str!("../../../../docs/profile/examples/weather.json")),
    ("dsp-offer.json", include_str!("../../../../docs/profile/examples/dsp-offer.json")),
    ("agreement.json", include_str!("../../../../docs/profile/examples/agreement.json")),
    ("alternatives.json", include_str!("../../../../docs/profile/examples/alternatives.json")),
    ("download.json", include_str!("../../../../docs/profile/examples/download.json")),
];

#[test]
fn the_examples_of_the_profile_are_read_and_have_no_findings() {
    for (name, text) in EXAMPLES {
        let policy = from_wire_bytes(text.as_bytes()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(check(&policy), [], "{name}");
        assert_eq!(from_json(&to_document(&policy)).unwrap(), policy, "{name}");
    }
}

#[test]
fn the_context_document_declares_the_profile() {
    let text = include_str!("../../../../docs/profile/shuyu.jsonld");
    let document = strict::parse(text.as_bytes(), MAX_POLICY_BYTES).unwrap();
    let context = document.get("@context").unwrap();
    assert_eq!(context.get("shuyu"), Some(&PROFILE.into()));
    let named = |term: &LeftOperand| {
        let graph = document.get("@graph").unwrap().as_array().unwrap();
        graph.iter().any(|node| node.get("@id") == Some(&format!("shuyu:{}", term.name()).into()))
    };
    assert!(LeftOperand::ALL.iter().filter(|term| term.is_profile_term()).all(named));
}

fn offer() -> Value {
    json!({
        "@context": [DSP_CONTEXT, PROFILE],
        "@type": "Offer",
        "@id": "urn:offer:1",
        "assigner": "did:web:holder.example",
        "permission": [{
            "action": "use",
            "constraint": [{ "leftOperand": "purpose", "operator": "eq", "rightOperand": "research" }]
        }]
    })
}

/// The offer with one place replaced.
fn with(pointer: &str, value: Value) -> Value {
    let mut offer = offer();
    *offer.pointer_mut(pointer).unwrap() = value;
    offer
}

/// The offer with one member added.
fn plus(pointer: &str, name: &str, value: Value) -> Value {
    let mut offer = offer();
    offer.pointer_mut(pointer).unwrap().as_object_mut().unwrap().insert(name.to_owned(), value);
    offer
}

const CONSTRAINT: &str = "/permission/0/constraint/0";

#[test]
fn three_spellings_mean_the_same() {
    let wanted = from_json(&offer()).unwrap();
    let prefixed = json!({
        "@context": [ODRL_CONTEXT, { "odrl": "http://www.w3.org/ns/odrl/2/" }],
        "@type": "odrl:Offer",
        "odrl:uid": "urn:offer:1",
        "odrl:assigner": { "@id": "did:web:holder.example" },
        "odrl:permission": {
            "odrl:action": { "@id": "odrl:use" },
            "odrl:constraint": {
                "odrl:leftOperand": { "@id": "odrl:purpose" },
                "odrl:operator": { "@id": "odrl:eq" },
                "odrl:rightOperand": { "@value": "research" }
            }
        }
    });
    assert_eq!(from_json(&prefixed).unwrap(), wanted);
    let full = json!({
        "@type": ["http://www.w3.org/ns/odrl/2/Offer"],
        "@id": "urn:offer:1",
        "http://www.w3.org/ns/odrl/2/assigner": "did:web:holder.example",
        "http://www.w3.org/ns/odrl/2/permission": [{
            "@type": "Permission",
            "action": "http://www.w3.org/ns/odrl/2/use",
            "constraint": [{
                "leftOperand": "http://www.w3.org/ns/odrl/2/purpose",
                "operator": "http://www.w3.org/ns/odrl/2/eq",
                "rightOperand": { "@id": "research" }
            }]
        }]
    });
    assert_eq!(from_json(&full).unwrap(), wanted);
}

#[test]
fn members_of_a_policy_that_say_nothing_about_rules_are_ignored() {
    for (name, value) in [("timestamp", json!("2026-01-01T00:00:00Z")), ("dct:title", json!("x")), ("note", json!({}))]
    {
        assert_eq!(from_json(&plus("", name, value)).unwrap(), from_json(&offer()).unwrap(), "{name}");
    }
}

#[test]
fn times_and_numbers_are_read_in_their_usual_forms() {
    let one = |left: &str, operator: &str, right: Value| {
        let atomic = json!({ "leftOperand": left, "operator": operator, "rightOperand": right });
        let policy = from_json(&with(CONSTRAINT, atomic)).unwrap();
        let Constraint::Atomic { right, .. } = &policy.permissions[0].constraints[0] else {
            panic!("not a comparison")
        };
        right.clone()
    };
    for right in [
        json!("2026-11-22T08:00:00+08:00"),
        json!({ "@value": "2026-11-22T00:00:00Z", "@type": "xsd:dateTime" }),
        json!([{ "@value": "2026-11-22T00:00:00Z", "@type": "http://www.w3.org/2001/XMLSchema#dateTime" }]),
    ] {
        assert_eq!(one("dateTime", "lteq", right), Operand::Time(UnixMillis(1_795_305_600_000)));
    }
    for right in [json!(5), json!("5"), json!({ "@value": 5 }), json!({ "@value": "5", "@type": "xsd:integer" })] {
        assert_eq!(one("odrl:count", "term-lteq", right), Operand::Count(5));
    }
    let list = Operand::List(vec!["a".into(), "b".into()]);
    assert_eq!(one("shuyu:columnDeny", "isAnyOf", json!(["a", { "@value": "b" }])), list);
    assert_eq!(one("shuyu:columnDeny", "isAnyOf", json!({ "@list": ["a", "b"] })), list);
}

#[track_caller]
fn refused(value: &Value, path: &str, message: &str) {
    let error = from_json(value).unwrap_err();
    assert_eq!((error.path(), error.to_string().as_str()), (path, message));
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let left = |name: &str| with(&format!("{CONSTRAINT}/leftOperand"), json!(name));
    let at = "permission[0].constraint[0].leftOperand";
    for name in ["partner", "odrl:rowFilter", "rowFilter", "shuyu:purpose", "cx-policy:Membership", "odrl:"] {
        refused(&left(name), at, &format!("`{at}`: `{name}` is not a known left operand"));
    }
    refused(
        &with("/permission/0/action", json!("odrl:play")),
        "permission[0].action",
        "`permission[0].action`: `odrl:play` is not a known action",
    );
    refused(
        &with(&format!("{CONSTRAINT}/operator"), json!("like")),
        "permission[0].constraint[0].operator",
        "`permission[0].constraint[0].operator`: `like` is not a known operator",
    );
    refused(&with("/@type", json!("Ticket")), "@type", "`@type`: `Ticket` is not a known class of policy");
    let context = "https://example.org/context.jsonld";
    let message = format!("context `{context}` is not known; it is never fetched");
    refused(&with("/@context/1", json!(context)), "@context", &message);
    refused(
        &with("/@context/1", json!({ "@vocab": "https://example.org/" })),
        "@context",
        "context `@vocab: \"https://example.org/\"` is not known; it is never fetched",
    );
    refused(
        &plus("", "profile", json!(["https://example.org/p"])),
        "profile",
        "profile `https://example.org/p` is not known",
    );
}

#[test]
fn members_that_could_change_the_meaning_are_refused() {
    for (pointer, name, path) in [
        ("", "inheritFrom", "policy"),
        ("", "odrl:action", "policy"),
        ("", "shuyu:x", "policy"),
        ("/permission/0", "refinement", "permission[0]"),
        ("/permission/0", "anything", "permission[0]"),
        (CONSTRAINT, "unit", "permission[0].constraint[0]"),
        (CONSTRAINT, "ex:anything", "permission[0].constraint[0]"),
    ] {
        refused(&plus(pointer, name, json!("x")), path, &format!("`{path}`: member `{name}` is not supported"));
    }
    let prohibition = json!([{ "action": "use", "remedy": { "action": "delete" } }]);
    let message = "`prohibition[0]`: member `remedy` is not supported";
    refused(&plus("", "prohibition", prohibition), "prohibition[0]", message);
    let both = plus(CONSTRAINT, "and", json!([]));
    let message = "`permission[0].constraint[0]`: member `leftOperand` is not supported";
    refused(&both, "permission[0].constraint[0]", message);
    let sequence = with(CONSTRAINT, json!({ "andSequence": [] }));
    let message = "`permission[0].constraint[0]`: member `andSequence` is not supported";
    refused(&sequence, "permission[0].constraint[0]", message);
    let refined = json!({ "@id": "use", "refinement": [] });
    let wanted = "`permission[0].action` must be one name, or an object with `@id` alone";
    refused(&with("/permission/0/action", refined), "permission[0].action", wanted);
    refused(&plus("", "odrl:permission", json!([])), "policy", "`policy`: member `permission` appears twice");
    refused(&with("/assigner", json!("http://example.com/Provider")), "assigner", "`assigner` must be a DID");
    refused(&with("/@id", json!(1)), "@id", "`@id` must be a text");
}

#[test]
fn deep_and_large_policies_are_refused() {
    let nested = |depth: usize| {
        let atomic = offer().pointer(CONSTRAINT).unwrap().clone();
        with(CONSTRAINT, (1..depth).fold(atomic, |inner, _| json!({ "and": [inner] })))
    };
    assert!(from_json(&nested(8)).is_ok());
    assert!(matches!(from_json(&nested(9)), Err(OdrlError::Bound(_))));
    assert!(matches!(from_json(&nested(2000)), Err(OdrlError::Bound(_))));
    let atomic = offer().pointer(CONSTRAINT).unwrap().clone();
    assert!(matches!(from_json(&with("/permission/0/constraint", vec![atomic; 65].into())), Err(OdrlError::Bound(_))));
    assert!(from_wire_bytes(&vec![b' '; MAX_POLICY_BYTES + 1]).is_err());
    assert!(from_wire_bytes(br#"{"@type":"Set","@type":"Set"}"#).is_err());
    let crowded: serde_json::Map<_, _> = (0..65).map(|n| (n.to_string(), Value::Null)).collect();
    assert!(matches!(from_json(&crowded.into()), Err(OdrlError::BadValue { .. })));
}

#[test]
fn the_written_form_keeps_to_the_schema_of_dsp() {
    let mut policy = from_json(&offer()).unwrap();
    policy.permissions[0].constraints = vec![
        Constraint::new(LeftOperand::Count, Operator::Lteq, Operand::Count(5)),
        Constraint::new(LeftOperand::RowFilter, Operator::Eq, Operand::Text("a = 1".into())),
    ];
    insta::assert_json_snapshot!(to_json(&policy), @r#"
    {
      "@id": "urn:offer:1",
      "@type": "Offer",
      "assigner": "did:web:holder.example",
      "permission": [
        {
          "action": "use",
          "constraint": [
            {
              "leftOperand": "count",
              "operator": "lteq",
              "rightOperand": {
                "@type": "xsd:integer",
                "@value": 5
              }
            },
            {
              "leftOperand": "https://w3id.org/shuyu/profile/1#rowFilter",
              "operator": "eq",
              "rightOperand": "a = 1"
            }
          ]
        }
      ],
      "profile": "https://w3id.org/shuyu/profile/1#"
    }
    "#);
}

fn atomics() -> impl Strategy<Value = Constraint> {
    prop::sample::select(LeftOperand::ALL).prop_flat_map(|left| {
        let text = ".{0,8}";
        let right = match left.sort() {
            shuyu_policy::terms::Sort::Time => {
                (-62_135_596_800_000_i64..253_402_300_800_000).prop_map(|ms| Operand::Time(UnixMillis(ms))).boxed()
            }
            shuyu_policy::terms::Sort::Count => any::<u64>().prop_map(Operand::Count).boxed(),
            shuyu_policy::terms::Sort::Text => text.prop_map(Operand::Text).boxed(),
        };
        let one = (prop::sample::select(left.operators()), right)
            .prop_map(move |(operator, right)| Constraint::new(left, operator, right));
        let lists = prop::sample::select(&[Operator::IsAnyOf, Operator::IsAllOf, Operator::IsNoneOf][..]);
        let many = (lists, prop::collection::vec(text, 0..4))
            .prop_map(|(operator, list)| Constraint::new(LeftOperand::Purpose, operator, Operand::List(list)));
        prop_oneof![4 => one, 1 => many]
    })
}

fn constraints() -> impl Strategy<Value = Vec<Constraint>> {
    let tree = atomics().prop_recursive(3, 6, 3, |inner| {
        let members = prop::collection::vec(inner, 0..3);
        prop_oneof![
            members.clone().prop_map(Constraint::And),
            members.clone().prop_map(Constraint::Or),
            members.prop_map(Constraint::Xone),
        ]
    });
    prop::collection::vec(tree, 0..3)
}

fn parties() -> impl Strategy<Value = Option<Did>> {
    prop::option::of("did:web:[a-z]{1,8}".prop_map(|did| did.parse().unwrap()))
}

fn duties() -> impl Strategy<Value = Vec<Duty>> {
    let duty = (prop::option::of(".{0,5}"), prop::sample::select(Action::ALL), constraints())
        .prop_map(|(uid, action, constraints)| Duty { uid, action, constraints });
    prop::collection::vec(duty, 0..2)
}

fn rules(with_duties: bool) -> impl Strategy<Value = Vec<Rule>> {
    let texts = (prop::option::of(".{0,5}"), prop::option::of(".{0,5}"));
    let rule = (texts, prop::sample::select(Action::ALL), parties(), parties(), constraints(), duties()).prop_map(
        move |((uid, target), action, assigner, assignee, constraints, mut duties)| {
            duties.retain(|_| with_duties);
            Rule { uid, action, target, assigner, assignee, constraints, duties }
        },
    );
    prop::collection::vec(rule, 0..3)
}

fn policies() -> impl Strategy<Value = Policy> {
    let kinds = prop::sample::select(&[PolicyKind::Set, PolicyKind::Offer, PolicyKind::Agreement][..]);
    let conflicts = prop::sample::select(&[Conflict::Prohibit, Conflict::Permit, Conflict::Invalid][..]);
    let head = (".{0,8}", kinds, parties(), parties(), prop::option::of(".{0,8}"), conflicts);
    (head, rules(true), rules(false), duties()).prop_map(
        |((uid, kind, assigner, assignee, target, conflict), permissions, prohibitions, obligations)| Policy {
            uid,
            kind,
            assigner,
            assignee,
            target,
            permissions,
            prohibitions,
            obligations,
            conflict,
        },
    )
}

proptest! {
    #[test]
    fn policies_round_trip(policy in policies()) {
        prop_assume!(policy.check_bounds().is_ok());
        let bytes = serde_json::to_vec(&to_document(&policy)).unwrap();
        prop_assert_eq!(from_wire_bytes(&bytes).unwrap(), policy.clone());
        prop_assert_eq!(from_json(&to_json(&policy)).unwrap(), policy);
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = from_wire_bytes(&bytes);
    }

    /// One member anywhere in a policy replaced by something else: read or refused, never a panic.
    #[test]
    fn damaged_policies_are_read_without_panic(policy in policies(), at in any::<prop::sample::Index>(), luck in 0..6u8) {
        let mut value = to_document(&policy);
        let strange = [json!(null), json!([]), json!({}), json!(-1.5), json!({ "@id": 1 }), json!([["x"], {}])];
        let mut places = Vec::new();
        pointers(&value, String::new(), &mut places);
        let place: &String = at.get(&places);
        *value.pointer_mut(place).unwrap() = strange[usize::from(luck)].clone();
        if let Ok(policy) = from_json(&value) {
            prop_assert_eq!(from_json(&to_json(&policy)).unwrap(), policy);
        }
    }
}

fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let escape = |name: &str| name.replace('~', "~0").replace('/', "~1");
    let members: Vec<(String, &Value)> = match value {
        Value::Object(members) => members.iter().map(|(name, value)| (escape(name), value)).collect(),
        Value::Array(members) => members.iter().enumerate().map(|(n, value)| (n.to_string(), value)).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    };
    for (name, value) in members {
        pointers(value, format!("{at}/{name}"), found);
    }
    found.push(at);
}
