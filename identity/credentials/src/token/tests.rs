use proptest::prelude::*;
use serde_json::json;
use shuyu_base::Suite;

use super::*;
use crate::did_key;

const NOW: UnixMillis = UnixMillis(1_795_305_600_000);
const NOW_S: i64 = NOW.0 / 1000;

fn did(text: &str) -> Did {
    text.parse().unwrap()
}

fn secret(suite: Suite, byte: u8) -> SecretKey {
    SecretKey::from_seed(suite, &[byte; 32]).unwrap()
}

/// `did:web:a.example` with one key for each use and one for nothing.
fn document() -> DidDocument {
    let mut document = DidDocument::new(did("did:web:a.example"));
    let everything = Relationship::ALL;
    document.add_method("ed", secret(Suite::Ed25519, 1).public().clone(), everything).unwrap();
    document.add_method("p", secret(Suite::P256, 1).public().clone(), everything).unwrap();
    document.add_method("sm", secret(Suite::Sm2, 1).public().clone(), everything).unwrap();
    let assertion = [Relationship::AssertionMethod, Relationship::Authentication];
    document.add_method("assert", secret(Suite::Ed25519, 2).public().clone(), assertion).unwrap();
    document.add_method("idle", secret(Suite::Ed25519, 3).public().clone(), []).unwrap();
    document
}

fn draft<'a>(issuer: &'a Did, audience: &'a Did) -> Draft<'a> {
    let extra = json!({"token": "opaque"}).as_object().unwrap().clone();
    Draft { issuer, audience, jti: "id-1", now: NOW, lifetime_ms: 60_000, extra }
}

#[test]
fn a_token_of_every_suite_is_accepted() {
    let (issuer, audience) = (did("did:web:a.example"), did("did:web:b.example"));
    for (suite, fragment) in [(Suite::Ed25519, "ed"), (Suite::P256, "p"), (Suite::Sm2, "sm")] {
        let kid = format!("{issuer}#{fragment}");
        let token = issue(&secret(suite, 1), &kid, &draft(&issuer, &audience)).unwrap();
        assert_eq!(peek_issuer(&token), Ok(issuer.clone()));
        let claims = verify(&token, &document(), &audience, NOW).unwrap();
        assert_eq!((claims.issuer.clone(), claims.jti.as_str()), (issuer.clone(), "id-1"));
        assert_eq!((claims.issued_at, claims.expires_at), (NOW, NOW.plus_millis(60_000)));
        assert_eq!(claims.remember_until(), NOW.plus_millis(90_000));
        assert_eq!(Value::Object(claims.extra), json!({"token": "opaque"}));
    }
}

/// Signs any claims with a key of the issuer, as a careless or hostile peer would.
fn signed(fragment: &str, key: &SecretKey, typ: &str, claims: &Value) -> String {
    jws::sign(key, &format!("did:web:a.example#{fragment}"), typ, claims.to_string().as_bytes())
}

fn claims() -> Value {
    json!({
        "iss": "did:web:a.example", "sub": "did:web:a.example", "aud": "did:web:b.example",
        "jti": "id-1", "iat": NOW_S, "nbf": NOW_S, "exp": NOW_S + 60,
    })
}

fn verdict(claims: &Value) -> Result<Claims, TokenError> {
    let token = signed("ed", &secret(Suite::Ed25519, 1), "JWT", claims);
    verify(&token, &document(), &did("did:web:b.example"), NOW)
}

/// reference/identity-policy.md, A4 and A5: every rule about claims.
#[test]
fn claims_that_break_a_rule_are_refused_though_the_signature_holds() {
    assert!(verdict(&claims()).is_ok());
    let with = |claim: &str, value: Value| {
        let mut claims = claims();
        claims[claim] = value;
        claims
    };
    let malformed = |claim| Err(TokenError::Claim { claim });
    let at = |seconds| UnixMillis::from_unix_seconds(NOW_S + seconds);
    let table = [
        (with("iss", json!("did:web:evil.example")), Err(TokenError::NotIssuer { claim: "iss" })),
        (with("sub", json!("did:web:evil.example")), Err(TokenError::NotIssuer { claim: "sub" })),
        (with("iss", json!(null)), malformed("iss")),
        (with("sub", json!(["did:web:a.example"])), malformed("sub")),
        (with("aud", json!("did:web:c.example")), Err(TokenError::Audience)),
        (with("aud", json!("did:web:b.example#x")), Err(TokenError::Audience)),
        (with("aud", json!(["did:web:c.example"])), Err(TokenError::Audience)),
        (with("aud", json!(["did:web:b.example", "did:web:c.example"])), malformed("aud")),
        (with("aud", json!([])), malformed("aud")),
        (with("aud", json!(null)), malformed("aud")),
        (with("jti", json!("")), malformed("jti")),
        (with("jti", json!("x".repeat(129))), malformed("jti")),
        (with("jti", json!(7)), malformed("jti")),
        (with("iat", json!("now")), malformed("iat")),
        (with("iat", json!(1.5)), malformed("iat")),
        (with("exp", json!(null)), malformed("exp")),
        (with("nbf", json!("soon")), malformed("nbf")),
        (with("exp", json!(NOW_S + 602)), Err(TokenError::Lifetime { lifetime_ms: 602_000 })),
        (with("exp", json!(NOW_S)), Err(TokenError::Lifetime { lifetime_ms: 0 })),
        (with("exp", json!(i64::MAX)), Err(TokenError::Lifetime { lifetime_ms: i64::MAX - NOW.0 })),
        (with("iat", json!(i64::MIN)), Err(TokenError::Lifetime { lifetime_ms: i64::MAX })),
        (with("nbf", json!(NOW_S + 31)), Err(TokenError::NotYetValid { from: at(31) })),
        (with("iat", json!(NOW_S + 31)), Err(TokenError::NotYetValid { from: at(31) })),
    ];
    for (claims, expected) in table {
        assert_eq!(verdict(&claims), expected, "{claims}");
    }
    assert!(verdict(&with("aud", json!(["did:web:b.example"]))).is_ok());
    assert!(verdict(&with("nbf", json!(NOW_S + 30))).is_ok());
    let mut without_nbf = claims();
    without_nbf.as_object_mut().unwrap().remove("nbf");
    assert!(verdict(&without_nbf).is_ok());
}

#[test]
fn a_token_ends_with_its_life_and_the_skew() {
    let token = signed("ed", &secret(Suite::Ed25519, 1), "JWT", &claims());
    let at = |millis| verify(&token, &document(), &did("did:web:b.example"), NOW.plus_millis(millis));
    assert!(at(89_999).is_ok());
    assert_eq!(at(90_000), Err(TokenError::Expired { expires_at: NOW.plus_millis(60_000) }));
    assert!(at(-30_000).is_ok());
    assert_eq!(at(-30_001), Err(TokenError::NotYetValid { from: NOW }));
}

/// Wrong key, wrong relationship, key of another DID, algorithm confusion, wrong kind of message.
#[test]
fn keys_that_may_not_sign_tokens_are_refused() {
    let audience = did("did:web:b.example");
    let check = |token: String| verify(&token, &document(), &audience, NOW).unwrap_err();
    let right = secret(Suite::Ed25519, 1);
    for (fragment, byte) in [("assert", 2), ("idle", 3)] {
        let kid = format!("did:web:a.example#{fragment}");
        assert_eq!(
            check(signed(fragment, &secret(Suite::Ed25519, byte), "JWT", &claims())),
            TokenError::Relationship { kid }
        );
    }
    assert!(matches!(check(signed("gone", &right, "JWT", &claims())), TokenError::Jws(JwsError::UnknownKey { .. })));
    assert!(matches!(
        check(signed("ed", &secret(Suite::Ed25519, 9), "JWT", &claims())),
        TokenError::Jws(JwsError::Signature(_))
    ));
    assert!(matches!(
        check(signed("p", &right, "JWT", &claims())),
        TokenError::Jws(JwsError::AlgorithmMismatch { .. })
    ));
    assert_eq!(
        check(signed("ed", &right, "shuyu-evidence+jws", &claims())),
        TokenError::Typ { found: "shuyu-evidence+jws".into() }
    );
    for kid in ["did:web:evil.example#ed", "#ed", "ed", "did:web:a.example", "did:web:a.example.evil#ed"] {
        let token = jws::sign(&right, kid, "JWT", claims().to_string().as_bytes());
        assert!(matches!(check(token.clone()), TokenError::Jws(JwsError::UnknownKey { .. })), "{kid}");
        assert!(peek_issuer(&token).is_err(), "{kid}");
    }
    // The document of another DID does not verify it either, though it lists the same key.
    let mut other = DidDocument::new(did("did:web:evil.example"));
    other.add_method("ed", right.public().clone(), Relationship::ALL).unwrap();
    assert!(verify(&signed("ed", &right, "JWT", &claims()), &other, &audience, NOW).is_err());
}

#[test]
fn payloads_that_are_not_one_object_are_refused() {
    let right = secret(Suite::Ed25519, 1);
    let twice = r#"{"iss":"did:web:a.example","iss":"did:web:a.example"}"#;
    for payload in ["", "[]", "7", "{", twice] {
        let token = jws::sign(&right, "did:web:a.example#ed", "JWT", payload.as_bytes());
        assert_eq!(verify(&token, &document(), &did("did:web:b.example"), NOW), Err(TokenError::Payload), "{payload}");
        assert_eq!(peek_issuer(&token), Err(TokenError::Payload));
    }
}

#[test]
fn tokens_that_nobody_would_accept_are_not_issued() {
    let (issuer, audience) = (did("did:web:a.example"), did("did:web:b.example"));
    let key = secret(Suite::Ed25519, 1);
    let kid = "did:web:a.example#ed";
    let try_issue = |kid: &str, change: &dyn Fn(&mut Draft<'_>)| {
        let mut draft = draft(&issuer, &audience);
        change(&mut draft);
        issue(&key, kid, &draft).unwrap_err()
    };
    assert_eq!(try_issue(kid, &|d| d.lifetime_ms = 999), IssueError::Lifetime { lifetime_ms: 999 });
    assert_eq!(try_issue(kid, &|d| d.lifetime_ms = 601_001), IssueError::Lifetime { lifetime_ms: 601_001 });
    assert_eq!(try_issue(kid, &|d| d.jti = ""), IssueError::Jti);
    assert_eq!(try_issue("did:web:b.example#ed", &|_| ()), IssueError::Kid { kid: "did:web:b.example#ed".into() });
    let reserved = try_issue(kid, &|d| drop(d.extra.insert("exp".into(), json!(1))));
    assert_eq!(reserved, IssueError::Reserved { claim: "exp".into() });
}

#[test]
fn a_did_key_can_issue_too() {
    let key = secret(Suite::Sm2, 5);
    let issuer = did_key(key.public()).unwrap();
    let document = crate::local_document(&issuer).unwrap().unwrap();
    let audience = did("did:web:b.example");
    let token = issue(&key, &document.methods()[0].id, &draft(&issuer, &audience)).unwrap();
    assert!(verify(&token, &document, &audience, NOW).is_ok());
}

proptest! {
    #[test]
    fn any_payload_is_read_without_panic(payload in any::<Vec<u8>>(), iat in any::<i64>(), exp in any::<i64>(), now in any::<i64>()) {
        let key = secret(Suite::Ed25519, 1);
        let mut odd = claims();
        (odd["iat"], odd["exp"]) = (json!(iat), json!(exp));
        for payload in [payload, odd.to_string().into_bytes()] {
            let token = jws::sign(&key, "did:web:a.example#ed", "JWT", &payload);
            let _ = peek_issuer(&token);
            let _ = verify(&token, &document(), &did("did:web:b.example"), UnixMillis(now));
        }
    }
}
