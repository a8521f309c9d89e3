//! Two cores over a link that loses, repeats, delays and reorders, with proposals that cross and crashes at any
//! point. Named invariants hold after every event, and once the link heals both sides meet.

#![expect(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::prelude::*;
use shuyu_base::{Digest, UnixMillis};
use shuyu_contract_engine::{
    Act, Assessment, Effect, Machine, Msg, Negotiation, OfferTerms, Party, Pid, Proposal, Protocol, Record,
    RetryPolicy, Salt, Snapshot, TermsRule, Transfer, negotiation, next_state, transfer,
};

const RETRY: RetryPolicy = RetryPolicy { first_delay_ms: 10, max_delay_ms: 80, max_attempts: 4 };

/// A copy of a message on its way to the other party.
#[derive(Clone, Debug)]
struct Request<P: Protocol> {
    to: usize,
    connection: u64,
    msg: Msg<P>,
}

/// An answer on its way back over the connection its request came by.
#[derive(Clone, Debug)]
struct Response {
    to: usize,
    connection: u64,
    event: Digest,
    answer: Answer,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Ack,
    Busy,
    Refused,
}

/// One party: the core, its disk, and its HTTP client with at most one open connection.
struct Side<P: Protocol> {
    core: Machine<P>,
    disk: Snapshot<P>,
    outbox: Option<Msg<P>>,
    evidence: Vec<Record<P>>,
    connection: Option<u64>,
    crash_in_next_step: Option<CrashPoint>,
    done: Vec<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CrashPoint {
    BeforeSave,
    AfterRecords,
}

struct World<P: Protocol> {
    sides: [Side<P>; 2],
    requests: Vec<Request<P>>,
    responses: Vec<Response>,
    now: UnixMillis,
    next_number: u64,
    verbs: &'static [P::Verb],
}

#[derive(Clone, Debug)]
enum Event {
    Propose { side: usize, verb: usize },
    Deliver { pick: usize, again: bool, decline: bool },
    Lose { pick: usize },
    Answer { pick: usize },
    LoseAnswer { pick: usize },
    TimeOut { side: usize },
    Tick { millis: u8 },
    Resume { side: usize },
    Crash { side: usize },
    CrashInNextStep { side: usize, before_save: bool },
}

fn event() -> impl Strategy<Value = Event> {
    let side = 0..2_usize;
    let pick = any::<usize>();
    prop_oneof![
        4 => (side.clone(), any::<usize>()).prop_map(|(side, verb)| Event::Propose { side, verb }),
        6 => (pick, any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(pick, again, decline)| Event::Deliver { pick, again, decline }),
        1 => pick.prop_map(|pick| Event::Lose { pick }),
        6 => pick.prop_map(|pick| Event::Answer { pick }),
        1 => pick.prop_map(|pick| Event::LoseAnswer { pick }),
        2 => side.clone().prop_map(|side| Event::TimeOut { side }),
        4 => any::<u8>().prop_map(|millis| Event::Tick { millis }),
        1 => side.clone().prop_map(|side| Event::Resume { side }),
        1 => side.clone().prop_map(|side| Event::Crash { side }),
        1 => (side, any::<bool>()).prop_map(|(side, before_save)| Event::CrashInNextStep { side, before_save }),
    ]
}

fn party(side: usize) -> Party {
    [Party::Provider, Party::Consumer][side]
}

impl<P: Protocol> World<P> {
    fn new(verbs: &'static [P::Verb]) -> Self {
        let side = |index: usize| {
            let core = Machine::new(party(index), pid(index), None, RETRY);
            let disk = core.snapshot().clone();
            Side {
                core,
                disk,
                outbox: None,
                evidence: Vec::new(),
                connection: None,
                crash_in_next_step: None,
                done: Vec::new(),
            }
        };
        Self {
            sides: [side(0), side(1)],
            requests: Vec::new(),
            responses: Vec::new(),
            now: UnixMillis(0),
            next_number: 0,
            verbs,
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Propose { side, verb } => self.propose(side, self.verbs[verb % self.verbs.len()]),
            Event::Deliver { pick, again, decline } if !self.requests.is_empty() => {
                let index = pick % self.requests.len();
                // Half of the copies are used up; the others stay on the way and arrive again.
                let request = if again { self.requests[index].clone() } else { self.requests.swap_remove(index) };
                self.deliver(request, decline);
            }
            Event::Lose { pick } if !self.requests.is_empty() => {
                self.requests.swap_remove(pick % self.requests.len());
            }
            Event::Answer { pick } if !self.responses.is_empty() => {
                let response = self.responses.swap_remove(pick % self.responses.len());
                self.answer(&response);
            }
            Event::LoseAnswer { pick } if !self.responses.is_empty() => {
                self.responses.swap_remove(pick % self.responses.len());
            }
            Event::Deliver { .. } | Event::Lose { .. } | Event::Answer { .. } | Event::LoseAnswer { .. } => {}
            Event::TimeOut { side } => self.time_out(side),
            Event::Tick { millis } => self.tick(i64::from(millis)),
            Event::Resume { side } => {
                let effects = self.sides[side].core.resume(self.now);
                self.perform(side, effects, None);
            }
            Event::Crash { side } => self.crash(side),
            Event::CrashInNextStep { side, before_save } => {
                let point = if before_save { CrashPoint::BeforeSave } else { CrashPoint::AfterRecords };
                self.sides[side].crash_in_next_step = Some(point);
            }
        }
        self.check();
    }

    fn propose(&mut self, side: usize, verb: P::Verb) {
        let number = self.number();
        let event = Digest::sha256(&number.to_be_bytes());
        let fresh = OfferTerms { offer_id: "offer".into(), policy_digest: event };
        let terms = match P::terms_rule(verb) {
            TermsRule::Nothing => None,
            TermsRule::Puts => Some(fresh),
            TermsRule::Repeats => self.sides[side].core.snapshot().terms.clone(),
        };
        let here = &mut self.sides[side];
        let Ok(effects) = here.core.propose(Proposal { verb, event, terms: terms.clone() }) else { return };
        let receiver_pid = here.core.snapshot().peer_pid.clone();
        let salt = Salt::Unique;
        let msg = Msg { from: party(side), verb, event, salt, sender_pid: pid(side), receiver_pid, terms };
        let before = here.outbox.replace(msg);
        self.perform(side, effects, None);
        if self.sides[side].core.snapshot().pending.is_none() {
            self.sides[side].outbox = before; // It crashed before anything was saved.
        }
    }

    fn deliver(&mut self, request: Request<P>, decline: bool) {
        let side = request.to;
        let core = &mut self.sides[side].core;
        let assessment = core.assess(&request.msg);
        let effects = if decline { core.decline(self.now, &request.msg) } else { core.on_msg(self.now, &request.msg) };
        // The assessment tells the truth.
        let first_answer = effects.iter().find(|effect| is_answer(effect));
        match assessment {
            Assessment::Repeat => assert_eq!(first_answer, Some(&Effect::AckAgain)),
            Assessment::Busy => assert_eq!(first_answer, Some(&Effect::Busy)),
            Assessment::Refused(why) => assert_eq!(first_answer, Some(&Effect::Refuse(why))),
            Assessment::Acceptable => {
                assert!(matches!(first_answer, Some(Effect::Ack | Effect::Refuse(_))), "{first_answer:?}");
            }
        }
        self.perform(side, effects, Some(&request));
    }

    fn answer(&mut self, response: &Response) {
        let here = &mut self.sides[response.to];
        if here.connection != Some(response.connection) {
            return; // Its connection is gone.
        }
        here.connection = None;
        let peer = pid(1 - response.to);
        let effects = match response.answer {
            Answer::Ack => here.core.on_ack(response.event, Some(&peer)),
            Answer::Busy => here.core.on_busy(self.now, response.event, response.connection),
            Answer::Refused => here.core.on_refused(response.event),
        };
        self.perform(response.to, effects.unwrap_or_default(), None);
    }

    fn time_out(&mut self, side: usize) {
        let here = &mut self.sides[side];
        if here.connection.take().is_none() {
            return;
        }
        let Some(event) = here.core.snapshot().pending.as_ref().map(|pending| pending.event) else { return };
        let effects = here.core.on_no_answer(self.now, event, self.next_number).unwrap_or_default();
        self.perform(side, effects, None);
    }

    fn tick(&mut self, millis: i64) {
        self.now = self.now.plus_millis(millis);
        for side in 0..2 {
            if self.sides[side].connection.is_none() {
                let effects = self.sides[side].core.on_tick(self.now);
                self.perform(side, effects, None);
            }
        }
    }

    fn crash(&mut self, side: usize) {
        let here = &mut self.sides[side];
        here.core = Machine::restore(here.disk.clone(), RETRY).unwrap();
        here.connection = None;
        here.crash_in_next_step = None;
    }

    fn perform(&mut self, side: usize, effects: Vec<Effect<P>>, request: Option<&Request<P>>) {
        check_order(&effects);
        let crash = self.sides[side].crash_in_next_step.filter(|_| !effects.is_empty());
        if crash == Some(CrashPoint::BeforeSave) {
            return self.crash(side);
        }
        for effect in effects {
            if crash.is_some() && !matches!(effect, Effect::Save | Effect::Record(_)) {
                return self.crash(side);
            }
            self.perform_one(side, effect, request);
        }
        if crash.is_some() {
            self.crash(side);
        }
    }

    fn perform_one(&mut self, side: usize, effect: Effect<P>, request: Option<&Request<P>>) {
        let reply = |answer| {
            let request = request.unwrap();
            Response { to: 1 - side, connection: request.connection, event: request.msg.event, answer }
        };
        match effect {
            Effect::Save => self.sides[side].disk = self.sides[side].core.snapshot().clone(),
            Effect::Record(record) => {
                if record.act == Act::Received {
                    self.sides[side].done.push(record.event);
                }
                self.sides[side].evidence.push(record);
            }
            Effect::Ack | Effect::AckAgain => self.responses.push(reply(Answer::Ack)),
            Effect::Busy => self.responses.push(reply(Answer::Busy)),
            Effect::Refuse(_) => self.responses.push(reply(Answer::Refused)),
            Effect::Send { event, .. } => {
                let connection = self.number();
                let here = &mut self.sides[side];
                here.connection = Some(connection);
                let msg = here.outbox.clone().filter(|msg| msg.event == event).unwrap();
                self.requests.push(Request { to: 1 - side, connection, msg });
            }
            Effect::Enquire => {
                // A GET that is answered at once; one that is not is an `on_no_answer`, which other runs have.
                let state = self.sides[1 - side].core.state();
                let effects = state.map(|state| self.sides[side].core.on_peer_state(state).unwrap());
                self.perform(side, effects.unwrap_or_default(), None);
            }
            Effect::ScheduleAt(_) => {}
            Effect::SetAside(why) => {
                assert!(matches!(why, shuyu_contract_engine::SetAsideReason::NoAnswer { attempts: 4.. }), "{why:?}");
            }
        }
    }

    fn check(&self) {
        let [provider, consumer] = &self.sides;
        states_differ_by_at_most_one_message_in_flight(provider, consumer);
        evidence_agrees_up_to_the_message_in_flight(provider, consumer);
        for side in &self.sides {
            nothing_is_done_twice(side);
            the_disk_holds_the_core(side);
        }
    }

    /// A healed link: every request and answer arrives, in order, until nothing is in flight.
    fn heal(&mut self) {
        for _ in 0..200 {
            for side in 0..2 {
                self.sides[side].crash_in_next_step = None;
            }
            while !self.requests.is_empty() || !self.responses.is_empty() {
                if !self.requests.is_empty() {
                    let request = self.requests.remove(0);
                    self.deliver(request, false);
                    self.check();
                }
                while !self.responses.is_empty() {
                    let response = self.responses.remove(0);
                    self.answer(&response);
                    self.check();
                }
            }
            if self.sides.iter().all(|side| side.core.snapshot().pending.is_none()) {
                return;
            }
            for side in 0..2 {
                self.time_out(side);
                self.happen(&Event::Resume { side });
            }
            self.happen(&Event::Tick { millis: 100 });
        }
        panic!("no end: {:?} {:?}", self.sides[0].core, self.sides[1].core);
    }
}

fn pid(side: usize) -> Pid {
    ["urn:uuid:provider", "urn:uuid:consumer"][side].parse().unwrap()
}

fn is_answer<P: Protocol>(effect: &Effect<P>) -> bool {
    matches!(effect, Effect::Ack | Effect::AckAgain | Effect::Busy | Effect::Refuse(_))
}

/// Save, then evidence, then at most one answer or send, then the schedule.
fn check_order<P: Protocol>(effects: &[Effect<P>]) {
    let rank = |effect: &Effect<P>| match effect {
        Effect::Save => 0,
        Effect::Record(_) => 1,
        Effect::Ack | Effect::AckAgain | Effect::Busy | Effect::Refuse(_) | Effect::Send { .. } | Effect::Enquire => 2,
        Effect::ScheduleAt(_) | Effect::SetAside(_) => 3,
    };
    let ranks: Vec<u8> = effects.iter().map(rank).collect();
    assert!(ranks.is_sorted(), "{effects:?}");
    assert!(ranks.iter().filter(|rank| **rank == 0).count() <= 1, "{effects:?}");
    assert!(ranks.iter().filter(|rank| **rank == 2).count() <= 1, "{effects:?}");
    assert!(!ranks.contains(&1) || ranks.contains(&0), "evidence without a save: {effects:?}");
}

fn states_differ_by_at_most_one_message_in_flight<P: Protocol>(a: &Side<P>, b: &Side<P>) {
    let (behind, ahead) = if a.core.snapshot().seq <= b.core.snapshot().seq {
        (a.core.snapshot(), b.core.snapshot())
    } else {
        (b.core.snapshot(), a.core.snapshot())
    };
    if behind.seq == ahead.seq {
        assert_eq!(behind.state, ahead.state);
        return;
    }
    assert_eq!(behind.seq + 1, ahead.seq, "more than one message apart: {behind:?} {ahead:?}");
    let pending =
        behind.pending.as_ref().unwrap_or_else(|| panic!("apart without a message in flight: {behind:?} {ahead:?}"));
    assert_eq!(ahead.theirs.last().map(|applied| applied.event), Some(pending.event));
    assert_eq!(next_state::<P>(behind.state, behind.role, pending.verb), ahead.state);
}

/// Evidence that stands: what was recorded, less what was withdrawn, in sequence.
fn standing<P: Protocol>(side: &Side<P>) -> Vec<(u64, Digest)> {
    let mut standing: Vec<(u64, Digest)> = Vec::new();
    for record in &side.evidence {
        match record.act {
            Act::Sent | Act::Received => standing.push((record.seq, record.event)),
            Act::Withdrawn => assert_eq!(standing.pop(), Some((record.seq, record.event)), "withdrawn, not last"),
        }
    }
    assert!(standing.iter().zip(1..).all(|((seq, _), expected)| *seq == expected), "gap: {standing:?}");
    standing
}

fn evidence_agrees_up_to_the_message_in_flight<P: Protocol>(a: &Side<P>, b: &Side<P>) {
    let (here, there) = (standing(a), standing(b));
    let settled = usize::try_from(a.core.snapshot().seq.min(b.core.snapshot().seq)).unwrap();
    assert_eq!(here[..settled], there[..settled]);
    for (list, side) in [(here, a), (there, b)] {
        let held = side.core.snapshot();
        assert_eq!(list.len() as u64, held.seq + u64::from(held.pending.is_some()));
    }
}

fn nothing_is_done_twice<P: Protocol>(side: &Side<P>) {
    let mut done = side.done.clone();
    done.sort();
    done.dedup();
    assert_eq!(done.len(), side.done.len());
}

fn the_disk_holds_the_core<P: Protocol>(side: &Side<P>) {
    assert_eq!(side.disk, *side.core.snapshot(), "a step changed what it did not save");
}

fn run<P: Protocol>(verbs: &'static [P::Verb], events: &[Event]) -> World<P> {
    let mut world = World::<P>::new(verbs);
    for event in events {
        world.happen(event);
    }
    world.heal();
    let [provider, consumer] = &world.sides;
    assert_eq!(provider.core.state(), consumer.core.state());
    assert_eq!(standing(provider), standing(consumer));
    world
}

/// Verbs in the mix in which they are proposed: those that loop come often, those that end come seldom.
const NEGOTIATION_MIX: [negotiation::Verb; 26] = {
    use negotiation::Verb::{Accept, Agree, Finalize, Offer, Request, Terminate, Verify};
    [
        Request, Offer, Request, Offer, Request, Offer, Request, Offer, Request, Offer, Request, Offer, Request, Offer,
        Request, Offer, Request, Offer, Request, Offer, Accept, Agree, Verify, Verify, Finalize, Terminate,
    ]
};
const TRANSFER_MIX: [transfer::Verb; 25] = {
    use transfer::Verb::{Complete, Request, Start, Suspend, Terminate};
    [
        Request, Request, Start, Suspend, Start, Suspend, Start, Suspend, Start, Suspend, Start, Suspend, Start,
        Suspend, Start, Suspend, Start, Suspend, Start, Suspend, Start, Suspend, Request, Complete, Terminate,
    ]
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn negotiations_stay_together(events in prop::collection::vec(event(), 0..120)) {
        run::<Negotiation>(&negotiation::Verb::ALL, &events);
    }

    #[test]
    fn long_negotiations_stay_together(events in prop::collection::vec(event(), 0..400)) {
        run::<Negotiation>(&NEGOTIATION_MIX, &events);
    }

    #[test]
    fn transfers_stay_together(events in prop::collection::vec(event(), 0..120)) {
        run::<Transfer>(&transfer::Verb::ALL, &events);
    }

    #[test]
    fn long_transfers_stay_together(events in prop::collection::vec(event(), 0..400)) {
        run::<Transfer>(&TRANSFER_MIX, &events);
    }
}
