//! Talking to other nodes: finding their protocol root, and sending messages to them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use shuyu_base::{Did, UnixMillis, json};
use shuyu_credentials::{DidDocument, IssueError};
use shuyu_resolver::{DidResolver, Http, HttpError, ResolveError, Response};
use shuyu_wire::dsp::{CallbackUrl, ProtocolError, decode_versions};
use url::Url;

use crate::clock;
use crate::identity::{DSP_SERVICE, Identity, LEDGER_SERVICE};
use crate::problem::Problem;
use crate::promises::Promised;
use crate::reach::Reach;

/// The protocol version spoken.
pub const DSP_VERSION: &str = "2025-1";
/// How long a peer's protocol root is remembered, in milliseconds.
const ROOT_TTL_MS: i64 = 300_000;
/// Most peers remembered; beyond that the memory starts anew.
const MAX_ROOTS: usize = 10_000;

/// The error code by which a node says that its own message about the process is under way.
pub const BUSY_CODE: &str = "shuyu:busy";

/// The error code by which a node says that a sender's key is another than the one something was begun with, and that that
/// one did not hand over to it.
pub const KEY_CHANGED_CODE: &str = "shuyu:key-changed";

/// Why a peer gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeerError {
    /// Its DID document cannot be had.
    #[error("DID document of `{did}` cannot be had: {source}")]
    Resolve {
        /// The peer.
        did: Did,
        /// Why.
        source: Arc<ResolveError>,
    },
    /// Its DID document or version metadata lacks what we need.
    #[error("`{did}` {reason}")]
    Unsuitable {
        /// The peer.
        did: Did,
        /// What is missing.
        reason: String,
    },
    /// The connection failed, was not allowed, or timed out; sending again may help.
    #[error("`{url}` gave no answer: {source}")]
    NoAnswer {
        /// Where we sent.
        url: String,
        /// Why.
        source: HttpError,
    },
    /// It gave no answer lately and was not asked again.
    #[error("`{did}` does not answer at the moment")]
    Silent {
        /// The peer.
        did: Did,
    },
    /// Its own message about the same process is under way; ours was not applied.
    #[error("`{url}` is busy with a message of its own")]
    Busy {
        /// Where we sent.
        url: String,
    },
    /// It asked us to come back later (429, 503) or failed itself (5xx).
    #[error("`{url}` answered {status}, try again later")]
    Later {
        /// Where we sent.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// It refused, and will refuse again.
    #[error("`{url}` answered {status}: {reason}")]
    Refused {
        /// Where we sent.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said, cut to a bounded length.
        reason: String,
        /// Whether the answer is one of the protocol, and so a verdict on the message.
        definite: bool,
    },
}

impl PeerError {
    /// Whether the same call may succeed a little later, without the peer changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Resolve { source, .. } => source.is_transient(),
            Self::NoAnswer { source, .. } => {
                !matches!(source, HttpError::NotAllowed { .. } | HttpError::TooLarge { .. })
            }
            Self::Busy { .. } | Self::Later { .. } | Self::Silent { .. } => true,
            Self::Unsuitable { .. } | Self::Refused { .. } => false,
        }
    }

    /// Whether the answer is final, so that the same message must not be sent again.
    pub fn is_definite(&self) -> bool {
        matches!(self, Self::Refused { definite: true, .. })
    }
}

/// The way to other nodes.
pub struct Peers {
    identity: Arc<Identity>,
    http: Http,
    resolver: Arc<DidResolver>,
    reach: Reach,
    roots: Mutex<HashMap<Did, (String, UnixMillis)>>,
}

impl Peers {
    /// Speaks as `identity`.
    pub fn new(identity: Arc<Identity>, http: Http, resolver: Arc<DidResolver>) -> Self {
        Self { identity, http, resolver, reach: Reach::default(), roots: Mutex::default() }
    }

    /// Which peers answer.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Like [`Peers::post`] for messages that are sent again until they are answered: no more than some at once, and to a
    /// peer that is silent only now and then.
    ///
    /// # Errors
    /// As [`Peers::post`]; [`PeerError::Silent`] if the peer was not asked.
    pub async fn deliver(&self, to: &Did, url: &str, body: &Value) -> Result<(Value, Option<Promised>), PeerError> {
        let _place = self.reach.place(to.as_str()).await;
        let began = clock::now();
        if !self.reach.may_ask(to.as_str(), began) {
            return Err(PeerError::Silent { did: to.clone() });
        }
        let answered = self.posted(to, url, body).await;
        match &answered {
            Err(PeerError::NoAnswer { .. }) => self.reach.unanswered(to.as_str(), began, clock::now()),
            Ok(_) | Err(_) => self.reach.heard_of(to.as_str(), clock::now()),
        }
        answered
    }

    /// The guarded client towards others.
    pub fn http(&self) -> &Http {
        &self.http
    }

    /// The root of the peer's DSP 2025-1 binding, without a slash at the end.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn dsp_root(&self, did: &Did) -> Result<String, PeerError> {
        let now = clock::now();
        let known = self.roots.lock().unwrap_or_else(PoisonError::into_inner).get(did).cloned();
        if let Some((root, until)) = known
            && now < until
        {
            return Ok(root);
        }
        let endpoint = self.service(did, DSP_SERVICE).await?;
        let bytes = self.bytes(did, &endpoint, 64 * 1024).await?;
        let versions = self.answer(&endpoint, 200, &bytes)?;
        let unsuitable = |reason: String| PeerError::Unsuitable { did: did.clone(), reason };
        let versions =
            decode_versions(&versions).map_err(|error| unsuitable(format!("has bad version metadata: {error}")))?;
        let ours = versions.iter().find(|version| version.version == DSP_VERSION && version.binding == "HTTPS");
        let path = &ours.ok_or_else(|| unsuitable(format!("does not speak DSP {DSP_VERSION} over HTTPS")))?.path;
        let base = endpoint.strip_suffix("/.well-known/dspace-version").unwrap_or(&endpoint);
        let root = format!("{}{}", base.trim_end_matches('/'), path.trim_end_matches('/'));
        let mut roots = self.roots.lock().unwrap_or_else(PoisonError::into_inner);
        if MAX_ROOTS <= roots.len() {
            roots.clear();
        }
        roots.insert(did.clone(), (root.clone(), now.plus_millis(ROOT_TTL_MS)));
        Ok(root)
    }

    /// Refuses a callback address that this node would not call. Names are checked again when they are resolved.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn check_callback(&self, callback: &CallbackUrl) -> Result<(), Problem> {
        let bad = |reason: String| Problem::invalid(format!("`callbackAddress`: {reason}"));
        let url = Url::parse(callback.as_str()).map_err(|error| bad(error.to_string()))?;
        self.http.guard().check_url(&url).map_err(|refusal| bad(refusal.to_string()))
    }

    /// The public address of the peer's evidence ledger, without a slash at the end.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn ledger_root(&self, did: &Did) -> Result<String, PeerError> {
        Ok(self.service(did, LEDGER_SERVICE).await?.trim_end_matches('/').to_owned())
    }

    /// Sends a message as ourselves and returns the answer's body, `Null` if it has none or one that is not JSON: most
    /// answers of the protocol have a body that "is not specified" (HTTPS binding).
    ///
    /// # Errors
    /// [`PeerError`]; [`PeerError::is_definite`] tells whether to try again.
    pub async fn post(&self, to: &Did, url: &str, body: &Value) -> Result<Value, PeerError> {
        self.posted(to, url, body).await.map(|(answer, _)| answer)
    }

    /// As [`Peers::post`], with what the peer's ledger promises about the message.
    async fn posted(&self, to: &Did, url: &str, body: &Value) -> Result<(Value, Option<Promised>), PeerError> {
        let token = self.token(to)?;
        let response = self.send(to, url, body, &token).await?;
        let promised = Promised::from_headers(&response.own);
        match response.status {
            200..=299 => Ok((json::parse(&response.body, json::MAX_MESSAGE_BYTES).unwrap_or(Value::Null), promised)),
            status => self.answer(url, status, &response.body).map(|answer| (answer, promised)),
        }
    }

    /// Sends a message as ourselves, showing the access token that the peer gave us. The answer may be anything.
    ///
    /// # Errors
    /// As [`Peers::post`].
    pub async fn post_with(
        &self,
        to: &Did,
        url: &str,
        body: &Value,
        access: Option<&str>,
    ) -> Result<Answered, PeerError> {
        let token = self.identity.token_with(to, clock::now(), access).map_err(|error| unaddressable(to, &error))?;
        let response = self.send(to, url, body, &token).await?;
        let body = match json::parse(&response.body, json::MAX_MESSAGE_BYTES) {
            Err(_) if response.is_success() => Value::Null,
            _ => self.answer(url, response.status, &response.body)?,
        };
        Ok(Answered { body, location: response.location })
    }

    async fn send(&self, to: &Did, url: &str, body: &Value, token: &str) -> Result<Response, PeerError> {
        self.http
            .post_json(&parsed(to, url)?, body, Some(token), json::MAX_MESSAGE_BYTES)
            .await
            .map_err(|source| PeerError::NoAnswer { url: url.to_owned(), source })
    }

    /// The document of a peer.
    ///
    /// # Errors
    /// [`PeerError::Resolve`].
    pub async fn document(&self, did: &Did) -> Result<Arc<DidDocument>, PeerError> {
        self.resolver.resolve(did).await.map_err(|source| PeerError::Resolve { did: did.clone(), source })
    }

    /// The document of a peer, fetched again if it is old enough: a key was missing in it.
    ///
    /// # Errors
    /// [`PeerError::Resolve`].
    pub async fn fresh_document(&self, did: &Did) -> Result<Arc<DidDocument>, PeerError> {
        self.resolver.refresh(did).await.map_err(|source| PeerError::Resolve { did: did.clone(), source })
    }

    /// Asks as ourselves.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn ask(&self, to: &Did, url: &str) -> Result<Value, PeerError> {
        let token = self.token(to)?;
        let response = self
            .http
            .get(&parsed(to, url)?, "application/json", Some(&token), json::MAX_MESSAGE_BYTES)
            .await
            .map_err(|source| PeerError::NoAnswer { url: url.to_owned(), source })?;
        self.answer(url, response.status, &response.body)
    }

    /// Reads bytes, such as a tile of a ledger: without saying who asks, unless that is what the peer wants to know.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn bytes(&self, of: &Did, url: &str, max_bytes: usize) -> Result<Vec<u8>, PeerError> {
        self.bytes_as_asked(of, url, max_bytes).await.map(|(bytes, _)| bytes)
    }

    /// As [`Peers::bytes`], with whether we had to say who asks: then they are not for everybody.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn bytes_as_asked(&self, of: &Did, url: &str, max_bytes: usize) -> Result<(Vec<u8>, bool), PeerError> {
        let mut response = self.read(of, url, None, max_bytes).await?;
        let is_private = response.status == 401;
        if is_private {
            let token = self.token(of)?;
            response = self.read(of, url, Some(&token), max_bytes).await?;
        }
        match response.status {
            200..=299 => Ok((response.body.to_vec(), is_private)),
            401 | 403 => Err(PeerError::Refused {
                url: url.to_owned(),
                status: response.status,
                reason: reason(&response.body),
                definite: false,
            }),
            status => Err(PeerError::Refused {
                url: url.to_owned(),
                status,
                reason: "not served".to_owned(),
                definite: false,
            }),
        }
    }

    async fn read(&self, of: &Did, url: &str, token: Option<&str>, max_bytes: usize) -> Result<Response, PeerError> {
        let address = parsed(of, url)?;
        let read = self.http.get(&address, "*/*", token, max_bytes);
        read.await.map_err(|source| PeerError::NoAnswer { url: url.to_owned(), source })
    }

    /// A self-issued token for this peer.
    ///
    /// # Errors
    /// [`PeerError::Unsuitable`] if it cannot be addressed.
    pub fn token(&self, to: &Did) -> Result<String, PeerError> {
        self.identity.token(to, clock::now()).map_err(|error| unaddressable(to, &error))
    }

    /// The endpoint of a peer's service of this type.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn service(&self, did: &Did, kind: &str) -> Result<String, PeerError> {
        self.document(did).await?.service(kind).map(|service| service.endpoint.to_string()).ok_or_else(|| {
            PeerError::Unsuitable {
                did: did.clone(),
                reason: format!("has no service of type `{kind}` in its DID document"),
            }
        })
    }

    fn answer(&self, url: &str, status: u16, body: &[u8]) -> Result<Value, PeerError> {
        let url = url.to_owned();
        match status {
            200..=299 if body.is_empty() => Ok(Value::Null),
            200..=299 => json::parse(body, json::MAX_MESSAGE_BYTES).map_err(|error| PeerError::Refused {
                url,
                status,
                reason: format!("answer is {error}"),
                definite: false,
            }),
            503 if error_code(body).as_deref() == Some(BUSY_CODE) => Err(PeerError::Busy { url }),
            408 | 425 | 429 | 500..=599 => Err(PeerError::Later { url, status }),
            _ => Err(PeerError::Refused { url, status, reason: reason(body), definite: is_verdict(status, body) }),
        }
    }
}

/// A 2xx answer.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Its body, `Null` if it has none.
    pub body: Value,
    /// Its `Location`.
    pub location: Option<String>,
}

fn unaddressable(did: &Did, error: &IssueError) -> PeerError {
    PeerError::Unsuitable { did: did.clone(), reason: format!("cannot be addressed: {error}") }
}

fn parsed(of: &Did, url: &str) -> Result<Url, PeerError> {
    Url::parse(url)
        .map_err(|error| PeerError::Unsuitable { did: of.clone(), reason: format!("gives a bad address: {error}") })
}

/// A 4xx with an error body of the protocol judges the message; anything else may come from something in between, or be
/// about the sender and not the message. That our key does not follow the one before will not mend by itself.
fn is_verdict(status: u16, body: &[u8]) -> bool {
    let value = json::parse(body, json::MAX_MESSAGE_BYTES);
    let is_about_us = matches!(status, 401 | 403 | 407) && error_code(body).as_deref() != Some(KEY_CHANGED_CODE);
    (400..500).contains(&status) && !is_about_us && value.is_ok_and(|value| ProtocolError::decode(&value).is_ok())
}

fn error_code(body: &[u8]) -> Option<String> {
    let value = json::parse(body, json::MAX_MESSAGE_BYTES).ok()?;
    value.get("code")?.as_str().map(str::to_owned)
}

/// What an error body says, as printable text of at most 500 characters.
fn reason(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let words = json::parse(body, json::MAX_MESSAGE_BYTES).ok().and_then(|value| {
        let reason = value.get("reason").or_else(|| value.get("detail"))?;
        match reason {
            Value::String(text) => Some(text.clone()),
            Value::Array(items) => Some(items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; ")),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    });
    let hint = json::parse(body, json::MAX_MESSAGE_BYTES).ok();
    let hint = hint.as_ref().and_then(|value| value.get("hint")?.as_str()).map(|hint| format!("; {hint}"));
    let words = words.map(|words| words + hint.as_deref().unwrap_or_default());
    words.unwrap_or_else(|| text.into_owned()).chars().filter(|c| !c.is_control()).take(500).collect()
}
