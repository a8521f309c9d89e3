//! The data plane as its clients see it: real servers on loopback, a real policy, real files.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test stops at the first surprise")]

mod fixture;
mod flight;
mod hidden_rows;
mod limits;
mod pull;
mod remote;
