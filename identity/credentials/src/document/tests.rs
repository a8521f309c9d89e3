use proptest::prelude::*;
use shuyu_base::{SecretKey, Suite};

use super::*;

fn did() -> Did {
    "did:web:a.example".parse().unwrap()
}

fn key(suite: Suite) -> PublicKey {
    SecretKey::from_seed(suite, &[7; 32]).unwrap().public().clone()
}

fn parse(document: &Value) -> Result<DidDocument, ParseDocumentError> {
    DidDocument::parse(document.to_string().as_bytes(), &did())
}

fn method(fragment: &str) -> Value {
    json!({
        "id": format!("did:web:a.example#{fragment}"), "type": "JsonWebKey2020", "controller": "did:web:a.example",
        "publicKeyJwk": key(Suite::P256).to_jwk(),
    })
}

fn good() -> Value {
    json!({
        "@context": ["https://www.w3.org/ns/did/v1"],
        "id": "did:web:a.example",
        "verificationMethod": [
            method("jwk"),
            {"id": "#multi", "type": "Multikey", "controller": "did:web:a.example",
             "publicKeyMultibase": key(Suite::Ed25519).to_multikey()},
            {"id": "#rsa", "type": "JsonWebKey", "controller": "did:web:a.example", "publicKeyJwk": {"kty": "RSA", "n": "AQ", "e": "AQAB"}},
            {"id": "#x", "type": "X25519KeyAgreementKey2020", "controller": "did:web:a.example", "publicKeyMultibase": "z6LS"},
        ],
        "authentication": ["#multi", "did:web:a.example#jwk", "#rsa", "did:web:b.example#k"],
        "assertionMethod": [
            {"id": "#sm2", "type": "Multikey", "controller": "did:web:a.example",
             "publicKeyMultibase": key(Suite::Sm2).to_multikey()},
        ],
        "capabilityInvocation": ["#jwk"],
        "service": [
            {"id": "#dsp", "type": "DataService", "serviceEndpoint": "https://a.example/dsp"},
            {"id": "#two", "type": ["A", "B"], "serviceEndpoint": "https://a.example/two"},
            {"id": "#map", "type": "C", "serviceEndpoint": {"uri": "https://a.example"}},
            {"id": "#mail", "type": "D", "serviceEndpoint": "mailto:x@a.example"},
        ],
    })
}

#[test]
fn reads_methods_relationships_and_services() {
    use Relationship::*;
    let document = parse(&good()).unwrap();
    let seen: Vec<(&str, Suite, Vec<Relationship>)> = document
        .methods()
        .iter()
        .map(|m| (m.id.as_str(), m.key.suite(), m.relationships.iter().copied().collect()))
        .collect();
    assert_eq!(
        seen,
        [
            ("did:web:a.example#jwk", Suite::P256, vec![Authentication, CapabilityInvocation]),
            ("did:web:a.example#multi", Suite::Ed25519, vec![Authentication]),
            ("did:web:a.example#sm2", Suite::Sm2, vec![AssertionMethod]),
        ]
    );
    let kinds: Vec<&str> = document.services().iter().map(|service| service.kind.as_str()).collect();
    assert_eq!(kinds, ["DataService", "A", "B"]);
    assert_eq!(document.service("B").unwrap().id, "did:web:a.example#two");
    assert!(document.method("#jwk").is_none() && document.method("did:web:a.example#jwk").is_some());
}

#[test]
fn what_is_written_reads_back() {
    let mut document = DidDocument::new(did());
    for suite in Suite::ALL {
        document.add_method(suite.name(), key(suite), Relationship::ALL).unwrap();
    }
    document.add_service("dsp", "DataService", Url::parse("https://a.example/dsp").unwrap()).unwrap();
    assert_eq!(parse(&document.to_json()).unwrap(), document);
    for bad in ["", "a b", "a#b", "%41", "dsp", "sm2", &"x".repeat(3000)] {
        assert!(document.add_method(bad, key(Suite::Sm2), []).is_err(), "{bad}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table of every rule")]
fn documents_that_break_a_rule_are_refused() {
    let with = |path: &str, value: Value| {
        let mut document = good();
        *document.pointer_mut(path).unwrap() = value;
        document
    };
    let without = |path: &str, member: &str| {
        let mut document = good();
        document.pointer_mut(path).unwrap().as_object_mut().unwrap().remove(member);
        document
    };
    let mut both = good();
    both["verificationMethod"][0]["publicKeyMultibase"] = json!(key(Suite::P256).to_multikey());
    let mut private = good();
    private["verificationMethod"][0]["publicKeyJwk"]["d"] = json!("AA");
    let many = |n: usize| (0..n).map(|i| method(&format!("k{i}"))).collect::<Vec<_>>();
    for (document, expected) in [
        (json!([]), "did document: member `id` is missing or malformed"),
        (without("", "id"), "did document: member `id` is missing or malformed"),
        (
            with("/id", json!("did:web:b.example")),
            "did document has id `did:web:b.example`, expected `did:web:a.example`",
        ),
        (with("/verificationMethod", json!({})), "did document: member `verificationMethod` is missing or malformed"),
        (
            with("/verificationMethod/0", json!("#k")),
            "did document: member `verificationMethod` is missing or malformed",
        ),
        (
            with("/verificationMethod/0/id", json!(7)),
            "did document: member `verificationMethod.id` is missing or malformed",
        ),
        (
            with("/verificationMethod/0/id", json!("did:web:b.example#k")),
            "did document: method `did:web:b.example#k` has a bad `id`",
        ),
        (
            with("/verificationMethod/0/id", json!("did:web:a.example.evil#k")),
            "did document: method `did:web:a.example.evil#k` has a bad `id`",
        ),
        (with("/verificationMethod/0/id", json!("#")), "did document: method `did:web:a.example#` has a bad `id`"),
        (
            with("/verificationMethod/0/id", json!("#multi")),
            "did document: method `did:web:a.example#multi` has a bad `id`",
        ),
        (
            with("/verificationMethod/0/controller", json!("did:web:b.example")),
            "did document: method `did:web:a.example#jwk` has a bad `controller`",
        ),
        (
            without("/verificationMethod/0", "controller"),
            "did document: method `did:web:a.example#jwk` has a bad `controller`",
        ),
        (without("/verificationMethod/0", "type"), "did document: method `did:web:a.example#jwk` has a bad `type`"),
        (
            without("/verificationMethod/0", "publicKeyJwk"),
            "did document: method `did:web:a.example#jwk` has a bad `publicKeyJwk`",
        ),
        (both, "did document: method `did:web:a.example#jwk` has a bad `publicKeyJwk`"),
        (private, "did document: method `did:web:a.example#jwk` has a bad key"),
        (
            with("/verificationMethod/0/publicKeyJwk/x", json!("AA")),
            "did document: method `did:web:a.example#jwk` has a bad key",
        ),
        (with("/verificationMethod", json!(many(33))), "did document: `verificationMethod` has more than 32 entries"),
        (with("/assertionMethod", json!(many(33))), "did document: `verificationMethod` has more than 32 entries"),
        (with("/authentication", json!(vec!["#multi"; 65])), "did document: `authentication` has more than 64 entries"),
        (
            with("/service", json!(vec![good()["service"][0].clone(); 33])),
            "did document: `service` has more than 32 entries",
        ),
        (with("/service/0", json!(7)), "did document: member `service` is missing or malformed"),
        (without("/service/0", "id"), "did document: member `service.id` is missing or malformed"),
        (without("/service/0", "type"), "did document: member `service.type` is missing or malformed"),
        (with("/service/1/type", json!(vec!["A"; 40])), "did document: `service` has more than 32 entries"),
    ] {
        let said = parse(&document).map(|_| ()).unwrap_err().to_string();
        assert_eq!(said, expected);
    }
}

#[test]
fn bytes_beyond_the_bounds_are_refused() {
    let mut padded = good().to_string().into_bytes();
    padded.resize(MAX_DOCUMENT_BYTES + 1, b' ');
    let twice = br#"{"id":"did:web:a.example","id":"did:web:a.example"}"#;
    let deep = [br#"{"id":"did:web:a.example","x":"#.as_slice(), &[b'['; 1000]].concat();
    for bytes in [padded.as_slice(), twice, &deep, b"", b"\xff"] {
        assert!(matches!(DidDocument::parse(bytes, &did()), Err(ParseDocumentError::Json(_))));
    }
}

/// An auditor writes a peer's document into a bundle; the peer must not be able to make that unreadable.
#[test]
fn what_was_read_can_be_written_and_read_again() {
    let mut document = good();
    let longest = MAX_TEXT_BYTES - did().as_str().len();
    document["verificationMethod"][1]["id"] = json!(format!("#{}", "m".repeat(longest - 1)));
    document["service"][0]["serviceEndpoint"] = json!(format!("https://a.example/{}", "é".repeat(300)));
    let read = DidDocument::parse(document.to_string().as_bytes(), &did()).unwrap();
    assert_eq!(DidDocument::parse(read.to_json().to_string().as_bytes(), &did()).unwrap(), read);

    document["verificationMethod"][1]["id"] = json!(format!("#{}", "m".repeat(longest)));
    let error = DidDocument::parse(document.to_string().as_bytes(), &did()).unwrap_err();
    assert!(matches!(error, ParseDocumentError::Member { member: "verificationMethod.id" }));

    let mut document = good();
    document["service"] = json!([{
        "id": "#s", "type": vec!["A"; 32], "serviceEndpoint": format!("https://a.example/{}", "p".repeat(2000)),
    }]);
    let error = DidDocument::parse(document.to_string().as_bytes(), &did()).unwrap_err();
    assert!(matches!(error, ParseDocumentError::Json(strict_json::ParseJsonError::TooLarge { .. })));

    // Percent-encoded it is over the limit, so it is no endpoint that could be kept.
    let mut document = good();
    document["service"] =
        json!([{"id": "#s", "type": "A", "serviceEndpoint": format!("https://a.example/{}", "é".repeat(900))}]);
    assert_eq!(DidDocument::parse(document.to_string().as_bytes(), &did()).unwrap().services(), []);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in any::<Vec<u8>>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let _ = DidDocument::parse(&bytes, &did());
        let mut mutated = good().to_string().into_bytes();
        let at = at.index(mutated.len());
        mutated[at] = byte;
        let _ = DidDocument::parse(&mutated, &did());
    }
}

#[test]
fn a_later_document_brings_only_keys_that_were_handed_over_to() {
    let key = |seed: u8| shuyu_base::SecretKey::from_seed(shuyu_base::Suite::Ed25519, &[seed; 32]).unwrap();
    let did: Did = "did:web:a.example".parse().unwrap();
    let document = |keys: &[(&str, u8)], successions: &[String]| {
        let mut document = DidDocument::new(did.clone());
        for (fragment, seed) in keys {
            document.add_method(fragment, key(*seed).public().clone(), [Relationship::AssertionMethod]).unwrap();
        }
        for compact in successions {
            document.add_succession(compact).unwrap();
        }
        DidDocument::parse(document.to_json().to_string().as_bytes(), &did).unwrap()
    };
    let step = |from: u8, to: u8| {
        let succession =
            crate::Succession { did: did.clone(), to: key(to).public().clone(), at: shuyu_base::UnixMillis(0) };
        succession.sign(&key(from), "did:web:a.example#key-1")
    };
    let held = document(&[("key-1", 1)], &[]);
    let (joined, untraced) = held.followed_by(&document(&[("key-3", 3)], &[step(1, 2), step(2, 3)]));
    assert!(untraced.is_empty());
    assert_eq!(
        joined.methods().iter().map(|one| one.id.rsplit_once('#').unwrap().1).collect::<Vec<_>>(),
        ["key-1", "key-3"]
    );
    for (later, what) in [
        (document(&[("key-1", 2)], &[step(1, 2)]), "another key under the same name"),
        (document(&[("key-2", 2)], &[]), "no succession"),
        (document(&[("key-2", 2)], &[step(3, 2)]), "a succession by a stranger"),
    ] {
        let (joined, untraced) = held.followed_by(&later);
        assert_eq!((joined.methods(), untraced.len()), (held.methods(), 1), "{what}");
    }
    let mut full = document(&[("key-1", 1)], &vec![step(1, 2); crate::succession::MAX_SUCCESSIONS]);
    assert!(full.add_succession("x").is_err());
}
