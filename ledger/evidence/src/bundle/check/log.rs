//! The whole log of one node, held against its largest signed head.

use std::collections::BTreeMap;

use shuyu_tlog::tile::{TiledTree, tile_bytes};
use shuyu_tlog::{Checkpoint, Hash, HashSource, Tile, TileHashes, TilePath, Tree, leaf_hash, read_bundle};

use super::super::history::KIND;
use super::super::{ConvictionKind, NodeEvidence, Part, VerifyBundleError};
use super::book::Proven;
use super::heads::Fact;
use super::node::{Judge, two_entries};

/// How many altered entries are named one by one.
const MAX_NAMED: usize = 16;

/// The entries up to `size`; where a bundle is malformed, its name and the fault.
pub(in super::super) type Served = Result<Vec<Vec<u8>>, (TilePath, String)>;

/// The entries that a node served up to `size`.
///
/// # Errors
/// [`VerifyBundleError::Incomplete`].
pub(in super::super) fn served_entries(node: &NodeEvidence, size: u64) -> Result<Served, VerifyBundleError> {
    let mut entries = Vec::new();
    let mut at = 0;
    while at < size {
        let Some(path) = TilePath::containing(Tile::Entries, at, size) else { break };
        // A bundle that has grown since serves as well: any that is wide enough.
        let wide = node.files.range(path..=path.full()).find(|(found, _)| path.width() <= found.width());
        let Some((found, bytes)) = wide else {
            return Err(VerifyBundleError::Incomplete { did: node.did.clone(), path });
        };
        match read_bundle(bytes, found.width()) {
            Ok(read) => entries.extend(read.iter().take(usize::from(path.width())).map(|entry| entry.to_vec())),
            Err(error) => return Ok(Err((*found, error.to_string()))),
        }
        at += u64::from(path.width());
    }
    Ok(Ok(entries))
}

/// The tiles of hashes that a node served, as the source of a tree of `size` entries.
pub(in super::super) fn served_hashes(node: &NodeEvidence, size: u64) -> impl HashSource {
    let read = |path: &TilePath| {
        let wide = node.files.range(*path..=path.full()).find(|(found, _)| path.width() <= found.width());
        let cut = wide.and_then(|(_, bytes)| bytes.get(..usize::from(path.width()) * 32));
        cut.map(<[u8]>::to_vec).ok_or(())
    };
    TileHashes::new(KIND, size, read)
}

impl Judge<'_> {
    /// The whole log up to `head`; whether every entry of it is proven.
    pub fn log(&mut self, head: &Checkpoint) -> Result<bool, VerifyBundleError> {
        let entries = match served_entries(self.node, head.size)? {
            Ok(entries) => entries,
            Err((path, error)) => {
                let part = Part::Log(self.did());
                self.served(ConvictionKind::Altered, format!("`{path}`: {error}"), vec![part]);
                return Ok(false);
            }
        };
        let mut roots: BTreeMap<u64, Option<Hash>> = BTreeMap::new();
        roots.extend(self.book.heads.iter().map(|seen| (seen.head.size, None)));
        let mut tree = TiledTree::new(KIND);
        let mut tiles: BTreeMap<TilePath, Vec<u8>> = BTreeMap::new();
        let mut note_root = |tree: &Tree| {
            if let Some(root) = roots.get_mut(&tree.size()) {
                *root = Some(tree.root());
            }
        };
        note_root(tree.tree());
        for entry in &entries {
            tree.push(leaf_hash(KIND, entry), |path, hashes| {
                tiles.insert(path, tile_bytes(hashes));
            });
            note_root(tree.tree());
        }
        tiles.extend(tree.partial_tiles().map(|(path, hashes)| (path, tile_bytes(hashes))));
        let computed = tree.tree().root();
        let is_signed = |at: &usize| {
            self.book.heads.get(*at).is_some_and(|seen| seen.head.size == head.size && seen.head.root == computed)
        };
        let Some(top) = (0..self.book.heads.len()).find(is_signed) else {
            return Ok(self.altered(head, entries, computed));
        };
        self.prove(top, &roots, entries);
        self.check_tiles(&tiles);
        Ok(true)
    }

    /// The entries are what the head `top` commits to: a head they do not lead to is the log's own lie.
    fn prove(&mut self, top: usize, roots: &BTreeMap<u64, Option<Hash>>, entries: Vec<Vec<u8>>) {
        let did = self.did();
        let Some((big, note)) = self.book.heads.get(top).map(|seen| (seen.head.clone(), seen.note.clone())) else {
            return;
        };
        for (at, seen) in self.book.heads.iter().enumerate() {
            let Some(root) = roots.get(&seen.head.size).copied().flatten() else { continue };
            if root == seen.head.root {
                self.book.path.push(at);
            } else if seen.head.size < big.size {
                let part = Part::Prefix { did: did.clone(), head: note.clone(), size: seen.head.size };
                self.facts.push(Fact { of: big.clone(), size: seen.head.size, root, part });
            }
        }
        let mut exchanged = Vec::new();
        for (index, entry) in (0_u64..).zip(entries) {
            let proven = self.book.proven.entry(index).or_insert_with(|| Proven {
                bytes: entry.clone(),
                picked: Vec::new(),
                in_log: true,
            });
            proven.in_log = true;
            if proven.bytes != entry {
                exchanged.extend(proven.picked.first().map(|(_, at)| (index, *at)));
                *proven = Proven { bytes: entry, picked: Vec::new(), in_log: true };
            }
        }
        for (index, at) in exchanged {
            let kept = Part::Entry { did: did.clone(), index, head: note.clone() };
            let proof = vec![Part::Picked { did: did.clone(), at }, kept];
            self.signed(ConvictionKind::Altered, two_entries(index), proof);
        }
    }

    fn check_tiles(&mut self, tiles: &BTreeMap<TilePath, Vec<u8>>) {
        let hashes = self.node.files.iter().filter(|(path, _)| path.tile() != Tile::Entries);
        let bad: Vec<String> = hashes
            .filter(|(path, bytes)| tiles.get(path).is_some_and(|expected| expected != *bytes))
            .map(|(path, _)| format!("`{path}` is not what the entries hash to"))
            .collect();
        for detail in bad {
            let part = Part::Log(self.did());
            self.served(ConvictionKind::Altered, detail, vec![part]);
        }
    }

    /// The entries do not give the signed root. Where the served tiles do, they say which entries were altered, and
    /// prove the others. Returns whether all are proven, which they are not.
    fn altered(&mut self, head: &Checkpoint, entries: Vec<Vec<u8>>, computed: Hash) -> bool {
        let did = self.did();
        let source = served_hashes(self.node, head.size);
        let is_top = |seen: &&super::book::Seen| seen.head == *head;
        let top = self.book.heads.iter().position(|seen| is_top(&seen));
        let root = tile_root(head.size, &source);
        let (Some(top), true) = (top, root == Some(head.root)) else {
            let detail = format!(
                "the {} entries served hash to root `{computed}`, signed is `{}`; the tiles served do not tell which entry",
                head.size, head.root
            );
            self.served(ConvictionKind::Altered, detail, vec![Part::Log(did)]);
            return false;
        };
        let mut bad = Vec::new();
        for (index, entry) in (0_u64..).zip(entries) {
            match source.hash(0, index) {
                Ok(hash) if hash == leaf_hash(KIND, &entry) => {
                    let proven = Proven { bytes: entry, picked: Vec::new(), in_log: true };
                    self.book.proven.insert(index, proven);
                }
                Ok(_) | Err(_) => bad.push(index),
            }
        }
        self.book.path.push(top);
        let named: Vec<String> = bad.iter().take(MAX_NAMED).map(u64::to_string).collect();
        let more = if bad.len() <= MAX_NAMED { "" } else { " and more" };
        let detail = format!(
            "{} of {} entries served do not hash to the root `{}` signed at size {}: {}{more}",
            bad.len(),
            head.size,
            head.root,
            head.size,
            named.join(", ")
        );
        let note = self.book.heads.get(top).map(|seen| seen.note.clone()).unwrap_or_default();
        let part = bad.first().map(|index| Part::Served { did, index: *index, head: note });
        self.served(ConvictionKind::Altered, detail, part.into_iter().collect());
        false
    }
}

/// The root that the level-0 tiles alone lead to.
fn tile_root<S: HashSource>(size: u64, source: &S) -> Option<Hash> {
    let mut tree = Tree::new(KIND);
    for index in 0..size {
        tree.push(source.hash(0, index).ok()?);
    }
    Some(tree.root())
}
