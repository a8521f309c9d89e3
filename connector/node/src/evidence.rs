//! Evidence before effect: statements are saved with the state they belong to, made durable in the
//! ledger, and only then does anything leave the node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Digest, HashKind, PublicKey, json};
use shuyu_credentials::jws;
use shuyu_evidence::{Act, Statement};
use shuyu_ledger::{Append, AppendError, Ledger};

use crate::clock;
use crate::identity::Identity;
use crate::store::{Batch, Store, StoreError, Table};

/// Why a statement is not durable.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// The ledger did not take it.
    #[error("the ledger did not take the evidence: {0}")]
    Append(#[from] AppendError),
    /// The statement is outside its bounds.
    #[error("the statement cannot be written: {0}")]
    Statement(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A signed statement on its way into the ledger.
#[derive(Clone, Serialize, Deserialize)]
pub struct Saved {
    place: String,
    dedup: String,
    process: String,
    entry: String,
}

/// Writes evidence; clones share the ledger.
#[derive(Clone)]
pub struct Evidence {
    ledger: Arc<Ledger>,
    identity: Arc<Identity>,
    store: Store,
    /// Set while the outbox may hold statements that the ledger did not take.
    behind: Arc<AtomicBool>,
    /// Orders the outbox. It starts at 0 because a start empties the outbox first.
    next: Arc<AtomicU64>,
}

impl Evidence {
    /// A recorder that signs as `identity`.
    pub fn new(ledger: Arc<Ledger>, identity: Arc<Identity>, store: Store) -> Self {
        Self { ledger, identity, store, behind: Arc::default(), next: Arc::default() }
    }

    /// Signs a statement and adds it to the batch that saves the state it belongs to.
    ///
    /// # Errors
    /// [`EvidenceError::Statement`] if a field is out of bounds.
    pub fn save(&self, batch: &mut Batch, statement: &Statement) -> Result<Saved, EvidenceError> {
        let bytes = shuyu_evidence::sign(statement, &self.identity.key, &self.identity.kid)
            .map_err(|error| EvidenceError::Statement(error.to_string()))?;
        let saved = Saved {
            place: format!("{:020}", self.next.fetch_add(1, Ordering::Relaxed)),
            dedup: Digest::new(HashKind::Sha256, statement.dedup_id()).to_string(),
            process: statement.process.clone(),
            entry: String::from_utf8_lossy(&bytes).into_owned(),
        };
        batch.put(Table::Outbox, &saved.place, &saved)?;
        Ok(saved)
    }

    /// Commits a batch of statements that belong to no other state.
    ///
    /// # Errors
    /// [`EvidenceError::Store`].
    pub async fn store(&self, batch: Batch) -> Result<(), EvidenceError> {
        Ok(self.store.commit(batch).await?)
    }

    /// Returns once every statement is durable in the ledger. Repeats are recognised there.
    ///
    /// # Errors
    /// [`EvidenceError::Append`]; the statements stay in the outbox and are offered again at the next start.
    pub async fn make_durable(&self, saved: &[Saved]) -> Result<(), EvidenceError> {
        let mut done = Batch::default();
        for statement in saved {
            if let Err(error) = self.ledger.append(append(statement)?).await {
                self.behind.store(true, Ordering::Release);
                return Err(error.into());
            }
            done.delete(Table::Outbox, &statement.place);
        }
        // Losing this write only repeats an append that the ledger recognises.
        self.store.commit_blocking(&done, false)?;
        Ok(())
    }

    /// Makes each change of the signing key evident: the digest of the succession that the leaving key signed, and both keys.
    /// The ledger knows those it has.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub async fn record_successions(&self) -> Result<(), EvidenceError> {
        let bad = |error: &str| EvidenceError::Statement(error.to_owned());
        let mut batch = Batch::default();
        let mut saved = Vec::new();
        for (compact, seq) in self.identity.document.successions().iter().zip(1_u64..) {
            let said = jws::peek(compact).ok().and_then(|unverified| json::parse(&unverified.payload, 4096).ok());
            let said = said.ok_or_else(|| bad("a succession of our own cannot be read"))?;
            let key = |name: &str| {
                let key = said.get(name).and_then(Value::as_str).and_then(|key| PublicKey::from_multikey(key).ok());
                key.map(|key| key.thumbprint()).ok_or_else(|| bad("a succession of our own names no keys"))
            };
            let commit = [("from".to_owned(), key("from")?), ("to".to_owned(), key("to")?)];
            let statement = Statement {
                kind: "key.succession".to_owned(),
                act: Act::Published,
                process: format!("{}#keys", self.identity.did),
                seq,
                by: self.identity.did.clone(),
                with: self.identity.did.clone(),
                at: clock::now(),
                event: Digest::sha256(compact.as_bytes()),
                agreement: None,
                commit: commit.into_iter().collect(),
            };
            saved.push(self.save(&mut batch, &statement)?);
        }
        if saved.is_empty() {
            return Ok(());
        }
        self.store.commit(batch).await?;
        self.make_durable(&saved).await
    }

    /// Writes what an earlier failure kept from the ledger; costs nothing when there was none.
    ///
    /// # Errors
    /// [`EvidenceError`] while the ledger still fails.
    pub async fn flush(&self) -> Result<(), EvidenceError> {
        if !self.behind.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        if let Err(error) = self.recover().await {
            self.behind.store(true, Ordering::Release);
            return Err(error);
        }
        Ok(())
    }

    /// Offers the ledger everything that a crash may have kept from it.
    ///
    /// # Errors
    /// [`EvidenceError`].
    pub async fn recover(&self) -> Result<usize, EvidenceError> {
        let mut recovered = 0;
        loop {
            let rows = self.store.list::<Saved>(Table::Outbox, None, 1000)?;
            if rows.is_empty() {
                return Ok(recovered);
            }
            let saved: Vec<Saved> = rows.into_iter().map(|(_, saved)| saved).collect();
            recovered += saved.len();
            self.make_durable(&saved).await?;
        }
    }
}

fn append(saved: &Saved) -> Result<Append, EvidenceError> {
    let dedup: Digest =
        saved.dedup.parse().map_err(|_| EvidenceError::Statement("saved statement has no valid id".to_owned()))?;
    Ok(Append { dedup: *dedup.bytes(), process: Some(saved.process.clone()), bytes: saved.entry.clone().into_bytes() })
}
