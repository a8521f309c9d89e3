//! Errors of the management API and of the data endpoints as problem details (RFC 9457).

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::{Map, Value};

use crate::store::StoreError;

/// An answer that is not a success.
#[derive(Clone, Debug)]
pub struct Problem {
    /// HTTP status.
    pub status: StatusCode,
    /// What went wrong, naming the field.
    pub detail: String,
    /// What the caller can do about it.
    pub hint: Option<String>,
    /// The steps of a decision, when a policy refused.
    pub explanation: Vec<String>,
}

impl Problem {
    /// A problem with a status and a detail.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), hint: None, explanation: Vec::new() }
    }

    /// 400: the request itself is wrong.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404, naming what was looked for.
    pub fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no {what} `{id}`"))
    }

    /// 409: not in this state.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// 422: understood and refused.
    pub fn refused(detail: impl Into<String>, explanation: Vec<String>) -> Self {
        Self { explanation, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// 502: a peer could not be reached or answered badly.
    pub fn peer(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, detail)
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A problem as it was answered, kept with the response for whoever shows it in another shape.
#[derive(Clone, Debug)]
pub struct Told {
    /// The problem.
    pub problem: Problem,
    /// What the log calls this request.
    pub correlation: String,
}

/// Header with the name that the log gives a request that failed.
pub const CORRELATION_HEADER: &str = "x-correlation-id";

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let correlation = uuid::Uuid::new_v4().to_string();
        let told = Told { problem: self.clone(), correlation: correlation.clone() };
        if self.status.is_server_error() {
            tracing::error!(status = self.status.as_u16(), detail = %self.detail, %correlation, "request failed");
        } else {
            tracing::info!(status = self.status.as_u16(), detail = %self.detail, %correlation, "request refused");
        }
        let mut body = Map::new();
        body.insert("type".to_owned(), "about:blank".into());
        body.insert("title".to_owned(), self.status.canonical_reason().unwrap_or("error").into());
        body.insert("status".to_owned(), self.status.as_u16().into());
        body.insert("detail".to_owned(), self.detail.into());
        body.insert("correlation".to_owned(), correlation.into());
        if let Some(hint) = self.hint {
            body.insert("hint".to_owned(), hint.into());
        }
        if !self.explanation.is_empty() {
            body.insert("explanation".to_owned(), self.explanation.into());
        }
        let name = header::HeaderName::from_static(CORRELATION_HEADER);
        let kind = [(header::CONTENT_TYPE, "application/problem+json".to_owned()), (name, told.correlation.clone())];
        (self.status, kind, Extension(told), Json(Value::Object(body))).into_response()
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            .hint("check the disk of the node's directory; nothing was acknowledged")
    }
}
