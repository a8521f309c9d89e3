//! Evidence statements, comparison of two parties, off-line audit bundles.
