//! Checkpoints: a log's signed tree head (C2SP tlog-checkpoint v1.0.0).

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::HashKind;

use crate::decimal;
use crate::merkle::Hash;
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, NoteSigner, OpenNoteError, Vkey};
use crate::policy::{Demand, LogPolicy, LogPolicyError};

/// Longest origin accepted, in bytes: a host name, a port and a path.
pub const MAX_ORIGIN_BYTES: usize = 1024;

/// What a log says about itself at one moment: its name, how many entries it has, and the root over them.
///
/// Extension lines under the three are read past: they are not auditable, and our logs write none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log, on one line, not empty.
    pub origin: String,
    /// How many entries it has, below 2^63.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Why a text is not a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseCheckpointError {
    /// Fewer than three lines, an empty line, no newline at the end, or too long.
    #[error("checkpoint is not three or more lines, none empty")]
    Lines,
    /// The first line is longer than [`MAX_ORIGIN_BYTES`].
    #[error("checkpoint origin is longer than {MAX_ORIGIN_BYTES} bytes")]
    Origin,
    /// The second line is not a number without leading zeros below 2^63.
    #[error("checkpoint tree size is not a decimal number below 2^63 without leading zeros")]
    Size,
    /// The third line is not the base64 of 32 bytes.
    #[error("checkpoint root is not the base64 of 32 bytes")]
    Root,
}

impl FromStr for Checkpoint {
    type Err = ParseCheckpointError;

    fn from_str(text: &str) -> Result<Self, ParseCheckpointError> {
        if MAX_NOTE_BYTES < text.len() {
            return Err(ParseCheckpointError::Lines);
        }
        let body = text.strip_suffix('\n').ok_or(ParseCheckpointError::Lines)?;
        let mut lines = body.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(ParseCheckpointError::Lines);
        };
        if origin.is_empty() || lines.any(str::is_empty) {
            return Err(ParseCheckpointError::Lines);
        }
        if MAX_ORIGIN_BYTES < origin.len() {
            return Err(ParseCheckpointError::Origin);
        }
        let size = decimal::parse(size).ok_or(ParseCheckpointError::Size)?;
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let root = Hash(root.ok_or(ParseCheckpointError::Root)?);
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.size, self.root)
    }
}

/// A checkpoint whose log signature has been verified, with the bytes that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    checkpoint: Checkpoint,
    tree_hash: HashKind,
    bytes: Vec<u8>,
}

/// Why a signed checkpoint is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenCheckpointError {
    /// Not a signed note.
    #[error("checkpoint is not a signed note")]
    Note(#[from] NoteError),
    /// The text is not a checkpoint.
    #[error("signed text is not a checkpoint")]
    Checkpoint(#[from] ParseCheckpointError),
    /// The log's key has not signed it.
    #[error("checkpoint is not signed by the log's key")]
    Signature(#[from] OpenNoteError),
    /// It speaks of another log than the key's.
    #[error("checkpoint is of log `{found}`, the key is of `{wanted}`")]
    Origin {
        /// The origin line.
        found: String,
        /// The name of the key.
        wanted: String,
    },
}

/// Why a checkpoint was not signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignCheckpointError {
    /// The keys are not those of one log.
    #[error("keys cannot sign one checkpoint")]
    Keys(#[from] LogPolicyError),
    /// The name cannot stand in a note.
    #[error("checkpoint is no note")]
    Note(#[from] NoteError),
}

impl OpenCheckpointError {
    /// Whether the bytes could not even be read, so that nothing was verified.
    pub fn is_unreadable(&self) -> bool {
        match self {
            Self::Note(_) | Self::Checkpoint(_) => true,
            Self::Signature(_) | Self::Origin { .. } => false,
        }
    }
}

impl SignedCheckpoint {
    /// Reads a signed checkpoint and verifies it with the key of the log, whose name must be the origin.
    ///
    /// # Errors
    /// [`OpenCheckpointError`].
    pub fn open(bytes: &[u8], log: &Vkey) -> Result<Self, OpenCheckpointError> {
        Self::open_with(bytes, &LogPolicy::of(log.clone()))
    }

    /// Reads a signed checkpoint and verifies that it carries the signatures which the policy of the log demands.
    ///
    /// # Errors
    /// [`OpenCheckpointError`].
    pub fn open_with(bytes: &[u8], policy: &LogPolicy) -> Result<Self, OpenCheckpointError> {
        let note = Note::parse(bytes)?;
        let checkpoint: Checkpoint = note.text().parse()?;
        policy.check(&note)?;
        if checkpoint.origin != policy.origin() {
            let wanted = policy.origin().to_owned();
            return Err(OpenCheckpointError::Origin { found: checkpoint.origin, wanted });
        }
        Ok(Self { checkpoint, tree_hash: policy.tree_hash(), bytes: bytes.to_vec() })
    }

    /// Signs the head of the log whose name is the signer's.
    ///
    /// # Errors
    /// As [`Self::sign_all`].
    pub fn sign(signer: &NoteSigner, size: u64, root: Hash) -> Result<Self, SignCheckpointError> {
        Self::sign_all(std::slice::from_ref(signer), size, root)
    }

    /// Signs the head of a log with all of its keys, in their order.
    ///
    /// # Errors
    /// [`SignCheckpointError`] if the keys are not those of one log, or its name cannot stand in a note.
    pub fn sign_all(signers: &[NoteSigner], size: u64, root: Hash) -> Result<Self, SignCheckpointError> {
        let keys = signers.iter().map(|signer| signer.vkey().clone()).collect();
        let policy = LogPolicy::new(keys, Demand::All)?;
        let checkpoint = Checkpoint { origin: policy.origin().to_owned(), size, root };
        let note = Note::sign(checkpoint.to_string(), &signers.iter().collect::<Vec<_>>())?;
        Ok(Self { checkpoint, tree_hash: policy.tree_hash(), bytes: note.to_string().into_bytes() })
    }

    /// The function that hashes the log's tree, as the key says.
    pub fn tree_hash(&self) -> HashKind {
        self.tree_hash
    }

    /// What was signed.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The whole note, to be kept or passed on as it is.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SignatureKind;
    use proptest::prelude::*;
    use shuyu_base::keys::{SecretKey, Suite};
    use std::sync::Arc;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    /// The example of tlog-checkpoint (its key is not published, so only the text is checked).
    #[test]
    fn the_example_of_the_specification_is_read() {
        let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n");
        let checkpoint: Checkpoint = text.parse().unwrap();
        assert_eq!((checkpoint.origin.as_str(), checkpoint.size), ("example.com/behind-the-sofa", 20_852_163));
        assert_eq!(checkpoint.to_string(), text);
        assert!(format!("{text}extension\n").parse::<Checkpoint>().is_ok());
    }

    #[test]
    fn malformed_checkpoints_are_refused() {
        for text in [
            String::new(),
            "a\n1\n".to_owned(),
            format!("a\n1\n{ROOT}"),
            format!("\n1\n{ROOT}\n"),
            format!("a\n01\n{ROOT}\n"),
            format!("a\n-1\n{ROOT}\n"),
            format!("a\n9223372036854775808\n{ROOT}\n"),
            format!("a\n1\n{ROOT}\n\n"),
            format!("a\n1\n{ROOT}\n\nx\n"),
            "a\n1\nAAAA\n".to_owned(),
            format!("a\n1\n{}\n", ROOT.replace('=', "")),
            format!("{}\n1\n{ROOT}\n", "a".repeat(MAX_ORIGIN_BYTES + 1)),
        ] {
            assert!(text.parse::<Checkpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_log_itself_can_sign_its_head() {
        let key = |seed| Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap());
        let ours = NoteSigner::new("example.com/log", key(1)).unwrap();
        let other = NoteSigner::new("example.com/other", key(1)).unwrap();
        let signed = SignedCheckpoint::sign(&ours, 5, Hash([9; 32])).unwrap();
        assert_eq!(SignedCheckpoint::open(signed.bytes(), ours.vkey()).unwrap(), signed);
        assert!(SignedCheckpoint::open(signed.bytes(), other.vkey()).is_err());
        // The other log's key over our origin is refused too.
        let note = Note::sign(signed.checkpoint().to_string(), &[&other]).unwrap().to_string();
        let error = SignedCheckpoint::open(note.as_bytes(), other.vkey()).unwrap_err();
        assert!(matches!(error, OpenCheckpointError::Origin { .. }) && !error.is_unreadable());
    }

    #[test]
    fn a_stripped_line_is_missed_where_all_are_demanded() {
        let secret = |suite| Arc::new(SecretKey::from_seed(suite, &[3; 32]).unwrap());
        let kind = SignatureKind::Sm2(HashKind::Sha256);
        let signers = [
            NoteSigner::new("example.com/log", secret(Suite::Ed25519)).unwrap(),
            NoteSigner::of_kind("example.com/log", kind, secret(Suite::Sm2)).unwrap(),
        ];
        let keys: Vec<Vkey> = signers.iter().map(|signer| signer.vkey().clone()).collect();
        let signed = SignedCheckpoint::sign_all(&signers, 5, Hash([9; 32])).unwrap();
        let [any, all] = [Demand::Any, Demand::All].map(|demand| LogPolicy::new(keys.clone(), demand).unwrap());
        for policy in [&any, &all] {
            assert_eq!(SignedCheckpoint::open_with(signed.bytes(), policy).unwrap(), signed);
        }
        // Whoever knows one of the two keys accepts it, as the format asks.
        assert!(keys.iter().all(|key| SignedCheckpoint::open(signed.bytes(), key).is_ok()));
        let text = String::from_utf8(signed.bytes().to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (gone, name) in [(5, "SM2 over a SHA-256 tree"), (4, "Ed25519")] {
            let stripped: String =
                lines.iter().enumerate().filter(|(at, _)| *at != gone).map(|(_, line)| format!("{line}\n")).collect();
            assert!(SignedCheckpoint::open_with(stripped.as_bytes(), &any).is_ok());
            let error = SignedCheckpoint::open_with(stripped.as_bytes(), &all).unwrap_err();
            assert!(
                matches!(&error, OpenCheckpointError::Signature(OpenNoteError::Missing { kind, .. }) if kind.to_string() == name)
            );
            assert!(!error.is_unreadable());
        }
        // The same SM2 key over the same text, but for the twin: another id, so its line does not count.
        let twin =
            NoteSigner::of_kind("example.com/log", SignatureKind::Sm2(HashKind::Sm3), secret(Suite::Sm2)).unwrap();
        let mixed = Note::sign(signed.checkpoint().to_string(), &[&signers[0], &twin]).unwrap().to_string();
        assert!(SignedCheckpoint::open_with(mixed.as_bytes(), &all).is_err());
        assert!(SignedCheckpoint::sign_all(&[signers[0].clone(), twin], 5, Hash([9; 32])).is_err());
        assert!(SignedCheckpoint::sign_all(&[], 5, Hash([9; 32])).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[a-z0-9=\n]{0,80}") {
            let _ = text.parse::<Checkpoint>();
        }
    }
}
