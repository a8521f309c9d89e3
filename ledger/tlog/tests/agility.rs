//! Attacks on the choice of algorithms: what one key signed for one tree stands for nothing else.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::HashKind;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_tlog::{
    Demand, Hash, LogPolicy, Note, NoteSignature, NoteSigner, OpenCheckpointError, OpenNoteError, SignatureKind,
    SignedCheckpoint, Tree, Vkey, leaf_hash,
};
use sm2::dsa::signature::Signer as _;

const ORIGIN: &str = "log.example/a";

fn secret(suite: Suite) -> Arc<SecretKey> {
    Arc::new(SecretKey::from_seed(suite, &[7; 32]).unwrap())
}

fn ed25519() -> NoteSigner {
    NoteSigner::new(ORIGIN, secret(Suite::Ed25519)).unwrap()
}

fn sm2_over(tree: HashKind) -> NoteSigner {
    NoteSigner::of_kind(ORIGIN, SignatureKind::Sm2(tree), secret(Suite::Sm2)).unwrap()
}

fn root(kind: HashKind) -> Hash {
    let mut tree = Tree::new(kind);
    (0..5_u8).for_each(|n| tree.push(leaf_hash(kind, &[n])));
    tree.root()
}

fn policy(signers: &[&NoteSigner], demand: Demand) -> LogPolicy {
    LogPolicy::new(signers.iter().map(|signer| signer.vkey().clone()).collect(), demand).unwrap()
}

/// A note whose text is `note`'s and whose lines are `lines`.
fn with_lines(note: &Note, lines: &[NoteSignature]) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    format!("{}\n{lines}", note.text()).into_bytes()
}

#[test]
fn a_stripped_sm2_line_is_missed_by_who_demands_all() {
    let (ed, sm2) = (ed25519(), sm2_over(HashKind::Sha256));
    let signed = SignedCheckpoint::sign_all(&[ed.clone(), sm2.clone()], 5, root(HashKind::Sha256)).unwrap();
    let note = Note::parse(signed.bytes()).unwrap();
    let all = policy(&[&ed, &sm2], Demand::All);
    assert!(SignedCheckpoint::open_with(signed.bytes(), &all).is_ok());
    for kept in 0..2 {
        let stripped = with_lines(&note, &note.signatures()[kept..=kept]);
        assert!(SignedCheckpoint::open_with(&stripped, &policy(&[&ed, &sm2], Demand::Any)).is_ok());
        let error = SignedCheckpoint::open_with(&stripped, &all).unwrap_err();
        assert!(matches!(error, OpenCheckpointError::Signature(OpenNoteError::Missing { .. })), "{error}");
    }
}

/// The same point, named as a key of another type, is no key or another key.
#[test]
fn a_swapped_type_byte_makes_another_key() {
    let signer = sm2_over(HashKind::Sha256);
    for (text, bytes) in [
        (signer.vkey().to_string(), &[0x00, 0x01, 0x02, 0x04, 0x05, 0x06, 0xfe][..]),
        (ed25519().vkey().to_string(), &[0x00, 0x02, 0x04, 0x05, 0x06, 0xff][..]),
    ] {
        // The name and the id have no plus; base64 has.
        let (start, encoded) = text.split_at(text.match_indices('+').nth(1).unwrap().0);
        let encoded = &encoded[1..];
        let mut swapped = STANDARD.decode(encoded).unwrap();
        for byte in bytes {
            swapped[0] = *byte;
            assert!(format!("{start}+{}", STANDARD.encode(&swapped)).parse::<Vkey>().is_err(), "{byte}");
        }
    }
    // A signature is over the text alone. Moved under the id of the same point's key for the other tree, the line verifies as
    // that key's: what keeps the trees apart is the name of the log in the text, and the twin has a name of its own.
    let named = |name: &str, tree| NoteSigner::of_kind(name, SignatureKind::Sm2(tree), secret(Suite::Sm2)).unwrap();
    let (log, twin) = (named(ORIGIN, HashKind::Sha256), named("log.example/a-sm3", HashKind::Sm3));
    let signed = SignedCheckpoint::sign(&log, 5, root(HashKind::Sha256)).unwrap();
    let note = Note::parse(signed.bytes()).unwrap();
    let line = NoteSignature {
        name: twin.vkey().name().to_owned(),
        key_id: twin.vkey().key_id(),
        ..note.signatures()[0].clone()
    };
    let moved = with_lines(&note, &[line]);
    assert!(matches!(SignedCheckpoint::open(&moved, twin.vkey()), Err(OpenCheckpointError::Origin { .. })));
    assert!(SignedCheckpoint::open(&moved, log.vkey()).is_err());
}

#[test]
fn an_sm3_root_is_no_root_of_the_sha256_log() {
    let (ed, twin) = (ed25519(), sm2_over(HashKind::Sm3));
    let keys = vec![ed.vkey().clone(), twin.vkey().clone()];
    assert!(LogPolicy::new(keys, Demand::All).is_err(), "one policy speaks of one tree");
    assert!(SignedCheckpoint::sign_all(&[ed.clone(), twin.clone()], 5, root(HashKind::Sm3)).is_err());
    let of_twin = SignedCheckpoint::sign(&twin, 5, root(HashKind::Sm3)).unwrap();
    assert!(SignedCheckpoint::open(of_twin.bytes(), ed.vkey()).is_err());
    assert!(SignedCheckpoint::open(of_twin.bytes(), sm2_over(HashKind::Sha256).vkey()).is_err());
    // Even if the log's own key were made to sign it, no entry would be in it.
    let misled = SignedCheckpoint::sign(&ed, 5, root(HashKind::Sm3)).unwrap();
    let mut tree = Tree::new(misled.tree_hash());
    (0..5_u8).for_each(|n| tree.push(leaf_hash(misled.tree_hash(), &[n])));
    assert_ne!(tree.root(), misled.checkpoint().root);
}

#[test]
fn r_and_s_out_of_range_are_refused() {
    /// The order of the curve (GB/T 32918.5).
    const N: &str = "fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123";
    let signer = sm2_over(HashKind::Sha256);
    let good = Note::sign("text\n".to_owned(), &[&signer]).unwrap();
    let n = hex::decode(N).unwrap();
    let line = &good.signatures()[0];
    let (r, s) = line.signature.split_at(32);
    // n - s, which some algorithms take for s.
    let mut borrow = 0_i16;
    let mut negated = vec![0_u8; 32];
    for at in (0..32).rev() {
        let digit = i16::from(n[at]) - i16::from(s[at]) - borrow;
        borrow = i16::from(digit < 0);
        negated[at] = u8::try_from(digit.rem_euclid(256)).unwrap();
    }
    for (r, s) in [(r, &n[..]), (&n[..], s), (r, &[0; 32][..]), (&[0; 32][..], s), (r, &negated), (s, r)] {
        let line = NoteSignature { signature: [r, s].concat(), ..line.clone() };
        let bad = Note::parse(&with_lines(&good, &[line])).unwrap();
        assert!(matches!(bad.verify(&[signer.vkey().clone()]), Err(OpenNoteError::BadSignature { .. })));
    }
}

/// The signer's identity is part of what is signed (Z, GB/T 32918.2 section 5.5): ours is pinned.
#[test]
fn a_signature_under_another_user_id_is_refused() {
    let signer = sm2_over(HashKind::Sha256);
    let good = Note::sign("text\n".to_owned(), &[&signer]).unwrap();
    for (id, is_ours) in [("1234567812345678", true), ("", false), ("1234567812345679", false), (ORIGIN, false)] {
        let key = sm2::dsa::SigningKey::from_slice(id, &[7; 32]).unwrap();
        let signature: sm2::dsa::Signature = key.sign(good.text().as_bytes());
        let line = NoteSignature { signature: signature.to_bytes().to_vec(), ..good.signatures()[0].clone() };
        let note = Note::parse(&with_lines(&good, &[line])).unwrap();
        assert_eq!(note.verify(&[signer.vkey().clone()]).is_ok(), is_ours, "`{id}`");
    }
}

/// Key ids have four bytes: two keys with one id must not stand for each other, nor hide each other.
#[test]
fn keys_with_one_id_do_not_stand_for_each_other() {
    let stranger = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[8; 32]).unwrap());
    let (ours, other) = (ed25519(), NoteSigner::new(ORIGIN, stranger).unwrap());
    let note = Note::sign("text\n".to_owned(), &[&other]).unwrap();
    // As a collision would look: the other key's signature under the id of ours.
    let forged = NoteSignature { key_id: ours.vkey().key_id(), ..note.signatures()[0].clone() };
    let alone = Note::parse(&with_lines(&note, std::slice::from_ref(&forged))).unwrap();
    assert!(matches!(alone.verify(&[ours.vkey().clone()]), Err(OpenNoteError::BadSignature { .. })));
    // Beside the true line it refuses the note rather than be passed over.
    let both = Note::sign("text\n".to_owned(), &[&ours]).unwrap();
    for lines in [[both.signatures()[0].clone(), forged.clone()], [forged, both.signatures()[0].clone()]] {
        let note = Note::parse(&with_lines(&both, &lines)).unwrap();
        assert!(matches!(note.verify(&[ours.vkey().clone()]), Err(OpenNoteError::BadSignature { .. })));
    }
}
