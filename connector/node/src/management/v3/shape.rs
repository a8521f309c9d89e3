//! The shape of refusals: the error array of the EDC, or problem details (RFC 9457) for who asks for them.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::problem::{CORRELATION_HEADER, Problem, Told};

const PROBLEM: &str = "application/problem+json";

/// Answers refusals in the shape that the caller reads. Clients of the EDC read an array; an `Accept` header with
/// `application/problem+json` gets an object. Both name the request as the log does.
pub async fn refusals(request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let wants_problem = accepts.contains(PROBLEM);
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    // What the framework refuses by itself has no words of ours yet.
    let response = match response.extensions().get::<Told>() {
        Some(_) => response,
        None => {
            let reason = status.canonical_reason().unwrap_or("refused").to_ascii_lowercase();
            let mut ours = Problem::new(status, reason).into_response();
            if let Some(allow) = response.headers().get(header::ALLOW) {
                ours.headers_mut().insert(header::ALLOW, allow.clone());
            }
            ours
        }
    };
    match response.extensions().get::<Told>().cloned() {
        Some(told) if !wants_problem => array(&response, &told),
        _ => response,
    }
}

fn array(response: &Response, told: &Told) -> Response {
    // What is understood and refused is 400 for clients of the EDC.
    let status = match told.problem.status {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    let error = json!({
        "message": told.problem.detail, "type": kind(status), "path": path(&told.problem.detail), "invalidValue": null,
        "hint": told.problem.hint, "explanation": told.problem.explanation, "correlation": told.correlation,
    });
    let mut ours = (status, Json(Value::Array(vec![error]))).into_response();
    if let Some(allow) = response.headers().get(header::ALLOW) {
        ours.headers_mut().insert(header::ALLOW, allow.clone());
    }
    if let Ok(correlation) = HeaderValue::try_from(&told.correlation) {
        ours.headers_mut().insert(CORRELATION_HEADER, correlation);
    }
    ours
}

/// The EDC's word for a kind of failure.
fn kind(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "ValidationFailure",
        401 => "AuthenticationFailed",
        403 => "NotAuthorized",
        404 => "ObjectNotFound",
        409 => "ObjectConflict",
        405 => "NotSupported",
        502 => "BadGateway",
        _ if status.is_client_error() => "InvalidRequest",
        _ => "InternalFailure",
    }
}

/// The member that a refusal begins with.
fn path(detail: &str) -> Option<&str> {
    detail.strip_prefix('`')?.split_once('`').map(|(path, _)| path)
}
