//! DSP and ODRL JSON-LD to domain types and back.

pub mod dsp;
pub mod odrl;
