//! The 18 characters that name a participant.

use std::str::FromStr;

use super::check::USCC_ALPHABET;
use super::{ParseCodeError, is_alphanumeric, shows_its_text, uscc_check_character};

/// A participant: a legal person by its unified social credit code, or a natural person by an encrypted number.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantCode {
    text: Box<str>, // Invariant: 18 characters `0-9A-Z`, checked by GB 32100 where they have its form.
}

/// What a participant code names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ParticipantKind {
    /// A legal person or other organisation: a valid unified social credit code.
    LegalPerson,
    /// A natural person: 18 characters that say nothing by themselves.
    NaturalPerson,
}

impl ParticipantCode {
    /// Length in characters.
    pub const LENGTH: usize = 18;

    /// The code of a legal person from the first 17 characters of its unified social credit code.
    ///
    /// # Errors
    /// [`ParseCodeError`] names the character that GB 32100 does not allow.
    pub fn legal_person(body: &str) -> Result<Self, ParseCodeError> {
        let check = uscc_check_character(body).unwrap_or('0');
        Self::parse_legal_person(&format!("{body}{check}"))
    }

    /// Reads a unified social credit code and nothing else.
    ///
    /// # Errors
    /// [`ParseCodeError`] for a wrong length, character or check character.
    pub fn parse_legal_person(text: &str) -> Result<Self, ParseCodeError> {
        let code = "participant";
        let character = |position, field| ParseCodeError::Character { code, field, position };
        let found = text.chars().count();
        if found != Self::LENGTH {
            return Err(ParseCodeError::Length { code, found, expected: "18" });
        }
        for (at, c) in text.chars().enumerate() {
            let (field, ok) = match at {
                0 | 1 => ("registration authority", is_uscc(c)),
                2..8 => ("region", c.is_ascii_digit()),
                8..17 => ("organisation", is_uscc(c)),
                _ => ("check", is_uscc(c)),
            };
            if !ok {
                return Err(character(at + 1, field));
            }
        }
        let matches = text.split_at_checked(17).is_some_and(|(body, check)| {
            uscc_check_character(body).is_some_and(|expected| check.starts_with(expected))
        });
        if matches { Ok(Self { text: text.into() }) } else { Err(ParseCodeError::Check { code, position: 18 }) }
    }

    /// The code of a natural person from the 18 characters of the encrypted number.
    ///
    /// About one number in ten thousand has the form of a unified social credit code. It is refused, so that every
    /// code reads back as what it was made as; encrypt again.
    ///
    /// # Errors
    /// [`ParseCodeError`] unless it is 18 characters `0-9A-Z` of another form.
    pub fn natural_person(encrypted: &str) -> Result<Self, ParseCodeError> {
        let code = "participant";
        let found = encrypted.chars().count();
        if found != Self::LENGTH {
            return Err(ParseCodeError::Length { code, found, expected: "18" });
        }
        if let Some(at) = encrypted.chars().position(|c| !is_one_alphanumeric(c)) {
            return Err(ParseCodeError::Character { code, field: "encrypted number", position: at + 1 });
        }
        if looks_like_legal_person(encrypted) {
            return Err(ParseCodeError::Value { code, field: "encrypted number", position: 1 });
        }
        Ok(Self { text: encrypted.into() })
    }

    /// What this code names, by its form.
    pub fn kind(&self) -> ParticipantKind {
        if looks_like_legal_person(&self.text) { ParticipantKind::LegalPerson } else { ParticipantKind::NaturalPerson }
    }
}

fn is_uscc(c: char) -> bool {
    u8::try_from(c).is_ok_and(|byte| USCC_ALPHABET.contains(&byte))
}

fn is_one_alphanumeric(c: char) -> bool {
    u8::try_from(c).is_ok_and(is_alphanumeric)
}

/// Whether the text has the form of a unified social credit code: its alphabet, and the region's six digits.
///
/// Such a text is held to GB 32100's check, so that a mistyped company is not taken for a person.
fn looks_like_legal_person(text: &str) -> bool {
    text.chars().all(is_uscc) && text.get(2..8).is_some_and(|region| region.bytes().all(|b| b.is_ascii_digit()))
}

impl FromStr for ParticipantCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        if looks_like_legal_person(text) { Self::parse_legal_person(text) } else { Self::natural_person(text) }
    }
}

shows_its_text!(ParticipantCode);
