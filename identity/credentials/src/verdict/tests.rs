use std::collections::BTreeMap;

use serde_json::{Value, json};
use shuyu_base::{SecretKey, Suite};

use super::*;
use crate::Relationship;
use crate::jws;
use crate::status::{Bit, Purpose, StatusKind};
use crate::vc::Profile;

const NOW: UnixMillis = UnixMillis(1_795_305_600_000);
const HOUR_MS: i64 = 3_600_000;

fn did(name: &str) -> Did {
    format!("did:web:{name}.example").parse().unwrap()
}

fn key(name: &str) -> SecretKey {
    let seed = shuyu_base::Digest::sha256(name.as_bytes());
    SecretKey::from_seed(Suite::P256, seed.bytes()).unwrap()
}

fn kid(name: &str) -> String {
    format!("{}#key-1", did(name))
}

fn document(name: &str) -> DidDocument {
    let mut document = DidDocument::new(did(name));
    document.add_method("key-1", key(name).public().clone(), Relationship::ALL).unwrap();
    document
}

fn list_url() -> Url {
    Url::parse("https://issuer.example/status/1").unwrap()
}

fn entry(index: u32) -> StatusEntry {
    StatusEntry { kind: StatusKind::Bitstring, purpose: Purpose::Revocation, index, list: list_url() }
}

struct Wish {
    profile: Profile,
    issuer: &'static str,
    subject: &'static str,
    kind: &'static str,
    from: i64,
    until: i64,
    index: Option<u32>,
}

const GOOD: Wish = Wish {
    profile: Profile::Vc20,
    issuer: "issuer",
    subject: "holder",
    kind: "MembershipCredential",
    from: 0,
    until: HOUR_MS,
    index: None,
};

fn credential(wish: &Wish) -> String {
    let types = [wish.kind.parse().unwrap()];
    let status: Vec<StatusEntry> = wish.index.map(entry).into_iter().collect();
    let subject = did(wish.subject);
    let draft = vc::Draft {
        profile: wish.profile,
        id: "urn:uuid:1",
        types: &types,
        issuer: &did(wish.issuer),
        subject: subject.as_str(),
        claims: serde_json::Map::new(),
        valid_from: NOW.plus_millis(wish.from),
        valid_until: NOW.plus_millis(wish.until),
        status: &status,
    };
    vc::issue(&key(wish.issuer), &kid(wish.issuer), &draft)
}

fn presented(profile: Profile, credentials: &[&str]) -> String {
    let (holder, audience) = (did("holder"), did("verifier"));
    let draft = vp::Draft { profile, holder: &holder, audience: &audience, jti: "1", now: NOW, lifetime_ms: 300_000 };
    vp::present(&key("holder"), &kid("holder"), &draft, credentials)
}

/// A status list with bit 9 set, published by `issuer`.
fn list_of(issuer: &str, change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let mut list = StatusList::new(StatusKind::Bitstring, Purpose::Revocation, 0);
    list.set(9, Bit::Set).unwrap();
    let mut claims = list.to_json();
    change(&mut claims);
    let types = ["BitstringStatusListCredential".parse().unwrap()];
    let url = list_url();
    let draft = vc::Draft {
        profile: Profile::Vc20,
        id: url.as_str(),
        types: &types,
        issuer: &did(issuer),
        subject: "https://issuer.example/status/1#list",
        claims,
        valid_from: NOW,
        valid_until: NOW.plus_millis(HOUR_MS),
        status: &[],
    };
    vc::issue(&key(issuer), &kid(issuer), &draft)
}

fn materials(list: Option<String>) -> Materials {
    let mut materials = Materials::default();
    materials.documents.insert(did("issuer"), Ok(document("issuer")));
    if let Some(list) = list {
        materials.lists.insert(list_url(), Ok(list));
    }
    materials
}

fn ask_at(presentations: &[String], materials: &Materials, now: UnixMillis) -> Result<Verdict, VerdictError> {
    let requirements = [Requirement {
        kind: "MembershipCredential".parse().unwrap(),
        issuers: [did("issuer")].into(),
        demand: Demand::Required,
    }];
    let (holder, audience) = (document("holder"), did("verifier"));
    let question = Question { holder: &holder, audience: &audience, now, requirements: &requirements };
    decide(presentations, &question, materials)
}

fn verdict(wish: &Wish, materials: &Materials) -> Result<Verdict, String> {
    let presented = presented(wish.profile, &[&credential(wish)]);
    ask_at(&[presented], materials, NOW).map_err(|error| error.to_string())
}

#[test]
fn a_good_presentation_satisfies_in_both_profiles() {
    for profile in Profile::ALL {
        let wish = Wish { profile, index: Some(8), ..GOOD };
        let materials = materials(Some(list_of("issuer", |_| {})));
        let Ok(Verdict::Satisfied(good)) = verdict(&wish, &materials) else { panic!("{profile:?}") };
        assert_eq!(good.credentials.len(), 1);
        assert_eq!(good.until, Some(NOW.plus_millis(HOUR_MS)));
    }
}

#[test]
fn it_says_what_it_needs_and_nothing_for_what_would_not_count() {
    let needs = |needs: &[Need]| Ok(Verdict::Needs(needs.iter().cloned().collect()));
    let wish = Wish { index: Some(8), ..GOOD };
    assert_eq!(verdict(&wish, &Materials::default()), needs(&[Need::Document(did("issuer"))]));
    assert_eq!(verdict(&wish, &materials(None)), needs(&[Need::List(list_url())]));
    // An issuer nobody trusts, and a type nobody asked for: nothing is fetched for them.
    let missing = || Err("no valid `MembershipCredential` of a trusted issuer was presented".to_owned());
    assert_eq!(verdict(&Wish { issuer: "nobody", ..GOOD }, &Materials::default()), missing());
    assert_eq!(verdict(&Wish { kind: "OtherCredential", ..GOOD }, &Materials::default()), missing());
    assert_eq!(ask_at(&[], &Materials::default(), NOW).map_err(|error| error.to_string()), missing());
    let junk = ask_at(&[presented(Profile::Vc20, &["junk"])], &Materials::default(), NOW);
    let expected = "no valid `MembershipCredential` of a trusted issuer was presented; one cannot be read: credential is \
                    not an acceptable jws";
    assert_eq!(junk.map_err(|error| error.to_string()), Err(expected.to_owned()));
    let extra =
        presented(Profile::Vc20, &[&credential(&GOOD), &credential(&Wish { issuer: "nobody", ..GOOD }), "junk"]);
    assert!(
        matches!(ask_at(&[extra], &materials(None), NOW), Ok(Verdict::Satisfied(found)) if found.credentials.len() == 1)
    );
}

#[test]
fn credentials_that_do_not_hold_are_refused() {
    let list = || materials(Some(list_of("issuer", |_| {})));
    for (wish, materials, expected) in [
        (
            Wish { subject: "thief", ..GOOD },
            list(),
            "`MembershipCredential` is about `did:web:thief.example`, not about its holder",
        ),
        (
            Wish { until: -31_000, from: -HOUR_MS, ..GOOD },
            list(),
            "`MembershipCredential`: credential expired at 2026-11-21T23:59:29.000Z",
        ),
        (
            Wish { from: 31_000, ..GOOD },
            list(),
            "`MembershipCredential`: credential is not valid before 2026-11-22T00:00:31.000Z",
        ),
        (Wish { index: Some(9), ..GOOD }, list(), "`MembershipCredential` has status `revocation`"),
        (Wish { index: Some(131_072), ..GOOD }, list(), "the status of `MembershipCredential` cannot be known"),
        (
            Wish { index: Some(8), ..GOOD },
            self::materials(Some(list_of("thief", |_| {}))),
            "status list `https://issuer.example/status/1` is not acceptable: credential is not an acceptable jws",
        ),
        (
            Wish { index: Some(8), ..GOOD },
            self::materials(Some(list_of("issuer", |list| {
                drop(list.insert("statusPurpose".into(), json!("suspension")))
            }))),
            "the status of `MembershipCredential` cannot be known",
        ),
        (
            Wish { index: Some(8), ..GOOD },
            self::materials(Some("{\"unsigned\": true}".to_owned())),
            "status list `https://issuer.example/status/1` is not acceptable: credential is not an acceptable jws",
        ),
    ] {
        assert_eq!(verdict(&wish, &materials), Err(expected.to_owned()));
    }
    let mut unavailable = materials(None);
    unavailable.lists.insert(list_url(), Err("timed out".to_owned()));
    let expected = "`https://issuer.example/status/1` cannot be had: timed out";
    assert_eq!(verdict(&Wish { index: Some(8), ..GOOD }, &unavailable), Err(expected.to_owned()));
    // An old list is no list: it might be from before the revocation.
    let stale = ask_at(
        &[presented(Profile::Vc20, &[&credential(&Wish { until: 3 * HOUR_MS, index: Some(8), ..GOOD })])],
        &list(),
        NOW.plus_millis(2 * HOUR_MS),
    );
    assert!(stale.is_err());
}

#[test]
fn presentations_that_do_not_hold_are_refused() {
    let good = credential(&GOOD);
    let signed = |name: &str, fragment: &str, typ: &str, change: &dyn Fn(&mut Value)| {
        let mut payload: Value =
            serde_json::from_slice(&jws::peek(&presented(Profile::Vc20, &[&good])).unwrap().payload).unwrap();
        change(&mut payload);
        let compact = jws::sign(&key(name), &format!("{}#{fragment}", did(name)), typ, payload.to_string().as_bytes());
        match ask_at(&[compact], &materials(None), NOW) {
            Ok(verdict) => format!("{verdict:?}"),
            Err(VerdictError::Presentation { source, .. }) => source.to_string(),
            Err(error) => error.to_string(),
        }
    };
    let changed = |change: &dyn Fn(&mut Value)| signed("holder", "key-1", "vp+jwt", change);
    assert!(changed(&|_| {}).starts_with("Satisfied"));
    assert_eq!(changed(&|p| p["aud"] = json!("did:web:other.example")), "presentation is for another audience");
    assert_eq!(
        changed(&|p| p["aud"] = json!(["did:web:verifier.example", "did:web:other.example"])),
        "presentation is for another audience"
    );
    assert_eq!(
        changed(&|p| p["iss"] = json!("did:web:other.example")),
        "presentation member `iss` does not name the holder"
    );
    assert_eq!(
        changed(&|p| p["sub"] = json!("did:web:other.example")),
        "presentation member `sub` does not name the holder"
    );
    assert_eq!(changed(&|p| p["holder"] = json!({"id": "x"})), "presentation member `holder` does not name the holder");
    assert_eq!(changed(&|p| p["exp"] = Value::Null), "presentation member `exp` is missing or malformed");
    assert_eq!(
        changed(&|p| p["exp"] = json!(NOW.unix_seconds() - 31)),
        "presentation expired at 2026-11-21T23:59:29.000Z"
    );
    assert_eq!(
        changed(&|p| p["nbf"] = json!(NOW.unix_seconds() + 31)),
        "presentation is not valid before 2026-11-22T00:00:31.000Z"
    );
    assert_eq!(
        changed(&|p| p["exp"] = json!(NOW.unix_seconds() + 3601)),
        "presentation lives 3601000 ms, allowed is 1 to 3600000"
    );
    assert_eq!(changed(&|p| p["type"] = json!("Other")), "presentation member `type` is missing or malformed");
    assert_eq!(
        changed(&|p| p["verifiableCredential"] = json!([{"id": "data:text/plain,x", "type": ENVELOPED}])),
        "presentation member `verifiableCredential` is missing or malformed"
    );
    assert_eq!(signed("holder", "key-1", "JWT", &|_| {}), "presentation has `typ` `JWT`");
    assert_eq!(signed("thief", "key-1", "vp+jwt", &|_| {}), "presentation is not an acceptable jws");
    assert_eq!(signed("holder", "gone", "vp+jwt", &|_| {}), "presentation is not an acceptable jws");
    let mixed = presented(Profile::Vc11, &[&good]);
    let mixed = ask_at(&[mixed], &materials(None), NOW).map_err(|error| error.to_string());
    assert_eq!(mixed, Err("`MembershipCredential` was presented in another profile than its own".to_owned()));
    let many = vec![presented(Profile::Vc20, &[]); MAX_PRESENTATIONS + 1];
    assert!(matches!(ask_at(&many, &materials(None), NOW), Err(VerdictError::TooMany)));
    let full = vec![good.as_str(); vp::MAX_CREDENTIALS + 1];
    assert!(ask_at(&[presented(Profile::Vc20, &full)], &materials(None), NOW).is_err());
}

const ENVELOPED: &str = "EnvelopedVerifiableCredential";

#[test]
fn a_key_without_authentication_presents_nothing() {
    let mut holder = DidDocument::new(did("holder"));
    holder.add_method("key-1", key("holder").public().clone(), [Relationship::CapabilityInvocation]).unwrap();
    let audience = did("verifier");
    let question = Question { holder: &holder, audience: &audience, now: NOW, requirements: &[] };
    let refused = decide(&[presented(Profile::Vc20, &[])], &question, &Materials::default());
    let Err(VerdictError::Presentation { source, position: 1 }) = refused else { panic!() };
    assert_eq!(source, PresentationError::Relationship { kid: kid("holder") });
}

#[test]
fn a_schema_is_asked_for_and_decides() {
    let url = Url::parse("https://issuer.example/schema").unwrap();
    let plain = jws::peek(&credential(&GOOD)).unwrap();
    let mut payload: Value = serde_json::from_slice(&plain.payload).unwrap();
    payload["credentialSchema"] = json!({"id": url.as_str(), "type": "JsonSchema"});
    let compact = jws::sign(&key("issuer"), &kid("issuer"), "vc+jwt", payload.to_string().as_bytes());
    let presented = [presented(Profile::Vc20, &[&compact])];
    let mut materials = materials(None);
    assert_eq!(ask_at(&presented, &materials, NOW).unwrap(), Verdict::Needs([Need::Schema(url.clone())].into()));
    for (schema, good) in [
        (json!({"required": ["id"]}), true),
        (json!({"required": ["foo"]}), false),
        (json!({"$ref": "https://evil.example/"}), false),
    ] {
        materials.schemas = BTreeMap::from([(url.clone(), Ok(schema.to_string().into_bytes()))]);
        assert_eq!(ask_at(&presented, &materials, NOW).is_ok(), good, "{schema}");
    }
    materials.schemas = BTreeMap::from([(url, Err("too large".to_owned()))]);
    assert!(matches!(ask_at(&presented, &materials, NOW), Err(VerdictError::Unavailable { .. })));
}

#[test]
fn a_bad_credential_that_is_only_accepted_is_set_aside() {
    let requirement =
        |kind: &str, demand| Requirement { kind: kind.parse().unwrap(), issuers: [did("issuer")].into(), demand };
    let requirements =
        [requirement("MembershipCredential", Demand::Required), requirement("AuditorCredential", Demand::Accepted)];
    let auditor = |index| credential(&Wish { kind: "AuditorCredential", index: Some(index), ..GOOD });
    let (holder, audience) = (document("holder"), did("verifier"));
    let question = Question { holder: &holder, audience: &audience, now: NOW, requirements: &requirements };
    let decided = |index| {
        let presented = presented(Profile::Vc20, &[&credential(&GOOD), &auditor(index)]);
        match decide(&[presented], &question, &materials(Some(list_of("issuer", |_| {})))) {
            Ok(Verdict::Satisfied(good)) => (good.credentials.len(), good.set_aside),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(decided(8), (2, Vec::new()));
    assert_eq!(decided(9), (1, vec!["`AuditorCredential` has status `revocation`".to_owned()]));
}

#[test]
fn what_was_presented_can_be_judged_again_later() {
    let held = credential(&Wish { index: Some(9), until: 3 * HOUR_MS, ..GOOD });
    let presented = presented(Profile::Vc20, &[&held]);
    let carried = open(&[presented], &document("holder"), &did("verifier"), NOW).unwrap();
    let requirements = [Requirement {
        kind: "MembershipCredential".parse().unwrap(),
        issuers: [did("issuer")].into(),
        demand: Demand::Required,
    }];
    let clear = |list: &mut serde_json::Map<String, Value>| {
        *list = StatusList::new(StatusKind::Bitstring, Purpose::Revocation, 0).to_json();
    };
    let again = |list| judge(&carried, &did("holder"), NOW, &requirements, &materials(Some(list)));
    assert!(matches!(again(list_of("issuer", clear)), Ok(Verdict::Satisfied(_))));
    let revoked = again(list_of("issuer", |_| {})).unwrap_err().to_string();
    assert_eq!(revoked, "`MembershipCredential` has status `revocation`");
    let other = judge(&carried, &did("thief"), NOW, &requirements, &materials(Some(list_of("issuer", clear))));
    assert!(matches!(other, Err(VerdictError::Subject { .. })));
}
