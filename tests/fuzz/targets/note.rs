//! Signed notes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::{Note, Vkey};

fuzz_target!(|bytes: &[u8]| {
    let Ok(note) = Note::parse(bytes) else { return };
    assert_eq!(note.to_string().as_bytes(), bytes, "a note has one form");
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let vkey = Vkey::new("a.example/log", key.public().clone()).expect("a name");
    assert!(note.verify(&[vkey]).is_err());
});
