//! The words every other crate is written in: identifiers, keys, digests, times and bounded JSON.
//!
//! In scope: value types that are well-formed once they exist, and the two signature suites.
//! Out of scope: anything that reads a clock, a disk, a socket or a random source.

pub mod codes;
pub mod did;
pub mod digest;
pub mod json;
pub mod keys;
pub mod time;

pub use codes::{ContractCode, NodeCode, ParseCodeError, ParticipantCode, ProductCode};
pub use did::{Did, ParseDidError};
pub use digest::{Digest, HashKind, ParseDigestError};
pub use keys::{PublicKey, SecretKey, Suite, VerifyError};
pub use time::UnixMillis;
