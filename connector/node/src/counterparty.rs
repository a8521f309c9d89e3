//! The other party of a contract: what it must sign, and whether it is still who it was.

use std::sync::Arc;

use serde_json::Value;
use shuyu_base::{Did, PublicKey, Suite};
use shuyu_contract_engine::signature::{Signature, Subject};
use shuyu_contract_engine::{Party, proof};
use shuyu_credentials::{DidDocument, Relationship, succession};
use shuyu_resolver::DidResolver;

use crate::agreements::{AgreementRow, Side, SignatureRow, canonical};
use crate::identity::{Caller, Identity, LEDGER_SERVICE};
use crate::problem::Problem;

/// Signs agreements, and checks others' signatures and keys.
pub struct Counterparties {
    identity: Arc<Identity>,
    resolver: Arc<DidResolver>,
    require_signed: bool,
}

impl Counterparties {
    /// Signs as `identity`. With `require_signed` no agreement is taken that the other party does not sign.
    pub fn new(identity: Arc<Identity>, resolver: Arc<DidResolver>, require_signed: bool) -> Self {
        Self { identity, resolver, require_signed }
    }

    /// Our signatures.
    pub fn sign(&self, subject: &Subject<'_>, side: Side) -> Vec<SignatureRow> {
        self.identity.sign_agreement(subject).into_iter().map(|one| SignatureRow::of(side, one)).collect()
    }

    /// The keys of the other party now.
    ///
    /// # Errors
    /// 502 if its DID document cannot be had.
    pub async fn document(&self, peer: &Did) -> Result<Arc<DidDocument>, Problem> {
        self.resolver.resolve(peer).await.map_err(|error| Problem::peer(crate::management::chain(&error)))
    }

    /// Checks what the other party signed. A connector of another make may sign nothing, unless the configuration says
    /// otherwise; one that has an evidence ledger may not.
    ///
    /// # Errors
    /// In words, for the other party.
    pub fn check(
        &self,
        subject: &Subject<'_>,
        side: Side,
        signatures: &[String],
        document: &DidDocument,
    ) -> Result<Vec<SignatureRow>, String> {
        let must_sign = self.require_signed || document.service(LEDGER_SERVICE).is_some();
        if signatures.is_empty() && !must_sign {
            return Ok(Vec::new());
        }
        let has_national = document.methods().iter().any(|method| {
            method.key.suite() == Suite::Sm2 && method.relationships.contains(&Relationship::AssertionMethod)
        });
        let national = has_national && self.identity.signs_nationally();
        let found = subject.verify(signatures, document, national).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("`signatures`: {error}{source}")
        })?;
        Ok(found.into_iter().map(|one| SignatureRow::of(side, one)).collect())
    }

    /// Whether whoever calls is in the hands of the one that held `held`: it uses one of these keys, or one that they
    /// handed over to. With no key held, whatever the DID document says is enough.
    ///
    /// # Errors
    /// 502 if the DID document cannot be had.
    pub async fn hands(&self, caller: &Caller, held: &[PublicKey]) -> Result<Hands, Problem> {
        if held.is_empty() || held.contains(&caller.key) {
            return Ok(Hands::Same);
        }
        let document = self.document(&caller.did).await?;
        let handed_over =
            |held: &PublicKey| succession::leads(document.successions(), &caller.did, held, &caller.key).is_ok();
        Ok(if held.iter().any(handed_over) { Hands::HandedOver } else { Hands::Other })
    }
}

/// In whose hands a caller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hands {
    /// It uses a key that is held.
    Same,
    /// A key that is held handed over to the one it uses.
    HandedOver,
    /// Neither.
    Other,
}

/// Why a caller in other hands is refused.
pub const OTHER_HANDS: &str =
    "the key is another than the one this was begun with, and that one has not handed over to it";

/// An agreement with everything that proves it, for whoever checks it off line.
///
/// # Errors
/// When the row is damaged.
pub fn proof(row: &AgreementRow, own: &Did) -> Result<Value, Problem> {
    let damaged = || Problem::conflict("what is stored of the contract is damaged");
    let peer: Did = row.peer.parse().map_err(|_| damaged())?;
    let (provider, consumer) = match row.role {
        Side::Provider => (own, &peer),
        Side::Consumer => (&peer, own),
    };
    let canonical = canonical(&row.policy)?;
    let subject = Subject { id: &row.id, canonical: &canonical, provider, consumer, renews: row.renews.as_deref() };
    let signatures = row.signatures.iter().map(|one| Some((one.by.party(), one.signature()?)));
    let signatures: Option<Vec<(Party, Signature)>> = signatures.collect();
    let signatures = signatures.ok_or_else(damaged)?;
    Ok(proof::write(&subject, &row.policy, signatures.iter().map(|(by, one)| (*by, one))))
}
