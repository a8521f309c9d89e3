//! `/signaling` on the management socket: the data plane endpoint for foreign control planes (keys of the role `control`)
//! and the control plane endpoint for foreign data planes (keys of the role `dataplane`, named by the data plane).

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde_json::{Value, json as json_of};
use shuyu_base::json;
use shuyu_wire::signaling::{FlowRequest, FlowSignal, FlowStatus, MAX_ID_BYTES, Signal};

use crate::agreements::Agreements;
use crate::api_keys::{ApiCaller, ApiKeys, ApiRole};
use crate::exchange::Transfers;
use crate::management::chain;
use crate::management::v3::presented;
use crate::problem::Problem;

/// The signals about a flow that there is, by the last segment of their path.
const SIGNALS: [Signal; 5] = [Signal::Started, Signal::Suspend, Signal::Resume, Signal::Complete, Signal::Terminate];

/// What these handlers need.
pub struct Signaling {
    /// Flows and leads.
    pub transfers: Arc<Transfers>,
    /// What a data plane may read of them.
    pub agreements: Agreements,
}

/// Everything under `/signaling`.
pub fn router(signaling: Arc<Signaling>, keys: ApiKeys) -> Router {
    let flows = Router::new()
        .route("/dataflows/prepare", post(prepare))
        .route("/dataflows/start", post(start))
        .route("/dataflows/{id}/{signal}", post(signal))
        .route("/dataflows/{id}/status", get(status))
        .layer(middleware::from_fn_with_state(ApiRole::Control, require_role));
    let transfers = Router::new()
        .route("/transfers/{id}/dataflow/{what}", post(told))
        .route("/transfers/{id}/agreement", get(agreement))
        .layer(middleware::from_fn_with_state(ApiRole::Dataplane, require_role));
    let routes = flows
        .merge(transfers)
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "there is no such path") })
        .layer(middleware::from_fn(crate::whole::carried_through))
        .layer(middleware::from_fn_with_state(keys, authenticate))
        .with_state(signaling);
    Router::new().nest("/signaling", routes)
}

async fn authenticate(State(keys): State<ApiKeys>, mut request: Request, next: Next) -> Response {
    match presented(&request).and_then(|key| keys.caller(key)) {
        Some(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        None => Problem::new(StatusCode::UNAUTHORIZED, "the API key is missing or wrong")
            .hint("send `Authorization: Bearer` with a key of `shuyu api-key add`")
            .into_response(),
    }
}

async fn require_role(
    State(role): State<ApiRole>,
    Extension(caller): Extension<ApiCaller>,
    request: Request,
    next: Next,
) -> Response {
    if caller.may(&[role]) {
        return next.run(request).await;
    }
    Problem::new(StatusCode::FORBIDDEN, format!("the key `{}` has no role for this", caller.name))
        .hint(format!("it takes {}", role.name()))
        .into_response()
}

/// A JSON body; an empty one is an empty object.
struct Body(Value);

impl<S: Send + Sync> axum::extract::FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Problem> {
        let bytes = crate::whole::bytes(request.into_body()).await?;
        match bytes.trim_ascii() {
            b"" => Ok(Self(json_of!({}))),
            bytes => {
                let value = json::parse(bytes, json::MAX_MESSAGE_BYTES);
                value.map(Self).map_err(|error| Problem::invalid(chain(&error)))
            }
        }
    }
}

fn invalid(error: &shuyu_wire::dsp::DecodeError) -> Problem {
    Problem::invalid(error.to_string())
}

/// An identifier in a path.
fn checked(id: &str) -> Result<&str, Problem> {
    if MAX_ID_BYTES < id.len() { Err(Problem::new(StatusCode::NOT_FOUND, "there is no such flow")) } else { Ok(id) }
}

fn answer(status: &FlowStatus) -> Response {
    // The answer may hold a token.
    ([(header::CACHE_CONTROL, "no-store")], Json(status.encode())).into_response()
}

async fn prepare(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let request = FlowRequest::decode(&body).map_err(|error| invalid(&error))?;
    signaling.transfers.flows().prepare(&caller, request).await.map(|status| answer(&status))
}

async fn start(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let request = FlowRequest::decode(&body).map_err(|error| invalid(&error))?;
    signaling.transfers.flows().start(&caller, request).await.map(|status| answer(&status))
}

async fn signal(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Path((id, word)): Path<(String, String)>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let signal = SIGNALS.into_iter().find(|signal| signal.path() == word);
    let signal = signal.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "there is no such signal"))?;
    let message = FlowSignal::decode(&body).map_err(|error| invalid(&error))?;
    signaling.transfers.flows().signal(&caller, checked(&id)?, signal, message).await.map(|status| answer(&status))
}

async fn status(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    signaling.transfers.flows().status(&caller, checked(&id)?).map(|status| answer(&status))
}

async fn told(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Path((id, what)): Path<(String, String)>,
    Body(body): Body,
) -> Result<Response, Problem> {
    let status = FlowStatus::decode(&body).map_err(|error| invalid(&error))?;
    signaling.transfers.conductor().told(&caller.name, checked(&id)?, &what, status).await?;
    Ok(StatusCode::OK.into_response())
}

/// The agreement of a transfer, for the data plane that serves it and enforces it.
async fn agreement(
    State(signaling): State<Arc<Signaling>>,
    Extension(caller): Extension<ApiCaller>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    let none = || Problem::not_found("transfer of this data plane", &id);
    let lead = signaling.transfers.conductor().find(checked(&id)?)?;
    let lead = lead.filter(|lead| lead.plane == caller.name).ok_or_else(none)?;
    let mut agreement = signaling.agreements.get(&lead.agreement)?.policy;
    if let Value::Object(members) = &mut agreement {
        members.entry("@context").or_insert_with(|| json_of!([shuyu_wire::dsp::CONTEXT]));
    }
    Ok(Json(agreement))
}
