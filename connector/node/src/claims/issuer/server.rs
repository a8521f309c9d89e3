//! The issuer service: what holders and verifiers may ask (DCP 1.0, sections 6.4, 6.7, 6.8), and the status lists.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use shuyu_base::json::MAX_MESSAGE_BYTES;
use shuyu_wire::dcp::CredentialRequest;

use super::Issuer;
use crate::claims::{body, caller};
use crate::identity::{Doorkeeper, ISSUER_SERVICE_PATH, access_token};
use crate::management::chain;
use crate::problem::Problem;

/// What these handlers need.
pub struct IssuerService {
    /// Who is calling.
    pub doorkeeper: Doorkeeper,
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// Root of the public socket.
    pub public_url: String,
}

/// The routes, below the public root.
pub fn router(service: Arc<IssuerService>) -> Router {
    let routes = Router::new()
        .route("/metadata", get(metadata))
        .route("/credentials", post(request))
        .route("/requests/{pid}", get(status))
        .route("/status/{number}/{kind}", get(list));
    Router::new().nest(ISSUER_SERVICE_PATH, routes).layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES)).with_state(service)
}

async fn metadata(State(service): State<Arc<IssuerService>>) -> Result<Json<Value>, Problem> {
    Ok(Json(service.issuer.metadata()?.encode()))
}

async fn request(
    State(service): State<Arc<IssuerService>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Problem> {
    let claims = caller(&service.doorkeeper, &headers).await?;
    let request = CredentialRequest::decode(&body(&bytes)?).map_err(|error| Problem::invalid(chain(&error)))?;
    let pid = service.issuer.requested(&claims.issuer, request, access_token(&claims)).await?;
    let root = service.public_url.trim_end_matches('/');
    let location = format!("{root}{ISSUER_SERVICE_PATH}/requests/{pid}");
    Ok((StatusCode::CREATED, [(header::LOCATION, location)]).into_response())
}

async fn status(
    State(service): State<Arc<IssuerService>>,
    headers: HeaderMap,
    Path(pid): Path<String>,
) -> Result<Json<Value>, Problem> {
    let claims = caller(&service.doorkeeper, &headers).await?;
    Ok(Json(service.issuer.status(&claims.issuer, &pid)?.encode()))
}

/// Anybody may read a list; it says nothing about whom its bits are.
async fn list(
    State(service): State<Arc<IssuerService>>,
    Path((number, kind)): Path<(u32, String)>,
) -> Result<Response, Problem> {
    let jwt = service.issuer.list(number, &kind)?;
    let headers = [(header::CONTENT_TYPE, "application/vc+jwt"), (header::CACHE_CONTROL, "max-age=60")];
    Ok((headers, jwt).into_response())
}
