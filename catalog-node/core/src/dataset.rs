//! What a catalogue says about a dataset.

use shuyu_base::{Did, Digest, UnixMillis};

/// An entry of a catalogue. Plain data: [`Dataset::check`] is the gate, and [`crate::Catalog::insert`] uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// The identifier, unique in the catalogue.
    pub id: String,
    /// A name for people.
    pub title: String,
    /// What the dataset holds, for people; may be empty.
    pub description: String,
    /// Words to find it by.
    pub keywords: Vec<String>,
    /// When it was first published.
    pub issued: UnixMillis,
    /// Who answers for it.
    pub publisher: Did,
    /// The terms on which it may be had; at least one (DSP 2025-1, `hasPolicy`).
    pub offers: Vec<OfferRef>,
    /// How it may be had; at least one (DSP 2025-1, `distribution`).
    pub distributions: Vec<Distribution>,
    /// Its columns, if it is a table.
    pub fields: Vec<Field>,
    /// Its national data product code.
    pub product_code: Option<String>,
}

/// An offer on a dataset; the policy itself is kept by the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferRef {
    /// The identifier a contract request quotes.
    pub id: String,
    /// Digest of the rules.
    pub policy_digest: Digest,
}

/// One way to have a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The transfer format, for example `HttpData-PULL`.
    pub format: String,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, as the data plane names it.
    pub kind: String,
}

/// Why a dataset cannot be an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidDataset {
    /// A text that must not be empty is.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A text is too long.
    #[error("`{field}` is {len_bytes} bytes, the limit is {max_bytes}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Length found, in bytes.
        len_bytes: usize,
        /// The limit, in bytes.
        max_bytes: usize,
    },
    /// A list is too long.
    #[error("`{field}` has {found} items, the limit is {limit}")]
    TooMany {
        /// The list.
        field: &'static str,
        /// Items found.
        found: usize,
        /// Items allowed.
        limit: usize,
    },
    /// Two offers have the same identifier.
    #[error("`offers` has `{id}` twice")]
    DuplicateOffer {
        /// The identifier.
        id: String,
    },
}

impl Dataset {
    /// Longest identifier of a dataset or offer, as in the protocol messages that quote it.
    pub const MAX_ID_BYTES: usize = 256;
    /// Longest title, keyword, format, column name, column type or code.
    pub const MAX_NAME_BYTES: usize = 256;
    /// Longest description: about two pages.
    pub const MAX_DESCRIPTION_BYTES: usize = 8 * 1024;
    /// Most keywords, offers or distributions.
    pub const MAX_ITEMS: usize = 64;
    /// Most columns; wide scientific tables have some thousands.
    pub const MAX_FIELDS: usize = 4096;

    /// Checks presence and bounds.
    ///
    /// # Errors
    /// [`InvalidDataset`] names the field.
    pub fn check(&self) -> Result<(), InvalidDataset> {
        text("id", &self.id, 1, Self::MAX_ID_BYTES)?;
        text("title", &self.title, 1, Self::MAX_NAME_BYTES)?;
        text("description", &self.description, 0, Self::MAX_DESCRIPTION_BYTES)?;
        list("keywords", self.keywords.len(), 0, Self::MAX_ITEMS)?;
        list("offers", self.offers.len(), 1, Self::MAX_ITEMS)?;
        list("distributions", self.distributions.len(), 1, Self::MAX_ITEMS)?;
        list("fields", self.fields.len(), 0, Self::MAX_FIELDS)?;
        for keyword in &self.keywords {
            text("keywords", keyword, 1, Self::MAX_NAME_BYTES)?;
        }
        for distribution in &self.distributions {
            text("distributions.format", &distribution.format, 1, Self::MAX_NAME_BYTES)?;
        }
        for field in &self.fields {
            text("fields.name", &field.name, 1, Self::MAX_NAME_BYTES)?;
            text("fields.kind", &field.kind, 1, Self::MAX_NAME_BYTES)?;
        }
        for (index, offer) in self.offers.iter().enumerate() {
            text("offers.id", &offer.id, 1, Self::MAX_ID_BYTES)?;
            if self.offers.iter().take(index).any(|earlier| earlier.id == offer.id) {
                return Err(InvalidDataset::DuplicateOffer { id: offer.id.clone() });
            }
        }
        match &self.product_code {
            Some(code) => text("product_code", code, 1, Self::MAX_NAME_BYTES),
            None => Ok(()),
        }
    }
}

fn text(field: &'static str, text: &str, min_bytes: usize, max_bytes: usize) -> Result<(), InvalidDataset> {
    if text.len() < min_bytes {
        return Err(InvalidDataset::Empty { field });
    }
    if max_bytes < text.len() {
        return Err(InvalidDataset::TooLong { field, len_bytes: text.len(), max_bytes });
    }
    Ok(())
}

fn list(field: &'static str, found: usize, min: usize, limit: usize) -> Result<(), InvalidDataset> {
    if found < min {
        return Err(InvalidDataset::Empty { field });
    }
    if limit < found {
        return Err(InvalidDataset::TooMany { field, found, limit });
    }
    Ok(())
}
