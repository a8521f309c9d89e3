//! Signed notes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{HashKind, SecretKey, Suite};
use shuyu_tlog::{Note, SignatureKind, Vkey};

fuzz_target!(|bytes: &[u8]| {
    let Ok(note) = Note::parse(bytes) else { return };
    assert_eq!(note.to_string().as_bytes(), bytes, "a note has one form");
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let vkey = Vkey::new("a.example/log", key.public().clone()).expect("a name");
    assert!(note.verify(std::slice::from_ref(&vkey)).is_err());
    let key = SecretKey::from_seed(Suite::Sm2, &[7; 32]).expect("a seed");
    let kind = SignatureKind::Sm2(HashKind::Sha256);
    let national = Vkey::of_kind("a.example/log", kind, key.public().clone()).expect("a name");
    assert!(note.verify_all(&[vkey, national]).is_err());
});
