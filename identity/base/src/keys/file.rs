//! Private keys at rest: PKCS#8 (RFC 5958) encrypted with PBES2 (RFC 8018), scrypt (RFC 7914) and AES-256-CBC.
//!
//! `openssl pkey -in FILE` reads the files of every suite.

use pkcs8::der::Decode as _;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::{EncryptionScheme, pbes2, scrypt};
use pkcs8::{
    AlgorithmIdentifierRef, EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier,
    PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use super::secret::Signer;
use super::{SecretKey, Suite};

/// Longest PEM text accepted, in bytes; ours are about 500.
pub const MAX_PEM_BYTES: usize = 8 * 1024;

/// Binary logarithm of scrypt's cost parameter N.
///
/// N = 2^14, r = 8, p = 5 is the row of the OWASP password storage cheat sheet that needs 16 MiB. A larger N takes
/// 32 MiB and more, which OpenSSL refuses to spend on a key file; p makes up for it in time.
pub const SCRYPT_LOG_N: u8 = 14;
/// Scrypt's block size r.
pub const SCRYPT_BLOCK_SIZE: u32 = 8;
/// Scrypt's parallelization p.
pub const SCRYPT_PARALLELIZATION: u32 = 5;

/// Costs beyond these are refused on reading, so that a planted file cannot exhaust memory (128 MiB) or time.
const MAX_SCRYPT_LOG_N: u32 = 17;
const MAX_SCRYPT_BLOCK_SIZE: u16 = 8;
const MAX_SCRYPT_PARALLELIZATION: u16 = 16;
const MAX_PBKDF2_ROUNDS: u32 = 10_000_000;

const PEM_LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// id-Ed25519 (RFC 8410 section 3).
const ED25519_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// id-ecPublicKey (RFC 5480 section 2.1.1).
const EC_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1 (RFC 5480 section 2.1.1.1).
const P256_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// sm2p256v1 (GM/T 0006).
const SM2_OID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.156.10197.1.301");

/// Why a private key file was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// Longer than [`MAX_PEM_BYTES`].
    #[error("key file is {len_bytes} bytes, the limit is {MAX_PEM_BYTES}")]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
    },
    /// Not PEM with the label `ENCRYPTED PRIVATE KEY`. An unencrypted key is refused too.
    #[error("key file is not PEM text labelled `{PEM_LABEL}`")]
    NotEncryptedPem,
    /// The encryption is not PBES2 with a supported, affordable key derivation.
    #[error("key file uses an encryption that is not supported or costs too much")]
    UnsupportedEncryption,
    /// The wrong passphrase, or damage; the two cannot be told apart.
    #[error("passphrase is wrong or the key file is damaged")]
    WrongPassphrase,
    /// Decrypted, but not a private key of a suite we have.
    #[error("key file holds no Ed25519, P-256 or SM2 private key")]
    NotAKey,
    /// The key could not be encoded; this does not happen for a key that exists.
    #[error("private key could not be encoded")]
    Encode,
}

impl SecretKey {
    /// The key as PEM text, encrypted under `passphrase`.
    ///
    /// `salt` and `iv` must be fresh random bytes for every call. Costs 16 MiB and about a fifth of a second.
    ///
    /// # Errors
    /// [`KeyFileError::Encode`].
    pub fn to_encrypted_pem(&self, passphrase: &[u8], salt: [u8; 16], iv: [u8; 16]) -> Result<String, KeyFileError> {
        let cost = scrypt::Params::new(SCRYPT_LOG_N, SCRYPT_BLOCK_SIZE, SCRYPT_PARALLELIZATION)
            .map_err(|_| KeyFileError::Encode)?;
        let scheme = pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv).map_err(|_| KeyFileError::Encode)?;
        let plain = self.to_pkcs8().map_err(|_| KeyFileError::Encode)?;
        let sealed = scheme.encrypt(passphrase, plain.as_bytes()).map_err(|_| KeyFileError::Encode)?;
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: EncryptionScheme::Pbes2(scheme),
            encrypted_data: OctetStringRef::new(&sealed).map_err(|_| KeyFileError::Encode)?,
        };
        let document = SecretDocument::try_from(&info).map_err(|_| KeyFileError::Encode)?;
        let mut pem = document.to_pem(PEM_LABEL, LineEnding::LF).map_err(|_| KeyFileError::Encode)?;
        Ok(std::mem::take(&mut *pem))
    }

    /// Reads PEM text that [`Self::to_encrypted_pem`] or `openssl pkcs8 -topk8` (PBES2) wrote.
    ///
    /// # Errors
    /// [`KeyFileError`] says whether the file, its encryption or the passphrase is at fault.
    pub fn from_encrypted_pem(pem: &str, passphrase: &[u8]) -> Result<Self, KeyFileError> {
        let document = envelope(pem)?;
        let info = sealed(&document)?;
        let EncryptionScheme::Pbes2(scheme) = &info.encryption_algorithm else {
            return Err(KeyFileError::UnsupportedEncryption);
        };
        let plain = Zeroizing::new(
            scheme.decrypt(passphrase, info.encrypted_data.as_bytes()).map_err(|_| KeyFileError::WrongPassphrase)?,
        );
        // A wrong passphrase passes the padding check once in about 256 times and then fails here.
        let key = PrivateKeyInfoRef::from_der(&plain).map_err(|_| KeyFileError::WrongPassphrase)?;
        from_pkcs8(&key)
    }

    /// Checks that `pem` is a file [`Self::from_encrypted_pem`] would try a passphrase on, without spending the cost of
    /// the key derivation.
    ///
    /// # Errors
    /// [`KeyFileError`] as far as it can be known without the passphrase.
    pub fn check_encrypted_pem(pem: &str) -> Result<(), KeyFileError> {
        sealed(&envelope(pem)?).map(|_| ())
    }

    fn to_pkcs8(&self) -> pkcs8::Result<SecretDocument> {
        match &self.signer {
            Signer::Ed25519(key) => {
                // Version 1 without the public key: OpenSSL 3.0 does not read version 2 (RFC 8410 section 7).
                let mut wrapped = Zeroizing::new(vec![0x04, 0x20]);
                wrapped.extend_from_slice(key.as_bytes());
                let algorithm = AlgorithmIdentifierRef { oid: ED25519_OID, parameters: None };
                let info = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(&wrapped)?);
                Ok(SecretDocument::encode_msg(&info)?)
            }
            Signer::P256(key) => p256::SecretKey::from(key.as_nonzero_scalar()).to_pkcs8_der(),
            Signer::Sm2(key) => sm2::SecretKey::from(key.0.as_nonzero_scalar()).to_pkcs8_der(),
        }
    }
}

/// The DER inside the PEM text.
fn envelope(pem: &str) -> Result<SecretDocument, KeyFileError> {
    if MAX_PEM_BYTES < pem.len() {
        return Err(KeyFileError::TooLarge { len_bytes: pem.len() });
    }
    let (label, document) = SecretDocument::from_pem(pem).map_err(|_| KeyFileError::NotEncryptedPem)?;
    if label != PEM_LABEL {
        return Err(KeyFileError::NotEncryptedPem);
    }
    Ok(document)
}

/// The encrypted key, once its key derivation is known to be affordable.
fn sealed(document: &SecretDocument) -> Result<EncryptedPrivateKeyInfoRef<'_>, KeyFileError> {
    let info =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyFileError::UnsupportedEncryption)?;
    if let EncryptionScheme::Pbes2(scheme) = &info.encryption_algorithm
        && is_affordable(&scheme.kdf)
    {
        return Ok(info);
    }
    Err(KeyFileError::UnsupportedEncryption)
}

/// Bounds the work a key file asks for. The lower bounds matter too: N = 0 makes the library below panic.
fn is_affordable(kdf: &pbes2::Kdf) -> bool {
    match kdf {
        pbes2::Kdf::Pbkdf2(cost) => (1..=MAX_PBKDF2_ROUNDS).contains(&cost.iteration_count),
        pbes2::Kdf::Scrypt(cost) => {
            cost.cost_parameter.is_power_of_two()
                && (1..=MAX_SCRYPT_LOG_N).contains(&cost.cost_parameter.trailing_zeros())
                && (1..=MAX_SCRYPT_BLOCK_SIZE).contains(&cost.block_size)
                && (1..=MAX_SCRYPT_PARALLELIZATION).contains(&cost.parallelization)
        }
        _ => false, // The enum is foreign and may grow.
    }
}

fn from_pkcs8(key: &PrivateKeyInfoRef<'_>) -> Result<SecretKey, KeyFileError> {
    let curve = key.algorithm.parameters.map(|any| any.decode_as::<ObjectIdentifier>());
    let (suite, seed) = match (key.algorithm.oid, curve) {
        (ED25519_OID, None) => match key.private_key.as_bytes() {
            [0x04, 0x20, seed @ ..] => (Suite::Ed25519, Zeroizing::new(seed.to_vec())),
            _ => return Err(KeyFileError::NotAKey),
        },
        (EC_OID, Some(Ok(P256_OID))) => {
            let key = p256::SecretKey::try_from(key.clone()).map_err(|_| KeyFileError::NotAKey)?;
            (Suite::P256, Zeroizing::new(key.to_bytes().to_vec()))
        }
        (EC_OID, Some(Ok(SM2_OID))) => {
            let key = sm2::SecretKey::try_from(key.clone()).map_err(|_| KeyFileError::NotAKey)?;
            (Suite::Sm2, Zeroizing::new(key.to_bytes().to_vec()))
        }
        _ => return Err(KeyFileError::NotAKey),
    };
    let seed: &[u8; 32] = seed.as_slice().try_into().map_err(|_| KeyFileError::NotAKey)?;
    SecretKey::from_seed(suite, seed).map_err(|_| KeyFileError::NotAKey)
}
