//! Stories between real nodes. Each starts processes of its own; `SHUYU_BIN` names the command.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failure of a helper is the failure of its test"
)]

mod attacks;
mod bad_claims;
mod claims;
mod contracts;
mod crash;
mod credentials;
mod events;
mod exchange;
mod follow;
mod hostile;
mod management;
mod operator;
mod privacy;
mod pull;
mod quota;
mod revocation;
mod signaling;
mod silence;
mod sql;
mod suites;
mod tickets;
mod tls;
mod tokens;
mod witness;
