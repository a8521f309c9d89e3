//! Promises: a log's signed word, given when entries are durable, that a checkpoint will cover them by a deadline.
//!
//! The C2SP documents know none; the Signed Certificate Timestamp of RFC 6962 section 3.2 is the model. One signature
//! covers a batch: the note names the batch by the Merkle root over its leaf hashes, and each entry gets the hashes that
//! lead there ([`PromiseProof`]). The note's first line is no origin of ours, so it is never taken for a checkpoint.
//!
//! ```text
//! w3id.org/shuyu/promise/v1
//! <origin>
//! <index of the first entry> <how many>
//! <base64 of the root over their leaf hashes>
//! <deadline, seconds since 1970>
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::HashKind;

use crate::checkpoint::MAX_ORIGIN_BYTES;
use crate::decimal;
use crate::merkle::{Hash, MAX_PROOF_HASHES, ProofError, Tree, leaf_hash, verify_inclusion};
use crate::note::{MAX_NOTE_BYTES, Note, NoteError, NoteSigner, OpenNoteError, SignatureKind, Vkey};

/// The first line of the signed text.
const HEADER: &str = "w3id.org/shuyu/promise/v1";

/// The first line of a proof file.
const PROOF_HEADER: &str = "w3id.org/shuyu/promise-proof/v1";

/// Most entries under one promise.
pub const MAX_PROMISED_ENTRIES: u64 = 1 << 20;

/// Longest proof file accepted, in bytes.
pub const MAX_PROMISE_BYTES: usize = 16 * 1024;

/// A promised batch is hashed as every Ed25519-signed tree is.
const KIND: HashKind = HashKind::Sha256;

/// What a log promises about a batch of durable entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The name of the log.
    pub origin: String,
    /// Index of the batch's first entry.
    pub first: u64,
    /// How many entries, 1 to [`MAX_PROMISED_ENTRIES`].
    pub count: u64,
    /// The root of the tree over their leaf hashes alone.
    pub root: Hash,
    /// By when a checkpoint covers them, in seconds since 1970.
    pub deadline_s: u64,
}

/// A promise with the proof that one entry is in its batch, as read: nothing is verified until [`Self::verify`].
///
/// The file: `w3id.org/shuyu/promise-proof/v1`, `index <N>`, hashes in base64, an empty line, the signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromiseProof {
    /// The entry's place in the log.
    pub index: u64,
    /// Hashes from the leaf's sibling up to the root of the batch.
    pub path: Vec<Hash>,
    /// The signed note, verbatim.
    pub note: String,
}

/// Why a text is not a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePromiseError {
    /// Longer than [`MAX_PROMISE_BYTES`], or not text.
    #[error("promise is longer than {MAX_PROMISE_BYTES} bytes or not text")]
    NotText,
    /// Not the five lines, or the first is another.
    #[error("promise is not five lines below `{HEADER}`")]
    Lines,
    /// The origin is empty or longer than [`MAX_ORIGIN_BYTES`].
    #[error("promise names no origin of at most {MAX_ORIGIN_BYTES} bytes")]
    Origin,
    /// The third line is not two numbers, or the batch is empty, too large or past 2^63.
    #[error("promise names no batch of 1 to {MAX_PROMISED_ENTRIES} entries below 2^63")]
    Batch,
    /// The fourth line is not the base64 of 32 bytes.
    #[error("promise root is not the base64 of 32 bytes")]
    Root,
    /// The fifth line is not a number below 2^63.
    #[error("promise deadline is not a decimal number below 2^63")]
    Deadline,
    /// The `index` line is missing or not a number.
    #[error("`index` line is missing or not a decimal number without leading zeros")]
    Index,
    /// A hash line is malformed, or there are more than [`MAX_PROOF_HASHES`].
    #[error("hashes of the promise are malformed or more than {MAX_PROOF_HASHES}")]
    Hashes,
    /// No note follows.
    #[error("promise has no note after an empty line")]
    Note,
}

/// Why a promise says nothing about an entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyPromiseError {
    /// Not a signed note.
    #[error("promise is not a signed note")]
    Note(#[from] NoteError),
    /// The text is no promise.
    #[error("signed text is not a promise")]
    Promise(#[from] ParsePromiseError),
    /// The log's Ed25519 key has not signed it.
    #[error("promise is not signed by the log's key")]
    Signature(#[from] OpenNoteError),
    /// The key is not of Ed25519.
    #[error("promises are signed with Ed25519, the key signs with {kind}")]
    Key {
        /// How the key signs.
        kind: SignatureKind,
    },
    /// It speaks of another log than the key's.
    #[error("promise is of log `{found}`, the key is of `{wanted}`")]
    Origin {
        /// The origin in the promise.
        found: String,
        /// The name of the key.
        wanted: String,
    },
    /// The index lies outside the batch.
    #[error("entry {index} is outside the promised batch")]
    Outside {
        /// The index.
        index: u64,
    },
    /// The hashes do not lead from the entry to the root of the batch.
    #[error("entry is not in the promised batch")]
    Proof(#[from] ProofError),
}

impl Promise {
    /// Promises a batch that begins at `first`; returns one proof for each leaf, or nothing if the note cannot be made.
    ///
    /// # Errors
    /// [`NoteError`] when the key's name cannot stand in a note; [`NoteError::NoSignatures`] for an empty batch.
    pub fn sign(signer: &NoteSigner, first: u64, leaves: &[Hash], deadline_s: u64) -> Result<SignedPromise, NoteError> {
        let count = leaves.len() as u64;
        if count == 0 || MAX_PROMISED_ENTRIES < count {
            return Err(NoteError::NoSignatures);
        }
        let mut tree = Tree::new(KIND);
        // Every perfect subtree, level by level: what the proofs are made of.
        let mut levels: Vec<Vec<Hash>> = Vec::new();
        for leaf in leaves {
            tree.push_with(*leaf, |level, _, hash| {
                let level = level as usize;
                if levels.len() <= level {
                    levels.resize_with(level + 1, Vec::new);
                }
                if let Some(hashes) = levels.get_mut(level) {
                    hashes.push(hash);
                }
            });
        }
        let origin = signer.vkey().name().to_owned();
        let promise = Self { origin, first, count, root: tree.root(), deadline_s };
        let note = Note::sign(promise.to_string(), &[signer])?.to_string();
        Ok(SignedPromise { first, count, levels, note })
    }

    /// Index behind the batch's last entry.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// A signed promise with what the proofs of its entries are made of.
#[derive(Clone, Debug)]
pub struct SignedPromise {
    first: u64,
    count: u64,
    levels: Vec<Vec<Hash>>,
    note: String,
}

impl SignedPromise {
    /// The proof for the entry at `index`; `None` outside the batch.
    pub fn proof(&self, index: u64) -> Option<PromiseProof> {
        let at = index.checked_sub(self.first)?;
        let source = Levels(&self.levels);
        let path = crate::merkle::prove_inclusion(KIND, at, self.count, &source).ok()?;
        Some(PromiseProof { index, path, note: self.note.clone() })
    }
}

struct Levels<'a>(&'a [Vec<Hash>]);

impl crate::merkle::HashSource for Levels<'_> {
    type Error = ();

    fn hash(&self, level: u32, index: u64) -> Result<Hash, ()> {
        let hashes = self.0.get(usize::try_from(level).map_err(drop)?).ok_or(())?;
        hashes.get(usize::try_from(index).map_err(drop)?).copied().ok_or(())
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, first, count, root, deadline_s } = self;
        writeln!(f, "{HEADER}\n{origin}\n{first} {count}\n{root}\n{deadline_s}")
    }
}

impl FromStr for Promise {
    type Err = ParsePromiseError;

    fn from_str(text: &str) -> Result<Self, ParsePromiseError> {
        if MAX_PROMISE_BYTES < text.len() {
            return Err(ParsePromiseError::NotText);
        }
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(ParsePromiseError::Lines)?.split('\n').collect();
        let [HEADER, origin, batch, root, deadline] = lines.as_slice() else { return Err(ParsePromiseError::Lines) };
        if origin.is_empty() || MAX_ORIGIN_BYTES < origin.len() {
            return Err(ParsePromiseError::Origin);
        }
        let batch = batch.split_once(' ').and_then(|(a, b)| Some((decimal::parse(a)?, decimal::parse(b)?)));
        let fits = |(first, count): &(u64, u64)| {
            (1..=MAX_PROMISED_ENTRIES).contains(count) && first.checked_add(*count).is_some_and(|end| end < 1 << 63)
        };
        let (first, count) = batch.filter(fits).ok_or(ParsePromiseError::Batch)?;
        let root = hash_of(root).ok_or(ParsePromiseError::Root)?;
        let deadline_s = decimal::parse(deadline).ok_or(ParsePromiseError::Deadline)?;
        Ok(Self { origin: (*origin).to_owned(), first, count, root, deadline_s })
    }
}

fn hash_of(line: &str) -> Option<Hash> {
    STANDARD.decode(line).ok()?.try_into().ok().map(Hash)
}

impl PromiseProof {
    /// Reads a proof file.
    ///
    /// # Errors
    /// [`ParsePromiseError`] names the line.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParsePromiseError> {
        if MAX_PROMISE_BYTES < bytes.len() {
            return Err(ParsePromiseError::NotText);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ParsePromiseError::NotText)?;
        let (head, note) = text.split_once("\n\n").ok_or(ParsePromiseError::Note)?;
        if note.is_empty() || MAX_NOTE_BYTES < note.len() {
            return Err(ParsePromiseError::Note);
        }
        let mut lines = head.split('\n');
        if lines.next() != Some(PROOF_HEADER) {
            return Err(ParsePromiseError::Lines);
        }
        let index = lines.next().and_then(|line| decimal::parse(line.strip_prefix("index ")?));
        let index = index.ok_or(ParsePromiseError::Index)?;
        let path = lines.map(hash_of).take(MAX_PROOF_HASHES + 1).collect::<Option<Vec<_>>>();
        let path = path.filter(|path| path.len() <= MAX_PROOF_HASHES).ok_or(ParsePromiseError::Hashes)?;
        Ok(Self { index, path, note: note.to_owned() })
    }

    /// Checks that the log of `key` promised `entry` at this index; returns the promise.
    ///
    /// # Errors
    /// [`VerifyPromiseError`].
    pub fn verify(&self, entry: &[u8], key: &Vkey) -> Result<Promise, VerifyPromiseError> {
        if key.kind() != SignatureKind::Ed25519 {
            return Err(VerifyPromiseError::Key { kind: key.kind() });
        }
        let note = Note::parse(self.note.as_bytes())?;
        note.verify_all(std::slice::from_ref(key))?;
        let promise: Promise = note.text().parse()?;
        if promise.origin != key.name() {
            return Err(VerifyPromiseError::Origin { found: promise.origin, wanted: key.name().to_owned() });
        }
        let at = self.index.checked_sub(promise.first).filter(|at| *at < promise.count);
        let at = at.ok_or(VerifyPromiseError::Outside { index: self.index })?;
        verify_inclusion(KIND, &leaf_hash(KIND, entry), at, promise.count, &self.path, &promise.root)?;
        Ok(promise)
    }
}

impl fmt::Display for PromiseProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{PROOF_HEADER}\nindex {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SignedCheckpoint;
    use proptest::prelude::*;
    use shuyu_base::keys::{SecretKey, Suite};
    use std::sync::Arc;

    fn signer(seed: u8) -> NoteSigner {
        let key = SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap();
        NoteSigner::new("example.com/log", Arc::new(key)).unwrap()
    }

    fn leaves(entries: &[Vec<u8>]) -> Vec<Hash> {
        entries.iter().map(|entry| leaf_hash(KIND, entry)).collect()
    }

    #[test]
    fn a_promise_binds_log_place_entry_and_deadline() {
        let entries: Vec<Vec<u8>> = (0..5_u8).map(|n| vec![n; 3]).collect();
        let signed = Promise::sign(&signer(1), 100, &leaves(&entries), 1_800_000_000).unwrap();
        let proof = signed.proof(103).unwrap();
        let key = signer(1).vkey().clone();
        let promise = proof.verify(&entries[3], &key).unwrap();
        assert_eq!((promise.first, promise.count, promise.end(), promise.deadline_s), (100, 5, 105, 1_800_000_000));
        assert!(matches!(proof.verify(&entries[2], &key), Err(VerifyPromiseError::Proof(_))));
        assert!(matches!(proof.verify(&entries[3], signer(2).vkey()), Err(VerifyPromiseError::Signature(_))));
        let moved = PromiseProof { index: 105, ..proof.clone() };
        assert!(matches!(moved.verify(&entries[3], &key), Err(VerifyPromiseError::Outside { index: 105 })));
        assert!(matches!(
            PromiseProof { index: 99, ..proof.clone() }.verify(&entries[3], &key),
            Err(VerifyPromiseError::Outside { index: 99 })
        ));
        let later = PromiseProof { note: proof.note.replace("1800000000", "1800000001"), ..proof };
        assert!(matches!(later.verify(&entries[3], &key), Err(VerifyPromiseError::Signature(_))));
        assert_eq!((signed.proof(99), signed.proof(105)), (None, None));
        assert!(Promise::sign(&signer(1), 0, &[], 1).is_err());
    }

    #[test]
    fn a_promise_is_no_checkpoint_and_a_checkpoint_no_promise() {
        let signed = Promise::sign(&signer(1), 0, &leaves(&[vec![1]]), 1).unwrap();
        let proof = signed.proof(0).unwrap();
        let key = signer(1).vkey().clone();
        assert!(SignedCheckpoint::open(proof.note.as_bytes(), &key).is_err());
        let head = SignedCheckpoint::sign(&signer(1), 1, Hash([0; 32])).unwrap();
        let forged = PromiseProof { note: String::from_utf8_lossy(head.bytes()).into_owned(), ..proof };
        assert!(matches!(forged.verify(&[1], &key), Err(VerifyPromiseError::Promise(ParsePromiseError::Lines))));
    }

    #[test]
    fn each_bad_line_is_named() {
        let root = Hash([0; 32]);
        let good = format!("{HEADER}\no\n0 1\n{root}\n9\n");
        assert!(good.parse::<Promise>().is_ok());
        let cases = [
            (good.replace("/v1", "/v2"), ParsePromiseError::Lines),
            (format!("{good}x\n"), ParsePromiseError::Lines),
            (good.replace("\no\n", "\n\n"), ParsePromiseError::Origin),
            (good.replace("0 1", "0 0"), ParsePromiseError::Batch),
            (good.replace("0 1", "9223372036854775807 1"), ParsePromiseError::Batch),
            (good.replace("0 1", "0 1048577"), ParsePromiseError::Batch),
            (good.replace("0 1", "0 01"), ParsePromiseError::Batch),
            (good.replace("\n9\n", "\n-9\n"), ParsePromiseError::Deadline),
            (good.replace(&root.to_string(), "AAAA"), ParsePromiseError::Root),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<Promise>(), Err(error), "{text}");
        }
        let file = format!("{PROOF_HEADER}\nindex 0\n\nnote");
        assert!(PromiseProof::parse(file.as_bytes()).is_ok());
        let long = format!("{PROOF_HEADER}\nindex 0\n{}\nnote", format!("{root}\n").repeat(65));
        for (text, error) in [
            (file.replace("index 0", "index x"), ParsePromiseError::Index),
            (file.replace("proof/v1", "proof/v9"), ParsePromiseError::Lines),
            (file.replace("note", ""), ParsePromiseError::Note),
            (long, ParsePromiseError::Hashes),
        ] {
            assert_eq!(PromiseProof::parse(text.as_bytes()), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_entry_of_every_batch_is_promised(count in 1_usize..70, first in 0_u64..1 << 40) {
            let entries: Vec<Vec<u8>> = (0..count).map(|n| n.to_be_bytes().to_vec()).collect();
            let signed = Promise::sign(&signer(1), first, &leaves(&entries), 7).unwrap();
            for (at, entry) in entries.iter().enumerate() {
                let proof = signed.proof(first + at as u64).unwrap();
                let read = PromiseProof::parse(proof.to_string().as_bytes()).unwrap();
                prop_assert_eq!(&read, &proof);
                prop_assert!(read.verify(entry, signer(1).vkey()).is_ok());
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = PromiseProof::parse(&bytes);
            let _ = PromiseProof::parse(&[format!("{PROOF_HEADER}\nindex 1\n").as_bytes(), &bytes].concat());
            let _ = String::from_utf8_lossy(&bytes).parse::<Promise>();
        }
    }
}
