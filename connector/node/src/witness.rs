//! Witnessing ledgers: the server that cosigns others (role `witness`), and the client that has ours cosigned.

pub mod cosigning;
pub mod desk;
mod high_water;

pub use cosigning::{Cosigning, Quorums};
pub use desk::{WitnessDesk, origin_hash, router};
