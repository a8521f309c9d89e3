//! Presentations whose signature holds: eight bytes of time, then any payload.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, SecretKey, Suite, UnixMillis};
use shuyu_credentials::verdict::{Demand, Materials, Question, Requirement, decide};
use shuyu_credentials::{did_key, jws, local_document, vp};

fuzz_target!(|parts: (i64, bool, &[u8])| {
    let (now, old, payload) = parts;
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let did = did_key(key.public()).expect("a did:key");
    let document = local_document(&did).expect("local").expect("well-formed");
    let audience: Did = "did:web:b.example".parse().expect("a DID");
    let compact = jws::sign(&key, &document.methods()[0].id, if old { "JWT" } else { "vp+jwt" }, payload);
    let now = UnixMillis(now);
    if let Ok(presentation) = vp::verify(&compact, &document, &audience, now) {
        assert_eq!(presentation.holder, did);
        assert!(presentation.credentials.len() <= vp::MAX_CREDENTIALS);
    }
    let kind = "MembershipCredential".parse().expect("a type");
    let requirements = [Requirement { kind, issuers: [did].into(), demand: Demand::Required }];
    let question = Question { holder: &document, audience: &audience, now, requirements: &requirements };
    let _ = decide(&[compact], &question, &Materials::default());
});
