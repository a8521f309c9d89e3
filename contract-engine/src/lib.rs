//! Negotiation and transfer machines of the Dataspace Protocol 2025-1, the signatures under what they agree, and the data
//! flow of Data Plane Signaling, without input or output.
//!
//! In scope: which party may send which message in which state ([`negotiation`], [`transfer`]), and one
//! [`Machine`] that carries such a table over an unreliable link: proposals, acknowledgements, repeats,
//! retries, crossing messages, and the evidence each step owes.
//! Out of scope: what an offer means (terms are an identifier and a digest), who may negotiate, sockets,
//! clocks, random sources and storage. `now` and randomness are arguments; a shell performs the effects.
//!
//! The order of the effects is law: [`Effect::Save`], then [`Effect::Record`], then an answer or a send.
//!
//! Specification: Dataspace Protocol 2025-1, "Contract Negotiation Protocol" and "Transfer Process Protocol".

pub mod data_flow;
pub mod effect;
pub mod machine;
pub mod msg;
pub mod negotiation;
pub mod party;
pub mod proof;
pub mod protocol;
pub mod retry;
pub mod signature;
pub mod snapshot;
pub mod transfer;

pub use effect::{Act, Effect, Record, Refused, SetAsideReason};
pub use machine::{AckError, Assessment, Machine, ProposeError};
pub use msg::{Msg, OfferTerms, Proposal, Salt};
pub use negotiation::Negotiation;
pub use party::{ParsePidError, Party, Pid};
pub use protocol::{Protocol, TermsRule, next_state};
pub use retry::RetryPolicy;
pub use snapshot::{Applied, Pending, RestoreError, Snapshot, Stage};
pub use transfer::Transfer;
