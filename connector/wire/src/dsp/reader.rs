//! Reading JSON member by member, with the path of whatever is wrong.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};
use shuyu_contract_engine::Pid;

/// Why a message was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` {problem}")]
pub struct DecodeError {
    /// Where, for example `offer.permission[0].action`; `message` for the whole.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a member.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is not there.
    Missing,
    /// It must not be there.
    Unwanted,
    /// It is of another JSON type.
    NotA(&'static str),
    /// It is an empty text or list.
    Empty,
    /// It is a text over the limit.
    TooLong {
        /// Length found, in bytes.
        len_bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// It is a list over the limit.
    TooMany {
        /// Items found.
        found: usize,
        /// Items allowed.
        limit: usize,
    },
    /// It is not one of the values there are; the text says which.
    Unknown(String),
    /// It is not well-formed; the text says why.
    Invalid(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("is missing"),
            Self::Unwanted => f.write_str("must not be given here"),
            Self::NotA(what) => write!(f, "is not {what}"),
            Self::Empty => f.write_str("is empty"),
            Self::TooLong { len_bytes, max_bytes } => write!(f, "is {len_bytes} bytes, the limit is {max_bytes}"),
            Self::TooMany { found, limit } => write!(f, "has {found} items, the limit is {limit}"),
            Self::Unknown(expected) => write!(f, "is not {expected}"),
            Self::Invalid(why) => write!(f, "is not valid: {why}"),
        }
    }
}

/// A JSON value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct At<'a> {
    pub value: &'a Value,
    pub path: String,
}

/// A JSON object and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Object<'a> {
    pub members: &'a Map<String, Value>,
    path: String,
}

impl<'a> At<'a> {
    pub fn new(value: &'a Value) -> Self {
        Self { value, path: String::new() }
    }

    pub fn error(&self, problem: Problem) -> DecodeError {
        let path = if self.path.is_empty() { "message".to_owned() } else { self.path.clone() };
        DecodeError { path, problem }
    }

    pub fn object(self) -> Result<Object<'a>, DecodeError> {
        let Value::Object(members) = self.value else { return Err(self.error(Problem::NotA("an object"))) };
        Ok(Object { members, path: self.path })
    }

    /// A text of 1 to `max_bytes` bytes.
    pub fn text(&self, max_bytes: usize) -> Result<&'a str, DecodeError> {
        let text = self.value.as_str().ok_or_else(|| self.error(Problem::NotA("a text")))?;
        if text.is_empty() {
            return Err(self.error(Problem::Empty));
        }
        if max_bytes < text.len() {
            return Err(self.error(Problem::TooLong { len_bytes: text.len(), max_bytes }));
        }
        Ok(text)
    }

    pub fn parse<T: FromStr<Err: fmt::Display>>(&self, max_bytes: usize) -> Result<T, DecodeError> {
        self.text(max_bytes)?.parse().map_err(|error: T::Err| self.error(Problem::Invalid(error.to_string())))
    }

    /// The items of a list of at most `limit`.
    pub fn items(&self, limit: usize) -> Result<Vec<At<'a>>, DecodeError> {
        let items = self.value.as_array().ok_or_else(|| self.error(Problem::NotA("a list")))?;
        if limit < items.len() {
            return Err(self.error(Problem::TooMany { found: items.len(), limit }));
        }
        let at = |(index, value)| At { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(at).collect())
    }
}

impl<'a> Object<'a> {
    /// The member, if it is there and not null, which JSON-LD treats as absent.
    pub fn get(&self, name: &str) -> Option<At<'a>> {
        let value = self.members.get(name).filter(|value| !value.is_null())?;
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Some(At { value, path })
    }

    pub fn need(&self, name: &str) -> Result<At<'a>, DecodeError> {
        self.get(name).ok_or_else(|| self.error(name, Problem::Missing))
    }

    pub fn error(&self, name: &str, problem: Problem) -> DecodeError {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        DecodeError { path, problem }
    }

    pub fn text(&self, name: &str, max_bytes: usize) -> Result<&'a str, DecodeError> {
        self.need(name)?.text(max_bytes)
    }

    pub fn maybe_text(&self, name: &str, max_bytes: usize) -> Result<Option<String>, DecodeError> {
        self.get(name).map(|at| at.text(max_bytes).map(str::to_owned)).transpose()
    }

    pub fn pid(&self, name: &str) -> Result<Pid, DecodeError> {
        self.need(name)?.parse(Pid::MAX_BYTES)
    }

    pub fn maybe_pid(&self, name: &str) -> Result<Option<Pid>, DecodeError> {
        self.get(name).map(|at| at.parse(Pid::MAX_BYTES)).transpose()
    }

    /// The items of a list of at most `limit`, or none if the member is absent.
    pub fn maybe_items(&self, name: &str, limit: usize) -> Result<Vec<At<'a>>, DecodeError> {
        self.get(name).map_or(Ok(Vec::new()), |at| at.items(limit))
    }

    /// Checks `@type`.
    pub fn need_type(&self, expected: &str) -> Result<(), DecodeError> {
        if self.text("@type", super::MAX_ID_BYTES)? == expected {
            return Ok(());
        }
        Err(self.error("@type", Problem::Unknown(format!("`{expected}`"))))
    }
}
