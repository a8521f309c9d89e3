//! Self-issued tokens whose signature holds: eight bytes of time, then any claims.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, SecretKey, Suite, UnixMillis};
use shuyu_credentials::{did_key, jws, local_document, token};

fuzz_target!(|parts: (i64, &[u8])| {
    let (now, claims) = parts;
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let did = did_key(key.public()).expect("a did:key");
    let document = local_document(&did).expect("local").expect("well-formed");
    let audience: Did = "did:web:b.example".parse().expect("a DID");
    let compact = jws::sign(&key, &document.methods()[0].id, "JWT", claims);
    let now = UnixMillis(now);
    let issuer = token::peek_issuer(&compact);
    let Ok(claims) = token::verify(&compact, &document, &audience, now) else { return };
    assert_eq!(issuer.expect("what verifies names its issuer"), did);
    assert_eq!(claims.issuer, did);
    let lifetime_ms = claims.expires_at.since(claims.issued_at);
    assert!((1..=token::MAX_LIFETIME_MS).contains(&lifetime_ms));
    assert!(claims.issued_at <= now.plus_millis(token::SKEW_MS));
    assert!(now < claims.remember_until());
});
