//! The Multikey form of a public key (W3C Controlled Identifiers 1.0, section 2.2.2).

use super::{ParseKeyError, PublicKey, Suite};

/// Longest Multikey text accepted: 35 bytes are at most 48 base58 digits, and one more for the `z`.
pub const MAX_MULTIKEY_BYTES: usize = 64;

/// The multicodec code as an unsigned varint: ed25519-pub 0xed, p256-pub 0x1200, sm2-pub 0x1206 (a draft entry).
fn codec_prefix(suite: Suite) -> [u8; 2] {
    match suite {
        Suite::Ed25519 => [0xed, 0x01],
        Suite::P256 => [0x80, 0x24],
        Suite::Sm2 => [0x86, 0x24],
    }
}

impl PublicKey {
    /// `z` followed by base58btc of the multicodec prefix and the key bytes.
    pub fn to_multikey(&self) -> String {
        let mut bytes = codec_prefix(self.suite()).to_vec();
        bytes.extend(self.to_bytes());
        format!("z{}", bs58::encode(bytes).into_string())
    }

    /// Reads what [`Self::to_multikey`] writes.
    ///
    /// # Errors
    /// [`ParseKeyError`] for another base, an unknown key type, a wrong length or a bad point.
    pub fn from_multikey(text: &str) -> Result<Self, ParseKeyError> {
        if MAX_MULTIKEY_BYTES < text.len() {
            return Err(ParseKeyError::BadMultibase);
        }
        let digits = text.strip_prefix('z').ok_or(ParseKeyError::BadMultibase)?;
        let bytes = bs58::decode(digits).into_vec().map_err(|_| ParseKeyError::BadMultibase)?;
        for suite in Suite::ALL {
            if let Some(key) = bytes.strip_prefix(&codec_prefix(suite)) {
                return Self::from_bytes(suite, key);
            }
        }
        Err(ParseKeyError::UnknownCodec)
    }
}
