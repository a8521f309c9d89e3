//! National identifier codes of trusted data spaces (NDI-04), well-formed by construction.
//!
//! | Object | Layout |
//! |---|---|
//! | participant, 18 | unified social credit code (GB 32100), or a natural person's number after encryption |
//! | platform, connector, 32 | type, participant, place or trade 4, serial 8, check |
//! | product, resource, 32 to 65 | as above, then optionally `•` and an extension of at most 32 |
//! | contract, 47 | type, node type, participant, place or trade 4, time 14, serial 8, check |
//!
//! The check character is GB/T 17710 (ISO/IEC 7064) MOD 37-2 over everything before it in the code.

use std::fmt;
use std::str::FromStr;

mod check;
mod contract;
mod node;
mod participant;
mod product;

pub use check::{check_character, uscc_check_character};
pub use contract::{ContractCode, SignMode};
pub use node::{NodeCode, NodeKind};
pub use participant::{ParticipantCode, ParticipantKind};
pub use product::{MAX_EXTENSION_CHARS, ProductCode, ProductKind};

/// Why a text is not one of the codes. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCodeError {
    /// The length fits no layout.
    #[error("{code} code has {found} characters, not {expected}")]
    Length {
        /// Which code.
        code: &'static str,
        /// Length found, in characters.
        found: usize,
        /// Length or lengths allowed.
        expected: &'static str,
    },
    /// A character is outside the set its place allows.
    #[error("{code} code: character {position} is not allowed in field `{field}`")]
    Character {
        /// Which code.
        code: &'static str,
        /// The field the character is in.
        field: &'static str,
        /// Its place, from 1.
        position: usize,
    },
    /// A field has characters that are allowed but a value that is not.
    #[error("{code} code: field `{field}` at character {position} has a value that does not exist")]
    Value {
        /// Which code.
        code: &'static str,
        /// The field.
        field: &'static str,
        /// Place of its first character, from 1.
        position: usize,
    },
    /// The check character does not fit the characters before it.
    #[error("{code} code: check character at {position} does not fit, so a character is wrong")]
    Check {
        /// Which code.
        code: &'static str,
        /// Place of the check character, from 1.
        position: usize,
    },
}

/// The four characters that place a code: a region or a trade.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceCode([u8; 4]); // Invariant: four digits; if the first two are `00`, a trade of GB/T 4754.

impl PlaceCode {
    /// The first four digits of an administrative division (GB/T 2260), for example `5101` for Chengdu.
    pub fn region(digits: &str) -> Option<Self> {
        let code = Self::parse(digits)?;
        (!digits.starts_with("00")).then_some(code)
    }

    /// A division of economic activity (GB/T 4754), for example 55 for water transport; written `0055`.
    pub fn trade(division: u8) -> Option<Self> {
        (1..=99).contains(&division).then_some(Self([b'0', b'0', b'0' + division / 10, b'0' + division % 10]))
    }

    fn parse(digits: &str) -> Option<Self> {
        let bytes: [u8; 4] = digits.as_bytes().try_into().ok()?;
        (bytes.iter().all(u8::is_ascii_digit) && &bytes != b"0000").then_some(Self(bytes))
    }

    /// The four digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for PlaceCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Eight characters `0-9A-Z` that tell codes of one owner apart; the caller draws or counts them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Serial([u8; 8]); // Invariant: digits and upper-case letters.

impl Serial {
    /// The number written with 36 digits, `0-9A-Z`; only the lowest 36^8 values differ.
    pub fn from_number(mut number: u64) -> Self {
        const DIGITS: &[u8; 36] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let mut text = [b'0'; 8];
        for place in text.iter_mut().rev() {
            if let Some(digit) = DIGITS.get((number % 36) as usize) {
                *place = *digit;
            }
            number /= 36;
        }
        Self(text)
    }

    /// The eight characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Serial {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let mut reader = Reader::new("serial", "8", text, |length| length == 8)?;
        reader.serial()
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Takes a code apart field by field and remembers where it is.
struct Reader<'a> {
    code: &'static str,
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    /// `text` must be ASCII and of an allowed length; every code but a product's extension is.
    fn new(
        code: &'static str,
        expected: &'static str,
        text: &'a str,
        fits: impl Fn(usize) -> bool,
    ) -> Result<Self, ParseCodeError> {
        let found = text.chars().count();
        if !fits(found) {
            return Err(ParseCodeError::Length { code, found, expected });
        }
        if let Some(at) = text.chars().position(|c| !c.is_ascii()) {
            return Err(ParseCodeError::Character { code, field: "code", position: at + 1 });
        }
        Ok(Self { code, text, at: 0 })
    }

    fn field(
        &mut self,
        field: &'static str,
        length: usize,
        allowed: impl Fn(u8) -> bool,
    ) -> Result<&'a str, ParseCodeError> {
        let from = self.at;
        let part = self.text.get(from..from + length).unwrap_or_default();
        if let Some(at) = part.bytes().position(|b| !allowed(b)) {
            return Err(ParseCodeError::Character { code: self.code, field, position: from + at + 1 });
        }
        self.at += length;
        Ok(part)
    }

    /// An error about the value of the field of `length` characters read last.
    fn bad_value(&self, field: &'static str, length: usize) -> ParseCodeError {
        ParseCodeError::Value { code: self.code, field, position: self.at + 1 - length }
    }

    fn participant(&mut self) -> Result<ParticipantCode, ParseCodeError> {
        let from = self.at;
        let part = self.field("participant", ParticipantCode::LENGTH, is_alphanumeric)?;
        part.parse().map_err(|error| match error {
            ParseCodeError::Character { field, position, .. } => {
                ParseCodeError::Character { code: self.code, field, position: from + position }
            }
            ParseCodeError::Value { field, position, .. } => {
                ParseCodeError::Value { code: self.code, field, position: from + position }
            }
            ParseCodeError::Check { position, .. } => {
                ParseCodeError::Check { code: self.code, position: from + position }
            }
            ParseCodeError::Length { .. } => error,
        })
    }

    fn place(&mut self) -> Result<PlaceCode, ParseCodeError> {
        let part = self.field("region or trade", 4, |b| b.is_ascii_digit())?;
        PlaceCode::parse(part).ok_or_else(|| self.bad_value("region or trade", 4))
    }

    fn serial(&mut self) -> Result<Serial, ParseCodeError> {
        let part = self.field("serial", 8, is_alphanumeric)?;
        part.as_bytes().try_into().map(Serial).map_err(|_| self.bad_value("serial", 8))
    }

    fn check(&mut self) -> Result<(), ParseCodeError> {
        let body = self.text.get(..self.at).unwrap_or_default();
        let found = self.field("check", 1, |b| is_alphanumeric(b) || b == b'*')?;
        if check_character(body).is_some_and(|check| found.starts_with(check)) {
            return Ok(());
        }
        Err(ParseCodeError::Check { code: self.code, position: self.at })
    }
}

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_digit() || byte.is_ascii_uppercase()
}

/// `body` with its check character. The body is made of fields whose types allow nothing else.
fn with_check(mut body: String) -> Box<str> {
    if let Some(check) = check_character(&body) {
        body.push(check);
    }
    body.into_boxed_str()
}

/// `Display`, `Debug` and `as_str` for a code that keeps its text in field `text`.
macro_rules! shows_its_text {
    ($name:ident) => {
        impl $name {
            /// The code as text.
            pub fn as_str(&self) -> &str {
                &self.text
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.text)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.text)
            }
        }
    };
}
use shows_its_text;

#[cfg(test)]
mod tests;
