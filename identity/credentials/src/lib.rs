//! DID documents, strict JWS, self-issued tokens, and verifiable credentials with everything that decides about them.
//!
//! In scope: [`DidDocument`] (DID Core 1.0), the methods did:key and did:jwk, the place of a did:web document,
//! compact JWS (RFC 7515) with the algorithm fixed by the key, and the Decentralized Claims Protocol 1.0 as far as it is
//! data: self-issued tokens, scopes, [access tokens](access), [credentials](vc) and [presentations](vp) of both profiles,
//! [status lists](status), [schemas](schema), and the [verdict] over a presentation. Out of scope: fetching anything,
//! and remembering which tokens were seen; both need a network or a disk and live higher up.

pub mod access;
pub mod document;
pub mod facts;
pub mod gzip;
pub mod jws;
pub mod local;
pub mod schema;
pub mod scope;
pub mod status;
pub mod succession;
pub mod token;
pub mod vc;
pub mod verdict;
pub mod vp;
pub mod web;

pub use document::{DidDocument, ParseDocumentError, Relationship, Service, VerificationMethod};
pub use facts::Facts;
pub use jws::{JwsError, Verified};
pub use local::{LocalDidError, did_jwk, did_key, local_document};
pub use scope::{CredentialType, ParseScopeError, Scope};
pub use succession::{Succession, SuccessionError};
pub use token::{Claims, Draft, IssueError, TokenError};
pub use vc::{Credential, CredentialError, Profile};
pub use web::{Scheme, WebLocation, WebLocationError};
