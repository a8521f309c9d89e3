//! Transparency-log formats: RFC 6962 trees, C2SP tiles, signed notes, checkpoints and proofs.
//!
//! In scope: hashing, proofs made and verified, the texts and file names of the C2SP documents
//! (signed-note v1.0.0, tlog-checkpoint v1.0.0, tlog-tiles v0.1.0, tlog-cosignature v1.0.1, tlog-witness v1.0.0, tlog-policy,
//! tlog-proof@v1), promises, COSE receipts (RFC 9942), re-verification of a whole log.
//! Out of scope: where the bytes come from. Nothing here reads a disk, a socket or a clock.
//!
//! tlog-tiles defines its hash as SHA-256; every tree function takes the [`HashKind`](shuyu_base::HashKind) so that
//! an SM3 twin can be built under an origin of its own. Which function a root is of, the key that signed it says
//! ([`SignatureKind`]): an SM2 key is named with the tree it signs, and Ed25519 signs SHA-256 trees only.

pub mod bundle;
pub mod checkpoint;
pub mod cosignature;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod promise;
pub mod proof;
pub mod quorum;
pub mod receipt;
pub mod tile;
pub mod verify;
pub mod witness;

mod decimal;

pub use bundle::{BundleError, MAX_ENTRY_BYTES, read_bundle, write_bundle};
pub use checkpoint::{Checkpoint, OpenCheckpointError, ParseCheckpointError, SignCheckpointError, SignedCheckpoint};
pub use cosignature::{CosignError, Cosignature, WitnessKey, WitnessSigner};
pub use merkle::{
    Hash, HashSource, ProofError, ProveError, Tree, empty_root, leaf_hash, node_hash, prove_consistency,
    prove_inclusion, root_of_inclusion, subtree_root, verify_consistency, verify_inclusion,
};
pub use note::{
    Note, NoteError, NoteSignature, NoteSigner, OpenNoteError, ParseVkeyError, SignatureKind, Vkey, read_signatures,
};
pub use policy::{Demand, LogPolicy, LogPolicyError};
pub use promise::{Promise, PromiseProof, SignedPromise, VerifyPromiseError};
pub use proof::{InclusionProof, ParseProofError, VerifyProofError};
pub use quorum::{ParsePolicyError, PolicyLog, PolicyWitness, WitnessPolicy};
pub use receipt::{ParseReceiptError, Receipt, ReceiptClaims, SignReceiptError, VerifyReceiptError};
pub use tile::{ParseTilePathError, Tile, TileHashes, TilePath, new_tiles, tiles_of};
pub use verify::{LogFault, LogVerifier};
pub use witness::{AddCheckpoint, Seen, WitnessRefusal};
