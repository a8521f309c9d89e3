//! The judgement over one node's evidence.

use std::collections::{BTreeMap, BTreeSet};

use shuyu_base::keys::PublicKey;
use shuyu_base::{Did, HashKind, UnixMillis};
use shuyu_credentials::local_document;
use shuyu_tlog::tile::{TiledTree, tile_bytes};
use shuyu_tlog::{
    Checkpoint, Hash, HashSource, InclusionProof, SignedCheckpoint, Tile, TileHashes, TilePath, Tree, VerifyProofError,
    leaf_hash, read_bundle,
};

use super::super::{Basis, Conviction, ConvictionKind, NodeEvidence, VerifyBundleError};
use super::signed;
use crate::entry;
use crate::statement::Statement;

/// tlog-tiles fixes SHA-256.
const KIND: HashKind = HashKind::Sha256;

/// How many altered entries are named one by one.
const MAX_NAMED: usize = 16;

/// What was verified of one node.
pub(super) struct Checked {
    pub convictions: Vec<Conviction>,
    pub head: Option<Checkpoint>,
    pub statements: Vec<Statement>,
    pub entry_count: u64,
    pub is_whole: bool,
    /// When the head was seen.
    pub seen_at: UnixMillis,
}

pub(super) fn check(node: &NodeEvidence) -> Result<Checked, VerifyBundleError> {
    check_keys(node)?;
    let mut judge = Judge { node, convictions: Vec::new(), heads: Vec::new() };
    judge.observed()?;
    let (picked, mut is_whole) = (judge.picked()?, false);
    judge.forks();
    judge.rollbacks();
    let head = judge.heads.iter().max_by_key(|seen| seen.head.size).map(|seen| (seen.head.clone(), seen.at));
    let mut entries: BTreeMap<u64, Vec<u8>> = picked;
    let has_entries = node.files.keys().any(|path| path.tile() == Tile::Entries);
    if let Some((head, _)) = &head
        && (has_entries || head.size == 0)
    {
        let proven = judge.log(head)?;
        is_whole = proven.len() as u64 == head.size;
        entries.extend(proven);
    }
    let entry_count = entries.len() as u64;
    let statements = judge.statements(&entries);
    let seen_at = head.as_ref().map_or(UnixMillis(i64::MIN), |(_, at)| *at);
    let head = head.map(|(head, _)| head);
    Ok(Checked { convictions: judge.convictions, head, statements, entry_count, is_whole, seen_at })
}

/// The log's key must be a key of the node, by a document that is the node's.
fn check_keys(node: &NodeEvidence) -> Result<(), VerifyBundleError> {
    let did = node.did.clone();
    if *node.document.id() != node.did {
        return Err(VerifyBundleError::DocumentNotOfNode { did });
    }
    // The identifiers that contain their key need no document, and none can speak against them.
    if let Some(own) = local_document(&node.did) {
        let own = own.map_err(|_| VerifyBundleError::DocumentNotOfNode { did: did.clone() })?;
        let listed = |key: &PublicKey| own.methods().iter().any(|method| method.key == *key);
        if !node.document.methods().iter().all(|method| listed(&method.key)) {
            return Err(VerifyBundleError::DocumentNotOfNode { did });
        }
    }
    if node.document.methods().iter().any(|method| method.key == *node.vkey.key()) {
        Ok(())
    } else {
        Err(VerifyBundleError::KeyNotOfNode { did, log: node.vkey.name().to_owned() })
    }
}

/// A head with a good signature, and when it was seen.
struct Seen {
    head: Checkpoint,
    at: UnixMillis,
    /// Position among the checkpoints observed; proofs carry heads without one.
    order: Option<usize>,
}

struct Judge<'a> {
    node: &'a NodeEvidence,
    convictions: Vec<Conviction>,
    heads: Vec<Seen>,
}

impl Judge<'_> {
    fn served(&mut self, kind: ConvictionKind, detail: String) {
        let who = vec![self.node.did.clone()];
        self.convictions.push(Conviction { kind, basis: Basis::ServedToAuditor, who, detail });
    }

    fn unreadable(
        &self,
        what: String,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> VerifyBundleError {
        VerifyBundleError::Unreadable { did: self.node.did.clone(), what, source: source.into() }
    }

    fn observed(&mut self) -> Result<(), VerifyBundleError> {
        for (order, one) in self.node.observed.iter().enumerate() {
            match SignedCheckpoint::open(&one.checkpoint, &self.node.vkey) {
                Ok(signed) => {
                    let head = signed.checkpoint().clone();
                    self.heads.push(Seen { head, at: one.at, order: Some(order) });
                }
                Err(error) if error.is_unreadable() => {
                    return Err(self.unreadable(format!("checkpoint {order}"), error));
                }
                Err(error) => {
                    self.served(ConvictionKind::BadSignature, format!("checkpoint {order}: {error}"));
                }
            }
        }
        Ok(())
    }

    /// Entries that come with proofs of their own; those that hold, by index.
    fn picked(&mut self) -> Result<BTreeMap<u64, Vec<u8>>, VerifyBundleError> {
        let mut proven = BTreeMap::new();
        for (at, one) in self.node.picked.iter().enumerate() {
            let proof = InclusionProof::parse(&one.proof).map_err(|e| self.unreadable(format!("proof {at}"), e))?;
            match proof.verify(&one.entry, &self.node.vkey) {
                Ok(signed) => {
                    let head = signed.checkpoint().clone();
                    self.heads.push(Seen { head, at: UnixMillis(i64::MIN), order: None });
                    proven.insert(proof.index, one.entry.clone());
                }
                Err(VerifyProofError::Checkpoint(error)) if error.is_unreadable() => {
                    return Err(self.unreadable(format!("checkpoint of proof {at}"), error));
                }
                Err(VerifyProofError::Checkpoint(error)) => {
                    self.served(ConvictionKind::BadSignature, format!("checkpoint of proof {at}: {error}"));
                }
                Err(error) => {
                    self.served(ConvictionKind::Altered, format!("entry {}: {error}", proof.index));
                }
            }
        }
        Ok(proven)
    }

    /// Two signed heads of one size with different roots.
    fn forks(&mut self) {
        let mut by_size: BTreeMap<u64, BTreeSet<Hash>> = BTreeMap::new();
        for seen in &self.heads {
            by_size.entry(seen.head.size).or_default().insert(seen.head.root);
        }
        for (size, roots) in by_size.into_iter().filter(|(_, roots)| 1 < roots.len()) {
            let roots: Vec<String> = roots.iter().map(|root| format!("`{root}`")).collect();
            let detail = format!("signed size {size} with roots {}", roots.join(" and "));
            self.convictions.push(signed(ConvictionKind::Fork, &self.node.did, detail));
        }
    }

    /// A smaller head after a larger one.
    fn rollbacks(&mut self) {
        let mut largest = 0;
        let mut found = Vec::new();
        for seen in self.heads.iter().filter(|seen| seen.order.is_some()) {
            if seen.head.size < largest {
                found.push(format!("signed size {} was served after size {largest}", seen.head.size));
            }
            largest = largest.max(seen.head.size);
        }
        found.into_iter().for_each(|detail| self.served(ConvictionKind::Rollback, detail));
    }

    /// The whole log up to `head`; returns the entries that are proven, by index.
    fn log(&mut self, head: &Checkpoint) -> Result<BTreeMap<u64, Vec<u8>>, VerifyBundleError> {
        let Some(entries) = self.entries(head.size)? else { return Ok(BTreeMap::new()) };
        let mut roots: BTreeMap<u64, Option<Hash>> = self.heads.iter().map(|seen| (seen.head.size, None)).collect();
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
        let is_signed = |seen: &Seen| seen.head.size == head.size && seen.head.root == computed;
        if !self.heads.iter().any(is_signed) {
            return Ok(self.altered(head, entries, computed));
        }
        // The entries are what the newest signed head commits to, so a head they do not lead to is the log's own lie.
        for seen in self.heads.iter().filter(|seen| seen.head.size < head.size) {
            if let Some(Some(root)) = roots.get(&seen.head.size).filter(|root| **root != Some(seen.head.root)) {
                let detail = format!(
                    "signed size {} has root `{}`, but the entries signed at size {} give `{root}` there",
                    seen.head.size, seen.head.root, head.size
                );
                self.convictions.push(signed(ConvictionKind::Inconsistent, &self.node.did, detail));
            }
        }
        for (path, bytes) in self.node.files.iter().filter(|(path, _)| path.tile() != Tile::Entries) {
            if tiles.get(path).is_some_and(|expected| expected != bytes) {
                let detail = format!("`{path}` is not what the entries hash to");
                let who = vec![self.node.did.clone()];
                let (kind, basis) = (ConvictionKind::Altered, Basis::ServedToAuditor);
                self.convictions.push(Conviction { kind, basis, who, detail });
            }
        }
        Ok(entries.into_iter().enumerate().map(|(index, entry)| (index as u64, entry)).collect())
    }

    /// All entries up to `size`; `None`, with a conviction, where a bundle is malformed.
    fn entries(&mut self, size: u64) -> Result<Option<Vec<Vec<u8>>>, VerifyBundleError> {
        let mut entries = Vec::new();
        let mut at = 0;
        while at < size {
            let Some(path) = TilePath::containing(Tile::Entries, at, size) else { break };
            // A bundle that has grown since serves as well: any that is wide enough.
            let wide = self.node.files.range(path..=path.full()).find(|(found, _)| path.width() <= found.width());
            let Some((found, bytes)) = wide else {
                return Err(VerifyBundleError::Incomplete { did: self.node.did.clone(), path });
            };
            match read_bundle(bytes, found.width()) {
                Ok(read) => entries.extend(read.iter().take(usize::from(path.width())).map(|entry| entry.to_vec())),
                Err(error) => {
                    let detail = format!("`{found}`: {error}");
                    self.served(ConvictionKind::Altered, detail);
                    return Ok(None);
                }
            }
            at += u64::from(path.width());
        }
        Ok(Some(entries))
    }

    /// The entries do not give the signed root. Where the served tiles do, they say which entries were altered, and
    /// prove the others.
    fn altered(&mut self, head: &Checkpoint, entries: Vec<Vec<u8>>, computed: Hash) -> BTreeMap<u64, Vec<u8>> {
        let files = &self.node.files;
        let read = |path: &TilePath| {
            let wide = files.range(*path..=path.full()).find(|(found, _)| path.width() <= found.width());
            let cut = wide.and_then(|(_, bytes)| bytes.get(..usize::from(path.width()) * 32));
            cut.map(<[u8]>::to_vec).ok_or(())
        };
        let source = TileHashes::new(KIND, head.size, read);
        let root = tile_root(head.size, &source);
        if root != Some(head.root) {
            let detail = format!(
                "the {} entries served hash to root `{computed}`, signed is `{}`; the tiles served do not tell which entry",
                head.size, head.root
            );
            self.served(ConvictionKind::Altered, detail);
            return BTreeMap::new();
        }
        let mut proven = BTreeMap::new();
        let mut bad = Vec::new();
        for (index, entry) in (0_u64..).zip(entries) {
            match source.hash(0, index) {
                Ok(hash) if hash == leaf_hash(KIND, &entry) => {
                    proven.insert(index, entry);
                }
                Ok(_) | Err(_) => bad.push(index),
            }
        }
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
        self.served(ConvictionKind::Altered, detail);
        proven
    }

    /// Opens every proven entry; what is not a statement of the node itself convicts it, as does an act stated twice.
    fn statements(&mut self, entries: &BTreeMap<u64, Vec<u8>>) -> Vec<Statement> {
        let did: &Did = &self.node.did;
        let mut statements = Vec::new();
        let mut seen: BTreeMap<[u8; 32], u64> = BTreeMap::new();
        for (index, bytes) in entries {
            let key = |kid: &str| self.node.document.method(kid).map(|method| method.key.clone());
            let problem = match entry::open(bytes, key) {
                Ok(statement) if statement.by == *did => match seen.insert(statement.dedup_id(), *index) {
                    None => {
                        statements.push(statement);
                        continue;
                    }
                    Some(first) => (ConvictionKind::Replayed, format!("entry {index} repeats entry {first}")),
                },
                Ok(statement) => (ConvictionKind::BadStatement, format!("entry {index} speaks for `{}`", statement.by)),
                Err(error) => (ConvictionKind::BadStatement, format!("entry {index}: {error}")),
            };
            self.convictions.push(signed(problem.0, did, problem.1));
        }
        statements
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
