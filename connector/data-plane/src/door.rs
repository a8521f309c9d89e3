//! How refusals and failures look outside: one set of codes and words, as gRPC statuses and as HTTP problems.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    gate::{Refused, RefusedCode},
    guard::GuardError,
    query::QueryError,
};

/// Anything that ends a request without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DoorError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// gRPC metadata and HTTP member that carry the code for programs.
pub(crate) const CODE_HEADER: &str = "shuyu-code";

impl DoorError {
    /// A malformed request.
    pub(crate) fn invalid(words: impl std::fmt::Display) -> Self {
        Self::Refused(Refused::new(RefusedCode::Invalid, words))
    }

    fn parts(&self) -> (Code, u16, &'static str) {
        match self {
            Self::Refused(refused) => {
                let code = match refused.code {
                    RefusedCode::Unauthenticated => Code::Unauthenticated,
                    RefusedCode::Forbidden | RefusedCode::Revoked | RefusedCode::Expired => Code::PermissionDenied,
                    RefusedCode::Quota => Code::ResourceExhausted,
                    RefusedCode::NotFound => Code::NotFound,
                    RefusedCode::Invalid => Code::InvalidArgument,
                    RefusedCode::Unavailable => Code::Unavailable,
                };
                (code, refused.code.http_status(), refused.code.word())
            }
            Self::Query(error) => match error {
                QueryError::Guard(GuardError::NotAQuery(_) | GuardError::NotAllowed(_)) => {
                    (Code::PermissionDenied, 403, "statement-not-allowed")
                }
                QueryError::Guard(GuardError::Unavailable) => (Code::Unavailable, 503, "unavailable"),
                QueryError::Guard(_) | QueryError::Invalid(_) => (Code::InvalidArgument, 400, "statement-invalid"),
                QueryError::Unreadable { .. } => (Code::Internal, 500, "table-unreadable"),
                QueryError::Failed { .. } => (Code::Internal, 500, "query-failed"),
                QueryError::TimeLimit { .. } => (Code::DeadlineExceeded, 422, "time-limit"),
                QueryError::MemoryLimit { .. } => (Code::ResourceExhausted, 422, "memory-limit"),
            },
        }
    }
}

impl From<DoorError> for Status {
    fn from(error: DoorError) -> Self {
        let (code, _, word) = error.parts();
        let mut status = Self::new(code, error.to_string());
        status.metadata_mut().insert(CODE_HEADER, MetadataValue::from_static(word));
        status
    }
}

impl IntoResponse for DoorError {
    /// RFC 9457 problem details.
    fn into_response(self) -> Response {
        let (_, status, word) = self.parts();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let problem = serde_json::json!({
            "type": format!("urn:shuyu:problem:{word}"),
            "title": status.canonical_reason().unwrap_or("refused"),
            "status": status.as_u16(),
            "code": word,
            "detail": self.to_string(),
        });
        let mut response = Response::new(Body::from(problem.to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
