//! The guarded HTTP client: public addresses over `https` only, no redirects, bounded in time and size.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Certificate, Client, Method, redirect};
use serde_json::Value;
use shuyu_base::json;
use url::Url;

use crate::guard::{AddressGuard, Network, Refusal};

/// How long a connection may take to open, with DNS and TLS.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a whole exchange may take.
pub const TOTAL_TIMEOUT: Duration = Duration::from_secs(30);
/// Idle connections kept to one host.
const MAX_IDLE_PER_HOST: usize = 8;
/// Most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 32;

/// What an operator decides about outgoing calls.
#[derive(Clone, Debug, Default)]
pub struct HttpOptions {
    /// Loopback addresses are reachable, over `http` too. For tests and demonstrations on one machine.
    pub insecure_loopback: bool,
    /// Networks that are reachable over `https` though they are not public.
    pub allow_networks: Vec<Network>,
    /// PEM bundles of certificate authorities trusted besides the system's.
    pub extra_roots_pem: Vec<Vec<u8>>,
    /// Shorter limits than [`CONNECT_TIMEOUT`] and [`TOTAL_TIMEOUT`]; longer ones are cut to those.
    pub total_timeout: Option<Duration>,
}

/// A client for requests to addresses that peers choose. Clones share connections.
#[derive(Clone)]
pub struct Http {
    client: Client,
    guard: Arc<AddressGuard>,
}

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`, if it is text.
    pub content_type: Option<String>,
    /// Seconds of `Retry-After`, if the peer gives a number.
    pub retry_after_s: Option<u64>,
    /// The value of `Location`, if it is text. It is never followed.
    pub location: Option<String>,
    /// Headers of our own: those whose name begins with `shuyu-` and whose value is text.
    pub own: Vec<(String, String)>,
    /// The body, no longer than the limit of the call.
    pub body: Bytes,
}

impl Response {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Why the client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildHttpError {
    /// A bundle of `extra_roots_pem` is not PEM certificates.
    #[error("extra root certificates, bundle {position}, are not PEM certificates")]
    Roots {
        /// Its place, from 1.
        position: usize,
        /// What the parser said, if anything.
        source: Option<reqwest::Error>,
    },
    /// The TLS library refused its settings.
    #[error("could not set up tls")]
    Tls(#[source] reqwest::Error),
}

/// Why there is no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The URL or an address it resolves to may not be reached. Trying again will not help.
    #[error("`{url}` may not be called")]
    NotAllowed {
        /// The URL, without query.
        url: String,
        /// The rule.
        #[source]
        reason: Refusal,
    },
    /// No connection, or it broke: name not found, refused, TLS failure. The request may have arrived.
    #[error("`{url}` could not be reached: {detail}")]
    Unreachable {
        /// The URL, without query.
        url: String,
        /// The innermost cause.
        detail: String,
    },
    /// No complete answer in time. The request may have arrived.
    #[error("`{url}` did not answer in time")]
    TimedOut {
        /// The URL, without query.
        url: String,
    },
    /// The answer is longer than the limit.
    #[error("`{url}` answered with more than {max_bytes} bytes")]
    TooLarge {
        /// The URL, without query.
        url: String,
        /// The limit.
        max_bytes: usize,
    },
    /// A status other than 2xx where one was needed; redirects are not followed.
    #[error("`{url}` answered with status {status}")]
    Status {
        /// The URL, without query.
        url: String,
        /// The status code.
        status: u16,
    },
    /// The answer is not acceptable JSON.
    #[error("`{url}` did not answer with acceptable JSON")]
    NotJson {
        /// The URL, without query.
        url: String,
        /// What is wrong with it.
        source: json::ParseJsonError,
    },
    /// The request itself cannot be sent, for example because the bearer token has a line break.
    #[error("request to `{url}` is malformed")]
    BadRequest {
        /// The URL, without query.
        url: String,
    },
}

impl Http {
    /// Builds the client. Proxies of the environment are not used: they would be reached in place of the address
    /// that was checked.
    ///
    /// # Errors
    /// [`BuildHttpError`] when a certificate bundle is not one.
    pub fn new(options: HttpOptions) -> Result<Self, BuildHttpError> {
        let guard = Arc::new(AddressGuard::new(options.insecure_loopback, options.allow_networks));
        let mut roots = Vec::new();
        for (at, pem) in options.extra_roots_pem.iter().enumerate() {
            let bad = |source| BuildHttpError::Roots { position: at + 1, source };
            let bundle = Certificate::from_pem_bundle(pem).map_err(|error| bad(Some(error)))?;
            if bundle.is_empty() {
                return Err(bad(None));
            }
            roots.extend(bundle);
        }
        let total = options.total_timeout.map_or(TOTAL_TIMEOUT, |limit| limit.min(TOTAL_TIMEOUT));
        let build = |only_extra_roots: bool| {
            let builder = Client::builder()
                .user_agent(concat!("shuyu/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT.min(total))
                .timeout(total)
                .pool_max_idle_per_host(MAX_IDLE_PER_HOST)
                .dns_resolver(Arc::new(GuardedDns(guard.clone())));
            let roots = roots.clone();
            if only_extra_roots { builder.tls_certs_only(roots) } else { builder.tls_certs_merge(roots) }.build()
        };
        // A machine without the ca-certificates package has no roots to merge with. There the extra ones are all,
        // and if there are none either, every https call fails closed.
        let client = build(false).or_else(|_| build(true)).map_err(BuildHttpError::Tls)?;
        Ok(Self { client, guard })
    }

    /// The rule for addresses this client follows.
    pub fn guard(&self) -> &AddressGuard {
        &self.guard
    }

    /// Fetches JSON, at most `max_bytes` of it.
    ///
    /// # Errors
    /// [`HttpError`]; a status other than 2xx is [`HttpError::Status`].
    pub async fn get_json(&self, url: &Url, max_bytes: usize) -> Result<Value, HttpError> {
        let response = self.get(url, "application/json", None, max_bytes).await?;
        if !response.is_success() {
            return Err(HttpError::Status { url: shown(url), status: response.status });
        }
        json::parse(&response.body, max_bytes).map_err(|source| HttpError::NotJson { url: shown(url), source })
    }

    /// Fetches anything, at most `max_bytes` of it, whatever the status. `bearer` is sent as `Authorization: Bearer`.
    ///
    /// # Errors
    /// [`HttpError`] when there is no complete answer.
    pub async fn get(
        &self,
        url: &Url,
        accept: &str,
        bearer: Option<&str>,
        max_bytes: usize,
    ) -> Result<Response, HttpError> {
        self.send(Method::GET, url, accept, bearer, None, max_bytes).await
    }

    /// Posts JSON and reads the answer, at most `max_bytes` of it, whatever the status.
    ///
    /// # Errors
    /// [`HttpError`] when there is no complete answer.
    pub async fn post_json(
        &self,
        url: &Url,
        body: &Value,
        bearer: Option<&str>,
        max_bytes: usize,
    ) -> Result<Response, HttpError> {
        let body = body.to_string().into_bytes();
        self.send(Method::POST, url, "application/json", bearer, Some(body), max_bytes).await
    }

    async fn send(
        &self,
        method: Method,
        url: &Url,
        accept: &str,
        bearer: Option<&str>,
        json_body: Option<Vec<u8>>,
        max_bytes: usize,
    ) -> Result<Response, HttpError> {
        self.guard.check_url(url).map_err(|reason| HttpError::NotAllowed { url: shown(url), reason })?;
        let mut request = self.client.request(method, url.clone()).header(ACCEPT, accept);
        if let Some(bearer) = bearer {
            let mut value = HeaderValue::try_from(format!("Bearer {bearer}"))
                .map_err(|_| HttpError::BadRequest { url: shown(url) })?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = json_body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        exchange(url, request, max_bytes).await
    }

    /// Posts bytes under headers of the caller's choosing and reads the answer, at most `max_bytes` of it, whatever the
    /// status.
    ///
    /// # Errors
    /// [`HttpError`] when there is no complete answer.
    pub async fn post_bytes(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        body: Vec<u8>,
        max_bytes: usize,
    ) -> Result<Response, HttpError> {
        self.guard.check_url(url).map_err(|reason| HttpError::NotAllowed { url: shown(url), reason })?;
        let mut request = self.client.post(url.clone()).body(body);
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(*value).map_err(|_| HttpError::BadRequest { url: shown(url) })?;
            value.set_sensitive(true);
            request = request.header(*name, value);
        }
        exchange(url, request, max_bytes).await
    }
}

/// Sends a request and reads its answer, at most `max_bytes` of it.
async fn exchange(url: &Url, request: reqwest::RequestBuilder, max_bytes: usize) -> Result<Response, HttpError> {
    let response = request.send().await.map_err(|error| classify(url, &error))?;
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let content_type = header("content-type").map(str::to_owned);
    let retry_after_s = header("retry-after").and_then(|text| text.parse().ok());
    let location = header("location").map(str::to_owned);
    let own = response.headers().iter().filter(|(name, _)| name.as_str().starts_with("shuyu-"));
    let own = own.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned()))).collect();
    let body = read_body(url, response, max_bytes).await?;
    Ok(Response { status, content_type, retry_after_s, location, own, body })
}

/// Reads at most `max_bytes`, whatever `Content-Length` says.
async fn read_body(url: &Url, response: reqwest::Response, max_bytes: usize) -> Result<Bytes, HttpError> {
    let too_large = || HttpError::TooLarge { url: shown(url), max_bytes };
    if response.content_length().is_some_and(|length| u64::try_from(max_bytes).is_ok_and(|max| max < length)) {
        return Err(too_large());
    }
    let mut stream = response.bytes_stream();
    let mut body = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| classify(url, &error))?;
        if max_bytes < body.len() + chunk.len() {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.into())
}

/// Turns the library's error into one the caller can act on.
fn classify(url: &Url, error: &reqwest::Error) -> HttpError {
    if error.is_timeout() {
        return HttpError::TimedOut { url: shown(url) };
    }
    let mut detail = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(reason) = inner.downcast_ref::<Refusal>() {
            return HttpError::NotAllowed { url: shown(url), reason: reason.clone() };
        }
        detail = inner.to_string();
        cause = inner.source();
    }
    if error.is_builder() {
        return HttpError::BadRequest { url: shown(url) };
    }
    HttpError::Unreachable { url: shown(url), detail }
}

/// The URL as errors show it: a query may hold what does not belong in a log.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.into()
}

/// Resolves names and drops every address the guard refuses. The connection is made to what is returned here, so a
/// name that changes its mind between check and use (DNS rebinding) gains nothing.
struct GuardedDns(Arc<AddressGuard>);

impl Resolve for GuardedDns {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            // `http` is allowed to these names, so they must not lead anywhere else (RFC 6761 section 6.3).
            let local = name.as_str() == "localhost" || name.as_str().ends_with(".localhost");
            let found = found.filter(|address| !local || address.ip().is_loopback());
            let addresses = permitted(&guard, found)?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The addresses that may be reached, or the refusal of the first if none may.
fn permitted(guard: &AddressGuard, found: impl Iterator<Item = SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
    let mut refused = None;
    let mut addresses = Vec::new();
    for address in found.take(MAX_ADDRESSES) {
        match guard.check_address(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    match refused {
        Some(refusal) if addresses.is_empty() => Err(refusal),
        Some(_) | None => Ok(addresses),
    }
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("guard", &self.guard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name that resolves to a public and a private address reaches only the public one.
    #[test]
    fn addresses_are_checked_after_resolution() {
        let guard = AddressGuard::new(false, vec![]);
        let address = |text: &str| SocketAddr::new(text.parse().unwrap(), 0);
        let found = [address("10.0.0.1"), address("1.1.1.1"), address("::1")];
        assert_eq!(permitted(&guard, found.into_iter()), Ok(vec![address("1.1.1.1")]));
        let refused = Refusal::Address { address: "10.0.0.1".parse().unwrap() };
        assert_eq!(permitted(&guard, [address("10.0.0.1"), address("::1")].into_iter()), Err(refused));
        assert_eq!(permitted(&guard, [].into_iter()), Ok(vec![]));
    }

    #[test]
    fn errors_do_not_show_the_query() {
        let url = Url::parse("https://a.example/x?token=secret#f").unwrap();
        assert_eq!(shown(&url), "https://a.example/x");
    }

    #[test]
    fn bundles_that_are_not_certificates_are_refused() {
        for pem in [&b"nonsense"[..], b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let options = HttpOptions { extra_roots_pem: vec![pem.to_vec()], ..HttpOptions::default() };
            assert!(Http::new(options).is_err());
        }
    }
}
