//! A disclosure: some fields of one ledger entry, shown to whoever the owner hands the file to.
//!
//! The file holds the entry, the proof of its place in the log (tlog-proof@v1), the keys of its owner, and of each shown
//! field the value, its salt and its path to the commitment in the entry. It says nothing about the other fields, not
//! even how many there are. Like a bundle it brings its own keys: whoever judges it compares them with what they know.
//!
//! The file format is in `disclosure/v1.rs`.

mod v1;

use serde_json::Value;
use shuyu_base::Did;
use shuyu_credentials::DidDocument;
use shuyu_tlog::{Checkpoint, InclusionProof, VerifyProofError, Vkey};

use crate::commitment::{FIELDS, Shown};
use crate::entry::{OpenError, open};
use crate::statement::Statement;

pub use v1::ReadDisclosureError;

/// Largest disclosure accepted or written, in bytes: the largest message, all of it shown.
pub const MAX_DISCLOSURE_BYTES: usize = 8 * 1024 * 1024;

/// Some fields of one entry, with everything that proves them.
#[derive(Clone, Debug, PartialEq)]
pub struct Disclosure {
    /// Whose log.
    pub did: Did,
    /// Its DID document.
    pub document: DidDocument,
    /// The key of its log; one of the keys in the document, under the name of the log.
    pub vkey: Vkey,
    /// The entry.
    pub entry: Vec<u8>,
    /// The proof of its place.
    pub proof: InclusionProof,
    /// Leaves of the tree in the entry's commitment, at most [`crate::commitment::MAX_LEAVES`].
    pub size: u64,
    /// What is shown.
    pub fields: Vec<Shown>,
}

/// What a disclosure proves.
#[derive(Clone, Debug, PartialEq)]
pub struct Disclosed {
    /// What the owner stated.
    pub statement: Statement,
    /// The place of the entry in the log.
    pub index: u64,
    /// The head under which it is there.
    pub head: Checkpoint,
    /// Name and value of each shown field, by name.
    pub fields: Vec<(String, Value)>,
}

/// Why a disclosure proves nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyDisclosureError {
    /// The document is of someone else.
    #[error("the document given for `{did}` is not its own")]
    DocumentNotOfNode {
        /// The owner of the log.
        did: Did,
    },
    /// The log's key is not in the owner's document.
    #[error("the key of the log is not a key of `{did}`")]
    KeyNotOfNode {
        /// The owner of the log.
        did: Did,
    },
    /// The entry is not where the proof says.
    #[error("the entry is not in the log")]
    Proof(#[from] VerifyProofError),
    /// The entry is not a statement of its owner.
    #[error("the entry is not a statement signed by `{did}`")]
    Entry {
        /// The owner of the log.
        did: Did,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// A statement that someone else made.
    #[error("the entry is a statement of `{by}`, not of the owner of the log")]
    NotByOwner {
        /// Who made it.
        by: Did,
    },
    /// The statement commits to no fields.
    #[error("the entry has no commitment `{FIELDS}`")]
    NoCommitment,
    /// A field is not in the commitment.
    #[error("the entry does not commit to this value of `{name}`")]
    Field {
        /// The field.
        name: String,
    },
}

impl Disclosure {
    /// Reads a disclosure file. Nothing is verified yet.
    ///
    /// # Errors
    /// [`ReadDisclosureError`] names the member.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReadDisclosureError> {
        v1::read(bytes)
    }

    /// The disclosure file.
    ///
    /// # Errors
    /// When it would be outside the bounds of a reader.
    pub fn to_json(&self) -> Result<Vec<u8>, ReadDisclosureError> {
        v1::write(self)
    }

    /// Judges the file by itself, with the keys it brings.
    ///
    /// # Errors
    /// [`VerifyDisclosureError`] names what does not hold.
    pub fn verify(&self) -> Result<Disclosed, VerifyDisclosureError> {
        let did = || self.did.clone();
        if *self.document.id() != self.did {
            return Err(VerifyDisclosureError::DocumentNotOfNode { did: did() });
        }
        if !self.document.methods().iter().any(|method| method.key == *self.vkey.key()) {
            return Err(VerifyDisclosureError::KeyNotOfNode { did: did() });
        }
        let signed = self.proof.verify(&self.entry, &self.vkey)?;
        let key_of = |kid: &str| self.document.method(kid).map(|method| method.key.clone());
        let statement =
            open(&self.entry, key_of).map_err(|source| VerifyDisclosureError::Entry { did: did(), source })?;
        if statement.by != self.did {
            return Err(VerifyDisclosureError::NotByOwner { by: statement.by });
        }
        let root = statement.commit.get(FIELDS).ok_or(VerifyDisclosureError::NoCommitment)?;
        if let Some(bad) = self.fields.iter().find(|one| !one.is_in(&statement.kind, self.size, root)) {
            return Err(VerifyDisclosureError::Field { name: bad.field.name.clone() });
        }
        let mut fields: Vec<(String, Value)> =
            self.fields.iter().map(|one| (one.field.name.clone(), one.field.value.clone())).collect();
        fields.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(Disclosed { statement, index: self.proof.index, head: signed.checkpoint().clone(), fields })
    }
}

#[cfg(test)]
mod tests;
