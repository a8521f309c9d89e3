//! Checkpoints, unsigned and signed by the log.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::Arc;

use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::{Checkpoint, Note, NoteSigner, SignedCheckpoint};

fuzz_target!(|text: &str| {
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed"));
    let signer = NoteSigner::new("a.example/log", key).expect("a name");
    let read = text.parse::<Checkpoint>();
    if let Ok(checkpoint) = &read {
        // Extension lines are dropped; the rest has one form.
        let written = checkpoint.to_string();
        assert!(text.starts_with(&written));
        assert_eq!(written.parse().as_ref(), Ok(checkpoint));
    }
    assert!(SignedCheckpoint::open(text.as_bytes(), signer.vkey()).is_err(), "nobody signed this");
    let Ok(note) = Note::sign(text.to_owned(), &[&signer]) else { return };
    let bytes = note.to_string().into_bytes();
    if let Ok(signed) = SignedCheckpoint::open(&bytes, signer.vkey()) {
        assert_eq!(Ok(signed.checkpoint()), read.as_ref());
        assert_eq!(signed.checkpoint().origin, "a.example/log");
        assert_eq!(signed.bytes(), bytes);
    }
});
