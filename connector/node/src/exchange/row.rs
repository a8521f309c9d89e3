//! Processes as they are stored: one row holds the machine's state, the message under way and the history.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Did, Digest};
use shuyu_contract_engine::{Applied, OfferTerms, Party, Pending, Pid, Protocol, Snapshot, Stage};
use shuyu_wire::dsp::event_digest;

use crate::agreements::Side;
use crate::evidence::is_random;
use crate::exchange::negotiation::new_pid;
use crate::promises::Promised;
use crate::store::{Batch, Store, StoreError, Table};

/// What the driver must know of a protocol beyond its moves.
pub trait Kind: Protocol<State: Send + Sync, Verb: Send + Sync> + Send + Sync {
    /// What a row of this kind holds besides the machine.
    type Detail: Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// Where the rows are.
    const TABLE: Table;
    /// The word evidence and logs use.
    const NAME: &'static str;

    /// Name of a verb in rows and evidence.
    fn verb_name(verb: Self::Verb) -> &'static str;
    /// The verb of a name.
    fn verb_of(name: &str) -> Option<Self::Verb>;
    /// Name of a state on the wire and in rows.
    fn state_name(state: Self::State) -> &'static str;
    /// The state of a name.
    fn state_of(name: &str) -> Option<Self::State>;
    /// Path below the receiver's DSP root to which `verb` is posted (DSP 2025-1, HTTPS binding).
    fn path(verb: Self::Verb, receiver: Party, receiver_pid: Option<&str>) -> String;
    /// What else changes when our message did not take effect after all.
    ///
    /// # Errors
    /// When the store fails.
    fn withdrawn(row: &Row<Self>, verb: Self::Verb, store: &Store, batch: &mut Batch) -> Result<(), StoreError>;
    /// The agreement that a step is about, and what its evidence commits to beside the message: the same with both
    /// parties.
    fn commitments(_row: &Row<Self>, _verb: Self::Verb) -> Option<(String, BTreeMap<String, Value>)> {
        None
    }
    /// Path below a party's DSP root at which its view of the process is read.
    fn state_path(pid: &str) -> String;
}

/// A process of one kind.
#[derive(Clone, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Row<K: Kind> {
    /// Our identifier.
    pub pid: String,
    /// Our side.
    pub role: Side,
    /// The other party's DID.
    pub peer: String,
    /// Root of the other party's DSP binding.
    pub peer_root: String,
    /// The name of the process in evidence, see [`process_name`].
    pub process: String,
    /// The machine.
    pub machine: MachineRow,
    /// The message under way, as it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Value>,
    /// What happened, oldest first.
    pub history: Vec<Happened>,
    /// The key with which the other party spoke last, as a multikey; it may change only by succession.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_key: Option<String>,
    /// What our ledger promises about the message received last; of the step at hand only.
    #[serde(skip)]
    pub promised: Option<Promised>,
    /// Why a person should look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What this kind of process is about.
    pub detail: K::Detail,
}

impl<K: Kind> Row<K> {
    /// A process that nothing was said in yet. `named` is who initiates it, and under which identifier.
    pub fn fresh(pid: &str, role: Side, peer: &Did, peer_root: &str, named: (&Did, &str), detail: K::Detail) -> Self {
        Self {
            pid: pid.to_owned(),
            role,
            peer: peer.to_string(),
            peer_root: peer_root.trim_end_matches('/').to_owned(),
            process: process_name::<K>(named.0, named.1),
            machine: MachineRow::empty(),
            outgoing: None,
            history: Vec::new(),
            peer_key: None,
            promised: None,
            error: None,
            detail,
        }
    }

    /// `(providerPid, consumerPid)`, once both are known.
    pub fn pids(&self) -> Option<(Pid, Pid)> {
        let (own, theirs) = (self.pid.parse().ok()?, self.machine.peer_pid()?.parse().ok()?);
        Some(match self.role {
            Side::Provider => (own, theirs),
            Side::Consumer => (theirs, own),
        })
    }
}

/// The name both parties give a process in evidence: its kind, the initiator, and the initiator's identifier. The
/// initiator is part of it, so that no peer can choose a name that another process has.
pub fn process_name<K: Kind>(initiator: &Did, pid: &str) -> String {
    let digest = Digest::sha256(initiator.as_str().as_bytes()).to_string();
    let short: String = digest.chars().skip("sha256:".len()).take(16).collect();
    // Another make's connector may name it anything; it writes no evidence to compare ours with.
    let pid = if is_random(pid) { pid.to_owned() } else { new_pid() };
    format!("{}/{short}/{pid}", K::NAME)
}

/// A message of the other party, as it came.
pub struct Said {
    /// Its digest.
    pub event: Digest,
    /// The message.
    pub message: Value,
}

impl Said {
    /// Of this message.
    ///
    /// # Errors
    /// As [`event_digest`].
    pub fn new(message: Value) -> Result<Self, serde_json::Error> {
        Ok(Self { event: event_digest(&message)?, message })
    }
}

/// One applied message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Happened {
    /// When we applied it.
    pub at: String,
    /// Who sent it.
    pub from: Side,
    /// The kind of message.
    pub verb: String,
    /// The state it led to.
    pub state: String,
    /// Digest of the message.
    pub event: String,
}

/// A machine's snapshot in JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MachineRow {
    peer_pid: Option<String>,
    state: Option<String>,
    seq: u64,
    terms: Option<TermsRow>,
    ours_last: Option<AppliedRow>,
    theirs: Vec<AppliedRow>,
    refused: Vec<String>,
    crossed: Vec<AppliedRow>,
    pending: Option<PendingRow>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TermsRow {
    offer: String,
    policy: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct AppliedRow {
    verb: String,
    event: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PendingRow {
    verb: String,
    event: String,
    seq: u64,
    terms: Option<TermsRow>,
    aside: bool,
}

impl MachineRow {
    /// The stored form of a snapshot.
    pub fn of<K: Kind>(snapshot: &Snapshot<K>) -> Self {
        Self {
            peer_pid: snapshot.peer_pid.as_ref().map(|pid| pid.as_str().to_owned()),
            state: snapshot.state.map(|state| K::state_name(state).to_owned()),
            seq: snapshot.seq,
            terms: snapshot.terms.as_ref().map(TermsRow::of),
            ours_last: snapshot.ours_last.as_ref().map(AppliedRow::of),
            theirs: snapshot.theirs.iter().map(AppliedRow::of).collect(),
            refused: snapshot.refused.iter().map(Digest::to_string).collect(),
            crossed: snapshot.crossed.iter().map(AppliedRow::of).collect(),
            pending: snapshot.pending.as_ref().map(|pending| PendingRow {
                verb: K::verb_name(pending.verb).to_owned(),
                event: pending.event.to_string(),
                seq: pending.seq,
                terms: pending.terms.as_ref().map(TermsRow::of),
                aside: pending.stage == Stage::SetAside,
            }),
        }
    }

    /// A process before its first message.
    pub fn empty() -> Self {
        Self {
            peer_pid: None,
            state: None,
            seq: 0,
            terms: None,
            ours_last: None,
            theirs: Vec::new(),
            refused: Vec::new(),
            crossed: Vec::new(),
            pending: None,
        }
    }

    /// Digest of the rules on the table.
    pub fn terms_policy(&self) -> Option<&str> {
        self.terms.as_ref().map(|terms| terms.policy.as_str())
    }

    /// The kind of message under way.
    pub fn pending_verb(&self) -> Option<&str> {
        self.pending.as_ref().map(|pending| pending.verb.as_str())
    }

    /// The counterparty's identifier, once known.
    pub fn peer_pid(&self) -> Option<&str> {
        self.peer_pid.as_deref()
    }

    /// The state's name, once there is one.
    pub fn state(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Whether a message of ours is under way.
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The snapshot, if every name and digest is one we know.
    pub fn snapshot<K: Kind>(&self, role: Side, our_pid: &str) -> Option<Snapshot<K>> {
        Some(Snapshot {
            role: role.party(),
            our_pid: our_pid.parse().ok()?,
            peer_pid: parsed::<Pid>(self.peer_pid.as_deref())?,
            state: match &self.state {
                Some(name) => Some(K::state_of(name)?),
                None => None,
            },
            seq: self.seq,
            terms: TermsRow::terms(self.terms.as_ref())?,
            ours_last: match &self.ours_last {
                Some(row) => Some(row.applied()?),
                None => None,
            },
            theirs: self.theirs.iter().map(AppliedRow::applied).collect::<Option<_>>()?,
            refused: self.refused.iter().map(|text| text.parse().ok()).collect::<Option<_>>()?,
            crossed: self.crossed.iter().map(AppliedRow::applied).collect::<Option<_>>()?,
            pending: match &self.pending {
                Some(row) => Some(Pending {
                    verb: K::verb_of(&row.verb)?,
                    event: row.event.parse().ok()?,
                    seq: row.seq,
                    terms: TermsRow::terms(row.terms.as_ref())?,
                    stage: if row.aside { Stage::SetAside } else { Stage::Live },
                }),
                None => None,
            },
        })
    }
}

/// `Some(None)` for absent, `None` for present and not readable.
#[expect(clippy::option_option, reason = "the outer level is the failure of `snapshot`, the inner one the field")]
fn parsed<T: std::str::FromStr>(text: Option<&str>) -> Option<Option<T>> {
    match text {
        Some(text) => text.parse().ok().map(Some),
        None => Some(None),
    }
}

impl TermsRow {
    fn of(terms: &OfferTerms) -> Self {
        Self { offer: terms.offer_id.to_string(), policy: terms.policy_digest.to_string() }
    }

    #[expect(clippy::option_option, reason = "the outer level is the failure of `snapshot`, the inner one the field")]
    fn terms(row: Option<&Self>) -> Option<Option<OfferTerms>> {
        let Some(row) = row else { return Some(None) };
        Some(Some(OfferTerms { offer_id: row.offer.as_str().into(), policy_digest: row.policy.parse().ok()? }))
    }
}

impl AppliedRow {
    fn of<K: Kind>(applied: &Applied<K>) -> Self {
        Self { verb: K::verb_name(applied.verb).to_owned(), event: applied.event.to_string() }
    }

    fn applied<K: Kind>(&self) -> Option<Applied<K>> {
        Some(Applied { verb: K::verb_of(&self.verb)?, event: self.event.parse().ok()? })
    }
}

impl Side {
    /// The role in a machine's words.
    pub fn party(self) -> Party {
        match self {
            Self::Provider => Party::Provider,
            Self::Consumer => Party::Consumer,
        }
    }
}

impl From<Party> for Side {
    fn from(party: Party) -> Self {
        match party {
            Party::Provider => Self::Provider,
            Party::Consumer => Self::Consumer,
        }
    }
}
