//! Entries of a ledger: any bytes, and any payload under a signature that holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_credentials::jws;
use shuyu_evidence::{ENTRY_TYPE, open, peek};

fuzz_target!(|bytes: &[u8]| {
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let public = key.public();
    let _ = peek(bytes);
    assert!(open(bytes, |_| Some(public.clone())).is_err(), "nobody signed this");
    for typ in [ENTRY_TYPE, "JWT"] {
        let entry = jws::sign(&key, "did:web:a.example#k", typ, bytes);
        if let Ok(statement) = open(entry.as_bytes(), |_| Some(public.clone())) {
            assert_eq!(typ, ENTRY_TYPE);
            assert_eq!(statement.to_json().expect("what was read can be written"), bytes);
        }
    }
});
