//! What all messages share: the context, identifiers, reasons, answers and errors.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use shuyu_base::{Digest, json::canonical};
use shuyu_contract_engine::Pid;

use super::reader::{At, DecodeError, Object, Problem};

/// The JSON-LD context of the protocol; every message names it.
pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";

/// Longest identifier (`@id`, `agreementId`, `target`, `format` ...). IRIs in use stay below 100 bytes.
pub const MAX_ID_BYTES: usize = 256;
/// Longest `code` of an error or termination.
pub const MAX_CODE_BYTES: usize = 256;
/// Most `reason` items.
pub const MAX_REASONS: usize = 32;
/// Longest `reason` item.
pub const MAX_REASON_BYTES: usize = 2048;
/// Most contexts one message may name.
const MAX_CONTEXTS: usize = 16;

/// SHA-256 of the canonical form (RFC 8785) of a message as sent: its name in evidence.
///
/// # Errors
/// If a number has no canonical form; none does that came through [`shuyu_base::json::parse`].
pub fn event_digest(message: &Value) -> Result<Digest, serde_json::Error> {
    Ok(Digest::sha256(&canonical(message)?))
}

/// Where a party receives messages: an absolute http or https URL without user, password or fragment.
///
/// Which hosts may be called is not decided here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackUrl(String); // Invariant: built only by `from_str`.

/// Why a text is not a callback address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidCallback {
    /// Longer than [`CallbackUrl::MAX_BYTES`].
    #[error("callback address is {len_bytes} bytes, the limit is {}", CallbackUrl::MAX_BYTES)]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Not an absolute URL.
    #[error("callback address is not an absolute URL")]
    NotAbsolute,
    /// Neither http nor https.
    #[error("callback address has scheme `{scheme}`, only https and http are known")]
    Scheme {
        /// The scheme found.
        scheme: String,
    },
    /// Carries a user name or password.
    #[error("callback address carries credentials")]
    Credentials,
    /// Carries a query or fragment, to which no path can be added.
    #[error("callback address has a query or fragment")]
    Fragment,
}

impl CallbackUrl {
    /// Longest address accepted, as in common servers.
    pub const MAX_BYTES: usize = 2048;

    /// The address as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address of a path below this one, whether or not it ends in `/` (HTTPS binding, "Prerequisites").
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}/{}", self.0.trim_end_matches('/'), path.trim_start_matches('/'))
    }
}

impl FromStr for CallbackUrl {
    type Err = InvalidCallback;

    fn from_str(text: &str) -> Result<Self, InvalidCallback> {
        if Self::MAX_BYTES < text.len() {
            return Err(InvalidCallback::TooLong { len_bytes: text.len() });
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(InvalidCallback::NotAbsolute);
        }
        let url = url::Url::parse(text).map_err(|_| InvalidCallback::NotAbsolute)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(InvalidCallback::Scheme { scheme: url.scheme().chars().take(32).collect() });
        }
        if !url.has_host() {
            return Err(InvalidCallback::NotAbsolute);
        }
        if !url.username().is_empty() || url.password().is_some() || text.contains('@') {
            return Err(InvalidCallback::Credentials);
        }
        if url.fragment().is_some() || url.query().is_some() {
            return Err(InvalidCallback::Fragment);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `code` and `reason` of a termination, suspension or error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// An implementation's own code.
    pub code: Option<String>,
    /// What happened, for people. An item that is not text is kept as its JSON.
    pub reason: Vec<String>,
}

impl Explanation {
    pub(super) fn decode(message: &Object<'_>) -> Result<Self, DecodeError> {
        let code = message.maybe_text("code", MAX_CODE_BYTES)?;
        let mut reason = Vec::new();
        for item in message.maybe_items("reason", MAX_REASONS)? {
            let text = item.value.as_str().map_or_else(|| item.value.to_string(), str::to_owned);
            if MAX_REASON_BYTES < text.len() {
                return Err(item.error(Problem::TooLong { len_bytes: text.len(), max_bytes: MAX_REASON_BYTES }));
            }
            reason.push(text);
        }
        Ok(Self { code, reason })
    }

    pub(super) fn encode(&self, message: &mut Map<String, Value>) {
        put(message, "code", self.code.as_deref());
        if !self.reason.is_empty() {
            message.insert("reason".to_owned(), json!(self.reason));
        }
    }
}

/// The answer to a message, and to a GET of a process: `ContractNegotiation` or `TransferProcess`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState<S> {
    /// The provider's identifier.
    pub provider_pid: Pid,
    /// The consumer's identifier.
    pub consumer_pid: Pid,
    /// The state the answering party holds.
    pub state: S,
}

impl<S: Copy> ProcessState<S> {
    pub(super) fn decode_as(value: &Value, kind: &str, states: &[(&str, S)]) -> Result<Self, DecodeError> {
        let message = open(value)?;
        message.need_type(kind)?;
        let at = message.need("state")?;
        let found = at.text(MAX_ID_BYTES)?;
        let state = states.iter().find(|(name, _)| *name == found).map(|(_, state)| *state);
        let state = state.ok_or_else(|| at.error(Problem::Unknown(format!("a state of `{kind}`"))))?;
        Ok(Self { provider_pid: message.pid("providerPid")?, consumer_pid: message.pid("consumerPid")?, state })
    }

    pub(super) fn encode_as(&self, kind: &str, state: &str) -> Value {
        let mut message = start(kind, None);
        put(&mut message, "providerPid", Some(self.provider_pid.as_str()));
        put(&mut message, "consumerPid", Some(self.consumer_pid.as_str()));
        put(&mut message, "state", Some(state));
        Value::Object(message)
    }
}

/// Which protocol an error belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// `ContractNegotiationError`.
    Negotiation,
    /// `TransferError`.
    Transfer,
    /// `CatalogError`.
    Catalog,
}

impl ErrorKind {
    fn name(self) -> &'static str {
        match self {
            Self::Negotiation => "ContractNegotiationError",
            Self::Transfer => "TransferError",
            Self::Catalog => "CatalogError",
        }
    }
}

/// An error answer. Catalogue errors have no process; the others name it as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolError {
    /// The protocol.
    pub kind: ErrorKind,
    /// The provider's identifier.
    pub provider_pid: Option<Pid>,
    /// The consumer's identifier.
    pub consumer_pid: Option<Pid>,
    /// What happened.
    pub explanation: Explanation,
}

impl ProtocolError {
    /// Reads an error answer. Missing process identifiers are tolerated: the answer is for people.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value)?;
        let found = message.text("@type", MAX_ID_BYTES)?;
        let kind = [ErrorKind::Negotiation, ErrorKind::Transfer, ErrorKind::Catalog]
            .into_iter()
            .find(|kind| kind.name() == found)
            .ok_or_else(|| message.error("@type", Problem::Unknown("an error of the protocol".to_owned())))?;
        let (provider_pid, consumer_pid) = (message.maybe_pid("providerPid")?, message.maybe_pid("consumerPid")?);
        Ok(Self { kind, provider_pid, consumer_pid, explanation: Explanation::decode(&message)? })
    }

    /// The error as JSON. Where the schema wants a process identifier and none is known, `urn:unknown` stands.
    pub fn encode(&self) -> Value {
        let mut message = start(self.kind.name(), None);
        match self.kind {
            ErrorKind::Negotiation | ErrorKind::Transfer => {
                for (name, pid) in [("providerPid", &self.provider_pid), ("consumerPid", &self.consumer_pid)] {
                    put(&mut message, name, Some(pid.as_ref().map_or("urn:unknown", Pid::as_str)));
                }
            }
            ErrorKind::Catalog => {}
        }
        self.explanation.encode(&mut message);
        Value::Object(message)
    }
}

/// A message's members, once its context is known to be ours.
pub(super) fn open(value: &Value) -> Result<Object<'_>, DecodeError> {
    let message = At::new(value).object()?;
    let context = message.need("@context")?;
    // A bare text stands for a list of one, as in an example of the catalogue binding.
    let contexts = if context.value.is_string() { vec![context.clone()] } else { context.items(MAX_CONTEXTS)? };
    let mut names_ours = false;
    for item in contexts {
        names_ours |= item.text(CallbackUrl::MAX_BYTES)? == CONTEXT;
    }
    if !names_ours {
        return Err(context.error(Problem::Unknown(format!("a list with `{CONTEXT}`"))));
    }
    Ok(message)
}

/// The first members of a message.
pub(super) fn start(kind: &str, id: Option<&str>) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("@context".to_owned(), json!([CONTEXT]));
    put(&mut message, "@type", Some(kind));
    put(&mut message, "@id", id);
    message
}

/// Adds a text, if there is one.
pub(super) fn put(message: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        message.insert(name.to_owned(), Value::String(text.to_owned()));
    }
}
