use proptest::prelude::*;
use shuyu_base::Suite;

use super::*;
use crate::status::{Purpose, StatusKind};

const NOW: UnixMillis = UnixMillis(1_795_305_600_000);
const KID: &str = "did:web:issuer.example#key-1";

fn key(byte: u8) -> SecretKey {
    SecretKey::from_seed(Suite::P256, &[byte; 32]).unwrap()
}

fn did(text: &str) -> Did {
    text.parse().unwrap()
}

fn document() -> DidDocument {
    let mut document = DidDocument::new(did("did:web:issuer.example"));
    document.add_method("key-1", key(1).public().clone(), [Relationship::AssertionMethod]).unwrap();
    document.add_method("login", key(2).public().clone(), [Relationship::Authentication]).unwrap();
    document
}

fn status() -> StatusEntry {
    let list = Url::parse("https://issuer.example/status/1").unwrap();
    StatusEntry { kind: StatusKind::Bitstring, purpose: Purpose::Revocation, index: 94_567, list }
}

fn issued(profile: Profile) -> String {
    let types = ["MembershipCredential".parse().unwrap()];
    let Value::Object(claims) = json!({"level": "gold"}) else { unreachable!() };
    let draft = Draft {
        profile,
        id: "urn:uuid:1",
        types: &types,
        issuer: &did("did:web:issuer.example"),
        subject: "did:web:holder.example",
        claims,
        valid_from: NOW,
        valid_until: NOW.plus_millis(86_400_000),
        status: &[status()],
    };
    issue(&key(1), KID, &draft)
}

/// The payload of a credential, changed and signed again by the same key.
fn changed(profile: Profile, change: impl FnOnce(&mut Value)) -> String {
    let original = jws::peek(&issued(profile)).unwrap();
    let mut payload: Value = serde_json::from_slice(&original.payload).unwrap();
    change(&mut payload);
    jws::sign(&key(1), KID, &original.typ.unwrap(), payload.to_string().as_bytes())
}

#[test]
fn what_is_issued_is_read_in_both_profiles() {
    for profile in Profile::ALL {
        let credential = verify(&issued(profile), &document()).unwrap();
        assert_eq!(credential.profile, profile);
        assert_eq!(credential.types, ["MembershipCredential".parse().unwrap()]);
        assert_eq!(credential.subject, did("did:web:holder.example"));
        assert_eq!(credential.subject_json(), json!({"id": "did:web:holder.example", "level": "gold"}));
        assert_eq!((credential.status, credential.schemas), (vec![status()], vec![]));
        assert_eq!(credential.valid_from, NOW);
        assert_eq!(credential.valid_until, Some(NOW.plus_millis(86_400_000)));
        let claimed = peek(&issued(profile)).unwrap();
        assert_eq!((claimed.issuer, claimed.types), (credential.issuer, credential.types));
    }
}

#[test]
fn what_breaks_a_rule_is_refused_though_the_signature_holds() {
    use Profile::{Vc11, Vc20};
    let member = |member| CredentialError::Member { member };
    let contradiction = |member| CredentialError::Contradiction { member };
    type Change = fn(&mut Value);
    let table: [(Profile, Change, CredentialError); 18] = [
        (Vc11, |p| p["vc"] = json!("x"), member("vc")),
        (Vc11, |p| p["vc"]["@context"] = json!(["https://evil.example"]), member("@context")),
        (Vc20, |p| p["@context"] = json!([CONTEXT_V1]), member("@context")),
        (Vc11, |p| p["vc"]["issuer"] = json!("did:web:other.example"), contradiction("issuer")),
        (Vc20, |p| p["issuer"] = json!({"name": "x"}), member("issuer")),
        (Vc11, |p| p["vc"]["type"] = json!(["MembershipCredential"]), member("type")),
        (Vc11, |p| p["vc"]["type"] = json!([BASE_TYPE, "a b"]), member("type")),
        (
            Vc11,
            |p| p["vc"]["credentialSubject"] = json!([{"id": "did:web:a"}, {"id": "did:web:b"}]),
            member("credentialSubject"),
        ),
        (
            Vc11,
            |p| p["vc"]["credentialSubject"]["id"] = json!("did:web:thief.example"),
            contradiction("credentialSubject.id"),
        ),
        (Vc20, |p| p["sub"] = json!("did:web:thief.example"), contradiction("credentialSubject.id")),
        (Vc20, |p| p["credentialSubject"] = json!({"level": "gold"}), member("credentialSubject.id")),
        (Vc11, |p| p["vc"]["expirationDate"] = json!("tomorrow"), member("expirationDate")),
        (Vc20, |p| p["exp"] = json!("soon"), member("exp")),
        (Vc20, |p| p["id"] = json!(""), member("id")),
        (
            Vc20,
            |p| p["credentialSchema"] = json!({"id": "https://a.example/s", "type": "Shape"}),
            member("credentialSchema"),
        ),
        (
            Vc20,
            |p| p["credentialSchema"] = json!({"id": "file:///s", "type": "JsonSchema"}),
            member("credentialSchema"),
        ),
        (
            Vc20,
            |p| p["credentialStatus"]["type"] = json!("Other"),
            CredentialError::Status(StatusError::Member { member: "type" }),
        ),
        (
            Vc20,
            |p| p["credentialStatus"]["statusPurpose"] = json!("refresh"),
            CredentialError::Status(StatusError::Member { member: "statusPurpose" }),
        ),
    ];
    for (profile, change, expected) in table {
        assert_eq!(verify(&changed(profile, change), &document()), Err(expected));
    }
}

#[test]
fn envelope_and_credential_bound_each_other() {
    let both = changed(Profile::Vc11, |payload| {
        payload["exp"] = json!(NOW.unix_seconds() + 300);
        payload["vc"]["issuanceDate"] = json!("2126-01-01T00:00:00Z");
    });
    let credential = verify(&both, &document()).unwrap();
    assert_eq!(credential.valid_until, Some(NOW.plus_millis(300_000)));
    assert!(matches!(credential.check_time(NOW), Err(ValidityError::NotYetValid { .. })));
    let credential = verify(&issued(Profile::Vc20), &document()).unwrap();
    assert_eq!(credential.check_time(NOW.plus_millis(86_400_000 + SKEW_MS - 1)), Ok(()));
    let until = NOW.plus_millis(86_400_000);
    assert_eq!(credential.check_time(until.plus_millis(SKEW_MS)), Err(ValidityError::Expired { until }));
    let absent = changed(Profile::Vc11, |payload| {
        payload["vc"]["expirationDate"] = Value::Null;
        payload["exp"] = Value::Null;
    });
    assert_eq!(verify(&absent, &document()).unwrap().valid_until, None);
}

/// Algorithm and key confusion, wrong relationship, key of another DID, wrong kind of message.
#[test]
fn keys_that_may_not_sign_credentials_are_refused() {
    let payload = jws::peek(&issued(Profile::Vc20)).unwrap().payload;
    let signed = |byte, fragment: &str, typ: &str| {
        verify(&jws::sign(&key(byte), &format!("did:web:issuer.example#{fragment}"), typ, &payload), &document())
    };
    let kid = "did:web:issuer.example#login".to_owned();
    assert_eq!(signed(2, "login", "vc+jwt"), Err(CredentialError::Relationship { kid }));
    assert!(matches!(signed(2, "key-1", "vc+jwt"), Err(CredentialError::Jws(JwsError::Signature(_)))));
    assert!(matches!(signed(1, "gone", "vc+jwt"), Err(CredentialError::Jws(JwsError::UnknownKey { .. }))));
    assert_eq!(signed(1, "key-1", "JWT"), Err(CredentialError::Typ { found: "JWT".to_owned() }));
    let ed = SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap();
    let confused = jws::sign(&ed, KID, "vc+jwt", &payload);
    let expected = JwsError::AlgorithmMismatch { found: "EdDSA", expected: "ES256" };
    assert_eq!(verify(&confused, &document()), Err(CredentialError::Jws(expected)));

    // A credential that says it is of this issuer, signed by another DID under its own document.
    let mut thief = DidDocument::new(did("did:web:thief.example"));
    thief.add_method("key-1", key(1).public().clone(), Relationship::ALL).unwrap();
    let kid = "did:web:thief.example#key-1".to_owned();
    let forged = jws::sign(&key(1), &kid, "vc+jwt", &payload);
    assert_eq!(verify(&forged, &thief), Err(CredentialError::NotIssuer { kid }));
    assert!(matches!(verify(&forged, &document()), Err(CredentialError::Jws(JwsError::UnknownKey { .. }))));
}

proptest! {
    #[test]
    fn no_payload_panics(text in "\\PC{0,40}", number in any::<i64>(), old in any::<bool>()) {
        let inner = json!({"@context": [CONTEXT_V1, text], "type": [BASE_TYPE, text], "issuer": text,
            "credentialSubject": {"id": text}, "issuanceDate": text, "credentialStatus": {"type": text}});
        let payload = if old { json!({"vc": inner, "exp": number, "iss": text}) } else { inner };
        let compact = jws::sign(&key(1), KID, if old { "JWT" } else { "vc+jwt" }, payload.to_string().as_bytes());
        prop_assert!(verify(&compact, &document()).is_err());
    }

    #[test]
    fn no_text_panics(text in "[a-zA-Z0-9._-]{0,200}") {
        prop_assert!(peek(&text).is_err());
    }
}
