//! Stories between real nodes. Each starts processes of its own; `SHUYU_BIN` names the command.
#![expect(clippy::expect_used, reason = "a failure of a helper is the failure of its test")]

mod crash;
mod exchange;
mod hostile;
mod operator;
mod pull;
mod quota;
mod revocation;
mod sql;
mod tickets;
mod tls;
mod tokens;
