//! The ledger as its owner sees it.

use std::fs::{self, File, TryLockError};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use shuyu_tlog::{InclusionProof, LogPolicy, MAX_ENTRY_BYTES, PromiseProof, SignedCheckpoint, Vkey, leaf_hash};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::{Queue, Trees};
use crate::commit::{Committed, Committer, Finisher, MAX_UNFINISHED, run_indexer};
use crate::disk;
use crate::frame::{Item, MAX_PROCESS_BYTES};
use crate::index::SharedIndex;
use crate::keys::{LedgerKeys, TWIN_SUFFIX, vkeys};
use crate::latency::{Latencies, Latency};
use crate::promise::Promiser;
use crate::publish::{KIND, Lane, Publisher};
use crate::recover::{self, OpenError, RecoveredLog};
use crate::segment::{Cursor, CursorError};
use crate::sequence::{Answer, Recent, Request, Sequencer};
use crate::served::{Served, Shown};
use crate::witnessed::Witnessed;

/// Most appends waiting; further callers wait for a place in the queue.
pub const MAX_QUEUED: usize = 16_384;

/// Most entries returned by one [`Ledger::read`].
pub const MAX_READ_ENTRIES: u64 = 65_536;

/// What is to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The identity of the entry: a second one with the same is not added.
    pub dedup: [u8; 32],
    /// The process it belongs to, at most [`MAX_PROCESS_BYTES`] bytes.
    pub process: Option<String>,
    /// The entry, at most [`MAX_ENTRY_BYTES`] bytes.
    pub bytes: Vec<u8>,
}

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its index in the log, from 0.
    pub index: u64,
    /// Whether it was there before.
    pub duplicate: bool,
}

/// Why an entry was not added. Nothing of it is in the log.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The caller's fault; trying again will not help.
    #[error("entry is {len_bytes} bytes, the limit is {MAX_ENTRY_BYTES}")]
    EntryTooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// The caller's fault; trying again will not help.
    #[error("process name is empty or longer than {MAX_PROCESS_BYTES} bytes")]
    Process,
    /// The disk took no more, most often because it is full. Offer the entry again once there is room.
    #[error("entry could not be written to the ledger's disk")]
    Write {
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// The index cannot be read, so a repeat could not be recognised. It is opened anew at the next append.
    #[error("ledger index is not usable: {detail}")]
    Index {
        /// What RocksDB says.
        detail: String,
    },
    /// What is on disk is not what was committed. Nothing more is signed or added; look at the log.
    #[error("ledger has halted: {reason}")]
    Halted {
        /// What was found.
        reason: String,
    },
    /// The ledger is being closed.
    #[error("ledger is closed")]
    Closed,
}

/// Why no checkpoint could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// A file could not be read or written, most often because the disk is full; it is tried again.
    #[error("`{path}` could not be read or written")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What was committed could not be read back.
    #[error("committed entries could not be read back: {detail}")]
    ReadBack {
        /// What went wrong.
        detail: String,
    },
    /// The segments end before what was committed.
    #[error("{committed} entries were committed, {found} are on disk")]
    Short {
        /// Entries found.
        found: u64,
        /// Entries committed.
        committed: u64,
    },
    /// A served file, read back, is not what the committed entries hash to.
    #[error("`{path}`, read back, is not what the committed entries hash to")]
    Served {
        /// The file.
        path: PathBuf,
    },
    /// The entries or tiles read back give another root than the one committed.
    #[error("entries read back at size {size} do not give the root that was committed")]
    Root {
        /// Size of the log.
        size: u64,
    },
}

/// Why something could not be read from the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such entry, or not in the published log yet.
    #[error("entry {index} is outside the log of size {size}")]
    Outside {
        /// The index asked for.
        index: u64,
        /// The size of the log it was looked for in.
        size: u64,
    },
    /// The segments could not be read.
    #[error("ledger could not be read: {detail}")]
    Segments {
        /// Why.
        detail: String,
    },
    /// The index could not be read.
    #[error("ledger index is not usable: {detail}")]
    Index {
        /// Why.
        detail: String,
    },
    /// The tiles could not be read.
    #[error("tiles of the ledger could not be read: {detail}")]
    Tiles {
        /// Why.
        detail: String,
    },
    /// The log has halted or is closed.
    #[error("ledger has halted: {reason}")]
    Halted {
        /// Why.
        reason: String,
    },
}

/// What the owner of a ledger may choose.
#[derive(Clone, Debug, Default)]
pub struct LedgerOptions {
    /// A second file for the last signed checkpoint, best on another disk than the ledger: a ledger that was put back to
    /// an older state is then recognised even where the file beside it went back too. Its directory must be there. The
    /// twin's is beside it, with [`TWIN_SUFFIX`] behind the name.
    pub high_water: Option<PathBuf>,
}

/// The files of a ledger.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    pub segments: PathBuf,
    pub index: PathBuf,
    pub log: LogPaths,
    pub twin: LogPaths,
}

/// The files of a served log.
#[derive(Clone, Debug)]
pub(crate) struct LogPaths {
    pub tlog: PathBuf,
    pub high_water: PathBuf,
    /// A second one, on another disk.
    pub high_water_apart: Option<PathBuf>,
}

impl LogPaths {
    fn of(dir: &Path, tlog: &str, high_water: &str) -> Self {
        Self { tlog: dir.join(tlog), high_water: dir.join(high_water), high_water_apart: None }
    }

    /// Every place where the last signed checkpoint is kept, apart from the served one.
    pub fn high_waters(&self) -> impl Iterator<Item = &Path> {
        [Some(&self.high_water), self.high_water_apart.as_ref()].into_iter().flatten().map(PathBuf::as_path)
    }
}

impl Paths {
    pub fn of(dir: &Path) -> Self {
        Self {
            segments: dir.join("segments"),
            index: dir.join("index"),
            log: LogPaths::of(dir, "tlog", "high-water"),
            twin: LogPaths::of(dir, "tlog-sm3", "high-water-sm3"),
        }
    }

    /// The files of a ledger that was given places elsewhere.
    pub fn with(dir: &Path, options: &LedgerOptions) -> Self {
        let mut paths = Self::of(dir);
        if let Some(apart) = &options.high_water {
            let mut of_twin = apart.clone().into_os_string();
            of_twin.push(TWIN_SUFFIX);
            paths.log.high_water_apart = Some(apart.clone());
            paths.twin.high_water_apart = Some(of_twin.into());
        }
        paths
    }
}

/// An open ledger: the only writer of its directory.
///
/// Dropping it finishes what was queued, publishes it and releases the directory.
pub struct Ledger {
    paths: Paths,
    log: Served,
    twin: Option<Served>,
    /// `None` only while being dropped.
    requests: Option<mpsc::Sender<Request>>,
    index: Arc<SharedIndex>,
    latencies: Latencies,
    promiser: Arc<Promiser>,
    threads: Vec<JoinHandle<()>>,
    /// Held until everything else is gone.
    _lock: File,
}

impl Ledger {
    /// Opens the ledger in `dir`, creating it if there is none. The name of the keys is the log's origin.
    ///
    /// When it returns, everything acknowledged earlier is there, and a checkpoint over it is published, with every
    /// signature that `keys` can give. Reads the disk: call it where blocking is allowed.
    ///
    /// # Errors
    /// [`OpenError`]; what it refuses to open it leaves as it is.
    pub fn open(dir: &Path, keys: impl Into<LedgerKeys>) -> Result<Self, OpenError> {
        Self::open_with(dir, keys, &LedgerOptions::default())
    }

    /// As [`Self::open`], with places that the owner has chosen.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(dir: &Path, keys: impl Into<LedgerKeys>, options: &LedgerOptions) -> Result<Self, OpenError> {
        let (keys, paths) = (keys.into(), Paths::with(dir, options));
        let twin_dir = keys.twin().map(|_| paths.twin.tlog.as_path());
        for path in [dir, &paths.segments, &paths.log.tlog].into_iter().chain(twin_dir) {
            fs::create_dir_all(path).map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        }
        let lock = lock(dir)?;
        let recovered = recover::recover(&paths, &keys)?;
        let size = recovered.log.tree.size();
        let index = Arc::new(SharedIndex::new(recover::open_index(&paths, size)?, size));
        let latencies = Latencies::default();
        let mut opening = Opening { paths: &paths, size, committed: Vec::new(), threads: Vec::new() };
        let mut trees = Trees { log: recovered.log.tree.clone(), twin: None };
        let latency = Arc::clone(&latencies.included);
        let witnessed = witnessed(&paths.log, &keys, &latencies)?;
        let log = opening.publish(Lane::Log, keys.log().to_vec(), recovered.log, latency, Some(witnessed))?;
        let mut twin = None;
        if let (Some(signer), Some(found)) = (keys.twin(), recovered.twin) {
            trees.twin = Some(found.tree.clone());
            twin = Some(opening.publish(Lane::Twin, vec![signer.clone()], found, Arc::default(), None)?);
        }
        let (requests, incoming) = mpsc::channel(MAX_QUEUED);
        let queue = Arc::new(Queue::default());
        let sequencer = Sequencer {
            paths: paths.clone(),
            trees: trees.clone(),
            index: Arc::clone(&index),
            queue: Arc::clone(&queue),
            published: [Some(&log), twin.as_ref()].into_iter().flatten().map(Served::news).collect(),
            recent: Recent::default(),
        };
        let (finished, unfinished) = std::sync::mpsc::sync_channel(MAX_UNFINISHED);
        let committed = std::mem::take(&mut opening.committed);
        let committer =
            Committer { writer: recovered.writer, trees, queue, index: Arc::clone(&index), committed, finished };
        let (written, unindexed) = std::sync::mpsc::sync_channel(MAX_UNFINISHED);
        let origin = || OpenError::Origin { origin: keys.origin().to_owned() };
        let promiser = Arc::new(keys.promiser().ok_or_else(origin)?);
        let latency = Arc::clone(&latencies.durable);
        let finisher = Finisher { latency, promiser: Arc::clone(&promiser), written };
        let indexed = Arc::clone(&index);
        opening.start("ledger-sequence", move || sequencer.run(incoming))?;
        opening.start("ledger-commit", move || committer.run())?;
        opening.start("ledger-finish", move || finisher.run(&unfinished))?;
        opening.start("ledger-index", move || run_indexer(&indexed, &unindexed))?;
        // Each thread ends when the one before it does; the publishers when the committer does.
        let threads = opening.threads;
        Ok(Self { paths, log, twin, requests: Some(requests), index, latencies, promiser, threads, _lock: lock })
    }

    /// Adds an entry; returns once it would survive a power cut. An entry whose identity is there already is not added
    /// again: its place is returned, and that too only once it is durable.
    ///
    /// Waits while the queue of [`MAX_QUEUED`] is full. Dropping the future leaves the entry in the queue.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing of the entry is in the log.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        self.enqueue(append, false).await.map(|(appended, _)| appended)
    }

    /// As [`Self::append`], with the log's signed promise that a checkpoint will cover the entry. One signature covers
    /// all entries of a batch. Of an entry that was there before, that one is promised, whatever its bytes.
    ///
    /// # Errors
    /// [`AppendError`]; [`AppendError::Index`] also when an entry that was there before cannot be read.
    pub async fn append_promised(&self, append: Append) -> Result<(Appended, PromiseProof), AppendError> {
        let (appended, promise) = self.enqueue(append, true).await?;
        if let Some(promise) = promise {
            return Ok((appended, promise));
        }
        let failed = |detail: String| AppendError::Index { detail };
        let entry = self.entry(appended.index).map_err(|error| failed(error.to_string()))?;
        let signed = self.promiser.sign(appended.index, &[leaf_hash(KIND, &entry)]);
        let proof = signed.and_then(|signed| signed.proof(appended.index));
        Ok((appended, proof.ok_or_else(|| failed("promise could not be signed".to_owned()))?))
    }

    async fn enqueue(&self, append: Append, wants_promise: bool) -> Result<Answer, AppendError> {
        if MAX_ENTRY_BYTES < append.bytes.len() {
            return Err(AppendError::EntryTooLarge { len_bytes: append.bytes.len() });
        }
        if append.process.as_ref().is_some_and(|name| name.is_empty() || MAX_PROCESS_BYTES < name.len()) {
            return Err(AppendError::Process);
        }
        let since = Instant::now();
        let (reply, answer) = oneshot::channel();
        let item = Item { dedup: append.dedup, process: append.process.unwrap_or_default(), bytes: append.bytes };
        let requests = self.requests.as_ref().ok_or(AppendError::Closed)?;
        requests.send(Request { item, since, reply, wants_promise }).await.map_err(|_| AppendError::Closed)?;
        answer.await.map_err(|_| AppendError::Closed)?
    }

    /// As [`Served::checkpoint`] of the log itself.
    ///
    /// # Errors
    /// [`ReadError::Halted`].
    pub fn checkpoint(&self) -> Result<Arc<SignedCheckpoint>, ReadError> {
        self.log.checkpoint()
    }

    /// As [`Served::included`] of the log itself.
    ///
    /// # Errors
    /// [`ReadError::Halted`] when there will be none.
    pub async fn included(&self, index: u64) -> Result<Arc<SignedCheckpoint>, ReadError> {
        self.log.included(index).await
    }

    /// As [`Served::witnessed`] of the log itself.
    ///
    /// # Errors
    /// [`ReadError::Halted`] when the ledger is closed.
    pub async fn witnessed(&self, index: u64) -> Result<Arc<SignedCheckpoint>, ReadError> {
        self.log.witnessed(index).await
    }

    /// The published entries with these indexes, at most [`MAX_READ_ENTRIES`] of them; the range is cut at the end of
    /// the published log. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, range: Range<u64>) -> Result<Vec<Vec<u8>>, ReadError> {
        let size = self.checkpoint()?.checkpoint().size;
        let end = range.end.min(size).min(range.start.saturating_add(MAX_READ_ENTRIES));
        if end <= range.start {
            return Ok(Vec::new());
        }
        self.read_committed(range.start, end)
    }

    /// The entry at `index`, also where no checkpoint covers it yet. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, ReadError> {
        let mut found = self.read_committed(index, index.saturating_add(1))?;
        found.pop().ok_or(ReadError::Outside { index, size: index })
    }

    fn read_committed(&self, from: u64, to: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        let found = self.with_index(|index| index.frame_of(from))?;
        let (first, place) = found.ok_or(ReadError::Outside { index: from, size: 0 })?;
        let mut cursor = Cursor::new(&self.paths.segments, place, first);
        let failed = |error: CursorError| ReadError::Segments { detail: error.to_string() };
        let mut entries = Vec::new();
        while cursor.next_index() < to {
            let at = cursor.next_index();
            let Some((frame, _)) = cursor.read().map_err(failed)? else {
                return Err(ReadError::Outside { index: from, size: at });
            };
            let wanted = (at..).zip(frame.items).filter(|(index, _)| (from..to).contains(index));
            entries.extend(wanted.map(|(_, item)| item.bytes));
        }
        Ok(entries)
    }

    /// The indexes of the entries of a process, ascending, durable ones without a checkpoint included. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn by_process(&self, process: &str) -> Result<Vec<u64>, ReadError> {
        self.with_index(|index| index.by_process(process))
    }

    /// Where the entry with this identity is, if it is there. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn find(&self, dedup: &[u8; 32]) -> Result<Option<u64>, ReadError> {
        self.with_index(|index| index.find(dedup))
    }

    fn with_index<T>(
        &self,
        read: impl Fn(&crate::index::Index) -> Result<T, crate::index::IndexError>,
    ) -> Result<T, ReadError> {
        if let Ok(found) = self.index.read(&read) {
            return Ok(found);
        }
        // Whatever it is, the segments know it: opened anew, the index is as it should be.
        let opened = self.index.ready(|state, durable| recover::reopen_index(&self.paths, state, durable));
        opened.map_err(|error| ReadError::Index { detail: error.to_string() })?;
        self.index.read(read).map_err(|detail| ReadError::Index { detail })
    }

    /// As [`Served::prove`] of the log itself.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn prove(&self, index: u64) -> Result<InclusionProof, ReadError> {
        self.log.prove(index)
    }

    /// As [`Served::prove_consistency`] of the log itself.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn prove_consistency(&self, old: u64) -> Result<(Vec<shuyu_tlog::Hash>, Arc<SignedCheckpoint>), ReadError> {
        self.log.prove_consistency(old)
    }

    /// How long callers waited for each level of acknowledgement since the ledger was opened.
    pub fn latencies(&self) -> &Latencies {
        &self.latencies
    }

    /// The log as it is served.
    pub fn served(&self) -> &Served {
        &self.log
    }

    /// The SM3 twin as it is served, if the ledger keeps one.
    pub fn twin(&self) -> Option<&Served> {
        self.twin.as_ref()
    }

    /// The directory to serve: `checkpoint` and `tile/...` (tlog-tiles). Other files in it are being written.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// The Ed25519 key that verifies this log.
    pub fn vkey(&self) -> &Vkey {
        self.log.vkey()
    }
}

/// The parts of a ledger as they are put together.
struct Opening<'a> {
    paths: &'a Paths,
    size: u64,
    committed: Vec<std::sync::mpsc::Sender<Committed>>,
    threads: Vec<JoinHandle<()>>,
}

impl Opening<'_> {
    /// Publishes what was found of a log and starts its publisher.
    fn publish(
        &mut self,
        lane: Lane,
        signers: Vec<shuyu_tlog::NoteSigner>,
        found: RecoveredLog,
        latency: Arc<Latency>,
        witnessed: Option<Arc<Witnessed>>,
    ) -> Result<Served, OpenError> {
        let (news, published) = watch::channel(Err("nothing published".to_owned()));
        let paths = lane.paths(self.paths).clone();
        let serving = Arc::<Mutex<()>>::default();
        let shown = Shown { news: news.clone(), serving: Arc::clone(&serving), witnessed: witnessed.clone() };
        let served = Served::new(lane.tree_hash(), paths.tlog.clone(), vkeys(&signers), published, shown);
        let segments = self.paths.segments.clone();
        let progress = found.progress;
        let published = news;
        let mut publisher =
            Publisher { lane, segments, paths, signers, progress, published, latency, serving, witnessed };
        match found.head {
            // Kept in every place, also where one of them was lost or is new.
            Some(head) if publisher.keep(&head)? && publisher.is_current(&head, self.size) => {
                drop(publisher.published.send_replace(Ok(Arc::new(head))));
            }
            Some(_) | None => publisher.publish(self.size)?,
        }
        let (committed, commits) = std::sync::mpsc::channel();
        self.start(lane.thread_name(), move || publisher.run(&commits))?;
        self.committed.push(committed);
        Ok(served)
    }

    fn start(&mut self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
        self.threads.push(thread.map_err(OpenError::Thread)?);
        Ok(())
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        // The sequencer ends with its queue, the publisher with the sequencer.
        self.requests = None;
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a ledger thread panicked");
            }
        }
    }
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.vkey().name())
    }
}

/// The cosigned checkpoint that the last run left, unless it is not one of this log.
fn witnessed(paths: &LogPaths, keys: &LedgerKeys, latencies: &Latencies) -> Result<Arc<Witnessed>, OpenError> {
    let path = Witnessed::file(paths);
    let kept = disk::read_if_there(&path).map_err(|source| OpenError::Io { path, source })?;
    let key = keys.log().first().map(|signer| LogPolicy::of(signer.vkey().clone()));
    let head = kept.zip(key).and_then(|(bytes, key)| SignedCheckpoint::open_with(&bytes, &key).ok());
    Ok(Arc::new(Witnessed::new(paths, head.map(Arc::new), Arc::clone(&latencies.witnessed))))
}

/// Takes the directory for this process; the kernel releases it when the file is closed, also after a crash.
pub(crate) fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("LOCK");
    let io_error = |source| OpenError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io_error)?;
    match file.try_lock() {
        Ok(()) => {
            disk::sync_dir(dir).map_err(io_error)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io_error(source)),
    }
}
