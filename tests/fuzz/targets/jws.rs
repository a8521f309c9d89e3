//! Compact JWS: any text, and any header (the first line) and payload (the rest) under a signature that holds.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_credentials::jws;

fuzz_target!(|bytes: &[u8]| {
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let other = SecretKey::from_seed(Suite::P256, &[7; 32]).expect("a seed");
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = jws::peek(text);
        assert!(jws::verify(text, |_| Some(key.public().clone())).is_err(), "nobody signed this");
    }
    let cut = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (header, payload) = (&bytes[..cut], bytes.get(cut + 1..).unwrap_or_default());
    let input = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let compact = format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes())));
    assert!(jws::verify(&compact, |_| Some(other.public().clone())).is_err(), "the algorithm is the key's");
    if let Ok(verified) = jws::verify(&compact, |_| Some(key.public().clone())) {
        assert_eq!(verified.payload, payload);
        let peeked = jws::peek(&compact).expect("what verifies can be read");
        assert_eq!((peeked.payload, peeked.kid, peeked.typ), (verified.payload, verified.kid, verified.typ));
    }
});
