//! Ledger entries: a statement as a compact JWS of its node's key (RFC 7515).

use shuyu_base::keys::{PublicKey, SecretKey};
use shuyu_credentials::jws::{self, JwsError};

use crate::statement::{ParseStatementError, Statement};

/// The `typ` of an entry.
pub const ENTRY_TYPE: &str = "shuyu-evidence+jws";

/// Largest entry, in bytes: what an entry bundle of the log can hold.
pub const MAX_ENTRY_BYTES: usize = shuyu_tlog::MAX_ENTRY_BYTES;

/// Why a statement was not signed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// A member is outside its bounds.
    #[error("statement cannot be written")]
    Statement(#[from] ParseStatementError),
    /// The entry would be larger than [`MAX_ENTRY_BYTES`].
    #[error("entry would be {len_bytes} bytes, the limit is {MAX_ENTRY_BYTES}")]
    TooLarge {
        /// The size it would have, in bytes.
        len_bytes: usize,
    },
}

/// Why bytes are not a believable entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Longer than [`MAX_ENTRY_BYTES`] or not text.
    #[error("entry is not text of at most {MAX_ENTRY_BYTES} bytes")]
    NotText,
    /// Not a JWS of a known key, or the signature does not hold.
    #[error("entry is not signed by a known key: {0}")]
    Signature(#[source] JwsError),
    /// Signed, but as another kind of message.
    #[error("entry is not of type `{ENTRY_TYPE}`")]
    Type,
    /// The payload is not a statement.
    #[error("signed payload is not a statement")]
    Statement(#[from] ParseStatementError),
}

/// Signs a statement with the key that `kid` names in the DID document of `statement.by`; returns the ledger entry.
///
/// # Errors
/// [`SignError`].
pub fn sign(statement: &Statement, key: &SecretKey, kid: &str) -> Result<Vec<u8>, SignError> {
    let entry = jws::sign(key, kid, ENTRY_TYPE, &statement.to_json()?).into_bytes();
    if MAX_ENTRY_BYTES < entry.len() {
        return Err(SignError::TooLarge { len_bytes: entry.len() });
    }
    Ok(entry)
}

/// Opens a ledger entry with the key that `key_of` gives for its `kid`.
///
/// The caller sees to it that the key belongs to `Statement::by`: `key_of` answers from that node's DID document, and
/// the caller compares `by` with the owner of the log.
///
/// # Errors
/// [`OpenError`].
pub fn open(entry: &[u8], key_of: impl FnOnce(&str) -> Option<PublicKey>) -> Result<Statement, OpenError> {
    let text = std::str::from_utf8(entry).ok().filter(|text| text.len() <= MAX_ENTRY_BYTES);
    let verified = jws::verify(text.ok_or(OpenError::NotText)?, key_of).map_err(OpenError::Signature)?;
    if verified.typ.as_deref() != Some(ENTRY_TYPE) {
        return Err(OpenError::Type);
    }
    Ok(Statement::from_json(&verified.payload)?)
}

/// Reads the statement of an entry without checking its signature: for showing and indexing one's own log.
///
/// # Errors
/// [`OpenError`] as far as it can be known without a key.
pub fn peek(entry: &[u8]) -> Result<Statement, OpenError> {
    let text = std::str::from_utf8(entry).ok().filter(|text| text.len() <= MAX_ENTRY_BYTES);
    let unverified = jws::peek(text.ok_or(OpenError::NotText)?).map_err(OpenError::Signature)?;
    if unverified.typ.as_deref() != Some(ENTRY_TYPE) {
        return Err(OpenError::Type);
    }
    Ok(Statement::from_json(&unverified.payload)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Act;
    use proptest::prelude::*;
    use shuyu_base::keys::Suite;
    use shuyu_base::{Digest, UnixMillis};
    use std::collections::BTreeMap;

    const KID: &str = "did:web:a.example#key-1";

    fn statement() -> Statement {
        Statement {
            kind: "transfer.start".to_owned(),
            act: Act::Received,
            process: "urn:uuid:1".to_owned(),
            seq: 2,
            by: "did:web:a.example".parse().unwrap(),
            with: "did:web:b.example".parse().unwrap(),
            at: UnixMillis(0),
            event: Digest::sha256(b"message"),
            agreement: None,
            commit: BTreeMap::new(),
        }
    }

    #[test]
    fn entries_open_with_the_key_of_their_node_only() {
        for suite in Suite::ALL {
            let key = SecretKey::from_seed(suite, &[7; 32]).unwrap();
            let entry = sign(&statement(), &key, KID).unwrap();
            let known = |kid: &str| (kid == KID).then(|| key.public().clone());
            assert_eq!(open(&entry, known).unwrap(), statement());
            assert_eq!(peek(&entry).unwrap(), statement());
            let other = SecretKey::from_seed(suite, &[8; 32]).unwrap();
            assert!(matches!(open(&entry, |_| Some(other.public().clone())), Err(OpenError::Signature(_))));
            assert!(matches!(open(&entry, |_| None), Err(OpenError::Signature(_))));
            for at in (0..entry.len()).step_by(7) {
                let mut bad = entry.clone();
                bad[at] ^= 1;
                assert!(open(&bad, known).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn another_kind_of_signed_message_is_no_entry() {
        let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap();
        let token = jws::sign(&key, KID, "JWT", &statement().to_json().unwrap());
        assert!(matches!(open(token.as_bytes(), |_| Some(key.public().clone())), Err(OpenError::Type)));
        let other = jws::sign(&key, KID, ENTRY_TYPE, b"{}");
        assert!(matches!(open(other.as_bytes(), |_| Some(key.public().clone())), Err(OpenError::Statement(_))));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap();
            prop_assert!(open(&bytes, |_| Some(key.public().clone())).is_err());
        }
    }
}
