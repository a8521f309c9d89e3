//! Encrypted key files, as far as they are read before the key derivation is paid for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::SecretKey;

fuzz_target!(|text: &str| {
    let _ = SecretKey::check_encrypted_pem(text);
});
