//! One party's side of a process, over a link that loses, repeats, delays and reorders.
//!
//! How two machines stay together:
//! - A party has at most one message in flight, and moves only when that message is acknowledged.
//! - A message gets one verdict for ever: applied messages are acknowledged again, refused ones refused again.
//! - While our message is in flight, theirs is answered "busy", which is no verdict.
//! - When two messages cross, the provider's wins. The consumer gives way to one message only: the one it has
//!   seen, after the provider answered "busy" to an attempt made since. That proves the provider had not applied
//!   ours when it made its own, and cannot until it hears from us. The consumer withdraws its message, applies the
//!   provider's, and goes on with its own if that is still legal. The provider, on the acknowledgement, makes the
//!   same distinction and voids what is not legal any more, so that a late copy does no harm.

use shuyu_base::{Digest, UnixMillis};

use crate::effect::{Act, Effect, Record, Refused, SetAsideReason};
use crate::msg::{Msg, OfferTerms, Proposal, Salt};
use crate::party::{Party, Pid};
use crate::protocol::{Protocol, TermsRule, is_terminal, next_state};
use crate::retry::RetryPolicy;
use crate::snapshot::{Applied, Pending, RestoreError, Snapshot, Stage};

/// One party's side of a process.
#[derive(Clone, Debug)]
pub struct Machine<P: Protocol> {
    held: Snapshot<P>,
    link: Link,
    retry: RetryPolicy,
}

/// What is known about the attempts to deliver the pending message; forgotten in a crash.
#[derive(Clone, Copy, Debug)]
struct Link {
    phase: Phase,
    /// Attempts made since the message was proposed or restored.
    attempts: u32,
    /// Attempts that do not count against the limit any more, after a resumption.
    forgiven: u32,
    /// Attempts without a definite answer, which may still arrive.
    unanswered: u32,
    /// The message we answered "busy", and how many attempts of ours had been made then.
    seen: Option<(Digest, u32)>,
    /// The message we give way to.
    yield_to: Option<Digest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    InFlight,
    Enquiring,
    Waiting { due: UnixMillis },
    SetAside,
}

impl Link {
    const IDLE: Self = Self { phase: Phase::Idle, attempts: 0, forgiven: 0, unanswered: 0, seen: None, yield_to: None };
}

/// What the machine would do with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assessment<P: Protocol> {
    /// It was done before; it would be acknowledged again.
    Repeat,
    /// Our own message is in flight.
    Busy,
    /// It would be refused.
    Refused(Refused<P>),
    /// It would be done. The shell may still decline it.
    Acceptable,
}

/// Why a message of ours was not taken up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError<P: Protocol> {
    /// One is in flight already.
    #[error("`{verb:?}` is still in flight")]
    InFlight {
        /// The message in flight.
        verb: P::Verb,
    },
    /// The message would be refused by the other party.
    #[error(transparent)]
    Refused(#[from] Refused<P>),
    /// A message with this digest was sent before: give each message a fresh `@id`.
    #[error("a message with this digest was sent before")]
    SentBefore,
}

/// Why an answer was not taken up. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// No message with this digest is in flight.
    #[error("no message with this digest is in flight")]
    NothingPending,
    /// The answer to a first message must name the other party's process.
    #[error("answer does not name the other party's process identifier")]
    NoPeerPid,
    /// The answer is about another process.
    #[error("answer names another process identifier")]
    OtherProcess,
}

impl<P: Protocol> Machine<P> {
    /// Messages that may take effect in one process before only termination is left. A negotiation has five to
    /// ten; a transfer that is paused and resumed every day for a year stays below.
    pub const MAX_MOVES: u64 = 1000;

    /// A process before its first message. `peer_pid` is known where we answer the first message.
    pub fn new(role: Party, our_pid: Pid, peer_pid: Option<Pid>, retry: RetryPolicy) -> Self {
        let held = Snapshot {
            role,
            our_pid,
            peer_pid,
            state: None,
            seq: 0,
            terms: None,
            ours_last: None,
            theirs: Vec::new(),
            refused: Vec::new(),
            crossed: Vec::new(),
            pending: None,
        };
        Self { held, link: Link::IDLE, retry }
    }

    /// A process as it was last saved. Call [`Self::on_tick`] next: a pending message is due at once.
    ///
    /// # Errors
    /// [`RestoreError`] if no machine can have been in this state.
    pub fn restore(snapshot: Snapshot<P>, retry: RetryPolicy) -> Result<Self, RestoreError> {
        snapshot.check()?;
        let phase = match snapshot.pending.as_ref().map(|pending| pending.stage) {
            None => Phase::Idle,
            Some(Stage::Live) => Phase::Waiting { due: UnixMillis(i64::MIN) },
            Some(Stage::SetAside) => Phase::SetAside,
        };
        // An attempt before the crash may still arrive.
        let unanswered = u32::from(snapshot.pending.is_some());
        Ok(Self { held: snapshot, link: Link { phase, unanswered, ..Link::IDLE }, retry })
    }

    /// What [`Effect::Save`] stores.
    pub fn snapshot(&self) -> &Snapshot<P> {
        &self.held
    }

    /// The state; `None` before the first message took effect.
    pub fn state(&self) -> Option<P::State> {
        self.held.state
    }

    /// Whether the process is over: no move is left and none is in flight.
    pub fn is_over(&self) -> bool {
        self.held.pending.is_none() && self.held.state.is_some_and(is_terminal::<P>)
    }

    /// What [`Self::on_msg`] would do with `msg`. Check the meaning of a message only if it is acceptable.
    pub fn assess(&self, msg: &Msg<P>) -> Assessment<P> {
        let held = &self.held;
        if let Err(refused) = self.check_address(msg) {
            return Assessment::Refused(refused);
        }
        let legal = next_state::<P>(held.state, msg.from, msg.verb).is_some();
        if msg.salt == Salt::Unique || !legal {
            if held.theirs.iter().any(|applied| applied.event == msg.event) {
                return Assessment::Repeat;
            }
            if held.refused.contains(&msg.event) {
                return Assessment::Refused(Refused::RefusedBefore);
            }
        }
        if let Some(pending) = &held.pending
            && !(legal && self.link.yield_to == Some(msg.event))
        {
            let after_ours = next_state::<P>(held.state, held.role, pending.verb);
            if legal || (after_ours.is_some() && next_state::<P>(after_ours, msg.from, msg.verb).is_some()) {
                return Assessment::Busy;
            }
        }
        match self.check_move(msg.from, msg.verb, msg.terms.as_ref()) {
            Ok(_) => Assessment::Acceptable,
            Err(refused) => Assessment::Refused(refused),
        }
    }

    /// Whether this message answers our own that is in flight: the other party has it, and its acknowledgement is on its
    /// way. A shell may wait a moment for that rather than say "busy".
    pub fn answers_pending(&self, msg: &Msg<P>) -> bool {
        let held = &self.held;
        let Some(pending) = &held.pending else { return false };
        let after_ours = next_state::<P>(held.state, held.role, pending.verb);
        self.assess(msg) == Assessment::Busy
            && next_state::<P>(held.state, msg.from, msg.verb).is_none()
            && after_ours.is_some()
            && next_state::<P>(after_ours, msg.from, msg.verb).is_some()
    }

    /// A message of the other party.
    pub fn on_msg(&mut self, now: UnixMillis, msg: &Msg<P>) -> Vec<Effect<P>> {
        match self.assess(msg) {
            Assessment::Repeat => vec![Effect::AckAgain],
            Assessment::Refused(refused) => vec![Effect::Refuse(refused)],
            Assessment::Busy => self.stay_busy(now, msg),
            Assessment::Acceptable => match next_state::<P>(self.held.state, msg.from, msg.verb) {
                Some(next) => self.apply_theirs(now, msg, next),
                None => vec![Effect::Refuse(self.illegal(msg.from, msg.verb))],
            },
        }
    }

    /// A message of the other party that the shell will not accept, for reasons of its own. The refusal is
    /// remembered; a message that is not acceptable anyway is answered as by [`Self::on_msg`].
    pub fn decline(&mut self, now: UnixMillis, msg: &Msg<P>) -> Vec<Effect<P>> {
        match self.assess(msg) {
            Assessment::Repeat | Assessment::Busy | Assessment::Refused(_) => self.on_msg(now, msg),
            Assessment::Acceptable => {
                self.remember_refusal(msg.event);
                self.held.crossed.retain(|crossed| crossed.event != msg.event);
                if self.link.yield_to == Some(msg.event) {
                    (self.link.seen, self.link.yield_to) = (None, None);
                }
                vec![Effect::Save, Effect::Refuse(Refused::Declined)]
            }
        }
    }

    /// A message of our own: saved, recorded, and sent a first time.
    ///
    /// # Errors
    /// [`ProposeError`]; nothing has changed.
    pub fn propose(&mut self, proposal: Proposal<P>) -> Result<Vec<Effect<P>>, ProposeError<P>> {
        if let Some(pending) = &self.held.pending {
            return Err(ProposeError::InFlight { verb: pending.verb });
        }
        self.check_move(self.held.role, proposal.verb, proposal.terms.as_ref())?;
        if self.held.ours_last.is_some_and(|last| last.event == proposal.event) {
            return Err(ProposeError::SentBefore);
        }
        let Proposal { verb, event, terms } = proposal;
        let seq = self.held.seq.saturating_add(1);
        self.held.pending = Some(Pending { verb, event, seq, terms, stage: Stage::Live });
        self.link = Link { phase: Phase::InFlight, attempts: 1, ..Link::IDLE };
        Ok(vec![Effect::Save, self.own_record(Act::Sent, verb, event, seq), Effect::Send { verb, event, attempt: 1 }])
    }

    /// The other party acknowledged `event`. `peer_pid` is what its answer names, which a first answer must.
    ///
    /// # Errors
    /// [`AckError`]; nothing has changed. Report an unusable answer by [`Self::on_no_answer`].
    pub fn on_ack(&mut self, event: Digest, peer_pid: Option<&Pid>) -> Result<Vec<Effect<P>>, AckError> {
        self.pending(event)?;
        match (&self.held.peer_pid, peer_pid) {
            (None, None) => return Err(AckError::NoPeerPid),
            (Some(known), Some(named)) if known != named => return Err(AckError::OtherProcess),
            (None, Some(named)) => self.held.peer_pid = Some(named.clone()),
            (Some(_), None | Some(_)) => {}
        }
        Ok(self.apply_ours())
    }

    /// The other party definitely refused `event`. If an unanswered attempt may have been applied before, the
    /// effect is [`Effect::Enquire`]; else the message is withdrawn and its sequence number free again.
    ///
    /// # Errors
    /// [`AckError::NothingPending`].
    pub fn on_refused(&mut self, event: Digest) -> Result<Vec<Effect<P>>, AckError> {
        self.pending(event)?;
        // Before the first answer the other party's identifier is unknown, so there is nothing to ask for.
        if 0 < self.link.unanswered && self.held.peer_pid.is_some() && self.held.state.is_some() {
            self.link.phase = Phase::Enquiring;
            return Ok(vec![Effect::Enquire]);
        }
        Ok(self.withdraw())
    }

    /// The answer to [`Effect::Enquire`]: the state in which the other party holds the process.
    ///
    /// # Errors
    /// [`AckError::NothingPending`] if no enquiry is under way.
    pub fn on_peer_state(&mut self, state: P::State) -> Result<Vec<Effect<P>>, AckError> {
        let Some(pending) = self.held.pending.as_mut().filter(|_| self.link.phase == Phase::Enquiring) else {
            return Err(AckError::NothingPending);
        };
        if next_state::<P>(self.held.state, self.held.role, pending.verb) == Some(state) {
            return Ok(self.apply_ours());
        }
        if self.held.state == Some(state) {
            return Ok(self.withdraw());
        }
        pending.stage = Stage::SetAside;
        self.link.phase = Phase::SetAside;
        Ok(vec![Effect::Save, Effect::SetAside(SetAsideReason::StatesDiffer)])
    }

    /// No usable answer came: time-out, broken connection, server error. `random` spreads the retries.
    ///
    /// # Errors
    /// [`AckError::NothingPending`].
    pub fn on_no_answer(&mut self, now: UnixMillis, event: Digest, random: u64) -> Result<Vec<Effect<P>>, AckError> {
        self.pending(event)?;
        self.link.unanswered = self.link.unanswered.saturating_add(1);
        Ok(self.back_off(now, random))
    }

    /// The shell did not send the message, because the other party is known to be silent: it is due again later, and a later
    /// refusal means what it says.
    ///
    /// # Errors
    /// [`AckError::NothingPending`].
    pub fn on_not_sent(&mut self, now: UnixMillis, event: Digest, random: u64) -> Result<Vec<Effect<P>>, AckError> {
        self.pending(event)?;
        Ok(self.back_off(now, random))
    }

    /// The other party's machine answered [`Effect::Busy`]. Report a 503 of anything in between by
    /// [`Self::on_no_answer`]: "busy" says that no attempt so far has been applied.
    ///
    /// # Errors
    /// [`AckError::NothingPending`].
    pub fn on_busy(&mut self, now: UnixMillis, event: Digest, random: u64) -> Result<Vec<Effect<P>>, AckError> {
        self.pending(event)?;
        match (self.held.role, self.link.seen) {
            (Party::Consumer, Some((theirs, attempts_then))) if attempts_then < self.link.attempts => {
                self.link.yield_to = Some(theirs);
            }
            (Party::Consumer | Party::Provider, _) => {}
        }
        Ok(self.back_off(now, random))
    }

    /// The time asked for by [`Effect::ScheduleAt`] has come; harmless at any other time.
    pub fn on_tick(&mut self, now: UnixMillis) -> Vec<Effect<P>> {
        let (Phase::Waiting { due }, Some(pending)) = (self.link.phase, &self.held.pending) else {
            return Vec::new();
        };
        if now < due {
            return vec![Effect::ScheduleAt(due)];
        }
        self.link.phase = Phase::InFlight;
        self.link.attempts = self.link.attempts.saturating_add(1);
        vec![Effect::Send { verb: pending.verb, event: pending.event, attempt: self.link.attempts }]
    }

    /// The other party answers again after a silence: what waits to be sent again is due now.
    pub fn hurry(&mut self, now: UnixMillis) -> Vec<Effect<P>> {
        if let Phase::Waiting { due } = &mut self.link.phase {
            *due = now.min(*due);
        }
        self.on_tick(now)
    }

    /// Takes up a process that was set aside; nothing happens to any other.
    pub fn resume(&mut self, now: UnixMillis) -> Vec<Effect<P>> {
        let mut effects = Vec::new();
        if self.wake(now) {
            effects.push(Effect::Save);
            effects.push(Effect::ScheduleAt(now));
        }
        effects
    }

    fn check_address(&self, msg: &Msg<P>) -> Result<(), Refused<P>> {
        let held = &self.held;
        if msg.from == held.role {
            return Err(Refused::OwnRole { party: msg.from });
        }
        if held.peer_pid.as_ref().is_some_and(|known| *known != msg.sender_pid) {
            return Err(Refused::OtherProcess { field: pid_field(msg.from) });
        }
        if msg.receiver_pid.as_ref().is_some_and(|named| *named != held.our_pid) {
            return Err(Refused::OtherProcess { field: pid_field(held.role) });
        }
        Ok(())
    }

    /// Whether the move is legal now, its terms fit, and the process is not too long.
    fn check_move(&self, from: Party, verb: P::Verb, terms: Option<&OfferTerms>) -> Result<P::State, Refused<P>> {
        let next = next_state::<P>(self.held.state, from, verb).ok_or_else(|| self.illegal(from, verb))?;
        if Self::MAX_MOVES <= self.held.seq && verb != P::TERMINATE {
            return Err(Refused::TooManyMoves { moves: self.held.seq });
        }
        let digest = terms.map(|terms| terms.policy_digest);
        match P::terms_rule(verb) {
            TermsRule::Nothing => {}
            TermsRule::Puts | TermsRule::Repeats if digest.is_none() => return Err(Refused::NoTerms { verb }),
            TermsRule::Puts => {}
            TermsRule::Repeats => {
                if digest != self.held.terms.as_ref().map(|terms| terms.policy_digest) {
                    return Err(Refused::OtherTerms { verb });
                }
            }
        }
        Ok(next)
    }

    fn illegal(&self, party: Party, verb: P::Verb) -> Refused<P> {
        Refused::Illegal { state: self.held.state, party, verb }
    }

    fn pending(&self, event: Digest) -> Result<&Pending<P>, AckError> {
        self.held.pending.as_ref().filter(|pending| pending.event == event).ok_or(AckError::NothingPending)
    }

    fn own_record(&self, act: Act, verb: P::Verb, event: Digest, seq: u64) -> Effect<P> {
        Effect::Record(Record { act, seq, verb, from: self.held.role, event })
    }

    fn remember_refusal(&mut self, event: Digest) {
        push_bounded(&mut self.held.refused, event, Snapshot::<P>::MAX_REFUSED);
    }

    /// Answers "busy", and remembers the message as one that crossed ours.
    fn stay_busy(&mut self, now: UnixMillis, msg: &Msg<P>) -> Vec<Effect<P>> {
        let mut save = false;
        let mut hurry = self.wake(now);
        save |= hurry;
        match self.held.role {
            Party::Provider => {
                let legal = next_state::<P>(self.held.state, msg.from, msg.verb).is_some();
                if legal && self.held.crossed.iter().all(|crossed| crossed.event != msg.event) {
                    let crossed = Applied { verb: msg.verb, event: msg.event };
                    push_bounded(&mut self.held.crossed, crossed, Snapshot::<P>::MAX_CROSSED);
                    save = true;
                }
            }
            Party::Consumer => {
                if self.link.seen.is_none_or(|(event, _)| event != msg.event) {
                    self.link.seen = Some((msg.event, self.link.attempts));
                    // The provider is there and waits for us: our next attempt settles who goes first.
                    if let Phase::Waiting { due } = &mut self.link.phase {
                        *due = now;
                        hurry = true;
                    }
                }
            }
        }
        let mut effects = Vec::new();
        effects.extend(save.then_some(Effect::Save));
        effects.push(Effect::Busy);
        effects.extend(hurry.then_some(Effect::ScheduleAt(now)));
        effects
    }

    fn apply_theirs(&mut self, now: UnixMillis, msg: &Msg<P>, next: P::State) -> Vec<Effect<P>> {
        let mut effects = vec![Effect::Save];
        let withdrawn = self.held.pending.take();
        if let Some(ours) = &withdrawn {
            effects.push(self.own_record(Act::Withdrawn, ours.verb, ours.event, ours.seq));
        }
        let held = &mut self.held;
        held.seq = held.seq.saturating_add(1);
        held.state = Some(next);
        held.peer_pid.get_or_insert_with(|| msg.sender_pid.clone());
        if P::terms_rule(msg.verb) == TermsRule::Puts {
            held.terms.clone_from(&msg.terms);
        }
        held.theirs.push(Applied { verb: msg.verb, event: msg.event });
        held.crossed.retain(|crossed| crossed.event != msg.event);
        let (seq, verb, from, event) = (held.seq, msg.verb, msg.from, msg.event);
        effects.push(Effect::Record(Record { act: Act::Received, seq, verb, from, event }));
        let Some(mut ours) = withdrawn.filter(|ours| next_state::<P>(Some(next), held.role, ours.verb).is_some())
        else {
            self.link = Link::IDLE;
            effects.push(Effect::Ack);
            return effects;
        };
        // Ours is still legal after theirs: the same message goes on, one place later.
        ours.seq = seq.saturating_add(1);
        ours.stage = Stage::Live;
        effects.push(self.own_record(Act::Sent, ours.verb, ours.event, ours.seq));
        self.held.pending = Some(ours);
        self.link = Link {
            phase: Phase::Waiting { due: now },
            forgiven: self.link.attempts,
            seen: None,
            yield_to: None,
            ..self.link
        };
        effects.push(Effect::Ack);
        effects.push(Effect::ScheduleAt(now));
        effects
    }

    fn apply_ours(&mut self) -> Vec<Effect<P>> {
        let held = &mut self.held;
        let Some(pending) = held.pending.take() else { return Vec::new() };
        let Some(next) = next_state::<P>(held.state, held.role, pending.verb) else { return Vec::new() };
        held.state = Some(next);
        held.seq = pending.seq;
        if P::terms_rule(pending.verb) == TermsRule::Puts {
            held.terms = pending.terms;
        }
        held.ours_last = Some(Applied { verb: pending.verb, event: pending.event });
        let peer = held.role.other();
        let crossed = std::mem::take(&mut held.crossed);
        let void = crossed.iter().filter(|crossed| next_state::<P>(Some(next), peer, crossed.verb).is_none());
        void.for_each(|crossed| self.remember_refusal(crossed.event));
        self.link = Link::IDLE;
        vec![Effect::Save]
    }

    fn withdraw(&mut self) -> Vec<Effect<P>> {
        self.link = Link::IDLE;
        let Some(Pending { verb, event, seq, .. }) = self.held.pending.take() else { return Vec::new() };
        vec![Effect::Save, self.own_record(Act::Withdrawn, verb, event, seq)]
    }

    /// Plans the next attempt, or sets the process aside if this was the last.
    fn back_off(&mut self, now: UnixMillis, random: u64) -> Vec<Effect<P>> {
        let attempts = self.link.attempts.saturating_sub(self.link.forgiven).max(1);
        if attempts < self.retry.max_attempts {
            let due = now.plus_millis(self.retry.delay_ms(attempts, random));
            self.link.phase = Phase::Waiting { due };
            return vec![Effect::ScheduleAt(due)];
        }
        self.link.phase = Phase::SetAside;
        if let Some(pending) = &mut self.held.pending {
            pending.stage = Stage::SetAside;
        }
        vec![Effect::Save, Effect::SetAside(SetAsideReason::NoAnswer { attempts })]
    }

    /// Makes a message that was set aside due now; says whether there was one.
    fn wake(&mut self, now: UnixMillis) -> bool {
        let Some(pending) = self.held.pending.as_mut().filter(|_| self.link.phase == Phase::SetAside) else {
            return false;
        };
        pending.stage = Stage::Live;
        self.link.phase = Phase::Waiting { due: now };
        self.link.forgiven = self.link.attempts;
        true
    }
}

fn pid_field(party: Party) -> &'static str {
    match party {
        Party::Provider => "providerPid",
        Party::Consumer => "consumerPid",
    }
}

/// Adds an item, dropping the oldest beyond `limit`.
fn push_bounded<T>(items: &mut Vec<T>, item: T, limit: usize) {
    if limit <= items.len() {
        items.drain(..=items.len() - limit);
    }
    items.push(item);
}
