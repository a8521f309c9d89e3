//! Agreements as both parties hold them, and whether they still hold.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Digest, PublicKey, UnixMillis, json};
use shuyu_contract_engine::signature::Signature;
use shuyu_data_plane::StreamStanding;
use shuyu_policy::{Constraint, LeftOperand, Operand, Operator, Policy, Program, Standing};
use tokio::sync::{OwnedMutexGuard, watch};

use crate::holdings::{Approve, parse_policy};
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Store, Table};

/// Which side of an agreement or process we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// We hold the data.
    Provider,
    /// We use it.
    Consumer,
}

/// Whether an agreement holds; expiry is read from its policy, not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// In force.
    Active,
    /// In force for the transfers it has; none is added.
    Retired,
    /// Ended by the provider.
    Terminated,
}

/// A party's signature under an agreement, with the key it was checked with: that key stays good for this agreement,
/// whatever the party's DID document says later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureRow {
    /// Whose.
    pub by: Side,
    /// Id of the key.
    pub kid: String,
    /// The key, as a multikey.
    pub key: String,
    /// The signature, a compact JWS.
    pub jws: String,
}

impl SignatureRow {
    /// A signature of `by` that holds.
    pub fn of(by: Side, signature: Signature) -> Self {
        Self { by, kid: signature.kid, key: signature.key.to_multikey(), jws: signature.compact }
    }

    /// The signature as a value, if the key is one we know.
    pub fn signature(&self) -> Option<Signature> {
        let key = PublicKey::from_multikey(&self.key).ok()?;
        Some(Signature { kid: self.kid.clone(), key, compact: self.jws.clone() })
    }
}

/// An agreement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgreementRow {
    /// The agreement's `@id`.
    pub id: String,
    /// Our side.
    pub role: Side,
    /// The other party's DID.
    pub peer: String,
    /// The dataset's id.
    pub asset: String,
    /// ODRL JSON-LD as both parties confirmed it.
    pub policy: Value,
    /// When it was made.
    pub signed_at: String,
    /// The negotiation it came from (our process id).
    pub negotiation: String,
    /// Whether it holds.
    pub held: Held,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who answers for us under it; rows of earlier versions have no such member and go by rule.
    #[serde(default)]
    pub answers: Approve,
    /// Signatures under it; none in rows of earlier versions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureRow>,
    /// The key the other party acts with, as a multikey: the one it concluded with, and later the one that handed over to.
    /// None if it signed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer_key: Option<String>,
    /// Further keys of the other party that a person has said to trust under it, as multikeys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trusted: Vec<String>,
    /// The agreement it took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
    /// The spaces in one of which the consumer must be to use it; the provider's view.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<String>,
}

impl AgreementRow {
    /// The keys the other party may act with under this agreement: the pinned one, and those that a person has said to
    /// trust. None for an agreement that it did not sign.
    pub fn peer_keys(&self) -> Vec<PublicKey> {
        self.peer_key.iter().chain(&self.trusted).filter_map(|key| PublicKey::from_multikey(key).ok()).collect()
    }

    /// Whether the contract was ended, other than by a last word that did not take effect.
    pub fn was_revoked(&self) -> bool {
        self.held == Held::Terminated && self.reason.as_deref() != Some(NOT_FINALIZED)
    }

    /// SHA-256 of the agreement's canonical form, as both ledgers carry it.
    ///
    /// # Errors
    /// When the row holds no JSON that has one.
    pub fn digest(&self) -> Result<Digest, Problem> {
        canonical(&self.policy).map(|bytes| Digest::sha256(&bytes))
    }
}

/// The canonical form of an agreement (RFC 8785).
///
/// # Errors
/// 422 if it has none.
pub fn canonical(agreement: &Value) -> Result<Vec<u8>, Problem> {
    json::canonical(agreement)
        .map_err(|error| Problem::refused(format!("the agreement has no canonical form: {error}"), Vec::new()))
}

/// Reason of a contract whose last word did not take effect.
pub const NOT_FINALIZED: &str = "the negotiation was not finalized";

/// Place in [`Table::PeerIndex`] of the agreement that took the place of this one.
pub fn renewal_index(agreement: &str) -> String {
    format!("renewed {agreement}")
}

/// What was used of an agreement: with its provider durable before any of it leaves, with its consumer what receipts say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// Uses begun.
    pub count: u64,
    /// Rows sent or reserved.
    pub rows: u64,
    /// Bytes sent or reserved.
    pub bytes: u64,
    /// Events in the agreement's usage record so far.
    pub seq: u64,
}

/// The running streams of one transfer.
struct Streams {
    agreement: String,
    standing: watch::Sender<StreamStanding>,
}

/// The agreements of this node: rows in the store, compiled programs and running streams in memory.
#[derive(Clone)]
pub struct Agreements {
    store: Store,
    programs: Arc<Mutex<HashMap<String, Arc<Program>>>>,
    streams: Arc<Mutex<HashMap<String, Streams>>>,
    locks: Arc<KeyedLocks>,
}

impl Agreements {
    /// Over the node's store.
    pub fn new(store: Store) -> Self {
        Self { store, programs: Arc::default(), streams: Arc::default(), locks: Arc::default() }
    }

    /// The agreement of this id.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, id: &str) -> Result<AgreementRow, Problem> {
        self.store.get(Table::Agreements, id)?.ok_or_else(|| Problem::not_found("contract", id))
    }

    /// The agreement that took the place of this one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn renewed_by(&self, id: &str) -> Result<Option<String>, Problem> {
        Ok(self.store.get(Table::PeerIndex, &renewal_index(id))?)
    }

    /// Why no transfer may be added to this agreement, though it may be in force.
    ///
    /// # Errors
    /// When the store fails.
    pub fn retired(&self, row: &AgreementRow) -> Result<Option<String>, Problem> {
        if let Some(next) = self.renewed_by(&row.id)? {
            return Ok(Some(format!("the contract was renewed as {next}; ask for access under that one")));
        }
        Ok((row.held == Held::Retired).then(|| "the contract is retired: it takes no new transfers".to_owned()))
    }

    /// One change of an agreement at a time.
    pub async fn lock(&self, id: &str) -> OwnedMutexGuard<()> {
        self.locks.lock(id).await
    }

    /// What was used of it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn usage(&self, id: &str) -> Result<UsageRow, Problem> {
        Ok(self.store.get(Table::Usage, id)?.unwrap_or_default())
    }

    /// The compiled policy.
    ///
    /// # Errors
    /// 422 if the policy cannot be compiled, which authoring and negotiation rule out.
    pub fn program(&self, row: &AgreementRow) -> Result<Arc<Program>, Problem> {
        if let Some(program) = self.programs.lock().unwrap_or_else(PoisonError::into_inner).get(&row.id) {
            return Ok(Arc::clone(program));
        }
        let policy = parse_policy(&row.policy)?;
        let program = shuyu_policy::compile(&policy)
            .map_err(|error| Problem::refused(format!("the policy cannot be enforced: {error}"), Vec::new()))?;
        let program = Arc::new(program);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(programs.entry(row.id.clone()).or_insert(program)))
    }

    /// Whether the agreement holds at `now`.
    pub fn standing(&self, row: &AgreementRow, program: &Program, now: UnixMillis) -> Standing {
        match row.held {
            Held::Terminated => Standing::Terminated,
            Held::Active | Held::Retired if is_over(program.policy(), now) => Standing::Expired,
            Held::Active | Held::Retired => Standing::Active,
        }
    }

    /// A view of whether streams of this transfer may go on.
    pub fn watch(&self, transfer: &str, agreement: &str) -> watch::Receiver<StreamStanding> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, streams| 0 < streams.standing.receiver_count());
        let new = || Streams { agreement: agreement.to_owned(), standing: watch::channel(StreamStanding::Live).0 };
        streams.entry(transfer.to_owned()).or_insert_with(new).standing.subscribe()
    }

    /// The running streams of a transfer, if there are any: through it their end is heard, and theirs is told.
    pub fn streams_of(&self, transfer: &str) -> Option<watch::Sender<StreamStanding>> {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.get(transfer).map(|streams| streams.standing.clone())
    }

    /// Ends every running stream under this agreement.
    pub fn stop_streams_under(&self, agreement: &str, reason: &str) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.retain(|_, streams| {
            let ends = streams.agreement == agreement;
            if ends {
                streams.standing.send_replace(StreamStanding::Revoked(reason.to_owned()));
            }
            !ends
        });
    }

    /// Ends every running stream of this transfer.
    pub fn stop_streams(&self, transfer: &str, reason: &str) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(transfer);
        if let Some(streams) = streams {
            streams.standing.send_replace(StreamStanding::Revoked(reason.to_owned()));
        }
    }
}

/// Whether every permission has an end that is past.
fn is_over(policy: &Policy, now: UnixMillis) -> bool {
    last_end(policy).is_some_and(|end| end < now)
}

/// The last instant at which a permission can hold, if every permission has an end. Ends inside `or` and `xone` are
/// left to the evaluation.
pub fn last_end(policy: &Policy) -> Option<UnixMillis> {
    let end = |constraint: &Constraint| match constraint {
        Constraint::Atomic { left: LeftOperand::DateTime, operator: Operator::Lt, right: Operand::Time(end) } => {
            Some(end.plus_millis(-1))
        }
        Constraint::Atomic { left: LeftOperand::DateTime, operator: Operator::Lteq, right: Operand::Time(end) } => {
            Some(*end)
        }
        Constraint::Atomic { .. } | Constraint::And(_) | Constraint::Or(_) | Constraint::Xone(_) => None,
    };
    let ends: Option<Vec<UnixMillis>> =
        policy.permissions.iter().map(|rule| rule.constraints.iter().filter_map(end).min()).collect();
    ends?.into_iter().max()
}
