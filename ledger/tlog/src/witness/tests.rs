use super::*;
use crate::cosignature::WitnessSigner;
use crate::merkle::{Tree, leaf_hash};
use crate::note::{NoteSigner, SignatureKind};
use crate::tile::{TileHashes, TilePath, TiledTree};
use crate::{prove_consistency, tile::tile_bytes};
use proptest::prelude::*;
use shuyu_base::keys::{SecretKey, Suite};
use std::collections::BTreeMap;
use std::sync::Arc;

const KIND: HashKind = HashKind::Sha256;

fn signer(seed: u8) -> NoteSigner {
    let key = SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap();
    NoteSigner::new("example.com/log", Arc::new(key)).unwrap()
}

fn policy() -> LogPolicy {
    LogPolicy::of(signer(1).vkey().clone())
}

fn witness() -> WitnessSigner {
    WitnessSigner::new("w.example", Arc::new(SecretKey::from_seed(Suite::Ed25519, &[9; 32]).unwrap())).unwrap()
}

/// The head of a log of `size` entries; `salt` makes another history.
fn head(size: u64, salt: u8) -> (Seen, Note) {
    let mut tree = Tree::new(KIND);
    (0..size).for_each(|n| tree.push(leaf_hash(KIND, &[&n.to_be_bytes()[..], &[salt]].concat())));
    let signed = SignedCheckpoint::sign(&signer(1), size, tree.root()).unwrap();
    (Seen { size, root: tree.root() }, Note::parse(signed.bytes()).unwrap())
}

fn proof(old: u64, new: u64) -> Vec<Hash> {
    let mut tree = TiledTree::new(KIND);
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for n in 0..new {
        let leaf = leaf_hash(KIND, &[&n.to_be_bytes()[..], &[0]].concat());
        tree.push(leaf, |path, hashes| drop(files.insert(path.to_string(), tile_bytes(hashes))));
    }
    for (path, hashes) in tree.partial_tiles() {
        files.insert(path.to_string(), tile_bytes(hashes));
    }
    let read = |path: &TilePath| files.get(&path.to_string()).cloned().ok_or(std::io::ErrorKind::NotFound);
    prove_consistency(KIND, old, new, &TileHashes::new(KIND, new, read)).unwrap()
}

fn decide(old_size: u64, proof: Vec<Hash>, note: &Note, seen: Option<&Seen>) -> Result<Seen, WitnessRefusal> {
    let request = AddCheckpoint { old_size, proof, note: note.clone() };
    let read = AddCheckpoint::parse(request.to_string().as_bytes()).unwrap();
    assert_eq!(read, request);
    assert_eq!(read.origin(), "example.com/log");
    read.decide(&policy(), witness().key(), seen)
}

#[test]
fn growth_with_a_proof_is_taken_and_everything_else_refused() {
    let (one, first) = head(5, 0);
    assert_eq!(decide(0, vec![], &first, None), Ok(one));
    assert_eq!(decide(5, vec![], &first, Some(&one)), Ok(one), "the same again");
    let (two, second) = head(12, 0);
    assert_eq!(decide(5, proof(5, 12), &second, Some(&one)), Ok(two));
    assert_eq!(decide(0, vec![], &second, Some(&one)), Err(WitnessRefusal::Stale { size: 5 }));
    assert_eq!(decide(7, proof(7, 12), &second, Some(&one)), Err(WitnessRefusal::Stale { size: 5 }));
    assert_eq!(decide(12, vec![], &first, Some(&two)), Err(WitnessRefusal::Order { old_size: 12, size: 5 }));
    assert_eq!(decide(5, vec![], &first, Some(&two)), Err(WitnessRefusal::Stale { size: 12 }), "rolled back log");
    let (_, fork) = head(12, 1);
    assert_eq!(decide(12, vec![], &fork, Some(&two)), Err(WitnessRefusal::Fork { size: 12 }));
    assert!(matches!(decide(5, proof(5, 12), &fork, Some(&one)), Err(WitnessRefusal::Proof { old_size: 5, .. })));
    assert!(matches!(decide(5, vec![], &second, Some(&one)), Err(WitnessRefusal::Proof { .. })));
    assert_eq!(decide(0, vec![one.root], &first, None), Err(WitnessRefusal::Empty));
    assert!(matches!(decide(5, vec![one.root], &first, Some(&one)), Err(WitnessRefusal::Proof { .. })));
}

#[test]
fn the_empty_tree_has_one_root() {
    let (seen, empty) = head(0, 0);
    assert_eq!(decide(0, vec![], &empty, None), Ok(seen));
    let (_, first) = head(3, 0);
    assert!(decide(0, vec![], &first, Some(&seen)).is_ok());
    let bad = SignedCheckpoint::sign(&signer(1), 0, Hash([1; 32])).unwrap();
    assert_eq!(decide(0, vec![], &Note::parse(bad.bytes()).unwrap(), None), Err(WitnessRefusal::Empty));
}

#[test]
fn strangers_and_broken_lines_are_refused_and_unknown_lines_ignored() {
    let (seen, note) = head(5, 0);
    let stranger = SignedCheckpoint::sign(&signer(2), 5, seen.root).unwrap();
    let stranger = Note::parse(stranger.bytes()).unwrap();
    assert!(matches!(decide(0, vec![], &stranger, None), Err(WitnessRefusal::Signature(_))));
    let both = note.clone().with_signatures(stranger.signatures().to_vec()).unwrap();
    assert_eq!(decide(0, vec![], &both, None), Ok(seen));
    let mut broken = note.signatures()[0].clone();
    broken.signature[3] ^= 1;
    let broken = Note::sign(note.text().to_owned(), &[]).unwrap().with_signatures([broken]).unwrap();
    assert!(matches!(decide(0, vec![], &broken, None), Err(WitnessRefusal::Signature(_))));
    // A policy that demands the SM2 line too is not met without it.
    let sm2 = Arc::new(SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap());
    let sm2 = NoteSigner::of_kind("example.com/log", SignatureKind::Sm2(KIND), sm2).unwrap();
    let keys = vec![signer(1).vkey().clone(), sm2.vkey().clone()];
    let all = LogPolicy::new(keys, crate::Demand::All).unwrap();
    let request = AddCheckpoint { old_size: 0, proof: vec![], note };
    assert!(matches!(request.decide(&all, witness().key(), None), Err(WitnessRefusal::Signature(_))));
}

#[test]
fn a_witness_that_was_set_back_sees_its_own_signature_and_refuses() {
    let (one, first) = head(5, 0);
    let (two, second) = head(12, 0);
    let cosigned = second.clone().with_signatures([witness().cosign(&second, 77).unwrap()]).unwrap();
    for seen in [None, Some(&one)] {
        let known = seen.map_or(0, |seen| seen.size);
        let refused = decide(known, vec![], &cosigned, seen);
        assert_eq!(refused, Err(WitnessRefusal::RolledBack { size: 12, known }));
    }
    assert_eq!(decide(12, vec![], &cosigned, Some(&two)), Ok(two), "known: nothing was lost");
    let older = first.clone().with_signatures([witness().cosign(&first, 70).unwrap()]).unwrap();
    assert_eq!(decide(12, vec![], &older, Some(&two)), Err(WitnessRefusal::Order { old_size: 12, size: 5 }));
}

#[test]
fn each_bad_part_of_a_request_is_named() {
    let (_, note) = head(5, 0);
    let hash = Hash([1; 32]);
    let cases = [
        (format!("old 0\n{note}"), ParseAddCheckpointError::Proof),
        (format!("old\n\n{note}"), ParseAddCheckpointError::Old),
        (format!("old 00\n\n{note}"), ParseAddCheckpointError::Old),
        (format!("old 9223372036854775808\n\n{note}"), ParseAddCheckpointError::Old),
        (format!("old 1\nAAAA\n\n{note}"), ParseAddCheckpointError::Proof),
        (format!("old 1\n{}\n{note}", format!("{hash}\n").repeat(64)), ParseAddCheckpointError::Proof),
        ("old 1\n".to_owned(), ParseAddCheckpointError::Form),
        ("old 1\n\nwords\n".to_owned(), ParseAddCheckpointError::Note(NoteError::NoSignatures)),
    ];
    for (text, error) in cases {
        assert_eq!(AddCheckpoint::parse(text.as_bytes()), Err(error), "{text}");
    }
    assert!(AddCheckpoint::parse(format!("old 1\n{}\n{note}", format!("{hash}\n").repeat(63)).as_bytes()).is_ok());
}

proptest! {
    /// Whatever is asked in whatever order, what is cosigned is one growing history.
    #[test]
    fn what_is_cosigned_is_one_history(asked in proptest::collection::vec((0_u64..20, 0_u64..20, 0_u8..2), 1..30)) {
        let mut seen: Option<Seen> = None;
        for (old, new, salt) in asked {
            let proof = if old == 0 || new < old { vec![] } else { proof(old, new) };
            if let Ok(next) = decide(old, proof, &head(new, salt).1, seen.as_ref()) {
                let before = seen.map_or(0, |seen| seen.size);
                prop_assert!(before <= next.size);
                // Whoever began with one history stays with it.
                prop_assert!(before == 0 || head(before, salt).0 == seen.unwrap());
                seen = Some(next);
            }
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "old [0-9]{0,3}\n([A-Za-z0-9+/=]{44}\n){0,2}\n[a-z]{0,3}\n[0-9]\n") {
        let _ = AddCheckpoint::parse(&bytes);
        let _ = AddCheckpoint::parse(text.as_bytes());
    }
}
