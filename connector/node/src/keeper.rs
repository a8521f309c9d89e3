//! Shows and forgets what the ledger's statements commit to.
//!
//! To forget is: the vault's row loses values, salts and seed, and whatever else the node kept of the same salts (a
//! receipt holds the seed) goes in the same batch, together with the statement `ledger.erased`, which says of which entries
//! something was forgotten and commits to why. Then the database's files are rewritten without it. The entries stay, and
//! every proof of them.

mod retention;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use shuyu_base::UnixMillis;
use shuyu_evidence::{Act, Disclosure, Statement, peek};
use shuyu_ledger::{Ledger, ReadError};
use shuyu_tlog::{Receipt, ReceiptClaims};

use crate::evidence::{About, Evidence, EvidenceError};
use crate::identity::Identity;
use crate::management::chain;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};
use crate::vault::{Found, Listed, Vault, VaultError};

pub use retention::{Retention, parse_retention};

/// The kind of the statement about an erasure.
pub const ERASED: &str = "ledger.erased";
/// Entries that one statement about an erasure names.
const MAX_NAMED: usize = 200;
/// Rows of the vault read at once.
const PAGE: usize = 500;
/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// Of which entries something is to be forgotten.
#[derive(Clone, Debug)]
pub enum Target {
    /// Of this entry.
    Entry(u64),
    /// Of every entry of this process.
    Process(String),
    /// Of every entry with a field that has this value, such as a DID or a name.
    Subject(String),
}

/// Shows and forgets; one a node.
pub struct Keeper {
    ledger: Arc<Ledger>,
    evidence: Evidence,
    identity: Arc<Identity>,
    store: Store,
    retention: Vec<Retention>,
    /// One erasure at a time.
    erasing: tokio::sync::Mutex<()>,
}

impl Keeper {
    /// Over the node's ledger and vault.
    pub fn new(
        ledger: Arc<Ledger>,
        evidence: Evidence,
        identity: Arc<Identity>,
        store: Store,
        retention: Vec<Retention>,
    ) -> Self {
        Self { ledger, evidence, identity, store, retention, erasing: tokio::sync::Mutex::default() }
    }

    fn vault(&self) -> &Vault {
        self.evidence.vault()
    }

    /// The names of the fields of an entry that can still be shown.
    ///
    /// # Errors
    /// 404 if there is no such entry, 410 if nothing of it is known.
    pub fn names(&self, index: u64) -> Result<Value, Problem> {
        let (statement, found) = self.known(index)?;
        Ok(json!({ "index": index, "kind": statement.kind, "fields": found.fields.names() }))
    }

    /// A disclosure file of these fields of an entry.
    ///
    /// # Errors
    /// As [`Keeper::names`]; 400 if no field has such a name.
    pub fn disclose(&self, index: u64, pick: &[String]) -> Result<Vec<u8>, Problem> {
        let (_, found) = self.known(index)?;
        let unknown = |wish: &&String| found.fields.show(std::slice::from_ref(*wish)).is_empty();
        if let Some(wish) = pick.iter().find(unknown) {
            let names = found.fields.names().join(", ");
            return Err(
                Problem::invalid(format!("entry {index} has no field `{wish}`")).hint(format!("it has {names}"))
            );
        }
        let disclosure = Disclosure {
            did: self.identity.did.clone(),
            document: self.identity.document.clone(),
            vkey: self.ledger.vkey().clone(),
            entry: self.ledger.entry(index).map_err(|error| unread(&error, index))?,
            proof: self.ledger.prove(index).map_err(|error| unread(&error, index))?,
            size: found.fields.leaves().len() as u64,
            fields: found.fields.show(pick),
        };
        disclosure.to_json().map_err(|error| Problem::invalid(chain(&error)))
    }

    /// The COSE receipt (RFC 9942) of an entry under the last published checkpoint.
    ///
    /// # Errors
    /// 404 if there is no such published entry.
    pub fn receipt(&self, index: u64) -> Result<Vec<u8>, Problem> {
        let entry = self.ledger.entry(index).map_err(|error| unread(&error, index))?;
        let proof = self.ledger.prove(index).map_err(|error| unread(&error, index))?;
        // Only what a checkpoint of ours says is signed.
        let head = proof.verify(&entry, self.ledger.vkey()).map_err(|error| failed(&error))?;
        let claims = ReceiptClaims {
            kid: format!("{}#ledger", self.identity.did),
            issuer: self.identity.did.to_string(),
            subject: self.ledger.vkey().name().to_owned(),
        };
        let place = (index, head.checkpoint().size, proof.path);
        let receipt =
            Receipt::sign(&self.identity.ledger_key, claims, &entry, place).map_err(|error| failed(&error))?;
        Ok(receipt.to_bytes())
    }

    fn known(&self, index: u64) -> Result<(Statement, Found), Problem> {
        let (statement, found) = self.look(index)?;
        let gone = || {
            Problem::new(StatusCode::GONE, format!("nothing of what entry {index} commits to is known here"))
                .hint("it was erased, which a later entry `ledger.erased` states, or there was nothing to keep")
        };
        Ok((statement, found.ok_or_else(gone)?))
    }

    fn look(&self, index: u64) -> Result<(Statement, Option<Found>), Problem> {
        let entry = self.ledger.entry(index).map_err(|error| unread(&error, index))?;
        let statement = peek(&entry).map_err(|error| failed(&error))?;
        let found = self.vault().of(&statement)?;
        Ok((statement, found))
    }

    /// Forgets the fields that `pick` names, all if it names none, and states it. Returns what the statement says.
    ///
    /// # Errors
    /// 400 without a reason, 404 if there is nothing to forget.
    pub async fn erase(&self, target: Target, pick: &[String], reason: &str) -> Result<Value, Problem> {
        if reason.trim().is_empty() || MAX_REASON_BYTES < reason.len() {
            return Err(Problem::invalid(format!("`reason`: 1 to {MAX_REASON_BYTES} bytes")));
        }
        let _one = self.erasing.lock().await;
        let keys = tokio::task::block_in_place(|| self.targets(&target))?;
        let indexes = self.forget(&keys, pick, reason, "operator").await?;
        if indexes.is_empty() {
            return Err(Problem::not_found("known content of", &target.words()));
        }
        Ok(json!({ "erased": indexes, "fields": pick }))
    }

    /// The keys of the vault's rows. What was said about erasures is no target of one, unless it is named.
    fn targets(&self, target: &Target) -> Result<Vec<String>, Problem> {
        match target {
            Target::Entry(index) => Ok(self.look(*index)?.1.map(|found| found.key).into_iter().collect()),
            Target::Process(process) => {
                let indexes = self.ledger.by_process(process).map_err(|error| failed(&error))?;
                let mut keys = Vec::new();
                for index in indexes {
                    keys.extend(self.look(index)?.1.map(|found| found.key));
                }
                Ok(keys)
            }
            Target::Subject(subject) => self.filtered(UnixMillis(i64::MAX), |row| row.mentions(subject)),
        }
    }

    /// The keys of wanted rows before `end`.
    fn filtered(&self, end: UnixMillis, is_wanted: impl Fn(&Listed) -> bool) -> Result<Vec<String>, Problem> {
        let (mut wanted, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = self.vault().list(after.as_deref(), PAGE)?;
            let Some(last) = page.last().filter(|_| page.first().is_some_and(|row| row.at < end)) else {
                return Ok(wanted);
            };
            after = Some(last.key.clone());
            wanted.extend(page.into_iter().filter(|row| row.kind != ERASED && is_wanted(row)).map(|row| row.key));
        }
    }

    /// Forgets, states it, and returns once the files have forgotten too: the indexes of the entries.
    async fn forget(&self, keys: &[String], pick: &[String], why: &str, who: &str) -> Result<Vec<u64>, Problem> {
        let (mut indexes, mut changed) = (Vec::new(), Changed::default());
        for keys in keys.chunks(MAX_NAMED) {
            let (mut batch, mut named) = (Batch::default(), Vec::new());
            for key in keys {
                let Some(mut row) = self.vault().at(key.clone())? else { continue };
                let receipts = self.receipts(&row)?;
                if row.fields.forget(pick).is_empty() {
                    continue;
                }
                for (table, key, left) in receipts {
                    batch.put(table, &key, &left)?;
                    changed.note(table, key);
                }
                self.vault().keep(&mut batch, &row)?;
                named.extend(self.ledger.find(&row.id).map_err(|error| failed(&error))?);
                changed.note(Table::Vault, row.key);
            }
            if named.is_empty() {
                continue;
            }
            let content = json!({ "entries": named, "fields": pick, "reason": why, "by": who });
            let own = &self.identity.did;
            let about = About {
                kind: ERASED.to_owned(),
                act: Act::Revoked,
                process: format!("{own}#erasure/{}", uuid::Uuid::new_v4()),
                seq: 1,
                with: own.clone(),
                agreement: None,
            };
            self.evidence.flush().await.map_err(|error| unstated(&error))?;
            let stated = self.evidence.state(about, content).map_err(|error| unstated(&error))?;
            let saved = self.evidence.save(&mut batch, &stated).map_err(|error| unstated(&error))?;
            self.store.commit(batch).await?;
            self.evidence.make_durable(&[saved]).await.map_err(|error| unstated(&error))?;
            indexes.append(&mut named);
        }
        self.store.forget(changed.0.into_values().collect()).await?;
        Ok(indexes)
    }

    /// A receipt holds the contents of a use with the seed of its salts: it goes with them, from the provider's row of the
    /// use and from the consumer's receipts, where its digest remains so that it is not taken a second time. What is left
    /// of these rows.
    fn receipts(&self, row: &Found) -> Result<Vec<(Table, String, Value)>, Problem> {
        let mut left = Vec::new();
        if row.kind != "use.served" {
            return Ok(left);
        }
        let used =
            row.fields.known().find(|(_, field)| field.name == "/use").and_then(|(_, field)| field.value.as_str());
        if let Some(id) = used
            && let Some(mut row) = self.store.get::<Value>(Table::Uses, id)?
        {
            for (member, value) in [("receipt", "".into()), ("purpose", Value::Null), ("query", "".into())] {
                row.as_object_mut().and_then(|members| members.insert(member.to_owned(), value));
            }
            left.push((Table::Uses, id.to_owned(), row));
        }
        if let Some(index) = self.ledger.find(&row.id).map_err(|error| failed(&error))? {
            let key = self.look(index)?.0.event.to_string();
            if self.store.get::<String>(Table::Receipts, &key)?.is_some() {
                left.push((Table::Receipts, key, "".into()));
            }
        }
        Ok(left)
    }
}

/// The range of keys that was changed, of each table.
#[derive(Default)]
struct Changed(BTreeMap<&'static str, (Table, String, String)>);

impl Changed {
    fn note(&mut self, table: Table, key: String) {
        let (_, first, last) = self.0.entry(table.name()).or_insert_with(|| (table, key.clone(), key.clone()));
        if key < *first {
            *first = key;
        } else if *last < key {
            *last = key;
        }
    }
}

impl Target {
    fn words(&self) -> String {
        match self {
            Self::Entry(index) => format!("entry {index}"),
            Self::Process(process) => format!("process {process}"),
            Self::Subject(_) => "this subject".to_owned(),
        }
    }
}

fn failed(error: &dyn std::error::Error) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}

fn unstated(error: &EvidenceError) -> Problem {
    failed(error)
        .hint("what was to be forgotten may be gone already; its statement is written as soon as the ledger works")
}

fn unread(error: &ReadError, index: u64) -> Problem {
    if matches!(error, ReadError::Outside { .. }) {
        return Problem::not_found("published entry", &index.to_string());
    }
    failed(error)
}

impl From<VaultError> for Problem {
    fn from(error: VaultError) -> Self {
        failed(&error)
    }
}
