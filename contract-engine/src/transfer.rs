//! Transfer process: its states, messages and moves (DSP 2025-1, "Transfer Process Protocol").

use crate::party::Party;
use crate::protocol::{Move, Opening, Protocol, TermsRule};

use Party::{Consumer, Provider};
use State::{Completed, Requested, Started, Suspended, Terminated};

/// The transfer process protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer;

/// A transfer as one party holds it.
pub type Machine = crate::Machine<Transfer>;

/// States of a transfer process (section "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The consumer has asked for the dataset under an agreement.
    Requested,
    /// The dataset is available, or is being pushed.
    Started,
    /// One of the parties has paused the transfer.
    Suspended,
    /// The transfer has run to its end. Terminal.
    Completed,
    /// One of the parties has stopped the transfer. Terminal.
    Terminated,
}

/// Messages of a transfer process (section "Message Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Transfer Request Message.
    Request,
    /// Transfer Start Message, also the one that resumes.
    Start,
    /// Transfer Suspension Message.
    Suspend,
    /// Transfer Completion Message.
    Complete,
    /// Transfer Termination Message.
    Terminate,
}

impl State {
    /// Every state, in the order of the specification.
    pub const ALL: [Self; 5] = [Requested, Started, Suspended, Completed, Terminated];

    /// The name on the wire, for example `REQUESTED`.
    pub fn name(self) -> &'static str {
        match self {
            Requested => "REQUESTED",
            Started => "STARTED",
            Suspended => "SUSPENDED",
            Completed => "COMPLETED",
            Terminated => "TERMINATED",
        }
    }
}

impl Verb {
    /// Every verb, in the order a transfer usually takes.
    pub const ALL: [Self; 5] = [Self::Request, Self::Start, Self::Suspend, Self::Complete, Self::Terminate];

    /// The verb as evidence names it, for example `request`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Start => "start",
            Self::Suspend => "suspend",
            Self::Complete => "complete",
            Self::Terminate => "terminate",
        }
    }
}

/// "Sent by a Consumer to initiate a Transfer Process" (Transfer Request Message).
const OPENINGS: [Opening<Transfer>; 1] = [(Consumer, Verb::Request, Requested)];

/// Every legal move after the first message; a move not listed is refused.
///
/// Only the provider starts a requested transfer. A suspended one is resumed by either party: the figure draws
/// `P/C`, and the HTTPS binding gives the consumer the provider's `/start` path "to attempt to start a Transfer
/// Process after it has been suspended", though the table of the Transfer Start Message names the provider alone.
/// Termination comes "at any point except a terminal state". A suspended transfer cannot complete (figure).
#[rustfmt::skip]
const MOVES: [Move<Transfer>; 13] = [
    (Requested, Provider, Verb::Start,     Started),
    (Requested, Provider, Verb::Terminate, Terminated),
    (Requested, Consumer, Verb::Terminate, Terminated),
    (Started,   Provider, Verb::Suspend,   Suspended),
    (Started,   Consumer, Verb::Suspend,   Suspended),
    (Started,   Provider, Verb::Complete,  Completed),
    (Started,   Consumer, Verb::Complete,  Completed),
    (Started,   Provider, Verb::Terminate, Terminated),
    (Started,   Consumer, Verb::Terminate, Terminated),
    (Suspended, Provider, Verb::Start,     Started),
    (Suspended, Consumer, Verb::Start,     Started),
    (Suspended, Provider, Verb::Terminate, Terminated),
    (Suspended, Consumer, Verb::Terminate, Terminated),
];

impl Protocol for Transfer {
    type State = State;
    type Verb = Verb;

    const OPENINGS: &'static [Opening<Self>] = &OPENINGS;
    const MOVES: &'static [Move<Self>] = &MOVES;
    const TERMINATE: Verb = Verb::Terminate;

    fn terms_rule(verb: Verb) -> TermsRule {
        match verb {
            Verb::Request | Verb::Start | Verb::Suspend | Verb::Complete | Verb::Terminate => TermsRule::Nothing,
        }
    }
}
