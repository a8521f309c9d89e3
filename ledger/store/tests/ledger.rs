//! The ledger on a real disk: what is acknowledged stays, what is damaged is said to be.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use proptest::prelude::*;
use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{
    Append, AppendError, Appended, Ledger, LedgerKeys, MAX_ENTRY_BYTES, OpenError, VerifyError, verify_dir,
    verify_twin_dir,
};
use shuyu_tlog::{Demand, LogPolicy, NoteSigner, SignedCheckpoint, Vkey};

const ORIGIN: &str = "ledger.example/a";

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, Arc::new(SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap())).unwrap()
}

fn vkey() -> Vkey {
    signer().vkey().clone()
}

fn open(dir: &Path) -> Ledger {
    Ledger::open(dir, signer()).unwrap()
}

fn entry(n: u64) -> Append {
    let bytes = format!("entry number {n} {}", "x".repeat(usize::try_from(n % 300).unwrap())).into_bytes();
    let process = (!n.is_multiple_of(3)).then(|| format!("process {}", n % 3));
    Append { dedup: *Digest::sha256(&bytes).bytes(), process, bytes }
}

async fn fill(ledger: &Ledger, range: std::ops::Range<u64>) {
    // All at once, so that they share batches; the queue keeps their order.
    let answers = futures(range.map(|n| ledger.append(entry(n)))).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
}

/// Polls all futures in their order and collects what they return.
async fn futures<T>(all: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|context| {
        for (future, done) in all.iter_mut().filter(|(_, done)| done.is_none()) {
            if let std::task::Poll::Ready(value) = future.as_mut().poll(context) {
                *done = Some(value);
            }
        }
        if all.iter().all(|(_, done)| done.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    all.into_iter().filter_map(|(_, done)| done).collect()
}

fn last_segment(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("segments")).unwrap().map(|one| one.unwrap().path()).max().unwrap()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for one in fs::read_dir(dir).unwrap() {
        let path = one.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[tokio::test]
async fn entries_are_found_proven_and_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert_eq!(ledger.checkpoint().unwrap().checkpoint().size, 0);
    fill(&ledger, 0..600).await;
    let again = ledger.append(entry(5)).await.unwrap();
    assert_eq!(again, Appended { index: 5, duplicate: true });
    let twins = futures([700, 700, 700].into_iter().map(|n| ledger.append(entry(n)))).await;
    let twins: Vec<_> = twins.into_iter().map(|one| one.unwrap()).map(|one| (one.index, one.duplicate)).collect();
    assert_eq!(twins, [(600, false), (600, true), (600, true)]);
    let head = ledger.included(600).await.unwrap();
    assert_eq!(head.checkpoint().size, 601);
    for index in [0, 255, 256, 511, 600] {
        let bytes = ledger.read(index..index + 1).unwrap().remove(0);
        assert_eq!(ledger.entry(index).unwrap(), bytes);
        let proof = ledger.prove(index).unwrap().to_string();
        let proof = shuyu_tlog::InclusionProof::parse(proof.as_bytes()).unwrap();
        assert_eq!(proof.verify(&bytes, ledger.vkey()).unwrap().checkpoint().size, 601);
        assert!(proof.verify(b"other", ledger.vkey()).is_err());
    }
    assert_eq!(ledger.read(0..10_000).unwrap().len(), 601);
    assert!(ledger.read(601..700).unwrap().is_empty() && ledger.prove(601).is_err() && ledger.entry(601).is_err());
    let of_one: Vec<u64> = (0..600).filter(|n| n % 3 == 1).chain([600]).collect();
    assert_eq!(ledger.by_process("process 1").unwrap(), of_one);
    assert!(ledger.by_process("process").unwrap().is_empty());
    drop(ledger);

    let ledger = open(dir.path());
    assert_eq!(ledger.checkpoint().unwrap(), head);
    assert_eq!(ledger.append(entry(700)).await.unwrap(), Appended { index: 600, duplicate: true });
    assert_eq!(ledger.append(entry(601)).await.unwrap(), Appended { index: 601, duplicate: false });
    let newer = ledger.included(601).await.unwrap();
    let (path, signed) = ledger.prove_consistency(601).unwrap();
    assert_eq!(signed, newer);
    let (old, new) = (head.checkpoint(), newer.checkpoint());
    let kind = shuyu_base::HashKind::Sha256;
    shuyu_tlog::verify_consistency(kind, old.size, &old.root, new.size, &new.root, &path).unwrap();
    drop(ledger);
    let report = verify_dir(dir.path(), &vkey()).unwrap();
    assert!(report.head.size == 602 && report.has_segments);
}

#[tokio::test]
async fn entries_at_their_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    let append = |len: usize| Append { dedup: [1; 32], process: None, bytes: vec![b'x'; len] };
    assert!(matches!(
        ledger.append(append(MAX_ENTRY_BYTES + 1)).await,
        Err(AppendError::EntryTooLarge { len_bytes: 65_536 })
    ));
    let named = Append { process: Some("p".repeat(513)), ..append(1) };
    assert!(matches!(ledger.append(named).await, Err(AppendError::Process)));
    ledger.append(append(MAX_ENTRY_BYTES)).await.unwrap();
    ledger.append(Append { dedup: [2; 32], ..append(0) }).await.unwrap();
    ledger.included(1).await.unwrap();
    assert_eq!(ledger.read(0..2).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [MAX_ENTRY_BYTES, 0]);
    drop(ledger);
    verify_dir(dir.path(), &vkey()).unwrap();
}

#[test]
fn a_second_opener_and_another_key_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    assert!(matches!(Ledger::open(dir.path(), signer()), Err(OpenError::Locked { .. })));
    drop(ledger);
    let other = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[8; 32]).unwrap());
    let other = NoteSigner::new(ORIGIN, other).unwrap();
    assert!(matches!(Ledger::open(dir.path(), other), Err(OpenError::Checkpoint { .. })));
    open(dir.path());
}

#[tokio::test]
async fn a_torn_batch_is_cut_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    fill(&ledger, 0..20).await;
    ledger.append(entry(20)).await.unwrap();
    drop(ledger);
    let segment = last_segment(dir.path());
    let whole = fs::read(&segment).unwrap();
    // A batch that was never acknowledged: cut anywhere, or full of zeros where pages were not written.
    let mut torn = whole[whole.len() - 150..].to_vec();
    torn.splice(0..8, *b"SYLB\x01\0\0\0");
    for tail in [&torn[..], &torn[..50], b"SYLB", &[0; 4096]] {
        fs::write(&segment, [&whole, tail].concat()).unwrap();
        let ledger = open(dir.path());
        assert_eq!(ledger.checkpoint().unwrap().checkpoint().size, 21);
        drop(ledger);
        assert_eq!(fs::read(&segment).unwrap(), whole);
    }
    let ledger = open(dir.path());
    assert_eq!(ledger.append(entry(21)).await.unwrap().index, 21);
    drop(ledger);
    assert_eq!(verify_dir(dir.path(), &vkey()).unwrap().head.size, 22);
}

#[tokio::test]
async fn acknowledged_entries_are_never_forgotten_to_make_it_start() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    for n in 0..5 {
        ledger.append(entry(n)).await.unwrap();
    }
    drop(ledger);
    let segment = last_segment(dir.path());
    let whole = fs::read(&segment).unwrap();
    fs::write(&segment, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(Ledger::open(dir.path(), signer()), Err(OpenError::BelowHighWater { found: 4, signed: 5, .. })));
    assert_eq!(fs::read(&segment).unwrap().len(), whole.len() - 1);
    // Damage that is not at the end is no power cut.
    let mut bad = whole.clone();
    bad[whole.len() / 2] ^= 1;
    fs::write(&segment, &bad).unwrap();
    assert!(matches!(Ledger::open(dir.path(), signer()), Err(OpenError::Damaged { .. })));
    // The whole segment is gone.
    fs::remove_file(&segment).unwrap();
    assert!(matches!(Ledger::open(dir.path(), signer()), Err(OpenError::BelowHighWater { found: 0, signed: 5, .. })));
    fs::write(&segment, &whole).unwrap();
    assert_eq!(open(dir.path()).checkpoint().unwrap().checkpoint().size, 5);
}

#[tokio::test]
async fn what_can_be_rebuilt_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    fill(&ledger, 0..600).await;
    drop(ledger);
    let head = fs::read(dir.path().join("tlog/checkpoint")).unwrap();
    let tile = dir.path().join("tlog/tile/0/000");
    let damages: [(&str, &dyn Fn()); 6] = [
        ("index gone", &|| fs::remove_dir_all(dir.path().join("index")).unwrap()),
        ("index damaged", &|| fs::write(dir.path().join("index/CURRENT"), "garbage").unwrap()),
        ("tiles gone", &|| fs::remove_dir_all(dir.path().join("tlog")).unwrap()),
        ("checkpoint gone", &|| fs::remove_file(dir.path().join("tlog/checkpoint")).unwrap()),
        ("bundle altered", &|| fs::write(dir.path().join("tlog/tile/entries/002.p/88"), "x").unwrap()),
        ("edge tile altered", &|| fs::write(dir.path().join("tlog/tile/1/000.p/2"), [0; 64]).unwrap()),
    ];
    for (what, damage) in damages {
        damage();
        let ledger = open(dir.path());
        assert_eq!(ledger.append(entry(77)).await.unwrap(), Appended { index: 77, duplicate: true }, "{what}");
        assert_eq!(ledger.by_process("process 2").unwrap().len(), 200, "{what}");
        drop(ledger);
        assert_eq!(fs::read(dir.path().join("tlog/checkpoint")).unwrap(), head, "{what}");
        verify_dir(dir.path(), &vkey()).unwrap();
    }
    // Both checkpoints gone: nothing says what was signed, until somebody who saw it brings it back.
    fs::remove_file(dir.path().join("high-water")).unwrap();
    fs::remove_file(dir.path().join("tlog/checkpoint")).unwrap();
    assert!(matches!(Ledger::open(dir.path(), signer()), Err(OpenError::NoHighWater { found: 600, .. })));
    fs::write(dir.path().join("high-water"), &head).unwrap();
    drop(open(dir.path()));
    assert_eq!(fs::read(dir.path().join("tlog/checkpoint")).unwrap(), head);
    assert!(tile.is_file());
}

#[tokio::test]
async fn no_byte_of_a_log_can_change_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    fill(&ledger, 0..300).await;
    drop(ledger);
    let served = dir.path().join("tlog");
    let partial_of_the_past = |path: &Path| {
        // Tiles of earlier checkpoints stay for readers that are under way; the newest head does not call for them.
        let text = path.to_str().unwrap();
        text.contains(".p/") && !["entries/001.p/44", "0/001.p/44", "1/000.p/1"].iter().any(|last| text.ends_with(last))
    };
    for root in [served.clone(), dir.path().join("segments")] {
        for file in files(&root).into_iter().filter(|path| !partial_of_the_past(path)) {
            let good = fs::read(&file).unwrap();
            for at in [0, good.len() / 3, good.len() / 2, good.len() - 1] {
                let mut bad = good.clone();
                bad[at] ^= 1;
                fs::write(&file, &bad).unwrap();
                let error = verify_dir(dir.path(), &vkey()).unwrap_err();
                let is_checkpoint = file.ends_with("checkpoint");
                assert!(
                    is_checkpoint || matches!(error, VerifyError::DoesNotHold { .. }),
                    "{} {at}: {error}",
                    file.display()
                );
            }
            fs::write(&file, &good).unwrap();
        }
    }
    let bundle = served.join("tile/entries/001.p/44");
    let mut bad = fs::read(&bundle).unwrap();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&bundle, &bad).unwrap();
    let error = verify_dir(&served, &vkey()).unwrap_err().to_string();
    assert!(error.contains("entry 299"), "{error}");
    fs::remove_file(&bundle).unwrap();
    assert!(matches!(verify_dir(&served, &vkey()), Err(VerifyError::DoesNotHold { .. })));
    fs::remove_file(served.join("checkpoint")).unwrap();
    assert!(matches!(verify_dir(&served, &vkey()), Err(VerifyError::Unreadable { .. })));
    fs::write(served.join("checkpoint"), "no checkpoint").unwrap();
    assert!(matches!(verify_dir(&served, &vkey()), Err(VerifyError::Unreadable { .. })));
}

fn national_keys() -> LedgerKeys {
    let sm2 = Arc::new(SecretKey::from_seed(Suite::Sm2, &[8; 32]).unwrap());
    LedgerKeys::from(signer()).with_sm2(Arc::clone(&sm2)).unwrap().with_twin(sm2).unwrap()
}

/// A log that ran without SM2 gets the line and the twin at its next start, and keeps working without them.
#[tokio::test]
async fn the_national_suite_signs_beside_and_keeps_a_twin() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = open(dir.path());
    fill(&ledger, 0..300).await;
    ledger.included(299).await.unwrap();
    assert!(ledger.twin().is_none());
    drop(ledger);

    let ledger = Ledger::open(dir.path(), national_keys()).unwrap();
    let policy = LogPolicy::new(ledger.served().keys().to_vec(), Demand::All).unwrap();
    let head = ledger.checkpoint().unwrap();
    assert_eq!(SignedCheckpoint::open_with(head.bytes(), &policy).unwrap().checkpoint().size, 300);
    fill(&ledger, 300..600).await;
    let twin = ledger.twin().unwrap();
    let of_twin = twin.included(599).await.unwrap();
    assert_eq!(of_twin.checkpoint().origin, format!("{ORIGIN}-sm3"));
    let kind = shuyu_base::HashKind::Sm3;
    let mut tree = shuyu_tlog::Tree::new(kind);
    (0..600).for_each(|n| tree.push(shuyu_tlog::leaf_hash(kind, &entry(n).bytes)));
    assert_eq!((of_twin.checkpoint().size, of_twin.checkpoint().root), (600, tree.root()));
    let proof = twin.prove(450).unwrap();
    assert!(proof.verify(&entry(450).bytes, twin.vkey()).is_ok());
    assert!(proof.verify(&entry(450).bytes, ledger.vkey()).is_err());
    let (keys, of_twin) = (twin.vkey().clone(), of_twin.bytes().to_vec());
    drop(ledger);
    verify_dir(dir.path(), &vkey()).unwrap();
    assert!(verify_twin_dir(dir.path(), &keys).unwrap().has_segments);
    assert!(verify_twin_dir(dir.path(), &vkey()).is_err());
    let served = dir.path().join("tlog-sm3");
    verify_twin_dir(&served, &keys).unwrap();

    // A lost tile is made anew from the segments, a changed one is noticed, and the head stays the same.
    fs::remove_file(served.join("tile/0/002.p/88")).unwrap();
    assert!(verify_twin_dir(&served, &keys).is_err());
    drop(Ledger::open(dir.path(), national_keys()).unwrap());
    verify_twin_dir(&served, &keys).unwrap();
    assert_eq!(fs::read(served.join("checkpoint")).unwrap(), of_twin);
    let mut tile = fs::read(served.join("tile/0/001")).unwrap();
    tile[77] ^= 1;
    fs::write(served.join("tile/0/001"), tile).unwrap();
    assert!(matches!(verify_twin_dir(&served, &keys), Err(VerifyError::DoesNotHold { .. })));

    // Without its key the twin stands still; with it, it catches up.
    let ledger = open(dir.path());
    fill(&ledger, 600..900).await;
    drop(ledger);
    let ledger = Ledger::open(dir.path(), national_keys()).unwrap();
    assert_eq!(ledger.twin().unwrap().checkpoint().unwrap().checkpoint().size, 900);
}

/// Environment variable that turns `a_killed_writer_keeps_what_it_acknowledged` into the writer.
const CHILD: &str = "SHUYU_LEDGER_TEST_DIR";

/// kill -9 at any moment: every acknowledged entry is there afterwards, at the place acknowledged.
#[test]
fn a_killed_writer_keeps_what_it_acknowledged() {
    if let Ok(dir) = std::env::var(CHILD) {
        return write_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: BTreeMap<u64, u64> = BTreeMap::new();
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_killed_writer_keeps_what_it_acknowledged", "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let pairs = lines.map_while(Result::ok).filter_map(|line| {
            let (n, index) = line.strip_prefix("ack ")?.split_once(' ')?;
            Some((n.parse().unwrap(), index.parse().unwrap()))
        });
        let mut left = 40 + round * 67;
        for (n, index) in pairs {
            acknowledged.insert(n, index);
            left -= 1;
            if left == 0 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let ledger = open(dir.path());
        for (n, index) in &acknowledged {
            assert_eq!(ledger.entry(*index).unwrap(), entry(*n).bytes);
            assert_eq!(ledger.find(&entry(*n).dedup).unwrap(), Some(*index));
        }
        drop(ledger);
        verify_dir(dir.path(), &vkey()).unwrap();
    }
    assert!(600 < acknowledged.len());
}

/// The same under load: many callers at once, so that batches overlap in the pipeline, with the twin.
#[test]
fn a_killed_writer_under_load_keeps_what_it_acknowledged() {
    const NAME: &str = "a_killed_writer_under_load_keeps_what_it_acknowledged";
    if let Ok(dir) = std::env::var(CHILD) {
        return load_until_killed(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(u64, u64)> = Vec::new();
    for round in 0..4_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
        let before = acknowledged.len();
        for line in lines.map_while(Result::ok) {
            // A line that the kill cut off is no acknowledgement.
            let pair = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('.')?.split_once(' '));
            acknowledged.extend(pair.map(|(n, index)| (n.parse::<u64>().unwrap(), index.parse::<u64>().unwrap())));
            if acknowledged.len() == before + 3000 + 777 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let ledger = Ledger::open(dir.path(), national_keys()).unwrap();
        let size = ledger.checkpoint().unwrap().checkpoint().size;
        let entries = ledger.read(0..size).unwrap();
        for (n, index) in &acknowledged {
            assert_eq!(entries[usize::try_from(*index).unwrap()], entry(*n).bytes);
            assert_eq!(ledger.find(&entry(*n).dedup).unwrap(), Some(*index));
        }
        let twin = ledger.twin().unwrap().vkey().clone();
        drop(ledger);
        verify_dir(dir.path(), &vkey()).unwrap();
        verify_twin_dir(dir.path(), &twin).unwrap();
    }
}

fn load_until_killed(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let ledger = Arc::new(Ledger::open(dir, national_keys()).unwrap());
        let next = Arc::new(std::sync::atomic::AtomicU64::new(ledger.checkpoint().unwrap().checkpoint().size));
        for _ in 0..600 {
            let (ledger, next) = (Arc::clone(&ledger), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let index = ledger.append(entry(n)).await.unwrap().index;
                    println!("ack {n} {index}.");
                }
            });
        }
        std::future::pending::<()>().await;
    });
}

fn write_until_killed(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ledger = open(dir);
        let start = ledger.checkpoint().unwrap().checkpoint().size;
        for from in (start..).step_by(7) {
            let answers = futures((from..from + 7).map(|n| ledger.append(entry(n)))).await;
            for (n, answer) in (from..).zip(answers) {
                println!("ack {n} {}", answer.unwrap().index);
            }
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Against a model: a list without repeats, through restarts and torn ends.
    #[test]
    fn behaves_like_a_list_without_repeats(
        rounds in proptest::collection::vec((proptest::collection::vec(0_u64..60, 0..40), 0_usize..300), 1..5),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut model: Vec<u64> = Vec::new();
        for (numbers, torn) in rounds {
            let ledger = open(dir.path());
            let answers = runtime.block_on(futures(numbers.iter().map(|n| ledger.append(entry(*n)))));
            for (n, answer) in numbers.into_iter().zip(answers) {
                let place = model.iter().position(|known| *known == n);
                if place.is_none() {
                    model.push(n);
                }
                let index = place.unwrap_or(model.len() - 1) as u64;
                prop_assert_eq!(answer.unwrap(), Appended { index, duplicate: place.is_some() });
            }
            drop(ledger);
            let mut segment = fs::OpenOptions::new().append(true).open(last_segment(dir.path())).unwrap();
            segment.write_all(&vec![0xa5; torn]).unwrap();
        }
        let ledger = open(dir.path());
        let read = ledger.read(0..1000).unwrap();
        prop_assert_eq!(read, model.iter().map(|n| entry(*n).bytes).collect::<Vec<_>>());
        drop(ledger);
        let bytes = fs::read(dir.path().join("tlog/checkpoint")).unwrap();
        let size = SignedCheckpoint::open(&bytes, &vkey()).unwrap().checkpoint().size;
        prop_assert_eq!(size, model.len() as u64);
        verify_dir(dir.path(), &vkey()).unwrap();
    }
}
