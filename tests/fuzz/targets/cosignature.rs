//! Signature lines that a witness answers, and witness keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::{Note, NoteSignature, WitnessKey, read_signatures};

fuzz_target!(|text: &str| {
    if let Ok(key) = text.parse::<WitnessKey>() {
        assert_eq!(key.to_string(), text, "a key has one form");
    }
    let Ok(lines) = read_signatures(text.as_bytes()) else { return };
    let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(written, text, "a line has one form");
    for line in &lines {
        assert_eq!(line.to_string().parse::<NoteSignature>().as_ref(), Ok(line));
    }
    let key = SecretKey::from_seed(Suite::Ed25519, &[9; 32]).expect("a seed");
    let witness = WitnessKey::new("w", key.public().clone()).expect("a name");
    let note = Note::sign("a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n".to_owned(), &[]).expect("a text");
    let note = note.with_signatures(lines).expect("as many as were read");
    assert!(!matches!(witness.cosignature(&note), Ok(Some(_))), "nobody cosigned this");
});
