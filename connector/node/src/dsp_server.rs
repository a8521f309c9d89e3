//! The HTTPS binding of DSP 2025-1: every path, for both roles.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::Value;
use shuyu_base::json as base_json;
use shuyu_catalog::Cursor;
use shuyu_contract_engine::negotiation::Verb as NegotiationVerb;
use shuyu_contract_engine::transfer::Verb as TransferVerb;
use shuyu_contract_engine::{Negotiation, Party, Pid, Transfer};
use shuyu_wire::dsp::{
    CallbackUrl, CatalogRequest, ErrorKind, Explanation, NegotiationBody, NegotiationMessage, NegotiationState,
    ProtocolError, TransferBody, TransferMessage, TransferState, Version, encode_versions,
};

use crate::catalogue::Catalogue;
use crate::claims::space::Spaces;
use crate::clock;
use crate::counterparty::OTHER_HANDS;
use crate::exchange::driver::Answer;
use crate::exchange::row::{Kind, Row, Said};
use crate::exchange::{Negotiations, Transfers, negotiation, transfer};
use crate::identity::{AuthError, Caller, Doorkeeper};
use crate::metrics::Metrics;
use crate::peers::{BUSY_CODE, DSP_VERSION, KEY_CHANGED_CODE, Peers};
use crate::problem::Problem;
use crate::promises::Promised;

/// Path of the binding below the public root.
const BASE_PATH: &str = "/dsp/2025-1";
/// Member of a catalogue in which the cursor of the next page is repeated for clients that do not read `Link`.
pub const NEXT_MEMBER: &str = "https://w3id.org/shuyu/profile/1#next";

/// What these handlers need.
pub struct Dsp {
    /// Who is calling.
    pub doorkeeper: Doorkeeper,
    /// What a caller must present.
    pub spaces: Arc<Spaces>,
    /// Other nodes.
    pub peers: Arc<Peers>,
    /// Negotiations.
    pub negotiations: Arc<Negotiations>,
    /// Transfers.
    pub transfers: Arc<Transfers>,
    /// What is offered.
    pub catalogue: Catalogue,
    /// Figures.
    pub metrics: Metrics,
}

/// Root of a node's binding: the address given to others for their messages.
pub fn own_root(public_url: &str) -> String {
    format!("{}{BASE_PATH}", public_url.trim_end_matches('/'))
}

/// Every path of the binding, and the renewal of access tokens.
pub fn router(dsp: Arc<Dsp>) -> Router {
    let versions = encode_versions(&[Version {
        version: DSP_VERSION.to_owned(),
        path: BASE_PATH.to_owned(),
        binding: "HTTPS".to_owned(),
    }]);
    let binding = Router::new()
        .route("/catalog/request", post(catalog))
        .route("/catalog/datasets/{id}", get(dataset))
        .route("/negotiations/request", post(opening_negotiation))
        .route("/negotiations/offers", post(opening_negotiation))
        .route("/negotiations/{pid}", get(show_negotiation))
        .route("/negotiations/{pid}/request", post(negotiate))
        .route("/negotiations/{pid}/offers", post(negotiate))
        .route("/negotiations/{pid}/events", post(negotiate))
        .route("/negotiations/{pid}/agreement", post(negotiate))
        .route("/negotiations/{pid}/agreement/verification", post(negotiate))
        .route("/negotiations/{pid}/termination", post(negotiate))
        .route("/transfers/request", post(opening_transfer))
        .route("/transfers/{pid}", get(show_transfer))
        .route("/transfers/{pid}/start", post(transfer_step))
        .route("/transfers/{pid}/suspension", post(transfer_step))
        .route("/transfers/{pid}/completion", post(transfer_step))
        .route("/transfers/{pid}/termination", post(transfer_step));
    Router::new()
        .route("/.well-known/dspace-version", get(move || std::future::ready(Json(versions.clone()))))
        .route("/access/{pid}", post(renew_access))
        .nest(BASE_PATH, binding)
        .layer(axum::extract::DefaultBodyLimit::max(base_json::MAX_MESSAGE_BYTES))
        .with_state(dsp)
}

/// An answer that is not a success, in the shape of its protocol.
struct Failure {
    kind: ErrorKind,
    status: StatusCode,
    code: Option<String>,
    reason: String,
    pids: (Option<Pid>, Option<Pid>),
}

impl Failure {
    fn new(kind: ErrorKind, status: StatusCode, reason: impl Into<String>) -> Self {
        Self { kind, status, code: None, reason: reason.into(), pids: (None, None) }
    }

    fn with(mut self, provider: Option<Pid>, consumer: Option<Pid>) -> Self {
        self.pids = (provider, consumer);
        self
    }

    fn auth(kind: ErrorKind, error: &AuthError) -> Self {
        let status = match error {
            AuthError::Missing | AuthError::Token(_) | AuthError::Replayed => StatusCode::UNAUTHORIZED,
            AuthError::Resolve(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            AuthError::Resolve(_) => StatusCode::UNAUTHORIZED,
            AuthError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(kind, status, crate::management::chain(error))
    }

    /// What failed inside is for our log, not for the peer.
    fn problem(kind: ErrorKind, problem: Problem) -> Self {
        if problem.status.is_server_error() {
            tracing::error!(detail = %problem.detail, "message not processed");
            return Self::new(kind, problem.status, "the node cannot process this now; nothing was done");
        }
        Self::new(kind, problem.status, problem.detail)
    }

    fn not_found(kind: ErrorKind) -> Self {
        Self::new(kind, StatusCode::NOT_FOUND, "there is no such process or dataset for you")
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        tracing::info!(status = self.status.as_u16(), reason = %self.reason, "message refused");
        let (provider_pid, consumer_pid) = self.pids;
        let reason = self.reason.chars().take(1000).collect();
        let explanation = Explanation { code: self.code, reason: vec![reason] };
        let body = ProtocolError { kind: self.kind, provider_pid, consumer_pid, explanation }.encode();
        let mut response = (self.status, Json(body)).into_response();
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

impl Dsp {
    async fn caller(&self, kind: ErrorKind, headers: &HeaderMap) -> Result<Caller, Failure> {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let claims = self.doorkeeper.claims(authorization, clock::now()).await.map_err(|error| {
            self.metrics.message("any", "unauthenticated");
            Failure::auth(kind, &error)
        })?;
        let viewer = self.spaces.admit(&claims).await.map_err(|error| {
            self.metrics.message("any", "not admitted");
            match error.status() {
                status if status == StatusCode::INTERNAL_SERVER_ERROR => {
                    Failure::problem(kind, Problem::new(status, crate::management::chain(&error)))
                }
                status => Failure::new(kind, status, crate::management::chain(&error)),
            }
        })?;
        self.peers.reach().heard_of(claims.issuer.as_str(), clock::now());
        Ok(Caller { did: claims.issuer, key: claims.key, viewer })
    }
}

fn parse(kind: ErrorKind, body: &[u8]) -> Result<Value, Failure> {
    base_json::parse(body, base_json::MAX_MESSAGE_BYTES)
        .map_err(|error| Failure::new(kind, StatusCode::BAD_REQUEST, crate::management::chain(&error)))
}

fn bad_request(kind: ErrorKind, error: &dyn std::error::Error) -> Failure {
    Failure::new(kind, StatusCode::BAD_REQUEST, crate::management::chain(error))
}

#[derive(Deserialize)]
struct Paging {
    limit: Option<usize>,
    after: Option<String>,
}

async fn catalog(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Query(paging): Query<Paging>,
    body: Bytes,
) -> Result<Response, Failure> {
    let kind = ErrorKind::Catalog;
    let viewer = dsp.caller(kind, &headers).await?.viewer;
    let request = CatalogRequest::decode(&parse(kind, &body)?).map_err(|error| bad_request(kind, &error))?;
    let after =
        paging.after.as_deref().map(Cursor::from_text).transpose().map_err(|error| bad_request(kind, &error))?;
    let page = dsp.catalogue.page(&viewer, request, paging.limit, after);
    let page = page.map_err(|problem| Failure::problem(kind, problem))?;
    let mut json = page.catalog.encode();
    let Some(next) = page.next.map(|cursor| cursor.to_text()) else { return Ok(Json(json).into_response()) };
    let limit = paging.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
    let link = format!("<{BASE_PATH}/catalog/request?after={next}{limit}>; rel=\"next\"");
    if let Some(members) = json.as_object_mut() {
        members.insert(NEXT_MEMBER.to_owned(), next.into());
    }
    Ok(([(header::LINK, link)], Json(json)).into_response())
}

async fn dataset(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    let viewer = dsp.caller(ErrorKind::Catalog, &headers).await?.viewer;
    dsp.catalogue.dataset(&viewer, &id).map(Json).map_err(|problem| Failure::problem(ErrorKind::Catalog, problem))
}

async fn opening_negotiation(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    let kind = ErrorKind::Negotiation;
    let sender = dsp.caller(kind, &headers).await?;
    let json = parse(kind, &body)?;
    let message = NegotiationMessage::decode(&json).map_err(|error| bad_request(kind, &error))?;
    let from = match (&message.body, &message.provider_pid, &message.consumer_pid) {
        (NegotiationBody::Request { .. }, None, _) => Party::Consumer,
        (NegotiationBody::Offer { .. }, _, None) => Party::Provider,
        _ => {
            return Err(Failure::new(
                kind,
                StatusCode::BAD_REQUEST,
                "`@type`: only a request or an offer opens a negotiation",
            )
            .with(message.provider_pid, message.consumer_pid));
        }
    };
    let said = Said::new(json).map_err(|error| bad_request(kind, &error))?;
    let pids = (message.provider_pid.clone(), message.consumer_pid.clone());
    let opened = dsp.negotiations.opened_by(&sender, from, &message, &said).await;
    negotiation_answer(&dsp, opened, pids, StatusCode::CREATED)
}

async fn negotiate(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
    uri: axum::http::Uri,
    body: Bytes,
) -> Result<Response, Failure> {
    let kind = ErrorKind::Negotiation;
    let sender = dsp.caller(kind, &headers).await?;
    let json = parse(kind, &body)?;
    let message = NegotiationMessage::decode(&json).map_err(|error| bad_request(kind, &error))?;
    let pids = (message.provider_pid.clone(), message.consumer_pid.clone());
    let end = match message.verb() {
        NegotiationVerb::Request => "/request",
        NegotiationVerb::Offer => "/offers",
        NegotiationVerb::Accept | NegotiationVerb::Finalize => "/events",
        NegotiationVerb::Agree => "/agreement",
        NegotiationVerb::Verify => "/agreement/verification",
        NegotiationVerb::Terminate => "/termination",
    };
    if !uri.path().ends_with(end) {
        return Err(Failure::new(kind, StatusCode::BAD_REQUEST, "`@type` is not of the kind that this path takes")
            .with(pids.0, pids.1));
    }
    let said = Said::new(json).map_err(|error| bad_request(kind, &error))?;
    let answer = dsp.negotiations.received(&pid, &sender, &message, &said).await;
    negotiation_answer(&dsp, answer, pids, StatusCode::OK)
}

fn negotiation_answer(
    dsp: &Dsp,
    answer: Answer<Negotiation>,
    pids: (Option<Pid>, Option<Pid>),
    done: StatusCode,
) -> Result<Response, Failure> {
    let row = settled(dsp, ErrorKind::Negotiation, answer, pids)?;
    let state = negotiation_state(&row).ok_or_else(|| Failure::not_found(ErrorKind::Negotiation))?;
    Ok((done, promise_of(&row), Json(state.encode())).into_response())
}

/// What every answer has in common; a row only if the message was done.
fn settled<K: Kind>(
    dsp: &Dsp,
    kind: ErrorKind,
    answer: Answer<K>,
    pids: (Option<Pid>, Option<Pid>),
) -> Result<Box<Row<K>>, Failure> {
    let (outcome, failure) = match answer {
        Answer::Done(row) => {
            dsp.metrics.message(K::NAME, "done");
            return Ok(row);
        }
        Answer::Busy => {
            let busy = Failure::new(kind, StatusCode::SERVICE_UNAVAILABLE, "our own message is under way");
            ("busy", Failure { code: Some(BUSY_CODE.to_owned()), ..busy })
        }
        Answer::OtherHands => {
            let changed = Failure::new(kind, StatusCode::UNAUTHORIZED, OTHER_HANDS);
            ("other hands", Failure { code: Some(KEY_CHANGED_CODE.to_owned()), ..changed })
        }
        Answer::Refused(reason) => ("refused", Failure::new(kind, StatusCode::BAD_REQUEST, reason)),
        Answer::Unknown => ("unknown", Failure::not_found(kind)),
        Answer::Failed(problem) => ("failed", Failure::problem(kind, problem)),
    };
    dsp.metrics.message(K::NAME, outcome);
    Err(failure.with(pids.0, pids.1))
}

fn negotiation_state(row: &Row<Negotiation>) -> Option<NegotiationState> {
    let (provider_pid, consumer_pid) = row.pids()?;
    Some(NegotiationState { provider_pid, consumer_pid, state: negotiation::state(row)? })
}

fn transfer_state(row: &Row<Transfer>) -> Option<TransferState> {
    let (provider_pid, consumer_pid) = row.pids()?;
    Some(TransferState { provider_pid, consumer_pid, state: transfer::state(row)? })
}

async fn show_negotiation(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
) -> Result<Json<Value>, Failure> {
    let kind = ErrorKind::Negotiation;
    let caller = dsp.caller(kind, &headers).await?;
    let row = dsp.negotiations.driver().and_then(|driver| driver.get(&pid)).map_err(|_| Failure::not_found(kind))?;
    let state = negotiation_state(&row).filter(|_| row.peer == caller.did.as_str());
    state.map(|state| Json(state.encode())).ok_or_else(|| Failure::not_found(kind))
}

async fn opening_transfer(State(dsp): State<Arc<Dsp>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let kind = ErrorKind::Transfer;
    let sender = dsp.caller(kind, &headers).await?;
    let json = parse(kind, &body)?;
    let message = TransferMessage::decode(&json).map_err(|error| bad_request(kind, &error))?;
    let pids = (message.provider_pid.clone(), Some(message.consumer_pid.clone()));
    if !matches!(message.body, TransferBody::Request { .. }) {
        return Err(Failure::new(kind, StatusCode::BAD_REQUEST, "`@type`: only a request opens a transfer")
            .with(pids.0, pids.1));
    }
    let said = Said::new(json).map_err(|error| bad_request(kind, &error))?;
    let answer = dsp.transfers.opened_by(&sender, &message, &said).await;
    transfer_answer(&dsp, answer, pids, StatusCode::CREATED)
}

async fn transfer_step(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
    uri: axum::http::Uri,
    body: Bytes,
) -> Result<Response, Failure> {
    let kind = ErrorKind::Transfer;
    let sender = dsp.caller(kind, &headers).await?;
    let json = parse(kind, &body)?;
    let message = TransferMessage::decode(&json).map_err(|error| bad_request(kind, &error))?;
    let pids = (message.provider_pid.clone(), Some(message.consumer_pid.clone()));
    let end = match message.verb() {
        TransferVerb::Request => "/request",
        TransferVerb::Start => "/start",
        TransferVerb::Suspend => "/suspension",
        TransferVerb::Complete => "/completion",
        TransferVerb::Terminate => "/termination",
    };
    if !uri.path().ends_with(end) {
        return Err(Failure::new(kind, StatusCode::BAD_REQUEST, "`@type` is not of the kind that this path takes")
            .with(pids.0, pids.1));
    }
    let said = Said::new(json).map_err(|error| bad_request(kind, &error))?;
    let answer = dsp.transfers.received(&pid, &sender, &message, &said).await;
    transfer_answer(&dsp, answer, pids, StatusCode::OK)
}

fn transfer_answer(
    dsp: &Dsp,
    answer: Answer<Transfer>,
    pids: (Option<Pid>, Option<Pid>),
    done: StatusCode,
) -> Result<Response, Failure> {
    let row = settled(dsp, ErrorKind::Transfer, answer, pids)?;
    let state = transfer_state(&row).ok_or_else(|| Failure::not_found(ErrorKind::Transfer))?;
    Ok((done, promise_of(&row), Json(state.encode())).into_response())
}

/// The headers with what our ledger promises about the message.
fn promise_of<K: Kind>(row: &Row<K>) -> HeaderMap {
    row.promised.as_ref().map(Promised::headers).unwrap_or_default()
}

async fn show_transfer(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
) -> Result<Json<Value>, Failure> {
    let kind = ErrorKind::Transfer;
    let caller = dsp.caller(kind, &headers).await?;
    let row = dsp.transfers.driver().and_then(|driver| driver.get(&pid)).map_err(|_| Failure::not_found(kind))?;
    let state = transfer_state(&row).filter(|_| row.peer == caller.did.as_str());
    state.map(|state| Json(state.encode())).ok_or_else(|| Failure::not_found(kind))
}

async fn renew_access(
    State(dsp): State<Arc<Dsp>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
) -> Result<Json<Value>, Failure> {
    let kind = ErrorKind::Transfer;
    let caller = dsp.caller(kind, &headers).await?;
    dsp.transfers.renewed(&caller, &pid).await.map(Json).map_err(|problem| Failure::problem(kind, problem))
}

/// The callback root of a node as a value.
///
/// # Errors
/// When the configured public address is none.
pub fn callback_root(public_url: &str) -> Result<CallbackUrl, Problem> {
    own_root(public_url).parse().map_err(|error| Problem::invalid(format!("configuration key `public.url`: {error}")))
}
