//! What a protocol tells the machine: its tables of moves.

use std::fmt::Debug;
use std::hash::Hash;

use crate::party::Party;

/// What a message says about the terms under negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TermsRule {
    /// It carries no terms.
    Nothing,
    /// It puts terms on the table.
    Puts,
    /// It must repeat the terms that are on the table.
    Repeats,
}

/// A message that opens a process: who sends it, its verb, and the state it leads to.
pub type Opening<P> = (Party, <P as Protocol>::Verb, <P as Protocol>::State);

/// A message in a live process: the state it is legal in, who sends it, its verb, and the state it leads to.
pub type Move<P> = (<P as Protocol>::State, Party, <P as Protocol>::Verb, <P as Protocol>::State);

/// A protocol of two parties, given by tables. No move leads to the state it starts from.
pub trait Protocol: Clone + Copy + Debug + PartialEq + Eq + 'static {
    /// The states of a process.
    type State: Clone + Copy + Debug + PartialEq + Eq + Hash + 'static;
    /// The kinds of message.
    type Verb: Clone + Copy + Debug + PartialEq + Eq + Hash + 'static;

    /// Every legal first message.
    const OPENINGS: &'static [Opening<Self>];
    /// Every legal later message.
    const MOVES: &'static [Move<Self>];
    /// The verb that ends a process; the only one that may follow [`crate::Machine::MAX_MOVES`] moves.
    const TERMINATE: Self::Verb;

    /// What a message of this kind says about terms.
    fn terms_rule(verb: Self::Verb) -> TermsRule;
}

/// The state a message leads to, or `None` if it is not legal there. `state` is `None` before the first message.
pub fn next_state<P: Protocol>(state: Option<P::State>, party: Party, verb: P::Verb) -> Option<P::State> {
    match state {
        None => P::OPENINGS.iter().find(|row| (row.0, row.1) == (party, verb)).map(|row| row.2),
        Some(state) => P::MOVES.iter().find(|row| (row.0, row.1, row.2) == (state, party, verb)).map(|row| row.3),
    }
}

/// Whether no message is legal any more.
pub fn is_terminal<P: Protocol>(state: P::State) -> bool {
    P::MOVES.iter().all(|row| row.0 != state)
}
