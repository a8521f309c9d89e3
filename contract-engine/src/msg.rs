//! Messages as the machine sees them: who, what, and a digest; the text stays in the shell.

use shuyu_base::Digest;

use crate::party::{Party, Pid};
use crate::protocol::Protocol;

/// The terms a message puts on the table, opaque to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferTerms {
    /// The identifier of the offer or agreement; at most 256 bytes, checked where the message is read.
    pub offer_id: Box<str>,
    /// Digest of the rules, made the same way for offers and agreements, so that equal rules have equal digests.
    pub policy_digest: Digest,
}

/// Whether two messages with the same digest are certainly the same message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salt {
    /// The message carries an identifier of its own (`@id`): equal digests mean one message, sent again.
    Unique,
    /// It carries none, so a second suspension may equal the first to the byte. Equal digests then mean a repeat
    /// only where the message is not legal as a new one.
    Absent,
}

/// A message from the other party.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Msg<P: Protocol> {
    /// The sender's role.
    pub from: Party,
    /// The kind of message.
    pub verb: P::Verb,
    /// SHA-256 of the canonical form of the message as sent.
    pub event: Digest,
    /// Whether `event` is salted by an identifier.
    pub salt: Salt,
    /// The sender's identifier of the process.
    pub sender_pid: Pid,
    /// The receiver's identifier of the process; absent only in a first message.
    pub receiver_pid: Option<Pid>,
    /// The terms; needed where [`Protocol::terms_rule`] speaks of terms.
    pub terms: Option<OfferTerms>,
}

/// A message of our own, ready to be sent. Give each a fresh `@id`, so that no two have one digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal<P: Protocol> {
    /// The kind of message.
    pub verb: P::Verb,
    /// SHA-256 of the canonical form of the message as it will be sent.
    pub event: Digest,
    /// The terms; needed where [`Protocol::terms_rule`] speaks of terms.
    pub terms: Option<OfferTerms>,
}
