//! Signature keys of the two suites behind one enum: Ed25519 and P-256 (international), SM2 (national).
//!
//! In scope: signing, strict verification, the JWK and Multikey forms, encrypted private key files.
//! Out of scope: making keys. Nothing on this floor has a random source, so a seed is an argument, and both
//! ECDSA and SM2 take their nonces from RFC 6979. That is why P-256 comes from the `p256` crate and not from
//! aws-lc, whose signing draws its own randomness.

mod file;
mod jwk;
mod multikey;
mod public;
mod secret;

pub use file::{KeyFileError, MAX_PEM_BYTES, SCRYPT_BLOCK_SIZE, SCRYPT_LOG_N, SCRYPT_PARALLELIZATION};
pub use multikey::MAX_MULTIKEY_BYTES;
pub use public::{ParseKeyError, PublicKey, VerifyError};
pub use secret::{BadSeedError, SecretKey};

/// Length of every signature in bytes: R ‖ S for Ed25519, r ‖ s (big endian) for P-256 and SM2.
pub const SIGNATURE_BYTES: usize = 64;

/// A signature algorithm with its curve and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Suite {
    /// Ed25519 (RFC 8032), verified strictly: no weak keys, no non-canonical encodings.
    Ed25519,
    /// ECDSA on P-256 with SHA-256 (FIPS 186-5), nonces from RFC 6979.
    P256,
    /// SM2 (GB/T 32918.2) with SM3 and the signer identity `1234567812345678` (GB/T 35276).
    Sm2,
}

impl Suite {
    /// Every suite, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Ed25519, Self::P256, Self::Sm2];

    /// The `alg` value of JOSE (RFC 7518, RFC 8037); `SM2SM3` is a private name that is in use but not registered.
    pub fn jose_alg(self) -> &'static str {
        match self {
            Self::Ed25519 => "EdDSA",
            Self::P256 => "ES256",
            Self::Sm2 => "SM2SM3",
        }
    }

    /// The suite that signs under this JOSE `alg`; the set is closed, so `none` and everything else is `None`.
    ///
    /// `Ed25519` is the fully specified name of RFC 9864 for what older peers call `EdDSA`.
    pub fn from_jose_alg(alg: &str) -> Option<Self> {
        match alg {
            "Ed25519" => Some(Self::Ed25519),
            _ => Self::ALL.into_iter().find(|suite| suite.jose_alg() == alg),
        }
    }

    /// The name used in texts and configuration: `ed25519`, `p256` or `sm2`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::P256 => "p256",
            Self::Sm2 => "sm2",
        }
    }

    /// The suite of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// Length of a public key as bytes: 32 for Ed25519, 33 for a compressed point.
    pub fn public_key_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::P256 | Self::Sm2 => 33,
        }
    }
}

#[cfg(test)]
mod tests;
