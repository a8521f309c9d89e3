//! Signed notes (C2SP signed-note v1.0.0).

mod key;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::keys::VerifyError;

pub use key::{NoteSigner, ParseVkeyError, SignatureKind, Vkey};
pub(crate) use key::{VkeyParts, hex_of, is_key_name, key_id_of, write_vkey};

/// Largest note accepted, in bytes: room for [`MAX_SIGNATURES`] signatures of the post-quantum kind (5 kB, base64).
pub const MAX_NOTE_BYTES: usize = 512 * 1024;

/// Most signatures accepted on one note; the specification asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// Longest verifier key accepted, in bytes.
pub const MAX_VKEY_BYTES: usize = 4096;

/// A text with the signature lines under it. Nothing is verified by parsing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// One signature line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    /// The name of the key.
    pub name: String,
    /// The first four bytes of a hash of the key; with the name it says which key signed.
    pub key_id: [u8; 4],
    /// The signature itself, at least one byte.
    pub signature: Vec<u8>,
}

/// Why bytes are not a signed note.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Longer than [`MAX_NOTE_BYTES`].
    #[error("note is {len_bytes} bytes, the limit is {MAX_NOTE_BYTES}")]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Not UTF-8, or a control character other than newline.
    #[error("note has bytes that are not UTF-8 text, or control characters")]
    NotText,
    /// No text, no empty line before the signatures, or no signature.
    #[error("note has no signatures under an empty line")]
    NoSignatures,
    /// A signature line is not `— <name> <base64>`.
    #[error("signature line {line} is malformed")]
    BadSignatureLine {
        /// Number of the line among the signature lines, from 1.
        line: usize,
    },
    /// More than [`MAX_SIGNATURES`].
    #[error("note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
}

/// Why a note is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenNoteError {
    /// None of the keys asked about has signed it.
    #[error("note carries no signature of a known key")]
    NoKnownSignature,
    /// A line with the name and id of a known key does not verify; the whole note is refused.
    #[error("signature of `{name}` does not verify")]
    BadSignature {
        /// The name of the key.
        name: String,
    },
    /// A key that must have signed has not.
    #[error("signature of `{name}` with {kind} is missing")]
    Missing {
        /// The name of the key.
        name: String,
        /// How it signs.
        kind: SignatureKind,
    },
}

impl Note {
    /// Reads a signed note.
    ///
    /// # Errors
    /// [`NoteError`] says which rule of the format is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if MAX_NOTE_BYTES < bytes.len() {
            return Err(NoteError::TooLarge { len_bytes: bytes.len() });
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
        if whole.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::NotText);
        }
        let (text, lines) = whole.rsplit_once("\n\n").ok_or(NoteError::NoSignatures)?;
        let signatures = read_lines(lines)?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// Signs `text`, which must end in a newline and hold no other control character.
    ///
    /// # Errors
    /// [`NoteError::NotText`] when the text cannot be a note.
    pub fn sign(text: String, signers: &[&NoteSigner]) -> Result<Self, NoteError> {
        if !text.ends_with('\n') || text.bytes().any(|b| b < 0x20 && b != b'\n') {
            return Err(NoteError::NotText);
        }
        let signatures = signers.iter().map(|signer| signer.sign(text.as_bytes())).collect();
        Ok(Self { text, signatures })
    }

    /// Finds and verifies the signatures of `keys`; signatures of other keys are ignored, as the format demands.
    ///
    /// Returns the names of the keys that signed.
    ///
    /// # Errors
    /// [`OpenNoteError`].
    pub fn verify<'k>(&self, keys: &'k [Vkey]) -> Result<Vec<&'k str>, OpenNoteError> {
        let mut names = Vec::new();
        for key in keys {
            if self.is_signed_by(key)? && !names.contains(&key.name()) {
                names.push(key.name());
            }
        }
        if names.is_empty() { Err(OpenNoteError::NoKnownSignature) } else { Ok(names) }
    }

    /// As [`Self::verify`], but every one of `keys` must have signed: a line that somebody took away is missed.
    ///
    /// # Errors
    /// [`OpenNoteError::Missing`] names the first key without a line.
    pub fn verify_all(&self, keys: &[Vkey]) -> Result<(), OpenNoteError> {
        self.verify(keys)?;
        for key in keys {
            if !self.is_signed_by(key)? {
                return Err(OpenNoteError::Missing { name: key.name().to_owned(), kind: key.kind() });
            }
        }
        Ok(())
    }

    /// Whether there is a line of `key`.
    ///
    /// # Errors
    /// [`OpenNoteError::BadSignature`] if one does not verify.
    fn is_signed_by(&self, key: &Vkey) -> Result<bool, OpenNoteError> {
        let check = |signature: &[u8]| key.key().verify(self.text.as_bytes(), signature);
        Ok(self.lines_of(key.name(), key.key_id(), check)?.is_some())
    }

    /// Verifies every line of the key with this name and id; returns the last of them.
    pub(crate) fn lines_of(
        &self,
        name: &str,
        key_id: [u8; 4],
        check: impl Fn(&[u8]) -> Result<(), VerifyError>,
    ) -> Result<Option<&NoteSignature>, OpenNoteError> {
        let mut last = None;
        for line in self.signatures.iter().filter(|line| line.name == name && line.key_id == key_id) {
            check(&line.signature).map_err(|_| OpenNoteError::BadSignature { name: line.name.clone() })?;
            last = Some(line);
        }
        Ok(last)
    }

    /// The note with further signature lines under it, such as cosignatures. A line that is there is not repeated.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`].
    pub fn with_signatures(mut self, lines: impl IntoIterator<Item = NoteSignature>) -> Result<Self, NoteError> {
        for line in lines {
            if self.signatures.contains(&line) {
                continue;
            }
            if MAX_SIGNATURES <= self.signatures.len() {
                return Err(NoteError::TooManySignatures);
            }
            self.signatures.push(line);
        }
        Ok(self)
    }

    /// The signed text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl fmt::Display for NoteSignature {
    /// The line without its newline.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.key_id.to_vec();
        bytes.extend_from_slice(&self.signature);
        write!(f, "— {} {}", self.name, STANDARD.encode(bytes))
    }
}

impl FromStr for NoteSignature {
    type Err = NoteError;

    /// Reads one line without its newline.
    fn from_str(line: &str) -> Result<Self, NoteError> {
        let fits = line.len() <= MAX_NOTE_BYTES && !line.chars().any(char::is_control);
        fits.then(|| parse_signature(line)).flatten().ok_or(NoteError::BadSignatureLine { line: 1 })
    }
}

/// Reads signature lines that stand alone, as a witness answers them (tlog-witness, "add-checkpoint"): one to
/// [`MAX_SIGNATURES`], each with its newline.
///
/// # Errors
/// [`NoteError`] says which rule of the format is broken.
pub fn read_signatures(bytes: &[u8]) -> Result<Vec<NoteSignature>, NoteError> {
    if MAX_NOTE_BYTES < bytes.len() {
        return Err(NoteError::TooLarge { len_bytes: bytes.len() });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| NoteError::NotText)?;
    if text.bytes().any(|b| b < 0x20 && b != b'\n') {
        return Err(NoteError::NotText);
    }
    read_lines(text)
}

fn read_lines(text: &str) -> Result<Vec<NoteSignature>, NoteError> {
    let lines = text.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
    let mut signatures = Vec::new();
    for (at, line) in lines.split('\n').enumerate() {
        if MAX_SIGNATURES <= at {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(parse_signature(line).ok_or(NoteError::BadSignatureLine { line: at + 1 })?);
    }
    Ok(signatures)
}

fn parse_signature(line: &str) -> Option<NoteSignature> {
    let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
    if !is_key_name(name) {
        return None;
    }
    let bytes = STANDARD.decode(encoded).ok()?;
    let (key_id, signature) = bytes.split_first_chunk::<4>()?;
    if signature.is_empty() {
        return None;
    }
    Some(NoteSignature { name: name.to_owned(), key_id: *key_id, signature: signature.to_vec() })
}

#[cfg(test)]
mod tests;
