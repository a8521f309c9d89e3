//! ODRL 2.2 policies in the compact JSON-LD of DSP 2025-1, to [`Policy`] and back.
//!
//! In scope: policies of class Set, Offer and Agreement in the closed profile of `docs/profile/README.md`. Terms may be
//! written compact (`use`), prefixed (`odrl:use`, `shuyu:rowFilter`) or as full IRIs; they are normalised here, once.
//!
//! What is not understood is refused, with its path and its name: contexts, profiles, terms, and members of rules and
//! constraints, where they could change the meaning. Other members of a policy are ignored, as DSP 2025-1 asks; an
//! agreement's `timestamp` is among them. Out of scope: JSON-LD processing. No context is ever fetched.

mod read;
mod terms;
mod write;

use serde_json::Value;
use shuyu_base::json::{self, ParseJsonError};
use shuyu_policy::Policy;
use shuyu_policy::model::BoundError;

pub use terms::{DSP_CONTEXT, ODRL_CONTEXT, PROFILE, check_context};

/// Largest policy accepted by itself, in bytes; a policy at all bounds of [`shuyu_policy::model`] may not fit.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// Why JSON is not a policy that this system can keep.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OdrlError {
    /// Not acceptable JSON.
    #[error(transparent)]
    Json(#[from] ParseJsonError),
    /// A context that is not one of the three known, or an inline one that renames terms.
    #[error("context `{context}` is not known; it is never fetched")]
    UnknownContext {
        /// The context.
        context: String,
    },
    /// A profile whose terms this system does not know (ODRL section 4.1: processing must stop).
    #[error("profile `{profile}` is not known")]
    UnknownProfile {
        /// The profile's IRI.
        profile: String,
    },
    /// An action, left operand, operator, class or conflict strategy outside the closed vocabulary.
    #[error("`{path}`: `{term}` is not a known {kind}")]
    UnknownTerm {
        /// Where.
        path: String,
        /// What it should be.
        kind: &'static str,
        /// As written.
        term: String,
    },
    /// A member that this system does not handle and that could change the meaning.
    #[error("`{path}`: member `{member}` is not supported")]
    Unsupported {
        /// Where.
        path: String,
        /// The member as written.
        member: String,
    },
    /// A member that must be there is not.
    #[error("`{path}`: member `{member}` is missing")]
    Missing {
        /// Where.
        path: String,
        /// The member.
        member: &'static str,
    },
    /// The same member under two spellings.
    #[error("`{path}`: member `{member}` appears twice")]
    Twice {
        /// Where.
        path: String,
        /// The member.
        member: String,
    },
    /// A value of the wrong kind.
    #[error("`{path}` must be {wanted}")]
    BadValue {
        /// Where.
        path: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// Larger than the bounds of [`shuyu_policy::model`].
    #[error(transparent)]
    Bound(#[from] BoundError),
}

impl OdrlError {
    /// Where in the policy, such as `permission[0].constraint[1].leftOperand`; `policy` for the whole.
    pub fn path(&self) -> &str {
        match self {
            Self::UnknownTerm { path, .. }
            | Self::Unsupported { path, .. }
            | Self::Missing { path, .. }
            | Self::Twice { path, .. }
            | Self::BadValue { path, .. } => path,
            Self::UnknownContext { .. } => "@context",
            Self::UnknownProfile { .. } => "profile",
            Self::Json(_) | Self::Bound(_) => "policy",
        }
    }
}

/// The policy as a JSON object to be embedded in a message that has its own `@context`.
///
/// ODRL terms are compact and profile terms full IRIs, so that it means the same under the contexts of DSP and ODRL.
pub fn to_json(policy: &Policy) -> Value {
    write::policy(policy)
}

/// The policy as a JSON document of its own, with `@context`.
pub fn to_document(policy: &Policy) -> Value {
    let mut document = write::policy(policy);
    if let Some(members) = document.as_object_mut() {
        members.insert("@context".to_owned(), vec![ODRL_CONTEXT, PROFILE].into());
    }
    document
}

/// Reads a policy, embedded or with its own `@context`.
///
/// # Errors
/// [`OdrlError`] names the first thing that is not understood.
pub fn from_json(value: &Value) -> Result<Policy, OdrlError> {
    read::policy(value)
}

/// Reads a policy from foreign bytes; the entry point of the fuzz target.
///
/// # Errors
/// [`OdrlError`]; more than [`MAX_POLICY_BYTES`], too deep or duplicate members are refused.
pub fn from_wire_bytes(bytes: &[u8]) -> Result<Policy, OdrlError> {
    from_json(&json::parse(bytes, MAX_POLICY_BYTES)?)
}

#[cfg(test)]
mod tests;
