//! Keys that sign notes and keys that verify them, by their types.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::keys::{PublicKey, SecretKey, Suite};
use shuyu_base::{Digest, HashKind};

use super::{MAX_VKEY_BYTES, NoteSignature};

/// The signature type byte of plain Ed25519 (signed-note, "Signature types").
const ED25519: u8 = 0x01;

/// The type byte of algorithms without a byte of their own: a long identifier follows it.
const LONG: u8 = 0xff;

/// The long identifier of SM2 over a note whose tree is hashed with SHA-256.
const SM2_OVER_SHA256: &[u8] = b"w3id.org/shuyu/sm2-sha256tree/v1";

/// The long identifier of SM2 over a note whose tree is hashed with SM3.
const SM2_OVER_SM3: &[u8] = b"w3id.org/shuyu/sm2-sm3tree/v1";

/// How a note is signed, and which function hashes the tree that the note speaks of.
///
/// A root is 32 bytes under either function, so the key says which one it is: the identifier is part of the key's id,
/// and a signature made for one tree is no signature for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignatureKind {
    /// Ed25519, type `01`; the tree is hashed with SHA-256, as everywhere in the C2SP documents.
    Ed25519,
    /// SM2 with SM3 (GB/T 32918, the usual signer id `1234567812345678`), 64 bytes `r || s`, over a note whose tree is
    /// hashed with this function; type `ff` and `w3id.org/shuyu/sm2-sha256tree/v1` or `.../sm2-sm3tree/v1`.
    Sm2(HashKind),
}

impl SignatureKind {
    const ALL: [Self; 3] = [Self::Ed25519, Self::Sm2(HashKind::Sha256), Self::Sm2(HashKind::Sm3)];

    /// The function that hashes the tree.
    pub fn tree_hash(self) -> HashKind {
        match self {
            Self::Ed25519 => HashKind::Sha256,
            Self::Sm2(tree) => tree,
        }
    }

    /// The suite of the key.
    pub fn suite(self) -> Suite {
        match self {
            Self::Ed25519 => Suite::Ed25519,
            Self::Sm2(_) => Suite::Sm2,
        }
    }

    /// The type as it stands before the key: a byte, and a long identifier after `ff`.
    fn identifier(self) -> Vec<u8> {
        match self {
            Self::Ed25519 => vec![ED25519],
            Self::Sm2(HashKind::Sha256) => [&[LONG], SM2_OVER_SHA256].concat(),
            Self::Sm2(HashKind::Sm3) => [&[LONG], SM2_OVER_SM3].concat(),
        }
    }
}

impl fmt::Display for SignatureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ed25519 => "Ed25519",
            Self::Sm2(HashKind::Sha256) => "SM2 over a SHA-256 tree",
            Self::Sm2(HashKind::Sm3) => "SM2 over an SM3 tree",
        })
    }
}

/// A verifier key: `<name>+<key id in hex>+<base64 of the type and the key>`.
///
/// The key stands in its one form: 32 bytes for Ed25519, the compressed point of 33 bytes for SM2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    key_id: [u8; 4],
    kind: SignatureKind,
    key: PublicKey, // Invariant: of the kind's suite.
}

/// Why a text or a key is not a verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseVkeyError {
    /// Not three parts separated by `+`, or a part has the wrong form.
    #[error("verifier key is not `<name>+<8 hex digits>+<base64>`")]
    Form,
    /// The name is empty, or has a space or a plus.
    #[error("key name is empty or has a space or a plus")]
    Name,
    /// The key is of another suite than its type, the type is not known here, or the bytes are no such key.
    #[error("verifier key is not an Ed25519 key of type 01 or an SM2 key of a known long type")]
    Kind,
    /// The key id is not the hash of the name and the key.
    #[error("key id does not belong to this name and key")]
    KeyId,
}

impl Vkey {
    /// Names an Ed25519 key.
    ///
    /// # Errors
    /// [`ParseVkeyError::Name`] and [`ParseVkeyError::Kind`].
    pub fn new(name: &str, key: PublicKey) -> Result<Self, ParseVkeyError> {
        Self::of_kind(name, SignatureKind::Ed25519, key)
    }

    /// Names a key that signs in this way.
    ///
    /// # Errors
    /// [`ParseVkeyError::Name`], and [`ParseVkeyError::Kind`] if the key is of another suite.
    pub fn of_kind(name: &str, kind: SignatureKind, key: PublicKey) -> Result<Self, ParseVkeyError> {
        if !is_key_name(name) {
            return Err(ParseVkeyError::Name);
        }
        if key.suite() != kind.suite() {
            return Err(ParseVkeyError::Kind);
        }
        Ok(Self { name: name.to_owned(), key_id: key_id_of(name, &kind.identifier(), &key), kind, key })
    }

    /// The name; for the key of a log its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// How it signs.
    pub fn kind(&self) -> SignatureKind {
        self.kind
    }

    /// What stands before its signatures.
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }
}

impl FromStr for Vkey {
    type Err = ParseVkeyError;

    fn from_str(text: &str) -> Result<Self, ParseVkeyError> {
        let parts = VkeyParts::split(text)?;
        for kind in SignatureKind::ALL {
            let Some(key) = parts.bytes.strip_prefix(kind.identifier().as_slice()) else { continue };
            let key = PublicKey::from_bytes(kind.suite(), key).map_err(|_| ParseVkeyError::Kind)?;
            let vkey = Self::of_kind(parts.name, kind, key)?;
            // Equal texts for equal keys: a point in another form is refused.
            return if hex_of(vkey.key_id) != parts.id {
                Err(ParseVkeyError::KeyId)
            } else if vkey.to_string() != text {
                Err(ParseVkeyError::Kind)
            } else {
                Ok(vkey)
            };
        }
        Err(ParseVkeyError::Kind)
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_vkey(f, &self.name, self.key_id, &self.kind.identifier(), &self.key)
    }
}

/// A named secret key that signs notes.
#[derive(Clone)]
pub struct NoteSigner {
    vkey: Vkey,
    key: Arc<SecretKey>,
}

impl NoteSigner {
    /// Names an Ed25519 secret key; for the key of a log the name is its origin.
    ///
    /// # Errors
    /// As [`Vkey::new`].
    pub fn new(name: &str, key: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        Self::of_kind(name, SignatureKind::Ed25519, key)
    }

    /// Names a secret key that signs in this way.
    ///
    /// # Errors
    /// As [`Vkey::of_kind`].
    pub fn of_kind(name: &str, kind: SignatureKind, key: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        Ok(Self { vkey: Vkey::of_kind(name, kind, key.public().clone())?, key })
    }

    /// The key that verifies what this one signs.
    pub fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    pub(super) fn sign(&self, text: &[u8]) -> NoteSignature {
        NoteSignature {
            name: self.vkey.name.clone(),
            key_id: self.vkey.key_id,
            signature: self.key.sign(text).to_vec(),
        }
    }
}

impl fmt::Debug for NoteSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NoteSigner({})", self.vkey)
    }
}

/// The three parts of a verifier key's text.
pub(crate) struct VkeyParts<'a> {
    pub name: &'a str,
    pub id: &'a str,
    pub bytes: Vec<u8>,
}

impl<'a> VkeyParts<'a> {
    pub fn split(text: &'a str) -> Result<Self, ParseVkeyError> {
        if MAX_VKEY_BYTES < text.len() {
            return Err(ParseVkeyError::Form);
        }
        // The name and the id have no plus, the base64 part may.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(ParseVkeyError::Form);
        };
        if id.len() != 8 || !id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Err(ParseVkeyError::Form);
        }
        Ok(Self { name, id, bytes: STANDARD.decode(encoded).map_err(|_| ParseVkeyError::Form)? })
    }
}

/// Not empty, and neither a Unicode space nor a plus in it.
pub(crate) fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

/// The first four bytes of `SHA-256(name || 0x0A || type || key)`.
pub(crate) fn key_id_of(name: &str, identifier: &[u8], key: &PublicKey) -> [u8; 4] {
    let bytes = [name.as_bytes(), b"\n", identifier, &key.to_bytes()].concat();
    let [a, b, c, d, ..] = *Digest::sha256(&bytes).bytes();
    [a, b, c, d]
}

pub(crate) fn hex_of(key_id: [u8; 4]) -> String {
    key_id.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn write_vkey(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    key_id: [u8; 4],
    identifier: &[u8],
    key: &PublicKey,
) -> fmt::Result {
    write!(f, "{name}+{}+{}", hex_of(key_id), STANDARD.encode([identifier, &key.to_bytes()].concat()))
}
