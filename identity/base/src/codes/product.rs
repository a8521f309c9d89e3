//! The 32 to 65 characters that name a data product or a data resource.

use std::str::FromStr;

use super::{ParseCodeError, ParticipantCode, PlaceCode, Reader, Serial, shows_its_text, with_check};

/// Longest extension after the bullet, in characters.
pub const MAX_EXTENSION_CHARS: usize = 32;

/// The bullet `•` (U+2022) between the code and its extension.
const BULLET: char = '\u{2022}';

/// A data product or a data resource. Only the first 32 characters are covered by the check character.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProductCode {
    text: Box<str>, // Invariant: 32 characters whose check fits, then nothing or a bullet and 1 to 32 characters.
    kind: ProductKind,
    owner: ParticipantCode,
}

/// What a product code names; the first character of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProductKind {
    /// `6`: a data product (产品).
    Product,
    /// `7`: a data resource (资源).
    Resource,
}

impl ProductKind {
    fn digit(self) -> char {
        match self {
            Self::Product => '6',
            Self::Resource => '7',
        }
    }
}

impl ProductCode {
    /// Length without an extension, in characters.
    pub const LENGTH: usize = 32;

    /// Puts the fields together and computes the check character.
    pub fn new(kind: ProductKind, owner: ParticipantCode, place: PlaceCode, serial: Serial) -> Self {
        let text = with_check(format!("{}{owner}{}{}", kind.digit(), place.as_str(), serial.as_str()));
        Self { text, kind, owner }
    }

    /// This code with another extension: 1 to [`MAX_EXTENSION_CHARS`] characters, none of them white space or control.
    ///
    /// # Errors
    /// [`ParseCodeError`] names the character or the length.
    pub fn with_extension(&self, extension: &str) -> Result<Self, ParseCodeError> {
        format!("{}{BULLET}{extension}", self.base()).parse()
    }

    /// What this code names.
    pub fn kind(&self) -> ProductKind {
        self.kind
    }

    /// The participant that owns the product.
    pub fn owner(&self) -> &ParticipantCode {
        &self.owner
    }

    /// The 32 characters without the extension.
    pub fn base(&self) -> &str {
        self.text.split(BULLET).next().unwrap_or_default()
    }

    /// What follows the bullet.
    pub fn extension(&self) -> Option<&str> {
        self.text.split_once(BULLET).map(|(_, extension)| extension)
    }
}

impl FromStr for ProductCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let code = "product";
        let (base, extension) = match text.split_once(BULLET) {
            Some((base, extension)) => (base, Some(extension)),
            None => (text, None),
        };
        let mut reader = Reader::new(code, "32, or 34 to 65", base, |length| length == Self::LENGTH)?;
        let kind = match reader.field("type", 1, |b| b.is_ascii_digit())? {
            "6" => ProductKind::Product,
            "7" => ProductKind::Resource,
            _ => return Err(reader.bad_value("type", 1)),
        };
        let owner = reader.participant()?;
        reader.place()?;
        reader.serial()?;
        reader.check()?;
        if let Some(extension) = extension {
            let length = extension.chars().count();
            if !(1..=MAX_EXTENSION_CHARS).contains(&length) {
                let found = Self::LENGTH + 1 + length;
                return Err(ParseCodeError::Length { code, found, expected: "32, or 34 to 65" });
            }
            let bad = |c: char| c.is_control() || c.is_whitespace() || c == BULLET;
            if let Some(at) = extension.chars().position(bad) {
                let position = Self::LENGTH + 1 + at + 1;
                return Err(ParseCodeError::Character { code, field: "extension", position });
            }
        }
        Ok(Self { text: text.into(), kind, owner })
    }
}

shows_its_text!(ProductCode);
