//! Catalogue entries, filters and paging.
//!
//! In scope: what a dataset entry says, a bounded query over entries, and pages with opaque cursors.
//! Out of scope: JSON (the wire crate), policy text (an offer is an identifier and a digest here), who may see
//! which entry (the node gives [`Catalog::search`] a test), the network.
//!
//! Specification: Dataspace Protocol 2025-1, "Catalog Protocol"; the filter is ours, as it allows.

pub mod catalog;
pub mod cursor;
pub mod dataset;
pub mod query;

pub use catalog::{Catalog, Page, SearchError};
pub use cursor::{Cursor, CursorError};
pub use dataset::{Dataset, Distribution, Field, InvalidDataset, OfferRef};
pub use query::{Filter, InvalidQuery, Operator, Property, Query};
