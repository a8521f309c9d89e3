//! Negotiations, contracts, transfers, access and receipts over HTTP.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{self, Sse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::{Stream, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use shuyu_base::{Did, PublicKey, UnixMillis};
use shuyu_contract_engine::transfer::Verb;
use shuyu_contract_engine::{Negotiation, Transfer};
use shuyu_policy::{Action, Lang, Limits, LiveAgreement, Request, Standing, Usage, authorize};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tokio_util::sync::CancellationToken;

use crate::agreements::{AgreementRow, Agreements, Held, Side, last_end};
use crate::clock;
use crate::counterparty;
use crate::events::Events;
use crate::exchange::handover::{Access, Format};
use crate::exchange::negotiation::{Wish, on_table};
use crate::exchange::row::{Kind, Row};
use crate::exchange::{Negotiations, Transfers};
use crate::finder::Finder;
use crate::holdings::Approve;
use crate::management::Body;
use crate::problem::Problem;
use crate::receipts::Receipts;
use crate::store::{Store, Table};

/// Longest wait of one request for a change.
const MAX_WAIT_S: u64 = 120;
/// Most items of one listing.
const MAX_ITEMS: usize = 1000;

/// What these handlers need.
pub struct Desk {
    /// Negotiations.
    pub negotiations: Arc<Negotiations>,
    /// Transfers.
    pub transfers: Arc<Transfers>,
    /// Agreements.
    pub agreements: Agreements,
    /// Other nodes' catalogues.
    pub finder: Finder,
    /// Receipts of what we used.
    pub receipts: Receipts,
    /// State.
    pub store: Store,
    /// What happens.
    pub events: Events,
    /// Set when the node stops: whoever listens or waits must not hold it up.
    pub stopping: CancellationToken,
}

/// Routes under `/v1`.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/catalog", post(catalog))
        .route("/negotiations", get(list_negotiations).post(start_negotiation))
        .route("/negotiations/{id}", get(show_negotiation))
        .route("/negotiations/{id}/approve", post(approve))
        .route("/negotiations/{id}/counter", post(counter))
        .route("/negotiations/{id}/refuse", post(refuse))
        .route("/negotiations/{id}/retry", post(retry_negotiation))
        .route("/contracts", get(list_contracts))
        .route("/contracts/{id}", get(show_contract))
        .route("/contracts/{id}/revoke", post(revoke))
        .route("/contracts/{id}/retire", post(retire))
        .route("/contracts/{id}/trust-key", post(trust_key))
        .route("/contracts/{id}/proof", get(proof))
        .route("/contracts/{id}/explain", post(explain))
        .route("/transfers", get(list_transfers).post(start_transfer))
        .route("/transfers/{id}", get(show_transfer))
        .route("/transfers/{id}/access", get(access))
        .route("/transfers/{id}/{verb}", post(say))
        .route("/receipts", post(receipt))
        .route("/events", get(events))
        .with_state(desk)
}

type Answer = Result<Json<Value>, Problem>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogWish {
    provider: String,
    #[serde(default)]
    filter: Option<Value>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    limit: Option<u32>,
    #[serde(default)]
    after: Option<String>,
}

async fn catalog(State(desk): State<Arc<Desk>>, Body(wish): Body<CatalogWish>) -> Answer {
    let provider = did("provider", &wish.provider)?;
    desk.finder
        .find(&provider, wish.text.as_deref(), wish.filter.as_ref(), wish.limit, wish.after.as_deref())
        .await
        .map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewNegotiation {
    #[serde(default)]
    provider: Option<String>,
    /// Given instead of `provider` to offer something to a consumer that has not asked.
    #[serde(default)]
    consumer: Option<String>,
    #[serde(default)]
    dataset: Option<String>,
    offer: String,
    #[serde(default)]
    policy: Option<Value>,
    #[serde(default)]
    accept: Option<Approve>,
    /// The contract that the new one is to take the place of.
    #[serde(default)]
    renews: Option<String>,
}

async fn start_negotiation(
    State(desk): State<Arc<Desk>>,
    Body(new): Body<NewNegotiation>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let row = match (&new.provider, &new.consumer) {
        (Some(provider), None) => {
            let provider = did("provider", provider)?;
            let dataset = new.dataset.ok_or_else(|| Problem::invalid("`dataset` is missing"))?;
            let policy = match new.policy {
                Some(policy) => policy,
                None => desk.finder.offer(&provider, &dataset, &new.offer).await?,
            };
            let answers = new.accept.unwrap_or(Approve::Auto);
            let wish = Wish { provider, dataset, offer: new.offer, policy, answers, renews: new.renews };
            desk.negotiations.request(wish).await?
        }
        (None, Some(consumer)) => desk.negotiations.offer(did("consumer", consumer)?, &new.offer).await?,
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::invalid("give `provider` to ask for data, or `consumer` to offer it"));
        }
    };
    Ok((StatusCode::CREATED, Json(negotiation_json(&desk, &row))))
}

/// Which page of a listing is wanted.
#[derive(Deserialize)]
pub(super) struct Paging {
    pub(super) after: Option<String>,
    limit: Option<usize>,
}

impl Paging {
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(100).clamp(1, MAX_ITEMS)
    }
}

/// A page of `limit` items, of which one more was read to know whether there is a next one.
pub(super) fn page<T>(
    mut items: Vec<T>,
    limit: usize,
    key: impl Fn(&T) -> String,
    show: impl Fn(&T) -> Value,
) -> Json<Value> {
    let more = limit < items.len();
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(key);
    Json(json!({ "items": items.iter().map(show).collect::<Vec<_>>(), "next": next }))
}

async fn list_negotiations(State(desk): State<Arc<Desk>>, Query(paging): Query<Paging>) -> Answer {
    let rows = desk.negotiations.driver()?.list(paging.after.as_deref(), paging.limit() + 1)?;
    Ok(page(rows, paging.limit(), |row| row.pid.clone(), |row| negotiation_json(&desk, row)))
}

#[derive(Deserialize)]
struct Wait {
    wait: Option<String>,
    timeout_s: Option<u64>,
}

async fn show_negotiation(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Query(wait): Query<Wait>) -> Answer {
    let load = || desk.negotiations.driver().and_then(|driver| driver.get(&id));
    let row = until(&desk, &id, &wait, load, |row| desk.negotiations.waiting_for(row) == "us").await?;
    Ok(Json(negotiation_json(&desk, &row)))
}

/// Waits until the process is in one of the states asked for, needs us, or changed at all; answers with how it is
/// when the time is over.
async fn until<K: Kind>(
    desk: &Desk,
    id: &str,
    wait: &Wait,
    load: impl Fn() -> Result<Row<K>, Problem>,
    needs_us: impl Fn(&Row<K>) -> bool,
) -> Result<Row<K>, Problem> {
    let mut heard = desk.events.subscribe();
    let first = load()?;
    let Some(wanted) = &wait.wait else { return Ok(first) };
    let wanted: Vec<String> = wanted.split(',').map(|state| state.trim().to_ascii_uppercase()).collect();
    let is_change = wanted.iter().any(|state| state == "CHANGE");
    let done = |row: &Row<K>| {
        let state = row.machine.state().unwrap_or("NEW");
        wanted.iter().any(|wanted| wanted == state)
            || wanted.iter().any(|wanted| wanted == "US") && needs_us(row)
            || is_change && row.history.len() != first.history.len()
    };
    if done(&first) {
        return Ok(first);
    }
    let limit = Duration::from_secs(wait.timeout_s.unwrap_or(30).min(MAX_WAIT_S));
    let changed = async {
        loop {
            match heard.recv().await {
                Ok(event) if event.id != id => continue,
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return load(),
            }
            let row = load()?;
            if done(&row) {
                return Ok(row);
            }
        }
    };
    tokio::select! {
        row = changed => row,
        () = tokio::time::sleep(limit) => load(),
        () = desk.stopping.cancelled() => load(),
    }
}

fn negotiation_json(desk: &Desk, row: &Row<Negotiation>) -> Value {
    let agreement = row.detail.agreement.as_ref().filter(|_| row.machine.state() == Some("FINALIZED"));
    json!({
        "id": row.pid, "role": row.role, "state": row.machine.state().unwrap_or("NEW"), "peer": row.peer,
        "dataset": row.detail.dataset, "consumer_pid": consumer_pid(row), "provider_pid": provider_pid(row),
        "offer": on_table(row), "waiting_for": desk.negotiations.waiting_for(row),
        "agreement": agreement.and_then(|agreement| agreement.get("@id")), "history": row.history, "error": row.error,
    })
}

fn consumer_pid<K: Kind>(row: &Row<K>) -> Option<&str> {
    match row.role {
        Side::Consumer => Some(&row.pid),
        Side::Provider => row.machine.peer_pid(),
    }
}

fn provider_pid<K: Kind>(row: &Row<K>) -> Option<&str> {
    match row.role {
        Side::Provider => Some(&row.pid),
        Side::Consumer => row.machine.peer_pid(),
    }
}

async fn approve(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    let row = desk.negotiations.approve(&id).await?;
    Ok(Json(negotiation_json(&desk, &row)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Counter {
    policy: Value,
}

async fn counter(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Counter>) -> Answer {
    let row = desk.negotiations.counter(&id, &body.policy).await?;
    Ok(Json(negotiation_json(&desk, &row)))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reason {
    reason: String,
}

impl Reason {
    fn checked(self) -> Result<String, Problem> {
        if 1024 < self.reason.len() || self.reason.chars().any(char::is_control) {
            return Err(Problem::invalid("`reason` must be at most 1024 bytes of text without control characters"));
        }
        Ok(self.reason)
    }
}

async fn refuse(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Reason>) -> Answer {
    let row = desk.negotiations.refuse(&id, &body.checked()?).await?;
    Ok(Json(negotiation_json(&desk, &row)))
}

async fn retry_negotiation(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    let row = desk.negotiations.driver()?.resume(&id).await?;
    Ok(Json(negotiation_json(&desk, &row)))
}

async fn list_contracts(State(desk): State<Arc<Desk>>, Query(paging): Query<Paging>) -> Answer {
    let rows = desk.store.list::<AgreementRow>(Table::Agreements, paging.after.as_deref(), paging.limit() + 1)?;
    let rows: Vec<AgreementRow> = rows.into_iter().map(|(_, row)| row).collect();
    let shown = rows.iter().map(|row| contract_json(&desk, row)).collect::<Result<Vec<_>, _>>()?;
    let pairs: Vec<(AgreementRow, Value)> = rows.into_iter().zip(shown).collect();
    Ok(page(pairs, paging.limit(), |pair| pair.0.id.clone(), |pair| pair.1.clone()))
}

async fn show_contract(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    contract_json(&desk, &desk.agreements.get(&id)?).map(Json)
}

fn contract_json(desk: &Desk, row: &AgreementRow) -> Answer2 {
    let program = desk.agreements.program(row)?;
    let used = desk.agreements.usage(&row.id)?;
    let renewed_by = desk.agreements.renewed_by(&row.id)?;
    let is_retired = row.held == Held::Retired || renewed_by.is_some();
    let state = match desk.agreements.standing(row, &program, clock::now()) {
        Standing::Active if is_retired => "retired",
        Standing::Active => "active",
        Standing::Suspended => "suspended",
        Standing::Terminated => "terminated",
        Standing::Expired => "expired",
    };
    let limits = program.policy().permissions.first().map(Limits::of).unwrap_or_default();
    Ok(json!({
        "id": row.id, "role": row.role, "peer": row.peer, "asset": row.asset, "state": state, "policy": row.policy,
        "signed_at": row.signed_at, "reason": row.reason, "negotiation": row.negotiation, "answers": row.answers,
        "digest": row.digest()?.to_string(), "signed": signed(row), "signatures": row.signatures,
        "trusted_keys": row.trusted, "renews": row.renews, "renewed_by": renewed_by,
        "used": { "count": used.count, "rows": used.rows, "bytes": used.bytes },
        "limits": {
            "count": limits.max_count, "rows": limits.max_rows, "bytes": limits.max_bytes,
            "not_after": last_end(program.policy()).map(|end| end.to_string()),
        },
    }))
}

/// Who signed the agreement.
fn signed(row: &AgreementRow) -> &'static str {
    let has = |side| row.signatures.iter().any(|signature| signature.by == side);
    match (has(Side::Provider), has(Side::Consumer)) {
        (true, true) => "both",
        (true, false) => "provider",
        (false, true) => "consumer",
        (false, false) => "nobody",
    }
}

type Answer2 = Result<Value, Problem>;

async fn revoke(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Reason>) -> Answer {
    let row = desk.transfers.revoke(&id, &body.checked()?).await?;
    contract_json(&desk, &row).map(Json)
}

async fn retire(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Reason>) -> Answer {
    let row = desk.transfers.retire(&id, &body.checked()?).await?;
    contract_json(&desk, &row).map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trusted {
    key: String,
}

async fn trust_key(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Trusted>) -> Answer {
    let key = PublicKey::from_multikey(&body.key).map_err(|error| Problem::invalid(format!("`key`: {error}")))?;
    let row = desk.transfers.trust_key(&id, &key).await?;
    contract_json(&desk, &row).map(Json)
}

/// The agreement with its signatures, for whoever checks it off line.
async fn proof(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Answer {
    counterparty::proof(&desk.agreements.get(&id)?, desk.negotiations.did()).map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    action: String,
    #[serde(default)]
    purpose: Option<String>,
    #[serde(default)]
    place: Option<String>,
    #[serde(default)]
    format: Option<String>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    lang: Option<String>,
}

/// What the contract would say to a use; spends and records nothing.
async fn explain(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Body(body): Body<Question>) -> Answer {
    let row = desk.agreements.get(&id)?;
    let action = Action::from_name(&body.action)
        .ok_or_else(|| Problem::invalid(format!("`action`: `{}` is not known", body.action)))?;
    let now = match &body.at {
        Some(text) => {
            UnixMillis::from_rfc3339(text).ok_or_else(|| Problem::invalid("`at` must be an RFC 3339 time"))?
        }
        None => clock::now(),
    };
    let consumer = match row.role {
        Side::Provider => did("peer", &row.peer)?,
        Side::Consumer => desk.negotiations.did().clone(),
    };
    let program = desk.agreements.program(&row)?;
    let standing = desk.agreements.standing(&row, &program, now);
    let used = desk.agreements.usage(&id)?;
    let mut request = Request::new(now, action, &row.asset, consumer);
    (request.purpose, request.place, request.format) = (body.purpose, body.place, body.format);
    request.used = Usage { count: used.count, rows: used.rows, bytes: used.bytes };
    let lang = match body.lang.as_deref() {
        Some("zh") => Lang::Zh,
        None | Some("en") => Lang::En,
        Some(_) => return Err(Problem::invalid("`lang` must be en or zh")),
    };
    let decision = program.decide(&request);
    let live = LiveAgreement { agreement_id: row.id.clone(), asset: row.asset.clone(), program, standing };
    let verdict = if authorize(&live, &request).is_ok() { "permit" } else { "deny" };
    let words = decision.words(lang);
    Ok(Json(json!({ "verdict": verdict, "explanation": words.lines().collect::<Vec<_>>() })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTransfer {
    agreement: String,
    format: String,
}

async fn start_transfer(
    State(desk): State<Arc<Desk>>,
    Body(new): Body<NewTransfer>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let format = Format::from_name(&new.format).ok_or_else(|| {
        Problem::invalid(format!(
            "`format`: `{}` is neither FlightSql nor HttpData-PULL nor the URI of a transfer profile",
            new.format
        ))
    })?;
    let row = desk.transfers.request(&new.agreement, format).await?;
    Ok((StatusCode::CREATED, Json(transfer_json(&desk, &row))))
}

async fn list_transfers(State(desk): State<Arc<Desk>>, Query(paging): Query<Paging>) -> Answer {
    let rows = desk.transfers.driver()?.list(paging.after.as_deref(), paging.limit() + 1)?;
    Ok(page(rows, paging.limit(), |row| row.pid.clone(), |row| transfer_json(&desk, row)))
}

async fn show_transfer(State(desk): State<Arc<Desk>>, Path(id): Path<String>, Query(wait): Query<Wait>) -> Answer {
    let load = || desk.transfers.driver().and_then(|driver| driver.get(&id));
    let row = until(&desk, &id, &wait, load, |row| desk.transfers.waiting_for(row) == "us").await?;
    Ok(Json(transfer_json(&desk, &row)))
}

fn transfer_json(desk: &Desk, row: &Row<Transfer>) -> Value {
    json!({
        "id": row.pid, "role": row.role, "state": row.machine.state().unwrap_or("NEW"), "peer": row.peer,
        "agreement": row.detail.agreement, "format": row.detail.format, "consumer_pid": consumer_pid(row),
        "provider_pid": provider_pid(row), "waiting_for": desk.transfers.waiting_for(row), "history": row.history,
        "reason": row.detail.reason, "error": row.error,
    })
}

async fn access(State(desk): State<Arc<Desk>>, Path(id): Path<String>) -> Result<Json<Access>, Problem> {
    desk.transfers.access(&id).await.map(Json)
}

async fn say(
    State(desk): State<Arc<Desk>>,
    Path((id, verb)): Path<(String, String)>,
    Body(body): Body<Reason>,
) -> Answer {
    let reason = body.checked()?;
    let row = match verb.as_str() {
        // The same message: the first time it opens access, after a suspension it opens it again.
        "start" | "resume" => desk.transfers.open(&id).await?,
        "suspend" => desk.transfers.say(&id, Verb::Suspend, &reason).await?,
        "complete" => desk.transfers.say(&id, Verb::Complete, &reason).await?,
        "terminate" => desk.transfers.say(&id, Verb::Terminate, &reason).await?,
        "retry" => desk.transfers.driver()?.resume(&id).await?,
        _ => return Err(Problem::new(StatusCode::NOT_FOUND, "start, suspend, resume, complete, terminate or retry")),
    };
    Ok(Json(transfer_json(&desk, &row)))
}

/// Everything that happens from now on, as server-sent events.
async fn events(
    State(desk): State<Arc<Desk>>,
) -> Sse<impl Stream<Item = Result<sse::Event, std::convert::Infallible>>> {
    let heard = BroadcastStream::new(desk.events.subscribe());
    let told = heard.map(|event| {
        Ok(match event {
            Ok(event) => {
                let data = json!({ "id": event.id, "state": event.state });
                sse::Event::default().event(event.kind).data(data.to_string())
            }
            Err(BroadcastStreamRecvError::Lagged(missed)) => {
                sse::Event::default().event("missed").data(missed.to_string())
            }
        })
    });
    let told = told.take_until(desk.stopping.clone().cancelled_owned());
    Sse::new(told).keep_alive(sse::KeepAlive::default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewReceipt {
    receipt: String,
}

async fn receipt(
    State(desk): State<Arc<Desk>>,
    Body(new): Body<NewReceipt>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let event = desk.receipts.accept(&new.receipt).await?;
    Ok((StatusCode::CREATED, Json(json!({ "event": event.to_string() }))))
}

fn did(field: &str, text: &str) -> Result<Did, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("`{field}`: {error}")))
}
