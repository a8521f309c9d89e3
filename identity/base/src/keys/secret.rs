//! Private keys. They never print themselves and are overwritten when dropped.

use std::fmt;

use p256::ecdsa::signature::Signer as _;

use super::public::{Point, SM2_SIGNER_ID};
use super::{PublicKey, SIGNATURE_BYTES, Suite};

/// A private key with its public key.
///
/// It has no `Clone`, and `Debug` shows the suite and the thumbprint of the public key only.
pub struct SecretKey {
    pub(super) signer: Signer,
    public: PublicKey,
}

pub(super) enum Signer {
    Ed25519(Box<ed25519_dalek::SigningKey>),
    P256(Box<p256::ecdsa::SigningKey>),
    Sm2(Box<Sm2Signer>),
}

/// `sm2::dsa::SigningKey` does not overwrite its scalar when dropped, so this wrapper does.
pub(super) struct Sm2Signer(pub(super) sm2::dsa::SigningKey);

impl Drop for Sm2Signer {
    fn drop(&mut self) {
        let mut one = [0; 32];
        one[31] = 1;
        if let Ok(harmless) = sm2::dsa::SigningKey::from_slice(SM2_SIGNER_ID, &one) {
            self.0 = harmless;
        }
        // Keeps the compiler from dropping a write that nobody reads.
        std::hint::black_box(&self.0);
    }
}

/// The seed is not a private key of the suite: zero or too large. Draw another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("seed is outside the range of a private key of {}", .suite.name())]
pub struct BadSeedError {
    /// The suite asked for.
    pub suite: Suite,
}

impl SecretKey {
    /// The key made of 32 secret random bytes: the seed of RFC 8032 for Ed25519, the big-endian scalar otherwise.
    ///
    /// # Errors
    /// [`BadSeedError`] for a P-256 scalar outside `[1, n-1]` or an SM2 scalar outside `[1, n-2]`
    /// (GB/T 32918.2 section 6.1); about one seed in 2^32.
    pub fn from_seed(suite: Suite, seed: &[u8; 32]) -> Result<Self, BadSeedError> {
        let bad = BadSeedError { suite };
        let (signer, point) = match suite {
            Suite::Ed25519 => {
                let key = ed25519_dalek::SigningKey::from_bytes(seed);
                let public = key.verifying_key();
                (Signer::Ed25519(Box::new(key)), Point::Ed25519(public))
            }
            Suite::P256 => {
                let key = p256::ecdsa::SigningKey::from_slice(seed).map_err(|_| bad)?;
                let public = *key.verifying_key();
                (Signer::P256(Box::new(key)), Point::P256(public))
            }
            Suite::Sm2 => {
                let key = Sm2Signer(sm2::dsa::SigningKey::from_slice(SM2_SIGNER_ID, seed).map_err(|_| bad)?);
                // Signing divides by d + 1, which is zero for d = n - 1.
                if (**key.0.as_nonzero_scalar() + sm2::Scalar::ONE).is_zero().into() {
                    return Err(bad);
                }
                let public = key.0.verifying_key().clone();
                (Signer::Sm2(Box::new(key)), Point::Sm2(Box::new(public)))
            }
        };
        Ok(Self { signer, public: PublicKey(point) })
    }

    /// The suite this key belongs to.
    pub fn suite(&self) -> Suite {
        self.public.suite()
    }

    /// The public half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs `message`. The same message gives the same signature: no suite draws randomness here.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        match &self.signer {
            Signer::Ed25519(key) => key.sign(message).to_bytes(),
            Signer::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign(message);
                signature.to_bytes().into()
            }
            Signer::Sm2(key) => key.0.sign(message).to_bytes().into(),
        }
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, public {})", self.suite().name(), self.public.thumbprint())
    }
}
