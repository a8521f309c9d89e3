//! The node's own state: RocksDB, one column family a table, JSON rows, synchronous commits.
//!
//! Everything that must change together is one [`Batch`]. Rows carry their version in the table's
//! name, so that a later format is a new table and a migration.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use rocksdb::{
    BottommostLevelCompaction, ColumnFamilyDescriptor, CompactOptions, DB, Direction, FlushOptions, IteratorMode,
    Options, WriteBatch, WriteOptions,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A table of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Assets by id.
    Assets,
    /// Policies by id.
    Policies,
    /// Offers (contract definitions) by id.
    Offers,
    /// Ids of offers by the asset they are of: `{asset} {offer}`.
    OffersByAsset,
    /// Negotiations by own process id.
    Negotiations,
    /// Transfers by own process id.
    Transfers,
    /// Agreements by id.
    Agreements,
    /// Use of an agreement so far, by agreement id.
    Usage,
    /// Uses begun, by use id.
    Uses,
    /// Ids of the uses that have not ended.
    OpenUses,
    /// Receipts of what we used, by the digest of what they say.
    Receipts,
    /// Token ids already seen, by issuer and id.
    Replay,
    /// The counterparty's process id to ours.
    PeerIndex,
    /// Evidence saved with a state and not yet known to be in the ledger.
    Outbox,
    /// What a regulator knows of the nodes it follows.
    Audit,
    /// Credentials this node's owner holds, by id.
    Wallet,
    /// Requests of this node's owner for credentials, by the holder's process id.
    WalletRequests,
    /// Offers of credentials to this node's owner, by issuer and id.
    WalletOffers,
    /// Programs that may fetch tokens of this node's owner, by client id.
    TokenClients,
    /// What this node issues, by id of the definition.
    IssuerTypes,
    /// Requests for credentials to this node, by the issuer's process id.
    IssuerRequests,
    /// Credentials this node issued, by id.
    Issued,
    /// Revoked credentials, by number of the status list; and the next free index.
    StatusLists,
    /// Contract definitions: which assets are offered under which policy, by id.
    Definitions,
    /// Ids of the definitions that offer every asset.
    DefinitionsOfAll,
    /// A provider's count of the access tokens it issued, by transfer.
    TokenCounts,
    /// A consumer's renewed access tokens, by transfer.
    Edrs,
    /// What happened, by number.
    EventLog,
    /// Web hooks and how far each has come, by id.
    Hooks,
    /// What callers presented last, by DID.
    Callers,
    /// Who registered an agreement that a foreign control plane made, by agreement id.
    ForeignAgreements,
    /// Flows of our data plane that a foreign control plane leads, by flow id; and their ids by control plane and process.
    Flows,
    /// Foreign data planes, by id.
    DataPlanes,
    /// What foreign data planes were told about our transfers, by transfer id.
    Leads,
    /// Checkpoints of our ledger that were anchored elsewhere, with the receipts, by anchor and time.
    Anchors,
    /// What other nodes' ledgers promised us, by process and time.
    Promises,
    /// What does not fit in the followed ledgers, by number.
    Alarms,
    /// Numbers of the alarms, by what they say.
    AlarmsRaised,
    /// What this node cosigned of other nodes' ledgers, and how often.
    Witness,
    /// What the ledger's statements commit to, by time and identity of the statement.
    Vault,
    /// Random names that evidence has for what others named as they liked, by that name.
    EvidenceNames,
}

impl Table {
    const ALL: [Self; 41] = [
        Self::Assets,
        Self::Policies,
        Self::Offers,
        Self::OffersByAsset,
        Self::Negotiations,
        Self::Transfers,
        Self::Agreements,
        Self::Usage,
        Self::Uses,
        Self::OpenUses,
        Self::Receipts,
        Self::Replay,
        Self::PeerIndex,
        Self::Outbox,
        Self::Audit,
        Self::Wallet,
        Self::WalletRequests,
        Self::WalletOffers,
        Self::TokenClients,
        Self::IssuerTypes,
        Self::IssuerRequests,
        Self::Issued,
        Self::StatusLists,
        Self::Definitions,
        Self::DefinitionsOfAll,
        Self::TokenCounts,
        Self::Edrs,
        Self::EventLog,
        Self::Hooks,
        Self::Callers,
        Self::ForeignAgreements,
        Self::Flows,
        Self::DataPlanes,
        Self::Leads,
        Self::Anchors,
        Self::Promises,
        Self::Alarms,
        Self::AlarmsRaised,
        Self::Witness,
        Self::Vault,
        Self::EvidenceNames,
    ];

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Assets => "assets.v1",
            Self::Policies => "policies.v1",
            Self::Offers => "offers.v1",
            Self::OffersByAsset => "offers-by-asset.v1",
            Self::Negotiations => "negotiations.v1",
            Self::Transfers => "transfers.v1",
            Self::Agreements => "agreements.v1",
            Self::Usage => "usage.v1",
            Self::Uses => "uses.v1",
            Self::OpenUses => "open-uses.v1",
            Self::Receipts => "receipts.v1",
            Self::Replay => "replay.v1",
            Self::PeerIndex => "peer-index.v1",
            Self::Outbox => "outbox.v1",
            Self::Audit => "audit.v1",
            Self::Wallet => "wallet.v1",
            Self::WalletRequests => "wallet-requests.v1",
            Self::WalletOffers => "wallet-offers.v1",
            Self::TokenClients => "token-clients.v1",
            Self::IssuerTypes => "issuer-types.v1",
            Self::IssuerRequests => "issuer-requests.v1",
            Self::Issued => "issued.v1",
            Self::StatusLists => "status-lists.v1",
            Self::Definitions => "definitions.v1",
            Self::DefinitionsOfAll => "definitions-of-all.v1",
            Self::TokenCounts => "token-counts.v1",
            Self::Edrs => "edrs.v1",
            Self::EventLog => "event-log.v1",
            Self::Hooks => "hooks.v1",
            Self::Callers => "callers.v1",
            Self::ForeignAgreements => "foreign-agreements.v1",
            Self::Flows => "flows.v1",
            Self::DataPlanes => "data-planes.v1",
            Self::Leads => "leads.v1",
            Self::Anchors => "anchors.v1",
            Self::Promises => "promises.v1",
            Self::Alarms => "alarms.v1",
            Self::AlarmsRaised => "alarms-raised.v1",
            Self::Witness => "witness.v1",
            Self::Vault => "vault.v1",
            Self::EvidenceNames => "evidence-names.v1",
        }
    }
}

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process holds the directory.
    #[error("another process uses this node directory")]
    InUse,
    /// RocksDB refused or failed; a full disk shows here.
    #[error("the store failed: {0}")]
    Database(#[from] rocksdb::Error),
    /// The process is stopping; nothing was written.
    #[error("the store is closing")]
    Stopped,
    /// A row is not of the form its table has.
    #[error("row `{key}` of table `{table}` cannot be read: {source}")]
    Row {
        /// The table.
        table: &'static str,
        /// The row's key.
        key: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Changes that become durable together.
#[derive(Default)]
pub struct Batch {
    changes: Vec<(Table, String, Option<Vec<u8>>)>,
}

impl Batch {
    /// Writes a row.
    ///
    /// # Errors
    /// When the row has no JSON form.
    pub fn put<T: Serialize>(&mut self, table: Table, key: &str, row: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(row).map_err(|source| row_error(table, key, source))?;
        self.changes.push((table, key.to_owned(), Some(bytes)));
        Ok(())
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: Table, key: &str) {
        self.changes.push((table, key.to_owned(), None));
    }

    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// The open store; clones share it.
#[derive(Clone)]
pub struct Store {
    open: Arc<Open>,
}

struct Open {
    dir: PathBuf,
    /// Empty only while the database is opened again.
    db: RwLock<Option<DB>>,
    /// Set by a failed write: RocksDB then refuses every further one until it is opened again.
    failed: AtomicBool,
}

impl Store {
    /// Opens or makes the store in `dir`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let db = open(dir)?;
        let open = Open { dir: dir.to_owned(), db: RwLock::new(Some(db)), failed: AtomicBool::new(false) };
        Ok(Self { open: Arc::new(open) })
    }

    /// The row of `key`, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, StoreError> {
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        let Some(family) = db.cf_handle(table.name()) else { return Ok(None) };
        let Some(bytes) = db.get_pinned_cf(family, key)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|source| row_error(table, key, source))
    }

    /// Up to `limit` rows in key order, starting after `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn list<T: DeserializeOwned>(
        &self,
        table: Table,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, T)>, StoreError> {
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        let Some(family) = db.cf_handle(table.name()) else { return Ok(Vec::new()) };
        let mode = after.map_or(IteratorMode::Start, |key| IteratorMode::From(key.as_bytes(), Direction::Forward));
        let mut rows = Vec::new();
        for item in db.iterator_cf(family, mode) {
            let (key, bytes) = item?;
            let key = String::from_utf8_lossy(&key).into_owned();
            if after == Some(key.as_str()) {
                continue;
            }
            if rows.len() == limit {
                break;
            }
            let row = serde_json::from_slice(&bytes).map_err(|source| row_error(table, &key, source))?;
            rows.push((key, row));
        }
        Ok(rows)
    }

    /// The ends, after `prefix`, of all keys that begin with it, in order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keys_after(&self, table: Table, prefix: &str) -> Result<Vec<String>, StoreError> {
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        let Some(family) = db.cf_handle(table.name()) else { return Ok(Vec::new()) };
        let mut ends = Vec::new();
        for item in db.iterator_cf(family, IteratorMode::From(prefix.as_bytes(), Direction::Forward)) {
            let (key, _) = item?;
            let Some(end) = key.strip_prefix(prefix.as_bytes()) else { break };
            ends.push(String::from_utf8_lossy(end).into_owned());
        }
        Ok(ends)
    }

    /// The greatest key of a table, if it has rows.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn last_key(&self, table: Table) -> Result<Option<String>, StoreError> {
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        let Some(family) = db.cf_handle(table.name()) else { return Ok(None) };
        let last = db.iterator_cf(family, IteratorMode::End).next().transpose()?;
        Ok(last.map(|(key, _)| String::from_utf8_lossy(&key).into_owned()))
    }

    /// Makes all changes durable, or none.
    ///
    /// # Errors
    /// [`StoreError::Database`], for example when the disk is full.
    pub async fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.commit_blocking(&batch, true))
            .await
            .unwrap_or(Err(StoreError::Stopped))
    }

    /// Like [`Store::commit`], from a thread that may block. Without `sync` a power failure may undo it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn commit_blocking(&self, batch: &Batch, sync: bool) -> Result<(), StoreError> {
        self.reopen_if_failed()?;
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        let mut write = WriteBatch::default();
        for (table, key, bytes) in &batch.changes {
            let Some(family) = db.cf_handle(table.name()) else { continue };
            match bytes {
                Some(bytes) => write.put_cf(family, key, bytes),
                None => write.delete_cf(family, key),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        db.write_opt(write, &options).map_err(|error| {
            self.open.failed.store(true, Ordering::Release);
            StoreError::Database(error)
        })
    }

    /// Makes the database's files forget what was deleted or written over in these ranges of keys, both ends included: the
    /// write-ahead log is started anew, and files of the tables that hold such keys are written again without it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget(&self, ranges: Vec<(Table, String, String)>) -> Result<(), StoreError> {
        let store = self.clone();
        let work = tokio::task::spawn_blocking(move || store.forget_blocking(&ranges));
        work.await.unwrap_or(Err(StoreError::Stopped))
    }

    fn forget_blocking(&self, ranges: &[(Table, String, String)]) -> Result<(), StoreError> {
        let db = self.read()?;
        let db = db.as_ref().ok_or(StoreError::Stopped)?;
        // A file of the write-ahead log goes once nothing in it waits for any family.
        for family in Table::ALL.iter().filter_map(|table| db.cf_handle(table.name())) {
            let mut options = FlushOptions::default();
            options.set_wait(true);
            db.flush_cf_opt(family, &options)?;
        }
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        for (table, from, to) in ranges {
            if let Some(family) = db.cf_handle(table.name()) {
                db.compact_range_cf_opt(family, Some(from), Some(to), &options);
            }
        }
        Ok(())
    }

    /// The database for reading. Where opening it again has failed before, this tries once more.
    fn read(&self) -> Result<RwLockReadGuard<'_, Option<DB>>, StoreError> {
        let shared = || self.open.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = shared();
        if db.is_some() {
            return Ok(db);
        }
        drop(db);
        self.reopen_if_failed()?;
        Ok(shared())
    }

    /// Opens the database again if its last write failed; what was acknowledged is in its log.
    fn reopen_if_failed(&self) -> Result<(), StoreError> {
        if !self.open.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut db = self.open.db.write().unwrap_or_else(PoisonError::into_inner);
        if self.open.failed.load(Ordering::Acquire) {
            // The old one holds the lock of the directory until it is dropped.
            *db = None;
            *db = Some(open(&self.open.dir)?);
            self.open.failed.store(false, Ordering::Release);
        }
        Ok(())
    }
}

fn open(dir: &Path) -> Result<DB, StoreError> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_keep_log_file_num(4);
    options.set_max_total_wal_size(64 << 20);
    let families = Table::ALL.map(|table| {
        let mut options = Options::default();
        options.set_write_buffer_size(8 << 20);
        ColumnFamilyDescriptor::new(table.name(), options)
    });
    DB::open_cf_descriptors(&options, dir, families).map_err(|error| {
        if error.to_string().contains("lock") { StoreError::InUse } else { StoreError::Database(error) }
    })
}

fn row_error(table: Table, key: &str, source: serde_json::Error) -> StoreError {
    StoreError::Row { table: table.name(), key: key.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_are_listed_in_order_and_survive_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut batch = Batch::default();
        for n in 0..5_u32 {
            batch.put(Table::Assets, &format!("a{n}"), &n).unwrap();
        }
        batch.delete(Table::Assets, "a3");
        store.commit(batch).await.unwrap();
        assert!(matches!(Store::open(dir.path()), Err(StoreError::InUse)));
        drop(store);
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.get::<u32>(Table::Assets, "a2").unwrap(), Some(2));
        assert_eq!(store.get::<u32>(Table::Assets, "a3").unwrap(), None);
        let page = store.list::<u32>(Table::Assets, Some("a1"), 2).unwrap();
        assert_eq!(page, [("a2".to_owned(), 2), ("a4".to_owned(), 4)]);
        assert!(matches!(store.get::<String>(Table::Assets, "a2"), Err(StoreError::Row { .. })));
    }
}
