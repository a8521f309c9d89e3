//! What a consumer asks of a catalogue.
//!
//! The `filter` of a DSP Catalog Request Message is "implementation-specific"; ours is a list of conditions that
//! must all hold, `[{"property": "keyword", "operator": "=", "value": "energy"}]`, with these words:
//!
//! | property | operators | holds if |
//! |---|---|---|
//! | `text` | `contains` | every word is in the title, description or a keyword, in any case |
//! | `id`, `title`, `publisher`, `productCode` | `=`, `in`, `contains` | the text is, is one of, or has the value |
//! | `keyword`, `format`, `field` | `=`, `in`, `contains` | so for at least one of them (`field`: a column name) |
//! | `issued` | `>=`, `<=` | the time of publication is not before, not after the value (RFC 3339) |

use shuyu_base::{Digest, UnixMillis};

use crate::cursor::Cursor;
use crate::dataset::Dataset;

/// A bounded question; make one with [`Query::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    filters: Vec<Filter>,
    limit: usize,
    after: Option<Cursor>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Every word occurs in the title, the description or a keyword; lower case, without empty words.
    Words(Vec<String>),
    /// The property compares so with the values: one value, or several for [`Operator::In`].
    Text {
        /// What is compared.
        property: Property,
        /// How.
        operator: Operator,
        /// With what.
        values: Vec<String>,
    },
    /// Published at that time or later.
    IssuedFrom(UnixMillis),
    /// Published at that time or earlier.
    IssuedUntil(UnixMillis),
}

/// A property that is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// The identifier.
    Id,
    /// The title.
    Title,
    /// The publisher's DID.
    Publisher,
    /// The national data product code.
    ProductCode,
    /// Any keyword.
    Keyword,
    /// Any transfer format.
    Format,
    /// Any column name.
    Field,
}

/// A comparison of texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal to the value.
    Equal,
    /// Equal to one of the values.
    In,
    /// Has the value as a part, in any case.
    Contains,
}

/// Why a query was refused. Nothing is ignored silently.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidQuery {
    /// More conditions than [`Query::MAX_FILTERS`].
    #[error("`filter` has {found} conditions, the limit is {}", Query::MAX_FILTERS)]
    TooManyFilters {
        /// Conditions found.
        found: usize,
    },
    /// More values than [`Query::MAX_VALUES`], or none.
    #[error("`value` has {found} items, it must have 1 to {}", Query::MAX_VALUES)]
    Values {
        /// Values found.
        found: usize,
    },
    /// A value is empty or longer than [`Query::MAX_VALUE_BYTES`].
    #[error("`value` must have 1 to {} bytes", Query::MAX_VALUE_BYTES)]
    Value,
    /// The page size is 0 or over [`Query::MAX_LIMIT`].
    #[error("`limit` is {found}, it must be 1 to {}", Query::MAX_LIMIT)]
    Limit {
        /// The size asked for.
        found: usize,
    },
    /// No such property.
    #[error(
        "property `{property}` is not known; there are text, id, title, publisher, productCode, keyword, format, field, issued"
    )]
    UnknownProperty {
        /// The word found.
        property: String,
    },
    /// The property has no such operator.
    #[error("property `{property}` has no operator `{operator}`")]
    UnknownOperator {
        /// The property.
        property: String,
        /// The word found.
        operator: String,
    },
    /// Not an RFC 3339 time.
    #[error("`{value}` is not an RFC 3339 time")]
    Time {
        /// The value found.
        value: String,
    },
}

impl Filter {
    /// A condition from its words (see the module's table).
    ///
    /// # Errors
    /// [`InvalidQuery`] names the word.
    pub fn new(property: &str, operator: &str, values: &[&str]) -> Result<Self, InvalidQuery> {
        if values.is_empty() || Query::MAX_VALUES < values.len() {
            return Err(InvalidQuery::Values { found: values.len() });
        }
        if values.iter().any(|value| value.is_empty() || Query::MAX_VALUE_BYTES < value.len()) {
            return Err(InvalidQuery::Value);
        }
        let unknown = || InvalidQuery::UnknownOperator { property: cut(property), operator: cut(operator) };
        let one = || match values {
            [value] => Ok(*value),
            _ => Err(InvalidQuery::Values { found: values.len() }),
        };
        let text = |property| {
            let operator = match operator {
                "=" => Operator::Equal,
                "in" => Operator::In,
                "contains" => Operator::Contains,
                _ => return Err(unknown()),
            };
            let values = match operator {
                Operator::In => values.iter().map(|value| (*value).to_owned()).collect(),
                Operator::Equal => vec![one()?.to_owned()],
                Operator::Contains => vec![one()?.to_lowercase()],
            };
            Ok(Self::Text { property, operator, values })
        };
        match property {
            "text" if operator == "contains" => Ok(Self::words(one()?)),
            "text" => Err(unknown()),
            "id" => text(Property::Id),
            "title" => text(Property::Title),
            "publisher" => text(Property::Publisher),
            "productCode" => text(Property::ProductCode),
            "keyword" => text(Property::Keyword),
            "format" => text(Property::Format),
            "field" => text(Property::Field),
            "issued" => {
                let value = one()?;
                let time =
                    UnixMillis::from_rfc3339(value).ok_or_else(|| InvalidQuery::Time { value: value.to_owned() })?;
                match operator {
                    ">=" => Ok(Self::IssuedFrom(time)),
                    "<=" => Ok(Self::IssuedUntil(time)),
                    _ => Err(unknown()),
                }
            }
            _ => Err(InvalidQuery::UnknownProperty { property: cut(property) }),
        }
    }

    fn words(text: &str) -> Self {
        Self::Words(text.to_lowercase().split_whitespace().map(str::to_owned).collect())
    }

    fn holds(&self, dataset: &Dataset, haystack: &str) -> bool {
        match self {
            Self::Words(words) => words.iter().all(|word| haystack.contains(word.as_str())),
            Self::IssuedFrom(time) => *time <= dataset.issued,
            Self::IssuedUntil(time) => dataset.issued <= *time,
            Self::Text { property, operator, values } => {
                let any = |text: &str| match operator {
                    Operator::Equal | Operator::In => values.iter().any(|value| value == text),
                    Operator::Contains => {
                        let text = text.to_lowercase();
                        values.iter().any(|value| text.contains(value.as_str()))
                    }
                };
                match property {
                    Property::Id => any(&dataset.id),
                    Property::Title => any(&dataset.title),
                    Property::Publisher => any(dataset.publisher.as_str()),
                    Property::ProductCode => dataset.product_code.as_deref().is_some_and(any),
                    Property::Keyword => dataset.keywords.iter().any(|keyword| any(keyword)),
                    Property::Format => dataset.distributions.iter().any(|distribution| any(&distribution.format)),
                    Property::Field => dataset.fields.iter().any(|field| any(&field.name)),
                }
            }
        }
    }
}

impl Query {
    /// Most conditions in one query.
    pub const MAX_FILTERS: usize = 16;
    /// Most values of one condition.
    pub const MAX_VALUES: usize = 64;
    /// Longest value, in bytes; as long as the longest DID.
    pub const MAX_VALUE_BYTES: usize = 1024;
    /// Most entries on a page.
    pub const MAX_LIMIT: usize = 500;
    /// Entries on a page where the consumer does not say.
    pub const DEFAULT_LIMIT: usize = 100;

    /// A query: conditions that must all hold, the page size, and where the page before ended.
    ///
    /// # Errors
    /// [`InvalidQuery`] if there are too many conditions or the page size is out of bounds.
    pub fn new(filters: Vec<Filter>, limit: usize, after: Option<Cursor>) -> Result<Self, InvalidQuery> {
        if Self::MAX_FILTERS < filters.len() {
            return Err(InvalidQuery::TooManyFilters { found: filters.len() });
        }
        if limit == 0 || Self::MAX_LIMIT < limit {
            return Err(InvalidQuery::Limit { found: limit });
        }
        Ok(Self { filters, limit, after })
    }

    /// Most entries on the page.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Where the page before ended.
    pub fn after(&self) -> Option<&Cursor> {
        self.after.as_ref()
    }

    /// Names the conditions, not the page: a cursor belongs to one fingerprint.
    pub(crate) fn fingerprint(&self) -> Digest {
        // Debug quotes and escapes its texts, so different conditions never print alike.
        Digest::sha256(format!("{:?}", self.filters).as_bytes())
    }

    /// Whether all conditions hold. `haystack` is the lower-case text of the entry.
    pub(crate) fn holds(&self, dataset: &Dataset, haystack: &str) -> bool {
        self.filters.iter().all(|filter| filter.holds(dataset, haystack))
    }
}

/// The first 64 characters of a foreign word, for a message.
fn cut(word: &str) -> String {
    word.chars().take(64).collect()
}
