//! Promises of other ledgers, as files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::{Promise, PromiseProof, Vkey};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(promise) = text.parse::<Promise>()
    {
        assert_eq!(promise.to_string(), text, "a promise has one form");
    }
    let Ok(proof) = PromiseProof::parse(bytes) else { return };
    assert_eq!(proof.to_string().as_bytes(), bytes, "a proof has one form");
    let key = SecretKey::from_seed(Suite::Ed25519, &[9; 32]).expect("a seed");
    let key = Vkey::new("example.com/log", key.public().clone()).expect("a name");
    assert!(proof.verify(b"entry", &key).is_err(), "nobody promised this");
});
