//! What the shell must do after a step, in order.

use shuyu_base::{Digest, UnixMillis};

use crate::party::Party;
use crate::protocol::Protocol;

/// One thing for the shell to do. The effects of a step are performed in order, and all of them before the next
/// input. A `Save` and the `Record`s after it are one transaction; evidence is durable before anything later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<P: Protocol> {
    /// Store [`crate::Machine::snapshot`].
    Save,
    /// Write evidence.
    Record(Record<P>),
    /// Acknowledge the message: it was done now.
    Ack,
    /// Acknowledge the message: it had been done before, nothing is done now.
    AckAgain,
    /// Answer "busy, try again" (HTTP 503 with `Retry-After`): our own message is under way.
    Busy,
    /// Answer with a definite refusal (HTTP 400 and an error body).
    Refuse(Refused<P>),
    /// Send our pending message, and report the outcome by one of the `on_...` functions.
    Send {
        /// The kind of message.
        verb: P::Verb,
        /// Names the message in the shell's outbox.
        event: Digest,
        /// Which attempt this is, from 1.
        attempt: u32,
    },
    /// Ask the other party for the state of the process (HTTP GET on its identifier) and report by
    /// [`crate::Machine::on_peer_state`]: it refused a message that an unanswered attempt may have delivered before.
    Enquire,
    /// Call `on_tick` at this time or soon after. A later `ScheduleAt` replaces an earlier one.
    ScheduleAt(UnixMillis),
    /// Tell the operator that this process waits for [`crate::Machine::resume`].
    SetAside(SetAsideReason),
}

/// What a piece of evidence says happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// We are about to send it.
    Sent,
    /// We received it and did what it says.
    Received,
    /// We had said `Sent`, and it did not take effect. Its sequence number is used again.
    Withdrawn,
}

/// Evidence of one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<P: Protocol> {
    /// What happened.
    pub act: Act,
    /// The place of the message among the applied messages of the process, from 1; the same on both sides.
    pub seq: u64,
    /// The kind of message.
    pub verb: P::Verb,
    /// Who sent the message.
    pub from: Party,
    /// Digest of the message.
    pub event: Digest,
}

/// Why a message is definitely not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused<P: Protocol> {
    /// The message is not legal in this state.
    #[error("`{verb:?}` by the {party} is not legal in state {state:?}")]
    Illegal {
        /// The state, `None` before the first message.
        state: Option<P::State>,
        /// Who sent it.
        party: Party,
        /// What was sent.
        verb: P::Verb,
    },
    /// The message says it is from the role we have ourselves.
    #[error("message is from our own role, the {party}")]
    OwnRole {
        /// The role.
        party: Party,
    },
    /// A process identifier is not the one this process has.
    #[error("`{field}` is not the identifier of this process")]
    OtherProcess {
        /// `providerPid` or `consumerPid`.
        field: &'static str,
    },
    /// The message needs terms and has none.
    #[error("`{verb:?}` carries no terms")]
    NoTerms {
        /// What was sent.
        verb: P::Verb,
    },
    /// An agreement is not on the terms that were last put.
    #[error("`{verb:?}` is not on the terms last put")]
    OtherTerms {
        /// What was sent.
        verb: P::Verb,
    },
    /// The process has had as many moves as it may; only termination is left.
    #[error("process has had {moves} moves, only termination is left")]
    TooManyMoves {
        /// Moves so far.
        moves: u64,
    },
    /// The same message was refused before, or crossed one of ours that won; the answer does not change.
    #[error("message was refused before, or is void because it crossed one of ours")]
    RefusedBefore,
    /// The shell declined a legal message.
    #[error("declined")]
    Declined,
}

/// Why a process waits for an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetAsideReason {
    /// The other party did not give a definite answer in so many attempts.
    NoAnswer {
        /// Attempts made.
        attempts: u32,
    },
    /// The other party reports a state that no message explains (see [`crate::Machine::on_peer_state`]).
    StatesDiffer,
}
