//! Anchoring: our newest checkpoint is posted where we have no say, and what comes back is kept and evidenced.
//!
//! An anchor is another node's ledger (`node`), which states the checkpoint as an entry of its own and answers with that
//! entry and its promise; or any HTTP endpoint (`url`), such as a gateway to a consortium chain or a time-stamping
//! service, which answers with whatever its receipt is. There is no plug-in interface: a gateway is a few lines of code
//! in front of the chain, see `docs/guides/anchoring.md`.
//!
//! `POST`, body the signed checkpoint with its cosignatures (`text/plain`), any 2xx with a body of at most
//! [`MAX_RECEIPT_BYTES`] is a receipt. The checkpoint and the receipt are kept in the store; the ledger states
//! `ledger.anchored`, `event` the SHA-256 of the checkpoint and `commit.receipt` that of the receipt.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, Digest, HashKind, UnixMillis};
use shuyu_evidence::{Act, Statement};
use shuyu_ledger::Ledger;
use shuyu_tlog::{Checkpoint, Note, SignedCheckpoint, Vkey};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::clock;
use crate::config::{Anchor, ConfigError};
use crate::evidence::{About, Evidence};
use crate::identity::Doorkeeper;
use crate::management::chain;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::promises::Promised;
use crate::store::{Batch, Store, StoreError, Table};
use crate::witness::cosigning::keep_head;

/// Largest receipt kept, in bytes.
pub const MAX_RECEIPT_BYTES: usize = 64 * 1024;
/// Longest pause before an anchor that failed is tried again.
const RETRY: Duration = Duration::from_secs(60);
/// Largest checkpoint taken into our ledger, with its signatures, in bytes: about a hundred witnesses.
const MAX_ANCHOR_BYTES: usize = 16 * 1024;
/// Shortest time between two anchors that one node may put into our ledger, in milliseconds.
const TAKE_EVERY_MS: i64 = 10_000;
/// Most nodes whose last anchor is remembered.
const MAX_CALLERS: usize = 10_000;
/// Most anchors of one listing.
const MAX_LISTED: usize = 1000;
/// The kind of what we state about ours.
const ANCHORED: &str = "ledger.anchored";
/// The kind of what we state about another's.
const FOREIGN_HEAD: &str = "ledger.foreign-head";

/// One checkpoint and what an anchor answered.
#[derive(Serialize, Deserialize)]
struct AnchorRow {
    anchor: String,
    at: String,
    size: u64,
    checkpoint: String,
    receipt: String,
    content_type: Option<String>,
}

/// Where a checkpoint goes.
#[derive(Clone, Debug)]
enum Place {
    Node(Did),
    Url { url: Url, token: Option<String> },
}

struct Target {
    name: String,
    place: Place,
    every: Duration,
}

/// Anchors the node's ledger.
pub struct Anchoring {
    ledger: Arc<Ledger>,
    evidence: Evidence,
    peers: Arc<Peers>,
    store: Store,
    did: Did,
    targets: Vec<Target>,
}

impl Anchoring {
    /// Over the anchors of the configuration; `dir` is where their secret files are.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the anchor.
    pub fn new(
        dir: &Path,
        anchors: &[Anchor],
        (ledger, evidence, peers, store, did): (Arc<Ledger>, Evidence, Arc<Peers>, Store, Did),
    ) -> Result<Arc<Self>, ConfigError> {
        let targets = anchors.iter().map(|anchor| target(dir, anchor)).collect::<Result<_, _>>()?;
        Ok(Arc::new(Self { ledger, evidence, peers, store, did, targets }))
    }

    /// Anchors until told to stop, each place on its own.
    pub async fn run(self: Arc<Self>, stopping: CancellationToken) {
        let each = (0..self.targets.len()).map(|at| Arc::clone(&self).keep_anchored(at, stopping.clone()));
        futures::future::join_all(each).await;
    }

    async fn keep_anchored(self: Arc<Self>, at: usize, stopping: CancellationToken) {
        let Some(target) = self.targets.get(at) else { return };
        let mut pause = Duration::ZERO;
        while stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            pause = match self.anchor(target).await {
                Ok(_) => target.every,
                Err(problem) => {
                    tracing::warn!(anchor = target.name, reason = %problem.detail, "the ledger was not anchored");
                    RETRY.min(target.every)
                }
            };
        }
    }

    /// Posts the newest checkpoint, unless it is the one that was posted last; true if it was posted.
    async fn anchor(&self, target: &Target) -> Result<bool, Problem> {
        let newest = self.ledger.checkpoint().map_err(|error| Problem::conflict(chain(&error)))?;
        let head = self.ledger.served().witnessed_head().unwrap_or(newest);
        let last: Option<AnchorRow> = self.store.get(Table::Anchors, &newest_key(&target.name))?;
        let size = head.checkpoint().size;
        // Our own statement about the last one alone is nothing to anchor.
        if size == 0 || last.is_some_and(|last| size <= last.size.saturating_add(1)) {
            return Ok(false);
        }
        let (receipt, content_type) = self.post(&target.place, head.bytes()).await?;
        let now = clock::now();
        let row = AnchorRow {
            anchor: target.name.clone(),
            at: now.to_string(),
            size,
            checkpoint: String::from_utf8_lossy(head.bytes()).into_owned(),
            receipt: STANDARD.encode(&receipt),
            content_type,
        };
        let about = About {
            kind: ANCHORED.to_owned(),
            act: Act::Published,
            process: format!("{}#anchors/{}/{size}", self.did, target.name),
            seq: 1,
            with: self.did.clone(),
            agreement: None,
        };
        let failed = |error: &dyn std::error::Error| Problem::conflict(chain(error));
        let bare = self.evidence.bare(about, Digest::sha256(head.bytes())).map_err(|error| failed(&error))?;
        let commit = [("receipt".to_owned(), Digest::sha256(&receipt))].into_iter().collect();
        let mut batch = Batch::default();
        batch.put(Table::Anchors, &format!("{} {:020}", target.name, now.0), &row)?;
        batch.put(Table::Anchors, &newest_key(&target.name), &row)?;
        let saved = self.evidence.save(&mut batch, &Statement { commit, ..bare }.into());
        let saved = saved.map_err(|error| failed(&error))?;
        self.store.commit(batch).await?;
        self.evidence.make_durable(&[saved]).await.map_err(|error| failed(&error))?;
        tracing::info!(anchor = target.name, size, "the ledger was anchored");
        Ok(true)
    }

    async fn post(&self, place: &Place, checkpoint: &[u8]) -> Result<(Vec<u8>, Option<String>), Problem> {
        let (url, token) = match place {
            Place::Node(did) => {
                let root = self.peers.ledger_root(did).await.map_err(|error| Problem::peer(chain(&error)))?;
                let url = Url::parse(&format!("{root}/anchor")).map_err(|error| Problem::peer(error.to_string()))?;
                (url, Some(self.peers.token(did).map_err(|error| Problem::peer(chain(&error)))?))
            }
            Place::Url { url, token } => (url.clone(), token.clone()),
        };
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "text/plain; charset=utf-8")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let answer = self.peers.http().post_bytes(&url, &headers, checkpoint.to_vec(), MAX_RECEIPT_BYTES).await;
        let answer = answer.map_err(|error| Problem::peer(chain(&error)))?;
        if !answer.is_success() {
            let words: String = String::from_utf8_lossy(&answer.body).chars().filter(|c| !c.is_control()).collect();
            let words: String = words.chars().take(300).collect();
            return Err(Problem::peer(format!("the anchor answered {}: {words}", answer.status)));
        }
        Ok((answer.body.to_vec(), answer.content_type))
    }

    /// Looks at every anchor now.
    ///
    /// # Errors
    /// The first that fails, after all were tried.
    pub async fn anchor_all(&self) -> Result<usize, Problem> {
        let (mut posted, mut failed) = (0, None);
        for target in &self.targets {
            match self.anchor(target).await {
                Ok(is_new) => posted += usize::from(is_new),
                Err(problem) => failed = failed.or(Some(problem)),
            }
        }
        failed.map_or(Ok(posted), Err)
    }

    /// What was anchored, oldest first by anchor.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self, after: Option<&str>) -> Result<Value, StoreError> {
        // The newest of each stands before them all.
        let rows = self.store.list::<AnchorRow>(Table::Anchors, Some(after.unwrap_or("\u{20}~")), MAX_LISTED)?;
        let next = (rows.len() == MAX_LISTED).then(|| rows.last().map(|(key, _)| key.clone())).flatten();
        let shown = |(_, row): (String, AnchorRow)| {
            json!({ "anchor": row.anchor, "at": row.at, "size": row.size, "checkpoint": row.checkpoint,
                "receipt": row.receipt, "content_type": row.content_type })
        };
        Ok(json!({ "items": rows.into_iter().map(shown).collect::<Vec<_>>(), "next": next }))
    }
}

/// Where the newest anchor of this name stands: a space sorts before every name.
fn newest_key(name: &str) -> String {
    format!(" {name}")
}

fn target(dir: &Path, anchor: &Anchor) -> Result<Target, ConfigError> {
    let bad = |reason: String| ConfigError::Value { key: "anchors", reason: format!("`{}`: {reason}", anchor.name) };
    let token = match &anchor.token_file {
        Some(file) => {
            let text = std::fs::read_to_string(dir.join(file));
            Some(text.map_err(|error| bad(format!("token-file: {error}")))?.trim().to_owned())
        }
        None => None,
    };
    let place = match (&anchor.node, &anchor.url) {
        (Some(did), None) if token.is_none() => {
            Place::Node(did.parse().map_err(|error| bad(format!("node: {error}")))?)
        }
        (None, Some(url)) => Place::Url { url: Url::parse(url).map_err(|error| bad(format!("url: {error}")))?, token },
        (Some(_), None) => return Err(bad("token-file is for a url".to_owned())),
        (Some(_), Some(_)) | (None, None) => return Err(bad("either node or url".to_owned())),
    };
    Ok(Target { name: anchor.name.clone(), place, every: Duration::from_secs(anchor.every_s.into()) })
}

/// Takes the checkpoints of other nodes into our ledger.
pub struct AnchorDesk {
    doorkeeper: Doorkeeper,
    evidence: Evidence,
    ledger: Arc<Ledger>,
    peers: Arc<Peers>,
    /// When each node came last, and with which size.
    last: Mutex<HashMap<Did, (UnixMillis, u64)>>,
}

impl AnchorDesk {
    /// For nodes that prove who they are.
    pub fn new(doorkeeper: Doorkeeper, evidence: Evidence, ledger: Arc<Ledger>, peers: Arc<Peers>) -> Arc<Self> {
        Arc::new(Self { doorkeeper, evidence, ledger, peers, last: Mutex::default() })
    }

    /// States that the caller showed this checkpoint of its own ledger; the entry and the promise about it.
    async fn take(&self, headers: &HeaderMap, body: &[u8]) -> Result<Promised, Problem> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let claims = self.doorkeeper.claims(authorization, clock::now()).await;
        let claims = claims.map_err(|error| Problem::new(StatusCode::UNAUTHORIZED, chain(&error)))?;
        let caller = claims.issuer;
        let head = self.opened(&caller, body).await?;
        self.pace(&caller, head.size)?;
        let event = Digest::sha256(body);
        let about = About {
            kind: FOREIGN_HEAD.to_owned(),
            act: Act::Observed,
            process: format!("{caller}#ledger-head/{}", head.size),
            seq: 1,
            with: caller,
            agreement: None,
        };
        let failed = |error: &dyn std::error::Error| {
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, format!("not stated: {}", chain(error)))
        };
        keep_head(self.ledger.served(), &event, body).map_err(|error| failed(&error))?;
        let bare = self.evidence.bare(about, event).map_err(|error| failed(&error))?;
        let commit = [("root".to_owned(), Digest::new(HashKind::Sha256, head.root.0))].into_iter().collect();
        let mut batch = Batch::default();
        let saved = self.evidence.save(&mut batch, &Statement { commit, ..bare }.into());
        let saved = saved.map_err(|error| failed(&error))?;
        self.evidence.store(batch).await.map_err(|error| failed(&error))?;
        let promised = self.evidence.make_promised(&[saved], Some(0)).await.map_err(|error| failed(&error))?;
        promised.ok_or_else(|| Problem::conflict("the ledger made no promise"))
    }

    /// Refuses a caller that comes too often: every anchor is an entry for ever.
    fn pace(&self, caller: &Did, size: u64) -> Result<(), Problem> {
        let now = clock::now();
        let too_many = |words: &str| Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, words));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get(caller) {
            Some((at, _)) if (0..TAKE_EVERY_MS).contains(&now.0.saturating_sub(at.0)) => {
                return too_many("one anchor every 10 seconds");
            }
            Some((_, known)) if size <= *known => {
                return Err(Problem::conflict(format!("a checkpoint of size {known} was taken already")));
            }
            None if MAX_CALLERS <= last.len() => return too_many("too many nodes anchor here"),
            Some(_) | None => {}
        }
        last.insert(caller.clone(), (now, size));
        Ok(())
    }

    /// The checkpoint, if a key of the caller's document signed it.
    async fn opened(&self, caller: &Did, body: &[u8]) -> Result<Checkpoint, Problem> {
        let note = Note::parse(body).map_err(|error| Problem::invalid(error.to_string()))?;
        let head: Checkpoint = note.text().parse().map_err(|error| Problem::invalid(format!("{error}")))?;
        let document = self.peers.document(caller).await.map_err(|error| Problem::peer(chain(&error)))?;
        let keys = document.methods().iter().filter_map(|method| Vkey::new(&head.origin, method.key.clone()).ok());
        let mut opened = keys.filter_map(|key| SignedCheckpoint::open(body, &key).ok());
        let signed = opened.next().map(|signed| signed.checkpoint().clone());
        signed.ok_or_else(|| Problem::invalid(format!("no key of `{caller}` signed this checkpoint")))
    }
}

/// The route below the public root.
pub fn router(desk: Arc<AnchorDesk>) -> Router {
    Router::new().route("/ledger/anchor", post(take)).layer(DefaultBodyLimit::max(MAX_ANCHOR_BYTES)).with_state(desk)
}

async fn take(State(desk): State<Arc<AnchorDesk>>, headers: HeaderMap, body: Bytes) -> Response {
    match desk.take(&headers, &body).await {
        Ok(promised) => axum::Json(promised).into_response(),
        Err(problem) => problem.into_response(),
    }
}
