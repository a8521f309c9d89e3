//! Public keys: parsing, verification, fingerprints.

use std::fmt;
use std::hash::{Hash, Hasher};

use p256::ecdsa::signature::Verifier as _;
use p256::elliptic_curve::sec1::ToSec1Point as _;

use super::{SIGNATURE_BYTES, Suite};
use crate::Digest;

/// The signer identity of every SM2 signature here (GB/T 35276 section 10: the value where none is agreed).
pub(super) const SM2_SIGNER_ID: &str = "1234567812345678";

/// A public key that is a valid point of its curve.
#[derive(Clone)]
pub struct PublicKey(pub(super) Point); // Invariant: on the curve, not the identity; Ed25519 not of small order.

#[derive(Clone)]
pub(super) enum Point {
    Ed25519(ed25519_dalek::VerifyingKey),
    P256(p256::ecdsa::VerifyingKey),
    Sm2(Box<sm2::dsa::VerifyingKey>),
}

/// Why a signature was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// Not [`SIGNATURE_BYTES`] long.
    #[error("signature is {len_bytes} bytes, not {SIGNATURE_BYTES}")]
    Length {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// `r` or `s` is zero or not below the order of the curve.
    #[error("signature has a number outside its range")]
    OutOfRange,
    /// Well-formed, but not made by this key over this message.
    #[error("signature does not match")]
    Mismatch,
}

/// Why something is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// The bytes have the wrong length for the suite.
    #[error("public key is {len_bytes} bytes, not {expected}")]
    Length {
        /// Length found, in bytes.
        len_bytes: usize,
        /// Length of a key of this suite.
        expected: usize,
    },
    /// Not a point of the curve, not canonically encoded, or of small order.
    #[error("public key is not a usable point of {}", .suite.name())]
    BadPoint {
        /// The suite asked for.
        suite: Suite,
    },
    /// The text is not base58btc Multibase, or longer than [`super::MAX_MULTIKEY_BYTES`].
    #[error("multikey is not base58btc text of at most {} bytes", super::MAX_MULTIKEY_BYTES)]
    BadMultibase,
    /// The multicodec prefix names no suite we have.
    #[error("multikey names a key type that is not supported")]
    UnknownCodec,
    /// A JWK member is missing, not a string or not canonical base64url.
    #[error("jwk member `{member}` is missing or malformed")]
    JwkMember {
        /// The member.
        member: &'static str,
    },
    /// `kty` and `crv` name no suite we have, or `alg` or `use` contradicts them.
    #[error("jwk member `{member}` has a value that is not supported")]
    JwkUnsupported {
        /// The member.
        member: &'static str,
    },
    /// The JWK holds a private or symmetric key, which must never be published.
    #[error("jwk holds a private key (member `{member}`)")]
    JwkPrivate {
        /// The member.
        member: &'static str,
    },
}

impl PublicKey {
    /// Reads 32 bytes (Ed25519, RFC 8032) or a 33-byte compressed point (P-256 and SM2, SEC 1 section 2.3.3).
    ///
    /// # Errors
    /// [`ParseKeyError::Length`] or [`ParseKeyError::BadPoint`].
    pub fn from_bytes(suite: Suite, bytes: &[u8]) -> Result<Self, ParseKeyError> {
        let expected = suite.public_key_bytes();
        if bytes.len() != expected {
            return Err(ParseKeyError::Length { len_bytes: bytes.len(), expected });
        }
        // The point decoders also take the compact form, tag 5, which would give one key two names.
        let key = Self::from_sec1_or_raw(suite, bytes)?;
        if key.to_bytes() == bytes { Ok(key) } else { Err(ParseKeyError::BadPoint { suite }) }
    }

    /// As [`Self::from_bytes`], but takes an uncompressed point as well.
    pub(super) fn from_sec1_or_raw(suite: Suite, bytes: &[u8]) -> Result<Self, ParseKeyError> {
        let bad = ParseKeyError::BadPoint { suite };
        let point = match suite {
            Suite::Ed25519 => {
                let raw: &[u8; 32] = bytes.try_into().map_err(|_| bad.clone())?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(raw).map_err(|_| bad.clone())?;
                // RFC 8032 section 5.1.3 wants y < p; dalek reduces it, which would give one key two names.
                if key.is_weak() || key.to_edwards().compress().as_bytes() != raw {
                    return Err(bad);
                }
                Point::Ed25519(key)
            }
            Suite::P256 => Point::P256(p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).map_err(|_| bad)?),
            Suite::Sm2 => {
                let key = sm2::dsa::VerifyingKey::from_sec1_bytes(SM2_SIGNER_ID, bytes).map_err(|_| bad)?;
                Point::Sm2(Box::new(key))
            }
        };
        Ok(Self(point))
    }

    /// The suite this key belongs to.
    pub fn suite(&self) -> Suite {
        match &self.0 {
            Point::Ed25519(_) => Suite::Ed25519,
            Point::P256(_) => Suite::P256,
            Point::Sm2(_) => Suite::Sm2,
        }
    }

    /// The form [`Self::from_bytes`] reads; one key has exactly one such form.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Point::Ed25519(key) => key.to_bytes().to_vec(),
            Point::P256(key) => key.to_sec1_point(true).as_bytes().to_vec(),
            Point::Sm2(key) => sm2::PublicKey::from_affine(*key.as_affine())
                .map(|key| key.to_sec1_point(true).as_bytes().to_vec())
                .unwrap_or_default(), // Not the identity by the invariant.
        }
    }

    /// Checks `signature` over `message`.
    ///
    /// Ed25519 is checked strictly (no small-order components, canonical `S`). For P-256 both `s` and `n - s` are
    /// accepted, as JOSE asks (RFC 7518 section 3.4): a signature is evidence of a message, not an identifier.
    ///
    /// # Errors
    /// [`VerifyError`] says what is wrong.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), VerifyError> {
        if signature.len() != SIGNATURE_BYTES {
            return Err(VerifyError::Length { len_bytes: signature.len() });
        }
        match &self.0 {
            Point::Ed25519(key) => {
                let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| VerifyError::OutOfRange)?;
                key.verify_strict(message, &signature).map_err(|_| VerifyError::Mismatch)
            }
            Point::P256(key) => {
                let signature = p256::ecdsa::Signature::from_slice(signature).map_err(|_| VerifyError::OutOfRange)?;
                key.verify(message, &signature).map_err(|_| VerifyError::Mismatch)
            }
            Point::Sm2(key) => {
                let signature = sm2::dsa::Signature::from_slice(signature).map_err(|_| VerifyError::OutOfRange)?;
                key.verify(message, &signature).map_err(|_| VerifyError::Mismatch)
            }
        }
    }

    /// The SHA-256 thumbprint of the JWK form (RFC 7638 section 3), for all three suites.
    pub fn thumbprint(&self) -> Digest {
        Digest::sha256(self.thumbprint_input().as_bytes())
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.suite() == other.suite() && self.to_bytes() == other.to_bytes()
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.suite().hash(state);
        self.to_bytes().hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_multikey())
    }
}
