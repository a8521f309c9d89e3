//! The RocksDB index: identities, processes and places of batches. Everything in it can be rebuilt from the segments.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use rocksdb::{BlockBasedOptions, DB, Direction, ErrorKind, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::frame::Frame;
use crate::segment::Place;

/// `s` -> how many entries are indexed.
const SIZE: &[u8] = b"s";
/// `d` identity -> index.
const DEDUP: u8 = b'd';
/// `p` length of the process, process, index -> nothing.
const PROCESS: u8 = b'p';
/// `f` index of the first entry of a batch -> its place.
const FRAME: u8 = b'f';

/// Why the index could not be used.
pub(crate) type IndexError = rocksdb::Error;

/// The open index.
pub(crate) struct Index {
    db: DB,
}

impl Index {
    /// Opens the index, or makes an empty one.
    pub fn open(dir: &Path) -> Result<Self, IndexError> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_write_buffer_size(16 * 1024 * 1024);
        // Nearly every identity asked for is new: a filter says so without looking for it.
        let mut blocks = BlockBasedOptions::default();
        blocks.set_bloom_filter(10.0, false);
        options.set_block_based_table_factory(&blocks);
        options.set_memtable_prefix_bloom_ratio(0.1);
        options.set_memtable_whole_key_filtering(true);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(2);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        Ok(Self { db: DB::open(&options, dir)? })
    }

    /// How many entries it covers.
    pub fn size(&self) -> Result<u64, IndexError> {
        Ok(self.db.get_pinned(SIZE)?.map_or(0, |value| number(&value)))
    }

    /// Adds a batch by the identity and process of each of its entries.
    ///
    /// Neither synced nor logged: after a crash the index is behind, and the segments say what is lacking.
    pub fn add<'a>(
        &self,
        first: u64,
        names: impl IntoIterator<Item = (&'a [u8; 32], &'a str)>,
        place: Place,
    ) -> Result<u64, IndexError> {
        let mut batch = WriteBatch::default();
        let mut next = first;
        let mut identities = Vec::new();
        for (dedup, process) in names {
            identities.push((dedup, next));
            if !process.is_empty() {
                batch.put(process_key(process, next), []);
            }
            next += 1;
        }
        // In their order, neighbours find their places in RocksDB's list near each other.
        identities.sort_unstable();
        identities.iter().for_each(|(dedup, index)| batch.put(dedup_key(dedup), index.to_be_bytes()));
        let mut value = place.segment.to_be_bytes().to_vec();
        value.extend_from_slice(&place.offset.to_be_bytes());
        batch.put(frame_key(first), value);
        batch.put(SIZE, next.to_be_bytes());
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options)?;
        Ok(next)
    }

    /// Adds a batch as it was read back.
    pub fn add_frame(&self, frame: &Frame, place: Place) -> Result<u64, IndexError> {
        self.add(frame.first, frame.items.iter().map(|item| (&item.dedup, item.process.as_str())), place)
    }

    /// The index of the entry with this identity.
    pub fn find(&self, dedup: &[u8; 32]) -> Result<Option<u64>, IndexError> {
        Ok(self.db.get_pinned(dedup_key(dedup))?.map(|value| number(&value)))
    }

    /// The indexes of the entries of a process, ascending.
    pub fn by_process(&self, process: &str) -> Result<Vec<u64>, IndexError> {
        let prefix = process_prefix(process);
        let mut found = Vec::new();
        for pair in self.db.iterator(IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, _) = pair?;
            match key.strip_prefix(prefix.as_slice()) {
                Some(rest) => found.push(number(rest)),
                None => break,
            }
        }
        Ok(found)
    }

    /// The first entry and the place of the batch that entry `index` is in.
    pub fn frame_of(&self, index: u64) -> Result<Option<(u64, Place)>, IndexError> {
        let start = frame_key(index);
        let mut before = self.db.iterator(IteratorMode::From(&start, Direction::Reverse));
        let Some(pair) = before.next() else { return Ok(None) };
        let (key, value) = pair?;
        let Some(first) = key.strip_prefix(&[FRAME]) else { return Ok(None) };
        let (segment, offset) = value.split_at_checked(8).unwrap_or_default();
        Ok(Some((number(first), Place { segment: number(segment), offset: number(offset) })))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // So that the next start finds it complete; if it cannot be written, the segments say what is lacking.
        if let Err(error) = self.db.flush() {
            tracing::warn!(%error, "index not flushed");
        }
    }
}

/// The index as the threads of a ledger share it. It lags behind the log by the batches that are being added.
pub(crate) struct SharedIndex {
    /// Nothing while it cannot be opened (a full disk).
    index: RwLock<Option<Index>>,
    progress: Mutex<Progress>,
    grown: Condvar,
}

struct Progress {
    /// How many entries are durable.
    durable: u64,
    /// How many of them the index has.
    indexed: u64,
    is_open: bool,
    state: State,
}

/// What is known of the files of an index that is to be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It could not be written for a while.
    Behind,
    /// A part of it does not have its checksum.
    Damaged,
}

impl SharedIndex {
    /// An index that has all `size` entries.
    pub fn new(index: Index, size: u64) -> Self {
        let progress = Progress { durable: size, indexed: size, is_open: true, state: State::Behind };
        Self { index: RwLock::new(Some(index)), progress: Mutex::new(progress), grown: Condvar::new() }
    }

    /// Opens the index again after a failure; `open` is told what is known of it and how many entries are durable, and
    /// brings it up to them.
    pub fn ready<E>(&self, open: impl FnOnce(State, u64) -> Result<Index, E>) -> Result<(), E> {
        if self.progress().is_open {
            return Ok(());
        }
        let mut guard = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if self.progress().is_open {
            return Ok(()); // Another thread has opened it.
        }
        // A batch that was passed over while there was no index is durable by now.
        let (state, durable) = {
            let progress = self.progress();
            (progress.state, progress.durable)
        };
        *guard = Some(open(state, durable)?);
        let mut progress = self.progress();
        progress.indexed = progress.indexed.max(durable);
        (progress.is_open, progress.state) = (true, State::Behind);
        Ok(())
    }

    /// Says that this many entries are durable.
    pub fn set_durable(&self, size: u64) {
        self.progress().durable = size;
    }

    /// How many entries it has.
    pub fn size(&self) -> u64 {
        self.progress().indexed
    }

    /// Adds a durable batch; where that fails the index is closed, and brought up to the log when it is opened again.
    pub fn add(&self, first: u64, names: &[([u8; 32], String)], place: Place) {
        let guard = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let Some(index) = guard.as_ref() else { return };
        let added = index.add(first, names.iter().map(|(dedup, process)| (dedup, process.as_str())), place);
        drop(guard);
        let mut progress = self.progress();
        match added {
            Ok(size) => progress.indexed = progress.indexed.max(size),
            Err(error) => {
                tracing::warn!(%error, "index not written; it will be rebuilt from the segments");
                progress.is_open = false;
                drop(progress);
                *self.index.write().unwrap_or_else(PoisonError::into_inner) = None;
            }
        }
        self.grown.notify_all();
    }

    /// Reads the index as it is.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn peek<T>(&self, read: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, String> {
        let guard = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let index = guard.as_ref().ok_or_else(|| "not open".to_owned())?;
        let found = read(index);
        drop(guard);
        found.map_err(|error| {
            if error.kind() == ErrorKind::Corruption {
                tracing::warn!(%error, "index is damaged; it will be rebuilt from the segments");
                let mut guard = self.index.write().unwrap_or_else(PoisonError::into_inner);
                let mut progress = self.progress();
                (progress.is_open, progress.state) = (false, State::Damaged);
                *guard = None;
            }
            error.to_string()
        })
    }

    /// Reads the index once it has everything that is durable now.
    ///
    /// # Errors
    /// What went wrong, in words.
    pub fn read<T>(&self, read: impl FnOnce(&Index) -> Result<T, IndexError>) -> Result<T, String> {
        let mut progress = self.progress();
        let wanted = progress.durable;
        while progress.is_open && progress.indexed < wanted {
            progress = self.grown.wait(progress).unwrap_or_else(PoisonError::into_inner);
        }
        drop(progress);
        self.peek(read)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b))
}

fn dedup_key(dedup: &[u8; 32]) -> Vec<u8> {
    [&[DEDUP][..], dedup].concat()
}

fn process_prefix(process: &str) -> Vec<u8> {
    let len = u16::try_from(process.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[PROCESS][..], &len, process.as_bytes()].concat()
}

fn process_key(process: &str, index: u64) -> Vec<u8> {
    [process_prefix(process), index.to_be_bytes().to_vec()].concat()
}

fn frame_key(first: u64) -> Vec<u8> {
    [&[FRAME][..], &first.to_be_bytes()].concat()
}
