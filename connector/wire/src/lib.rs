//! DSP, DCP, Data Plane Signaling and ODRL to domain types and back.

pub mod dcp;
pub mod dsp;
pub mod odrl;
pub mod signaling;
