//! DSP, DCP and ODRL JSON-LD to domain types and back.

pub mod dcp;
pub mod dsp;
pub mod odrl;
