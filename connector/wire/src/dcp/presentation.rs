//! Asking for presentations and answering (DCP 1.0, section 5.4).

use std::collections::BTreeSet;

use serde_json::Value;
use shuyu_credentials::Scope;
use shuyu_credentials::access::MAX_SCOPES;
use shuyu_credentials::scope::MAX_SCOPE_BYTES;
use shuyu_credentials::verdict::MAX_PRESENTATIONS;
use shuyu_credentials::vp::MAX_PRESENTATION_BYTES;

use super::{DecodeError, Problem, invalid, open, start};

/// What a verifier asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresentationQuery {
    /// Credentials by scope, at least one.
    Scopes(BTreeSet<Scope>),
    /// A presentation definition, which a service need not support (section 5.4.1.1).
    Definition,
}

impl PresentationQuery {
    const TYPE: &str = "PresentationQueryMessage";

    /// Reads a query. Both ways of asking at once, or neither, is an error.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        match (message.get("scope"), message.get("presentationDefinition")) {
            (Some(scope), Some(_)) => Err(scope.error(Problem::Unwanted)),
            (None, None) => Err(message.error("scope", Problem::Missing)),
            (None, Some(definition)) => {
                let members = definition.clone().object()?.members;
                if members.is_empty() { Err(definition.error(Problem::Empty)) } else { Ok(Self::Definition) }
            }
            (Some(scope), None) => {
                let items = scope.items(MAX_SCOPES)?;
                if items.is_empty() {
                    return Err(scope.error(Problem::Empty));
                }
                let scopes = items.iter().map(|item| {
                    item.text(MAX_SCOPE_BYTES)?.parse::<Scope>().map_err(|error| item.error(invalid(error)))
                });
                scopes.collect::<Result<_, _>>().map(Self::Scopes)
            }
        }
    }

    /// A query by scope as JSON.
    pub fn encode(scopes: &BTreeSet<Scope>) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("scope".to_owned(), scopes.iter().map(Scope::to_string).collect());
        Value::Object(message)
    }
}

/// Presentations as JWTs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresentationResponse {
    /// One for each profile that the credentials are written in.
    pub presentations: Vec<String>,
}

impl PresentationResponse {
    const TYPE: &str = "PresentationResponseMessage";

    /// Reads an answer. Presentations that are no text are left out: the profiles spoken here have JWTs only.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let items = message.need("presentation")?.items(MAX_PRESENTATIONS)?;
        let texts = items.iter().filter(|item| item.value.is_string());
        let presentations = texts.map(|item| item.text(MAX_PRESENTATION_BYTES).map(str::to_owned));
        Ok(Self { presentations: presentations.collect::<Result<_, _>>()? })
    }

    /// The answer as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("presentation".to_owned(), self.presentations.clone().into());
        Value::Object(message)
    }
}
