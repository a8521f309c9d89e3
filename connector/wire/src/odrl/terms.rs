//! Names: contexts, namespaces and the three spellings of a term.

use serde_json::Value;
use shuyu_policy::terms::{ODRL_NAMESPACE, PROFILE_NAMESPACE};

use super::OdrlError;

/// The context of DSP 2025-1 messages.
pub const DSP_CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";

/// The context of ODRL 2.2.
pub const ODRL_CONTEXT: &str = "http://www.w3.org/ns/odrl.jsonld";

/// The Shuyu profile: identifier of the profile, namespace of its terms, and its context.
pub const PROFILE: &str = PROFILE_NAMESPACE;

/// Namespace of XML Schema's types.
const XSD_NAMESPACE: &str = "http://www.w3.org/2001/XMLSchema#";

/// Prefixes that a context may declare, with the only meaning they may have.
const PREFIXES: [(&str, &str); 3] = [("odrl", ODRL_NAMESPACE), ("shuyu", PROFILE_NAMESPACE), ("xsd", XSD_NAMESPACE)];

/// Checks that a `@context` is made of known contexts and of known prefixes with their usual meaning.
///
/// # Errors
/// [`OdrlError::UnknownContext`] names the first that is not.
pub fn check_context(context: &Value) -> Result<(), OdrlError> {
    match context {
        Value::Array(members) => members.iter().try_for_each(check_one),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => check_one(context),
    }
}

fn check_one(context: &Value) -> Result<(), OdrlError> {
    let unknown = |context: String| Err(OdrlError::UnknownContext { context });
    match context {
        Value::String(name) if is_known_context(name) => Ok(()),
        Value::String(name) => unknown(name.clone()),
        Value::Object(members) => {
            let strange = members.iter().find(|(prefix, meaning)| {
                !PREFIXES.iter().any(|(known, iri)| known == prefix && meaning.as_str() == Some(iri))
            });
            strange.map_or(Ok(()), |(prefix, meaning)| unknown(format!("{prefix}: {meaning}")))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => unknown(context.to_string()),
    }
}

fn is_known_context(name: &str) -> bool {
    [DSP_CONTEXT, ODRL_CONTEXT].contains(&name) || is_our_profile(name)
}

fn is_our_profile(name: &str) -> bool {
    name.trim_end_matches('#') == PROFILE.trim_end_matches('#')
}

/// Whether a policy may name this profile.
pub(super) fn is_known_profile(name: &str) -> bool {
    is_our_profile(name) || [ODRL_NAMESPACE, "http://www.w3.org/ns/odrl/2/core"].contains(&name)
}

/// A term with its namespace resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Term<'a> {
    /// Written without a prefix.
    Compact(&'a str),
    /// In the ODRL namespace.
    Odrl(&'a str),
    /// In the profile's namespace.
    Profile(&'a str),
    /// In some other namespace.
    Foreign,
}

impl<'a> Term<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let strip = |namespace: &str, prefix: &str| text.strip_prefix(namespace).or_else(|| text.strip_prefix(prefix));
        if let Some(name) = strip(ODRL_NAMESPACE, "odrl:") {
            Self::Odrl(name)
        } else if let Some(name) = strip(PROFILE_NAMESPACE, "shuyu:") {
            Self::Profile(name)
        } else if text.contains(':') {
            Self::Foreign
        } else {
            Self::Compact(text)
        }
    }

    /// The local name of an ODRL term; compact names are ODRL's.
    pub(super) fn odrl(self) -> Option<&'a str> {
        match self {
            Self::Compact(name) | Self::Odrl(name) => Some(name),
            Self::Profile(_) | Self::Foreign => None,
        }
    }
}

/// The local name of an XML Schema type.
pub(super) fn xsd(text: &str) -> Option<&str> {
    text.strip_prefix(XSD_NAMESPACE).or_else(|| text.strip_prefix("xsd:"))
}
