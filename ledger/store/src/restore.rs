//! Restoring a log from a copy: a mirror, a backup of the served directory.
//!
//! The copy is believed as far as the log's own signature goes, and only if it is not shorter than anything the log is
//! known to have signed: a shorter log would have to sign other entries at indexes that somebody has seen. Before the
//! first entry is written its checkpoint becomes the high-water mark, so that a restoration that was broken off cannot be
//! opened as a ledger; the next one goes on where it ended.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use shuyu_tlog::{Checkpoint, Hash, SignedCheckpoint, Tree, Vkey, leaf_hash};

use crate::disk;
use crate::frame::{FrameHead, Item, begin_frame, finish_frame, write_item};
use crate::ledger::{LedgerOptions, Paths, lock};
use crate::publish::{KIND, Lane};
use crate::recover::{OpenError, Scan, kept_heads};
use crate::segment::{self, Place, Writer};

/// Entries and bytes after which a batch is written.
const BATCH_ENTRIES: usize = 4096;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Why a log was not restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The log has signed more than the copy has: an entry that somebody has seen would be lost.
    #[error("copy ends at size {copy}, but size {signed} was signed: look for a copy that has it all")]
    Shorter {
        /// Size of the copy.
        copy: u64,
        /// Largest size known to be signed.
        signed: u64,
    },
    /// There is more here than in the copy.
    #[error("log has {found} entries here and {copy} in the copy: there is nothing to restore")]
    NotNeeded {
        /// Entries here.
        found: u64,
        /// Size of the copy.
        copy: u64,
    },
    /// What is here cannot be gone on from.
    #[error("what is left of the log here is damaged; move `segments/` aside and restore it whole")]
    Here(#[source] OpenError),
    /// The directory could not be made or locked.
    #[error("ledger directory is not usable")]
    Directory(#[source] OpenError),
    /// The entries do not give a root that the log signed.
    #[error("entries of the copy do not give the root that was signed at size {size}")]
    Root {
        /// Size at which they part, at the latest.
        size: u64,
    },
    /// The copy ended too early.
    #[error("copy gave {found} entries of {wanted}")]
    Cut {
        /// Entries that came.
        found: u64,
        /// Entries that were signed.
        wanted: u64,
    },
    /// A file could not be written.
    #[error("`{path}` could not be written")]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A restoration under way: the only writer of its directory.
pub struct Restorer {
    paths: Paths,
    writer: Writer,
    tree: Tree,
    /// Where this run began to write.
    begin: Place,
    pending: Vec<Item>,
    pending_bytes: usize,
    previous_root: Hash,
    /// Roots that the log has signed, by size.
    signed: BTreeMap<u64, Hash>,
    size: u64,
    _lock: File,
}

impl Restorer {
    /// Begins to restore the log in `dir` up to the checkpoint `copy`, or goes on with it. `seen` are further checkpoints
    /// of the log, from witnesses or kept elsewhere; those that `dir` and `options` name are found by themselves.
    ///
    /// # Errors
    /// [`RestoreError`]; nothing was changed then.
    pub fn open(
        dir: &Path,
        key: &Vkey,
        options: &LedgerOptions,
        copy: &SignedCheckpoint,
        seen: &[SignedCheckpoint],
    ) -> Result<Self, RestoreError> {
        let paths = Paths::with(dir, options);
        for path in [dir, &paths.segments, &paths.log.tlog] {
            fs::create_dir_all(path).map_err(|source| io_error(path, source))?;
        }
        let lock = lock(dir).map_err(RestoreError::Directory)?;
        let mut heads = kept_heads(&paths.log, key).map_err(RestoreError::Here)?;
        heads.extend(seen.iter().chain([copy]).cloned());
        let heads: Vec<&Checkpoint> = heads.iter().map(SignedCheckpoint::checkpoint).collect();
        let size = copy.checkpoint().size;
        let most = heads.iter().map(|head| head.size).max().unwrap_or_default();
        if size < most {
            return Err(RestoreError::Shorter { copy: size, signed: most });
        }
        let mut signed = BTreeMap::new();
        for head in &heads {
            if *signed.entry(head.size).or_insert(head.root) != head.root {
                return Err(RestoreError::Root { size: head.size });
            }
        }
        let (tree, begin) = found(&paths, &heads).map_err(RestoreError::Here)?;
        if size <= tree.size() {
            return Err(RestoreError::NotNeeded { found: tree.size(), copy: size });
        }
        for path in paths.log.high_waters() {
            disk::replace(path, copy.bytes()).map_err(|source| io_error(path, source))?;
        }
        let writer = Writer::open(&paths.segments, begin).map_err(|source| io_error(&paths.segments, source))?;
        let previous_root = tree.root();
        let (pending, pending_bytes) = (Vec::new(), 0);
        Ok(Self { paths, writer, tree, begin, pending, pending_bytes, previous_root, signed, size, _lock: lock })
    }

    /// Index of the next entry that is wanted.
    pub fn next_index(&self) -> u64 {
        self.tree.size()
    }

    /// Takes the next entry. It is durable after [`Self::finish`] at the latest.
    ///
    /// # Errors
    /// [`RestoreError::Root`] where the entries part from what was signed: what this run has written is gone then.
    pub fn add(&mut self, item: Item) -> Result<(), RestoreError> {
        self.tree.push(leaf_hash(KIND, &item.bytes));
        let size = self.tree.size();
        if self.signed.get(&size).is_some_and(|root| *root != self.tree.root()) {
            self.take_back()?;
            return Err(RestoreError::Root { size });
        }
        self.pending_bytes += item.bytes.len();
        self.pending.push(item);
        if BATCH_ENTRIES <= self.pending.len() || BATCH_BYTES <= self.pending_bytes {
            self.write()?;
        }
        Ok(())
    }

    /// Says that the copy has ended; returns the size of the log. The ledger can be opened then, which writes its tiles and
    /// its index anew.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn finish(mut self) -> Result<u64, RestoreError> {
        self.write()?;
        match self.tree.size() {
            size if size == self.size => Ok(size),
            found => Err(RestoreError::Cut { found, wanted: self.size }),
        }
    }

    fn write(&mut self) -> Result<(), RestoreError> {
        let items = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        if items.is_empty() {
            return Ok(());
        }
        let (first, new_root) = (self.tree.size() - items.len() as u64, self.tree.root());
        let previous_root = std::mem::replace(&mut self.previous_root, new_root);
        let head = FrameHead { first, count: items.len(), previous_root, new_root, twin_root: None };
        let mut frame = begin_frame(false);
        items.iter().for_each(|item| write_item(&mut frame, item));
        let written = self.writer.append(first, &finish_frame(&head, frame));
        written.map(drop).map_err(|source| io_error(&self.paths.segments, source))
    }

    /// Removes what this run has written.
    fn take_back(&mut self) -> Result<(), RestoreError> {
        let failed = |source| io_error(&self.paths.segments, source);
        for first in segment::list(&self.paths.segments).map_err(failed)? {
            if self.begin.segment < first {
                fs::remove_file(segment::path(&self.paths.segments, first)).map_err(failed)?;
            }
        }
        self.writer = Writer::open(&self.paths.segments, self.begin).map_err(failed)?;
        self.pending.clear();
        Ok(())
    }
}

/// The entries that are here, up to a torn end.
fn found(paths: &Paths, heads: &[&Checkpoint]) -> Result<(Tree, Place), OpenError> {
    let failed = |source| OpenError::Io { path: paths.segments.clone(), source };
    let firsts = segment::list(&paths.segments).map_err(failed)?;
    let mut scan = Scan::new(paths, Lane::Log, 0, Tree::new(KIND));
    let end = scan.run(heads, None, firsts.is_empty())?;
    if firsts.last().is_some_and(|last| end.segment < *last) {
        let detail = format!("there is a segment behind it, but none with entry {}", scan.tree.size());
        return Err(OpenError::Damaged {
            path: segment::path(&paths.segments, end.segment),
            next: scan.tree.size(),
            detail,
        });
    }
    Ok((scan.tree, end))
}

fn io_error(path: &Path, source: io::Error) -> RestoreError {
    RestoreError::Io { path: path.to_owned(), source }
}
