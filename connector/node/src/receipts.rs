//! Receipts of what we used: checked, and put into our own ledger beside the provider's entry.

use std::sync::Arc;

use serde_json::Value;
use shuyu_base::{Did, Digest, json};
use shuyu_credentials::jws;
use shuyu_evidence::{Act, Statement};
use shuyu_resolver::DidResolver;

use crate::agreements::{Agreements, Side};
use crate::clock;
use crate::evidence::Evidence;
use crate::gate::{RECEIPT_TYP, usage_process};
use crate::problem::Problem;

/// Largest receipt accepted, in bytes.
const MAX_RECEIPT_BYTES: usize = 16 * 1024;

/// Takes receipts for the node `own`.
pub struct Receipts {
    own: Did,
    agreements: Agreements,
    evidence: Evidence,
    resolver: Arc<DidResolver>,
}

impl Receipts {
    /// Over the node's agreements and ledger.
    pub fn new(own: Did, agreements: Agreements, evidence: Evidence, resolver: Arc<DidResolver>) -> Self {
        Self { own, agreements, evidence, resolver }
    }

    /// Checks a provider's receipt and records that we hold it. The same receipt twice is recorded once.
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
        let verified = jws::verify(receipt, |kid| document.method(kid).map(|method| method.key.clone()))
            .map_err(|error| bad(&error.to_string()))?;
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
        let seq = content.get("seq").and_then(Value::as_u64).ok_or_else(|| bad("`seq` is missing"))?;
        let canonical = json::canonical(&content).map_err(|error| bad(&error.to_string()))?;
        let event = Digest::sha256(&canonical);
        let statement = Statement {
            kind: "use.served".to_owned(),
            act: Act::Receipt,
            process: usage_process(&agreement.id),
            seq,
            by: self.own.clone(),
            with: signer,
            at: clock::now(),
            event,
            agreement: Some(agreement.id),
            commit: std::collections::BTreeMap::new(),
        };
        self.evidence.record(&statement).await.map_err(|error| {
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
        })?;
        Ok(event)
    }
}
