//! Notes and their keys: the published example, refusals, several kinds of signatures on one note.

use super::*;
use std::sync::Arc;

use proptest::prelude::*;
use shuyu_base::HashKind;
use shuyu_base::keys::{SecretKey, Suite};

/// The example of signed-note, "Verifier keys".
const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::new(name, Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap())).unwrap()
}

#[test]
fn the_example_of_the_specification_verifies() {
    let vkey: Vkey = VKEY.parse().unwrap();
    assert_eq!(vkey.to_string(), VKEY);
    let note = Note::parse(NOTE.as_bytes()).unwrap();
    assert_eq!(note.to_string(), NOTE);
    assert_eq!(note.verify(&[vkey]), Ok(vec!["example.com/foo"]));
}

#[test]
fn unknown_keys_are_ignored_and_a_bad_known_one_is_not() {
    let (ours, other) = (signer("a", 1), signer("b", 2));
    let note = Note::sign("hello\n\nworld\n".to_owned(), &[&other, &ours]).unwrap();
    let parsed = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(parsed, note);
    assert_eq!(note.verify(&[ours.vkey().clone()]), Ok(vec!["a"]));
    // Same name, other key: another id, so it is unknown.
    assert_eq!(note.verify(&[signer("a", 3).vkey().clone()]), Err(OpenNoteError::NoKnownSignature));
    let mut bad = note.clone();
    bad.signatures[1].signature[5] ^= 1;
    let keys = [ours.vkey().clone(), other.vkey().clone()];
    assert_eq!(bad.verify(&keys), Err(OpenNoteError::BadSignature { name: "a".to_owned() }));
    bad.signatures[1].signature.truncate(63);
    assert!(bad.verify(&keys).is_err());
    let mut text = note;
    text.text = "hello\n".to_owned();
    assert!(text.verify(&keys).is_err());
}

#[test]
fn malformed_notes_are_refused() {
    let line = "— a AAAAAAA=";
    let many = format!("t\n\n{}", format!("{line}\n").repeat(MAX_SIGNATURES));
    assert!(Note::parse(many.as_bytes()).is_ok());
    for text in [
        String::new(),
        "\n".to_owned(),
        "text\n".to_owned(),
        "text\n\n".to_owned(),
        format!("text\n{line}\n"),
        format!("text\n\n{line}"),
        format!("text\n\n{line}\n\n"),
        format!("te\txt\n\n{line}\n"),
        format!("te\rxt\n\n{line}\n"),
        format!("text\n\n{line}\ngarbage\n"),
        "text\n\n- a AAAAAAA=\n".to_owned(),
        "text\n\n—  AAAAAAA=\n".to_owned(),
        "text\n\n— a+b AAAAAAA=\n".to_owned(),
        "text\n\n— a\u{3000}b AAAAAAA=\n".to_owned(),
        "text\n\n— a AAAAAA==\n".to_owned(),
        "text\n\n— a AAAAAAA\n".to_owned(),
        "text\n\n— a AAAAAAB=\n".to_owned(),
        "text\n\n— a AAAAAAA= \n".to_owned(),
        format!("{many}{line}\n"),
        format!("{}\n\n{line}\n", "a".repeat(MAX_NOTE_BYTES)),
    ] {
        assert!(Note::parse(text.as_bytes()).is_err(), "{}", text.chars().take(60).collect::<String>());
    }
    assert_eq!(Note::parse(b"t\xff\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(NoteError::NotText));
}

#[test]
fn malformed_verifier_keys_are_refused() {
    for text in [
        "",
        "a",
        "a+b",
        "a+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
        "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example.com/foo+530d903a+",
        "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        "example com+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
    ] {
        assert!(text.parse::<Vkey>().is_err(), "{text}");
    }
    let p256 = SecretKey::from_seed(Suite::P256, &[7; 32]).unwrap();
    assert_eq!(Vkey::new("a", p256.public().clone()), Err(ParseVkeyError::Kind));
}

/// The type names the tree's hash, so one SM2 key has two ids and two vkeys.
#[test]
fn keys_of_sm2_are_named_with_their_tree() {
    let secret = Arc::new(SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap());
    let [log, twin] = [HashKind::Sha256, HashKind::Sm3]
        .map(|tree| NoteSigner::of_kind("example.com/log", SignatureKind::Sm2(tree), Arc::clone(&secret)).unwrap());
    assert_ne!(log.vkey().key_id(), twin.vkey().key_id());
    for (signer, other) in [(&log, &twin), (&twin, &log)] {
        let vkey: Vkey = signer.vkey().to_string().parse().unwrap();
        assert_eq!(&vkey, signer.vkey());
        let note = Note::sign("text\n".to_owned(), &[signer]).unwrap();
        assert_eq!(note.signatures()[0].signature.len(), 64);
        assert!(note.verify(&[vkey]).is_ok());
        assert_eq!(note.verify(&[other.vkey().clone()]), Err(OpenNoteError::NoKnownSignature));
    }
    let text = log.vkey().to_string();
    let at = text.match_indices('+').nth(1).unwrap().0;
    let (start, bytes) = (&text[..at], STANDARD.decode(&text[at + 1..]).unwrap());
    // Type `ff`, identifier, compressed point.
    assert_eq!(&bytes[..33], b"\xffw3id.org/shuyu/sm2-sha256tree/v1");
    assert_eq!(bytes.len(), 33 + 33);
    for bad in
        [&bytes[..65], &[&bytes[..], &[0]].concat(), &bytes[1..], &[&[0xff], &b"w3id.org/shuyu/other/v1"[..]].concat()]
    {
        assert!(format!("{start}+{}", STANDARD.encode(bad)).parse::<Vkey>().is_err());
    }
    let ed = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap();
    assert!(Vkey::of_kind("a", SignatureKind::Sm2(HashKind::Sm3), ed.public().clone()).is_err());
}

/// r and s out of range, or in DER, are no signature (GB/T 32918.2, 7.1).
#[test]
fn signatures_of_sm2_are_checked_for_range_and_form() {
    let secret = Arc::new(SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap());
    let signer = NoteSigner::of_kind("a", SignatureKind::Sm2(HashKind::Sha256), secret).unwrap();
    let good = Note::sign("text\n".to_owned(), &[&signer]).unwrap();
    for (from, byte) in [(0, 0), (32, 0), (0, 0xff), (32, 0xff)] {
        let mut bad = good.clone();
        bad.signatures[0].signature[from..from + 32].fill(byte);
        assert!(bad.verify(&[signer.vkey().clone()]).is_err(), "{from} {byte}");
    }
    for len in [1, 63, 65, 70] {
        let mut bad = good.clone();
        bad.signatures[0].signature.resize(len, 1);
        assert!(bad.verify(&[signer.vkey().clone()]).is_err(), "{len}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Note::parse(&bytes);
    }

    #[test]
    fn what_is_read_prints_as_it_was(text in "[a-z\n]{0,20}\n\n(— [a-z]{0,3} [A-Za-z0-9+/]{8}\n){0,3}") {
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text.clone());
        }
        let _ = text.parse::<Vkey>();
    }
}
