//! The second code path before a signature.
//!
//! What was just written to be served is read back: the entries of each bundle are hashed again and held against the tile
//! of their hashes, and the root of each full tile, by the recursive definition of RFC 6962, against the tile above it.
//! A leaf hash that flipped between hashing and writing (as ended the log Yeti 2022) is found before anybody believes it.

use std::fs;
use std::path::{Path, PathBuf};

use shuyu_base::HashKind;
use shuyu_tlog::tile::TILE_WIDTH;
use shuyu_tlog::{Hash, Tile, TilePath, empty_root, leaf_hash, node_hash, read_bundle};

use crate::ledger::PublishError;

/// Levels of tiles that a log of fewer than 2^63 entries has.
const LEVELS: u8 = 8;

/// Checks every file in `tlog` that the growth from `old` to `new` entries has written.
pub(crate) fn recheck(kind: HashKind, tlog: &Path, old: u64, new: u64) -> Result<(), PublishError> {
    let width = u64::from(TILE_WIDTH);
    let mut below = Vec::new();
    for level in 0..LEVELS {
        let shift = 8 * u32::from(level);
        let (from, to) = (old >> shift, new >> shift);
        if from == to {
            break;
        }
        let mut roots = Vec::new();
        let mut known = below.into_iter().peekable();
        for tile in from / width..to.div_ceil(width) {
            let Some(path) = TilePath::containing(Tile::Hashes(level), tile * width, new) else { continue };
            let hashes = read_hashes(tlog, &path)?;
            if level == 0 {
                check_entries(kind, tlog, tile * width, new, &hashes)?;
            }
            for (at, hash) in (tile * width..).zip(&hashes) {
                if known.next_if(|(index, _)| *index == at).is_some_and(|(_, root)| root != *hash) {
                    return Err(PublishError::Served { path: tlog.join(path.to_string()) });
                }
            }
            if path.width() == TILE_WIDTH {
                roots.push((tile, root_of(kind, &hashes)));
            }
        }
        below = roots;
    }
    Ok(())
}

/// The entries of the bundle that starts at `first` must hash to `hashes`.
fn check_entries(kind: HashKind, tlog: &Path, first: u64, size: u64, hashes: &[Hash]) -> Result<(), PublishError> {
    let Some(path) = TilePath::containing(Tile::Entries, first, size) else { return Ok(()) };
    let (file, bytes) = read(tlog, &path)?;
    let entries = read_bundle(&bytes, path.width()).unwrap_or_default();
    let is_same = entries.len() == hashes.len()
        && entries.iter().zip(hashes).all(|(entry, hash)| leaf_hash(kind, entry) == *hash);
    if is_same { Ok(()) } else { Err(PublishError::Served { path: file }) }
}

fn read_hashes(tlog: &Path, path: &TilePath) -> Result<Vec<Hash>, PublishError> {
    let (file, bytes) = read(tlog, path)?;
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || hashes.len() != usize::from(path.width()) {
        return Err(PublishError::Served { path: file });
    }
    Ok(hashes.iter().map(|bytes| Hash(*bytes)).collect())
}

fn read(tlog: &Path, path: &TilePath) -> Result<(PathBuf, Vec<u8>), PublishError> {
    let file = tlog.join(path.to_string());
    match fs::read(&file) {
        Ok(bytes) => Ok((file, bytes)),
        Err(source) => Err(PublishError::Io { path: file, source }),
    }
}

/// MTH of RFC 6962 section 2.1, word for word.
fn root_of(kind: HashKind, leaves: &[Hash]) -> Hash {
    match leaves {
        [] => empty_root(kind),
        [one] => *one,
        many => {
            let k = many.len().next_power_of_two() / 2;
            let (left, right) = many.split_at(k);
            node_hash(kind, &root_of(kind, left), &root_of(kind, right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shuyu_tlog::tile::{TiledTree, tile_bytes};
    use shuyu_tlog::write_bundle;

    /// A served log of `size` entries; returns its files' names.
    fn serve(tlog: &Path, kind: HashKind, size: u64) -> Vec<String> {
        let entries: Vec<Vec<u8>> = (0..size).map(|n| format!("entry {n}").into_bytes()).collect();
        let mut files = Vec::new();
        let mut tree = TiledTree::new(kind);
        for entry in &entries {
            tree.push(leaf_hash(kind, entry), |path, hashes| files.push((path, tile_bytes(hashes))));
        }
        files.extend(tree.partial_tiles().map(|(path, hashes)| (path, tile_bytes(hashes))));
        for (at, bundle) in (0_u64..).zip(entries.chunks(256)) {
            let path = TilePath::containing(Tile::Entries, at * 256, size).unwrap();
            files.push((path, write_bundle(bundle.iter().map(Vec::as_slice)).unwrap()));
        }
        for (path, bytes) in &files {
            let file = tlog.join(path.to_string());
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, bytes).unwrap();
        }
        files.into_iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn each_file_that_growth_has_written_is_checked() {
        for (kind, size) in [(HashKind::Sha256, 66_000), (HashKind::Sm3, 1000), (HashKind::Sha256, 512)] {
            let dir = tempfile::tempdir().unwrap();
            let files = serve(dir.path(), kind, size);
            for old in [0, 1, 255, 256, size - 1, size] {
                recheck(kind, dir.path(), old, size).unwrap();
            }
            for name in files.iter().rev().step_by(7).chain(files.iter().filter(|name| !name.contains("/0/"))) {
                let file = dir.path().join(name);
                let good = fs::read(&file).unwrap();
                let mut bad = good.clone();
                bad[good.len() / 2] ^= 1;
                fs::write(&file, &bad).unwrap();
                let found = recheck(kind, dir.path(), 0, size);
                assert!(matches!(&found, Err(PublishError::Served { .. })), "{name}: {found:?}");
                fs::write(&file, &good).unwrap();
            }
        }
    }
}
