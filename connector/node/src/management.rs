//! The management API: what a node's owner, or a program of theirs, can ask of the node.
//!
//! Loopback only, JSON in and out, errors as problem details (RFC 9457). `/v1` is what the command uses and takes an
//! operator's key; [`v3`] has the shape of the EDC management API, with keys of several roles.

pub mod audit;
pub mod claims;
pub mod exchange;
pub mod ledger;
pub mod shelf;
pub mod v3;
pub mod witness;

use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde_json::Value;
use shuyu_base::json;
use shuyu_data_plane::Engine;
use shuyu_ledger::Ledger;
use tokio_util::sync::CancellationToken;

use crate::anchor::Anchoring;
use crate::api_keys::ApiKeys;
use crate::audit::{Auditor, Follower};
use crate::config::Config;
use crate::holdings::Holdings;
use crate::hooks::Hooks;
use crate::identity::{Identity, bearer};
use crate::keeper::Keeper;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::promises::Promises;
use crate::signaling::Signaling;
use crate::witness::WitnessDesk;

/// The handles that the management API hands out to its parts.
pub struct Parts {
    /// What the node is.
    pub config: Config,
    /// The node directory.
    pub dir: PathBuf,
    /// Who it speaks as.
    pub identity: Arc<Identity>,
    /// Negotiations and transfers.
    pub desk: Arc<exchange::Desk>,
    /// What the holder has and offers.
    pub holdings: Holdings,
    /// The evidence ledger.
    pub ledger: Arc<Ledger>,
    /// What its entries commit to.
    pub keeper: Arc<Keeper>,
    /// The mirrors of other ledgers.
    pub auditor: Arc<Auditor>,
    /// Reads a table's columns when it is added.
    pub engine: Arc<Engine>,
    /// Figures.
    pub metrics: Metrics,
    /// The wallet, and the issuer where the node is one.
    pub claims: Arc<claims::Desk>,
    /// What other nodes' ledgers promised us.
    pub promises: Promises,
    /// Where our ledger is anchored.
    pub anchoring: Arc<Anchoring>,
    /// Follows ledgers without end.
    pub follower: Arc<Follower>,
    /// The witness, where the node is one.
    pub witness: Option<Arc<WitnessDesk>>,
    /// The keys that callers present.
    pub api_keys: ApiKeys,
    /// Where events are posted.
    pub hooks: Hooks,
    /// Set when the node stops.
    pub stopping: CancellationToken,
}

/// The whole API.
pub fn router(parts: Parts) -> Router {
    let holdings = parts.holdings;
    let shelf = Arc::new(shelf::Shelf { holdings: holdings.clone(), dir: parts.dir, engine: parts.engine });
    let v3 = v3::V3 {
        did: parts.identity.did.clone(),
        store: parts.desk.store.clone(),
        holdings,
        shelf: Arc::clone(&shelf),
        desk: Arc::clone(&parts.desk),
        hooks: parts.hooks,
        events: parts.desk.events.clone(),
        stopping: parts.stopping,
        signaling: parts.config.signaling,
    };
    let flows = parts.config.signaling.then(|| {
        let (transfers, agreements) = (Arc::clone(&parts.desk.transfers), parts.desk.agreements.clone());
        crate::signaling::router(Arc::new(Signaling { transfers, agreements }), parts.api_keys.clone())
    });
    let public_url = parts.config.public.url.clone();
    let status = Arc::new(Status { config: parts.config, identity: parts.identity, ledger: Arc::clone(&parts.ledger) });
    let routes = Router::new()
        .route("/status", get(show_status).with_state(Arc::clone(&status)))
        .route("/spaces", get(show_spaces).with_state(status))
        .merge(shelf::router(shelf))
        .merge(exchange::router(parts.desk))
        .merge(claims::router(parts.claims))
        .merge(ledger::router(parts.ledger, parts.keeper, parts.promises, parts.anchoring))
        .merge(audit::router(parts.auditor, parts.follower))
        .merge(witness::router(parts.witness.map(|desk| (desk, public_url))));
    let routes = routes.layer(middleware::from_fn(crate::whole::carried_through));
    guarded(routes, parts.api_keys.clone())
        .merge(v3::router(Arc::new(v3), parts.api_keys))
        .merge(flows.unwrap_or_default())
        .merge(parts.metrics.router())
}

struct Status {
    config: Config,
    identity: Arc<Identity>,
    ledger: Arc<Ledger>,
}

async fn show_status(State(status): State<Arc<Status>>) -> Result<Json<Value>, Problem> {
    let config = &status.config;
    let roles: Vec<&str> = config.roles.iter().map(|role| role.name()).collect();
    Ok(Json(serde_json::json!({
        "did": status.identity.did.as_str(), "name": config.name, "roles": roles, "version": env!("CARGO_PKG_VERSION"),
        "spaces": config.all_spaces().map(|space| space.name.as_str()).collect::<Vec<_>>(),
        "protocol_url": crate::dsp_server::own_root(&config.public.url), "flight_url": config.public.flight_url,
        "management_url": format!("http://{}", config.listen.management),
        "ledger": ledger::describe(&status.ledger)?, "ready": true,
    })))
}

/// The spaces as their descriptions say, and what of that this version only keeps.
async fn show_spaces(State(status): State<Arc<Status>>) -> Json<Value> {
    let types = |all: &[crate::config::Require]| -> Vec<Value> {
        all.iter().map(|one| serde_json::json!({ "type": one.r#type, "issuers": one.issuers })).collect()
    };
    let shown = |space: &crate::config::Space| {
        let roots: Vec<Value> =
            space.trust_roots.iter().map(|root| serde_json::json!({ "did": root.did, "keys": root.keys })).collect();
        let witnesses = space.witnesses.as_ref();
        let mut idle = Vec::new();
        idle.extend((!space.catalogue_peers.is_empty()).then_some("catalogue_peers"));
        serde_json::json!({
            "name": space.name, "require": types(&space.require), "accept": types(&space.accept), "trust_roots": roots,
            "witnesses": witnesses.map(|all| all.policy.as_str()),
            "catalogue_peers": space.catalogue_peers, "not_used_yet": idle,
        })
    };
    Json(serde_json::json!({ "items": status.config.all_spaces().map(shown).collect::<Vec<_>>(), "next": null }))
}

/// Puts the routes behind the keys of operators.
pub fn guarded(routes: Router, keys: ApiKeys) -> Router {
    Router::new()
        .nest("/v1", routes)
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such path").hint("paths start with /v1 or /v3")
        })
        .layer(middleware::from_fn_with_state(keys, require_key))
}

async fn require_key(State(keys): State<ApiKeys>, request: Request, next: Next) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    match bearer(given).and_then(|key| keys.caller(key)) {
        Some(caller) if caller.may(&[]) => next.run(request).await,
        Some(caller) => Problem::new(StatusCode::FORBIDDEN, format!("the key `{}` has no role for this", caller.name))
            .hint("paths under /v1 take an operator's key; others are for /v3")
            .into_response(),
        None => Problem::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong")
            .hint("send `Authorization: Bearer <content of management.key>`")
            .into_response(),
    }
}

/// A JSON body read by the strict parser: bounded, no duplicate names, errors that name the field.
pub struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = crate::whole::bytes(request.into_body()).await?;
        let value = json::parse(&bytes, json::MAX_MESSAGE_BYTES).map_err(|error| Problem::invalid(chain(&error)))?;
        serde_json::from_value(value).map(Self).map_err(|error| Problem::invalid(error.to_string()))
    }
}

/// An error with everything that caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
