//! Credentials and lists of status whose signature holds: any payload, as either kind of message.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_credentials::facts::{Facts, MAX_FACTS};
use shuyu_credentials::status::StatusList;
use shuyu_credentials::{did_key, jws, local_document, vc};

fuzz_target!(|parts: (bool, &[u8])| {
    let (old, payload) = parts;
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let did = did_key(key.public()).expect("a did:key");
    let document = local_document(&did).expect("local").expect("well-formed");
    let compact = jws::sign(&key, &document.methods()[0].id, if old { "JWT" } else { "vc+jwt" }, payload);
    if let Ok((subject, _)) = vc::verify_list(&compact, &document) {
        let _ = StatusList::parse(&subject);
    }
    let Ok(credential) = vc::verify(&compact, &document) else { return };
    assert_eq!(credential.issuer, did);
    let mut facts = Facts::default();
    facts.add(&credential, |_| true);
    assert!(facts.claims.len() <= MAX_FACTS * credential.types.len());
    assert!(
        facts
            .claims
            .iter()
            .all(|fact| credential.types.iter().any(|kind| fact.split('#').next() == Some(kind.as_str())))
    );
    let claimed = vc::peek(&compact).expect("what verifies can be peeked at");
    assert_eq!((claimed.issuer, claimed.types), (credential.issuer, credential.types));
});
