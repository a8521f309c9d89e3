//! The vault: what the ledger's statements commit to, kept beside the ledger so that it can be shown and forgotten.
//!
//! A row holds the contents of one statement, the seed of its salts in them. Once a part was forgotten, it holds the leaf
//! hashes and what is left, and no seed. Rows are in the order of time, so that what is old is found first.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Digest, UnixMillis};
use shuyu_evidence::commitment::SALT;
use shuyu_evidence::{CommitError, Field, Fields, Seed, Statement};
use shuyu_tlog::Hash;

use crate::store::{Batch, Store, StoreError, Table};

/// A statement, ready to be saved, and what it commits to.
#[derive(Clone, Debug)]
pub struct Stated {
    /// What is signed.
    pub statement: Statement,
    /// The contents, the seed of their salts in them; `None` where the statement says it all.
    pub content: Option<Value>,
}

impl From<Statement> for Stated {
    fn from(statement: Statement) -> Self {
        Self { statement, content: None }
    }
}

/// Why the vault does not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row cannot be what was committed to.
    #[error("the vault's row of this entry is damaged: {0}")]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
struct Row {
    kind: String,
    held: Held,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Held {
    Whole(Value),
    Part { leaves: Vec<String>, fields: Vec<FieldRow> },
}

#[derive(Serialize, Deserialize)]
struct FieldRow {
    at: usize,
    name: String,
    salt: String,
    value: Value,
}

/// One row as found.
pub struct Found {
    /// Its key.
    pub key: String,
    /// The identity of the statement.
    pub id: [u8; 32],
    /// The statement's kind.
    pub kind: String,
    /// What is still known.
    pub fields: Fields,
}

/// One row, not taken apart yet.
pub struct Listed {
    /// Its key.
    pub key: String,
    /// The statement's kind.
    pub kind: String,
    /// When it was stated.
    pub at: UnixMillis,
    held: Held,
}

impl Listed {
    /// Whether one of its values, or an item of a list among them, is this text.
    pub fn mentions(&self, text: &str) -> bool {
        match &self.held {
            Held::Whole(content) => mentions(content, text),
            Held::Part { fields, .. } => fields.iter().any(|field| mentions(&field.value, text)),
        }
    }
}

fn mentions(value: &Value, text: &str) -> bool {
    match value {
        Value::String(found) => found == text,
        Value::Array(items) => items.iter().any(|item| mentions(item, text)),
        Value::Object(members) => members.values().any(|item| mentions(item, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The vault of a node; clones share it.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    naming: Arc<Mutex<()>>,
}

impl Vault {
    /// In the node's store.
    pub fn new(store: Store) -> Self {
        Self { store, naming: Arc::default() }
    }

    /// The random name under which evidence speaks of what others call `id`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn name_for(&self, id: &str) -> Result<String, StoreError> {
        let _one = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = self.store.get::<String>(Table::EvidenceNames, id)? {
            return Ok(name);
        }
        let name = format!("urn:uuid:{}", uuid::Uuid::new_v4());
        let mut batch = Batch::default();
        batch.put(Table::EvidenceNames, id, &name)?;
        self.store.commit_blocking(&batch, true)?;
        Ok(name)
    }

    /// Adds the contents of a statement to the batch that saves it.
    ///
    /// # Errors
    /// When they have no JSON form.
    pub fn put(&self, batch: &mut Batch, stated: &Stated) -> Result<(), StoreError> {
        let Some(content) = &stated.content else { return Ok(()) };
        let row = Row { kind: stated.statement.kind.clone(), held: Held::Whole(content.clone()) };
        batch.put(Table::Vault, &key(&stated.statement), &row)
    }

    /// What is still known of a statement; `None` if nothing is, or there never was anything.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn of(&self, statement: &Statement) -> Result<Option<Found>, VaultError> {
        self.at(key(statement))
    }

    /// What is still known under this key.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn at(&self, key: String) -> Result<Option<Found>, VaultError> {
        let row = self.store.get::<Row>(Table::Vault, &key)?;
        row.map(|row| found(key, row)).transpose()
    }

    /// Up to `limit` rows in the order of time, after the one with the key `after`.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Listed>, VaultError> {
        let rows = self.store.list::<Row>(Table::Vault, after, limit)?;
        let listed = |(key, row): (String, Row)| {
            let (at, _) = read_key(&key)?;
            Ok(Listed { key, kind: row.kind, at, held: row.held })
        };
        rows.into_iter().map(listed).collect()
    }

    /// Adds to the batch that of this row only what is left is kept: neither the seed nor a value that was forgotten.
    ///
    /// # Errors
    /// When it has no JSON form.
    pub fn keep(&self, batch: &mut Batch, found: &Found) -> Result<(), StoreError> {
        let fields: Vec<FieldRow> = found.fields.known().map(|(at, field)| field_row(at, field)).collect();
        if fields.is_empty() {
            batch.delete(Table::Vault, &found.key);
            return Ok(());
        }
        let leaves = found.fields.leaves().iter().map(ToString::to_string).collect();
        let row = Row { kind: found.kind.clone(), held: Held::Part { leaves, fields } };
        batch.put(Table::Vault, &found.key, &row)
    }
}

fn field_row(at: usize, field: &Field) -> FieldRow {
    FieldRow { at, name: field.name.clone(), salt: STANDARD.encode(field.salt), value: field.value.clone() }
}

/// Time first, then the statement's identity.
fn key(statement: &Statement) -> String {
    let id: String = statement.dedup_id().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{:015} {id}", statement.at.0.max(0))
}

fn damaged(what: &str) -> VaultError {
    VaultError::Damaged(what.to_owned())
}

fn read_key(key: &str) -> Result<(UnixMillis, [u8; 32]), VaultError> {
    let (time, id) = key.split_once(' ').ok_or_else(|| damaged("key"))?;
    let id = format!("sha256:{id}").parse::<Digest>().map_err(|_| damaged("identity"))?;
    Ok((UnixMillis(time.parse().map_err(|_| damaged("time"))?), *id.bytes()))
}

fn found(key: String, row: Row) -> Result<Found, VaultError> {
    let (_, id) = read_key(&key)?;
    let fields = match row.held {
        Held::Whole(content) => {
            let seed = Seed::of(&content).ok_or_else(|| damaged(SALT))?;
            Fields::of(&row.kind, &content, &seed).map_err(|error: CommitError| damaged(&error.to_string()))?
        }
        Held::Part { leaves, fields } => {
            let hash = |text: &String| <[u8; 32]>::try_from(STANDARD.decode(text).ok()?).ok();
            let leaves: Option<Vec<Hash>> = leaves.iter().map(|text| hash(text).map(Hash)).collect();
            let known = fields.into_iter().map(|row| {
                let salt = hash(&row.salt)?;
                Some((row.at, Field { name: row.name, salt, value: row.value }))
            });
            let known: Option<Vec<_>> = known.collect();
            Fields::restore(leaves.ok_or_else(|| damaged("leaves"))?, known.ok_or_else(|| damaged("fields"))?)
        }
    };
    Ok(Found { id, kind: row.kind, fields, key })
}
