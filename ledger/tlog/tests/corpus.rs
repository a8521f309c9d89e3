//! Bad input that other logs have met, and edges of the formats.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use shuyu_base::HashKind;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_tlog::note::MAX_SIGNATURES;
use shuyu_tlog::{
    Checkpoint, Hash, LogVerifier, MAX_ENTRY_BYTES, Note, NoteSigner, OpenNoteError, ParseCheckpointError,
    SignedCheckpoint, Tile, TilePath, Tree, empty_root, leaf_hash, prove_consistency, read_bundle, tiles_of,
    verify_consistency, verify_inclusion, write_bundle,
};

fn signer(name: &str, seed: u8) -> NoteSigner {
    NoteSigner::new(name, Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap())).unwrap()
}

fn root64() -> String {
    empty_root(HashKind::Sha256).to_string()
}

#[test]
fn sizes_of_checkpoints() {
    let parse = |size: &str| format!("o\n{size}\n{}\n", root64()).parse::<Checkpoint>();
    for (good, size) in [("0", 0), ("1", 1), ("9223372036854775807", (1 << 63) - 1)] {
        assert_eq!(parse(good).unwrap().size, size);
    }
    for bad in ["00", "01", "+1", "-1", "1 ", " 1", "0x1", "1e3", "9223372036854775808", "18446744073709551616", "一"]
    {
        assert_eq!(parse(bad), Err(ParseCheckpointError::Size), "`{bad}`");
    }
}

#[test]
fn checkpoints_with_something_wrong_around_them() {
    let root = root64();
    for bad in [
        format!("o\n1\n{root}"),
        format!("o\n1\n{root}\n\n"),
        format!("\n1\n{root}\n"),
        format!("o\n\n1\n{root}\n"),
        format!("o\n1\n{root} \n"),
        format!("o\n1\n{}\n", &root[..43]),
        format!("o\n1\n{root}=\n"),
        "o\n1\n".to_owned(),
        String::new(),
    ] {
        assert!(bad.parse::<Checkpoint>().is_err(), "{bad:?}");
    }
    // Extension lines are allowed and mean nothing to us.
    assert_eq!(format!("o\n1\n{root}\nextra\n").parse::<Checkpoint>().unwrap().size, 1);
}

#[test]
fn notes_with_bytes_that_are_no_text() {
    let good = Note::sign("text\n".to_owned(), &[&signer("a", 1)]).unwrap().to_string();
    assert!(Note::parse(good.as_bytes()).is_ok());
    for byte in (0..0x20).filter(|byte| *byte != b'\n').chain([0xc0, 0xff]) {
        for at in [0, 3, good.len() - 5] {
            let mut bytes = good.clone().into_bytes();
            bytes.insert(at, byte);
            assert!(Note::parse(&bytes).is_err(), "{byte:#04x} at {at}");
        }
    }
    for tail in ["\n", " ", "x", "\0", "— a", "— a AAAAAAA="] {
        assert!(Note::parse(format!("{good}{tail}").as_bytes()).is_err(), "{tail:?}");
    }
}

/// The specification asks for room for 16 signatures; a note of 17 and more is read, and the line sought is found anywhere.
#[test]
fn notes_with_many_and_repeated_lines() {
    let ours = signer("ours", 1);
    for count in [16, 17, MAX_SIGNATURES - 1] {
        let count = u8::try_from(count).unwrap();
        let strangers: Vec<NoteSigner> = (0..count).map(|n| signer(&format!("s{n}"), n + 2)).collect();
        let all: Vec<&NoteSigner> = strangers.iter().chain([&ours]).collect();
        let note = Note::sign("text\n".to_owned(), &all).unwrap();
        let read = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(read.verify(&[ours.vkey().clone()]), Ok(vec!["ours"]));
    }
    // The same line twice is one signature, as Go's note package has it: it makes no quorum of one signer.
    let note = Note::sign("text\n".to_owned(), &[&ours, &ours]).unwrap();
    let read = Note::parse(note.to_string().as_bytes()).unwrap();
    assert_eq!(read.verify(&[ours.vkey().clone(), ours.vkey().clone()]), Ok(vec!["ours"]));
}

#[test]
fn entries_at_and_over_the_limit() {
    let most = vec![7; MAX_ENTRY_BYTES];
    let bundle = write_bundle([most.as_slice(), b""]).unwrap();
    assert_eq!(read_bundle(&bundle, 2).unwrap(), [most.as_slice(), b""]);
    assert!(write_bundle([vec![7; 65_536].as_slice()]).is_err());
    assert!(read_bundle(&bundle, 3).is_err() && read_bundle(&bundle, 1).is_err());
    assert!(read_bundle(&bundle[..bundle.len() - 1], 2).is_err());
    assert!(read_bundle(&[&bundle[..], &[0]].concat(), 2).is_err());
}

/// The empty tree: it has a root, a checkpoint, no tiles and no proofs.
#[test]
fn the_tree_of_size_zero() {
    for kind in [HashKind::Sha256, HashKind::Sm3] {
        let empty = empty_root(kind);
        assert_eq!(Tree::new(kind).root(), empty);
        assert!(tiles_of(0).is_empty());
        assert!(TilePath::containing(Tile::Hashes(0), 0, 0).is_none());
        assert!(verify_inclusion(kind, &empty, 0, 0, &[], &empty).is_err());
        assert!(verify_consistency(kind, 0, &empty, 0, &empty, &[]).is_ok());
        assert!(verify_consistency(kind, 0, &Hash([0; 32]), 0, &Hash([0; 32]), &[]).is_err());
        let head = Checkpoint { origin: "o".to_owned(), size: 0, root: empty };
        assert_eq!(LogVerifier::new(kind, [&head]).unwrap().finish().unwrap().tree().size(), 0);
    }
    let signed = SignedCheckpoint::sign(&signer("o", 1), 0, empty_root(HashKind::Sha256)).unwrap();
    assert_eq!(SignedCheckpoint::open(signed.bytes(), signer("o", 1).vkey()).unwrap().checkpoint().size, 0);
}

/// CVE-2022-36111 (immudb): the proof between two states passed though a part in its middle was of neither. Here two histories
/// with one beginning, whose middle differs, must not both lead to one head, whatever is mixed of their proofs.
#[test]
fn cve_2022_36111_no_two_histories_between_two_heads() {
    let kind = HashKind::Sha256;
    let history = |middle: &[u8]| -> Leaves {
        let entries = (0..40_u8).map(|n| if n == 20 { middle.to_vec() } else { vec![n] });
        Leaves(entries.map(|entry| leaf_hash(kind, &entry)).collect())
    };
    let (one, two) = (history(b"one"), history(b"two"));
    for (old, new) in [(10, 40), (10, 33), (16, 32), (19, 21)] {
        assert_eq!(one.root(old), two.root(old));
        assert_ne!(one.root(new), two.root(new));
        let first = prove_consistency(kind, old, new, &one).unwrap();
        let second = prove_consistency(kind, old, new, &two).unwrap();
        let holds = |head: &Hash, path: &[Hash]| verify_consistency(kind, old, &one.root(old), new, head, path).is_ok();
        for mask in 0_u32..1 << first.len() {
            let pick = |(at, (a, b)): (usize, (&Hash, &Hash))| if mask >> at & 1 == 0 { *a } else { *b };
            let mixed: Vec<Hash> = first.iter().zip(&second).enumerate().map(pick).collect();
            assert_eq!(holds(&one.root(new), &mixed), mixed == first);
            assert_eq!(holds(&two.root(new), &mixed), mixed == second);
        }
    }
}

/// CVE-2022-39199 (immudb): the client took the server's word for which server it was, and began its state anew. Here the log
/// is the key that the reader holds: another name, another key under the name, or no signature at all opens nothing.
#[test]
fn cve_2022_39199_a_log_does_not_choose_who_it_is() {
    let (known, size) = (signer("known.example/log", 1), 3);
    let root = leaf_hash(HashKind::Sha256, b"x");
    let open = |signed: &SignedCheckpoint| SignedCheckpoint::open(signed.bytes(), known.vkey());
    assert!(open(&SignedCheckpoint::sign(&known, size, root).unwrap()).is_ok());
    assert!(open(&SignedCheckpoint::sign(&signer("other.example/log", 1), size, root).unwrap()).is_err());
    assert!(open(&SignedCheckpoint::sign(&signer("known.example/log", 2), size, root).unwrap()).is_err());
    // The known key's line under a text that names another log.
    let text = Checkpoint { origin: "other.example/log".to_owned(), size, root }.to_string();
    let note = Note::sign(text, &[&known]).unwrap();
    assert!(SignedCheckpoint::open(note.to_string().as_bytes(), known.vkey()).is_err());
    // A reader without a key believes nothing.
    assert_eq!(note.verify(&[]), Err(OpenNoteError::NoKnownSignature));
}

struct Leaves(Vec<Hash>);

impl Leaves {
    fn root(&self, size: u64) -> Hash {
        shuyu_tlog::subtree_root(HashKind::Sha256, 0, size, self).unwrap()
    }
}

impl shuyu_tlog::HashSource for Leaves {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        if level == 0 {
            return Ok(self.0[usize::try_from(index).unwrap()]);
        }
        let (left, right) = (self.hash(level - 1, index * 2)?, self.hash(level - 1, index * 2 + 1)?);
        Ok(shuyu_tlog::node_hash(HashKind::Sha256, &left, &right))
    }
}
