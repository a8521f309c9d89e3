//! What was verified of one mirrored log, kept in memory so that each pass verifies only what came since.
//!
//! A start verifies the mirror from its first byte again: nothing that was copied is believed because it was believed
//! once.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;

use shuyu_base::{Did, Digest, HashKind, UnixMillis};
use shuyu_credentials::DidDocument;
use shuyu_evidence::Statement;
use shuyu_tlog::{Checkpoint, Hash, SignedCheckpoint, Tile, TilePath, Tree, Vkey, leaf_hash, read_bundle};

const KIND: HashKind = HashKind::Sha256;

/// The right edge of the tree is kept every so many entries, so that an older head costs little.
const KEEP_EVERY: u64 = 4096;

/// A log as far as it was verified.
pub(super) struct Verified {
    tree: Tree,
    /// Statements by process, in log order.
    processes: HashMap<String, Vec<Statement>>,
    /// Until when the auditor has read the log.
    pub seen_at: UnixMillis,
    /// The tree at every multiple of [`KEEP_EVERY`], in order.
    edges: Vec<Tree>,
    /// Heads held against the tree already, and the digests of the observed texts of them.
    heads: HashMap<u64, Hash>,
    texts: HashSet<[u8; 32]>,
}

/// What a pass found new.
#[derive(Default)]
pub(super) struct Growth {
    /// Processes with new statements.
    pub touched: BTreeSet<String>,
    /// The checkpoint over all that is verified, if it is new.
    pub head: Option<String>,
}

/// What is held of a log and to be verified.
pub(super) struct Mirrored<'a> {
    pub did: &'a Did,
    pub document: &'a DidDocument,
    pub vkey: &'a Vkey,
    pub dir: &'a Path,
    /// The observed checkpoints, oldest first.
    pub observed: Vec<&'a str>,
}

impl Verified {
    pub fn nothing() -> Self {
        Self {
            tree: Tree::new(KIND),
            processes: HashMap::new(),
            seen_at: UnixMillis(0),
            edges: Vec::new(),
            heads: HashMap::new(),
            texts: HashSet::new(),
        }
    }

    pub fn size(&self) -> u64 {
        self.tree.size()
    }

    /// The statements of these processes.
    pub fn statements<'a>(&'a self, of: impl Iterator<Item = &'a String>) -> Vec<Statement> {
        of.filter_map(|process| self.processes.get(process)).flatten().cloned().collect()
    }

    /// Verifies what was copied since: every new checkpoint's signature and root, every new entry's place and signature.
    ///
    /// `None` if anything at all does not fit; then nothing of the growth is taken, and the whole log is to be judged.
    pub fn grow(&mut self, log: &Mirrored<'_>, now: UnixMillis) -> Option<Growth> {
        // Served after a larger one: whether that is a fault is for the judgement over all.
        let newest = log.observed.last().and_then(|text| size_of(text));
        newest.is_none_or(|size| self.tree.size() <= size).then_some(())?;
        let mut heads: Vec<Checkpoint> = Vec::new();
        let mut texts = Vec::new();
        for bytes in log.observed.iter().filter(|bytes| !self.texts.contains(&digest_of(bytes))) {
            let head = SignedCheckpoint::open(bytes.as_bytes(), log.vkey).ok()?.checkpoint().clone();
            if self.heads.get(&head.size) != Some(&head.root) {
                heads.push(head);
            }
            texts.push((*bytes).to_owned());
        }
        heads.sort_by_key(|head| head.size);
        let mut next = Growing { tree: self.tree.clone(), edges: Vec::new(), statements: Vec::new(), bundle: None };
        for head in &heads {
            let end = heads.last()?.size.max(self.tree.size());
            let root = if head.size < next.tree.size() {
                next.root_at(head.size, end, log.dir, &self.edges)?
            } else {
                next.read_to(head.size, end, log)?;
                next.tree.root()
            };
            (root == head.root).then_some(())?;
        }
        let mut growth = Growth::default();
        for statement in next.statements {
            growth.touched.insert(statement.process.clone());
            self.processes.entry(statement.process.clone()).or_default().push(statement);
        }
        self.tree = next.tree;
        // The newest head with the most lines: what the mirror serves.
        let newest = |text: &&String| size_of(text) == Some(self.tree.size());
        growth.head = texts.iter().filter(newest).max_by_key(|text| text.len()).cloned();
        self.edges.extend(next.edges);
        self.heads.extend(heads.iter().map(|head| (head.size, head.root)));
        self.texts.extend(texts.iter().map(|text| digest_of(text)));
        self.seen_at = now;
        Some(growth)
    }
}

/// The size that the text of a checkpoint states.
fn size_of(text: &str) -> Option<u64> {
    text.split('\n').nth(1)?.parse().ok()
}

fn digest_of(text: &str) -> [u8; 32] {
    *Digest::sha256(text.as_bytes()).bytes()
}

struct Growing {
    tree: Tree,
    edges: Vec<Tree>,
    statements: Vec<Statement>,
    /// The entry bundle read last, by its number.
    bundle: Option<(u64, Vec<Vec<u8>>)>,
}

impl Growing {
    /// Reads entries up to `size` from the mirror of a log of `end` entries.
    fn read_to(&mut self, size: u64, end: u64, log: &Mirrored<'_>) -> Option<()> {
        while self.tree.size() < size {
            let index = self.tree.size();
            let entry = self.entry(index, end, log.dir)?;
            let leaf: Hash = leaf_hash(KIND, &entry);
            let key_of = |kid: &str| log.document.method(kid).map(|method| method.key.clone());
            let statement = shuyu_evidence::open(&entry, key_of).ok()?;
            (statement.by == *log.did).then_some(())?;
            self.tree.push(leaf);
            if self.tree.size().is_multiple_of(KEEP_EVERY) {
                self.edges.push(self.tree.clone());
            }
            self.statements.push(statement);
        }
        Some(())
    }

    /// The root over the first `size` entries, hashed from the edge kept before it: a cosigned head comes later than the
    /// one it is of.
    fn root_at(&mut self, size: u64, end: u64, dir: &Path, kept: &[Tree]) -> Option<Hash> {
        let before = kept.iter().chain(&self.edges).take_while(|edge| edge.size() <= size).last();
        let mut tree = before.cloned().unwrap_or_else(|| Tree::new(KIND));
        while tree.size() < size {
            tree.push(leaf_hash(KIND, &self.entry(tree.size(), end, dir)?));
        }
        Some(tree.root())
    }

    fn entry(&mut self, index: u64, end: u64, dir: &Path) -> Option<Vec<u8>> {
        let (number, at) = (index / 256, usize::try_from(index % 256).ok()?);
        if self.bundle.as_ref().is_none_or(|(known, _)| *known != number) {
            let path = TilePath::containing(Tile::Entries, index, end)?;
            let bytes = std::fs::read(dir.join(path.to_string())).ok()?;
            self.bundle =
                Some((number, read_bundle(&bytes, path.width()).ok()?.into_iter().map(<[u8]>::to_vec).collect()));
        }
        self.bundle.as_ref()?.1.get(at).cloned()
    }
}
