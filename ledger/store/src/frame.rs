//! Batches as they stand in a segment.
//!
//! All numbers are big-endian: magic `SYLB`, version (1 byte), 3 zero bytes, first index (8), entry count (4),
//! payload length (4), root before (32), root after (32), in version 2 the SM3 root after (32), payload, CRC32C (4) over
//! everything before it. Version 1 is written by a log without a twin, version 2 by one with it. The payload is, for each
//! entry: identity (32), length of the process name (2), process name, length of the entry (2), entry.

use shuyu_tlog::{Hash, MAX_ENTRY_BYTES};

/// Largest frame, in bytes. The sequencer stops a batch at a quarter of this; one more entry always fits.
pub const MAX_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// Longest process name, in bytes.
pub const MAX_PROCESS_BYTES: usize = 512;

const MAGIC: [u8; 8] = *b"SYLB\x01\0\0\0";
const MAGIC_WITH_TWIN: [u8; 8] = *b"SYLB\x02\0\0\0";
const HEADER_BYTES: usize = 8 + 8 + 4 + 4 + 32 + 32;
const CRC_BYTES: usize = 4;

/// One entry with what the index knows about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its identity: an entry with the same is not added again.
    pub dedup: [u8; 32],
    /// The process it belongs to; empty for none.
    pub process: String,
    /// The entry.
    pub bytes: Vec<u8>,
}

/// A batch as it was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Index of the first entry.
    pub first: u64,
    /// Root of the log before the batch.
    pub previous_root: Hash,
    /// Root of the log after the batch.
    pub new_root: Hash,
    /// Root of the SM3 twin after the batch, if the log had one when it was written.
    pub twin_root: Option<Hash>,
    /// The entries, at least one.
    pub items: Vec<Item>,
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The bytes end before the frame does.
    #[error("batch is cut off")]
    Cut,
    /// The header is not one of ours, or names sizes out of bounds.
    #[error("batch header is malformed")]
    Header,
    /// The checksum does not fit.
    #[error("batch checksum does not fit")]
    Checksum,
    /// The checksum fits, but the payload is not what the header says.
    #[error("batch payload is malformed")]
    Payload,
}

/// What stands before the payload.
pub(crate) struct FrameHead {
    pub first: u64,
    pub count: usize,
    pub previous_root: Hash,
    pub new_root: Hash,
    pub twin_root: Option<Hash>,
}

/// Adds an entry to the payload of a frame.
pub(crate) fn write_item(payload: &mut Vec<u8>, item: &Item) {
    payload.extend_from_slice(&item.dedup);
    payload.extend_from_slice(&u16::try_from(item.process.len()).unwrap_or(u16::MAX).to_be_bytes());
    payload.extend_from_slice(item.process.as_bytes());
    payload.extend_from_slice(&u16::try_from(item.bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    payload.extend_from_slice(&item.bytes);
}

/// The start of a frame whose head is not known yet; entries are added with [`write_item`].
pub(crate) fn begin_frame(has_twin: bool) -> Vec<u8> {
    vec![0; HEADER_BYTES + if has_twin { 32 } else { 0 }]
}

/// Puts the head and the checksum to a frame that was begun for a log that has a twin or has none, as the head says.
pub(crate) fn finish_frame(head: &FrameHead, mut frame: Vec<u8>) -> Vec<u8> {
    let header_bytes = HEADER_BYTES + if head.twin_root.is_some() { 32 } else { 0 };
    let payload_bytes = frame.len().saturating_sub(header_bytes);
    let mut header = Vec::with_capacity(header_bytes);
    header.extend_from_slice(if head.twin_root.is_some() { &MAGIC_WITH_TWIN } else { &MAGIC });
    header.extend_from_slice(&head.first.to_be_bytes());
    header.extend_from_slice(&u32::try_from(head.count).unwrap_or(u32::MAX).to_be_bytes());
    header.extend_from_slice(&u32::try_from(payload_bytes).unwrap_or(u32::MAX).to_be_bytes());
    header.extend_from_slice(&head.previous_root.0);
    header.extend_from_slice(&head.new_root.0);
    head.twin_root.iter().for_each(|root| header.extend_from_slice(&root.0));
    frame.iter_mut().zip(header).for_each(|(place, byte)| *place = byte);
    frame.extend_from_slice(&crc32c::crc32c(&frame).to_be_bytes());
    frame
}

/// Writes a whole frame.
#[cfg(test)]
pub(crate) fn write_frame(frame: &Frame) -> Vec<u8> {
    let mut bytes = begin_frame(frame.twin_root.is_some());
    frame.items.iter().for_each(|item| write_item(&mut bytes, item));
    let Frame { first, previous_root, new_root, twin_root, items } = frame;
    let head = FrameHead {
        first: *first,
        count: items.len(),
        previous_root: *previous_root,
        new_root: *new_root,
        twin_root: *twin_root,
    };
    finish_frame(&head, bytes)
}

/// Reads the frame at the start of `bytes`; returns it with its length in bytes.
///
/// # Errors
/// [`FrameError`].
pub fn read_frame(bytes: &[u8]) -> Result<(Frame, usize), FrameError> {
    let mut reader = Reader(bytes);
    let has_twin = match reader.array::<8>()? {
        MAGIC => false,
        MAGIC_WITH_TWIN => true,
        _ => return Err(FrameError::Header),
    };
    let first = u64::from_be_bytes(reader.array()?);
    let count = u32::from_be_bytes(reader.array()?);
    let payload_bytes = u32::from_be_bytes(reader.array()?) as usize;
    let (previous_root, new_root) = (Hash(reader.array()?), Hash(reader.array()?));
    if count == 0 || MAX_FRAME_BYTES < payload_bytes || payload_bytes < count as usize * 36 {
        return Err(FrameError::Header);
    }
    let twin_root = if has_twin { Some(Hash(reader.array()?)) } else { None };
    let payload = reader.take(payload_bytes)?;
    let crc = u32::from_be_bytes(reader.array()?);
    let covered = HEADER_BYTES + if has_twin { 32 } else { 0 } + payload_bytes;
    if bytes.get(..covered).map(crc32c::crc32c) != Some(crc) {
        return Err(FrameError::Checksum);
    }
    let items = read_items(payload, count).map_err(|_| FrameError::Payload)?;
    Ok((Frame { first, previous_root, new_root, twin_root, items }, covered + CRC_BYTES))
}

fn read_items(payload: &[u8], count: u32) -> Result<Vec<Item>, FrameError> {
    let mut reader = Reader(payload);
    let mut items = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let dedup = reader.array()?;
        let len = usize::from(u16::from_be_bytes(reader.array()?));
        let process = String::from_utf8(reader.take(len)?.to_vec()).map_err(|_| FrameError::Payload)?;
        let len = usize::from(u16::from_be_bytes(reader.array()?));
        items.push(Item { dedup, process, bytes: reader.take(len)?.to_vec() });
    }
    if reader.0.is_empty() { Ok(items) } else { Err(FrameError::Payload) }
}

/// Whether a whole frame starts anywhere in `bytes`: then what is before it was not the last thing written.
pub(crate) fn has_frame(bytes: &[u8]) -> bool {
    let starts =
        bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC || *window == MAGIC_WITH_TWIN);
    starts.map(|(at, _)| at).any(|at| bytes.get(at..).is_some_and(|rest| read_frame(rest).is_ok()))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(FrameError::Cut)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(FrameError::Cut)?;
        self.0 = rest;
        Ok(*taken)
    }
}

// A process name and an entry each fit the 16-bit length before them.
const _: () = assert!(MAX_ENTRY_BYTES <= u16::MAX as usize);
const _: () = assert!(MAX_PROCESS_BYTES <= u16::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(entries: Vec<(String, Vec<u8>)>) -> Frame {
        let twin_root = entries.len().is_multiple_of(2).then_some(Hash([3; 32]));
        let items = entries.into_iter().map(|(process, bytes)| Item { dedup: [4; 32], process, bytes }).collect();
        Frame { first: 77, previous_root: Hash([1; 32]), new_root: Hash([2; 32]), twin_root, items }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let bytes = write_frame(&frame(vec![("p".to_owned(), b"entry".to_vec()), (String::new(), vec![])]));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(read_frame(&bad).is_err(), "byte {at}");
            assert_eq!(read_frame(&bytes[..at]), Err(FrameError::Cut));
        }
    }

    #[test]
    fn a_frame_is_found_behind_damage() {
        let mut bytes = b"SYLB damaged SYLB\x01\0\0\0".to_vec();
        assert!(!has_frame(&bytes));
        bytes.extend(write_frame(&frame(vec![(String::new(), vec![1])])));
        assert!(has_frame(&bytes));
    }

    proptest! {
        #[test]
        fn frames_round_trip(
            entries in proptest::collection::vec(("[a-z]{0,9}", proptest::collection::vec(any::<u8>(), 0..50)), 1..20),
            tail in proptest::collection::vec(any::<u8>(), 0..9),
        ) {
            let frame = frame(entries);
            let mut bytes = write_frame(&frame);
            let len = bytes.len();
            bytes.extend(tail);
            prop_assert_eq!(read_frame(&bytes), Ok((frame, len)));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), magic in any::<bool>()) {
            let mut all = if magic { MAGIC.to_vec() } else { Vec::new() };
            all.extend(bytes);
            prop_assert!(read_frame(&all).is_err());
        }
    }
}
