//! Signed notes and verifier keys (C2SP signed-note v1.0.0), Ed25519 signatures of type `0x01`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use shuyu_base::Digest;
use shuyu_base::keys::{PublicKey, SecretKey, Suite};

/// Largest note accepted, in bytes: room for [`MAX_SIGNATURES`] signatures of the post-quantum kind (5 kB, base64).
pub const MAX_NOTE_BYTES: usize = 512 * 1024;

/// Most signatures accepted on one note; the specification asks for at least 16.
pub const MAX_SIGNATURES: usize = 64;

/// Longest verifier key accepted, in bytes.
pub const MAX_VKEY_BYTES: usize = 4096;

/// The signature type byte of plain Ed25519.
const ED25519: u8 = 0x01;

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
        let lines = lines.strip_suffix('\n').ok_or(NoteError::NoSignatures)?;
        let mut signatures = Vec::new();
        for (at, line) in lines.split('\n').enumerate() {
            if MAX_SIGNATURES <= at {
                return Err(NoteError::TooManySignatures);
            }
            signatures.push(parse_signature(line).ok_or(NoteError::BadSignatureLine { line: at + 1 })?);
        }
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
        for line in &self.signatures {
            let Some(key) = keys.iter().find(|key| key.name == line.name && key.key_id == line.key_id) else {
                continue;
            };
            let bad = |_| OpenNoteError::BadSignature { name: line.name.clone() };
            key.key.verify(self.text.as_bytes(), &line.signature).map_err(bad)?;
            if !names.contains(&key.name()) {
                names.push(key.name());
            }
        }
        if names.is_empty() { Err(OpenNoteError::NoKnownSignature) } else { Ok(names) }
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
        for line in &self.signatures {
            let mut bytes = line.key_id.to_vec();
            bytes.extend_from_slice(&line.signature);
            writeln!(f, "— {} {}", line.name, STANDARD.encode(bytes))?;
        }
        Ok(())
    }
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

/// Not empty, and neither a Unicode space nor a plus in it.
fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn key_id_of(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut bytes = name.as_bytes().to_vec();
    bytes.extend_from_slice(&[b'\n', ED25519]);
    bytes.extend_from_slice(&key.to_bytes());
    let [a, b, c, d, ..] = *Digest::sha256(&bytes).bytes();
    [a, b, c, d]
}

/// A verifier key: `<name>+<key id in hex>+<base64 of 0x01 and the Ed25519 key>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vkey {
    name: String,
    key_id: [u8; 4],
    key: PublicKey,
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
    /// The key is of another suite, or its bytes are no Ed25519 key.
    #[error("verifier key is not an Ed25519 key of type 01")]
    NotEd25519,
    /// The key id is not the hash of the name and the key.
    #[error("key id does not belong to this name and key")]
    KeyId,
}

impl Vkey {
    /// Names an Ed25519 key.
    ///
    /// # Errors
    /// [`ParseVkeyError::Name`] and [`ParseVkeyError::NotEd25519`].
    pub fn new(name: &str, key: PublicKey) -> Result<Self, ParseVkeyError> {
        if !is_key_name(name) {
            return Err(ParseVkeyError::Name);
        }
        match key.suite() {
            Suite::Ed25519 => Ok(Self { name: name.to_owned(), key_id: key_id_of(name, &key), key }),
            Suite::P256 | Suite::Sm2 => Err(ParseVkeyError::NotEd25519),
        }
    }

    /// The name; for the key of a log its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl FromStr for Vkey {
    type Err = ParseVkeyError;

    fn from_str(text: &str) -> Result<Self, ParseVkeyError> {
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
        let bytes = STANDARD.decode(encoded).map_err(|_| ParseVkeyError::Form)?;
        let Some((&ED25519, key)) = bytes.split_first() else { return Err(ParseVkeyError::NotEd25519) };
        let key = PublicKey::from_bytes(Suite::Ed25519, key).map_err(|_| ParseVkeyError::NotEd25519)?;
        let vkey = Self::new(name, key)?;
        let named: String = vkey.key_id.iter().map(|b| format!("{b:02x}")).collect();
        if named == id { Ok(vkey) } else { Err(ParseVkeyError::KeyId) }
    }
}

impl fmt::Display for Vkey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+", self.name)?;
        self.key_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        let mut bytes = vec![ED25519];
        bytes.extend_from_slice(&self.key.to_bytes());
        write!(f, "+{}", STANDARD.encode(bytes))
    }
}

/// A named Ed25519 secret key that signs notes.
#[derive(Clone)]
pub struct NoteSigner {
    vkey: Vkey,
    key: Arc<SecretKey>,
}

impl NoteSigner {
    /// Names a secret key; for the key of a log the name is its origin.
    ///
    /// # Errors
    /// As [`Vkey::new`].
    pub fn new(name: &str, key: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        Ok(Self { vkey: Vkey::new(name, key.public().clone())?, key })
    }

    /// The key that verifies what this one signs.
    pub fn vkey(&self) -> &Vkey {
        &self.vkey
    }

    fn sign(&self, text: &[u8]) -> NoteSignature {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of signed-note, "Verifier keys".
    const VKEY: &str = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    const NOTE: &str = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";

    fn signer(name: &str, seed: u8) -> NoteSigner {
        NoteSigner::new(name, Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap())).unwrap()
    }

    #[test]
    fn the_example_of_the_specification_verifies() {
        let vkey: Vkey = VKEY.parse().unwrap();
        assert_eq!(vkey.to_string(), VKEY);
        let note = Note::parse(NOTE.as_bytes()).unwrap();
        assert_eq!(note.to_string(), NOTE);
        assert_eq!(note.verify(&[vkey]), Ok(vec!["example.com/foo"]));
    }

    #[test]
    fn unknown_keys_are_ignored_and_a_bad_known_one_is_not() {
        let (ours, other) = (signer("a", 1), signer("b", 2));
        let note = Note::sign("hello\n\nworld\n".to_owned(), &[&other, &ours]).unwrap();
        let parsed = Note::parse(note.to_string().as_bytes()).unwrap();
        assert_eq!(parsed, note);
        assert_eq!(note.verify(&[ours.vkey().clone()]), Ok(vec!["a"]));
        // Same name, other key: another id, so it is unknown.
        assert_eq!(note.verify(&[signer("a", 3).vkey().clone()]), Err(OpenNoteError::NoKnownSignature));
        let mut bad = note.clone();
        bad.signatures[1].signature[5] ^= 1;
        let keys = [ours.vkey().clone(), other.vkey().clone()];
        assert_eq!(bad.verify(&keys), Err(OpenNoteError::BadSignature { name: "a".to_owned() }));
        bad.signatures[1].signature.truncate(63);
        assert!(bad.verify(&keys).is_err());
        let mut text = note;
        text.text = "hello\n".to_owned();
        assert!(text.verify(&keys).is_err());
    }

    #[test]
    fn malformed_notes_are_refused() {
        let line = "— a AAAAAAA=";
        let many = format!("t\n\n{}", format!("{line}\n").repeat(MAX_SIGNATURES));
        assert!(Note::parse(many.as_bytes()).is_ok());
        for text in [
            String::new(),
            "\n".to_owned(),
            "text\n".to_owned(),
            "text\n\n".to_owned(),
            format!("text\n{line}\n"),
            format!("text\n\n{line}"),
            format!("text\n\n{line}\n\n"),
            format!("te\txt\n\n{line}\n"),
            format!("te\rxt\n\n{line}\n"),
            format!("text\n\n{line}\ngarbage\n"),
            "text\n\n- a AAAAAAA=\n".to_owned(),
            "text\n\n—  AAAAAAA=\n".to_owned(),
            "text\n\n— a+b AAAAAAA=\n".to_owned(),
            "text\n\n— a\u{3000}b AAAAAAA=\n".to_owned(),
            "text\n\n— a AAAAAA==\n".to_owned(),
            "text\n\n— a AAAAAAA\n".to_owned(),
            "text\n\n— a AAAAAAB=\n".to_owned(),
            "text\n\n— a AAAAAAA= \n".to_owned(),
            format!("{many}{line}\n"),
            format!("{}\n\n{line}\n", "a".repeat(MAX_NOTE_BYTES)),
        ] {
            assert!(Note::parse(text.as_bytes()).is_err(), "{}", text.chars().take(60).collect::<String>());
        }
        assert_eq!(Note::parse(b"t\xff\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(NoteError::NotText));
    }

    #[test]
    fn malformed_verifier_keys_are_refused() {
        for text in [
            "",
            "a",
            "a+b",
            "a+00000000+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
            "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example.com/foo+530d903a+",
            "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
            "example com+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        ] {
            assert!(text.parse::<Vkey>().is_err(), "{text}");
        }
        let p256 = SecretKey::from_seed(Suite::P256, &[7; 32]).unwrap();
        assert_eq!(Vkey::new("a", p256.public().clone()), Err(ParseVkeyError::NotEd25519));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Note::parse(&bytes);
        }

        #[test]
        fn what_is_read_prints_as_it_was(text in "[a-z\n]{0,20}\n\n(— [a-z]{0,3} [A-Za-z0-9+/]{8}\n){0,3}") {
            if let Ok(note) = Note::parse(text.as_bytes()) {
                prop_assert_eq!(note.to_string(), text.clone());
            }
            let _ = text.parse::<Vkey>();
        }
    }
}
