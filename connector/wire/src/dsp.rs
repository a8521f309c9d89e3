//! Messages of the Dataspace Protocol 2025-1 as JSON, and back.
//!
//! Read as plain JSON, as the specification allows ("Schemas & Contexts"): its schemas fix the shape. Members that
//! are not known are ignored; what is missing, misshapen or too large is refused with the path of the member.
//! Policies stay JSON here; [`crate::odrl`] reads them.

mod catalog;
mod envelope;
mod negotiation;
mod policy;
pub(crate) mod reader;
mod transfer;
mod version;

pub use catalog::{Catalog, CatalogEntry, CatalogRequest, DataService};
pub use envelope::{
    CONTEXT, CallbackUrl, ErrorKind, Explanation, InvalidCallback, MAX_CODE_BYTES, MAX_ID_BYTES, MAX_REASON_BYTES,
    MAX_REASONS, ProcessState, ProtocolError, event_digest,
};
pub use negotiation::{NegotiationBody, NegotiationMessage, NegotiationState};
pub use policy::{AgreementPart, MAX_RULES, OfferPart, rules_digest};
pub use reader::{DecodeError, Problem};
pub use transfer::{DataAddress, TransferBody, TransferMessage, TransferState};
pub use version::{MAX_VERSIONS, Version, decode_versions, encode_versions};
