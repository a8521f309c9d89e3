//! Proof files: an entry's place in a log, verifiable off line (C2SP tlog-proof@v1).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::checkpoint::{OpenCheckpointError, SignedCheckpoint};
use crate::decimal;
use crate::merkle::{Hash, MAX_PROOF_HASHES, ProofError, leaf_hash, verify_inclusion};
use crate::note::{MAX_NOTE_BYTES, Vkey};
use crate::policy::LogPolicy;

/// The first line of a proof file.
const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Longest extra data accepted, in bytes: an entry of the log fits.
pub const MAX_EXTRA_BYTES: usize = 65_535;

/// Longest proof file accepted, in bytes.
pub const MAX_PROOF_BYTES: usize = MAX_NOTE_BYTES + 2 * MAX_EXTRA_BYTES;

/// A proof file as read: nothing in it is verified until [`InclusionProof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InclusionProof {
    /// Data of the application, not authenticated. We put nothing here.
    pub extra: Option<Vec<u8>>,
    /// The entry's place in the log, from 0.
    pub index: u64,
    /// Hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
    /// The signed checkpoint, verbatim.
    pub checkpoint: String,
}

/// Why bytes are not a proof file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseProofError {
    /// Longer than [`MAX_PROOF_BYTES`] or not UTF-8.
    #[error("proof is longer than {MAX_PROOF_BYTES} bytes or not text")]
    NotText,
    /// The first line is not `c2sp.org/tlog-proof@v1`.
    #[error("proof does not start with `{HEADER}`")]
    Header,
    /// The `extra` line is not base64 or too long.
    #[error("`extra` line is not base64 of at most {MAX_EXTRA_BYTES} bytes")]
    Extra,
    /// The `index` line is missing or not a number.
    #[error("`index` line is missing or not a decimal number without leading zeros")]
    Index,
    /// A hash line is malformed, or there are more than [`MAX_PROOF_HASHES`].
    #[error("proof hashes are malformed or more than {MAX_PROOF_HASHES}")]
    Hashes,
    /// No empty line with a checkpoint after it.
    #[error("proof has no checkpoint after an empty line")]
    Checkpoint,
}

/// Why a proof does not show that the entry is in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyProofError {
    /// The checkpoint is not one of this log.
    #[error("checkpoint of the proof is not believed")]
    Checkpoint(#[from] OpenCheckpointError),
    /// The hashes do not lead from the entry to the root.
    #[error("entry is not where the proof says")]
    Proof(#[from] ProofError),
}

impl InclusionProof {
    /// Reads a proof file.
    ///
    /// # Errors
    /// [`ParseProofError`] names the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseProofError> {
        if MAX_PROOF_BYTES < bytes.len() {
            return Err(ParseProofError::NotText);
        }
        std::str::from_utf8(bytes).map_err(|_| ParseProofError::NotText)?.parse()
    }

    /// Checks that `entry` is in the log of `key` at the index the proof says; returns the checkpoint that shows it.
    ///
    /// # Errors
    /// [`VerifyProofError`].
    pub fn verify(&self, entry: &[u8], key: &Vkey) -> Result<SignedCheckpoint, VerifyProofError> {
        self.verify_with(entry, &LogPolicy::of(key.clone()))
    }

    /// As [`Self::verify`], where the checkpoint must carry what `policy` demands.
    ///
    /// tlog-proof says that the hashes are of SHA-256; a file of the same form for the SM3 twin verifies with the twin's
    /// key and with no other, since the key says which function it is.
    ///
    /// # Errors
    /// [`VerifyProofError`].
    pub fn verify_with(&self, entry: &[u8], policy: &LogPolicy) -> Result<SignedCheckpoint, VerifyProofError> {
        let signed = SignedCheckpoint::open_with(self.checkpoint.as_bytes(), policy)?;
        let (kind, head) = (signed.tree_hash(), signed.checkpoint());
        verify_inclusion(kind, &leaf_hash(kind, entry), self.index, head.size, &self.path, &head.root)?;
        Ok(signed)
    }
}

impl FromStr for InclusionProof {
    type Err = ParseProofError;

    fn from_str(text: &str) -> Result<Self, ParseProofError> {
        let (head, checkpoint) = text.split_once("\n\n").ok_or(ParseProofError::Checkpoint)?;
        if checkpoint.is_empty() {
            return Err(ParseProofError::Checkpoint);
        }
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(ParseProofError::Header);
        }
        let mut extra = None;
        if let Some(encoded) = lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            let bytes = STANDARD.decode(encoded).ok().filter(|bytes| bytes.len() <= MAX_EXTRA_BYTES);
            extra = Some(bytes.ok_or(ParseProofError::Extra)?);
            lines.next();
        }
        let index = lines.next().and_then(|line| decimal::parse(line.strip_prefix("index ")?));
        let index = index.ok_or(ParseProofError::Index)?;
        let mut path = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            path.push(Hash(hash.ok_or(ParseProofError::Hashes)?));
            if MAX_PROOF_HASHES < path.len() {
                return Err(ParseProofError::Hashes);
            }
        }
        Ok(Self { extra, index, path, checkpoint: checkpoint.to_owned() })
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", STANDARD.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Tree, node_hash};
    use crate::note::{NoteSigner, SignatureKind};
    use proptest::prelude::*;
    use shuyu_base::HashKind;
    use shuyu_base::keys::{SecretKey, Suite};
    use std::sync::Arc;

    fn example() -> (InclusionProof, Vkey) {
        let kind = HashKind::Sha256;
        let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap());
        let signer = NoteSigner::new("example.com/log", key).unwrap();
        let leaves = [b"a", b"b", b"c"].map(|entry| leaf_hash(kind, entry));
        let mut tree = Tree::new(kind);
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        let signed = SignedCheckpoint::sign(&signer, 3, tree.root()).unwrap();
        let checkpoint = String::from_utf8(signed.bytes().to_vec()).unwrap();
        let path = vec![node_hash(kind, &leaves[0], &leaves[1])];
        (InclusionProof { extra: None, index: 2, path, checkpoint }, signer.vkey().clone())
    }

    #[test]
    fn a_proof_file_round_trips_and_verifies() {
        let (mut proof, key) = example();
        for extra in [None, Some(b"x".to_vec())] {
            proof.extra = extra;
            assert_eq!(InclusionProof::parse(proof.to_string().as_bytes()), Ok(proof.clone()));
            assert_eq!(proof.verify(b"c", &key).unwrap().checkpoint().size, 3);
        }
        assert!(proof.verify(b"b", &key).is_err());
        let moved = InclusionProof { index: 1, ..proof.clone() };
        assert!(moved.verify(b"c", &key).is_err());
        let forged = InclusionProof { checkpoint: proof.checkpoint.replace("\n3\n", "\n4\n"), ..proof };
        assert!(matches!(forged.verify(b"c", &key), Err(VerifyProofError::Checkpoint(_))));
    }

    #[test]
    fn a_proof_of_the_twin_is_none_of_the_log() {
        let kind = HashKind::Sm3;
        let secret = Arc::new(SecretKey::from_seed(Suite::Sm2, &[1; 32]).unwrap());
        let [twin, log] = [HashKind::Sm3, HashKind::Sha256].map(|tree| {
            NoteSigner::of_kind("example.com/log-sm3", SignatureKind::Sm2(tree), Arc::clone(&secret)).unwrap()
        });
        let leaves = [b"a", b"b"].map(|entry| leaf_hash(kind, entry));
        let root = node_hash(kind, &leaves[0], &leaves[1]);
        let proof = |signer: &NoteSigner| {
            let signed = SignedCheckpoint::sign(signer, 2, root).unwrap();
            let checkpoint = String::from_utf8(signed.bytes().to_vec()).unwrap();
            InclusionProof { extra: None, index: 0, path: vec![leaves[1]], checkpoint }
        };
        assert!(proof(&twin).verify(b"a", twin.vkey()).is_ok());
        assert!(matches!(proof(&twin).verify(b"a", log.vkey()), Err(VerifyProofError::Checkpoint(_))));
        // An SM3 root signed as one of SHA-256 leads nowhere.
        assert!(matches!(proof(&log).verify(b"a", log.vkey()), Err(VerifyProofError::Proof(_))));
    }

    #[test]
    fn malformed_proof_files_are_refused() {
        let text = example().0.to_string();
        for (from, to) in [
            ("@v1", "@v2"),
            ("index 2", "index 02"),
            ("index 2", "index -2"),
            ("index 2\n", ""),
            ("index 2", "extra !\nindex 2"),
            ("index 2", "index 2\nAAAA"),
            ("\n\nexample", "\nexample"),
        ] {
            let bad = text.replacen(from, to, 1);
            assert_ne!(bad, text);
            assert!(bad.parse::<InclusionProof>().is_err(), "{bad}");
        }
        let long = text.replacen("index 2", &format!("index 2{}", format!("\n{}", Hash([0; 32])).repeat(64)), 1);
        assert_eq!(long.parse::<InclusionProof>(), Err(ParseProofError::Hashes));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), lines in "[a-z0-9= \n]{0,60}",
        ) {
            let _ = InclusionProof::parse(&bytes);
            let _ = format!("{HEADER}\n{lines}").parse::<InclusionProof>();
        }
    }
}
