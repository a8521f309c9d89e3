//! Shapes of the DSP 2025-1 messages, what is refused and where, and round trips.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::prelude::*;
use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_catalog::{Dataset, Distribution, Field, OfferRef};
use shuyu_contract_engine::{Party, Pid, Salt, negotiation, transfer};
use shuyu_wire::dsp::{
    CONTEXT, CallbackUrl, Catalog, CatalogEntry, CatalogRequest, DataAddress, DataService, ErrorKind, Explanation,
    NegotiationBody, NegotiationMessage, NegotiationState, ProtocolError, TransferBody, TransferMessage, TransferState,
    Version, decode_versions, encode_versions, event_digest, rules_digest,
};

const PROVIDER: &str = "urn:uuid:00000000-0000-4000-8000-00000000000a";
const CONSUMER: &str = "urn:uuid:00000000-0000-4000-8000-00000000000b";

fn pid(text: &str) -> Pid {
    text.parse().unwrap()
}

/// A message of a type with both identifiers and these further members.
fn message(kind: &str, more: Value) -> Value {
    let mut value = json!({ "@context": [CONTEXT], "@type": kind, "providerPid": PROVIDER, "consumerPid": CONSUMER });
    value.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    value
}

fn without(mut value: Value, name: &str) -> Value {
    value.as_object_mut().unwrap().remove(name).unwrap();
    value
}

fn offer() -> Value {
    let constraint = json!({ "leftOperand": "purpose", "operator": "eq", "rightOperand": "research" });
    json!({ "@id": "offer-1", "@type": "Offer", "target": "dataset-1",
            "permission": [{ "action": "use", "constraint": [constraint] }] })
}

fn agreement() -> Value {
    json!({ "@id": "agreement-1", "@type": "Agreement", "target": "dataset-1", "assigner": "did:web:p.example",
            "assignee": "did:web:c.example", "timestamp": "2026-11-22T08:00:00Z", "permission": [{ "action": "use" }] })
}

/// Every message of a negotiation in the shape of its schema, with its verb.
fn negotiation_messages() -> Vec<(negotiation::Verb, Value)> {
    use negotiation::Verb::{Accept, Agree, Finalize, Offer, Request, Terminate, Verify};
    let opening = json!({ "offer": offer(), "callbackAddress": "https://c.example/dsp" });
    let why = json!({ "code": "99", "reason": ["the licence does not fit"] });
    vec![
        (Request, without(message("ContractRequestMessage", opening.clone()), "providerPid")),
        (Request, message("ContractRequestMessage", json!({ "offer": offer() }))),
        (Offer, without(message("ContractOfferMessage", opening), "consumerPid")),
        (Offer, message("ContractOfferMessage", json!({ "offer": offer(), "@id": "urn:uuid:1" }))),
        (Accept, message("ContractNegotiationEventMessage", json!({ "eventType": "ACCEPTED" }))),
        (Finalize, message("ContractNegotiationEventMessage", json!({ "eventType": "FINALIZED" }))),
        (Agree, message("ContractAgreementMessage", json!({ "agreement": agreement() }))),
        (Verify, message("ContractAgreementVerificationMessage", json!({}))),
        (Terminate, message("ContractNegotiationTerminationMessage", why)),
        (Terminate, message("ContractNegotiationTerminationMessage", json!({}))),
    ]
}

/// Every message of a transfer in the shape of its schema, with its verb.
fn transfer_messages() -> Vec<(transfer::Verb, Value)> {
    use transfer::Verb::{Complete, Request, Start, Suspend, Terminate};
    let property = |name: &str, value: &str| json!({ "@type": "EndpointProperty", "name": name, "value": value });
    let address = json!({ "@type": "DataAddress", "endpointType": "https://w3id.org/idsa/v4.1/HTTP",
        "endpoint": "https://p.example/data",
        "endpointProperties": [property("authorization", "secret-token"), property("authType", "bearer")] });
    let request = json!({ "agreementId": "agreement-1", "format": "HttpData-PULL",
        "callbackAddress": "https://c.example/dsp" });
    vec![
        (Request, without(message("TransferRequestMessage", request), "providerPid")),
        (Start, message("TransferStartMessage", json!({ "dataAddress": address }))),
        (Start, message("TransferStartMessage", json!({}))),
        (Suspend, message("TransferSuspensionMessage", json!({ "code": "1", "reason": ["pause"] }))),
        (Complete, message("TransferCompletionMessage", json!({ "@id": "urn:uuid:2" }))),
        (Terminate, message("TransferTerminationMessage", json!({ "reason": ["revoked"] }))),
    ]
}

#[test]
fn every_message_is_read_and_written_back_the_same() {
    for (verb, value) in negotiation_messages() {
        let read = NegotiationMessage::decode(&value).unwrap();
        assert_eq!((read.verb(), read.encode()), (verb, value));
    }
    for (verb, value) in transfer_messages() {
        let read = TransferMessage::decode(&value).unwrap();
        assert_eq!((read.verb(), read.encode()), (verb, value));
    }
    for (kind, name) in [(ErrorKind::Negotiation, "ContractNegotiationError"), (ErrorKind::Transfer, "TransferError")] {
        let value = message(name, json!({ "code": "400", "reason": ["illegal move"] }));
        let read = ProtocolError::decode(&value).unwrap();
        assert_eq!((read.kind, read.encode()), (kind, value));
    }
    let value = json!({ "@context": [CONTEXT], "@type": "CatalogError", "code": "404", "reason": ["no such dataset"] });
    assert_eq!(ProtocolError::decode(&value).unwrap().encode(), value);
    for state in negotiation::State::ALL {
        let value = message("ContractNegotiation", json!({ "state": state.name() }));
        let read = NegotiationState::decode(&value).unwrap();
        assert_eq!((read.state, read.encode()), (state, value));
    }
    for state in transfer::State::ALL {
        let value = message("TransferProcess", json!({ "state": state.name() }));
        let read = TransferState::decode(&value).unwrap();
        assert_eq!((read.state, read.encode()), (state, value));
    }
}

/// Every member the schema requires is missed by its path when it is gone.
#[test]
fn a_missing_member_is_named() {
    let messages = negotiation_messages().into_iter().map(|(_, value)| value);
    for value in messages.chain(transfer_messages().into_iter().map(|(_, value)| value)) {
        for name in value.as_object().unwrap().keys() {
            if ["@id", "code", "reason", "dataAddress"].contains(&name.as_str()) {
                continue;
            }
            let less = without(value.clone(), name);
            let error = match NegotiationMessage::decode(&value) {
                Ok(_) => NegotiationMessage::decode(&less).err(),
                Err(_) => TransferMessage::decode(&less).err(),
            };
            // A request without its provider's identifier opens, and then it is the callback address that lacks.
            let opens = ["ContractRequestMessage", "ContractOfferMessage"].contains(&value["@type"].as_str().unwrap());
            let expected = if opens && name.ends_with("Pid") && value["callbackAddress"].is_null() {
                let ours = if value["@type"] == "ContractRequestMessage" { "consumerPid" } else { "providerPid" };
                if name == ours { name.as_str() } else { "callbackAddress" }
            } else {
                name.as_str()
            };
            assert_eq!(error.expect(name).path, expected, "{value}");
        }
    }
}

#[track_caller]
fn refused(value: &Value, expected: &str) {
    let error = match NegotiationMessage::decode(value) {
        Err(error) if error.path == "@type" => TransferMessage::decode(value).unwrap_err(),
        other => other.unwrap_err(),
    };
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_is_wrong_is_named_by_path() {
    let request = |offer: Value| message("ContractRequestMessage", json!({ "offer": offer }));
    let with = |mut offer: Value, pointer: &str, value: Value| {
        *offer.pointer_mut(pointer).unwrap() = value;
        request(offer)
    };
    refused(&json!([]), "`message` is not an object");
    refused(&request(without(offer(), "target")), "`offer.target` is missing");
    refused(&request(without(offer(), "permission")), "`offer.permission` is missing");
    refused(&with(offer(), "/@type", json!("Set")), "`offer.@type` is not `Offer`");
    refused(&with(offer(), "/permission", json!([{}])), "`offer.permission[0].action` is missing");
    refused(&with(offer(), "/permission", json!([3])), "`offer.permission[0]` is not an object");
    let target = json!([{ "action": "use" }, { "action": "use", "target": "x" }]);
    refused(&with(offer(), "/permission", target), "`offer.permission[1].target` must not be given here");
    refused(&with(offer(), "/permission", json!(vec![0; 257])), "`offer.permission` has 257 items, the limit is 256");
    refused(&with(offer(), "/@id", json!("x".repeat(257))), "`offer.@id` is 257 bytes, the limit is 256");
    let mut late = agreement();
    late["timestamp"] = json!("today");
    let late = message("ContractAgreementMessage", json!({ "agreement": late }));
    refused(&late, "`agreement.timestamp` is not valid: not an RFC 3339 time");
    let event = message("ContractNegotiationEventMessage", json!({ "eventType": "VERIFIED" }));
    refused(&event, "`eventType` is not `ACCEPTED` or `FINALIZED`");
    let mut foreign = event.clone();
    foreign["@context"] = json!(["https://w3id.org/dspace/2024/1/context.json"]);
    refused(&foreign, &format!("`@context` is not a list with `{CONTEXT}`"));
    foreign["@context"] = json!([{ "@vocab": "https://example.org/" }, CONTEXT]);
    refused(&foreign, "`@context[0]` is not a text");
    refused(&message("Gossip", json!({})), "`@type` is not a message of a transfer");
    let reasons = message("TransferTerminationMessage", json!({ "reason": ["x".repeat(2049)] }));
    refused(&reasons, "`reason[0]` is 2049 bytes, the limit is 2048");
    let mut spaced = event;
    spaced["providerPid"] = json!("a b");
    spaced["eventType"] = json!("ACCEPTED");
    let why = "`providerPid` is not valid: process identifier has white space or a control character";
    refused(&spaced, why);
}

#[test]
fn a_callback_address_is_absolute_and_bare() {
    for text in ["https://c.example/dsp", "http://localhost:7101/dsp/", "https://[::1]:9/x"] {
        let url: CallbackUrl = text.parse().unwrap();
        assert_eq!(url.as_str(), text);
        assert!(url.join("/transfers/1/start").ends_with("/transfers/1/start"));
        assert!(!url.join("/transfers").contains("//transfers"));
    }
    for text in [
        "",
        "/dsp",
        "c.example",
        "ftp://c.example/",
        "https://",
        "https://u:p@c.example/",
        "https://u@c.example/",
        "https://@c.example/",
        "https://c.example/#f",
        "https://c.example/?q",
        "https://c.example/ x",
        "file:///etc",
        "https://c.example\n/",
        "javascript:alert(1)",
    ] {
        assert!(text.parse::<CallbackUrl>().is_err(), "{text}");
    }
    assert!(format!("https://c.example/{}", "x".repeat(2048)).parse::<CallbackUrl>().is_err());
}

#[test]
fn messages_reach_the_machine() {
    let value = message("ContractRequestMessage", json!({ "offer": offer(), "@id": "urn:uuid:9" }));
    let read = NegotiationMessage::decode(&value).unwrap();
    let event = event_digest(&value).unwrap();
    let terms = read.terms(rules_digest(read.policy().unwrap()).unwrap());
    let msg = read.to_msg(Party::Consumer, event, terms.clone()).unwrap();
    assert_eq!((msg.sender_pid, msg.receiver_pid), (pid(CONSUMER), Some(pid(PROVIDER))));
    assert_eq!((msg.verb, msg.salt, msg.event), (negotiation::Verb::Request, Salt::Unique, event));
    assert_eq!((&*terms.unwrap().offer_id, msg.terms.is_some()), ("offer-1", true));
    let (_, start) = transfer_messages().swap_remove(1);
    let msg = TransferMessage::decode(&start).unwrap().to_msg(Party::Provider, event).unwrap();
    assert_eq!((msg.sender_pid, msg.salt), (pid(PROVIDER), Salt::Absent));
}

#[test]
fn an_offer_and_its_agreement_have_one_rules_digest() {
    let mut agreement = agreement();
    agreement["permission"] = offer()["permission"].clone();
    agreement["prohibition"] = json!([]);
    assert_eq!(rules_digest(&offer()).unwrap(), rules_digest(&agreement).unwrap());
    agreement["target"] = json!("dataset-2");
    assert_ne!(rules_digest(&offer()).unwrap(), rules_digest(&agreement).unwrap());
}

#[test]
fn a_digest_is_of_the_canonical_form() {
    let one: Value = serde_json::from_str(r#"{"b":1,"a":[1.0]}"#).unwrap();
    let other: Value = serde_json::from_str(r#"{"a":[1],"b":1e0}"#).unwrap();
    assert_eq!(event_digest(&one).unwrap(), event_digest(&other).unwrap());
}

#[test]
fn tokens_do_not_appear_in_debug_output() {
    let (_, start) = transfer_messages().swap_remove(1);
    let read = TransferMessage::decode(&start).unwrap();
    assert!(!format!("{read:?}").contains("secret-token"));
    let TransferBody::Start { data_address: Some(address) } = read.body else { panic!("no address") };
    assert_eq!(address.property("authorization"), Some("secret-token"));
}

fn entry() -> CatalogEntry {
    let policy = without(offer(), "target");
    let dataset = Dataset {
        id: "dataset-1".to_owned(),
        title: "Turbine readings 风机".to_owned(),
        description: "Ten minutes, 2026".to_owned(),
        keywords: vec!["wind".to_owned()],
        issued: UnixMillis::from_rfc3339("2026-11-22T08:00:00Z").unwrap(),
        publisher: "did:web:p.example".parse().unwrap(),
        offers: vec![OfferRef { id: "offer-1".to_owned(), policy_digest: rules_digest(&policy).unwrap() }],
        distributions: vec![Distribution { format: "HttpData-PULL".to_owned() }],
        fields: vec![Field { name: "speed".to_owned(), kind: "Float64".to_owned() }],
        product_code: Some("code".to_owned()),
    };
    CatalogEntry { dataset, policies: vec![policy] }
}

fn service() -> DataService {
    DataService { id: "service-1".to_owned(), endpoint_url: "https://p.example/dsp".parse().unwrap() }
}

#[test]
fn a_catalogue_is_written_in_the_shape_of_the_schema_and_read_back() {
    let publisher: Did = "did:web:p.example".parse().unwrap();
    let catalog = Catalog {
        id: "catalog-1".to_owned(),
        participant_id: publisher.to_string(),
        services: vec![service()],
        entries: vec![entry()],
    };
    insta::assert_json_snapshot!(catalog.encode());
    assert_eq!(Catalog::decode(&catalog.encode(), &publisher).unwrap(), catalog);
    let single = entry().encode(&service());
    assert_eq!(single["distribution"][0]["accessService"]["endpointURL"], "https://p.example/dsp");
    assert_eq!(CatalogEntry::decode(&single, &publisher).unwrap(), entry());
    let empty = Catalog { entries: Vec::new(), ..catalog }.encode();
    assert!(empty.get("dataset").is_none());
    let mut targeted = single;
    targeted["hasPolicy"][0]["target"] = json!("x");
    let error = CatalogEntry::decode(&targeted, &publisher).unwrap_err();
    assert_eq!(error.to_string(), "`hasPolicy[0].target` must not be given here");
}

#[test]
fn a_filter_is_understood_or_refused() {
    let request = CatalogRequest::encode(&[("keyword", "in", &["a", "b"]), ("text", "contains", &["wind"])]);
    assert_eq!(CatalogRequest::decode(&request).unwrap().filters.len(), 2);
    let decode = |filter: Value| {
        CatalogRequest::decode(&json!({ "@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": filter }))
    };
    assert_eq!(decode(json!([])), Ok(CatalogRequest::default()));
    assert_eq!(decode(json!(null)), Ok(CatalogRequest::default()));
    let error = decode(json!([{ "property": "colour", "operator": "=", "value": "red" }])).unwrap_err();
    assert!(error.to_string().starts_with("`filter[0]` is not valid: property `colour`"), "{error}");
    assert_eq!(decode(json!(["x"])).unwrap_err().to_string(), "`filter[0]` is not an object");
    assert_eq!(decode(json!("x")).unwrap_err().to_string(), "`filter` is not a list");
}

#[test]
fn versions_are_written_and_read() {
    let text = |text: &str| text.to_owned();
    let versions = [Version { version: text("2025-1"), path: text("/dsp/2025-1"), binding: text("HTTPS") }];
    let value = encode_versions(&versions);
    let expected = json!({ "version": "2025-1", "path": "/dsp/2025-1", "binding": "HTTPS" });
    assert_eq!(value, json!({ "protocolVersions": [expected] }));
    assert_eq!(decode_versions(&value).unwrap(), versions);
    assert!(decode_versions(&json!({ "protocolVersions": [] })).is_err());
}

/// Feeds a value to every decoder; a fuzz target can call the same functions.
fn decode_all(value: &Value) {
    let publisher: Did = "did:web:p.example".parse().unwrap();
    let _ = NegotiationMessage::decode(value)
        .map(|message| assert_eq!(NegotiationMessage::decode(&message.encode()).unwrap().verb(), message.verb()));
    let _ = TransferMessage::decode(value)
        .map(|message| assert_eq!(TransferMessage::decode(&message.encode()).unwrap(), message));
    let _ = NegotiationState::decode(value);
    let _ = TransferState::decode(value);
    let _ = ProtocolError::decode(value);
    let _ = CatalogRequest::decode(value);
    let _ = Catalog::decode(value, &publisher);
    let _ = CatalogEntry::decode(value, &publisher);
    let _ = decode_versions(value);
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        Just(json!([CONTEXT])),
        Just(offer()),
        Just(agreement()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let name = prop::sample::select(vec![
            "@id",
            "@type",
            "offer",
            "permission",
            "reason",
            "dataAddress",
            "hasPolicy",
            "filter",
            "endpointProperties",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.prop_map(str::to_owned), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = shuyu_base::json::parse(&bytes, 1000) {
            decode_all(&value);
        }
    }

    /// Good messages with one member replaced by anything: never a panic, and what is read is written readable.
    #[test]
    fn any_change_is_read_without_panic(which in any::<usize>(), member in any::<usize>(), by in any_json()) {
        let mut all: Vec<Value> = negotiation_messages().into_iter().map(|(_, value)| value).collect();
        all.extend(transfer_messages().into_iter().map(|(_, value)| value));
        all.push(entry().encode(&service()));
        let index = which % all.len();
        let value = &mut all[index];
        let name = value.as_object().unwrap().keys().nth(member % value.as_object().unwrap().len()).unwrap().clone();
        value[&name] = by;
        decode_all(value);
    }

    #[test]
    fn explanations_and_addresses_round_trip(
        code in prop::option::of(".{1,40}"), reason in prop::collection::vec(".{0,40}", 0..5),
        properties in prop::collection::vec((".{1,20}", ".{1,40}"), 0..5), endpoint in prop::option::of(".{1,40}"),
    ) {
        let body = TransferBody::Suspension(Explanation { code: code.clone(), reason: reason.clone() });
        let suspended =
            TransferMessage { id: None, provider_pid: Some(pid(PROVIDER)), consumer_pid: pid(CONSUMER), body };
        prop_assert_eq!(TransferMessage::decode(&suspended.encode()).unwrap(), suspended.clone());
        let address = DataAddress { endpoint_type: "http".to_owned(), endpoint, properties };
        let started =
            TransferMessage { body: TransferBody::Start { data_address: Some(address) }, ..suspended };
        prop_assert_eq!(TransferMessage::decode(&started.encode()).unwrap(), started);
        let terminated = NegotiationMessage {
            id: Some("urn:uuid:3".to_owned()),
            provider_pid: Some(pid(PROVIDER)),
            consumer_pid: Some(pid(CONSUMER)),
            body: NegotiationBody::Termination(Explanation { code, reason }),
        };
        prop_assert_eq!(NegotiationMessage::decode(&terminated.encode()).unwrap(), terminated);
    }
}
