//! Eclipse Data Plane Signaling 1.0: our data plane under a foreign control plane, and foreign data planes under ours.
//!
//! [`Flows`] are what a foreign control plane leads here. It registers the agreement it made with a consumer, the flow
//! names it, and every use goes through the gate and its policy as under our own contracts. A [`Lead`] is one of our
//! transfers whose data a foreign data plane gives or takes; the [`Conductor`] tells it what the transfer has come to,
//! again and again until it acknowledges. A foreign data plane enforces the contract by itself: we evidence that it was
//! let, and when it acknowledged that it must stop, not what it did.

mod conductor;
mod flows;
mod lead;
mod planes;
mod server;

pub use conductor::Conductor;
pub use flows::{Flows, NewAgreement};
pub use lead::{Begin, Lead};
pub use planes::{Authorization, DataPlane};
pub use server::{Signaling, router};
