//! The Merkle tree of RFC 6962 section 2.1: hashing, growth at the right edge, proofs.

use std::fmt;

use shuyu_base::HashKind;

/// Longest proof accepted, in hashes: an inclusion proof has one a level, a consistency proof one more.
pub const MAX_PROOF_HASHES: usize = 64;

/// A node of the tree: 32 bytes of SHA-256 or SM3, according to the log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash(pub [u8; 32]);

impl fmt::Display for Hash {
    /// Base64, as checkpoints and proofs print it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use base64::Engine as _;
        f.write_str(&base64::engine::general_purpose::STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The hash of a leaf: `H(0x00 || entry)`.
pub fn leaf_hash(kind: HashKind, entry: &[u8]) -> Hash {
    Hash(*kind.digest(&[&[0], entry]).bytes())
}

/// The hash of an inner node: `H(0x01 || left || right)`.
pub fn node_hash(kind: HashKind, left: &Hash, right: &Hash) -> Hash {
    Hash(*kind.digest(&[&[1], &left.0, &right.0]).bytes())
}

/// The root of the tree without leaves: `H()`.
pub fn empty_root(kind: HashKind) -> Hash {
    Hash(*kind.digest(&[]).bytes())
}

/// The right edge of a growing tree: enough to append and to know the root, at most 64 hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    kind: HashKind,
    size: u64,
    /// Roots of the perfect subtrees, largest first. Invariant: one a set bit of `size`.
    edge: Vec<Hash>,
}

impl Tree {
    /// A tree without leaves.
    pub fn new(kind: HashKind) -> Self {
        Self { kind, size: 0, edge: Vec::new() }
    }

    /// The right edge of the tree of `size` leaves whose hashes `source` holds.
    ///
    /// # Errors
    /// When `source` lacks a hash.
    pub fn load<S: HashSource>(kind: HashKind, size: u64, source: &S) -> Result<Self, ProveError<S::Error>> {
        let mut edge = Vec::new();
        let mut at = 0;
        for level in (0..64).rev() {
            if size >> level & 1 == 1 {
                edge.push(source.hash(level, at >> level).map_err(ProveError::Source)?);
                at += 1 << level;
            }
        }
        Ok(Self { kind, size, edge })
    }

    /// Appends a leaf by its hash, handing every perfect subtree that it completes to `seen`
    /// as (level, index at that level, hash), the leaf itself first.
    pub fn push_with(&mut self, leaf: Hash, mut seen: impl FnMut(u32, u64, Hash)) {
        let (mut hash, mut level, mut index) = (leaf, 0, self.size);
        seen(level, index, hash);
        while index & 1 == 1 {
            let Some(left) = self.edge.pop() else { break };
            hash = node_hash(self.kind, &left, &hash);
            level += 1;
            index >>= 1;
            seen(level, index, hash);
        }
        self.edge.push(hash);
        self.size += 1;
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        self.push_with(leaf, |_, _, _| ());
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The function the tree is built with.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// The root over all leaves.
    pub fn root(&self) -> Hash {
        let folded = self.edge.iter().rev().copied().reduce(|right, left| node_hash(self.kind, &left, &right));
        folded.unwrap_or_else(|| empty_root(self.kind))
    }
}

/// Where the hashes of perfect subtrees come from: memory, tiles on a disk, tiles over a network.
pub trait HashSource {
    /// Why a hash could not be had.
    type Error;

    /// The hash over leaves `index << level .. (index + 1) << level`.
    ///
    /// # Errors
    /// When the hash cannot be had.
    fn hash(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Why a proof could not be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveError<E> {
    /// The index or the older size lies outside the tree.
    #[error("`{asked}` is outside a tree of size {size}")]
    Outside {
        /// The index or older size asked for.
        asked: u64,
        /// The size of the tree.
        size: u64,
    },
    /// A hash could not be had.
    #[error("a hash of the tree could not be read")]
    Source(#[source] E),
}

/// The root over leaves `from..to`, where `from` is a multiple of the largest power of two below `to - from`
/// (as every split of RFC 6962 is).
///
/// # Errors
/// When `source` lacks a hash.
pub fn subtree_root<S: HashSource>(kind: HashKind, from: u64, to: u64, source: &S) -> Result<Hash, S::Error> {
    let count = to.saturating_sub(from);
    if count == 0 {
        return Ok(empty_root(kind));
    }
    if count.is_power_of_two() {
        let level = count.trailing_zeros();
        return source.hash(level, from >> level);
    }
    let middle = from + split(count);
    let left = subtree_root(kind, from, middle, source)?;
    let right = subtree_root(kind, middle, to, source)?;
    Ok(node_hash(kind, &left, &right))
}

/// The largest power of two below `count`, for `count` of at least 2.
fn split(count: u64) -> u64 {
    1 << (63 - count.saturating_sub(1).max(1).leading_zeros())
}

/// The inclusion proof for leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1), from the sibling up.
///
/// # Errors
/// [`ProveError::Outside`] unless `index < size`; [`ProveError::Source`] when a hash is lacking.
pub fn prove_inclusion<S: HashSource>(
    kind: HashKind,
    index: u64,
    size: u64,
    source: &S,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if size <= index {
        return Err(ProveError::Outside { asked: index, size });
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while 1 < to - from {
        let middle = from + split(to - from);
        let sibling = if index < middle {
            let right = subtree_root(kind, middle, to, source);
            to = middle;
            right
        } else {
            let left = subtree_root(kind, from, middle, source);
            from = middle;
            left
        };
        path.push(sibling.map_err(ProveError::Source)?);
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962 section 2.1.2).
///
/// It is empty when `old` is 0 or equal to `new`.
///
/// # Errors
/// [`ProveError::Outside`] unless `old <= new`; [`ProveError::Source`] when a hash is lacking.
pub fn prove_consistency<S: HashSource>(
    kind: HashKind,
    old: u64,
    new: u64,
    source: &S,
) -> Result<Vec<Hash>, ProveError<S::Error>> {
    if new < old {
        return Err(ProveError::Outside { asked: old, size: new });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (0, new);
    let mut path = Vec::new();
    // Walk down to the subtree that ends exactly at `old`.
    while to != old {
        let middle = from + split(to - from);
        let sibling = if old <= middle {
            let right = subtree_root(kind, middle, to, source);
            to = middle;
            right
        } else {
            let left = subtree_root(kind, from, middle, source);
            from = middle;
            left
        };
        path.push(sibling.map_err(ProveError::Source)?);
    }
    if from != 0 {
        path.push(subtree_root(kind, from, to, source).map_err(ProveError::Source)?);
    }
    path.reverse();
    Ok(path)
}

/// Why a proof does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The index is not below the tree size, or the older size above the newer.
    #[error("index or older size `{asked}` is outside a tree of size {size}")]
    Outside {
        /// The index or older size asked for.
        asked: u64,
        /// The size of the tree.
        size: u64,
    },
    /// The proof has more or fewer hashes than the two numbers call for.
    #[error("proof has {found} hashes, which does not fit the tree")]
    Length {
        /// Hashes in the proof.
        found: usize,
    },
    /// The proof leads to another root than the one given.
    #[error("proof leads to another root")]
    RootMismatch,
}

/// Checks that the leaf with hash `leaf` is entry `index` of the tree (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`] says what does not fit.
pub fn verify_inclusion(
    kind: HashKind,
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    let hash = root_of_inclusion(kind, leaf, index, size, proof)?;
    if hash == *root { Ok(()) } else { Err(ProofError::RootMismatch) }
}

/// The root to which the proof leads from the leaf with hash `leaf`, if that is entry `index` of the tree (RFC 9162
/// section 2.1.3.2): for proofs that come without a root, because the signature is over the one they lead to.
///
/// # Errors
/// [`ProofError`] says what does not fit; never [`ProofError::RootMismatch`].
pub fn root_of_inclusion(
    kind: HashKind,
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
) -> Result<Hash, ProofError> {
    if size <= index {
        return Err(ProofError::Outside { asked: index, size });
    }
    let (mut fn_, mut sn) = (index, size - 1);
    let mut hash = *leaf;
    let length = ProofError::Length { found: proof.len() };
    for sibling in proof {
        if sn == 0 {
            return Err(length);
        }
        if fn_ & 1 == 1 || fn_ == sn {
            hash = node_hash(kind, sibling, &hash);
            let skip = fn_.trailing_zeros().min(63);
            // Step 4.b.2: where the node has no right sibling, climb until it is a right child.
            fn_ >>= skip;
            sn >>= skip;
        } else {
            hash = node_hash(kind, &hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    if sn != 0 {
        return Err(length);
    }
    Ok(hash)
}

/// Checks that the tree (`old`, `old_root`) is a prefix of the tree (`new`, `new_root`) (RFC 9162 section 2.1.4.2).
///
/// The empty tree is a prefix of every tree and needs an empty proof; so do two trees of one size, whose roots
/// must be equal.
///
/// # Errors
/// [`ProofError`] says what does not fit.
pub fn verify_consistency(
    kind: HashKind,
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if new < old {
        return Err(ProofError::Outside { asked: old, size: new });
    }
    let length = ProofError::Length { found: proof.len() };
    let same = |found: &Hash, wanted: &Hash| if found == wanted { Ok(()) } else { Err(ProofError::RootMismatch) };
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(length);
        }
        let wanted = if old == 0 { empty_root(kind) } else { *new_root };
        return same(old_root, &wanted);
    }
    let mut path = proof.iter();
    let first = if old.is_power_of_two() { *old_root } else { *path.next().ok_or(length)? };
    let (mut fn_, mut sn) = (old - 1, new - 1);
    let skip = fn_.trailing_ones();
    fn_ >>= skip;
    sn >>= skip;
    let (mut old_hash, mut new_hash) = (first, first);
    for sibling in path {
        if sn == 0 {
            return Err(length);
        }
        if fn_ & 1 == 1 || fn_ == sn {
            old_hash = node_hash(kind, sibling, &old_hash);
            new_hash = node_hash(kind, sibling, &new_hash);
            let skip = fn_.trailing_zeros().min(63);
            fn_ >>= skip;
            sn >>= skip;
        } else {
            new_hash = node_hash(kind, &new_hash, sibling);
        }
        fn_ >>= 1;
        sn >>= 1;
    }
    if sn != 0 {
        return Err(length);
    }
    same(&old_hash, old_root)?;
    same(&new_hash, new_root)
}

#[cfg(test)]
mod tests;
