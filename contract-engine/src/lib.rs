//! Negotiation and transfer machines of the Dataspace Protocol 2025-1, without input or output.
