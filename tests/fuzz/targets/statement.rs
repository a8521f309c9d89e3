//! Statements of evidence: only the canonical form is one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_evidence::{MAX_ENTRY_BYTES, Statement, open, peek, sign};

fuzz_target!(|bytes: &[u8]| {
    let Ok(statement) = Statement::from_json(bytes) else { return };
    assert_eq!(statement.to_json().expect("what was read can be written"), bytes);
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let kid = format!("{}#k", statement.by);
    if let Ok(entry) = sign(&statement, &key, &kid) {
        assert!(entry.len() <= MAX_ENTRY_BYTES);
        assert_eq!(peek(&entry).expect("what we sign we read"), statement);
        assert_eq!(open(&entry, |_| Some(key.public().clone())).expect("what we sign verifies"), statement);
    }
});
