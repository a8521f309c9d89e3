//! A harness for stories between real `shuyu` processes on loopback.
//!
//! In scope: starting, killing and asking nodes; a participant of our own that may misbehave; killing a process at
//! a chosen effect. Out of scope: anything that a node does inside; these tests see what a stranger sees.
//!
//! The command is taken from `SHUYU_BIN`, else from beside the test executable.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a harness of tests: its failure is the failure of the test"
)]

pub mod clock;
pub mod effects;
pub mod node;
pub mod pages;
pub mod plane;
pub mod receiver;
pub mod rogue;
pub mod space;

pub use effects::KillPlan;
pub use node::{Answer, Certificates, Node, Ran, Wish, eventually};
pub use plane::{Mood, Plane};
pub use receiver::Receiver;
pub use rogue::Rogue;
pub use space::{Pair, constraint, policy};
