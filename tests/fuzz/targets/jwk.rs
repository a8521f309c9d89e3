//! Public keys as JWK.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{PublicKey, json};
use shuyu_credentials::{did_jwk, did_key, local_document};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, 4096) else { return };
    let Ok(key) = PublicKey::from_jwk(&value) else { return };
    let again = PublicKey::from_jwk(&key.to_jwk()).expect("what we write we read");
    assert_eq!(again, key);
    assert_eq!(again.thumbprint(), key.thumbprint());
    for did in [did_jwk(&key).expect("a did:jwk"), did_key(&key).expect("a did:key")] {
        let document = local_document(&did).expect("local").expect("well-formed");
        assert_eq!(document.methods()[0].key, key);
    }
});
