//! Audit bundles: one file with everything a third party needs to judge the followed logs, off line.
//!
//! ## What a verdict rests on
//!
//! Each [`Conviction`] says its [`Basis`]:
//!
//! - [`Basis::SignedByAccused`]: the proof consists of bytes that the accused signed. Nobody else can make it up.
//!   [`ConvictionKind::Fork`] (two signed heads of one size), [`ConvictionKind::Inconsistent`] (entries that a signed
//!   head commits to do not lead to an earlier signed head), [`ConvictionKind::BadStatement`], repeated and
//!   out-of-sequence records.
//! - [`Basis::ServedToAuditor`]: the accused signed the head, but that *these* bytes were served against it, or in
//!   *this* order, is the auditor's word: [`ConvictionKind::Altered`], [`ConvictionKind::Rollback`],
//!   [`ConvictionKind::BadSignature`]. An auditor could have altered the bytes. It is enough to look again, and enough
//!   to refuse the log; it is not enough to convict its owner.
//! - [`Basis::PartiesDisagree`]: two signed accounts cannot both be true and complete. Neither is named as the liar.
//!
//! ## Whose keys
//!
//! A bundle carries the DID documents the auditor resolved. Whoever judges a bundle made by someone else compares the
//! keys with what they know (`Bundle::check_pins`), or the bundle proves only something about the holders of these keys.
//! For did:key and did:jwk the identifier itself decides. A conviction for a bad statement rests on that document too:
//! a key left out of it makes a good statement look unsigned.
//!
//! The file format is in `bundle/v1.rs`.

mod check;
mod v1;

use std::collections::BTreeMap;
use std::fmt;

use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::DidDocument;
use shuyu_tlog::{Checkpoint, TilePath, Vkey};

use crate::compare::Report;

pub use v1::ReadBundleError;

/// Largest bundle accepted or written, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// Most nodes in one bundle; every pair of them is compared.
pub const MAX_NODES: usize = 64;

/// Most checkpoints of one node.
pub const MAX_OBSERVED: usize = 4096;

/// What an auditor holds about several nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// When it was put together, by the auditor's clock.
    pub made_at: UnixMillis,
    /// One record a node, each node once.
    pub nodes: Vec<NodeEvidence>,
}

/// What an auditor holds about one node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeEvidence {
    /// Who.
    pub did: Did,
    /// Its DID document, as the auditor resolved it.
    pub document: DidDocument,
    /// The key of its log; one of the keys in the document, under the name of the log.
    pub vkey: Vkey,
    /// The checkpoints it served, in the order the auditor saw them.
    pub observed: Vec<Observed>,
    /// The files it served: entry bundles from 0 on, and for locating an altered entry the tiles of hashes.
    pub files: BTreeMap<TilePath, Vec<u8>>,
    /// Single entries with a proof file (tlog-proof@v1) each, where the whole log is not in `files`.
    pub picked: Vec<Picked>,
}

/// A checkpoint as served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// When, by the auditor's clock.
    pub at: UnixMillis,
    /// The signed note, verbatim.
    pub checkpoint: Vec<u8>,
}

/// One entry with the proof of its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picked {
    /// The entry.
    pub entry: Vec<u8>,
    /// The proof file, verbatim.
    pub proof: Vec<u8>,
}

/// The judgement over a bundle, with what it was reached on.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The judgement.
    pub verdict: Verdict,
    /// What was verified of each node.
    pub nodes: Vec<NodeSummary>,
    /// The comparison of each pair of nodes that have processes in common.
    pub pairs: Vec<PairSummary>,
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything in the bundle fits together.
    Holds,
    /// Something does not; at least one conviction.
    DoesNotHold(Vec<Conviction>),
}

/// One thing that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conviction {
    /// What.
    pub kind: ConvictionKind,
    /// What the proof rests on.
    pub basis: Basis,
    /// The accused; two where the proof does not say which of them.
    pub who: Vec<Did>,
    /// In words, with sizes, indexes and hashes.
    pub detail: String,
}

/// What does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConvictionKind {
    /// Two signed heads of one size with different roots.
    Fork,
    /// A signed head is not a prefix of a later signed one.
    Inconsistent,
    /// After a head was seen, a smaller one was served.
    Rollback,
    /// Served entries or tiles do not hash to the signed root.
    Altered,
    /// A served checkpoint is not signed by the log's key, or of another log.
    BadSignature,
    /// The log holds an entry that is not a statement signed by its own node.
    BadStatement,
    /// The log holds one act twice.
    Replayed,
    /// The log does not count its messages 1, 2, 3 ...
    OutOfSequence,
    /// The accounts of two parties cannot both be true and complete.
    Disagreement,
}

impl ConvictionKind {
    /// The name used in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fork => "fork",
            Self::Inconsistent => "inconsistent",
            Self::Rollback => "rollback",
            Self::Altered => "altered",
            Self::BadSignature => "bad-signature",
            Self::BadStatement => "bad-statement",
            Self::Replayed => "replayed",
            Self::OutOfSequence => "out-of-sequence",
            Self::Disagreement => "disagreement",
        }
    }
}

/// What a conviction rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Bytes that the accused signed.
    SignedByAccused,
    /// The auditor's word that these bytes were served, or in this order, against a head that the accused signed.
    ServedToAuditor,
    /// Two signed accounts against each other.
    PartiesDisagree,
}

impl Basis {
    /// The name used in texts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::SignedByAccused => "signed-by-accused",
            Self::ServedToAuditor => "served-to-auditor",
            Self::PartiesDisagree => "parties-disagree",
        }
    }
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who: Vec<String> = self.who.iter().map(|did| format!("`{did}`")).collect();
        write!(f, "{} ({}), {}: {}", self.kind.name(), self.basis.name(), who.join(" or "), self.detail)
    }
}

/// What was verified of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeSummary {
    /// Who.
    pub did: Did,
    /// The key that its log was verified with, and the log's name in it.
    pub vkey: Vkey,
    /// The largest head with a good signature.
    pub head: Option<Checkpoint>,
    /// How many entries are proven to be in the log.
    pub entry_count: u64,
    /// Whether these are all entries up to the head.
    pub is_whole: bool,
}

/// The comparison of two nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct PairSummary {
    /// One.
    pub a: Did,
    /// The other.
    pub b: Did,
    /// What was found.
    pub report: Report,
    /// Whether both accounts are whole, so that what is missing counts too.
    pub is_whole: bool,
}

/// Why a bundle could not be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyBundleError {
    /// The log's key is not in the node's DID document.
    #[error("the key of log `{log}` is not a key of `{did}`")]
    KeyNotOfNode {
        /// The node.
        did: Did,
        /// The name of the log.
        log: String,
    },
    /// The DID document is of someone else.
    #[error("the document given for `{did}` is not its own")]
    DocumentNotOfNode {
        /// The node.
        did: Did,
    },
    /// A node appears twice.
    #[error("`{did}` appears twice")]
    Twice {
        /// The node.
        did: Did,
    },
    /// A checkpoint or proof is no such thing.
    #[error("{what} of `{did}` cannot be read")]
    Unreadable {
        /// The node.
        did: Did,
        /// Which part.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Entry bundles are there, but not all up to the head.
    #[error("`{path}` of `{did}` is not in the bundle")]
    Incomplete {
        /// The node.
        did: Did,
        /// The first file that is not there.
        path: TilePath,
    },
    /// The key is not the one that the reader knows.
    #[error("the log key of `{did}` is not the one known to you")]
    Pin {
        /// The node.
        did: Did,
    },
}

impl Bundle {
    /// Reads a bundle file. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ReadBundleError`] names the member.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadBundleError> {
        v1::read(bytes)
    }

    /// The bundle file.
    ///
    /// # Errors
    /// When it would be larger than [`MAX_BUNDLE_BYTES`] or hold more than its bounds allow.
    pub fn to_json(&self) -> Result<Vec<u8>, ReadBundleError> {
        v1::write(self)
    }

    /// Judges the bundle by itself: every checkpoint signature, every entry's place, every statement's signature, and
    /// every pair of accounts.
    ///
    /// # Errors
    /// [`VerifyBundleError`] when a part cannot be read or is not there, so that there is nothing to judge.
    pub fn verify(&self) -> Result<Audit, VerifyBundleError> {
        check::audit(self)
    }

    /// Compares the log keys in the bundle with keys known from elsewhere; nodes without a known key pass.
    ///
    /// # Errors
    /// [`VerifyBundleError::Pin`] names the node whose key differs.
    pub fn check_pins(&self, known: &BTreeMap<Did, Vkey>) -> Result<(), VerifyBundleError> {
        let differs = |node: &&NodeEvidence| known.get(&node.did).is_some_and(|key| *key != node.vkey);
        match self.nodes.iter().find(differs) {
            Some(node) => Err(VerifyBundleError::Pin { did: node.did.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
