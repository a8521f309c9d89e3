//! What must survive a crash, in plain fields.

use shuyu_base::Digest;

use crate::msg::OfferTerms;
use crate::party::{Party, Pid};
use crate::protocol::{Protocol, TermsRule, next_state};

/// A message that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied<P: Protocol> {
    /// The kind of message.
    pub verb: P::Verb,
    /// Digest of the message.
    pub event: Digest,
}

/// Whether a pending message is still being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is sent, and sent again.
    Live,
    /// It waits for an operator, or for a sign of life from the other party.
    SetAside,
}

/// Our own message that has no definite answer yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending<P: Protocol> {
    /// The kind of message.
    pub verb: P::Verb,
    /// Digest of the message.
    pub event: Digest,
    /// The place it will have once applied: always one more than [`Snapshot::seq`].
    pub seq: u64,
    /// The terms it carries.
    pub terms: Option<OfferTerms>,
    /// Whether it is still being sent.
    pub stage: Stage,
}

/// The durable part of a machine. [`crate::Machine::restore`] checks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot<P: Protocol> {
    /// Our role.
    pub role: Party,
    /// Our identifier of the process.
    pub our_pid: Pid,
    /// The other party's; learned from its first message or answer.
    pub peer_pid: Option<Pid>,
    /// The state; `None` before the first message took effect.
    pub state: Option<P::State>,
    /// How many messages took effect, of both parties.
    pub seq: u64,
    /// The terms last put by either party.
    pub terms: Option<OfferTerms>,
    /// Our own message that took effect last.
    pub ours_last: Option<Applied<P>>,
    /// The other party's messages that took effect, oldest first: a repeat of any of them is acknowledged again.
    pub theirs: Vec<Applied<P>>,
    /// Messages of the other party that were refused for good; at most [`Self::MAX_REFUSED`], oldest dropped.
    pub refused: Vec<Digest>,
    /// Messages of the other party that met ours in flight and were answered "busy"; void once ours takes effect,
    /// unless they are legal after it. At most [`Self::MAX_CROSSED`], oldest dropped.
    pub crossed: Vec<Applied<P>>,
    /// Our own message in flight.
    pub pending: Option<Pending<P>>,
}

/// Why a stored snapshot is not one a machine can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// `seq` is 0 with a state, or not 0 without one.
    #[error("`seq` and `state` contradict each other")]
    SeqAndState,
    /// A process that has started has no identifier of the other party.
    #[error("`peer_pid` is missing in a process that has started")]
    NoPeerPid,
    /// More messages of one party than moves, or a last one of ours in a process without any.
    #[error("`theirs` and `ours_last` do not add up to `seq`")]
    Applied,
    /// A list is longer than its limit.
    #[error("`{field}` has {found} items, the limit is {limit}")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Items found.
        found: usize,
        /// Items allowed.
        limit: usize,
    },
    /// The pending message is not legal in the state, or has another place than the next one.
    #[error("`pending` is not a legal next move")]
    Pending,
    /// A pending message that needs terms has none.
    #[error("`pending.terms` is missing")]
    PendingTerms,
}

impl<P: Protocol> Snapshot<P> {
    /// Refusals remembered. An honest peer has at most a handful; a hostile one harms only its own process.
    pub const MAX_REFUSED: usize = 64;
    /// Crossing messages remembered. An honest peer has one message in flight at a time.
    pub const MAX_CROSSED: usize = 8;

    /// Checks what every machine keeps true.
    pub(crate) fn check(&self) -> Result<(), RestoreError> {
        if (self.seq == 0) != self.state.is_none() {
            return Err(RestoreError::SeqAndState);
        }
        if self.state.is_some() && self.peer_pid.is_none() {
            return Err(RestoreError::NoPeerPid);
        }
        let theirs = u64::try_from(self.theirs.len()).unwrap_or(u64::MAX);
        let ours = self.seq.checked_sub(theirs).ok_or(RestoreError::Applied)?;
        if (ours == 0) != self.ours_last.is_none() {
            return Err(RestoreError::Applied);
        }
        for (field, found, limit) in
            [("refused", self.refused.len(), Self::MAX_REFUSED), ("crossed", self.crossed.len(), Self::MAX_CROSSED)]
        {
            if limit < found {
                return Err(RestoreError::TooMany { field, found, limit });
            }
        }
        let Some(pending) = &self.pending else { return Ok(()) };
        if Some(pending.seq) != self.seq.checked_add(1) {
            return Err(RestoreError::Pending);
        }
        next_state::<P>(self.state, self.role, pending.verb).ok_or(RestoreError::Pending)?;
        match P::terms_rule(pending.verb) {
            TermsRule::Nothing => Ok(()),
            TermsRule::Puts | TermsRule::Repeats => {
                pending.terms.as_ref().map(|_| ()).ok_or(RestoreError::PendingTerms)
            }
        }
    }
}
