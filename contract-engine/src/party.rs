//! The two roles of a process, and the identifiers each gives to it.

use std::fmt;
use std::str::FromStr;

/// A role in a negotiation or transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Party {
    /// Offers the dataset.
    Provider,
    /// Asks for the dataset.
    Consumer,
}

impl Party {
    /// The other role.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Provider => Self::Consumer,
            Self::Consumer => Self::Provider,
        }
    }

    /// `provider` or `consumer`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Consumer => "consumer",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One party's identifier of a process (`providerPid`, `consumerPid`): visible text without white space.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pid(Box<str>); // Invariant: built only by `from_str`.

/// Why a text is not a process identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePidError {
    /// Empty.
    #[error("process identifier is empty")]
    Empty,
    /// Longer than [`Pid::MAX_BYTES`].
    #[error("process identifier is {len_bytes} bytes, the limit is {}", Pid::MAX_BYTES)]
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Has white space or a control character, which no IRI has (RFC 3987).
    #[error("process identifier has white space or a control character")]
    BadCharacter,
}

impl Pid {
    /// Longest identifier accepted; `urn:uuid:` identifiers have 45 bytes, URLs of other connectors more.
    pub const MAX_BYTES: usize = 256;

    /// The identifier as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Pid {
    type Err = ParsePidError;

    fn from_str(text: &str) -> Result<Self, ParsePidError> {
        if text.is_empty() {
            return Err(ParsePidError::Empty);
        }
        if Self::MAX_BYTES < text.len() {
            return Err(ParsePidError::TooLong { len_bytes: text.len() });
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(ParsePidError::BadCharacter);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_bounded_visible_text() {
        assert!("urn:uuid:a343fcbf-99fc-4ce8-8e9b-148c97605aab".parse::<Pid>().is_ok());
        assert!("过程-1".parse::<Pid>().is_ok());
        for text in ["", " ", "a b", "a\n", "a\u{0}", "a\u{3000}b", &"x".repeat(Pid::MAX_BYTES + 1)] {
            assert!(text.parse::<Pid>().is_err(), "{text:?}");
        }
    }
}
