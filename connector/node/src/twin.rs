//! The binding of the ledger's SM3 twin to the ledger: the twin's heads are entries of the log.
//!
//! A statement of kind `ledger.sm3-head` names a head in its process, `<did>#ledger-sm3/<size>`; its event is the
//! SHA-256 of the checkpoint's text and its commitment `root` the SM3 root. Whoever holds both logs computes the root
//! over the first `size` entries and compares. The entry is in both logs, so neither can be exchanged alone.

use std::sync::Arc;
use std::time::Duration;

use shuyu_base::{Digest, HashKind};
use shuyu_evidence::{Act, Statement};
use shuyu_ledger::Ledger;
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::evidence::{Evidence, EvidenceError};
use crate::identity::Identity;
use crate::store::Batch;
use crate::witness::cosigning::is_bookkeeping;

/// How often a head is bound while entries are added.
const EPOCH: Duration = Duration::from_secs(60);

/// The kind of the statement.
const KIND: &str = "ledger.sm3-head";

/// Binds the heads of the twin, if there is one.
pub struct TwinBinder {
    ledger: Arc<Ledger>,
    evidence: Evidence,
    identity: Arc<Identity>,
}

impl TwinBinder {
    /// A binder for the node's ledger.
    pub fn new(ledger: Arc<Ledger>, evidence: Evidence, identity: Arc<Identity>) -> Self {
        Self { ledger, evidence, identity }
    }

    /// Binds the head of every epoch in which entries were added, until told to stop. Returns at once where there is no
    /// twin.
    pub async fn run(self, stopping: CancellationToken) {
        if self.ledger.twin().is_none() {
            return;
        }
        let mut epochs = tokio::time::interval(EPOCH);
        // The size behind the last binding: nothing to bind as long as the twin ends there.
        let mut bound_to = 0;
        while stopping.run_until_cancelled(epochs.tick()).await.is_some() {
            match self.bind(bound_to).await {
                Ok(size) => bound_to = size,
                Err(error) => tracing::warn!(%error, "SM3 head not bound to the log; trying again"),
            }
        }
    }

    /// Returns the size up to which everything is bound, the binding's own entry included.
    async fn bind(&self, bound_to: u64) -> Result<u64, EvidenceError> {
        let Some(Ok(signed)) = self.ledger.twin().map(shuyu_ledger::Served::checkpoint) else { return Ok(bound_to) };
        let head = signed.checkpoint();
        if head.size <= bound_to {
            return Ok(bound_to);
        }
        if is_bookkeeping(&self.ledger, bound_to, head.size) {
            return Ok(head.size);
        }
        let did = &self.identity.did;
        let statement = Statement {
            kind: KIND.to_owned(),
            act: Act::Published,
            process: format!("{did}#ledger-sm3/{}", head.size),
            seq: 1,
            by: did.clone(),
            with: did.clone(),
            at: clock::now(),
            event: Digest::sha256(head.to_string().as_bytes()),
            agreement: None,
            commit: [("root".to_owned(), Digest::new(HashKind::Sm3, head.root.0))].into_iter().collect(),
        };
        let mut batch = Batch::default();
        let saved = self.evidence.save(&mut batch, &statement.into())?;
        self.evidence.store(batch).await?;
        self.evidence.make_durable(&[saved]).await?;
        Ok(head.size + 1)
    }
}
