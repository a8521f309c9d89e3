//! What was signed stays signed: a second high-water mark, a log put back, one restored from a copy, a damaged index.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, Item, Ledger, LedgerOptions, OpenError, RestoreError, Restorer, verify_dir};
use shuyu_tlog::{Hash, NoteSigner, SignedCheckpoint};

fn signer() -> NoteSigner {
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap();
    NoteSigner::new("ledger.example/safe", Arc::new(key)).unwrap()
}

fn item(n: u64) -> Item {
    let bytes = format!("entry {n}").into_bytes();
    Item { dedup: *Digest::sha256(&bytes).bytes(), process: "p".to_owned(), bytes }
}

fn fill(dir: &Path, options: &LedgerOptions, range: std::ops::Range<u64>) -> SignedCheckpoint {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ledger = Ledger::open_with(dir, signer(), options).unwrap();
    runtime.block_on(async {
        let last = range.end - 1;
        for n in range {
            let Item { dedup, process, bytes } = item(n);
            let appended = ledger.append(Append { dedup, process: Some(process), bytes }).await.unwrap();
            assert_eq!(appended.index, n);
        }
        SignedCheckpoint::clone(&*ledger.included(last).await.unwrap())
    })
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for one in fs::read_dir(from).unwrap() {
        let one = one.unwrap();
        let target = to.join(one.file_name());
        if one.file_type().unwrap().is_dir() { copy(&one.path(), &target) } else { drop(fs::copy(one.path(), target)) }
    }
}

fn apart(root: &Path) -> (PathBuf, LedgerOptions) {
    let file = root.join("other-disk/high-water");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    (file.clone(), LedgerOptions { high_water: Some(file) })
}

#[test]
fn a_ledger_put_back_as_a_whole_is_known_by_the_mark_on_another_disk() {
    let root = tempfile::tempdir().unwrap();
    let (dir, old) = (root.path().join("ledger"), root.path().join("old"));
    let (file, options) = apart(root.path());
    fill(&dir, &options, 0..20);
    copy(&dir, &old);
    let head = fill(&dir, &options, 20..30);
    assert_eq!(fs::read(&file).unwrap(), head.bytes());
    fs::remove_dir_all(&dir).unwrap();
    copy(&old, &dir);
    let error = Ledger::open_with(&dir, signer(), &options).unwrap_err();
    assert!(matches!(error, OpenError::BelowHighWater { found: 20, signed: 30, .. }), "{error}");
    assert_eq!(fs::read(&file).unwrap(), head.bytes());
    // Where its disk is not there, nothing is signed either.
    fs::rename(root.path().join("other-disk"), root.path().join("away")).unwrap();
    assert!(Ledger::open_with(&dir, signer(), &options).is_err());
}

#[test]
fn one_mark_that_is_lost_or_behind_is_made_good_by_the_other() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("ledger");
    let (file, options) = apart(root.path());
    let first = fill(&dir, &options, 0..5);
    let head = fill(&dir, &options, 5..9);
    for place in [&file, &dir.join("high-water")] {
        for kept in [None, Some(first.bytes())] {
            match kept {
                None => fs::remove_file(place).unwrap(),
                Some(bytes) => fs::write(place, bytes).unwrap(),
            }
            drop(Ledger::open_with(&dir, signer(), &options).unwrap());
            assert_eq!(fs::read(place).unwrap(), head.bytes());
        }
        // One that contradicts the log stops it, and so does one that cannot be read.
        let forged = SignedCheckpoint::sign(&signer(), 5, Hash([1; 32])).unwrap();
        for bad in [forged.bytes(), b"rot"] {
            fs::write(place, bad).unwrap();
            assert!(Ledger::open_with(&dir, signer(), &options).is_err());
        }
        fs::write(place, head.bytes()).unwrap();
    }
}

/// Restores `dir` from the entries 0..size, stopping after `count` entries of this run.
fn restore(dir: &Path, copy: &SignedCheckpoint, seen: &[SignedCheckpoint], count: u64) -> Result<u64, RestoreError> {
    let mut restorer = Restorer::open(dir, signer().vkey(), &LedgerOptions::default(), copy, seen)?;
    for _ in 0..count {
        restorer.add(item(restorer.next_index()))?;
    }
    restorer.finish()
}

#[test]
fn a_lost_log_is_restored_from_a_copy_and_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let (dir, lost) = (root.path().join("ledger"), root.path().join("restored"));
    let early = fill(&dir, &LedgerOptions::default(), 0..100);
    let head = fill(&dir, &LedgerOptions::default(), 100..300);
    // Broken off: it cannot be opened, and the next run goes on.
    assert!(matches!(restore(&lost, &head, &[], 120), Err(RestoreError::Cut { found: 120, wanted: 300 })));
    let error = Ledger::open(&lost, signer()).unwrap_err();
    assert!(matches!(error, OpenError::BelowHighWater { found: 120, signed: 300, .. }), "{error}");
    assert_eq!(restore(&lost, &head, std::slice::from_ref(&early), 180).unwrap(), 300);
    assert!(matches!(restore(&lost, &head, &[], 0), Err(RestoreError::NotNeeded { found: 300, copy: 300 })));
    let later = fill(&lost, &LedgerOptions::default(), 300..301);
    assert_eq!(later.checkpoint().size, 301);
    assert_eq!(verify_dir(&lost, signer().vkey()).unwrap().head.size, 301);
    // A copy shorter than a checkpoint that somebody holds is refused before anything is written.
    let other = root.path().join("other");
    let shorter = restore(&other, &early, std::slice::from_ref(&head), 100);
    assert!(matches!(shorter, Err(RestoreError::Shorter { copy: 100, signed: 300 })));
    assert!(!other.join("high-water").exists());
}

#[test]
fn a_copy_with_other_entries_leaves_nothing_behind() {
    let root = tempfile::tempdir().unwrap();
    let (dir, lost) = (root.path().join("ledger"), root.path().join("restored"));
    let early = fill(&dir, &LedgerOptions::default(), 0..100);
    let head = fill(&dir, &LedgerOptions::default(), 100..300);
    let mut restorer =
        Restorer::open(&lost, signer().vkey(), &LedgerOptions::default(), &head, std::slice::from_ref(&early)).unwrap();
    let parted = (0..300).try_for_each(|n| restorer.add(item(if n == 50 { 1000 } else { n })));
    assert!(matches!(parted, Err(RestoreError::Root { size: 100 })), "found at the first head that covers it");
    drop(restorer);
    assert_eq!(restore(&lost, &head, &[], 300).unwrap(), 300);
}

#[test]
fn a_damaged_index_is_rebuilt_where_it_is_met() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("ledger");
    fill(&dir, &LedgerOptions::default(), 0..300);
    let tables = fs::read_dir(dir.join("index")).unwrap().map(|one| one.unwrap().path());
    let table = tables.filter(|path| path.extension().is_some_and(|ext| ext == "sst")).max().unwrap();
    let mut bytes = fs::read(&table).unwrap();
    if let Some(byte) = bytes.get_mut(40) {
        *byte ^= 1;
    }
    fs::write(&table, bytes).unwrap();
    let ledger = Ledger::open(&dir, signer()).unwrap();
    for n in 0..300 {
        assert_eq!(ledger.find(&item(n).dedup).unwrap(), Some(n));
    }
}
