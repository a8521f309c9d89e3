//! What anybody may read: the DID document, the ledger's files, health and metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use shuyu_ledger::Ledger;
use shuyu_tlog::TilePath;

use crate::identity::Identity;
use crate::metrics::Metrics;

/// Tiles never change once full; proxies may keep them for a year.
const FOREVER: &str = "public, max-age=31536000, immutable";

/// Routes below the public root.
pub fn router(identity: &Identity, ledger: Arc<Ledger>, metrics: Metrics) -> Router {
    let document = identity.document.to_json();
    Router::new()
        .route(&did_path(identity), get(move || std::future::ready(Json(document.clone()))))
        .route("/health", get(|| std::future::ready("ok\n")))
        .merge(
            Router::new()
                .route("/ledger/checkpoint", get(checkpoint))
                .route("/ledger/vkey", get(vkey))
                .route("/ledger/tile/{*path}", get(tile))
                .with_state(ledger),
        )
        .merge(metrics.router())
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

async fn checkpoint(State(ledger): State<Arc<Ledger>>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    match ledger.checkpoint() {
        Ok(signed) => (kind, signed.bytes().to_vec()).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    }
}

async fn vkey(State(ledger): State<Arc<Ledger>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{}\n", ledger.vkey())).into_response()
}

/// Only paths that name a tile or an entry bundle reach the disk.
async fn tile(State(ledger): State<Arc<Ledger>>, Path(path): Path<String>) -> Response {
    let Ok(path) = format!("tile/{path}").parse::<TilePath>() else { return StatusCode::NOT_FOUND.into_response() };
    match tokio::fs::read(ledger.path().join(path.to_string())).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/octet-stream"), (header::CACHE_CONTROL, FOREVER)], bytes)
            .into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
