//! Segment files: batches one after another, a new file every 64 MiB.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::disk;
use crate::frame::{Frame, FrameError, read_frame};

/// A new segment is begun once the last has this many bytes.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Index of the first entry of the segment; its name.
    pub segment: u64,
    /// Offset in the segment, in bytes.
    pub offset: u64,
}

/// The file of the segment that starts at entry `first`.
pub(crate) fn path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}"))
}

/// The first indexes of all segments, ascending. Files with other names are not ours and passed over.
pub(crate) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut firsts = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let name = name.to_str().filter(|name| name.len() == 20 && name.bytes().all(|b| b.is_ascii_digit()));
        firsts.extend(name.and_then(|name| name.parse::<u64>().ok()));
    }
    firsts.sort_unstable();
    Ok(firsts)
}

/// The open end of the last segment.
pub(crate) struct Writer {
    dir: PathBuf,
    first: u64,
    file: File,
    /// Durable length, in bytes.
    len: u64,
}

impl Writer {
    /// Goes on at `place` in an existing segment, cutting what is behind it; begins the segment if it is not there.
    pub fn open(dir: &Path, place: Place) -> io::Result<Self> {
        let path = path(dir, place.segment);
        let is_new = !path.exists();
        let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        if place.offset < file.metadata()?.len() {
            file.set_len(place.offset)?;
            disk::sync_data(&file, &path);
        }
        if is_new {
            disk::sync_dir(dir)?;
        }
        file.seek(SeekFrom::Start(place.offset))?;
        Ok(Self { dir: dir.to_owned(), first: place.segment, file, len: place.offset })
    }

    /// Where the next batch will stand.
    pub fn place(&self) -> Place {
        Place { segment: self.first, offset: self.len }
    }

    /// Appends a batch whose first entry is `first`; it is durable when this returns.
    ///
    /// On an error nothing of it remains; if even that cannot be made so, the process ends.
    pub fn append(&mut self, first: u64, bytes: &[u8]) -> io::Result<Place> {
        if SEGMENT_BYTES <= self.len {
            *self = Self::open(&self.dir, Place { segment: first, offset: 0 })?;
        }
        let place = self.place();
        if let Err(error) = self.file.write_all(bytes) {
            self.cut_back();
            return Err(error);
        }
        disk::sync_data(&self.file, &self.dir);
        self.len += bytes.len() as u64;
        Ok(place)
    }

    fn cut_back(&mut self) {
        let cut = self.file.set_len(self.len).and_then(|()| self.file.seek(SeekFrom::Start(self.len)));
        if let Err(error) = cut {
            // Half a batch would stay behind the last good one; start anew, where it is recognised and cut.
            disk::die_of_failed_sync(&path(&self.dir, self.first), &error);
        }
    }
}

/// Reads batches one after another, over the ends of segments.
pub(crate) struct Cursor {
    dir: PathBuf,
    place: Place,
    /// Index of the first entry of the next batch.
    next: u64,
    file: Option<File>,
    /// Bytes of the file from `place` on.
    buffer: Vec<u8>,
    consumed: usize,
}

/// Why reading on was not possible.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CursorError {
    #[error("segment could not be read")]
    Io(#[from] io::Error),
    #[error("batch at entry {next} is damaged")]
    Frame {
        next: u64,
        #[source]
        source: FrameError,
    },
    #[error("batch at entry {found} stands where {next} is due")]
    Index { next: u64, found: u64 },
}

impl Cursor {
    /// How much is read at a time, in bytes.
    const CHUNK_BYTES: u64 = 1024 * 1024;

    /// Starts at `place`, where the batch with entry `next` stands.
    pub fn new(dir: &Path, place: Place, next: u64) -> Self {
        Self { dir: dir.to_owned(), place, next, file: None, buffer: Vec::new(), consumed: 0 }
    }

    /// Where the next batch stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Index of the first entry of the next batch.
    pub fn next_index(&self) -> u64 {
        self.next
    }

    /// The next batch and where it stands; `None` at the end of the last segment.
    pub fn read(&mut self) -> Result<Option<(Frame, Place)>, CursorError> {
        loop {
            let rest = self.buffer.get(self.consumed..).unwrap_or_default();
            let is_at_end = rest.is_empty();
            match read_frame(rest) {
                Ok((frame, _)) if frame.first != self.next => {
                    return Err(CursorError::Index { next: self.next, found: frame.first });
                }
                Ok((frame, len)) => {
                    let place = self.place;
                    self.consumed += len;
                    self.place.offset += len as u64;
                    self.next += frame.items.len() as u64;
                    return Ok(Some((frame, place)));
                }
                Err(FrameError::Cut) if self.refill()? => {}
                Err(FrameError::Cut) if is_at_end => {
                    let is_next_there = self.place.segment != self.next && path(&self.dir, self.next).exists();
                    if !is_next_there {
                        return Ok(None);
                    }
                    *self = Self::new(&self.dir, Place { segment: self.next, offset: 0 }, self.next);
                }
                Err(source) => return Err(CursorError::Frame { next: self.next, source }),
            }
        }
    }

    /// Reads more of the file; `false` at its end.
    fn refill(&mut self) -> io::Result<bool> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(File::open(path(&self.dir, self.place.segment))?),
        };
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        file.seek(SeekFrom::Start(self.place.offset + self.buffer.len() as u64))?;
        Ok(0 < io::Read::by_ref(file).take(Self::CHUNK_BYTES).read_to_end(&mut self.buffer)?)
    }
}
