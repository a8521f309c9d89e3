//! Contract negotiation: its states, messages and moves (DSP 2025-1, "Contract Negotiation Protocol").

use crate::party::Party;
use crate::protocol::{Move, Opening, Protocol, TermsRule};

use Party::{Consumer, Provider};
use State::{Accepted, Agreed, Finalized, Offered, Requested, Terminated, Verified};

/// The contract negotiation protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiation;

/// A negotiation as one party holds it.
pub type Machine = crate::Machine<Negotiation>;

/// States of a contract negotiation (section "States").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The consumer has asked for an agreement on an offer.
    Requested,
    /// The provider has made an offer.
    Offered,
    /// The consumer has accepted the latest offer.
    Accepted,
    /// The provider has sent the agreement.
    Agreed,
    /// The consumer has verified the agreement.
    Verified,
    /// The provider has finalized: the agreement is in force. Terminal.
    Finalized,
    /// One of the parties has cancelled. Terminal.
    Terminated,
}

/// Messages of a contract negotiation (section "Message Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Contract Request Message.
    Request,
    /// Contract Offer Message.
    Offer,
    /// Contract Negotiation Event Message, `ACCEPTED`.
    Accept,
    /// Contract Agreement Message.
    Agree,
    /// Contract Agreement Verification Message.
    Verify,
    /// Contract Negotiation Event Message, `FINALIZED`.
    Finalize,
    /// Contract Negotiation Termination Message.
    Terminate,
}

impl State {
    /// Every state, in the order of the specification.
    pub const ALL: [Self; 7] = [Requested, Offered, Accepted, Agreed, Verified, Finalized, Terminated];

    /// The name on the wire, for example `REQUESTED`.
    pub fn name(self) -> &'static str {
        match self {
            Requested => "REQUESTED",
            Offered => "OFFERED",
            Accepted => "ACCEPTED",
            Agreed => "AGREED",
            Verified => "VERIFIED",
            Finalized => "FINALIZED",
            Terminated => "TERMINATED",
        }
    }
}

impl Verb {
    /// Every verb, in the order a negotiation usually takes.
    pub const ALL: [Self; 7] =
        [Self::Request, Self::Offer, Self::Accept, Self::Agree, Self::Verify, Self::Finalize, Self::Terminate];

    /// The verb as evidence names it, for example `request`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Offer => "offer",
            Self::Accept => "accept",
            Self::Agree => "agree",
            Self::Verify => "verify",
            Self::Finalize => "finalize",
            Self::Terminate => "terminate",
        }
    }
}

/// The messages that open a negotiation: "sent by a Consumer to initiate a Contract Negotiation" (Contract
/// Request Message) and "sent by a Provider to initiate a Contract Negotiation" (Contract Offer Message).
const OPENINGS: [Opening<Negotiation>; 2] = [(Consumer, Verb::Request, Requested), (Provider, Verb::Offer, Offered)];

/// Every legal move after the first message; a move not listed is refused.
///
/// Either party may terminate from every live state. The text of "Contract Negotiation Termination Message" says
/// so ("sent by a Consumer or Provider", "MAY be sent at any state"), though the figure of the section draws fewer
/// arrows: it lets only the provider terminate in ACCEPTED and VERIFIED, and only the consumer in AGREED.
/// FINALIZED and TERMINATED are final: "the state machine MUST NOT transition to another state".
#[rustfmt::skip]
const MOVES: [Move<Negotiation>; 17] = [
    (Requested, Provider, Verb::Offer,     Offered),
    (Requested, Provider, Verb::Agree,     Agreed),
    (Requested, Provider, Verb::Terminate, Terminated),
    (Requested, Consumer, Verb::Terminate, Terminated),
    (Offered,   Consumer, Verb::Request,   Requested),
    (Offered,   Consumer, Verb::Accept,    Accepted),
    (Offered,   Provider, Verb::Terminate, Terminated),
    (Offered,   Consumer, Verb::Terminate, Terminated),
    (Accepted,  Provider, Verb::Agree,     Agreed),
    (Accepted,  Provider, Verb::Terminate, Terminated),
    (Accepted,  Consumer, Verb::Terminate, Terminated),
    (Agreed,    Consumer, Verb::Verify,    Verified),
    (Agreed,    Provider, Verb::Terminate, Terminated),
    (Agreed,    Consumer, Verb::Terminate, Terminated),
    (Verified,  Provider, Verb::Finalize,  Finalized),
    (Verified,  Provider, Verb::Terminate, Terminated),
    (Verified,  Consumer, Verb::Terminate, Terminated),
];

impl Protocol for Negotiation {
    type State = State;
    type Verb = Verb;

    const OPENINGS: &'static [Opening<Self>] = &OPENINGS;
    const MOVES: &'static [Move<Self>] = &MOVES;
    const TERMINATE: Verb = Verb::Terminate;

    fn terms_rule(verb: Verb) -> TermsRule {
        match verb {
            Verb::Request | Verb::Offer => TermsRule::Puts,
            // "sent by a Provider when it agrees to a Policy": the policy is the one last put by either party.
            Verb::Agree => TermsRule::Repeats,
            Verb::Accept | Verb::Verify | Verb::Finalize | Verb::Terminate => TermsRule::Nothing,
        }
    }
}
