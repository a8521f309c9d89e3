//! Writes entries of 300 bytes into a log of the crate siglog for a fixed time, as fast as callers can, and prints one line
//! of JSON like the example `ledger_load` of shuyu-ledger, but with `covered` for `included_s`, and with `retries`.
//!
//! `siglog-load DIR SECONDS CALLERS`. The log is put together in this process as siglog's own `main` does it, with the
//! values it has there: SQLite, tiles in files, batches of 256 entries or 1 s, integration every 100 ms of at most 1024
//! entries, a checkpoint each second. Only its HTTP front is left out.
//!
//! An acknowledgement is what `POST /add` answers: the entry has its index, and the transaction that wrote it is committed.
//! siglog opens SQLite with a write-ahead log and leaves `synchronous` at FULL, so each commit (one a batch) syncs that log
//! before it returns. The tree takes the entry in later: as our acknowledgement this one says durable, not integrated.
//!
//! `covered` is the size of the checkpoint published when the time is over. The program does not wait until all is covered:
//! siglog's integration computes the frontier of the tree anew from every leaf, with a file read for each, and so gets slower
//! as the tree grows; it took in 472 entries a second over the first 61,440.
//!
//! siglog answers a batch with an error when SQLite says `database is locked` (SQLITE_BUSY), as it does when the integration
//! writes at the same time, since the batch's transaction begins with a read. A caller then tries again, and waits on from
//! its first try; `retries` counts these answers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use siglog::checkpoint::CheckpointSigner;
use siglog::sequencer::{Sequencer, SequencerConfig};
use siglog::storage::{Database, TileStorage};
use siglog::types::Entry;
use siglog::worker::{self, WorkerConfig};
use tokio::sync::watch;
use tokio::time::Instant;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const ORIGIN: &str = "bench.example/siglog";

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, seconds, callers] = args.as_slice() else {
        return Err("usage: siglog-load DIR SECONDS CALLERS".into());
    };
    let (window, callers) = (Duration::from_secs_f64(seconds.parse()?), callers.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(run(Path::new(dir), window, callers))
}

/// What one caller saw.
#[derive(Default)]
struct Seen {
    waits: Vec<Duration>,
    retries: u64,
    last_error: Option<siglog::error::Error>,
}

async fn run(dir: &Path, window: Duration, callers: u64) -> Result<(), Failure> {
    let dir = dir.to_str().ok_or("the directory's name is not UTF-8")?;
    let db = Database::connect(&format!("sqlite:{dir}/siglog.db?mode=rwc")).await?;
    db.run_migrations().await?;
    let tiles = TileStorage::new_fs(&format!("{dir}/tiles"))?;
    let (sequencer, sequencing) = Sequencer::new(db.clone(), SequencerConfig::default());
    // Workers run until the process ends; a dropped sender would make them spin.
    let (_stop, stopped) = watch::channel(false);
    let config = WorkerConfig { origin: ORIGIN.to_owned(), ..WorkerConfig::default() };
    let signer = Arc::new(CheckpointSigner::from_seed(ORIGIN, &[7; 32]));
    tokio::spawn(sequencing);
    tokio::spawn(worker::run_integration_worker(db.clone(), tiles.clone(), config.clone(), None, stopped.clone()));
    tokio::spawn(worker::run_checkpoint_worker(db, tiles.clone(), signer, Vec::new(), Vec::new(), config, stopped));

    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let end = begun + window;
    let calls: Vec<_> = (0..callers).map(|_| tokio::spawn(call(sequencer.clone(), Arc::clone(&next), end))).collect();
    let mut all = Seen::default();
    for call in calls {
        let seen = call.await?;
        all.waits.extend(seen.waits);
        all.retries += seen.retries;
        all.last_error = seen.last_error.or(all.last_error);
    }
    let covered = checkpoint_size(&tiles).await?;
    if all.waits.is_empty() {
        let why = all.last_error.map_or_else(|| "none in the time given".to_owned(), |error| error.to_string());
        return Err(format!("no entry was acknowledged: {why}").into());
    }
    if let Some(error) = all.last_error {
        eprintln!("siglog: {} answers were errors and tried again, the last: {error}", all.retries);
    }
    all.waits.sort_unstable();
    let at = |share: usize| all.waits.get(all.waits.len() * share / 1000).map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    println!(
        "{{\"entries\": {}, \"durable_s\": {:.4}, \"covered\": {covered}, \"p50_ms\": {:.3}, \
         \"p99_ms\": {:.3}, \"retries\": {}}}",
        all.waits.len(),
        window.as_secs_f64(),
        at(500),
        at(990),
        all.retries
    );
    Ok(())
}

/// Appends one entry after another until the end; an entry that is not acknowledged by then does not count.
async fn call(log: Sequencer, next: Arc<AtomicU64>, end: Instant) -> Seen {
    let mut seen = Seen::default();
    while Instant::now() < end {
        let bytes = entry(next.fetch_add(1, Ordering::Relaxed));
        let due = Instant::now();
        loop {
            match tokio::time::timeout_at(end, log.add(Entry::new(bytes.clone()))).await {
                Ok(Ok(_)) => break seen.waits.push(due.elapsed()),
                Ok(Err(error)) => {
                    seen.retries += 1;
                    seen.last_error = Some(error);
                }
                Err(_) => return seen,
            }
        }
    }
    seen
}

/// Entry number `n`: 300 bytes that do not compress.
fn entry(n: u64) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    let mut state = n;
    while bytes.len() < 300 {
        // splitmix64
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_be_bytes());
    }
    bytes.truncate(300);
    bytes
}

/// The size in the published checkpoint, its second line; 0 while there is none. siglog overwrites the file in place, so a
/// reader may see its beginning only, which gives a size that is too small and never one that is too large.
async fn checkpoint_size(tiles: &TileStorage) -> Result<u64, Failure> {
    let Some(checkpoint) = tiles.read_checkpoint().await? else { return Ok(0) };
    let text = String::from_utf8_lossy(checkpoint.as_bytes());
    Ok(text.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0))
}
