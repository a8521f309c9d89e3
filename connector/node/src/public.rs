//! What anybody may read: the DID document, the ledger's files, health and metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use shuyu_ledger::{Ledger, Served};
use shuyu_tlog::TilePath;

use crate::audit::Auditor;
use crate::identity::Identity;
use crate::management::chain;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::readers::{Reader, Readers};

/// Tiles never change once full; proxies may keep them for a year.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// The same for the reader alone, where not everybody may read.
const FOREVER_PRIVATE: &str = "private, max-age=31536000, immutable";

/// Most requests for files of mirrors served at once.
const MAX_MIRROR_READERS: usize = 16;

/// Routes below the public root.
pub fn router(identity: &Identity, ledger: Arc<Ledger>, readers: Arc<Readers>, metrics: Metrics) -> Router {
    let document = identity.document.to_json();
    Router::new()
        .route(&did_path(identity), get(move || std::future::ready(Json(document.clone()))))
        .route("/health", get(|| std::future::ready("ok\n")))
        .nest("/ledger", log(Arc::clone(&ledger), Arc::clone(&readers), |ledger| Some(ledger.served())))
        .nest("/ledger-sm3", log(ledger, readers, Ledger::twin))
        .merge(metrics.router())
}

/// The mirrors of followed ledgers, each a log below the hash of its origin (C2SP tlog-mirror).
pub fn mirrors(auditor: Arc<Auditor>) -> Router {
    Router::new()
        .route("/mirror/{origin}/{*path}", get(mirrored))
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(MAX_MIRROR_READERS))
        .with_state(auditor)
}

async fn mirrored(State(auditor): State<Arc<Auditor>>, Path((origin, path)): Path<(String, String)>) -> Response {
    let found = tokio::task::spawn_blocking(move || auditor.mirrored(&origin, &path)).await;
    let Ok(Some(file)) = found else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::fs::read(file).await {
        Ok(bytes) => bytes.into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Where did:web looks for the document (did:web method, section 2.5.2).
fn did_path(identity: &Identity) -> String {
    let mut segments = identity.did.id().split(':').skip(1).peekable();
    if segments.peek().is_none() || identity.did.method() != "web" {
        return "/.well-known/did.json".to_owned();
    }
    let path: Vec<&str> = segments.collect();
    format!("/{}/did.json", path.join("/"))
}

/// One of the ledger's logs; `None` where it is not kept.
#[derive(Clone)]
struct Log {
    ledger: Arc<Ledger>,
    readers: Arc<Readers>,
    served: fn(&Ledger) -> Option<&Served>,
}

impl Log {
    fn get(&self) -> Option<&Served> {
        (self.served)(&self.ledger)
    }
}

/// The routes of a served log (tlog-tiles), below its prefix, and its verifier keys.
fn log(ledger: Arc<Ledger>, readers: Arc<Readers>, served: fn(&Ledger) -> Option<&Served>) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/witnessed", get(witnessed))
        .route("/heads/{digest}", get(head))
        .route("/vkey", get(vkey))
        .route("/vkeys", get(vkeys))
        .route("/tile/{*path}", get(tile))
        .route("/entry/{index}", get(entry))
        .with_state(Log { ledger, readers, served })
}

const TEXT: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");

async fn checkpoint(State(log): State<Log>) -> Response {
    match log.get().map(Served::checkpoint) {
        Some(Ok(signed)) => ([TEXT, (header::CACHE_CONTROL, "no-cache")], signed.bytes().to_vec()).into_response(),
        Some(Err(error)) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The newest checkpoint that a quorum of witnesses has cosigned.
async fn witnessed(State(log): State<Log>) -> Response {
    match log.get().and_then(Served::witnessed_head) {
        Some(head) => ([TEXT, (header::CACHE_CONTROL, "no-cache")], head.bytes().to_vec()).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// A cosigned head that an entry states by its SHA-256 in hex.
async fn head(State(log): State<Log>, Path(digest): Path<String>) -> Response {
    let is_name = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(served) = log.get().filter(|_| is_name) else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::fs::read(served.path().join("heads").join(digest)).await {
        Ok(bytes) => ([TEXT, (header::CACHE_CONTROL, FOREVER)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn vkey(State(log): State<Log>) -> Response {
    match log.get() {
        Some(served) => ([TEXT], format!("{}\n", served.vkey())).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Every key that signs the checkpoints, a line each.
async fn vkeys(State(log): State<Log>) -> Response {
    match log.get() {
        Some(served) => {
            ([TEXT], served.keys().iter().map(|key| format!("{key}\n")).collect::<String>()).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Only paths that name a tile or an entry bundle reach the disk.
async fn tile(State(log): State<Log>, Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    let nothing = || StatusCode::NOT_FOUND.into_response();
    let Some(served) = log.get() else { return Ok(nothing()) };
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else { return Ok(nothing()) };
    log.readers.whole(&headers).await?;
    let kept = if log.readers.is_public() { FOREVER } else { FOREVER_PRIVATE };
    Ok(match tokio::fs::read(served.path().join(path.to_string())).await {
        Ok(bytes) => {
            ([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, kept)], bytes).into_response()
        }
        Err(_) => nothing(),
    })
}

/// One entry with its proof, for the party that it names and for who may read everything.
async fn entry(State(log): State<Log>, Path(index): Path<u64>, headers: HeaderMap) -> Result<Response, Problem> {
    let reader = log.readers.reader(&headers).await?;
    let read = tokio::task::spawn_blocking(move || -> Option<(Vec<u8>, String)> {
        let entry = log.ledger.entry(index).ok()?;
        let names_reader = match &reader {
            Reader::Whole => true,
            Reader::Party(did) => shuyu_evidence::peek(&entry).is_ok_and(|statement| statement.with == *did),
        };
        let proof = names_reader.then(|| log.get()?.prove(index).ok())??;
        Some((entry, proof.to_string()))
    });
    let read = read.await.map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, chain(&error)))?;
    // Somebody else's entry looks like none.
    let (entry, proof) = read.ok_or_else(|| Problem::not_found("entry that names you", &index.to_string()))?;
    Ok(Json(serde_json::json!({ "entry": String::from_utf8_lossy(&entry), "proof": proof })).into_response())
}
