//! What a judgement says.

use std::fmt;

use shuyu_base::Did;
use shuyu_tlog::{Checkpoint, TilePath, Vkey};

use crate::compare::Report;

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
    pub who: Vec<Accused>,
    /// In words, with sizes, indexes and hashes.
    pub detail: String,
    /// The parts of the bundle that prove it.
    pub proof: Vec<Part>,
}

/// Who is accused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Accused {
    /// The owner of a log.
    Node(Did),
    /// A witness, by its verifier key.
    Witness(String),
}

impl fmt::Display for Accused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(did) => write!(f, "`{did}`"),
            Self::Witness(key) => write!(f, "witness `{key}`"),
        }
    }
}

/// A part of a bundle that a conviction rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A signed note, verbatim.
    Head(Vec<u8>),
    /// An entry of a node's log, and the signed note of the tree that it is proven in.
    Entry {
        /// Whose log.
        did: Did,
        /// Its place.
        index: u64,
        /// The note.
        head: Vec<u8>,
    },
    /// An entry as it stands among `picked` of a node.
    Picked {
        /// Whose record.
        did: Did,
        /// Its place in the list.
        at: usize,
    },
    /// What a signed head of a node's log says about a smaller tree.
    Prefix {
        /// Whose log.
        did: Did,
        /// The note of the larger tree.
        head: Vec<u8>,
        /// The smaller size.
        size: u64,
    },
    /// A promise, by its place in the node's record.
    Promise {
        /// Who promised.
        did: Did,
        /// Its place in the list.
        at: usize,
    },
    /// A receipt, by its place in the node's record.
    Receipt {
        /// Who signed it.
        did: Did,
        /// Its place in the list.
        at: usize,
    },
    /// An entry as served, which does not hash to what the served tiles and the signed note say.
    Served {
        /// Whose log.
        did: Did,
        /// Its place.
        index: u64,
        /// The note.
        head: Vec<u8>,
    },
    /// All that is held of a node's log: what is proven is that something is not there.
    Log(Did),
}

/// What does not hold. The table in the module's header says how each is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConvictionKind {
    /// Two signed heads of one size with different roots.
    Fork,
    /// A signed head is not a prefix of a later signed one.
    Inconsistent,
    /// After a head was seen, a smaller one was served.
    Rollback,
    /// An entry was exchanged for another, or served entries or tiles do not hash to the signed root.
    Altered,
    /// A served checkpoint is not signed by the log's key, or of another log.
    BadSignature,
    /// The log holds an entry that is not a statement signed by its own node.
    BadStatement,
    /// The log holds one act twice.
    Replayed,
    /// The log does not count its messages 1, 2, 3 ...
    OutOfSequence,
    /// An entry claims a time at which the log did not have it.
    BackDated,
    /// An entry claims a time before which the log had it already.
    PreMade,
    /// The log promised to take an entry, and did not.
    Dropped,
    /// The node signed a receipt of a use that its log does not know.
    Omitted,
    /// An entry is signed with a key that the node had given up.
    RevokedKey,
    /// A witness cosigned what cannot both be true.
    LyingWitness,
    /// The accounts of two parties cannot both be true and complete.
    Disagreement,
}

impl ConvictionKind {
    /// Every kind, in the order of declaration.
    pub const ALL: [Self; 15] = [
        Self::Fork,
        Self::Inconsistent,
        Self::Rollback,
        Self::Altered,
        Self::BadSignature,
        Self::BadStatement,
        Self::Replayed,
        Self::OutOfSequence,
        Self::BackDated,
        Self::PreMade,
        Self::Dropped,
        Self::Omitted,
        Self::RevokedKey,
        Self::LyingWitness,
        Self::Disagreement,
    ];

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
            Self::BackDated => "back-dated",
            Self::PreMade => "pre-made",
            Self::Dropped => "dropped",
            Self::Omitted => "omitted",
            Self::RevokedKey => "revoked-key",
            Self::LyingWitness => "lying-witness",
            Self::Disagreement => "disagreement",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a conviction rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Basis {
    /// Bytes that the accused signed.
    SignedByAccused,
    /// Bytes that the accused signed, and the times that a quorum of witnesses put to them.
    CosignedByQuorum,
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
            Self::CosignedByQuorum => "cosigned-by-quorum",
            Self::ServedToAuditor => "served-to-auditor",
            Self::PartiesDisagree => "parties-disagree",
        }
    }

    /// Whether it convicts whoever trusts neither the auditor nor the other party.
    pub fn convicts(self) -> bool {
        match self {
            Self::SignedByAccused | Self::CosignedByQuorum => true,
            Self::ServedToAuditor | Self::PartiesDisagree => false,
        }
    }
}

impl fmt::Display for Conviction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who: Vec<String> = self.who.iter().map(ToString::to_string).collect();
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
