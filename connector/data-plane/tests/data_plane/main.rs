//! The data plane as its clients see it: real servers on loopback, a real policy, real files.

mod fixture;
mod flight;
mod hidden_rows;
mod limits;
mod pull;
mod remote;
