//! Negotiations and transfers: protocol machines driven by this node's rules.

mod answer;
pub mod driver;
pub mod handover;
pub mod kinds;
pub mod negotiation;
pub mod open;
pub mod row;
pub mod terms;
pub mod transfer;

pub use negotiation::Negotiations;
pub use transfer::Transfers;
