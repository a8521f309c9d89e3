//! DID documents, strict JWS and self-issued tokens.
//!
//! In scope: [`DidDocument`] (DID Core 1.0), the methods did:key and did:jwk, the place of a did:web document,
//! compact JWS (RFC 7515) with the algorithm fixed by the key, and self-issued tokens in the shape of the
//! Decentralized Claims Protocol 1.0. Out of scope: fetching anything, and remembering which tokens were seen;
//! both need a network or a disk and live higher up.

pub mod document;
pub mod jws;
pub mod local;
pub mod token;
pub mod web;

pub use document::{DidDocument, ParseDocumentError, Relationship, Service, VerificationMethod};
pub use jws::{JwsError, Verified};
pub use local::{LocalDidError, did_jwk, did_key, local_document};
pub use token::{Claims, Draft, IssueError, TokenError};
pub use web::{Scheme, WebLocation, WebLocationError};
