//! Catalogue entries, filters and paging.
