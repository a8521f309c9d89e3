//! Evidence before effect: statements are saved with the state they belong to, made durable in the
//! ledger, and only then does anything leave the node.
//!
//! What a statement is about stays out of it: the statement names the process and commits to the contents, which go to
//! the vault in the same batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, Digest, HashKind, PublicKey, json as base_json};
use shuyu_credentials::jws;
use shuyu_evidence::commitment::SALT;
use shuyu_evidence::{Act, FIELDS, Fields, Seed, Statement};
use shuyu_ledger::{Append, AppendError, Ledger};

use crate::clock;
use crate::identity::Identity;
use crate::init::random;
use crate::promises::Promised;
use crate::store::{Batch, Store, StoreError, Table};
use crate::vault::{Stated, Vault};

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

/// What a statement is about: everything in it that is no commitment, and is therefore to be opaque.
#[derive(Clone, Debug)]
pub struct About {
    /// What happened.
    pub kind: String,
    /// What we did about it.
    pub act: Act,
    /// The process.
    pub process: String,
    /// Place in the process, from 1.
    pub seq: u64,
    /// The other party; ourselves where there is none.
    pub with: Did,
    /// The agreement.
    pub agreement: Option<String>,
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
    vault: Vault,
    /// Set while the outbox may hold statements that the ledger did not take.
    behind: Arc<AtomicBool>,
    /// Orders the outbox. It starts at 0 because a start empties the outbox first.
    next: Arc<AtomicU64>,
}

impl Evidence {
    /// A recorder that signs as `identity`.
    pub fn new(ledger: Arc<Ledger>, identity: Arc<Identity>, store: Store) -> Self {
        let vault = Vault::new(store.clone());
        Self { ledger, identity, store, vault, behind: Arc::default(), next: Arc::default() }
    }

    /// What the statements commit to.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// A statement about contents of our own making, which get a fresh seed: their digest is the event.
    ///
    /// # Errors
    /// [`EvidenceError::Statement`] if the contents have no canonical form.
    pub fn state(&self, about: About, mut content: Value) -> Result<Stated, EvidenceError> {
        let seed = salted(&mut content)?;
        let event = Digest::sha256(&base_json::canonical(&content).map_err(|error| unwritable(&error))?);
        self.stated(about, event, content, &seed)
    }

    /// A statement about a message whose digest is `event`. The seed is the one in the message, so that both parties
    /// state the same. Only a connector of another make sends none: then nobody else states anything about this message,
    /// and its digest is salted too.
    ///
    /// # Errors
    /// [`EvidenceError::Statement`] if the contents have no canonical form.
    pub fn heard(&self, about: About, event: Digest, mut content: Value) -> Result<Stated, EvidenceError> {
        if let Some(seed) = Seed::of(&content) {
            return self.stated(about, event, content, &seed);
        }
        let seed = salted(&mut content)?;
        let hidden = json!({ "event": event.to_string(), SALT: content.get(SALT) });
        let event = Digest::sha256(&base_json::canonical(&hidden).map_err(|error| unwritable(&error))?);
        self.stated(about, event, content, &seed)
    }

    fn stated(&self, about: About, event: Digest, content: Value, seed: &Seed) -> Result<Stated, EvidenceError> {
        let fields = Fields::of(&about.kind, &content, seed).map_err(|error| unwritable(&error))?;
        let commit = [(FIELDS.to_owned(), fields.root())].into_iter().collect();
        let statement = Statement { commit, ..self.bare(about, event)? };
        Ok(Stated { statement, content: Some(content) })
    }

    /// A statement without contents.
    ///
    /// # Errors
    /// [`EvidenceError::Store`].
    pub fn bare(&self, about: About, event: Digest) -> Result<Statement, EvidenceError> {
        let (mut process, mut agreement) = (about.process, about.agreement);
        if let Some(id) = agreement.as_mut().filter(|id| !is_random(id)) {
            let name = self.vault.name_for(id)?;
            process = process.replace(id.as_str(), &name);
            *id = name;
        }
        Ok(Statement {
            kind: about.kind,
            act: about.act,
            process,
            seq: about.seq,
            by: self.identity.did.clone(),
            with: about.with,
            at: clock::now(),
            event,
            agreement,
            commit: std::collections::BTreeMap::new(),
        })
    }

    /// Signs a statement and adds it, and what it commits to, to the batch that saves the state it belongs to.
    ///
    /// # Errors
    /// [`EvidenceError::Statement`] if a field is out of bounds.
    pub fn save(&self, batch: &mut Batch, stated: &Stated) -> Result<Saved, EvidenceError> {
        let statement = &stated.statement;
        let bytes = shuyu_evidence::sign(statement, &self.identity.key, &self.identity.kid)
            .map_err(|error| EvidenceError::Statement(error.to_string()))?;
        let saved = Saved {
            place: format!("{:020}", self.next.fetch_add(1, Ordering::Relaxed)),
            dedup: Digest::new(HashKind::Sha256, statement.dedup_id()).to_string(),
            process: statement.process.clone(),
            entry: String::from_utf8_lossy(&bytes).into_owned(),
        };
        batch.put(Table::Outbox, &saved.place, &saved)?;
        self.vault.put(batch, stated)?;
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
        self.make_promised(saved, None).await.map(drop)
    }

    /// As [`Self::make_durable`], with the ledger's promise about the entry at place `at`.
    ///
    /// # Errors
    /// As [`Self::make_durable`].
    pub async fn make_promised(&self, saved: &[Saved], at: Option<usize>) -> Result<Option<Promised>, EvidenceError> {
        let mut done = Batch::default();
        let mut promised = None;
        for (place, statement) in saved.iter().enumerate() {
            let appended = if at == Some(place) {
                let appended = self.ledger.append_promised(append(statement)?).await;
                appended.map(|(_, promise)| {
                    promised = Some(Promised { entry: statement.entry.clone(), promise: promise.to_string() });
                })
            } else {
                self.ledger.append(append(statement)?).await.map(drop)
            };
            if let Err(error) = appended {
                self.behind.store(true, Ordering::Release);
                return Err(error.into());
            }
            done.delete(Table::Outbox, &statement.place);
        }
        // Losing this write only repeats an append that the ledger recognises.
        self.store.commit_blocking(&done, false)?;
        Ok(promised)
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
            let said = jws::peek(compact).ok().and_then(|unverified| base_json::parse(&unverified.payload, 4096).ok());
            let said = said.ok_or_else(|| bad("a succession of our own cannot be read"))?;
            let key = |name: &str| {
                let key = said.get(name).and_then(Value::as_str).and_then(|key| PublicKey::from_multikey(key).ok());
                key.map(|key| key.thumbprint()).ok_or_else(|| bad("a succession of our own names no keys"))
            };
            let commit = [("from".to_owned(), key("from")?), ("to".to_owned(), key("to")?)];
            let about = About {
                kind: "key.succession".to_owned(),
                act: Act::Published,
                process: format!("{}#keys", self.identity.did),
                seq,
                with: self.identity.did.clone(),
                agreement: None,
            };
            let bare = self.bare(about, Digest::sha256(compact.as_bytes()))?;
            let statement = Statement { commit: commit.into_iter().collect(), ..bare };
            saved.push(self.save(&mut batch, &statement.into())?);
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

/// Gives contents a fresh seed.
fn salted(content: &mut Value) -> Result<Seed, EvidenceError> {
    let seed = Seed::new(random().map_err(|error| unwritable(&error))?);
    seed.put_into(content);
    Ok(seed)
}

fn unwritable(error: &dyn std::error::Error) -> EvidenceError {
    EvidenceError::Statement(error.to_string())
}

/// Whether an identifier is a random one and says nothing: what others call their processes and agreements may be anything.
pub fn is_random(id: &str) -> bool {
    id.strip_prefix("urn:uuid:").is_some_and(|uuid| uuid.len() == 36 && uuid::Uuid::parse_str(uuid).is_ok())
}

fn append(saved: &Saved) -> Result<Append, EvidenceError> {
    let dedup: Digest =
        saved.dedup.parse().map_err(|_| EvidenceError::Statement("saved statement has no valid id".to_owned()))?;
    Ok(Append { dedup: *dedup.bytes(), process: Some(saved.process.clone()), bytes: saved.entry.clone().into_bytes() })
}
