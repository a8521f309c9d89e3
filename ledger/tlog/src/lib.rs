//! C2SP transparency log formats: Merkle tree, tiles, notes, checkpoints, proofs.
