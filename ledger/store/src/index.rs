//! The RocksDB index: identities, processes and places of batches. Everything in it can be rebuilt from the segments.

use std::path::Path;

use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch};

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
        options.set_write_buffer_size(4 * 1024 * 1024);
        options.set_max_total_wal_size(8 * 1024 * 1024);
        options.set_max_open_files(64);
        options.set_keep_log_file_num(2);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        Ok(Self { db: DB::open(&options, dir)? })
    }

    /// How many entries it covers.
    pub fn size(&self) -> Result<u64, IndexError> {
        Ok(self.db.get_pinned(SIZE)?.map_or(0, |value| number(&value)))
    }

    /// Adds a batch. Not synced: after a crash the index is behind, and the segments say what is lacking.
    pub fn add(&self, frame: &Frame, place: Place) -> Result<(), IndexError> {
        let mut batch = WriteBatch::default();
        let mut next = frame.first;
        for item in &frame.items {
            batch.put(dedup_key(&item.dedup), next.to_be_bytes());
            if !item.process.is_empty() {
                batch.put(process_key(&item.process, next), []);
            }
            next += 1;
        }
        let mut value = place.segment.to_be_bytes().to_vec();
        value.extend_from_slice(&place.offset.to_be_bytes());
        batch.put(frame_key(frame.first), value);
        batch.put(SIZE, next.to_be_bytes());
        self.db.write(batch)
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
