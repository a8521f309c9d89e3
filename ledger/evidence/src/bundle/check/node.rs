//! The judgement over one node's evidence: keys, heads, entries, statements.

use std::collections::BTreeMap;

use shuyu_base::keys::PublicKey;
use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::local_document;
use shuyu_tlog::quorum::WitnessPolicy;
use shuyu_tlog::{Checkpoint, InclusionProof, SignedCheckpoint, Tile, VerifyProofError};

use super::super::{Accused, Basis, Bundle, Conviction, ConvictionKind, NodeEvidence, Part, VerifyBundleError};
use super::book::{Book, Proven};
use super::heads::Fact;
use super::times::{Bound, Notes};
use super::{heads, keys, promises, signed, times};
use crate::compare::{Finding, Party, own_faults};
use crate::entry;
use crate::statement::Statement;

/// What was verified of one node.
pub(super) struct Checked {
    pub convictions: Vec<Conviction>,
    pub head: Option<Checkpoint>,
    pub statements: Vec<Statement>,
    /// Place of each statement, and the key that signed it.
    pub places: Vec<(u64, PublicKey)>,
    pub entry_count: u64,
    pub is_whole: bool,
    /// When the head was seen.
    pub seen_at: UnixMillis,
    pub book: Book,
    /// What heads say about smaller trees.
    pub facts: Vec<Fact>,
    /// The cosigned heads that the log states.
    pub bounds: Vec<Bound>,
}

pub(super) fn check(node: &NodeEvidence, bundle: &Bundle, notes: &Notes<'_>) -> Result<Checked, VerifyBundleError> {
    check_keys(node)?;
    let policy = bundle.policy.as_ref();
    let mut judge = Judge { node, policy, convictions: Vec::new(), book: Book::default(), facts: Vec::new() };
    judge.observed()?;
    judge.loose(&bundle.heads);
    judge.picked()?;
    judge.prefixes()?;
    heads::forks(&mut judge);
    heads::rollbacks(&mut judge);
    let head = judge.book.largest().map(|seen| (seen.head.clone(), seen.at));
    let has_entries = node.files.keys().any(|path| path.tile() == Tile::Entries);
    let mut is_whole = false;
    if let Some((head, _)) = &head
        && (has_entries || head.size == 0)
    {
        is_whole = judge.log(head)?;
    }
    heads::inconsistencies(&mut judge);
    judge.book.finish();
    let entry_count = judge.book.proven.len() as u64;
    let (statements, places) = judge.statements();
    let bounds = times::check(&mut judge, notes, &statements, &places);
    keys::check(&mut judge, &statements, &places);
    promises::check(&mut judge)?;
    let seen_at = head.as_ref().map_or(UnixMillis(i64::MIN), |(_, at)| *at);
    if is_whole {
        judge.sequences(Party { did: &node.did, statements: &statements, seen_at });
    }
    let head = head.map(|(head, _)| head);
    let Judge { convictions, book, facts, .. } = judge;
    Ok(Checked { convictions, head, statements, places, entry_count, is_whole, seen_at, book, facts, bounds })
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

/// One node under judgement.
pub(super) struct Judge<'a> {
    pub node: &'a NodeEvidence,
    pub policy: Option<&'a WitnessPolicy>,
    pub convictions: Vec<Conviction>,
    pub book: Book,
    pub facts: Vec<Fact>,
}

impl Judge<'_> {
    pub fn did(&self) -> Did {
        self.node.did.clone()
    }

    pub fn served(&mut self, kind: ConvictionKind, detail: String, proof: Vec<Part>) {
        let who = vec![Accused::Node(self.did())];
        self.convictions.push(Conviction { kind, basis: Basis::ServedToAuditor, who, detail, proof });
    }

    pub fn signed(&mut self, kind: ConvictionKind, detail: String, proof: Vec<Part>) {
        self.convictions.push(signed(kind, &self.node.did, detail, proof));
    }

    pub fn cosigned(&mut self, kind: ConvictionKind, detail: String, proof: Vec<Part>) {
        let who = vec![Accused::Node(self.did())];
        self.convictions.push(Conviction { kind, basis: Basis::CosignedByQuorum, who, detail, proof });
    }

    pub fn unreadable(
        &self,
        what: String,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> VerifyBundleError {
        VerifyBundleError::Unreadable { did: self.did(), what, source: source.into() }
    }

    fn observed(&mut self) -> Result<(), VerifyBundleError> {
        for (order, one) in self.node.observed.iter().enumerate() {
            match SignedCheckpoint::open(&one.checkpoint, &self.node.vkey) {
                Ok(signed) => {
                    let head = signed.checkpoint().clone();
                    self.book.add_head(head, &one.checkpoint, (one.at, Some(order)), self.policy);
                }
                Err(error) if error.is_unreadable() => {
                    return Err(self.unreadable(format!("checkpoint {order}"), error));
                }
                Err(error) => {
                    let part = Part::Head(one.checkpoint.clone());
                    self.served(ConvictionKind::BadSignature, format!("checkpoint {order}: {error}"), vec![part]);
                }
            }
        }
        Ok(())
    }

    /// Heads that came by other ways count if the log signed them; what it did not sign says nothing about it.
    fn loose(&mut self, notes: &[Vec<u8>]) {
        let origin = format!("{}\n", self.node.vkey.name());
        for note in notes.iter().filter(|note| note.starts_with(origin.as_bytes())) {
            if let Ok(signed) = SignedCheckpoint::open(note, &self.node.vkey) {
                let head = signed.checkpoint().clone();
                self.book.add_head(head, note, (UnixMillis(i64::MIN), None), self.policy);
            }
        }
    }

    /// Entries that come with proofs of their own.
    fn picked(&mut self) -> Result<(), VerifyBundleError> {
        for (at, one) in self.node.picked.iter().enumerate() {
            let proof = InclusionProof::parse(&one.proof).map_err(|e| self.unreadable(format!("proof {at}"), e))?;
            let part = Part::Picked { did: self.did(), at };
            match proof.verify(&one.entry, &self.node.vkey) {
                Ok(signed) => {
                    let (note, unseen) = (proof.checkpoint.as_bytes(), (UnixMillis(i64::MIN), None));
                    let head = self.book.add_head(signed.checkpoint().clone(), note, unseen, self.policy);
                    self.take(proof.index, &one.entry, (head, at));
                }
                Err(VerifyProofError::Checkpoint(error)) if error.is_unreadable() => {
                    return Err(self.unreadable(format!("checkpoint of proof {at}"), error));
                }
                Err(VerifyProofError::Checkpoint(error)) => {
                    let detail = format!("checkpoint of proof {at}: {error}");
                    self.served(ConvictionKind::BadSignature, detail, vec![part]);
                }
                Err(error) => {
                    self.served(ConvictionKind::Altered, format!("entry {}: {error}", proof.index), vec![part]);
                }
            }
        }
        Ok(())
    }

    /// An entry that is proven; another one proven at its place was exchanged for it.
    fn take(&mut self, index: u64, entry: &[u8], place: (usize, usize)) {
        let did = self.did();
        let new = || Proven { bytes: entry.to_vec(), picked: Vec::new(), in_log: false };
        let proven = self.book.proven.entry(index).or_insert_with(new);
        if proven.bytes == entry {
            proven.picked.push(place);
            return;
        }
        let first = proven.picked.first().map_or(0, |(_, at)| *at);
        let proof = [first, place.1].map(|at| Part::Picked { did: did.clone(), at });
        self.signed(ConvictionKind::Altered, two_entries(index), proof.to_vec());
    }

    /// Numbers that are not 1, 2, 3 ... in a process, and events recorded twice; only the whole log shows that.
    fn sequences(&mut self, account: Party<'_>) {
        for (process, finding) in own_faults(account) {
            let kind = match finding {
                Finding::Replayed { .. } => ConvictionKind::Replayed,
                Finding::OutOfSequence { .. }
                | Finding::Missing { .. }
                | Finding::Extra { .. }
                | Finding::Contradicting { .. }
                | Finding::Pending { .. }
                | Finding::UsageUnacknowledged { .. } => ConvictionKind::OutOfSequence,
            };
            let part = Part::Log(self.did());
            self.signed(kind, format!("process `{process}`: {finding}"), vec![part]);
        }
    }

    /// Opens every proven entry; what is not a statement of the node itself convicts it, as does an act stated twice.
    fn statements(&mut self) -> (Vec<Statement>, Vec<(u64, PublicKey)>) {
        let did = self.did();
        let (mut statements, mut places) = (Vec::new(), Vec::new());
        let mut seen: BTreeMap<[u8; 32], u64> = BTreeMap::new();
        let mut problems = Vec::new();
        for (index, proven) in &self.book.proven {
            let mut used = None;
            let key = |kid: &str| {
                used = self.node.document.method(kid).map(|method| method.key.clone());
                used.clone()
            };
            let opened = entry::open(&proven.bytes, key);
            let own = self.book.part(&did, *index);
            let problem = match (opened, used) {
                (Ok(statement), Some(key)) if statement.by == did => match seen.insert(statement.dedup_id(), *index) {
                    None => {
                        statements.push(statement);
                        places.push((*index, key));
                        continue;
                    }
                    Some(first) => {
                        let detail = format!("entry {index} repeats entry {first}");
                        (ConvictionKind::Replayed, detail, vec![self.book.part(&did, first), own])
                    }
                },
                (Ok(statement), _) => {
                    let detail = format!("entry {index} speaks for `{}`", statement.by);
                    (ConvictionKind::BadStatement, detail, vec![own])
                }
                (Err(error), _) => (ConvictionKind::BadStatement, format!("entry {index}: {error}"), vec![own]),
            };
            problems.push(problem);
        }
        for (kind, detail, proof) in problems {
            self.signed(kind, detail, proof);
        }
        (statements, places)
    }
}

/// What two different entries at one place are called.
pub(super) fn two_entries(index: u64) -> String {
    format!("two different entries are proven at index {index}, each under a signed head")
}
