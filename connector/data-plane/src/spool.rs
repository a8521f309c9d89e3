//! Finished results on disk, so that a broken download goes on where it stopped.
//!
//! A segment is a file named by the BLAKE3 of its bytes. A small record beside it says whose it is, so segments
//! survive a restart of the node. Segments live for a while and within a quota; nothing else is promised of them.

use std::{
    collections::HashMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use shuyu_base::UnixMillis;

use crate::{clock, gate::Form};

/// What the spool may take.
#[derive(Clone, Copy, Debug)]
pub struct SpoolLimits {
    /// Largest result.
    pub max_segment_bytes: u64,
    /// All results together; the oldest make room.
    pub max_total_bytes: u64,
    /// How long a segment can be resumed, in milliseconds from its making.
    pub lifetime_ms: i64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { max_segment_bytes: 16 << 30, max_total_bytes: 64 << 30, lifetime_ms: 60 * 60 * 1000 }
    }
}

/// Why the spool failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// The result is larger than a segment may be.
    #[error("the result is larger than {limit_bytes} bytes; ask for less, or use Flight SQL")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The disk failed or is full.
    #[error("could not write `{path}`")]
    Disk {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// One finished result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) use_id: String,
    pub(crate) form: Form,
    pub(crate) hash: blake3::Hash,
    pub(crate) size_bytes: u64,
    pub(crate) rows: u64,
    pub(crate) made_at: UnixMillis,
    /// Bytes that broken downloads had spent and not sent; the next download of this use takes them over.
    pub(crate) spare_bytes: u64,
    /// The holder's receipt, once the last byte was sent.
    pub(crate) receipt: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SegmentV1 {
    v: u8,
    use_id: String,
    form: String,
    blake3: String,
    size_bytes: u64,
    rows: u64,
    made_ms: i64,
    spare_bytes: u64,
    receipt: Option<String>,
}

/// The directory of segments.
#[derive(Debug)]
pub struct Spool {
    dir: PathBuf,
    limits: SpoolLimits,
    segments: Mutex<HashMap<String, Segment>>,
    making: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Spool {
    /// Opens a directory, taking up the segments of an earlier run.
    ///
    /// # Errors
    /// [`SpoolError::Disk`].
    pub fn open(dir: &Path, limits: SpoolLimits) -> Result<Arc<Self>, SpoolError> {
        let disk = |source| SpoolError::Disk { path: dir.to_owned(), source };
        fs::create_dir_all(dir).map_err(disk)?;
        private(dir, 0o700).map_err(disk)?;
        let mut segments = HashMap::new();
        for entry in fs::read_dir(dir).map_err(disk)? {
            let path = entry.map_err(disk)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if name.ends_with(".part") {
                let _gone = fs::remove_file(&path);
            } else if let Some(key) = name.strip_suffix(".record")
                && let Some(segment) = fs::read(&path).ok().as_deref().and_then(read_record)
            {
                segments.insert(key.to_owned(), segment);
            }
        }
        let spool = Self { dir: dir.to_owned(), limits, segments: Mutex::new(segments), making: Mutex::default() };
        Ok(Arc::new(spool))
    }

    fn segments(&self) -> std::sync::MutexGuard<'_, HashMap<String, Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else is making the segment of this key.
    pub(crate) async fn alone(&self, key: &str) -> tokio::sync::OwnedMutexGuard<()> {
        let lock = {
            let mut making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            making.retain(|_, lock| Arc::strong_count(lock) > 1);
            making.entry(key.to_owned()).or_default().clone()
        };
        lock.lock_owned().await
    }

    /// The segment of a key, if it lives and its file is whole.
    pub(crate) fn find(&self, key: &str) -> Option<Segment> {
        let segment = self.segments().get(key).cloned()?;
        let is_young = clock::now().since(segment.made_at) < self.limits.lifetime_ms;
        let is_whole = fs::metadata(self.path(&segment)).is_ok_and(|file| file.len() == segment.size_bytes);
        (is_young && is_whole).then_some(segment)
    }

    /// Where a segment's bytes are.
    pub(crate) fn path(&self, segment: &Segment) -> PathBuf {
        self.dir.join(format!("{}.{}", segment.hash.to_hex(), segment.form.word()))
    }

    /// A new file to write a result into.
    pub(crate) fn begin(&self) -> Result<Writer, SpoolError> {
        let path = self.dir.join(format!("{}.part", uuid::Uuid::new_v4().simple()));
        let disk = |source| SpoolError::Disk { path: path.clone(), source };
        let file = fs::OpenOptions::new().write(true).create_new(true).open(&path).map_err(disk)?;
        private(&path, 0o600).map_err(disk)?;
        let limit_bytes = self.limits.max_segment_bytes;
        Ok(Writer {
            file: io::BufWriter::with_capacity(1 << 20, file),
            path,
            hash: blake3::Hasher::new(),
            bytes: 0,
            limit_bytes,
        })
    }

    /// Puts a written result in place and makes it findable; gives back what had to go, for their uses to be ended.
    pub(crate) fn keep(&self, key: &str, writer: Writer, segment: &Segment) -> Result<Vec<Segment>, SpoolError> {
        let target = self.path(segment);
        writer.settle(&target)?;
        self.write_record(key, segment)?;
        let before = self.segments().insert(key.to_owned(), segment.clone());
        let mut gone = self.sweep(clock::now());
        gone.extend(before.filter(|before| before.receipt.is_none()));
        Ok(gone)
    }

    fn write_record(&self, key: &str, segment: &Segment) -> Result<(), SpoolError> {
        let dto = SegmentV1 {
            v: 1,
            use_id: segment.use_id.clone(),
            form: segment.form.word().to_owned(),
            blake3: segment.hash.to_hex().to_string(),
            size_bytes: segment.size_bytes,
            rows: segment.rows,
            made_ms: segment.made_at.0,
            spare_bytes: segment.spare_bytes,
            receipt: segment.receipt.clone(),
        };
        let path = self.dir.join(format!("{key}.record"));
        let part = self.dir.join(format!("{key}-{}.part", uuid::Uuid::new_v4().simple()));
        let disk = |source| SpoolError::Disk { path: path.clone(), source };
        // A struct of strings and numbers always has a JSON form.
        fs::write(&part, serde_json::to_vec(&dto).unwrap_or_default()).map_err(disk)?;
        fs::rename(&part, &path).map_err(disk)
    }

    /// Adds what a broken download had spent and not sent. Best effort: what cannot be recorded stays spent.
    pub(crate) fn add_spare(&self, key: &str, use_id: &str, bytes: u64) {
        self.update(key, use_id, |segment| segment.spare_bytes = segment.spare_bytes.saturating_add(bytes));
    }

    /// Takes the spare bytes, each of them once: nobody has them before it is recorded that they are taken.
    pub(crate) fn take_spare(&self, key: &str, use_id: &str) -> u64 {
        let mut taken = 0;
        let is_recorded = self.update(key, use_id, |segment| taken = std::mem::take(&mut segment.spare_bytes));
        if is_recorded { taken } else { 0 }
    }

    /// Keeps the receipt of a finished use.
    pub(crate) fn put_receipt(&self, key: &str, use_id: &str, receipt: String) {
        self.update(key, use_id, |segment| segment.receipt = Some(receipt));
    }

    /// Changes what is known of a segment, if it is still of the same use; whether that is on disk.
    fn update(&self, key: &str, use_id: &str, change: impl FnOnce(&mut Segment)) -> bool {
        let mut segments = self.segments();
        let Some(segment) = segments.get_mut(key).filter(|segment| segment.use_id == use_id) else { return false };
        change(segment);
        match self.write_record(key, segment) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "could not record a download's progress");
                false
            }
        }
    }

    /// Whether the result of this use is here and its download can go on.
    pub fn holds(&self, use_id: &str) -> bool {
        self.segments().values().any(|segment| segment.use_id == use_id)
    }

    /// The receipt of a use, once there is one.
    pub(crate) fn receipt(&self, use_id: &str) -> Option<String> {
        self.segments().values().find(|segment| segment.use_id == use_id)?.receipt.clone()
    }

    /// Removes what is too old or too much, oldest first. Gives back the removed segments without a receipt.
    pub(crate) fn sweep(&self, now: UnixMillis) -> Vec<Segment> {
        let mut segments = self.segments();
        let mut by_age: Vec<_> = segments.iter().map(|(key, segment)| (segment.made_at, key.clone())).collect();
        by_age.sort();
        let mut total: u64 = segments.values().map(|segment| segment.size_bytes).sum();
        let mut unfinished = Vec::new();
        for (made_at, key) in by_age {
            let is_old = now.since(made_at) >= self.limits.lifetime_ms;
            if !is_old && total <= self.limits.max_total_bytes {
                break;
            }
            let Some(segment) = segments.remove(&key) else { continue };
            total = total.saturating_sub(segment.size_bytes);
            let _gone = fs::remove_file(self.dir.join(format!("{key}.record")));
            let is_shared = segments.values().any(|other| other.hash == segment.hash && other.form == segment.form);
            if !is_shared {
                let _gone = fs::remove_file(self.path(&segment));
            }
            if segment.receipt.is_none() {
                unfinished.push(segment);
            }
        }
        unfinished
    }
}

fn read_record(bytes: &[u8]) -> Option<Segment> {
    let dto: SegmentV1 = serde_json::from_slice(bytes).ok().filter(|dto: &SegmentV1| dto.v == 1)?;
    Some(Segment {
        use_id: dto.use_id,
        form: dto.form.parse().ok()?,
        hash: blake3::Hash::from_hex(dto.blake3).ok()?,
        size_bytes: dto.size_bytes,
        rows: dto.rows,
        made_at: UnixMillis(dto.made_ms),
        spare_bytes: dto.spare_bytes,
        receipt: dto.receipt,
    })
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(not(unix))]
fn private(_: &Path, _: u32) -> io::Result<()> {
    Ok(())
}

/// A result being written; dropped before [`Spool::keep`], it leaves nothing behind.
pub(crate) struct Writer {
    file: io::BufWriter<fs::File>,
    path: PathBuf,
    hash: blake3::Hasher,
    bytes: u64,
    limit_bytes: u64,
}

impl Writer {
    /// Hash and size so far.
    pub(crate) fn so_far(&self) -> (blake3::Hash, u64) {
        (self.hash.finalize(), self.bytes)
    }

    /// The limit, if it stopped the writing.
    pub(crate) fn overrun(&self) -> Option<SpoolError> {
        (self.bytes > self.limit_bytes).then_some(SpoolError::TooLarge { limit_bytes: self.limit_bytes })
    }

    fn settle(mut self, target: &Path) -> Result<(), SpoolError> {
        let done = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        done.and_then(|()| fs::rename(&self.path, target))
            .map_err(|source| SpoolError::Disk { path: target.to_owned(), source })
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.saturating_add(bytes.len() as u64) > self.limit_bytes {
            self.bytes = u64::MAX;
            return Err(io::Error::from(io::ErrorKind::FileTooLarge));
        }
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}
