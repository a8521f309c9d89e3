//! Messages of the Decentralized Claims Protocol 1.0 as JSON, and back.
//!
//! Read as plain JSON, as the specification allows ("Schemas, Contexts, and Message Processing"). Members that are not
//! known are ignored; what is missing, misshapen or too large is refused with the path of the member. Credentials and
//! presentations stay JWTs here; `shuyu-credentials` reads them.

mod issuance;
mod presentation;

use std::fmt;

use serde_json::{Map, Value};

use crate::dsp::reader::{At, Object};
pub use crate::dsp::{DecodeError, Problem};
pub use issuance::{
    CredentialContainer, CredentialMessage, CredentialObject, CredentialOffer, CredentialRequest, CredentialStatus,
    IssuerMetadata, Outcome, RequestStatus,
};
pub use presentation::{PresentationQuery, PresentationResponse};

/// The JSON-LD context of the protocol; every message names it.
pub const CONTEXT: &str = "https://w3id.org/dspace-dcp/v1.0/dcp.jsonld";

/// Longest identifier of a request, a credential or an offer, in bytes.
pub const MAX_ID_BYTES: usize = 256;
/// Longest free text: a reason, a schema address.
pub const MAX_TEXT_BYTES: usize = 2048;
/// Most credentials of one message.
pub const MAX_CREDENTIALS: usize = 32;
/// Most binding methods of a credential object.
pub const MAX_METHODS: usize = 16;
/// Most contexts one message may name.
const MAX_CONTEXTS: usize = 16;

/// Opens a message of the type `kind`.
fn open<'a>(value: &'a Value, kind: &str) -> Result<Object<'a>, DecodeError> {
    let message = At::new(value).object()?;
    let context = message.need("@context")?;
    let names = if context.value.is_array() { context.items(MAX_CONTEXTS)? } else { vec![context.clone()] };
    if !names.iter().any(|name| name.value.as_str() == Some(CONTEXT)) {
        return Err(context.error(Problem::Unknown(format!("a list with `{CONTEXT}`"))));
    }
    // The context makes `type` another word for `@type`.
    let member = if message.get("type").is_some() { "type" } else { "@type" };
    let found = message.get(member).ok_or_else(|| message.error("type", Problem::Missing))?;
    if found.text(MAX_ID_BYTES)? != kind {
        return Err(found.error(Problem::Unknown(format!("`{kind}`"))));
    }
    Ok(message)
}

/// Starts a message of the type `kind`.
fn start(kind: &str) -> Map<String, Value> {
    let mut message = Map::new();
    message.insert("@context".to_owned(), Value::Array(vec![CONTEXT.into()]));
    message.insert("type".to_owned(), kind.into());
    message
}

fn invalid(error: impl fmt::Display) -> Problem {
    Problem::Invalid(error.to_string())
}
