//! Re-verification of a whole log from its raw entries.

use std::collections::BTreeMap;

use shuyu_base::HashKind;

use crate::checkpoint::Checkpoint;
use crate::merkle::{Hash, leaf_hash};
use crate::tile::{TilePath, TiledTree};

/// Rebuilds a log entry by entry and holds it against the signed heads it must match on the way.
///
/// Passing several heads of one log checks their mutual consistency from the entries alone.
pub struct LogVerifier {
    tree: TiledTree,
    /// Heads not reached yet, by size.
    heads: BTreeMap<u64, Vec<Hash>>,
}

/// What does not hold about a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogFault {
    /// The entries do not hash to a signed root.
    #[error("entries 0 to {size} hash to root `{computed}`, signed is `{signed}`")]
    RootMismatch {
        /// The size of the signed head.
        size: u64,
        /// The root over the entries.
        computed: Hash,
        /// The root that was signed.
        signed: Hash,
    },
    /// There are fewer entries than a signed head says.
    #[error("log has {entries} entries, signed are {size}")]
    Short {
        /// How many there are.
        entries: u64,
        /// The size of the signed head.
        size: u64,
    },
}

impl LogVerifier {
    /// A verifier for a log that must match all of `heads`, whose signatures the caller has verified.
    ///
    /// # Errors
    /// When a head of size 0 has another root than the empty tree's.
    pub fn new<'a>(kind: HashKind, heads: impl IntoIterator<Item = &'a Checkpoint>) -> Result<Self, LogFault> {
        let mut by_size: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
        for head in heads {
            by_size.entry(head.size).or_default().push(head.root);
        }
        let mut verifier = Self { tree: TiledTree::new(kind), heads: by_size };
        verifier.check_heads()?;
        Ok(verifier)
    }

    /// Takes the next entry; `full` receives every tile of hashes that it fills.
    ///
    /// # Errors
    /// [`LogFault::RootMismatch`] when a head is reached and differs.
    pub fn push(&mut self, entry: &[u8], full: impl FnMut(TilePath, &[Hash])) -> Result<(), LogFault> {
        self.tree.push(leaf_hash(self.tree.tree().kind(), entry), full);
        self.check_heads()
    }

    /// Says that there are no more entries; returns the tree over them.
    ///
    /// # Errors
    /// [`LogFault::Short`] when a head was not reached.
    pub fn finish(self) -> Result<TiledTree, LogFault> {
        match self.heads.last_key_value() {
            Some((size, _)) => Err(LogFault::Short { entries: self.tree.tree().size(), size: *size }),
            None => Ok(self.tree),
        }
    }

    fn check_heads(&mut self) -> Result<(), LogFault> {
        let size = self.tree.tree().size();
        let Some(roots) = self.heads.remove(&size) else { return Ok(()) };
        let computed = self.tree.tree().root();
        match roots.into_iter().find(|signed| *signed != computed) {
            Some(signed) => Err(LogFault::RootMismatch { size, computed, signed }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Tree, empty_root};

    fn head(entries: &[&[u8]]) -> Checkpoint {
        let mut tree = Tree::new(HashKind::Sha256);
        entries.iter().for_each(|entry| tree.push(leaf_hash(HashKind::Sha256, entry)));
        Checkpoint { origin: "o".to_owned(), size: tree.size(), root: tree.root() }
    }

    fn run(heads: &[Checkpoint], entries: &[&[u8]]) -> Result<u64, LogFault> {
        let mut verifier = LogVerifier::new(HashKind::Sha256, heads)?;
        entries.iter().try_for_each(|entry| verifier.push(entry, |_, _| ()))?;
        Ok(verifier.finish()?.tree().size())
    }

    #[test]
    fn a_log_must_match_every_head() {
        let entries: Vec<&[u8]> = vec![b"a", b"b", b"c", b"d"];
        let heads = [head(&[]), head(&entries[..2]), head(&entries)];
        assert_eq!(run(&heads, &entries), Ok(4));
        assert_eq!(run(&heads, &entries[..3]), Err(LogFault::Short { entries: 3, size: 4 }));
        assert!(matches!(run(&heads, &[b"a", b"x", b"c", b"d"]), Err(LogFault::RootMismatch { size: 2, .. })));
        let fork = Checkpoint { root: empty_root(HashKind::Sha256), ..head(&entries) };
        assert!(matches!(run(&[head(&entries), fork], &entries), Err(LogFault::RootMismatch { size: 4, .. })));
        let empty = Checkpoint { root: Hash([1; 32]), ..head(&[]) };
        assert!(run(&[empty], &[]).is_err());
    }
}
