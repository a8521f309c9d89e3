//! Scopes and access tokens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, SecretKey, Suite, UnixMillis};
use shuyu_credentials::{Scope, access, jws};

fuzz_target!(|text: &str| {
    if let Ok(scope) = text.parse::<Scope>() {
        assert_eq!(scope.to_string().parse::<Scope>(), Ok(scope));
    }
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let did: Did = "did:web:a.example".parse().expect("a DID");
    let kid = "did:web:a.example#key-1";
    let compact = jws::sign(&key, kid, "dcp-access+jwt", text.as_bytes());
    for token in [text, compact.as_str()] {
        if let Ok(grant) = access::check(token, &key, kid, &did, &did, UnixMillis(0)) {
            assert!(UnixMillis(0) < grant.expires_at);
        }
    }
});
