//! How a negotiation becomes a contract: who signs, in whose hands the other party is, what it renews, and the row it leaves.

use serde_json::Value;
use shuyu_base::{Did, PublicKey};
use shuyu_contract_engine::Negotiation;
use shuyu_contract_engine::signature::Subject;
use shuyu_credentials::DidDocument;
use tokio::sync::OwnedMutexGuard;

use super::Negotiations;
use crate::agreements::{AgreementRow, Held, Side, canonical, renewal_index};
use crate::clock;
use crate::counterparty::Hands;
use crate::exchange::row::Row;
use crate::holdings::parse_policy;
use crate::identity::Caller;
use crate::problem::Problem;
use crate::store::{Batch, Table};

impl Negotiations {
    /// An agreement is renewed by one negotiation at a time. Taken before the process's own lock, never under it.
    pub(super) async fn lock_renewed(&self, row: &Row<Negotiation>) -> Option<OwnedMutexGuard<()>> {
        match &row.detail.renews {
            Some(renews) => Some(self.agreements.lock(renews).await),
            None => None,
        }
    }

    /// Puts our signatures under the agreement of the row; as they are sent.
    pub(super) fn sign(&self, row: &mut Row<Negotiation>) -> Result<Vec<String>, Problem> {
        let side = row.role;
        let signed = self.with_subject(row, |subject| self.counterparties.sign(subject, side))?;
        let sent = signed.iter().map(|one| one.jws.clone()).collect();
        // What was signed before and withdrawn counts no more.
        row.detail.signatures.retain(|one| one.by != side);
        row.detail.signatures.extend(signed);
        Ok(sent)
    }

    /// Takes the other party's signatures under the agreement of the row.
    pub(super) fn take_signatures(
        &self,
        row: &mut Row<Negotiation>,
        side: Side,
        signatures: &[String],
        document: &DidDocument,
    ) -> Result<(), String> {
        let check = |subject: &Subject<'_>| self.counterparties.check(subject, side, signatures, document);
        let checked = self.with_subject(row, check).map_err(|problem| problem.detail)??;
        row.detail.signatures.retain(|one| one.by != side);
        row.detail.signatures.extend(checked);
        Ok(())
    }

    /// What both parties sign.
    pub(super) fn with_subject<T>(
        &self,
        row: &Row<Negotiation>,
        work: impl FnOnce(&Subject<'_>) -> T,
    ) -> Result<T, Problem> {
        let none = || Problem::conflict("there is no agreement to sign");
        let agreement = row.detail.agreement.as_ref().ok_or_else(none)?;
        let id = agreement.get("@id").and_then(Value::as_str).ok_or_else(none)?;
        let peer: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        let (provider, consumer) = match row.role {
            Side::Provider => (&self.tools.did, &peer),
            Side::Consumer => (&peer, &self.tools.did),
        };
        let canonical = canonical(agreement)?;
        let renews = row.detail.renews.as_deref();
        Ok(work(&Subject { id, canonical: &canonical, provider, consumer, renews }))
    }

    /// Whether the sender is in the hands of the one with whom the negotiation, or the agreement it renews, was begun.
    pub(super) async fn hands(&self, caller: &Caller, row: &Row<Negotiation>) -> Result<Hands, Problem> {
        let held = row.peer_key.as_deref().and_then(|key| PublicKey::from_multikey(key).ok());
        let held = match (held, &row.detail.renews) {
            (Some(held), _) => vec![held],
            (None, Some(renews)) => self.agreements.get(renews)?.peer_keys(),
            (None, None) => Vec::new(),
        };
        self.counterparties.hands(caller, &held).await
    }

    /// Whether nothing has come between since the agreement was made: its end, or the end of the one it renews.
    pub(super) fn check_conclusion(&self, row: &Row<Negotiation>) -> Result<(), Problem> {
        let id = row.detail.agreement.as_ref().and_then(|agreement| agreement.get("@id")?.as_str());
        if let Some(id) = id
            && self.agreements.get(id).is_ok_and(|held| held.was_revoked())
        {
            return Err(Problem::conflict("the contract was ended before it was concluded"));
        }
        let Some(renews) = &row.detail.renews else { return Ok(()) };
        let peer: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        match self.agreements.renewed_by(renews)? {
            Some(next) if Some(next.as_str()) == id => Ok(()),
            Some(_) | None => self.check_renewable(renews, row.role, &peer, &row.detail.dataset),
        }
    }

    /// An agreement can be renewed once, by its own parties and about the same dataset, unless it was revoked.
    pub(super) fn check_renewable(&self, id: &str, side: Side, peer: &Did, dataset: &str) -> Result<(), Problem> {
        let none = || Problem::invalid(format!("there is no contract `{id}` with this party about this dataset"));
        let contract = self.agreements.get(id).map_err(|_| none())?;
        if contract.role != side || contract.peer != peer.as_str() || contract.asset != dataset {
            return Err(none());
        }
        if contract.held == Held::Terminated {
            return Err(Problem::conflict(format!("contract `{id}` was ended; negotiate a new one")));
        }
        match self.agreements.renewed_by(id)? {
            Some(next) => Err(Problem::conflict(format!("contract `{id}` was renewed before, as `{next}`"))),
            None => Ok(()),
        }
    }

    /// An agreement's identifier is its provider's choice, and must not be that of another contract we hold.
    pub(super) fn check_agreement_is_new(&self, row: &Row<Negotiation>, id: &str) -> Result<(), String> {
        match self.agreements.get(id) {
            Ok(held) if held.negotiation != row.pid => Err("`agreement.@id` is that of another contract".to_owned()),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Adds the agreement of a finalized negotiation to the batch that finalizes it.
    pub(super) fn put_agreement(&self, row: &Row<Negotiation>, batch: &mut Batch) -> Result<(), Problem> {
        let agreement =
            row.detail.agreement.as_ref().ok_or_else(|| Problem::conflict("there is no agreement to finalize"))?;
        let policy = parse_policy(agreement)?;
        self.check_agreement_is_new(row, &policy.uid).map_err(Problem::conflict)?;
        self.check_conclusion(row)?;
        let signed_by_peer = row.detail.signatures.iter().any(|one| one.by != row.role);
        let contract = AgreementRow {
            id: policy.uid.clone(),
            role: row.role,
            peer: row.peer.clone(),
            asset: row.detail.dataset.clone(),
            policy: agreement.clone(),
            signed_at: clock::now().to_string(),
            negotiation: row.pid.clone(),
            held: Held::Active,
            reason: None,
            answers: row.detail.answers,
            signatures: row.detail.signatures.clone(),
            peer_key: row.peer_key.clone().filter(|_| signed_by_peer),
            trusted: Vec::new(),
            renews: row.detail.renews.clone(),
            spaces: row.detail.spaces.clone(),
        };
        if let Some(renews) = &contract.renews {
            batch.put(Table::PeerIndex, &renewal_index(renews), &contract.id)?;
        }
        Ok(batch.put(Table::Agreements, &contract.id, &contract)?)
    }
}
