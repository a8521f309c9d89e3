//! Requests are taken in whole, and what they start is carried through.
//!
//! A caller that hangs up makes the server drop the handler's future. A handler that is between saving a step and making
//! its evidence durable must not stop there, so it runs as a task of its own. A caller that sends its body slowly must not
//! hold a place among the requests served at once, so the body is read first.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shuyu_base::json::MAX_MESSAGE_BYTES;

use crate::problem::Problem;

/// Longest time in which a request's body must have come.
const BODY_TIME: Duration = Duration::from_secs(20);

/// Reads the body, bounded in size and time.
pub async fn read(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIME, to_bytes(body, MAX_MESSAGE_BYTES)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB or broke off").into_response()
        }
        Err(_) => Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time").into_response(),
    }
}

/// Runs the handler to its end even if the caller has gone.
pub async fn carried_through(request: Request, next: Next) -> Response {
    let handled = tokio::spawn(next.run(request)).await;
    handled.unwrap_or_else(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed").into_response())
}
