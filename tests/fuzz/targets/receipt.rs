//! COSE receipts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::Receipt;

fuzz_target!(|bytes: &[u8]| {
    let Ok(receipt) = Receipt::parse(bytes) else { return };
    let written = receipt.to_bytes();
    assert_eq!(Receipt::parse(&written).expect("what we write we read"), receipt);
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    assert!(receipt.verify(b"entry", key.public()).is_err());
});
