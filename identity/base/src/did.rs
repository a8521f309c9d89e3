//! Decentralized identifiers (DID Core 1.0, section 3.1).

use std::fmt;
use std::str::FromStr;

/// A participant's identifier, well-formed per DID Core 1.0 section 3.1.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Did(Box<str>); // Invariant: built only by `from_str`.

/// Why a text is not a DID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDidError {
    /// Longer than [`Did::MAX_BYTES`].
    #[error("did is {len_bytes} bytes, the limit is {}", Did::MAX_BYTES)]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Does not start with `did:`.
    #[error("did does not start with `did:`")]
    NoScheme,
    /// The method name is empty or has a character outside `a-z0-9`.
    #[error("did method must be lower-case letters and digits")]
    BadMethod,
    /// The method-specific identifier is empty, ends in `:` or has a character that is not allowed.
    #[error("did identifier is empty or has a character that is not allowed")]
    BadId,
}

impl Did {
    /// Longest DID accepted. did:jwk of a P-256 key is about 250 bytes; a host name is at most 253.
    pub const MAX_BYTES: usize = 1024;

    /// The DID as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The method, for example `web`.
    pub fn method(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }

    /// Everything after `did:<method>:`.
    pub fn id(&self) -> &str {
        self.0.splitn(3, ':').nth(2).unwrap_or_default()
    }
}

impl FromStr for Did {
    type Err = ParseDidError;

    fn from_str(text: &str) -> Result<Self, ParseDidError> {
        if Self::MAX_BYTES < text.len() {
            return Err(ParseDidError::TooLong { len_bytes: text.len() });
        }
        let rest = text.strip_prefix("did:").ok_or(ParseDidError::NoScheme)?;
        let (method, id) = rest.split_once(':').ok_or(ParseDidError::BadId)?;
        if method.is_empty() || !method.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) {
            return Err(ParseDidError::BadMethod);
        }
        if !is_method_specific_id(id) {
            return Err(ParseDidError::BadId);
        }
        Ok(Self(text.into()))
    }
}

/// `*( *idchar ":" ) 1*idchar` with `idchar = ALPHA / DIGIT / "." / "-" / "_" / pct-encoded`.
fn is_method_specific_id(id: &str) -> bool {
    if id.is_empty() || id.ends_with(':') {
        return false;
    }
    let mut bytes = id.bytes();
    while let Some(byte) = bytes.next() {
        let ok = match byte {
            b'%' => {
                let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                hex(bytes.next()) && hex(bytes.next())
            }
            b':' | b'.' | b'-' | b'_' => true,
            other => other.is_ascii_alphanumeric(),
        };
        if !ok {
            return false;
        }
    }
    true
}

impl fmt::Display for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Did {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_examples_of_did_core() {
        for text in
            ["did:example:123456789abcdefghi", "did:web:localhost%3A7101", "did:web:w3c-ccg.github.io:user:alice"]
        {
            let did: Did = text.parse().unwrap();
            assert_eq!(did.to_string(), text);
        }
        let did: Did = "did:web:localhost%3A7101:users".parse().unwrap();
        assert_eq!((did.method(), did.id()), ("web", "localhost%3A7101:users"));
    }

    #[test]
    fn refuses_what_is_not_a_did() {
        let long = format!("did:web:{}", "a".repeat(Did::MAX_BYTES));
        for text in [
            "",
            "did",
            "did:",
            "did:web",
            "did:web:",
            "did:Web:a",
            "did::a",
            "did:web:a:",
            "did:web:a b",
            "did:web:%4",
            "did:web:%zz",
            "did:web:a#k",
            "did:web:a/b",
            "did:web:é",
            &long,
        ] {
            assert!(text.parse::<Did>().is_err(), "{text}");
        }
    }
}
