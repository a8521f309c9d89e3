//! What a machine's effects mean to the other party, in words.

use serde_json::Value;
use shuyu_contract_engine::{Effect, Party, Pid, Refused, SetAsideReason};

use crate::exchange::row::{Kind, Row};
use crate::problem::Problem;

/// The answer to a message of another node.
pub enum Answer<K: Kind> {
    /// Done, or done before. The row as it is now.
    Done(Box<Row<K>>),
    /// Our own message is under way; try again.
    Busy,
    /// Not done, and never will be.
    Refused(String),
    /// The sender is not in the hands of the one with whom this was begun.
    OtherHands,
    /// There is no such process for this sender.
    Unknown,
    /// We failed; nothing was acknowledged.
    Failed(Problem),
}

/// The answer that a step's effects ask for.
pub(super) enum Verdict {
    Done,
    Busy,
    Refused(String),
}

/// Reads the answer from the effects.
pub(super) fn answer<K: Kind>(effects: &[Effect<K>]) -> Verdict {
    for effect in effects {
        match effect {
            Effect::Busy => return Verdict::Busy,
            Effect::Refuse(refused) => return Verdict::Refused(in_words::<K>(refused)),
            Effect::Ack | Effect::AckAgain => return Verdict::Done,
            Effect::Save
            | Effect::Record(_)
            | Effect::Send { .. }
            | Effect::Enquire
            | Effect::ScheduleAt(_)
            | Effect::SetAside(_) => {}
        }
    }
    Verdict::Refused("not acknowledged".to_owned())
}

/// A refusal with the names of the protocol.
fn in_words<K: Kind>(refused: &Refused<K>) -> String {
    let Refused::Illegal { state, party, verb } = refused else { return refused.to_string() };
    let state =
        state.map_or("before the first message".to_owned(), |state| format!("in state {}", K::state_name(state)));
    format!("`{}` by the {party} is not legal {state}", K::verb_name(*verb))
}

/// Why a process waits for an operator.
pub(super) fn aside(reason: SetAsideReason) -> String {
    match reason {
        SetAsideReason::NoAnswer { attempts } => {
            format!("no definite answer in {attempts} attempts; `resume` tries again")
        }
        SetAsideReason::StatesDiffer | _ => "the other party reports a state that no message explains".to_owned(),
    }
}

/// The other party's identifier in its answer to a first message.
pub(super) fn named_pid(answer: &Value, party: Party) -> Option<Pid> {
    let field = match party {
        Party::Provider => "providerPid",
        Party::Consumer => "consumerPid",
    };
    answer.get(field)?.as_str()?.parse().ok()
}
