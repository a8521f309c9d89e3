//! The levels of acknowledgement: durable with a promise, included, witnessed.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, Ledger, LedgerKeys, Served};
use shuyu_tlog::{Note, NoteSigner, SignedCheckpoint, WitnessSigner};

fn keys() -> LedgerKeys {
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[5; 32]).unwrap());
    LedgerKeys::from(NoteSigner::new("node.example/ledger", key).unwrap())
}

fn entry(n: u64) -> Append {
    let bytes = format!("entry {n}").into_bytes();
    Append { dedup: *Digest::sha256(&bytes).bytes(), process: None, bytes }
}

fn witness() -> WitnessSigner {
    WitnessSigner::new("w.example", Arc::new(SecretKey::from_seed(Suite::Ed25519, &[6; 32]).unwrap())).unwrap()
}

fn cosigned(head: &SignedCheckpoint, time_s: u64) -> Note {
    let note = Note::parse(head.bytes()).unwrap();
    let line = witness().cosign(&note, time_s).unwrap();
    note.with_signatures([line]).unwrap()
}

fn waited(served: &Ledger) -> u64 {
    served.latencies().witnessed.counts().iter().sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_is_promised_once_a_batch_and_what_repeats_too() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Arc::new(Ledger::open(dir.path(), keys().promising_within(Duration::from_secs(60))).unwrap());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let ledger = Arc::clone(&ledger);
        tasks.spawn(async move { (n, ledger.append_promised(entry(n)).await.unwrap()) });
    }
    let mut notes = std::collections::BTreeSet::new();
    while let Some(done) = tasks.join_next().await {
        let (n, (place, proof)) = done.unwrap();
        let promise = proof.verify(&entry(n).bytes, ledger.vkey()).unwrap();
        assert_eq!(proof.index, place.index);
        assert!((promise.first..promise.end()).contains(&place.index));
        notes.insert(proof.note);
    }
    assert!(notes.len() < 300, "one signature covers a batch: {}", notes.len());
    let (again, proof) = ledger.append_promised(entry(7)).await.unwrap();
    assert!(again.duplicate);
    assert_eq!(proof.verify(&entry(7).bytes, ledger.vkey()).unwrap().count, 1);
    // And it is kept.
    assert!(again.index < ledger.included(again.index).await.unwrap().checkpoint().size);
}

#[tokio::test(flavor = "multi_thread")]
async fn cosignatures_are_shown_kept_and_never_go_back() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), keys()).unwrap();
    let log: &Served = ledger.served();
    log.expect_witnesses();
    let first = ledger.append(entry(0)).await.unwrap();
    let old = ledger.included(first.index).await.unwrap();
    log.show_witnessed(&cosigned(&old, 100)).unwrap();
    let seen = ledger.witnessed(0).await.unwrap();
    assert_eq!(seen.checkpoint(), old.checkpoint());
    // The newest checkpoint is served with the line, and proofs carry it.
    let served = Note::parse(&std::fs::read(log.path().join("checkpoint")).unwrap()).unwrap();
    assert!(witness().key().cosignature(&served).unwrap().is_some());
    let proof = ledger.prove(0).unwrap();
    assert!(proof.checkpoint.contains("— w.example "));

    // While the log goes on, the cosigned head stays behind, and proofs under it still work.
    for n in 1..700 {
        ledger.append(entry(n)).await.unwrap();
    }
    let new = ledger.included(699).await.unwrap();
    let under = log.prove_under(&seen, 0).unwrap();
    assert!(under.verify(&entry(0).bytes, ledger.vkey()).is_ok());
    log.show_witnessed(&cosigned(&new, 200)).unwrap();
    log.show_witnessed(&cosigned(&old, 300)).unwrap();
    assert_eq!(log.witnessed_head().unwrap().checkpoint().size, 700, "an older one does not take its place");
    assert_eq!(waited(&ledger), 700);
    let proof = log.prove_continues(1, 700).unwrap();
    let roots = (&old.checkpoint().root, &new.checkpoint().root);
    assert!(shuyu_tlog::verify_consistency(log.tree_hash(), 1, roots.0, 700, roots.1, &proof).is_ok());

    // Another log's note is not taken.
    let stranger = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[8; 32]).unwrap());
    let stranger = NoteSigner::new("node.example/ledger", stranger).unwrap();
    let forged = SignedCheckpoint::sign(&stranger, 900, new.checkpoint().root).unwrap();
    assert!(log.show_witnessed(&cosigned(&forged, 400)).is_err());

    drop(ledger);
    let ledger = Ledger::open(dir.path(), keys()).unwrap();
    assert_eq!(ledger.witnessed(699).await.unwrap().checkpoint().size, 700, "kept over a restart");
    let served = Note::parse(&std::fs::read(ledger.path().join("checkpoint")).unwrap()).unwrap();
    assert!(witness().key().cosignature(&served).unwrap().is_some(), "a start takes no line away");
}

/// A checkpoint between two tiles: the partial tiles of its time are gone when the proof is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn proofs_under_an_older_head_come_from_the_tiles_of_today() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::open(dir.path(), keys()).unwrap();
    let mut heads = Vec::new();
    for n in 0..600 {
        let place = ledger.append(entry(n)).await.unwrap();
        if n % 97 == 0 {
            heads.push(ledger.included(place.index).await.unwrap());
        }
    }
    ledger.included(599).await.unwrap();
    for head in heads {
        let last = head.checkpoint().size - 1;
        let proof = ledger.served().prove_under(&head, last).unwrap();
        assert!(proof.verify(&entry(last).bytes, ledger.vkey()).is_ok(), "size {}", last + 1);
    }
}
