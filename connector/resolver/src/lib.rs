//! DID resolution and guarded HTTP towards peers.
//!
//! In scope: [`Http`], a client that cannot be talked into reaching what its operator did not mean to expose, and
//! [`DidResolver`], which fetches and caches DID documents through it. Out of scope: what documents and tokens mean;
//! that is in `shuyu-credentials`.

pub mod cache;
pub mod guard;
pub mod http;

pub use cache::{DidResolver, ResolveError};
pub use guard::{AddressGuard, Network, ParseNetworkError, Refusal};
pub use http::{BuildHttpError, Http, HttpError, HttpOptions, Response};
