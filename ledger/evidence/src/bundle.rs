//! Audit bundles: one file with everything a third party needs to judge the followed logs, off line.
//!
//! ## What a verdict rests on
//!
//! Each [`Conviction`] says its [`Basis`]. Two of them convict:
//!
//! - [`Basis::SignedByAccused`]: the proof consists of bytes that the accused signed. Nobody else can make it up.
//! - [`Basis::CosignedByQuorum`]: bytes that the accused signed, and times that a quorum of witnesses put to them.
//!   It is as good as the witness policy: whoever judges a bundle made by someone else brings the policy that they trust
//!   ([`Bundle::with_policy`]), or the bundle proves something about the holders of its witness keys only.
//!
//! The others give cause to look again, or to refuse a log, and do not convict its owner:
//!
//! - [`Basis::ServedToAuditor`]: the accused signed the head, but that *these* bytes were served against it, or in *this*
//!   order, is the auditor's word. An auditor could have altered the bytes.
//! - [`Basis::PartiesDisagree`]: two signed accounts cannot both be true and complete. Neither is named as the liar.
//!
//! ## What is proven, and how (sizes are numbers of entries)
//!
//! | Kind | Proof | Basis |
//! |---|---|---|
//! | fork | two signed heads of one size with different roots | signed |
//! | inconsistent | a signed head n, a signed head m, and a consistency proof from another root at m to n ([`Prefix`]), or all entries of n | signed |
//! | altered | two entries proven at one index; or bytes served that do not hash to the signed root | signed; served |
//! | rollback | a smaller head served after a larger one. Serving an old head is no signature: the log may only be stale | served |
//! | back-dated | an entry claims `t` and stands behind an entry that states a cosigned head newer than `t` (`ledger.witnessed-head`); or a head without it was the newest that the quorum knew at a time after `t` | quorum |
//! | pre-made | an entry claims `t`, and a head that covers it was cosigned before `t` | quorum |
//! | dropped | a promise, and another entry at the promised place; or a head without the place that was the newest the quorum knew after the deadline | signed; quorum |
//! | omitted | the accused's own receipt of a use, cosigned in the other party's log, and the accused's whole log, later, without the use | quorum |
//! | replayed, out-of-sequence, bad-statement | entries of the log | signed |
//! | revoked-key | an entry, behind the entry that hands over from the key it is signed with | signed |
//! | lying-witness | two cosignatures of one witness that cannot both be true | signed |
//! | bad-signature | a served checkpoint of another key | served |
//! | disagreement | two accounts | parties |
//!
//! ## Honest nodes
//!
//! A statement is signed before it enters the log; a crash or a full disk keeps it in the outbox until the node is back,
//! and the node empties the outbox before it records anything else. So what stands behind a stated head was made within
//! [`OUTBOX_TOLERANCE_S`] of it. A cosignature says what a *witness* saw, and anyone may ask a witness to cosign an old
//! head anew: a head that lacks an entry shows only that the log and its witnesses were apart, so there the tolerance is
//! [`ABSENCE_TOLERANCE_S`]. Whoever is down, or cut off from its witnesses, for longer than that with entries under way
//! cannot be told from one that back-dates. A smaller head cosigned *later* than a larger one convicts a witness that did
//! both, never the log: witnesses differ in what they have seen.
//!
//! ## Whose keys
//!
//! A bundle carries the DID documents the auditor resolved. Whoever judges a bundle made by someone else compares the
//! keys with what they know (`Bundle::check_pins`), or the bundle proves only something about the holders of these keys.
//! For did:key and did:jwk the identifier itself decides. A conviction for a bad statement rests on that document too:
//! a key left out of it makes a good statement look unsigned.
//!
//! ## Whole and minimal
//!
//! A mirror's bundle holds whole logs. [`Bundle::minimal`] cuts it down to the proof of one kind of conviction: heads,
//! single entries with their tlog-proofs, prefixes of O(log n) hashes. Where the proof is an absence, the whole log stays.
//!
//! The file format is in `bundle/v2.rs`.

mod check;
mod history;
mod minimal;
mod v2;
mod verdict;

use std::collections::BTreeMap;

use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::DidDocument;
use shuyu_tlog::quorum::WitnessPolicy;
use shuyu_tlog::{Hash, TilePath, Vkey};

pub use minimal::MinimalError;
pub use v2::ReadBundleError;
pub use verdict::{
    Accused, Audit, Basis, Conviction, ConvictionKind, NodeSummary, PairSummary, Part, Verdict, VerifyBundleError,
};

/// Largest bundle accepted or written, in bytes.
pub const MAX_BUNDLE_BYTES: usize = 64 * 1024 * 1024;

/// Most nodes in one bundle; every pair of them is compared.
pub const MAX_NODES: usize = 64;

/// Most checkpoints of one node.
pub const MAX_OBSERVED: usize = 4096;

/// Most notes that belong to no node of the bundle or came to the auditor by another way.
pub const MAX_HEADS: usize = 4096;

/// Most promises, prefixes and receipts of one node, each.
pub const MAX_EXTRAS: usize = 1024;

/// How long an honest node may hold a signed statement before its log takes it, while the log takes others, in seconds;
/// it also covers clocks that differ.
pub const OUTBOX_TOLERANCE_S: u64 = 3600;

/// How long an honest log may be down or cut off from its witnesses, in seconds: a day.
pub const ABSENCE_TOLERANCE_S: u64 = 86_400;

/// How far the clock of an honest node may run before those of its witnesses, and a witness's clock be set back, in
/// seconds.
pub const CLOCK_TOLERANCE_S: u64 = 300;

/// The kinds of statements by which a log takes up a cosigned head, its own or another log's: `event` is the SHA-256 of
/// the whole note, whose cosignatures nobody knew before they were given.
pub const HEAD_KINDS: [&str; 2] = [crate::statement::WITNESSED_HEAD, "ledger.foreign-head"];

/// The kind of the statement by which a node makes a change of keys evident; `commit.from` is the thumbprint of the key
/// that leaves.
pub const SUCCESSION_KIND: &str = "key.succession";

/// What an auditor holds about several nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// When it was put together, by the auditor's clock.
    pub made_at: UnixMillis,
    /// The witnesses, their keys and how many of them make a quorum. Without it nothing can be proven about times.
    pub policy: Option<WitnessPolicy>,
    /// Signed notes of any log: foreign heads that entries name by their hash, heads heard by gossip.
    pub heads: Vec<Vec<u8>>,
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
    /// Entries that its log promised to take, each with the promise's proof file.
    pub promises: Vec<Picked>,
    /// What signed heads say about smaller trees.
    pub prefixes: Vec<Prefix>,
    /// Receipts of uses that it signed for others (compact JWS).
    pub receipts: Vec<String>,
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

/// "The tree of this signed head has this root at this smaller size", with the RFC 6962 consistency proof between both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The signed head, verbatim.
    pub head: Vec<u8>,
    /// The smaller size.
    pub size: u64,
    /// The root of the head's tree at that size.
    pub root: Hash,
    /// The consistency proof, at most 64 hashes.
    pub hashes: Vec<Hash>,
}

impl NodeEvidence {
    /// A record without any evidence yet.
    pub fn new(did: Did, document: DidDocument, vkey: Vkey) -> Self {
        let (observed, files, picked) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (promises, prefixes, receipts) = (Vec::new(), Vec::new(), Vec::new());
        Self { did, document, vkey, observed, files, picked, promises, prefixes, receipts }
    }
}

impl Bundle {
    /// Reads a bundle file. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ReadBundleError`] names the member.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadBundleError> {
        v2::read(bytes)
    }

    /// The bundle file.
    ///
    /// # Errors
    /// When it would be larger than [`MAX_BUNDLE_BYTES`] or hold more than its bounds allow.
    pub fn to_json(&self) -> Result<Vec<u8>, ReadBundleError> {
        v2::write(self)
    }

    /// Judges the bundle by itself: every checkpoint signature, every entry's place, every statement's signature, and
    /// every pair of accounts.
    ///
    /// # Errors
    /// [`VerifyBundleError`] when a part cannot be read or is not there, so that there is nothing to judge.
    pub fn verify(&self) -> Result<Audit, VerifyBundleError> {
        check::audit(self)
    }

    /// The same evidence, to be judged by another witness policy: the one that the reader trusts.
    #[must_use]
    pub fn with_policy(self, policy: WitnessPolicy) -> Self {
        Self { policy: Some(policy), ..self }
    }

    /// The smallest bundle that proves one kind of conviction of this bundle.
    ///
    /// # Errors
    /// [`MinimalError`] where this bundle proves nothing of the kind.
    pub fn minimal(&self, kind: ConvictionKind) -> Result<Self, MinimalError> {
        minimal::of(self, kind)
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
