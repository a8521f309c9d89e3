//! Opening: what is on the disk is read, held against the last signed checkpoint, and only a torn end is cut.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shuyu_tlog::tile::TiledTree;
use shuyu_tlog::{
    Checkpoint, OpenCheckpointError, SignedCheckpoint, Tile, TileHashes, TilePath, Tree, Vkey, leaf_hash, read_bundle,
    subtree_root,
};

use crate::disk;
use crate::frame::has_frame;
use crate::index::{Index, State};
use crate::keys::LedgerKeys;
use crate::ledger::{LogPaths, Paths, PublishError};
use crate::publish::{Lane, Progress};
use crate::segment::{self, Cursor, CursorError, Place, Writer};

/// Why a ledger was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process, or another part of this one, is writing to this directory.
    #[error("ledger `{path}` is in use by another process")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// A file or directory could not be read or made.
    #[error("`{path}` could not be read or written")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kept checkpoint is not one of this log and key.
    #[error("`{path}` is not a checkpoint of log `{origin}` signed with this key; is this another node's directory?")]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// The log that was asked for.
        origin: String,
        /// What is wrong with it.
        #[source]
        source: OpenCheckpointError,
    },
    /// Entries that a signed checkpoint covers are gone. Signing anything shorter would convict this node.
    #[error(
        "log has {found} entries on disk, up to the end of `{path}`, but size {signed} was signed: acknowledged entries are \
         lost. Restore `segments/` from a backup, or the log from a mirror (`shuyu ledger restore`); nothing is signed before"
    )]
    BelowHighWater {
        /// The segment in which the entries end.
        path: PathBuf,
        /// Entries found.
        found: u64,
        /// Size of the last signed checkpoint.
        signed: u64,
    },
    /// There are entries, and nothing says how many were signed. Signing what is there could convict this node.
    #[error(
        "log has {found} entries, but `{path}` and the served checkpoint are both gone: nobody here knows what was signed. \
         Put the newest checkpoint that a mirror or witness has of this log at `{path}`"
    )]
    NoHighWater {
        /// Where the last signed checkpoint is to be.
        path: PathBuf,
        /// Entries found.
        found: u64,
    },
    /// A batch that is not the last one is damaged, so it is not the trace of a power cut.
    #[error(
        "batch at entry {next} in `{path}` is damaged: {detail}. \
         It was acknowledged, so it is not cut away; restore the file from a backup, or the log from a mirror \
         (`shuyu ledger restore`)"
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// First entry of the batch.
        next: u64,
        /// What is wrong.
        detail: String,
    },
    /// The entries on disk are not the ones that were signed.
    #[error(
        "entries in `segments/` do not give the root signed at size {size}; restore them from a backup, or the log from a \
         mirror (`shuyu ledger restore`)"
    )]
    RootMismatch {
        /// Size of the signed checkpoint.
        size: u64,
    },
    /// The index could not be opened or rebuilt.
    #[error("index `{path}` could not be opened: {detail}")]
    Index {
        /// The directory.
        path: PathBuf,
        /// What RocksDB says.
        detail: String,
    },
    /// The first checkpoint could not be published.
    #[error("checkpoint could not be published")]
    Publish(#[from] PublishError),
    /// The name cannot be a log's origin.
    #[error("`{origin}` cannot be the origin of a log with this key")]
    Origin {
        /// The name.
        origin: String,
    },
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] io::Error),
}

/// What was found on the disk.
pub(crate) struct Recovered {
    pub writer: Writer,
    pub log: RecoveredLog,
    /// There is one exactly where there is a key for it.
    pub twin: Option<RecoveredLog>,
}

/// What was found of one of the logs.
pub(crate) struct RecoveredLog {
    pub tree: Tree,
    pub progress: Progress,
    /// The last signed checkpoint, unless the log is new.
    pub head: Option<SignedCheckpoint>,
    end: Place,
}

/// Reads the log back and cuts a torn end; then its twin, if it has one.
pub(crate) fn recover(paths: &Paths, keys: &LedgerKeys) -> Result<Recovered, OpenError> {
    let no_key = || OpenError::Origin { origin: keys.origin().to_owned() };
    let log = recover_log(paths, Lane::Log, keys.log().first().ok_or_else(no_key)?.vkey())?;
    let writer = Writer::open(&paths.segments, log.end).map_err(|source| io_error(&paths.segments, source))?;
    let twin = keys.twin().map(|signer| recover_log(paths, Lane::Twin, signer.vkey())).transpose()?;
    Ok(Recovered { writer, log, twin })
}

fn recover_log(paths: &Paths, lane: Lane, key: &Vkey) -> Result<RecoveredLog, OpenError> {
    let own = lane.paths(paths);
    let heads = kept_heads(own, key)?;
    let head = heads.iter().max_by_key(|signed| signed.checkpoint().size).cloned();
    let firsts = segment::list(&paths.segments).map_err(|source| io_error(&paths.segments, source))?;
    let signed = head.as_ref().map(SignedCheckpoint::checkpoint);
    let heads: Vec<&Checkpoint> = heads.iter().map(SignedCheckpoint::checkpoint).collect();
    // The served tiles give the tree up to the signed size, so that only the last segments need reading. Where they do
    // not give the signed root, the segments are the truth and everything is read and published again.
    let loaded = signed.and_then(|signed| load_progress(own, lane, signed, &heads).map(|progress| (signed, progress)));
    let (mut scan, mut progress) = match loaded {
        Some((signed, progress)) => {
            let first = firsts.iter().copied().filter(|first| *first <= signed.size).max().unwrap_or(0);
            (Scan::new(paths, lane, first, progress.tree.tree().clone()), Some(progress))
        }
        None => (Scan::new(paths, lane, 0, Tree::new(lane.tree_hash())), None),
    };
    let end = scan.run(&heads, progress.as_mut(), firsts.is_empty())?;
    let found = scan.tree.size().min(scan.read_to);
    match signed {
        Some(signed) if found < signed.size => {
            let path = segment::path(&paths.segments, end.segment);
            return Err(OpenError::BelowHighWater { path, found, signed: signed.size });
        }
        // A checkpoint of size 0 is kept before the first entry is taken.
        None if 0 < found && lane == Lane::Log => {
            return Err(OpenError::NoHighWater { path: own.high_water.clone(), found });
        }
        Some(_) | None => {}
    }
    let progress = progress.unwrap_or_else(|| Progress::start(lane.tree_hash()));
    Ok(RecoveredLog { tree: scan.tree, progress, head, end })
}

/// Every checkpoint that is kept of a log; a crash between two writes leaves them different.
pub(crate) fn kept_heads(own: &LogPaths, key: &Vkey) -> Result<Vec<SignedCheckpoint>, OpenError> {
    let served = own.tlog.join("checkpoint");
    let paths = own.high_waters().chain([served.as_path()]);
    paths.filter_map(|path| read_head(path, key).transpose()).collect()
}

fn read_head(path: &Path, key: &Vkey) -> Result<Option<SignedCheckpoint>, OpenError> {
    let Some(bytes) = disk::read_if_there(path).map_err(|source| io_error(path, source))? else { return Ok(None) };
    let opened = SignedCheckpoint::open(&bytes, key);
    let wrong = |source| OpenError::Checkpoint { path: path.to_owned(), origin: key.name().to_owned(), source };
    opened.map(Some).map_err(wrong)
}

/// The publisher's state at the signed size, from the served files; `None` where they do not give the signed roots.
fn load_progress(paths: &LogPaths, lane: Lane, signed: &Checkpoint, heads: &[&Checkpoint]) -> Option<Progress> {
    let kind = lane.tree_hash();
    let read = |path: &TilePath| fs::read(paths.tlog.join(path.to_string()));
    let hashes = TileHashes::new(kind, signed.size, read);
    let tree = TiledTree::load(kind, signed.size, &hashes).ok()?;
    let is_as_signed =
        |head: &&Checkpoint| subtree_root(kind, 0, head.size, &hashes).is_ok_and(|root| root == head.root);
    if tree.tree().root() != signed.root || !heads.iter().all(is_as_signed) {
        return None;
    }
    let mut tail = Vec::new();
    if !signed.size.is_multiple_of(256) {
        let path = TilePath::containing(Tile::Entries, signed.size - 1, signed.size)?;
        let bytes = read(&path).ok()?;
        tail = read_bundle(&bytes, path.width()).ok()?.iter().map(|entry| entry.to_vec()).collect();
        let (_, hashes) = tree.partial_tiles().next()?;
        let is_as_signed = tail.iter().zip(hashes).all(|(entry, hash)| leaf_hash(kind, entry) == *hash);
        if !is_as_signed || tail.len() != hashes.len() {
            return None;
        }
    }
    // The place is found by the scan.
    Some(Progress { tree, tail, place: Place { segment: 0, offset: 0 } })
}

/// One pass over the segments.
pub(crate) struct Scan<'a> {
    paths: &'a Paths,
    lane: Lane,
    cursor: Cursor,
    pub tree: Tree,
    /// How many entries the batches read so far reach to.
    read_to: u64,
}

impl<'a> Scan<'a> {
    pub fn new(paths: &'a Paths, lane: Lane, first: u64, tree: Tree) -> Self {
        let cursor = Cursor::new(&paths.segments, Place { segment: first, offset: 0 }, first);
        Self { paths, lane, cursor, tree, read_to: first }
    }

    /// Reads to the end; returns the place behind the last good batch.
    pub fn run(
        &mut self,
        heads: &[&Checkpoint],
        mut progress: Option<&mut Progress>,
        is_new: bool,
    ) -> Result<Place, OpenError> {
        if is_new {
            return Ok(Place { segment: 0, offset: 0 });
        }
        loop {
            let place = self.cursor.place();
            if let Some(progress) = progress.as_mut().filter(|one| one.tree.tree().size() == self.read_to) {
                progress.place = place;
            }
            let frame = match self.cursor.read() {
                Ok(Some((frame, _))) => frame,
                Ok(None) => return Ok(self.cursor.place()),
                Err(error) => return self.torn(place, &error),
            };
            self.read_to = self.cursor.next_index();
            if self.read_to <= self.tree.size() {
                continue; // Covered by the tiles, whose root is the signed one.
            }
            let follows = match self.lane {
                Lane::Log => frame.previous_root == self.tree.root(),
                Lane::Twin => true, // The first log's roots have said so.
            };
            if frame.first != self.tree.size() || !follows {
                return Err(self.damaged(place, "it does not follow the batch before it"));
            }
            for item in &frame.items {
                self.tree.push(leaf_hash(self.lane.tree_hash(), &item.bytes));
                let is_other = |head: &&Checkpoint| head.size == self.tree.size() && head.root != self.tree.root();
                if heads.iter().any(is_other) {
                    return Err(OpenError::RootMismatch { size: self.tree.size() });
                }
            }
            if self.lane.stated_root(&frame).is_some_and(|stated| stated != self.tree.root()) {
                return Err(self.damaged(place, "its entries do not give its root"));
            }
        }
    }

    /// A batch that cannot be read is the trace of a power cut only if nothing whole follows it: each batch is durable
    /// before the next is begun.
    fn torn(&self, place: Place, error: &CursorError) -> Result<Place, OpenError> {
        let path = segment::path(&self.paths.segments, place.segment);
        let bytes = fs::read(&path).map_err(|source| io_error(&path, source))?;
        let behind = usize::try_from(place.offset).ok().and_then(|at| bytes.get(at + 1..)).unwrap_or_default();
        let firsts = segment::list(&self.paths.segments).map_err(|source| io_error(&path, source))?;
        if has_frame(behind) || firsts.last() != Some(&place.segment) {
            return Err(self.damaged(place, &error.to_string()));
        }
        tracing::warn!(path = %path.display(), entry = self.read_to, bytes = behind.len() + 1, "cutting a torn batch");
        Ok(place)
    }

    fn damaged(&self, place: Place, detail: &str) -> OpenError {
        let path = segment::path(&self.paths.segments, place.segment);
        OpenError::Damaged { path, next: self.read_to, detail: detail.to_owned() }
    }
}

/// Opens the index after a failure.
pub(crate) fn reopen_index(paths: &Paths, state: State, size: u64) -> Result<Index, OpenError> {
    match state {
        State::Behind => open_index(paths, size),
        State::Damaged => rebuild_index(paths, size),
    }
}

/// Opens the index and adds the batches it lacks; makes it anew where it is damaged or ahead of the log.
pub(crate) fn open_index(paths: &Paths, size: u64) -> Result<Index, OpenError> {
    let opened = Index::open(&paths.index).and_then(|index| index.size().map(|have| (index, have)));
    match opened {
        Ok((index, have)) if have <= size => match catch_up(paths, &index, have, size) {
            Ok(()) => return Ok(index),
            Err(detail) => tracing::warn!(detail, "index cannot be brought up to date; rebuilding it"),
        },
        Ok((_, have)) => tracing::warn!(have, size, "index is ahead of the log; rebuilding it"),
        Err(error) => tracing::warn!(%error, "index is damaged; rebuilding it"),
    }
    rebuild_index(paths, size)
}

/// Makes the index anew.
pub(crate) fn rebuild_index(paths: &Paths, size: u64) -> Result<Index, OpenError> {
    let failed = |detail: String| OpenError::Index { path: paths.index.clone(), detail };
    if paths.index.exists() {
        fs::remove_dir_all(&paths.index).map_err(|source| io_error(&paths.index, source))?;
    }
    let index = Index::open(&paths.index).map_err(|error| failed(error.to_string()))?;
    catch_up(paths, &index, 0, size).map_err(failed)?;
    Ok(index)
}

fn catch_up(paths: &Paths, index: &Index, have: u64, size: u64) -> Result<(), String> {
    if have == size {
        return Ok(());
    }
    let mut place = Place { segment: 0, offset: 0 };
    let mut from = 0;
    if let Some(last) = have.checked_sub(1) {
        // The last batch indexed is read again: adding it twice changes nothing.
        let (first, found) = index.frame_of(last).map_err(|e| e.to_string())?.ok_or("a batch has no place")?;
        (from, place) = (first, found);
    }
    let mut cursor = Cursor::new(&paths.segments, place, from);
    while cursor.next_index() < size {
        let (frame, place) = cursor.read().map_err(|e| e.to_string())?.ok_or("segments end too early")?;
        index.add_frame(&frame, place).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn io_error(path: &Path, source: io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), source }
}
