//! The node's own ledger over HTTP: entries in words, and proofs.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use shuyu_ledger::{Ledger, ReadError};

use crate::anchor::Anchoring;
use crate::keeper::{Keeper, Target};
use crate::management::{Body, chain};
use crate::problem::Problem;
use crate::promises::Promises;

/// Most entries of one listing.
const MAX_ENTRIES: u64 = 1000;

/// Routes under `/v1`.
pub fn router(ledger: Arc<Ledger>, keeper: Arc<Keeper>, promises: Promises, anchoring: Arc<Anchoring>) -> Router {
    let anchored = Router::new().route("/ledger/anchors", get(list_anchors).post(anchor_now)).with_state(anchoring);
    let promised = Router::new().route("/ledger/promises", get(list_promises)).with_state(promises);
    let kept = Router::new()
        .route("/ledger/receipt/{index}", get(receipt))
        .route("/ledger/fields/{index}", get(fields))
        .route("/ledger/disclose", post(disclose))
        .route("/ledger/erase", post(erase))
        .with_state(keeper);
    Router::new()
        .route("/ledger", get(head))
        .route("/ledger/entries", get(entries))
        .route("/ledger/proof/{index}", get(proof))
        .with_state(ledger)
        .merge(kept)
        .merge(promised)
        .merge(anchored)
}

#[derive(Deserialize)]
struct After {
    after: Option<String>,
}

/// Where our checkpoints were anchored.
async fn list_anchors(
    State(anchoring): State<Arc<Anchoring>>,
    Query(from): Query<After>,
) -> Result<Json<Value>, Problem> {
    Ok(Json(anchoring.list(from.after.as_deref())?))
}

async fn anchor_now(State(anchoring): State<Arc<Anchoring>>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "anchored": anchoring.anchor_all().await? })))
}

#[derive(Deserialize)]
struct OfProcess {
    process: Option<String>,
    after: Option<String>,
}

/// What other nodes' ledgers promised us.
async fn list_promises(State(promises): State<Promises>, Query(of): Query<OfProcess>) -> Result<Json<Value>, Problem> {
    promises.list(of.process.as_deref(), of.after.as_deref()).await.map(Json)
}

/// A COSE receipt, in base64: everything else here is text.
async fn receipt(State(keeper): State<Arc<Keeper>>, Path(index): Path<u64>) -> Result<Json<Value>, Problem> {
    let made = tokio::task::spawn_blocking(move || keeper.receipt(index));
    let bytes = made.await.map_err(|error| failed(&error))??;
    Ok(Json(json!({ "index": index, "receipt": STANDARD.encode(bytes) })))
}

/// Which fields of an entry can be shown.
async fn fields(State(keeper): State<Arc<Keeper>>, Path(index): Path<u64>) -> Result<Json<Value>, Problem> {
    let read = tokio::task::spawn_blocking(move || keeper.names(index));
    read.await.map_err(|error| failed(&error))?.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DisclosureWish {
    index: u64,
    fields: Vec<String>,
}

async fn disclose(
    State(keeper): State<Arc<Keeper>>,
    Body(wish): Body<DisclosureWish>,
) -> Result<([(axum::http::HeaderName, &'static str); 1], Vec<u8>), Problem> {
    let made = tokio::task::spawn_blocking(move || keeper.disclose(wish.index, &wish.fields));
    let json = [(axum::http::header::CONTENT_TYPE, "application/json")];
    Ok((json, made.await.map_err(|error| failed(&error))??))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Erasure {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    process: Option<String>,
    #[serde(default)]
    subject: Option<String>,
    #[serde(default)]
    fields: Vec<String>,
    reason: String,
}

async fn erase(State(keeper): State<Arc<Keeper>>, Body(wish): Body<Erasure>) -> Result<Json<Value>, Problem> {
    let target = match (wish.index, wish.process, wish.subject) {
        (Some(index), None, None) => Target::Entry(index),
        (None, Some(process), None) => Target::Process(process),
        (None, None, Some(subject)) => Target::Subject(subject),
        _ => return Err(Problem::invalid("one of `index`, `process` and `subject`")),
    };
    keeper.erase(target, &wish.fields, &wish.reason).await.map(Json)
}

async fn head(State(ledger): State<Arc<Ledger>>) -> Result<Json<Value>, Problem> {
    let mut head = describe(&ledger)?;
    let signed = ledger.checkpoint().map_err(|error| failed(&error))?;
    if let Some(members) = head.as_object_mut() {
        members.insert("checkpoint".to_owned(), String::from_utf8_lossy(signed.bytes()).into_owned().into());
    }
    Ok(Json(head))
}

/// A ledger's name, published size and key.
///
/// # Errors
/// 500 if the ledger has halted.
pub fn describe(ledger: &Ledger) -> Result<Value, Problem> {
    let size = ledger.checkpoint().map_err(|error| failed(&error))?.checkpoint().size;
    Ok(json!({ "origin": ledger.vkey().name(), "size": size, "vkey": ledger.vkey().to_string() }))
}

fn failed(error: &dyn std::error::Error) -> Problem {
    Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, chain(error))
        .hint("`shuyu ledger verify` on the stopped node tells what is wrong")
}

#[derive(Deserialize)]
struct Range {
    from: Option<u64>,
    limit: Option<u64>,
    process: Option<String>,
}

async fn entries(State(ledger): State<Arc<Ledger>>, Query(range): Query<Range>) -> Result<Json<Value>, Problem> {
    let read = tokio::task::spawn_blocking(move || page(&ledger, &range));
    read.await.map_err(|error| failed(&error))?.map(Json)
}

fn page(ledger: &Ledger, range: &Range) -> Result<Value, Problem> {
    let limit = range.limit.unwrap_or(100).clamp(1, MAX_ENTRIES);
    let from = range.from.unwrap_or(0);
    let size = ledger.checkpoint().map_err(|error| failed(&error))?.checkpoint().size;
    let (indexes, next): (Vec<u64>, Option<u64>) = match &range.process {
        Some(process) => {
            let found = ledger.by_process(process).map_err(|error| failed(&error))?;
            let mut wanted: Vec<u64> = found.into_iter().filter(|index| from <= *index && *index < size).collect();
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            let next = wanted.get(limit).copied();
            wanted.truncate(limit);
            (wanted, next)
        }
        None => {
            let end = from.saturating_add(limit).min(size);
            ((from..end).collect(), Some(end).filter(|end| *end < size))
        }
    };
    let mut items = Vec::new();
    for index in indexes {
        let entry = ledger.entry(index).map_err(|error| failed(&error))?;
        items.push(json!({ "index": index, "statement": payload(&entry) }));
    }
    Ok(json!({ "items": items, "next": next }))
}

/// The statement inside an entry, for people; whoever wants it verified uses `shuyu ledger verify`.
fn payload(entry: &[u8]) -> Value {
    let parse = || -> Option<Value> {
        let jws = shuyu_credentials::jws::peek(std::str::from_utf8(entry).ok()?).ok()?;
        shuyu_base::json::parse(&jws.payload, 64 * 1024).ok()
    };
    parse().unwrap_or(Value::Null)
}

async fn proof(State(ledger): State<Arc<Ledger>>, Path(index): Path<u64>) -> Result<String, Problem> {
    let read = tokio::task::spawn_blocking(move || ledger.prove(index));
    let proof = read.await.map_err(|error| failed(&error))?;
    proof.map(|proof| proof.to_string()).map_err(|error| match &error {
        ReadError::Outside { .. } => Problem::not_found("published entry", &index.to_string()),
        ReadError::Segments { .. }
        | ReadError::Index { .. }
        | ReadError::Tiles { .. }
        | ReadError::Halted { .. }
        | _ => failed(&error),
    })
}
