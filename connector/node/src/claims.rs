//! The Decentralized Claims Protocol 1.0 in its three roles.
//!
//! In scope: the owner's [wallet] with the [credential service](service) and the [token endpoint](tokens) in front of it,
//! the [issuer] with its service, and the [spaces](space) that ask callers for their credentials. Out of scope:
//! what credentials, presentations and lists mean; that is decided without clock or network in `shuyu-credentials`.

pub mod issuer;
pub mod service;
pub mod space;
pub mod tokens;
pub mod wallet;

use axum::http::{HeaderMap, StatusCode, header};
use serde_json::Value;
use shuyu_base::json;
use shuyu_credentials::Claims;

use crate::clock;
use crate::identity::{AuthError, Doorkeeper};
use crate::management::chain;
use crate::problem::Problem;

/// Who calls, by the `Authorization` header.
async fn caller(doorkeeper: &Doorkeeper, headers: &HeaderMap) -> Result<Claims, Problem> {
    let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    doorkeeper.claims(authorization, clock::now()).await.map_err(|error| {
        let status = match &error {
            AuthError::Missing | AuthError::Token(_) | AuthError::Replayed => StatusCode::UNAUTHORIZED,
            AuthError::Resolve(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            AuthError::Resolve(_) => StatusCode::UNAUTHORIZED,
            AuthError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Problem::new(status, chain(&error))
    })
}

/// The body of a message.
fn body(bytes: &[u8]) -> Result<Value, Problem> {
    json::parse(bytes, json::MAX_MESSAGE_BYTES).map_err(|error| Problem::invalid(chain(&error)))
}
