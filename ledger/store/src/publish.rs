//! The publisher: reads committed batches back from disk, writes tiles and bundles, checks the root by a second code
//! path, signs, and serves the checkpoint.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use shuyu_base::HashKind;
use shuyu_tlog::tile::{TILE_WIDTH, TileError, TiledTree, tile_bytes};
use shuyu_tlog::{
    Hash, Note, NoteSigner, SignedCheckpoint, Tile, TileHashes, TilePath, leaf_hash, subtree_root, write_bundle,
};
use tokio::sync::watch;

use crate::commit::Committed;
use crate::disk;
use crate::frame::Frame;
use crate::keys::vkeys;
use crate::latency::Latency;
use crate::ledger::{LogPaths, Paths, PublishError};
use crate::recheck::recheck;
use crate::segment::{Cursor, CursorError, Place};
use crate::witnessed::Witnessed;

/// tlog-tiles fixes SHA-256.
pub(crate) const KIND: HashKind = HashKind::Sha256;

/// Which of the two logs over the same entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Log,
    Twin,
}

impl Lane {
    pub fn tree_hash(self) -> HashKind {
        match self {
            Self::Log => KIND,
            Self::Twin => HashKind::Sm3,
        }
    }

    pub fn paths(self, paths: &Paths) -> &LogPaths {
        match self {
            Self::Log => &paths.log,
            Self::Twin => &paths.twin,
        }
    }

    pub fn thread_name(self) -> &'static str {
        match self {
            Self::Log => "ledger-publish",
            Self::Twin => "ledger-twin",
        }
    }

    /// The root that a batch states, of a tree that ends with it. A batch written before there was a twin states none.
    pub fn stated_root(self, frame: &Frame) -> Option<Hash> {
        match self {
            Self::Log => Some(frame.new_root),
            Self::Twin => frame.twin_root,
        }
    }
}

/// Under load a checkpoint is made this often; an idle log publishes at once.
pub(crate) const PUBLISH_INTERVAL: Duration = Duration::from_millis(200);

/// How far the served log has come.
#[derive(Clone)]
pub(crate) struct Progress {
    pub tree: TiledTree,
    /// The entries of the unfinished bundle, at most 255.
    pub tail: Vec<Vec<u8>>,
    /// Where the next batch to publish stands.
    pub place: Place,
}

impl Progress {
    pub fn start(kind: HashKind) -> Self {
        Self { tree: TiledTree::new(kind), tail: Vec::new(), place: Place { segment: 0, offset: 0 } }
    }
}

/// What has been published, or why nothing more will be.
pub(crate) type Published = Result<Arc<SignedCheckpoint>, String>;

pub(crate) struct Publisher {
    pub lane: Lane,
    pub segments: PathBuf,
    pub paths: LogPaths,
    pub signers: Vec<NoteSigner>,
    pub progress: Progress,
    pub published: watch::Sender<Published>,
    pub latency: Arc<Latency>,
    /// Held while the served checkpoint is exchanged: cosignatures come from elsewhere.
    pub serving: Arc<Mutex<()>>,
    /// Where witnesses are waited for.
    pub witnessed: Option<Arc<Witnessed>>,
}

impl Publisher {
    /// Runs until the sequencer is gone, then publishes what is left.
    ///
    /// An idle log publishes its next batch at once; under load one checkpoint covers [`PUBLISH_INTERVAL`].
    pub fn run(mut self, committed: &Receiver<Committed>) {
        let mut not_before = Instant::now();
        let mut is_open = true;
        // Batches that no checkpoint covers yet.
        let mut waiting: Vec<Committed> = Vec::new();
        while is_open || !waiting.is_empty() {
            let news = match waiting.last() {
                None => committed.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => committed.recv_timeout(not_before.saturating_duration_since(Instant::now())),
            };
            match news {
                Ok(batch) => {
                    if let Some(witnessed) = &self.witnessed {
                        witnessed.wait(batch);
                    }
                    waiting.push(batch);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => is_open = false,
            }
            let Some(newest) = waiting.last() else { continue };
            match self.publish(newest.size) {
                Ok(()) => {
                    waiting.drain(..).for_each(|batch| self.latency.observe(batch.since.elapsed(), batch.count));
                }
                Err(error @ PublishError::Io { .. }) => {
                    tracing::warn!(%error, "checkpoint not published; the entries are safe");
                    if !is_open {
                        // The next start tries again.
                        waiting.clear();
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "log halted: what is on disk is not what was committed");
                    // Not between the look and the exchange of who shows cosignatures.
                    let _serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
                    drop(self.published.send_replace(Err(error.to_string())));
                    return;
                }
            }
            not_before = Instant::now() + PUBLISH_INTERVAL;
        }
    }

    /// Whether the served checkpoint is `head`, over everything there is, with a line of every key: then a start has
    /// nothing to publish.
    pub fn is_current(&self, head: &SignedCheckpoint, size: u64) -> bool {
        let is_signed = Note::parse(head.bytes()).is_ok_and(|note| note.verify_all(&vkeys(&self.signers)).is_ok());
        // Cosignatures may stand under the served one.
        let served = fs::read(self.paths.tlog.join("checkpoint")).ok().and_then(|bytes| Note::parse(&bytes).ok());
        let is_served = served.is_some_and(|note| head.bytes().starts_with(note.text().as_bytes()));
        let is_loaded = self.progress.tree.tree().size() == size;
        is_signed && is_loaded && head.checkpoint().size == size && is_served
    }

    /// Puts the last signed checkpoint wherever it is to be kept and is not.
    pub fn keep(&self, head: &SignedCheckpoint) -> Result<bool, PublishError> {
        for path in self.paths.high_waters() {
            let kept = disk::read_if_there(path).map_err(|source| io_error(path, source))?;
            if kept.is_none_or(|kept| kept != head.bytes()) {
                disk::replace(path, head.bytes()).map_err(|source| io_error(path, source))?;
            }
        }
        Ok(true)
    }

    /// Brings the served log to `size`, signs it, and serves the checkpoint.
    pub fn publish(&mut self, size: u64) -> Result<(), PublishError> {
        // Work on a copy: a failed attempt leaves no trace but files that the next one writes again.
        let mut progress = self.progress.clone();
        let mut files = Files::new(&self.paths.tlog);
        let mut committed_root = None;
        let mut cursor = Cursor::new(&self.segments, progress.place, progress.tree.tree().size());
        while progress.tree.tree().size() < size {
            let Some((frame, _)) = cursor.read().map_err(PublishError::from)? else {
                return Err(PublishError::Short { found: progress.tree.tree().size(), committed: size });
            };
            committed_root = self.lane.stated_root(&frame);
            for item in frame.items {
                progress.add(item.bytes, &mut files)?;
            }
        }
        progress.place = cursor.place();
        for (path, hashes) in progress.tree.partial_tiles() {
            files.put(path, &tile_bytes(hashes))?;
        }
        if let Some(width) = u16::try_from(progress.tail.len()).ok().filter(|width| 0 < *width)
            && let Some(path) = TilePath::new(Tile::Entries, size / u64::from(TILE_WIDTH), width)
        {
            files.put(path, &bundle_of(&progress.tail)?)?;
        }
        files.sync()?;
        let root = progress.tree.tree().root();
        self.check_root(size, root, committed_root)?;
        self.sign(size, root)?;
        files.forget_outgrown(self.progress.tree.tree().size(), size);
        self.progress = progress;
        Ok(())
    }

    /// The root must be the one that the sequencer committed, and the one that the served files give by the recursive
    /// definition, from the entries up (the sequencer and the tile writer both grow the right edge).
    fn check_root(&self, size: u64, root: Hash, committed: Option<Hash>) -> Result<(), PublishError> {
        let read = |path: &TilePath| fs::read(self.paths.tlog.join(path.to_string()));
        let kind = self.lane.tree_hash();
        recheck(kind, &self.paths.tlog, self.progress.tree.tree().size(), size)?;
        let from_tiles = subtree_root(kind, 0, size, &TileHashes::new(kind, size, read));
        let from_tiles = from_tiles.map_err(|error| match error {
            TileError::Read { path, source } => io_error(&self.paths.tlog.join(path.to_string()), source),
            TileError::Length { .. } | TileError::Outside { .. } => {
                PublishError::ReadBack { detail: error.to_string() }
            }
        })?;
        if from_tiles != root || committed.is_some_and(|committed| committed != root) {
            return Err(PublishError::Root { size });
        }
        Ok(())
    }

    fn sign(&mut self, size: u64, root: Hash) -> Result<(), PublishError> {
        let signed = SignedCheckpoint::sign_all(&self.signers, size, root);
        let signed = signed.map_err(|error| PublishError::ReadBack { detail: error.to_string() })?;
        let write = |path: &Path| disk::replace(path, signed.bytes()).map_err(|source| io_error(path, source));
        // Kept before it is shown: never shorter than what anyone has seen.
        self.paths.high_waters().try_for_each(write)?;
        let _serving = self.serving.lock().unwrap_or_else(PoisonError::into_inner);
        write(&self.paths.tlog.join("checkpoint"))?;
        drop(self.published.send_replace(Ok(Arc::new(signed))));
        Ok(())
    }
}

impl Progress {
    fn add(&mut self, entry: Vec<u8>, files: &mut Files) -> Result<(), PublishError> {
        let mut full = Vec::new();
        self.tree
            .push(leaf_hash(self.tree.tree().kind(), &entry), |path, hashes| full.push((path, tile_bytes(hashes))));
        self.tail.push(entry);
        for (path, bytes) in full {
            files.put(path, &bytes)?;
        }
        if self.tail.len() == usize::from(TILE_WIDTH) {
            let index = self.tree.tree().size() / u64::from(TILE_WIDTH) - 1;
            if let Some(path) = TilePath::new(Tile::Entries, index, TILE_WIDTH) {
                files.put(path, &bundle_of(&self.tail)?)?;
            }
            self.tail.clear();
        }
        Ok(())
    }
}

fn bundle_of(entries: &[Vec<u8>]) -> Result<Vec<u8>, PublishError> {
    let bytes = write_bundle(entries.iter().map(Vec::as_slice));
    bytes.map_err(|error| PublishError::ReadBack { detail: error.to_string() })
}

fn io_error(path: &Path, source: io::Error) -> PublishError {
    PublishError::Io { path: path.to_owned(), source }
}

impl From<CursorError> for PublishError {
    fn from(error: CursorError) -> Self {
        match error {
            CursorError::Io(source) => Self::Io { path: "segments".into(), source },
            CursorError::Frame { next, source } => {
                Self::ReadBack { detail: format!("batch at entry {next}: {source}") }
            }
            CursorError::Index { .. } => Self::ReadBack { detail: error.to_string() },
        }
    }
}

/// Up to this many files are synced one by one; more are synced with their whole file system, which costs one commit of
/// its journal instead of one for each.
const MAX_SINGLE_SYNCS: usize = 12;

/// Files of one publication that are not durable yet. No checkpoint covers them, so what a power cut leaves of them is
/// written again.
struct Files {
    root: PathBuf,
    files: Vec<PathBuf>,
    dirs: BTreeSet<PathBuf>,
}

impl Files {
    fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), files: Vec::new(), dirs: BTreeSet::new() }
    }

    fn put(&mut self, path: TilePath, bytes: &[u8]) -> Result<(), PublishError> {
        let file = self.root.join(path.to_string());
        let dir = file.parent().unwrap_or(&self.root).to_owned();
        disk::create_dirs(&self.root, &dir).map_err(|source| io_error(&dir, source))?;
        disk::place_unsynced(&file, bytes).map_err(|source| io_error(&file, source))?;
        self.files.push(file);
        self.dirs.insert(dir);
        Ok(())
    }

    fn sync(&self) -> Result<(), PublishError> {
        if MAX_SINGLE_SYNCS < self.files.len() {
            return disk::sync_file_system(&self.root).map_err(|source| io_error(&self.root, source));
        }
        self.files.iter().try_for_each(|file| disk::sync_file(file).map_err(|source| io_error(file, source)))?;
        self.dirs.iter().try_for_each(|dir| disk::sync_dir(dir).map_err(|source| io_error(dir, source)))
    }

    /// Removes partial tiles two tiles behind the edge: their full tiles have been there for a while (tlog-tiles,
    /// "Partial Tiles", allows it once the full tile is available).
    fn forget_outgrown(&self, old: u64, new: u64) {
        let width = u64::from(TILE_WIDTH);
        for (tile, level) in [(Tile::Entries, 0), (Tile::Hashes(0), 0), (Tile::Hashes(1), 8)] {
            let (from, to) = ((old >> level) / width, (new >> level) / width);
            for index in from.saturating_sub(1)..to.saturating_sub(1) {
                if let Some(full) = TilePath::new(tile, index, TILE_WIDTH) {
                    // Only tidiness: what stays behind does no harm.
                    let _ = fs::remove_dir_all(self.root.join(format!("{full}.p")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Frame, Item, write_frame};
    use crate::segment::Writer;
    use shuyu_base::keys::{SecretKey, Suite};
    use shuyu_tlog::{Tree, empty_root};

    /// A publisher over one committed batch that states `root`.
    fn publisher(dir: &Path, root: Hash) -> Publisher {
        let paths = Paths::of(dir);
        fs::create_dir_all(&paths.segments).unwrap();
        fs::create_dir_all(&paths.log.tlog).unwrap();
        let items = vec![Item { dedup: [1; 32], process: String::new(), bytes: b"entry".to_vec() }];
        let frame = Frame { first: 0, previous_root: empty_root(KIND), new_root: root, twin_root: None, items };
        let mut writer = Writer::open(&paths.segments, Place { segment: 0, offset: 0 }).unwrap();
        writer.append(0, &write_frame(&frame)).unwrap();
        let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap());
        let (published, _) = watch::channel(Err("nothing published".to_owned()));
        let signers = vec![NoteSigner::new("a", key).unwrap()];
        let (segments, paths, progress) = (paths.segments, paths.log, Progress::start(KIND));
        let latency = Arc::default();
        let (serving, witnessed) = (Arc::default(), None);
        Publisher { lane: Lane::Log, segments, paths, signers, progress, published, latency, serving, witnessed }
    }

    fn root() -> Hash {
        let mut tree = Tree::new(KIND);
        tree.push(leaf_hash(KIND, b"entry"));
        tree.root()
    }

    #[test]
    fn what_was_committed_is_signed() {
        let dir = tempfile::tempdir().unwrap();
        let mut publisher = publisher(dir.path(), root());
        publisher.publish(1).unwrap();
        assert!(publisher.paths.high_water.is_file() && publisher.paths.tlog.join("checkpoint").is_file());
    }

    /// A leaf hash that flipped in memory between hashing and writing (Yeti 2022) must never be signed.
    #[test]
    fn a_root_that_the_bytes_do_not_give_is_never_signed() {
        let dir = tempfile::tempdir().unwrap();
        let publisher = publisher(dir.path(), Hash([9; 32]));
        let (paths, published) = (publisher.paths.clone(), publisher.published.subscribe());
        let (committed, commits) = std::sync::mpsc::channel();
        committed.send(Committed { size: 1, since: Instant::now(), count: 1 }).unwrap();
        publisher.run(&commits);
        assert!(published.borrow().as_ref().is_err_and(|reason| reason.contains("size 1")));
        assert!(!paths.high_water.exists() && !paths.tlog.join("checkpoint").exists());
    }

    #[test]
    fn bytes_that_changed_on_disk_are_never_signed() {
        let dir = tempfile::tempdir().unwrap();
        let mut publisher = publisher(dir.path(), root());
        let segment = publisher.segments.join("00000000000000000000");
        let mut bytes = fs::read(&segment).unwrap();
        let last = bytes.len() - 6;
        bytes[last] ^= 1;
        fs::write(&segment, bytes).unwrap();
        assert!(matches!(publisher.publish(1), Err(PublishError::ReadBack { .. })));
        assert!(matches!(publisher.publish(2), Err(PublishError::ReadBack { .. })));
        assert!(!publisher.paths.high_water.exists());
    }
}
