//! The data plane: a contract's tables, readable by Flight SQL and by HTTP, and by nothing that goes around a `Permit`.
//!
//! - [`Gate`] is the seam: the node authenticates, decides, counts and records; the data plane obeys.
//! - A governed table is scan → policy filter → masks → opaque barrier. See `barrier` and `reference/data-plane.md` A1.
//! - [`flight_service`] and [`serve_flight`] speak Arrow Flight SQL; [`pull_router`] serves downloads with ranges and resume.
//! - [`remote`] is the consumer's side.
//!
//! Out of scope: who may ask (floor 4), what the policy says (`shuyu-policy`), time and memory as side channels.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enums of Arrow, DataFusion and sqlparser are matched by what is allowed; whatever they grow is refused"
)]

mod barrier;
mod bucket;
mod clock;
mod deliver;
mod door;
mod edge;
mod flight;
mod gate;
mod governed;
mod guard;
mod mask;
mod meter;
mod predicate;
mod pull;
mod query;
pub mod remote;
mod safe;
mod source;
mod spool;
mod ticket;

pub use barrier::BATCH_ROWS;
pub use bucket::{Bucket, BucketError};
pub use deliver::{BatchMark, EndMark};
pub use flight::{FlightSql, PURPOSE_HEADER, ServeError, flight_service, serve_flight};
pub use gate::{
    Ask, Caller, Form, Format, Gate, Grant, Outcome, ParseFormError, Receipt, Refused, RefusedCode, SharedGate,
    StreamStanding, TableSource,
};
pub use guard::{GuardError, MAX_SQL_BYTES, admit};
pub use pull::{Pull, pull_router};
pub use query::{Engine, Planned, QueryError, QueryLimits, StartError};
pub use source::{MAX_FILES, SourceError, schema_from_bytes, schema_to_bytes};
pub use spool::{Spool, SpoolError, SpoolLimits};
pub use ticket::{MAX_TICKET_BYTES, TICKET_LIFETIME_MS, Ticket, TicketError};
