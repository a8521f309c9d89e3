//! A log rebuilt in memory from its entries: every hash of its tree, so that proofs for any smaller size can be made.

use shuyu_base::HashKind;
use shuyu_tlog::{
    Hash, HashSource, InclusionProof, ProveError, Tree, leaf_hash, prove_consistency, prove_inclusion, subtree_root,
};

/// tlog-tiles fixes SHA-256.
pub(super) const KIND: HashKind = HashKind::Sha256;

/// The hashes of a log's perfect subtrees, level by level.
pub(super) struct History {
    levels: Vec<Vec<Hash>>,
    root: Hash,
}

/// A hash that is not there.
#[derive(Debug)]
pub(super) struct NoHash;

impl History {
    /// The tree over these leaf hashes.
    pub fn of(leaves: impl IntoIterator<Item = Hash>) -> Self {
        let mut tree = Tree::new(KIND);
        let mut levels: Vec<Vec<Hash>> = Vec::new();
        for leaf in leaves {
            tree.push_with(leaf, |level, _, hash| {
                let level = level as usize;
                if levels.len() <= level {
                    levels.resize_with(level + 1, Vec::new);
                }
                if let Some(hashes) = levels.get_mut(level) {
                    hashes.push(hash);
                }
            });
        }
        Self { levels, root: tree.root() }
    }

    /// The tree over these entries.
    pub fn of_entries<'a>(entries: impl IntoIterator<Item = &'a Vec<u8>>) -> Self {
        Self::of(entries.into_iter().map(|entry| leaf_hash(KIND, entry)))
    }

    /// The root over all of it.
    pub fn root(&self) -> Hash {
        self.root
    }

    /// The root at a smaller size.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        subtree_root(KIND, 0, size, self).ok()
    }

    /// The proof that the tree of `old` entries is a prefix of the one of `new`.
    pub fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        prove_consistency(KIND, old, new, self).ok()
    }

    /// A proof file for entry `index` in the tree of `size` entries, which `note` signs.
    pub fn proof_file(&self, index: u64, size: u64, note: &[u8]) -> Option<Vec<u8>> {
        let path: Result<Vec<Hash>, ProveError<NoHash>> = prove_inclusion(KIND, index, size, self);
        let checkpoint = String::from_utf8(note.to_vec()).ok()?;
        Some(InclusionProof { extra: None, index, path: path.ok()?, checkpoint }.to_string().into_bytes())
    }
}

impl HashSource for History {
    type Error = NoHash;

    fn hash(&self, level: u32, index: u64) -> Result<Hash, NoHash> {
        let hashes = self.levels.get(level as usize).ok_or(NoHash)?;
        usize::try_from(index).ok().and_then(|index| hashes.get(index)).copied().ok_or(NoHash)
    }
}
