//! The management API in the shape of the EDC management API v3, so that clients the field has can drive a node.
//!
//! Beside `/v1` and over the same parts below. Every operation is one entry of a table ([`operation`]) that makes the
//! route, the roles that may call it and its place in the OpenAPI document, so the three cannot differ.

mod agreements;
mod assets;
mod catalog;
mod criteria;
mod definitions;
mod edrs;
mod hooks;
mod jsonld;
mod negotiations;
mod openapi;
mod operation;
mod party;
mod plan;
mod policies;
mod query;
mod schemas;
mod shape;
mod signaling;
mod stream;
mod transfers;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use serde_json::{Value, json as json_of};
use shuyu_base::{Did, UnixMillis, json};
use tokio_util::sync::CancellationToken;

use crate::api_keys::{ApiCaller, ApiKeys, ApiRole};
use crate::events::Events;
use crate::holdings::Holdings;
use crate::hooks::Hooks;
use crate::identity::bearer;
use crate::management::chain;
use crate::management::exchange::Desk;
use crate::management::shelf::Shelf;
use crate::problem::Problem;
use crate::store::Store;
use jsonld::Message;
use operation::Route;

/// Longest identifier in a path, in bytes.
const MAX_ID_BYTES: usize = 512;

/// What the handlers need.
pub struct V3 {
    /// The owner.
    pub did: Did,
    /// State.
    pub store: Store,
    /// Assets, policies and definitions.
    pub holdings: Holdings,
    /// Reads tables.
    pub shelf: Arc<Shelf>,
    /// Negotiations and transfers.
    pub desk: Arc<Desk>,
    /// Web hooks.
    pub hooks: Hooks,
    /// What happens.
    pub events: Events,
    /// Set when the node stops.
    pub stopping: CancellationToken,
    /// Whether data plane signaling is on.
    pub signaling: bool,
}

fn routes() -> Vec<Route> {
    [
        assets::routes(),
        policies::routes(),
        definitions::routes(),
        catalog::routes(),
        negotiations::routes(),
        agreements::routes(),
        transfers::routes(),
        edrs::routes(),
        hooks::routes(),
        stream::routes(),
        signaling::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Everything under `/v3`.
pub fn router(v3: Arc<V3>, keys: ApiKeys) -> Router {
    let routes = routes();
    let document = openapi::document(routes.iter().map(|route| &route.operation));
    let mut router = Router::new();
    for Route { operation, handler } in routes {
        let handler = handler.layer(middleware::from_fn_with_state(operation.roles, require_role));
        router = router.route(operation.path, handler);
    }
    let guarded = router
        .fallback(|| async {
            Problem::new(StatusCode::NOT_FOUND, "there is no such path").hint("see /v3/openapi.json")
        })
        .layer(middleware::from_fn(crate::whole::carried_through))
        .layer(middleware::from_fn_with_state(keys, authenticate))
        .with_state(v3);
    let open =
        Router::new().route("/openapi.json", axum::routing::get(move || std::future::ready(Json(document.clone()))));
    Router::new().nest("/v3", open.merge(guarded).layer(middleware::from_fn(shape::refusals)))
}

/// The key that a request presents: `X-Api-Key` as in the EDC, or a bearer token.
pub fn presented(request: &Request) -> Option<&str> {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    header("x-api-key").or_else(|| bearer(header(header::AUTHORIZATION.as_str())))
}

async fn authenticate(State(keys): State<ApiKeys>, mut request: Request, next: Next) -> Response {
    match presented(&request).and_then(|key| keys.caller(key)) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => Problem::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong")
            .hint("send `X-Api-Key` with a key of `shuyu api-key add`, or the content of management.key")
            .into_response(),
    }
}

async fn require_role(
    State(roles): State<&'static [ApiRole]>,
    Extension(caller): Extension<ApiCaller>,
    request: Request,
    next: Next,
) -> Response {
    if caller.may(roles) {
        return next.run(request).await;
    }
    let wanted: Vec<&str> = roles.iter().map(|role| role.name()).collect();
    let wanted = if wanted.is_empty() { "operator".to_owned() } else { wanted.join(" or ") };
    Problem::new(StatusCode::FORBIDDEN, format!("the key `{}` has no role for this", caller.name))
        .hint(format!("it takes {wanted}"))
        .into_response()
}

/// A message in the body; an empty body is an empty message.
pub struct Ld(pub Message);

impl<S: Send + Sync> FromRequest<S> for Ld {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = crate::whole::bytes(request.into_body()).await?;
        let value = match bytes.trim_ascii() {
            b"" | b"null" => json_of!({}),
            bytes => json::parse(bytes, json::MAX_MESSAGE_BYTES).map_err(|error| Problem::invalid(chain(&error)))?,
        };
        jsonld::read(value).map(Self)
    }
}

/// The identifier in the path.
pub struct Id(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let none = || Problem::new(StatusCode::NOT_FOUND, "there is no resource of this identifier");
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| none())?;
        if MAX_ID_BYTES < id.len() { Err(none()) } else { Ok(Self(id)) }
    }
}

/// Milliseconds since 1970 of a time in a row; 0 if it has none.
fn millis(time: &str) -> i64 {
    UnixMillis::from_rfc3339(time).map_or(0, |time| time.0)
}

/// The EDC's answer to whatever makes something.
fn made(id: &str, created_at_ms: i64) -> Json<Value> {
    let body = json_of!({ "@type": "IdResponse", "@id": id, "createdAt": created_at_ms });
    Json(jsonld::with_context(body, jsonld::context()))
}
