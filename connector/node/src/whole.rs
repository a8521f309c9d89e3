//! Requests are taken in whole, and what they start is carried through.
//!
//! A caller that hangs up makes the server drop the handler's future. A handler that is between saving a step and making
//! its evidence durable must not stop there, so it runs as a task of its own. A caller that sends its body slowly must not
//! hold a place among the requests served at once, so the body is read first.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use bytes::BytesMut;
use futures::StreamExt as _;
use shuyu_base::json::MAX_MESSAGE_BYTES;

use crate::problem::Problem;

/// Longest time in which a request's body must have come.
const BODY_TIME: Duration = Duration::from_secs(20);
/// How much of a body that is too large is read and thrown away.
const MAX_THROWN_BYTES: usize = 8 * MAX_MESSAGE_BYTES;

/// Puts routes behind all of this, with at most `max_requests` of them served at once.
pub fn carried(routes: Router, max_requests: usize) -> Router {
    routes
        .layer(middleware::from_fn(carried_through))
        .layer(tower::limit::GlobalConcurrencyLimitLayer::new(max_requests))
        .layer(middleware::from_fn(read))
}

/// Reads the body, bounded in size and time.
pub async fn read(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match tokio::time::timeout(BODY_TIME, bytes(body)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(problem)) => closing(problem),
        Err(_) => closing(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    }
}

/// The bytes of a body of at most [`MAX_MESSAGE_BYTES`]. Of a larger one some more is read and thrown away, so that a
/// caller that writes all before it reads gets the answer and not a connection that was reset.
pub async fn bytes(body: Body) -> Result<Bytes, Problem> {
    let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB or broke off");
    let mut frames = body.into_data_stream();
    let mut kept = BytesMut::new();
    let mut thrown = 0;
    while let Some(frame) = frames.next().await {
        let frame = frame.map_err(|_| too_large())?;
        if thrown == 0 && kept.len() + frame.len() <= MAX_MESSAGE_BYTES {
            kept.extend_from_slice(&frame);
            continue;
        }
        thrown += frame.len();
        if MAX_THROWN_BYTES < thrown {
            break;
        }
    }
    if 0 < thrown { Err(too_large()) } else { Ok(kept.freeze()) }
}

/// An answer after which the connection is not used again: what is left of the body would be taken for a request.
fn closing(problem: Problem) -> Response {
    ([(CONNECTION, "close")], problem).into_response()
}

/// Runs the handler to its end even if the caller has gone.
pub async fn carried_through(request: Request, next: Next) -> Response {
    let handled = tokio::spawn(next.run(request)).await;
    handled.unwrap_or_else(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the request failed").into_response())
}
