//! Public keys as Multikey, and as bare bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{PublicKey, Suite};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(key) = PublicKey::from_multikey(text)
    {
        assert_eq!(key.to_multikey(), text, "one key has one form");
    }
    for suite in Suite::ALL {
        if let Ok(key) = PublicKey::from_bytes(suite, bytes) {
            assert_eq!(key.to_bytes(), bytes, "one key has one form");
            assert_eq!(PublicKey::from_multikey(&key.to_multikey()).as_ref(), Ok(&key));
            assert!(key.verify(b"", &[0; 64]).is_err());
        }
    }
});
