//! Tiles: the tree cut into files of 256 hashes (tlog-tiles, "Merkle Tree").

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::str::FromStr;

use shuyu_base::HashKind;

use crate::decimal;
use crate::merkle::{Hash, HashSource, ProveError, Tree, node_hash};

/// Hashes in a full tile, and entries in a full bundle.
pub const TILE_WIDTH: u16 = 256;

/// Levels of the tree that one tile spans.
pub const TILE_HEIGHT: u32 = 8;

/// Longest tile path accepted, in bytes: six path elements of four bytes, the level and the partial suffix fit twice.
pub const MAX_PATH_BYTES: usize = 80;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tile {
    /// Hashes of the given tile level: each stands for `256^level` entries. At most 63.
    Hashes(u8),
    /// The entries themselves, one bundle for each tile of level 0.
    Entries,
}

/// The name of a tile or entry bundle: `tile/<L>/<N>[.p/<W>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TilePath {
    tile: Tile,
    index: u64,
    /// Invariant: 1 to 256; 256 is the full tile.
    width: u16,
}

/// Why a text is not the name of a tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a tile path of the form `tile/<level>/<index>[.p/<width>]`")]
pub struct ParseTilePathError;

impl TilePath {
    /// Names a tile; `None` unless `width` is 1 to 256, the level at most 63 and `index` below 2^55.
    pub fn new(tile: Tile, index: u64, width: u16) -> Option<Self> {
        let level_fits = match tile {
            Tile::Hashes(level) => level <= 63,
            Tile::Entries => true,
        };
        (level_fits && (1..=TILE_WIDTH).contains(&width) && index < 1 << 55).then_some(Self { tile, index, width })
    }

    /// What the tile holds.
    pub fn tile(&self) -> Tile {
        self.tile
    }

    /// Position among the tiles of its level, from 0.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// The full tile at the same place.
    #[must_use]
    pub fn full(&self) -> Self {
        Self { width: TILE_WIDTH, ..*self }
    }

    /// The tile of `level` that has item `item` of that level in a tree of `size` entries, as wide as it is there.
    pub fn containing(tile: Tile, item: u64, size: u64) -> Option<Self> {
        let level = match tile {
            Tile::Hashes(level) => u32::from(level),
            Tile::Entries => 0,
        };
        let items = size.checked_shr(TILE_HEIGHT * level).unwrap_or(0);
        let index = item >> TILE_HEIGHT;
        let width = items.saturating_sub(index << TILE_HEIGHT).min(u64::from(TILE_WIDTH));
        Self::new(tile, index, u16::try_from(width).ok()?)
    }
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tile {
            Tile::Hashes(level) => write!(f, "tile/{level}")?,
            Tile::Entries => f.write_str("tile/entries")?,
        }
        let mut elements = vec![self.index % 1000];
        let mut rest = self.index / 1000;
        while rest != 0 {
            elements.push(rest % 1000);
            rest /= 1000;
        }
        for (left, element) in elements.iter().enumerate().rev() {
            write!(f, "/{}{element:03}", if left == 0 { "" } else { "x" })?;
        }
        if self.width < TILE_WIDTH {
            write!(f, ".p/{}", self.width)?;
        }
        Ok(())
    }
}

impl FromStr for TilePath {
    type Err = ParseTilePathError;

    /// Accepts exactly what `Display` prints.
    fn from_str(text: &str) -> Result<Self, ParseTilePathError> {
        let parsed = parse_path(text).ok_or(ParseTilePathError)?;
        // One spelling only: leading `x000` elements, for example, are refused here.
        if parsed.to_string() == text { Ok(parsed) } else { Err(ParseTilePathError) }
    }
}

fn parse_path(text: &str) -> Option<TilePath> {
    if MAX_PATH_BYTES < text.len() {
        return None;
    }
    let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let tile =
        if level == "entries" { Tile::Entries } else { Tile::Hashes(u8::try_from(decimal::parse(level)?).ok()?) };
    let (digits, width) = match rest.split_once(".p/") {
        Some((digits, width)) => {
            (digits, u16::try_from(decimal::parse(width)?).ok().filter(|w| (1..TILE_WIDTH).contains(w))?)
        }
        None => (rest, TILE_WIDTH),
    };
    let mut index: u64 = 0;
    for element in digits.split('/') {
        let three = element.strip_prefix('x').unwrap_or(element);
        if three.len() != 3 || !three.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        index = index.checked_mul(1000)?.checked_add(three.parse().ok()?)?;
    }
    TilePath::new(tile, index, width)
}

/// Every tile and bundle that a tree of `size` entries consists of.
pub fn tiles_of(size: u64) -> Vec<TilePath> {
    new_tiles(0, size)
}

/// The tiles and bundles that a tree of `new` entries has and one of `old` entries had not: the full ones that have
/// become full and the partial ones at the new right edge.
pub fn new_tiles(old: u64, new: u64) -> Vec<TilePath> {
    let mut paths = Vec::new();
    let mut add = |tile: Tile, old: u64, new: u64| {
        if new <= old {
            return;
        }
        let width = u64::from(TILE_WIDTH);
        paths.extend((old / width..new / width).filter_map(|index| TilePath::new(tile, index, TILE_WIDTH)));
        let partial = u16::try_from(new % width).unwrap_or_default();
        paths.extend(TilePath::new(tile, new / width, partial));
    };
    add(Tile::Entries, old, new);
    for level in 0..8_u8 {
        let shift = TILE_HEIGHT * u32::from(level);
        add(Tile::Hashes(level), old >> shift, new >> shift);
    }
    paths
}

/// A tree that also keeps the unfinished tiles of its right edge, and so can write tiles as it grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TiledTree {
    tree: Tree,
    /// For each tile level the hashes of its unfinished tile, at most 255 each.
    rows: Vec<Vec<Hash>>,
}

impl TiledTree {
    /// A tree without leaves.
    pub fn new(kind: HashKind) -> Self {
        Self { tree: Tree::new(kind), rows: Vec::new() }
    }

    /// The tree of `size` leaves whose hashes `source` holds.
    ///
    /// # Errors
    /// When `source` lacks a hash.
    pub fn load<S: HashSource>(kind: HashKind, size: u64, source: &S) -> Result<Self, ProveError<S::Error>> {
        let tree = Tree::load(kind, size, source)?;
        let mut rows = Vec::new();
        for level in (0..64).step_by(8) {
            let items = size >> level;
            if items == 0 {
                break;
            }
            let from = items - items % u64::from(TILE_WIDTH);
            let hashes = (from..items).map(|index| source.hash(level, index)).collect::<Result<_, _>>();
            rows.push(hashes.map_err(ProveError::Source)?);
        }
        Ok(Self { tree, rows })
    }

    /// Appends a leaf by its hash; `full` receives every tile of hashes that it fills.
    pub fn push(&mut self, leaf: Hash, mut full: impl FnMut(TilePath, &[Hash])) {
        let rows = &mut self.rows;
        self.tree.push_with(leaf, |level, index, hash| {
            if !level.is_multiple_of(TILE_HEIGHT) {
                return;
            }
            let row = usize::try_from(level / TILE_HEIGHT).unwrap_or_default();
            if rows.len() <= row {
                rows.resize_with(row + 1, Vec::new);
            }
            let Some(hashes) = rows.get_mut(row) else { return };
            hashes.push(hash);
            if hashes.len() == usize::from(TILE_WIDTH) {
                let level = u8::try_from(row).unwrap_or_default();
                if let Some(path) = TilePath::new(Tile::Hashes(level), index >> TILE_HEIGHT, TILE_WIDTH) {
                    full(path, hashes);
                }
                hashes.clear();
            }
        });
    }

    /// The unfinished tiles of the right edge, those without a hash left out.
    pub fn partial_tiles(&self) -> impl Iterator<Item = (TilePath, &[Hash])> {
        let size = self.tree.size();
        self.rows.iter().enumerate().filter_map(move |(row, hashes)| {
            let shift = TILE_HEIGHT * u32::try_from(row).ok()?;
            let width = u16::try_from(hashes.len()).ok()?;
            let path =
                TilePath::new(Tile::Hashes(u8::try_from(row).ok()?), size.checked_shr(shift)? >> TILE_HEIGHT, width)?;
            Some((path, hashes.as_slice()))
        })
    }

    /// The tree itself.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// The bytes of a tile of hashes.
pub fn tile_bytes(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Why a hash could not be had from tiles.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TileError<E> {
    /// The tile could not be read.
    #[error("tile `{path}` could not be read")]
    Read {
        /// Which one.
        path: TilePath,
        /// Why.
        #[source]
        source: E,
    },
    /// The tile has another length than its width calls for.
    #[error("tile `{path}` is {len_bytes} bytes long")]
    Length {
        /// Which one.
        path: TilePath,
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// The hash lies outside the tree.
    #[error("no hash at level {level}, index {index} in this tree")]
    Outside {
        /// Level asked for, leaves being 0.
        level: u32,
        /// Index asked for at that level.
        index: u64,
    },
}

/// Hashes of the tree of a given size, taken from tiles that `read` fetches by their path.
///
/// Each tile is fetched once and kept, so use one value for one proof. The hashes are as good as the tiles:
/// compare the root they lead to with a signed one before believing them.
pub struct TileHashes<F> {
    kind: HashKind,
    size: u64,
    read: F,
    seen: RefCell<BTreeMap<TilePath, Vec<Hash>>>,
}

impl<F> TileHashes<F> {
    /// Hashes of the tree of `size` entries.
    pub fn new(kind: HashKind, size: u64, read: F) -> Self {
        Self { kind, size, read, seen: RefCell::new(BTreeMap::new()) }
    }
}

impl<E, F: Fn(&TilePath) -> Result<Vec<u8>, E>> HashSource for TileHashes<F> {
    type Error = TileError<E>;

    fn hash(&self, level: u32, index: u64) -> Result<Hash, TileError<E>> {
        let outside = TileError::Outside { level, index };
        let (Some(row), within) = (u8::try_from(level / TILE_HEIGHT).ok(), level % TILE_HEIGHT) else {
            return Err(outside);
        };
        let Some(first) = index.checked_mul(1 << within) else { return Err(outside) };
        let Some(path) = TilePath::containing(Tile::Hashes(row), first, self.size) else { return Err(outside) };
        let mut seen = self.seen.borrow_mut();
        let tile = match seen.entry(path) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(place) => {
                let bytes = (self.read)(&path).map_err(|source| TileError::Read { path, source })?;
                if bytes.len() != usize::from(path.width()) * 32 {
                    return Err(TileError::Length { path, len_bytes: bytes.len() });
                }
                let (hashes, _) = bytes.as_chunks::<32>();
                place.insert(hashes.iter().map(|bytes| Hash(*bytes)).collect())
            }
        };
        let from = usize::try_from(first % u64::from(TILE_WIDTH)).unwrap_or_default();
        let Some(hashes) = tile.get(from..from + (1 << within)) else { return Err(outside) };
        let mut hashes = hashes.to_vec();
        while 1 < hashes.len() {
            let (pairs, _) = hashes.as_chunks::<2>();
            hashes = pairs.iter().map(|[left, right]| node_hash(self.kind, left, right)).collect();
        }
        hashes.first().copied().ok_or(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{leaf_hash, prove_consistency, prove_inclusion, verify_consistency, verify_inclusion};
    use proptest::prelude::*;

    /// The examples in the text of tlog-tiles.
    #[test]
    fn the_examples_of_the_specification() {
        assert_eq!(TilePath::new(Tile::Hashes(0), 1_234_067, 256).unwrap().to_string(), "tile/0/x001/x234/067");
        assert_eq!(TilePath::new(Tile::Entries, 0, 8).unwrap().to_string(), "tile/entries/000.p/8");
        let paths = tiles_of(70_000);
        let count =
            |tile: Tile, full: bool| paths.iter().filter(|p| p.tile() == tile && (p.width() == 256) == full).count();
        assert_eq!((count(Tile::Hashes(0), true), count(Tile::Hashes(0), false)), (273, 1));
        assert_eq!((count(Tile::Hashes(1), true), count(Tile::Hashes(1), false)), (1, 1));
        assert_eq!((count(Tile::Hashes(2), true), count(Tile::Hashes(2), false)), (0, 1));
        for path in ["tile/0/273.p/112", "tile/1/001.p/17", "tile/2/000.p/1", "tile/entries/273.p/112"] {
            assert!(paths.contains(&path.parse().unwrap()), "{path}");
        }
        let of_256: Vec<String> = tiles_of(256).iter().map(ToString::to_string).collect();
        assert_eq!(of_256, ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]);
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in [
            "",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/0000",
            "tile/00/000",
            "tile/64/000",
            "tile/0/x000/000",
            "tile/0/000/000",
            "tile/0/x001",
            "tile/0/001/x000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "/tile/0/000",
            "tile/0/../000",
            "tile/data/000",
            "tile/0/x999/x999/x999/x999/x999/x999/999",
            "tile/0/000.p/1/",
        ] {
            assert_eq!(text.parse::<TilePath>(), Err(ParseTilePathError), "{text}");
        }
    }

    fn log(kind: HashKind, size: u64) -> (TiledTree, BTreeMap<TilePath, Vec<u8>>) {
        let mut tree = TiledTree::new(kind);
        let mut files = BTreeMap::new();
        for i in 0..size {
            tree.push(leaf_hash(kind, &i.to_be_bytes()), |path, hashes| {
                files.insert(path, tile_bytes(hashes));
            });
        }
        files.extend(tree.partial_tiles().map(|(path, hashes)| (path, tile_bytes(hashes))));
        (tree, files)
    }

    #[test]
    fn proofs_from_tiles_hold() {
        let kind = HashKind::Sha256;
        let size = 70_000;
        let (tree, files) = log(kind, size);
        let mut expected: Vec<_> = tiles_of(size).into_iter().filter(|p| p.tile() != Tile::Entries).collect();
        expected.sort();
        assert_eq!(files.keys().copied().collect::<Vec<_>>(), expected);
        let source = TileHashes::new(kind, size, |path: &TilePath| files.get(path).cloned().ok_or(()));
        assert_eq!(TiledTree::load(kind, size, &source).unwrap(), tree);
        let tree = tree.tree;
        for index in [0, 1, 255, 256, 65_535, 65_536, 69_999] {
            let path = prove_inclusion(kind, index, size, &source).unwrap();
            let leaf = leaf_hash(kind, &index.to_be_bytes());
            assert_eq!(verify_inclusion(kind, &leaf, index, size, &path, &tree.root()), Ok(()));
        }
        let (older, _) = log(kind, 69_700);
        let path = prove_consistency(kind, 69_700, size, &source).unwrap();
        assert_eq!(verify_consistency(kind, 69_700, &older.tree.root(), size, &tree.root(), &path), Ok(()));
        let short = TileHashes::new(kind, size, |_: &TilePath| Ok::<_, ()>(vec![0; 31]));
        assert!(prove_inclusion(kind, 5, size, &short).is_err());
    }

    proptest! {
        #[test]
        fn paths_round_trip(index in 0_u64..1 << 55, width in 1_u16..=256, level in 0_u8..=64) {
            let tile = if level == 64 { Tile::Entries } else { Tile::Hashes(level) };
            let path = TilePath::new(tile, index, width).unwrap();
            prop_assert_eq!(path.to_string().parse(), Ok(path));
        }

        #[test]
        fn any_text_is_read_without_panic(text in "(tile/)?[0-9x/.pe]{0,40}") {
            if let Ok(path) = text.parse::<TilePath>() {
                prop_assert_eq!(path.to_string(), text);
            }
        }

        #[test]
        fn growth_adds_what_was_not_there(old in 0_u64..70_000, more in 0_u64..70_000) {
            let new = old + more;
            let before: std::collections::BTreeSet<_> = tiles_of(old).into_iter().collect();
            let expected: Vec<_> = tiles_of(new).into_iter().filter(|path| !before.contains(path)).collect();
            let added = new_tiles(old, new);
            prop_assert!(expected.iter().all(|path| added.contains(path)));
            prop_assert!(added.iter().all(|path| tiles_of(new).contains(path)));
        }

        #[test]
        fn any_hash_is_asked_for_without_panic(level in 0_u32..70, index in any::<u64>(), size in any::<u64>()) {
            let source = TileHashes::new(HashKind::Sha256, size, |p: &TilePath| Ok::<_, ()>(vec![0; usize::from(p.width()) * 32]));
            let _ = source.hash(level, index);
        }
    }
}
