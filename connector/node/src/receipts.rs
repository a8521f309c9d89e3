//! Receipts of what we used: checked, and put into our own ledger beside the provider's entry.

use std::sync::Arc;

use serde_json::Value;
use shuyu_base::{Did, Digest, json};
use shuyu_credentials::{Relationship, VerificationMethod, jws};
use shuyu_evidence::Act;
use shuyu_resolver::DidResolver;

use crate::agreements::{Agreements, Side};
use crate::evidence::{About, Evidence, EvidenceError};
use crate::gate::{RECEIPT_TYP, usage_process};
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};

/// Largest receipt accepted, in bytes.
const MAX_RECEIPT_BYTES: usize = 16 * 1024;

/// Takes receipts for the node `own`.
pub struct Receipts {
    own: Did,
    agreements: Agreements,
    evidence: Evidence,
    resolver: Arc<DidResolver>,
    store: Store,
    /// One receipt of an agreement at a time.
    locks: KeyedLocks,
}

impl Receipts {
    /// Over the node's agreements and ledger.
    pub fn new(own: Did, agreements: Agreements, evidence: Evidence, resolver: Arc<DidResolver>, store: Store) -> Self {
        Self { own, agreements, evidence, resolver, store, locks: KeyedLocks::default() }
    }

    /// Checks a provider's receipt, keeps it, counts the use and records that we hold it. The same receipt twice is one.
    ///
    /// # Errors
    /// 422 naming what is wrong with it.
    pub async fn accept(&self, receipt: &str) -> Result<Digest, Problem> {
        let bad = |why: &str| Problem::refused(format!("`receipt`: {why}"), Vec::new());
        if MAX_RECEIPT_BYTES < receipt.len() {
            return Err(bad("longer than 16 KiB"));
        }
        let kid = jws::peek(receipt).map_err(|error| bad(&error.to_string()))?.kid;
        let signer: Did = kid.split('#').next().unwrap_or_default().parse().map_err(|_| bad("`kid` names no DID"))?;
        let document = self
            .resolver
            .resolve(&signer)
            .await
            .map_err(|error| Problem::peer(format!("the signer's DID document cannot be had: {error}")))?;
        let may_state = |method: &&VerificationMethod| method.relationships.contains(&Relationship::AssertionMethod);
        let key_of = |kid: &str| document.method(kid).filter(may_state).map(|method| method.key.clone());
        let verified = jws::verify(receipt, key_of).map_err(|error| bad(&error.to_string()))?;
        if verified.typ.as_deref() != Some(RECEIPT_TYP) {
            return Err(bad("not of type shuyu-receipt+jws"));
        }
        let content = json::parse(&verified.payload, MAX_RECEIPT_BYTES).map_err(|error| bad(&error.to_string()))?;
        let text =
            |name: &str| content.get(name).and_then(Value::as_str).ok_or_else(|| bad(&format!("`{name}` is missing")));
        let agreement = self.agreements.get(text("agreement")?)?;
        if agreement.role != Side::Consumer || agreement.peer != signer.as_str() || text("to")? != self.own.as_str() {
            return Err(bad("not a receipt of the provider of this contract to us"));
        }
        let number =
            |name: &str| content.get(name).and_then(Value::as_u64).ok_or_else(|| bad(&format!("`{name}` is missing")));
        let (seq, rows, bytes) = (number("seq")?, number("rows")?, number("bytes")?);
        let canonical = json::canonical(&content).map_err(|error| bad(&error.to_string()))?;
        let event = Digest::sha256(&canonical);
        let about = About {
            kind: "use.served".to_owned(),
            act: Act::Receipt,
            process: usage_process(&agreement.id),
            seq,
            with: signer,
            agreement: Some(agreement.id.clone()),
        };
        let failed = |error: EvidenceError| {
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
        };
        let _guard = self.locks.lock(&agreement.id).await;
        self.evidence.flush().await.map_err(failed)?;
        let key = event.to_string();
        if self.store.get::<String>(Table::Receipts, &key)?.is_some() {
            return Ok(event);
        }
        let mut usage = self.agreements.usage(&agreement.id)?;
        usage.count = usage.count.saturating_add(1);
        usage.rows = usage.rows.saturating_add(rows);
        usage.bytes = usage.bytes.saturating_add(bytes);
        let mut batch = Batch::default();
        batch.put(Table::Receipts, &key, &receipt)?;
        batch.put(Table::Usage, &agreement.id, &usage)?;
        let stated = self.evidence.heard(about, event, content).map_err(failed)?;
        let saved = self.evidence.save(&mut batch, &stated).map_err(failed)?;
        self.store.commit(batch).await?;
        self.evidence.make_durable(&[saved]).await.map_err(failed)?;
        Ok(event)
    }
}
