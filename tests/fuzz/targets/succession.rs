//! Successions of keys: any text, and any payload under a signature that holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, SecretKey, Suite};
use shuyu_credentials::succession::{self, Succession};
use shuyu_credentials::jws;

fuzz_target!(|bytes: &[u8]| {
    let did: Did = "did:web:a.example".parse().expect("a DID");
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let other = SecretKey::from_seed(Suite::Ed25519, &[8; 32]).expect("a seed");
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(Succession::open(text, &did, key.public()).is_none(), "nobody signed this");
    }
    let compact = jws::sign(&key, "did:web:a.example#key-1", succession::TYP, bytes);
    assert!(Succession::open(&compact, &did, other.public()).is_none(), "another key signed this");
    if let Some(read) = Succession::open(&compact, &did, key.public()) {
        let again = read.sign(&key, "did:web:a.example#key-1");
        assert_eq!(Succession::open(&again, &did, key.public()), Some(read));
    }
});
