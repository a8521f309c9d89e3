//! Durable evidence log with tiles, index and group commit.
