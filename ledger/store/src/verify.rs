//! Re-verification of a log directory, by nothing but its files and the log's key.

use std::io;
use std::path::{Path, PathBuf};

use shuyu_base::HashKind;
use shuyu_tlog::tile::tile_bytes;
use shuyu_tlog::{Checkpoint, LogVerifier, SignedCheckpoint, Tile, TilePath, Vkey, read_bundle};

use crate::disk;
use crate::ledger::{LogPaths, Paths};
use crate::publish::Lane;
use crate::segment::{self, Cursor, CursorError, Place};

/// What a verified log is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogReport {
    /// The signed head that everything was held against.
    pub head: Checkpoint,
    /// Bytes of all entries.
    pub entry_bytes: u64,
    /// How many tiles of hashes were compared.
    pub tile_count: u64,
    /// Whether the writer's segments were there and compared too.
    pub has_segments: bool,
}

/// Why a log is not verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The files were read, and they are not what the log signed.
    #[error("log does not hold: {detail}")]
    DoesNotHold {
        /// What is wrong, with the file or index.
        detail: String,
    },
    /// There is nothing to judge: a file cannot be read, or the checkpoint is no checkpoint.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// Which one.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Verifies every entry, bundle and tile of the log in `path` against its checkpoint signed with `key`.
///
/// `path` is the served directory, a mirror of it, or the directory of a ledger; of the last the segments and the kept
/// checkpoint are compared too. A file that the signed head calls for and that is not there does not hold.
///
/// # Errors
/// [`VerifyError::DoesNotHold`] and [`VerifyError::Unreadable`].
pub fn verify_dir(path: &Path, key: &Vkey) -> Result<LogReport, VerifyError> {
    verify(path, &Paths::of(path).log, Lane::Log, key)
}

/// As [`verify_dir`], of the SM3 twin: `path` is its served directory, a mirror of it, or the directory of a ledger.
///
/// # Errors
/// [`VerifyError`].
pub fn verify_twin_dir(path: &Path, key: &Vkey) -> Result<LogReport, VerifyError> {
    verify(path, &Paths::of(path).twin, Lane::Twin, key)
}

fn verify(path: &Path, own: &LogPaths, lane: Lane, key: &Vkey) -> Result<LogReport, VerifyError> {
    let kind = lane.tree_hash();
    if key.kind().tree_hash() != kind {
        return fault(format!("`{key}` is no key of a log hashed with {}", kind.name()));
    }
    let is_ledger = own.tlog.is_dir();
    let served = if is_ledger { own.tlog.clone() } else { path.to_owned() };
    let head = read_head(&served.join("checkpoint"), key)?.ok_or_else(|| VerifyError::Unreadable {
        path: served.join("checkpoint"),
        source: io::Error::from(io::ErrorKind::NotFound).into(),
    })?;
    let mut heads = vec![head.clone()];
    if is_ledger && let Some(kept) = read_head(&own.high_water, key)? {
        // A crash between keeping and showing leaves the kept one ahead; the next start shows it.
        heads.extend((kept.size <= head.size).then_some(kept));
    }
    let mut report = LogReport { head, entry_bytes: 0, tile_count: 0, has_segments: false };
    verify_served(kind, &served, &heads, &mut report)?;
    let segments = path.join("segments");
    if is_ledger && segments.is_dir() {
        verify_segments(kind, &segments, &report.head)?;
        report.has_segments = true;
    }
    Ok(report)
}

fn read_head(path: &Path, key: &Vkey) -> Result<Option<Checkpoint>, VerifyError> {
    let Some(bytes) = disk::read_if_there(path).map_err(|source| unreadable(path, source))? else { return Ok(None) };
    match SignedCheckpoint::open(&bytes, key) {
        Ok(signed) => Ok(Some(signed.checkpoint().clone())),
        Err(error) if error.is_unreadable() => Err(unreadable(path, error)),
        Err(error) => fault(format!("`{}`: {error}", path.display())),
    }
}

fn verify_served(
    kind: HashKind,
    served: &Path,
    heads: &[Checkpoint],
    report: &mut LogReport,
) -> Result<(), VerifyError> {
    let size = report.head.size;
    let mut verifier = LogVerifier::new(kind, heads).or_else(|error| fault(error.to_string()))?;
    let mut wrong_tile = None;
    let mut at = 0;
    while at < size {
        let Some(path) = TilePath::containing(Tile::Entries, at, size) else { break };
        let (found, bytes) = read_tile(served, path)?;
        let entries = read_bundle(&bytes, found.width()).or_else(|error| fault(format!("`{found}`: {error}")))?;
        for entry in entries.into_iter().take(usize::from(path.width())) {
            report.entry_bytes += entry.len() as u64;
            let mut full = Vec::new();
            let pushed = verifier.push(entry, |path, hashes| full.push((path, tile_bytes(hashes))));
            // The tile says more than the root: it names the place.
            for (path, expected) in full {
                compare_tile(served, path, &expected, &mut wrong_tile)?;
                report.tile_count += 1;
            }
            if let Err(error) = pushed {
                let place = locate(kind, served, size);
                return fault(wrong_tile.or(place).unwrap_or_else(|| error.to_string()));
            }
        }
        at += u64::from(path.width());
    }
    let tree = verifier.finish().or_else(|error| fault(error.to_string()))?;
    for (path, hashes) in tree.partial_tiles() {
        compare_tile(served, path, &tile_bytes(hashes), &mut wrong_tile)?;
        report.tile_count += 1;
    }
    wrong_tile.map_or(Ok(()), fault)
}

fn compare_tile(served: &Path, path: TilePath, expected: &[u8], wrong: &mut Option<String>) -> Result<(), VerifyError> {
    let (found, mut bytes) = read_tile(served, path)?;
    if found != path {
        bytes.truncate(expected.len());
    }
    if bytes != expected && wrong.is_none() {
        let bundle =
            TilePath::new(Tile::Entries, path.index(), path.width()).filter(|_| path.tile() == Tile::Hashes(0));
        *wrong = Some(match bundle {
            Some(bundle) => format!("`{path}` is not what the entries in `{bundle}` hash to"),
            None => format!("`{path}` is not what the entries hash to"),
        });
    }
    Ok(())
}

/// Where the entries and the tiles of level 0 part.
fn locate(kind: HashKind, served: &Path, size: u64) -> Option<String> {
    let mut at = 0;
    while at < size {
        let path = TilePath::containing(Tile::Entries, at, size)?;
        let hashes = read_tile(served, TilePath::containing(Tile::Hashes(0), at, size)?).ok()?.1;
        let (found, bytes) = read_tile(served, path).ok()?;
        let entries = read_bundle(&bytes, found.width()).ok()?;
        for ((index, entry), hash) in (at..).zip(entries).zip(hashes.as_chunks::<32>().0) {
            if shuyu_tlog::leaf_hash(kind, entry).0 != *hash {
                return Some(format!("entry {index} in `{found}` is not what was signed at size {size}"));
            }
        }
        at += u64::from(path.width());
    }
    None
}

/// The tile, or the full one at its place that has grown from it.
fn read_tile(served: &Path, path: TilePath) -> Result<(TilePath, Vec<u8>), VerifyError> {
    for path in [path, path.full()] {
        let file = served.join(path.to_string());
        if let Some(bytes) = disk::read_if_there(&file).map_err(|source| unreadable(&file, source))? {
            return Ok((path, bytes));
        }
    }
    fault(format!("`{path}` is not there"))
}

/// The segments must hold the same entries; what is behind the head is not signed yet.
fn verify_segments(kind: HashKind, dir: &Path, head: &Checkpoint) -> Result<(), VerifyError> {
    let mut verifier = LogVerifier::new(kind, [head]).or_else(|error| fault(error.to_string()))?;
    if segment::list(dir).map_err(|source| unreadable(dir, source))?.is_empty() && head.size == 0 {
        return Ok(());
    }
    let mut cursor = Cursor::new(dir, Place { segment: 0, offset: 0 }, 0);
    let mut size = 0;
    while size < head.size {
        let frame = match cursor.read() {
            Ok(Some((frame, _))) => frame,
            Ok(None) => break,
            Err(CursorError::Io(source)) => return Err(unreadable(dir, source)),
            Err(error) => return fault(format!("segments: {error}")),
        };
        for item in frame.items.iter().take(usize::try_from(head.size - size).unwrap_or(usize::MAX)) {
            verifier.push(&item.bytes, |_, _| ()).or_else(|error| fault(format!("segments: {error}")))?;
            size += 1;
        }
    }
    verifier.finish().map(drop).or_else(|error| fault(format!("segments: {error}")))
}

fn fault<T>(detail: String) -> Result<T, VerifyError> {
    Err(VerifyError::DoesNotHold { detail })
}

fn unreadable(path: &Path, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> VerifyError {
    VerifyError::Unreadable { path: path.to_owned(), source: source.into() }
}
