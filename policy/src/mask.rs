//! Column masks, in the vocabulary of Apache Iceberg's `ReadRestrictions` (apache/iceberg#13879).

use std::fmt;
use std::str::FromStr;

/// How a column is shown to the consumer. The data plane documents which column types each mask takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mask {
    /// Letters become `x`, digits `n`; everything else stays. NULL stays NULL.
    Alphanum,
    /// The first four characters stay, the others are masked. NULL stays NULL.
    ShowFirst4,
    /// The last four characters stay, the others are masked. NULL stays NULL.
    ShowLast4,
    /// Plain SHA-256 of the UTF-8 text, 64 lower-case hexadecimal digits; not keyed.
    ///
    /// Equal values stay equal everywhere, so tables can be joined. Whoever can list the possible values can undo it:
    /// it is a pseudonym, not anonymity. The profile's document says so.
    Sha256Global,
    /// A date or time becomes the first instant of its year.
    TruncateToYear,
    /// A date or time becomes the first instant of its month.
    TruncateToMonth,
    /// Every value becomes NULL.
    ReplaceWithNull,
    /// Every value, NULL included, becomes the type's default: 0, empty text, false, 1970-01-01.
    ToDefault,
}

/// Why a text names no mask.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseMaskError {
    /// No mask has this name.
    #[error("mask `{0}` is not known")]
    UnknownMask(String),
    /// Not `column=mask`, or the column is empty.
    #[error("column mask must be written `column=mask`")]
    NoColumn,
}

impl Mask {
    /// Every mask.
    pub const ALL: [Self; 8] = [
        Self::Alphanum,
        Self::ShowFirst4,
        Self::ShowLast4,
        Self::Sha256Global,
        Self::TruncateToYear,
        Self::TruncateToMonth,
        Self::ReplaceWithNull,
        Self::ToDefault,
    ];

    /// The name written in policies.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alphanum => "mask-alphanum",
            Self::ShowFirst4 => "show-first-4",
            Self::ShowLast4 => "show-last-4",
            Self::Sha256Global => "sha-256-global",
            Self::TruncateToYear => "truncate-to-year",
            Self::TruncateToMonth => "truncate-to-month",
            Self::ReplaceWithNull => "replace-with-null",
            Self::ToDefault => "mask-to-default",
        }
    }

    /// Reads `column=mask`; the column is everything before the last `=`, exactly as in the table's schema.
    ///
    /// # Errors
    /// [`ParseMaskError`] when there is no column or the mask is not known.
    pub fn parse_column(text: &str) -> Result<(String, Self), ParseMaskError> {
        let (column, name) = text.rsplit_once('=').ok_or(ParseMaskError::NoColumn)?;
        if column.is_empty() {
            return Err(ParseMaskError::NoColumn);
        }
        Ok((column.to_owned(), name.parse()?))
    }
}

impl FromStr for Mask {
    type Err = ParseMaskError;

    fn from_str(text: &str) -> Result<Self, ParseMaskError> {
        let found = Self::ALL.into_iter().find(|mask| mask.name() == text);
        found.ok_or_else(|| ParseMaskError::UnknownMask(text.to_owned()))
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_the_rest() {
        for mask in Mask::ALL {
            assert_eq!(Mask::parse_column(&format!("a=b={mask}")), Ok(("a=b".to_owned(), mask)));
        }
        for text in ["", "a", "=show-first-4", "a=", "a=sha-256", "a=Show-first-4"] {
            assert!(Mask::parse_column(text).is_err(), "{text}");
        }
    }
}
