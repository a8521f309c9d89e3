//! The management API of the caller's own node.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::Value;
use url::Url;

use crate::failure::{Failure, Outcome, chain};

/// Largest answer read, in bytes: an audit bundle of a million entries is about this.
const MAX_ANSWER_BYTES: usize = 1 << 30;

/// Longest wait for an answer beyond what the request itself asks the node to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// A client of one node's management API.
pub struct Api {
    base: Url,
    key: String,
    http: reqwest::Client,
}

/// An answer, kept as it came so that `--output json` shows exactly that.
pub struct Answer {
    /// The body.
    pub text: String,
    /// The body as JSON; null if it is empty or not JSON (a tlog-proof is text).
    pub value: Value,
}

impl Answer {
    /// The text member at `pointer` (RFC 6901).
    ///
    /// # Errors
    /// When the node's answer lacks it.
    pub fn text_at(&self, pointer: &str) -> Outcome<&str> {
        text_at(&self.value, pointer)
    }

    /// The members of a list answer.
    pub fn items(&self) -> &[Value] {
        items(&self.value)
    }
}

/// The text member of `value` at `pointer` (RFC 6901).
pub fn text_at<'a>(value: &'a Value, pointer: &str) -> Outcome<&'a str> {
    value.pointer(pointer).and_then(Value::as_str).ok_or_else(|| {
        Failure::failed(format_args!("the node's answer has no text at `{pointer}`"))
            .hint("are `shuyu` and the node of the same version? see `shuyu --version` and `shuyu status`")
    })
}

/// The `items` of a list answer.
pub fn items(value: &Value) -> &[Value] {
    value.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A path of one identifier below `collection`, the identifier percent-encoded.
pub fn path(collection: &str, id: &str, verb: &str) -> String {
    let mut url = String::from(collection);
    url.push('/');
    url.extend(url::form_urlencoded::byte_serialize(id.as_bytes()).map(|part| part.replace('+', "%20")));
    if !verb.is_empty() {
        url.push('/');
        url.push_str(verb);
    }
    url
}

impl Api {
    /// A client of the node at `base`, which must be loopback or https: the key is a secret.
    ///
    /// # Errors
    /// When the address would send the key in the clear over a network.
    pub fn new(base: Url, key: String) -> Outcome<Self> {
        let is_loopback = match base.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if base.scheme() != "https" && !(base.scheme() == "http" && is_loopback) {
            return Err(Failure::usage(format_args!("management address `{base}` is neither https nor loopback"))
                .hint("the API key would travel in the clear; use https or an ssh tunnel"));
        }
        let http = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(|error| Failure::failed(chain(&error)))?;
        Ok(Self { base, key, http })
    }

    /// The management address.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// Reads.
    pub async fn get(&self, path: &str) -> Outcome<Answer> {
        self.call(Method::GET, path, None, ANSWER_TIMEOUT).await
    }

    /// Reads, with query parameters.
    pub async fn get_with(&self, path: &str, query: &[(&str, String)]) -> Outcome<Answer> {
        let mut writer = url::form_urlencoded::Serializer::new(String::new());
        writer.extend_pairs(query);
        let query = writer.finish();
        let full = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        self.get(&full).await
    }

    /// Creates or acts.
    pub async fn post(&self, path: &str, body: &Value) -> Outcome<Answer> {
        self.call(Method::POST, path, Some(body), ANSWER_TIMEOUT).await
    }

    /// Removes.
    pub async fn delete(&self, path: &str) -> Outcome<Answer> {
        self.call(Method::DELETE, path, None, ANSWER_TIMEOUT).await
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>, timeout: Duration) -> Outcome<Answer> {
        let url = self.base.join(path).map_err(|error| Failure::failed(format_args!("path `{path}`: {error}")))?;
        let mut request = self.http.request(method, url).bearer_auth(&self.key).timeout(timeout);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        let text = read_text(answer).await?;
        let value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status.is_success() { Ok(Answer { text, value }) } else { Err(problem(status, &value)) }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        if error.is_timeout() {
            return Failure::failed(format_args!("the node at {} did not answer in time", self.base));
        }
        let failure = Failure::failed(format_args!("no node answers at {}: {}", self.base, chain(error)));
        failure.hint("start it with `shuyu run --dir DIR`, or see what is wrong with `shuyu doctor --dir DIR`")
    }
}

async fn read_text(mut answer: reqwest::Response) -> Outcome<String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Failure::failed(chain(&error)))? {
        if MAX_ANSWER_BYTES < body.len() + chunk.len() {
            return Err(Failure::failed(format_args!("the answer is over {MAX_ANSWER_BYTES} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    String::from_utf8(body).map_err(|_| Failure::failed("the answer is not UTF-8"))
}

/// A problem answer (RFC 9457) as a failure: what was refused exits 2, what was malformed exits 3, the rest 1.
pub fn problem(status: StatusCode, body: &Value) -> Failure {
    let text = |name: &str| body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let message = match text("detail").or(text("title")) {
        Some(message) => message.to_owned(),
        None => format!("the node answered {status}"),
    };
    let explanation: Vec<String> =
        body.get("explanation").and_then(Value::as_array).into_iter().flatten().map(crate::print::cell).collect();
    let failure = match status {
        StatusCode::FORBIDDEN | StatusCode::UNPROCESSABLE_ENTITY => Failure::refused(message),
        StatusCode::UNAUTHORIZED => {
            Failure::failed(message).hint("is the key file that of this node? see --dir, --key-file")
        }
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE => {
            Failure::invalid(message)
        }
        _ => Failure::failed(message),
    };
    let failure = Failure { status: Some(status.as_u16()), explanation, ..failure };
    match text("hint") {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn identifiers_are_encoded_in_paths() {
        assert_eq!(path("v1/contracts", "urn:uuid:a/b c?", "revoke"), "v1/contracts/urn%3Auuid%3Aa%2Fb%20c%3F/revoke");
        assert_eq!(path("v1/assets", "flights", ""), "v1/assets/flights");
    }

    #[test]
    fn the_key_never_crosses_a_network_in_the_clear() {
        for (url, ok) in [
            ("http://127.0.0.1:7102", true),
            ("http://[::1]:7102", true),
            ("http://localhost:7102", true),
            ("https://node.example", true),
            ("http://node.example", false),
            ("http://localhost.example", false),
            ("ftp://127.0.0.1", false),
        ] {
            assert_eq!(Api::new(url.parse().unwrap(), String::new()).is_ok(), ok, "{url}");
        }
    }

    #[test]
    fn problems_become_exit_codes() {
        let body =
            serde_json::json!({"title": "not permitted", "detail": "purpose", "hint": "h", "explanation": ["because"]});
        for (status, kind) in [
            (StatusCode::FORBIDDEN, Kind::Refused),
            (StatusCode::UNPROCESSABLE_ENTITY, Kind::Refused),
            (StatusCode::BAD_REQUEST, Kind::Invalid),
            (StatusCode::NOT_FOUND, Kind::Failed),
            (StatusCode::CONFLICT, Kind::Failed),
        ] {
            let failure = problem(status, &body);
            assert_eq!((failure.kind, failure.message.as_str()), (kind, "purpose"));
            assert_eq!((failure.hint.as_deref(), failure.explanation.len()), (Some("h"), 1));
        }
        assert_eq!(problem(StatusCode::BAD_GATEWAY, &Value::Null).message, "the node answered 502 Bad Gateway");
    }
}
