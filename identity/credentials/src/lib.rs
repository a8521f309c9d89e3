//! DID documents, strict JWS and self-issued tokens.
