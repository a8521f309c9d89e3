//! The review artefact: what every state allows every party, for both machines.

use std::fmt::Debug;

use shuyu_contract_engine::{Negotiation, Party, Protocol, Transfer, negotiation, next_state, transfer};

fn table<P: Protocol>(states: &[P::State], verbs: &[P::Verb]) -> String
where
    P::State: Debug,
    P::Verb: Debug,
{
    let mut text = String::new();
    for state in std::iter::once(None).chain(states.iter().copied().map(Some)) {
        for party in [Party::Provider, Party::Consumer] {
            let from = state.map_or("(new)".to_owned(), |state| format!("{state:?}"));
            text += &format!("{from:<10} {party:<8}");
            for &verb in verbs {
                let next = next_state::<P>(state, party, verb).map_or("-".to_owned(), |next| format!("{next:?}"));
                text += &format!(" {verb:?}:{next}");
            }
            text += "\n";
        }
    }
    text
}

#[test]
fn negotiation_allows_exactly_this() {
    insta::assert_snapshot!(table::<Negotiation>(&negotiation::State::ALL, &negotiation::Verb::ALL));
}

#[test]
fn transfer_allows_exactly_this() {
    insta::assert_snapshot!(table::<Transfer>(&transfer::State::ALL, &transfer::Verb::ALL));
}

/// The machine relies on it: a move that stays would make "not applied" and "applied" look alike to an enquiry.
#[test]
fn no_move_leads_to_its_own_state() {
    assert!(Negotiation::MOVES.iter().all(|row| row.0 != row.3));
    assert!(Transfer::MOVES.iter().all(|row| row.0 != row.3));
}
