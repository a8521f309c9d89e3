//! Scopes: names for the credentials that a verifier may see (DCP 1.0, section 5.4.1.2). The set of aliases is closed.

use std::fmt;
use std::str::FromStr;

/// Longest scope accepted, in bytes.
pub const MAX_SCOPE_BYTES: usize = 512;
/// Longest credential type accepted, in bytes.
pub const MAX_TYPE_BYTES: usize = 128;

const TYPE_ALIAS: &str = "org.eclipse.dspace.dcp.vc.type:";
const ID_ALIAS: &str = "org.eclipse.dspace.dcp.vc.id:";
const READ: &str = ":read";

/// A type of credentials, for example `MembershipCredential`: letters, digits, `-`, `_` and `.`, starting with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CredentialType(Box<str>); // Invariant: built only by `from_str`.

/// What a scope gives access to, for reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The credentials of a type.
    Type(CredentialType),
    /// The credential with an id, 1 to [`MAX_SCOPE_BYTES`] bytes without white space.
    Id(String),
}

/// Why a text is not a scope or a credential type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseScopeError {
    /// Longer than [`MAX_SCOPE_BYTES`].
    #[error("scope is {len_bytes} bytes, the limit is {MAX_SCOPE_BYTES}")]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Starts with neither alias of the specification.
    #[error("scope has an alias that is not known")]
    Alias,
    /// The type is empty, too long or has a character that is not allowed, such as the colon of another operation.
    #[error("scope or credential type is not letters, digits, `-`, `_` and `.` after a first letter")]
    Type,
    /// The id is empty or has white space.
    #[error("scope names no credential id")]
    Id,
}

impl CredentialType {
    /// The type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for CredentialType {
    type Err = ParseScopeError;

    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if starts && plain && text.len() <= MAX_TYPE_BYTES { Ok(Self(text.into())) } else { Err(ParseScopeError::Type) }
    }
}

impl fmt::Display for CredentialType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Scope {
    type Err = ParseScopeError;

    /// Reading is the only operation there is: `:read` after a type may be left out, anything else is refused.
    fn from_str(text: &str) -> Result<Self, ParseScopeError> {
        if MAX_SCOPE_BYTES < text.len() {
            return Err(ParseScopeError::TooLong { len_bytes: text.len() });
        }
        if let Some(rest) = text.strip_prefix(TYPE_ALIAS) {
            return rest.strip_suffix(READ).unwrap_or(rest).parse().map(Self::Type);
        }
        let id = text.strip_prefix(ID_ALIAS).ok_or(ParseScopeError::Alias)?;
        if id.is_empty() || id.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ParseScopeError::Id);
        }
        Ok(Self::Id(id.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type(kind) => write!(f, "{TYPE_ALIAS}{kind}{READ}"),
            Self::Id(id) => write!(f, "{ID_ALIAS}{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_reading_by_type_or_id_is_a_scope() {
        let membership = Scope::Type("MembershipCredential".parse().unwrap());
        assert_eq!("org.eclipse.dspace.dcp.vc.type:MembershipCredential:read".parse(), Ok(membership.clone()));
        assert_eq!("org.eclipse.dspace.dcp.vc.type:MembershipCredential".parse(), Ok(membership));
        assert_eq!("org.eclipse.dspace.dcp.vc.id:urn:uuid:1".parse(), Ok(Scope::Id("urn:uuid:1".to_owned())));
        for bad in [
            "",
            "MembershipCredential",
            "org.eclipse.dspace.dcp.vc.type:",
            "org.eclipse.dspace.dcp.vc.type:*:read",
            "org.eclipse.dspace.dcp.vc.type:M:write",
            "org.eclipse.dspace.dcp.vc.type:M:read:read",
            "org.eclipse.dspace.dcp.vc.type:1M",
            "org.eclipse.dspace.dcp.vc.id:",
            "org.eclipse.dspace.dcp.vc.id:a b",
            "org.eclipse.edc.vc.type:M:read",
        ] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
        assert!(format!("{ID_ALIAS}{}", "a".repeat(MAX_SCOPE_BYTES)).parse::<Scope>().is_err());
    }

    proptest! {
        #[test]
        fn a_scope_is_written_as_it_is_read(text in "(org.eclipse.dspace.dcp.vc.(type|id):)?[A-Za-z:._ -]{0,40}") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string().parse::<Scope>(), Ok(scope));
            }
        }
    }
}
