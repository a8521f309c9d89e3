//! Data flow: what a control plane and a data plane tell each other about one transfer (Eclipse Data Plane Signaling
//! 1.0, "Data Flow State Machine").
//!
//! Two uses of one table: as data plane we take the signals that are legal, as control plane we look for the next signal
//! that leads from where the flow is to where it shall be.

use Signal::{Complete, Prepare, Resume, Start, Started as Notify, Suspend, Terminate};
use State::{Completed, Initialized, Prepared, Preparing, Started, Starting, Suspended, Terminated};

/// States of a data flow (section "State Machine Definition").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was asked of the data plane yet.
    Initialized,
    /// The data plane of the consumer is getting ready.
    Preparing,
    /// The data plane of the consumer is ready.
    Prepared,
    /// The data plane is starting.
    Starting,
    /// Data flows, or may be fetched.
    Started,
    /// Data does not flow, and may again.
    Suspended,
    /// The flow has run to its end. Terminal.
    Completed,
    /// The flow was ended before. Terminal.
    Terminated,
}

/// What a control plane says to a data plane (section "Data Plane Endpoint").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Get ready; to the data plane of a consumer.
    Prepare,
    /// Start; to the data plane of a provider.
    Start,
    /// The other side has started; to the data plane of a consumer.
    Started,
    /// Pause.
    Suspend,
    /// Go on.
    Resume,
    /// The transfer has run to its end.
    Complete,
    /// End now.
    Terminate,
}

impl State {
    /// Every state, in the order of the specification.
    pub const ALL: [Self; 8] = [Initialized, Preparing, Prepared, Starting, Started, Suspended, Completed, Terminated];

    /// The name on the wire, for example `STARTED`.
    pub fn name(self) -> &'static str {
        match self {
            Initialized => "INITIALIZED",
            Preparing => "PREPARING",
            Prepared => "PREPARED",
            Starting => "STARTING",
            Started => "STARTED",
            Suspended => "SUSPENDED",
            Completed => "COMPLETED",
            Terminated => "TERMINATED",
        }
    }

    /// The state of a name on the wire.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        matches!(self, Completed | Terminated)
    }

    /// Whether the data plane has said that it will tell us later ("Asynchronous Transitions").
    pub fn is_under_way(self) -> bool {
        matches!(self, Preparing | Starting)
    }
}

impl Signal {
    /// Every signal.
    pub const ALL: [Self; 7] = [Prepare, Start, Notify, Suspend, Resume, Complete, Terminate];

    /// The last segment of the path it is posted to.
    pub fn path(self) -> &'static str {
        match self {
            Prepare => "prepare",
            Start => "start",
            Notify => "started",
            Suspend => "suspend",
            Resume => "resume",
            Complete => "completed",
            Terminate => "terminate",
        }
    }
}

/// Every answer that is legal to a signal; a move not listed is refused. Termination, which is legal in every state that
/// is not terminal, is in [`leads_to`].
#[rustfmt::skip]
const MOVES: [(State, Signal, State); 11] = [
    (Initialized, Prepare,  Preparing),
    (Initialized, Prepare,  Prepared),
    (Initialized, Start,    Starting),
    (Initialized, Start,    Started),
    (Prepared,    Start,    Starting),
    (Prepared,    Start,    Started),
    (Prepared,    Notify,   Started),
    (Started,     Suspend,  Suspended),
    (Suspended,   Resume,   Starting),
    (Suspended,   Resume,   Started),
    (Started,     Complete, Completed),
];

/// Whether `signal` may lead from one state to the other.
pub fn leads_to(from: State, signal: Signal, to: State) -> bool {
    match signal {
        Terminate => !from.is_over() && to == Terminated,
        Prepare | Start | Notify | Suspend | Resume | Complete => MOVES.contains(&(from, signal, to)),
    }
}

/// Whose data plane it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It gives the data away.
    Provider,
    /// It takes the data.
    Consumer,
}

/// What a control plane does next about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: the flow is where it shall be, or nothing leads there.
    Nothing,
    /// Wait until the data plane tells.
    Wait,
    /// Send this.
    Send(Signal),
}

/// The next signal on the way from `reached` to `wanted`.
pub fn next(side: Side, reached: State, wanted: State) -> Next {
    if reached == wanted || reached.is_over() {
        return Next::Nothing;
    }
    match (side, reached, wanted) {
        (_, Initialized, Terminated | Completed | Suspended) => Next::Nothing,
        (_, _, Terminated) => Next::Send(Terminate),
        (_, Preparing | Starting, _) => Next::Wait,
        (Side::Provider, Initialized, Started) => Next::Send(Start),
        (Side::Consumer, Initialized, Prepared | Started) => Next::Send(Prepare),
        (Side::Consumer, Prepared, Started | Completed) => Next::Send(Notify),
        (_, Suspended, Started | Completed) => Next::Send(Resume),
        (_, Started, Suspended) => Next::Send(Suspend),
        (_, Started, Completed) => Next::Send(Complete),
        (_, _, Initialized | Preparing | Prepared | Starting | Started | Suspended | Completed) => Next::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From every state, following `next` with any legal answer arrives where it shall, or waits.
    #[test]
    fn every_way_ends() {
        for side in [Side::Provider, Side::Consumer] {
            for reached in State::ALL {
                for wanted in [Prepared, Started, Suspended, Completed, Terminated] {
                    follow(side, reached, wanted);
                }
            }
        }
    }

    fn follow(side: Side, mut reached: State, wanted: State) {
        for _ in 0..4 {
            let Next::Send(signal) = next(side, reached, wanted) else { return };
            let mut answers = State::ALL.into_iter().filter(|to| leads_to(reached, signal, *to));
            reached = answers.next_back().expect("a signal that is sent has a legal answer");
        }
        panic!("{side:?} never gets to {wanted:?}, is at {reached:?}");
    }

    #[test]
    fn what_is_over_stays_over() {
        for signal in Signal::ALL {
            for to in State::ALL {
                assert!(!leads_to(Completed, signal, to) && !leads_to(Terminated, signal, to));
            }
        }
        assert!(leads_to(Starting, Terminate, Terminated) && !leads_to(Started, Start, Started));
    }

    #[test]
    fn names_are_those_of_the_specification() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("INITIATING"), None);
    }
}
