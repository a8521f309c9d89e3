//! Hash values that say which function made them.

use std::fmt;
use std::str::FromStr;

use sha2::Digest as _;

/// A hash function of one of the two suites.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HashKind {
    /// SHA-256 (FIPS 180-4), the international suite.
    Sha256,
    /// SM3 (GB/T 32905), the national suite.
    Sm3,
}

impl HashKind {
    /// The name used in texts: `sha256` or `sm3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sm3 => "sm3",
        }
    }

    /// Hashes the parts one after another, as if they were one byte string.
    pub fn digest(self, parts: &[&[u8]]) -> Digest {
        let bytes = match self {
            Self::Sha256 => {
                let mut hasher = sha2::Sha256::new();
                parts.iter().for_each(|part| hasher.update(part));
                hasher.finalize().into()
            }
            Self::Sm3 => {
                use sm3::Digest as _;
                let mut hasher = sm3::Sm3::new();
                parts.iter().for_each(|part| hasher.update(part));
                hasher.finalize().into()
            }
        };
        Digest { kind: self, bytes }
    }
}

/// A 32-byte hash value and the function it came from; written `sha256:<64 hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    kind: HashKind,
    bytes: [u8; 32],
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDigestError {
    /// The part before `:` is missing or names no known hash function.
    #[error("digest must start with `sha256:` or `sm3:`")]
    UnknownHash,
    /// The part after `:` is not 64 lower-case hexadecimal digits.
    #[error("digest must have 64 lower-case hexadecimal digits")]
    BadHex,
}

impl Digest {
    /// Wraps the output of a hash computed elsewhere.
    pub fn new(kind: HashKind, bytes: [u8; 32]) -> Self {
        Self { kind, bytes }
    }

    /// SHA-256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        HashKind::Sha256.digest(&[bytes])
    }

    /// The function that made this value.
    pub fn kind(&self) -> HashKind {
        self.kind
    }

    /// The hash value.
    pub fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), hex::encode(self.bytes))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, ParseDigestError> {
        let (name, digits) = text.split_once(':').ok_or(ParseDigestError::UnknownHash)?;
        let kind = match name {
            "sha256" => HashKind::Sha256,
            "sm3" => HashKind::Sm3,
            _ => return Err(ParseDigestError::UnknownHash),
        };
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(ParseDigestError::BadHex);
        }
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| ParseDigestError::BadHex)?;
        Ok(Self { kind, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_the_published_vectors() {
        // FIPS 180-4 example "abc"; GB/T 32905 example A.1 "abc".
        assert_eq!(
            Digest::sha256(b"abc").to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(
            HashKind::Sm3.digest(&[b"a", b"bc"]).to_string(),
            "sm3:66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
        );
    }

    #[test]
    fn text_round_trips_and_bad_text_is_refused() {
        let digest = HashKind::Sm3.digest(&[b"x"]);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for text in ["", "sha256", "md5:00", "sha256:00", &digest.to_string().to_uppercase(), &format!("{digest}0")] {
            assert!(text.parse::<Digest>().is_err(), "{text}");
        }
    }
}
