//! DID resolution and guarded HTTP towards peers.
