//! A regulator's work: mirror the ledgers of others, verify every byte copied, compare the parties' accounts.

mod bundle;
mod follower;
mod progress;

pub use follower::Follower;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, Digest};
use shuyu_credentials::DidDocument;
use shuyu_resolver::DidResolver;
use shuyu_tlog::{Checkpoint, Note, SignedCheckpoint, TilePath, Vkey, tiles_of};

use crate::clock;
use crate::locks::KeyedLocks;
use crate::management::chain;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};
use crate::witness::WitnessDesk;

/// Most nodes followed; every pair of them is compared.
const MAX_NODES: usize = 64;
/// Checkpoints remembered of one node; older ones are implied by the proofs of later ones.
const MAX_OBSERVED: usize = 1024;
/// A file beside the tiles of a log that is not for everybody: we read it as ourselves, and do not serve the mirror.
const PRIVATE: &str = "private";
/// Largest log that is mirrored; bundles of larger ones would not fit their bound.
const MAX_MIRRORED_ENTRIES: u64 = 10_000_000;
/// Largest checkpoint read.
const MAX_CHECKPOINT_BYTES: usize = 64 * 1024;

/// A node that is followed.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct FollowedRow {
    did: String,
    /// Its DID document as first resolved: keys are pinned from then on.
    document: Value,
    vkey: String,
    observed: Vec<ObservedRow>,
    size: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct ObservedRow {
    at: i64,
    checkpoint: String,
}

impl FollowedRow {
    /// Remembers a checkpoint at this place in their order.
    fn remember(&mut self, place: usize, checkpoint: String) {
        self.observed.insert(place.min(self.observed.len()), ObservedRow { at: clock::now().0, checkpoint });
        if MAX_OBSERVED < self.observed.len() {
            self.observed.remove(0);
        }
    }
}

/// The size that a signed checkpoint states, if it can be read.
fn size_of(checkpoint: &str) -> Option<u64> {
    let note = Note::parse(checkpoint.as_bytes()).ok()?;
    Some(note.text().parse::<Checkpoint>().ok()?.size)
}

/// Follows ledgers; one a node.
pub struct Auditor {
    dir: PathBuf,
    store: Store,
    peers: Arc<Peers>,
    resolver: Arc<DidResolver>,
    locks: KeyedLocks,
    /// Cosigns what is followed, where this node is a witness too.
    witness: Option<Arc<WitnessDesk>>,
}

impl Auditor {
    /// Mirrors go to `dir/audit`.
    ///
    /// # Errors
    /// When the store fails.
    pub fn new(
        dir: &Path,
        store: Store,
        peers: Arc<Peers>,
        resolver: Arc<DidResolver>,
        witness: Option<Arc<WitnessDesk>>,
    ) -> Result<Self, Problem> {
        let auditor = Self { dir: dir.join("audit"), store, peers, resolver, locks: KeyedLocks::default(), witness };
        for row in auditor.rows()? {
            auditor.cosign(&row.vkey);
        }
        Ok(auditor)
    }

    /// A witness cosigns what it follows.
    fn cosign(&self, vkey: &str) {
        if let (Some(witness), Ok(key)) = (&self.witness, vkey.parse()) {
            witness.know_key(key);
        }
    }

    /// Starts following a node: its document is resolved and its log key pinned.
    ///
    /// # Errors
    /// 409 if it is followed already, 502 if it cannot be reached.
    pub async fn follow(&self, did: &Did) -> Result<Value, Problem> {
        if self.store.get::<FollowedRow>(Table::Audit, did.as_str())?.is_some() {
            return Err(Problem::conflict(format!("`{did}` is followed already")));
        }
        if MAX_NODES <= self.rows()?.len() {
            return Err(Problem::conflict(format!("at most {MAX_NODES} nodes can be followed")));
        }
        let document = self
            .resolver
            .resolve(did)
            .await
            .map_err(|error| Problem::peer(chain(&error)).hint("is the node up, and its DID right?"))?;
        let root = self.ledger_root(did).await?;
        let vkey = self.text(did, &format!("{root}/vkey"), 4096).await?.trim().to_owned();
        let parsed: Vkey =
            vkey.parse().map_err(|error| Problem::peer(format!("`{did}` serves a bad vkey: {error}")))?;
        // A log under somebody else's name would take that name's place with everyone who goes by names.
        let own_name = root.split_once("://").map_or(root.as_str(), |(_, bare)| bare);
        if parsed.name() != own_name {
            let words = format!("the ledger at `{root}` calls itself `{}`, which is not its address", parsed.name());
            return Err(Problem::peer(words));
        }
        if !document.methods().iter().any(|method| method.key == *parsed.key()) {
            return Err(Problem::peer(format!("the ledger key of `{did}` is not in its DID document")));
        }
        let row =
            FollowedRow { did: did.to_string(), document: document.to_json(), vkey, observed: Vec::new(), size: 0 };
        let mut batch = Batch::default();
        batch.put(Table::Audit, did.as_str(), &row)?;
        self.store.commit(batch).await?;
        self.cosign(&row.vkey);
        Ok(json!({ "did": did.as_str(), "vkey": row.vkey, "size": 0 }))
    }

    /// The nodes followed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn nodes(&self) -> Result<Vec<Value>, Problem> {
        let show = |row: FollowedRow| json!({ "did": row.did, "vkey": row.vkey, "size": row.size });
        Ok(self.rows()?.into_iter().map(show).collect())
    }

    /// Copies what is new at every node and verifies all of it. A node that cannot be reached stops no other.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn sync(&self) -> Result<Vec<Value>, Problem> {
        let mut results = Vec::new();
        for row in self.rows()? {
            let did = row.did;
            let _guard = self.locks.lock(&did).await;
            let Some(row) = self.store.get::<FollowedRow>(Table::Audit, &did)? else { continue };
            let checked = match self.sync_one(row).await {
                Ok((size, untraced)) => self.verified(&did, size, &untraced),
                Err(problem) => Err(problem),
            };
            let result = match checked {
                Ok(result) => result,
                Err(problem) => {
                    json!({ "did": did, "verified": false, "findings": [problem.detail], "reached": false })
                }
            };
            results.push(result);
        }
        Ok(results)
    }

    /// The row of a followed node.
    fn row(&self, did: &Did) -> Result<Option<FollowedRow>, Problem> {
        Ok(self.store.get(Table::Audit, did.as_str())?)
    }

    /// Copies what is new at one node; the keys that nobody handed over to are returned.
    async fn refresh(&self, did: &Did) -> Result<Vec<String>, Problem> {
        let _guard = self.locks.lock(did.as_str()).await;
        let row = self.row(did)?.ok_or_else(|| Problem::not_found("followed node", did.as_str()))?;
        Ok(self.sync_one(row).await?.1)
    }

    async fn sync_one(&self, mut row: FollowedRow) -> Result<(u64, Vec<String>), Problem> {
        let did: Did = row.did.parse().map_err(|_| Problem::conflict("a stored row names no DID"))?;
        let untraced = self.follow_keys(&did, &mut row).await?;
        let root = self.ledger_root(&did).await?;
        let checkpoint = self.text(&did, &format!("{root}/checkpoint"), MAX_CHECKPOINT_BYTES).await?;
        let vkey: Vkey = row.vkey.parse().map_err(|_| Problem::conflict("a stored row has no valid vkey"))?;
        let is_new = row.observed.last().is_none_or(|last| last.checkpoint != checkpoint);
        let opened = SignedCheckpoint::open(checkpoint.as_bytes(), &vkey);
        // What is no checkpoint at all says nothing about the log, and would keep the rest from being judged.
        if let Some(error) = opened.as_ref().err().filter(|error| error.is_unreadable()) {
            return Err(Problem::peer(format!("`{did}` serves no checkpoint: {}", chain(error))));
        }
        let head = opened.ok().map(|signed| signed.checkpoint().size);
        if head.is_some_and(|size| MAX_MIRRORED_ENTRIES < size) {
            return Err(Problem::peer(format!(
                "`{did}` claims more than {MAX_MIRRORED_ENTRIES} entries; they are not copied"
            )));
        }
        if let Some(size) = head
            && row.size < size
        {
            self.copy(&did, &root, size).await?;
            self.copy_heads(&did, &root, row.size, size).await;
            row.size = size;
        }
        // What else is known of the log: its newest cosigned head, and what it tried to have cosigned here. They came by
        // other ways, so they stand where their size belongs: only checkpoints tell in which order it served them.
        let mut also = self.witness.as_ref().map(|desk| desk.refused(vkey.name())).transpose()?.unwrap_or_default();
        also.extend(self.text(&did, &format!("{root}/witnessed"), MAX_CHECKPOINT_BYTES).await);
        // What is larger than the checkpoint at hand was made after it: it comes again when that much is mirrored.
        let is_mirrored = |note: &String| {
            SignedCheckpoint::open(note.as_bytes(), &vkey).is_ok_and(|head| head.checkpoint().size <= row.size)
        };
        also.retain(|note| *note != checkpoint && is_mirrored(note));
        also.retain(|note| row.observed.iter().all(|seen| seen.checkpoint != *note));
        // Checkpoints are remembered last: what they cover is on our disk by then.
        for note in also {
            let Some(size) = size_of(&note) else { continue };
            let larger = row.observed.iter().position(|seen| size_of(&seen.checkpoint) >= Some(size));
            row.remember(larger.unwrap_or(row.observed.len()), note);
        }
        if is_new {
            row.remember(row.observed.len(), checkpoint);
        }
        let size = row.size;
        let mut batch = Batch::default();
        batch.put(Table::Audit, &row.did, &row)?;
        self.store.commit(batch).await?;
        Ok((size, untraced))
    }

    /// Takes keys that the node has added since, if a key held so far handed over to them. The others are returned: what
    /// they sign will not hold.
    async fn follow_keys(&self, did: &Did, row: &mut FollowedRow) -> Result<Vec<String>, Problem> {
        let later = self.resolver.fetch_anew(did).await.map_err(|error| Problem::peer(chain(&error)))?;
        let (joined, untraced) = held_document(row)?.followed_by(&later);
        row.document = joined.to_json();
        Ok(untraced)
    }

    /// Copies the tiles and entry bundles of a tree of `size` entries. Full ones are copied once.
    async fn copy(&self, did: &Did, root: &str, size: u64) -> Result<(), Problem> {
        let mirror = self.mirror(did);
        for path in tiles_of(size) {
            let file = mirror.join(path.to_string());
            if tokio::fs::try_exists(&file).await.unwrap_or(false) {
                continue;
            }
            let max_bytes = shuyu_tlog::bundle::MAX_BUNDLE_BYTES;
            let (bytes, is_private) = self
                .peers
                .bytes_as_asked(did, &format!("{root}/{path}"), max_bytes)
                .await
                .map_err(|error| Problem::peer(chain(&error)))?;
            if is_private {
                let mark = mirror.join(PRIVATE);
                write(&mark, b"").await.map_err(|error| cannot_write(&mark, &error))?;
            }
            write(&file, &bytes).await.map_err(|error| cannot_write(&file, &error))?;
        }
        Ok(())
    }

    /// Puts the verified checkpoint beside the tiles of the mirror: from now on they are a log that can be served.
    async fn serve_head(&self, did: &Did, head: &str) -> Result<(), Problem> {
        let file = self.mirror(did).join("checkpoint");
        write(&file, head.as_bytes()).await.map_err(|error| cannot_write(&file, &error))
    }

    /// The file at `path` of the mirror of the log whose origin has this hash (SHA-256, hex; tlog-mirror), verified up to
    /// the checkpoint that is served with it. `None` for every path that names no file of a log, and for a log that is not for
    /// everybody.
    pub fn mirrored(&self, origin: &str, path: &str) -> Option<PathBuf> {
        let is_file = path == "checkpoint" || path.parse::<TilePath>().is_ok();
        let is_of = |row: &FollowedRow| {
            row.vkey.parse::<Vkey>().is_ok_and(|key| crate::witness::origin_hash(key.name()) == origin)
        };
        let row = self.rows().ok()?.into_iter().find(|row| is_file && is_of(row))?;
        let mirror = self.mirror(&row.did.parse().ok()?);
        (!mirror.join(PRIVATE).exists()).then(|| mirror.join(path))
    }

    fn mirror(&self, did: &Did) -> PathBuf {
        let name = Digest::sha256(did.as_str().as_bytes()).to_string();
        self.dir.join(name.rsplit(':').next().unwrap_or_default())
    }

    fn rows(&self) -> Result<Vec<FollowedRow>, Problem> {
        Ok(self.store.list(Table::Audit, None, MAX_NODES)?.into_iter().map(|(_, row)| row).collect())
    }

    async fn ledger_root(&self, did: &Did) -> Result<String, Problem> {
        self.peers.ledger_root(did).await.map_err(|error| Problem::peer(chain(&error)))
    }

    async fn text(&self, did: &Did, url: &str, max_bytes: usize) -> Result<String, Problem> {
        let bytes = self.peers.bytes(did, url, max_bytes).await.map_err(|error| Problem::peer(chain(&error)))?;
        String::from_utf8(bytes).map_err(|_| Problem::peer(format!("`{url}` is not text")))
    }
}

/// The document held of a node.
fn held_document(row: &FollowedRow) -> Result<DidDocument, Problem> {
    let did: Option<Did> = row.did.parse().ok();
    let document = did.and_then(|did| DidDocument::parse(row.document.to_string().as_bytes(), &did).ok());
    document.ok_or_else(|| Problem::conflict(format!("what is stored about `{}` is damaged: document", row.did)))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Problem {
    let words = format!("cannot write `{}`: {error}", file.display());
    Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, words)
}

/// Writes a whole file or none.
async fn write(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = file.parent() {
        tokio::fs::create_dir_all(parent).await?;
    }
    let part = file.with_extension("part");
    tokio::fs::write(&part, bytes).await?;
    tokio::fs::rename(&part, file).await
}
