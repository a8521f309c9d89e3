//! A witness's decision about a submitted checkpoint (C2SP tlog-witness v1.0.0, `add-checkpoint`), without its store.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::HashKind;

use crate::checkpoint::{Checkpoint, OpenCheckpointError, ParseCheckpointError, SignedCheckpoint};
use crate::cosignature::WitnessKey;
use crate::decimal;
use crate::merkle::{Hash, ProofError, empty_root, verify_consistency};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError};
use crate::policy::LogPolicy;

/// Most lines of a consistency proof.
pub const MAX_WITNESS_PROOF_LINES: usize = 63;

/// Largest request accepted, in bytes.
pub const MAX_ADD_CHECKPOINT_BYTES: usize = MAX_NOTE_BYTES + 8 * 1024;

/// A request: a checkpoint, and the proof that the one which the witness saw last is a prefix of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// The size that the proof starts from.
    pub old_size: u64,
    /// The consistency proof, empty from size 0.
    pub proof: Vec<Hash>,
    /// The checkpoint with its signatures.
    pub note: Note,
}

/// Why bytes are not such a request (status 400).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseAddCheckpointError {
    /// Longer than [`MAX_ADD_CHECKPOINT_BYTES`], not UTF-8, or without an empty line before the checkpoint.
    #[error("request is not text of at most {MAX_ADD_CHECKPOINT_BYTES} bytes with an empty line before the checkpoint")]
    Form,
    /// The first line is not `old <size>`.
    #[error("first line is not `old` and a decimal size")]
    Old,
    /// A proof line is not the base64 of 32 bytes, or there are more than [`MAX_WITNESS_PROOF_LINES`].
    #[error("consistency proof is not at most {MAX_WITNESS_PROOF_LINES} lines of base64 of 32 bytes")]
    Proof,
    /// The checkpoint is not a signed note.
    #[error("checkpoint is not a signed note: {0}")]
    Note(#[from] NoteError),
    /// The signed text is not a checkpoint.
    #[error("signed text is not a checkpoint: {0}")]
    Checkpoint(#[from] ParseCheckpointError),
}

/// The state that a witness keeps of one log: what it cosigned last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a checkpoint is not cosigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessRefusal {
    /// No trusted key of the log has signed it, or a line of one does not verify (status 403).
    #[error("checkpoint is not signed by a trusted key of its log: {0}")]
    Signature(#[from] OpenCheckpointError),
    /// The old size is above the checkpoint's (status 400).
    #[error("old size {old_size} is larger than the checkpoint's size {size}")]
    Order {
        /// The old size.
        old_size: u64,
        /// The size of the checkpoint.
        size: u64,
    },
    /// The old size is not that of the checkpoint cosigned last (status 409, with that size as the answer).
    #[error("the checkpoint cosigned last is of size {size}")]
    Stale {
        /// The size of the checkpoint cosigned last.
        size: u64,
    },
    /// A checkpoint of the same size with another root (status 422): the log has forked.
    #[error("another root was cosigned for size {size}: the log has forked")]
    Fork {
        /// The size.
        size: u64,
    },
    /// The proof does not show that the checkpoint continues what was cosigned (status 422).
    #[error("checkpoint is not shown to continue the one of size {old_size}: {source}")]
    Proof {
        /// The size cosigned last.
        old_size: u64,
        /// Why.
        source: ProofError,
    },
    /// An empty tree with another root than the hash of nothing, or a proof from nothing (status 422).
    #[error("an empty tree has one root and needs no proof")]
    Empty,
    /// The checkpoint carries this witness's own cosignature over a state that the witness does not know: its store
    /// was set back. It must not sign anything more.
    #[error(
        "checkpoint of size {size} carries this witness's cosignature, but its record ends at {known}: the witness was rolled back"
    )]
    RolledBack {
        /// Size of the checkpoint it cosigned once.
        size: u64,
        /// Size that its record knows.
        known: u64,
    },
}

impl AddCheckpoint {
    /// Reads a request.
    ///
    /// # Errors
    /// [`ParseAddCheckpointError`] names the part.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseAddCheckpointError> {
        let text = std::str::from_utf8(bytes).ok().filter(|text| text.len() <= MAX_ADD_CHECKPOINT_BYTES);
        let (head, note) = text.and_then(|text| text.split_once("\n\n")).ok_or(ParseAddCheckpointError::Form)?;
        let mut lines = head.split('\n');
        let old_size = lines.next().and_then(|line| decimal::parse(line.strip_prefix("old ")?));
        let old_size = old_size.ok_or(ParseAddCheckpointError::Old)?;
        let hash = |line: &str| Some(Hash(STANDARD.decode(line).ok()?.try_into().ok()?));
        let proof: Option<Vec<Hash>> = lines.map(hash).take(MAX_WITNESS_PROOF_LINES + 1).collect();
        let proof = proof.filter(|proof| proof.len() <= MAX_WITNESS_PROOF_LINES);
        let proof = proof.ok_or(ParseAddCheckpointError::Proof)?;
        let note = Note::parse(note.as_bytes())?;
        note.text().parse::<Checkpoint>()?;
        Ok(Self { old_size, proof, note })
    }

    /// The log that the checkpoint speaks of; nothing is verified.
    pub fn origin(&self) -> &str {
        self.note.text().split('\n').next().unwrap_or_default()
    }

    /// Decides whether the witness `own` may cosign the checkpoint, where `seen` is what it cosigned last of this log.
    ///
    /// The caller makes the returned state durable, in one step with having read `seen`, before it cosigns.
    ///
    /// # Errors
    /// [`WitnessRefusal`]; nothing may be cosigned then.
    pub fn decide(&self, log: &LogPolicy, own: &WitnessKey, seen: Option<&Seen>) -> Result<Seen, WitnessRefusal> {
        let signed = SignedCheckpoint::open_with(self.note.to_string().as_bytes(), log)?;
        let head = signed.checkpoint();
        let known = seen.map_or(0, |seen| seen.size);
        let is_own = own.cosignature(&self.note).map_err(OpenCheckpointError::from)?.is_some();
        let is_unknown = known < head.size || seen.is_some_and(|seen| seen.size == head.size && seen.root != head.root);
        if is_own && is_unknown {
            return Err(WitnessRefusal::RolledBack { size: head.size, known });
        }
        if head.size < self.old_size {
            return Err(WitnessRefusal::Order { old_size: self.old_size, size: head.size });
        }
        if self.old_size != known {
            return Err(WitnessRefusal::Stale { size: known });
        }
        let kind = log.tree_hash();
        let is_bad_empty = head.size == 0 && head.root != empty_root(kind);
        if is_bad_empty || (self.old_size == 0 && !self.proof.is_empty()) {
            return Err(WitnessRefusal::Empty);
        }
        self.continues(kind, seen, head)?;
        Ok(Seen { size: head.size, root: head.root })
    }

    fn continues(&self, kind: HashKind, seen: Option<&Seen>, head: &Checkpoint) -> Result<(), WitnessRefusal> {
        let Some(seen) = seen.filter(|seen| 0 < seen.size) else { return Ok(()) };
        if seen.size == head.size && seen.root != head.root {
            return Err(WitnessRefusal::Fork { size: head.size });
        }
        let proven = verify_consistency(kind, seen.size, &seen.root, head.size, &head.root, &self.proof);
        proven.map_err(|source| WitnessRefusal::Proof { old_size: seen.size, source })
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests;
