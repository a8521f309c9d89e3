//! A statement: one node says that it did one thing, about one event, in one process.

mod v1;

use std::collections::BTreeMap;

use shuyu_base::{Did, Digest, HashKind, UnixMillis};

pub use v1::{MAX_STATEMENT_BYTES, ParseStatementError};

/// Longest `kind`, in bytes; the longest we write is about 30.
pub const MAX_KIND_BYTES: usize = 64;

/// Longest `process`, in bytes: an identifier URI with a suffix.
pub const MAX_PROCESS_BYTES: usize = 512;

/// Longest `agreement`, in bytes: an identifier URI.
pub const MAX_AGREEMENT_BYTES: usize = 512;

/// Most commitments on one statement; the most we write is about 8.
pub const MAX_COMMITMENTS: usize = 32;

/// Largest sequence number: what a JSON number holds exactly (I-JSON, RFC 7493 section 2.2).
pub const MAX_SEQ: u64 = (1 << 53) - 1;

/// The kind of the statement that a node makes of its own newest head that witnesses have cosigned. `event` is the SHA-256
/// of the cosigned note, which stands beside the log at `heads/<hex>`, and `commit.root` its root. Nobody knew the
/// witnesses' signatures before they were given, so every entry behind the statement was written after them.
pub const WITNESSED_HEAD: &str = "ledger.witnessed-head";

/// What a node did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Act {
    /// It is about to send the message; durable before the message leaves.
    Sent,
    /// It has accepted the peer's message; durable before the acknowledgement leaves.
    Received,
    /// The peer definitely refused the message it had stated as sent; the sequence number is free again.
    Withdrawn,
    /// As provider, it permitted or refused a use; durable before any data leaves.
    Decided,
    /// As provider, it has finished serving a use that it permitted.
    Served,
    /// As consumer, it holds the provider's signed receipt for a use.
    Receipt,
    /// It ended an agreement or a permission.
    Revoked,
    /// It published an offer or a policy.
    Published,
    /// As auditor, it saw the head of another node's log.
    Observed,
}

impl Act {
    /// Every act, in the order of declaration.
    pub const ALL: [Self; 9] = [
        Self::Sent,
        Self::Received,
        Self::Withdrawn,
        Self::Decided,
        Self::Served,
        Self::Receipt,
        Self::Revoked,
        Self::Published,
        Self::Observed,
    ];

    /// The name in the signed text.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Withdrawn => "withdrawn",
            Self::Decided => "decided",
            Self::Served => "served",
            Self::Receipt => "receipt",
            Self::Revoked => "revoked",
            Self::Published => "published",
            Self::Observed => "observed",
        }
    }

    /// The act of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|act| act.name() == name)
    }
}

/// One node's statement about one of its own acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What the event was, such as `negotiation.request` or `usage.permitted`: lower-case letters, digits, `.`, `-`.
    pub kind: String,
    /// What the node did about it.
    pub act: Act,
    /// The process, as its initiator named it; opaque. Uses of a transfer are the process `<consumerPid>/use`.
    pub process: String,
    /// Which applied message of the process this is, from 1; both parties count alike.
    pub seq: u64,
    /// Who states this.
    pub by: Did,
    /// The other party. Where there is none (`published`), the node itself.
    pub with: Did,
    /// When, by the clock of `by`.
    pub at: UnixMillis,
    /// Hash over the canonical JSON of the protocol message; both parties can compute it.
    pub event: Digest,
    /// The agreement it happened under, once there is one.
    pub agreement: Option<String>,
    /// Named commitments to contents kept elsewhere, such as `policy` or `result`. Never contents.
    pub commit: BTreeMap<String, Digest>,
}

impl Statement {
    /// The identity of the act: SHA-256 of `act|process|seq|event`. A log accepts each identity once.
    ///
    /// A message sent anew after `withdrawn` must therefore differ from the withdrawn one (a fresh identifier in it).
    pub fn dedup_id(&self) -> [u8; 32] {
        let text = format!("{}|{}|{}|{}", self.act.name(), self.process, self.seq, self.event);
        *HashKind::Sha256.digest(&[text.as_bytes()]).bytes()
    }

    /// The canonical JSON (JCS, RFC 8785) that is signed.
    ///
    /// # Errors
    /// When a member is outside its bounds, as the reader would refuse it too.
    pub fn to_json(&self) -> Result<Vec<u8>, ParseStatementError> {
        v1::write(self)
    }

    /// Reads a statement; only the canonical spelling of a version-1 statement is accepted.
    ///
    /// # Errors
    /// [`ParseStatementError`] names the member.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ParseStatementError> {
        v1::read(bytes)
    }
}
