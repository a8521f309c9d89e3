//! The signing keys of a node over time: which one is in use, which were, and how one followed the other.
//!
//! `shuyu.toml` names the first signing key. Once it has been replaced, `keys/ring.json` says which key is in use, so that
//! the file that people edit is never rewritten by a program.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_base::{Did, PublicKey, UnixMillis};
use shuyu_credentials::Succession;
use shuyu_credentials::succession::MAX_SUCCESSIONS;

use crate::config::{Config, ConfigError};
use crate::init::{InitError, random_pem, read_passphrase, replace_private};

/// Where the ring is, below the node directory.
const RING_FILE: &str = "keys/ring.json";
/// Locked while the ring is changed.
const LOCK_FILE: &str = "keys/ring.lock";
/// Fragment of the first signing key in the DID document.
pub const FIRST_FRAGMENT: &str = "key-1";
/// Largest ring file read, in bytes.
const MAX_RING_BYTES: u64 = 256 * 1024;

/// The signing keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KeyRing {
    /// Fragment of the key in use.
    pub fragment: String,
    /// Its file, below the node directory.
    pub file: PathBuf,
    /// Keys that were in use, oldest first.
    pub past: Vec<PastKey>,
    /// Each change, signed by the key that left, oldest first.
    pub successions: Vec<String>,
}

/// A key that was in use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PastKey {
    /// Its fragment in the DID document, where it stays so that what it signed can be checked.
    pub fragment: String,
    /// The public key, as a multikey.
    pub key: String,
    /// When it was replaced, RFC 3339.
    pub until: String,
    /// Whether others may have it: then nothing it signs is taken any more, not even for a short while.
    pub compromised: bool,
}

/// What [`rotate`] did.
#[derive(Clone, Debug)]
pub struct Rotated {
    /// Id of the new key.
    pub kid: String,
    /// The new key.
    pub key: PublicKey,
    /// The key that left.
    pub left: PublicKey,
}

/// Why the keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyRingError {
    /// The configuration is not valid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] InitError),
    /// The ring or the key in use cannot be read.
    #[error("`{path}`: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// Another program is changing the keys.
    #[error("another program is changing the keys of this node")]
    Busy,
    /// Peers would go on asking for SM2 signatures that the node could no longer make.
    #[error("the node signs with SM2 and has no `keys.sm2-key` beside it; rotate to another SM2 key")]
    LeavesSm2,
}

impl KeyRing {
    /// The ring of the node in `dir`; of one whose key was never replaced, the key that `shuyu.toml` names.
    ///
    /// # Errors
    /// [`KeyRingError::Damaged`].
    pub fn load(dir: &Path, config: &Config) -> Result<Self, KeyRingError> {
        let path = dir.join(RING_FILE);
        let damaged = |reason: String| KeyRingError::Damaged { path: path.display().to_string(), reason };
        let length = match std::fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let (fragment, file) = (FIRST_FRAGMENT.to_owned(), config.keys.signing_key.clone());
                return Ok(Self { fragment, file, past: Vec::new(), successions: Vec::new() });
            }
            Err(error) => return Err(damaged(error.to_string())),
        };
        if MAX_RING_BYTES < length {
            return Err(damaged(format!("{length} bytes, the limit is {MAX_RING_BYTES}")));
        }
        let bytes = std::fs::read(&path).map_err(|error| damaged(error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
    }

    /// Whether `key`, as read from the file in use, is the one that the last succession names.
    ///
    /// # Errors
    /// [`KeyRingError::Damaged`].
    pub fn check(&self, did: &Did, key: &PublicKey) -> Result<(), KeyRingError> {
        let (Some(last), Some((_, before))) = (self.successions.last(), self.past_keys()?.pop()) else { return Ok(()) };
        if Succession::open(last, did, &before).is_some_and(|last| last.to == *key) {
            return Ok(());
        }
        let reason = format!("`{}` does not hold the key that the last succession names", self.file.display());
        Err(KeyRingError::Damaged { path: RING_FILE.to_owned(), reason })
    }

    /// The keys that were in use, as values.
    ///
    /// # Errors
    /// [`KeyRingError::Damaged`].
    pub fn past_keys(&self) -> Result<Vec<(&PastKey, PublicKey)>, KeyRingError> {
        let damaged = |reason: String| KeyRingError::Damaged { path: RING_FILE.to_owned(), reason };
        let read = |past: &'_ PastKey| PublicKey::from_multikey(&past.key);
        self.past
            .iter()
            .map(|past| Ok((past, read(past).map_err(|error| damaged(format!("`past.key`: {error}")))?)))
            .collect()
    }
}

/// Replaces the signing key of the node in `dir` by a fresh one of `suite`. A running node goes on with the old key until it
/// is started again.
///
/// # Errors
/// [`KeyRingError`]; the old key stays in use.
pub fn rotate(dir: &Path, suite: Suite, compromised: bool, now: UnixMillis) -> Result<Rotated, KeyRingError> {
    let config = Config::load(dir)?;
    let did: Did = config.did()?;
    let lock_path = dir.join(LOCK_FILE);
    let damaged = |reason: String| KeyRingError::Damaged { path: lock_path.display().to_string(), reason };
    let lock = std::fs::File::create(&lock_path).map_err(|error| damaged(error.to_string()))?;
    // Held until this function returns.
    lock.try_lock().map_err(|_| KeyRingError::Busy)?;
    let mut ring = KeyRing::load(dir, &config)?;
    let passphrase = read_passphrase(&dir.join(&config.keys.passphrase_file))?;
    let old_path = dir.join(&ring.file);
    let damaged = |reason: String| KeyRingError::Damaged { path: old_path.display().to_string(), reason };
    let pem = std::fs::read_to_string(&old_path).map_err(|error| damaged(error.to_string()))?;
    let old = SecretKey::from_encrypted_pem(&pem, &passphrase).map_err(|error| damaged(error.to_string()))?;
    if old.suite() == Suite::Sm2 && suite != Suite::Sm2 && config.keys.sm2_key.is_none() {
        return Err(KeyRingError::LeavesSm2);
    }
    let (key, pem) = random_pem(suite, &passphrase)?;
    let number = ring.fragment.strip_prefix("key-").and_then(|number| number.parse::<u32>().ok()).unwrap_or(1);
    let fragment = format!("key-{}", number.saturating_add(1));
    // A document tells of so many changes and no more; who holds a key older than that must be told in person.
    ring.successions.drain(..(ring.successions.len() + 1).saturating_sub(MAX_SUCCESSIONS));
    ring.past.drain(..(ring.past.len() + 1).saturating_sub(MAX_SUCCESSIONS));
    let file = PathBuf::from(format!("keys/node-{fragment}.pem"));
    // A file of this name is what an earlier attempt left behind: no ring names it.
    replace_private(&dir.join(&file), pem.as_bytes())?;
    let succession = Succession { did: did.clone(), to: key.clone(), at: now };
    ring.successions.push(succession.sign(&old, &format!("{did}#{}", ring.fragment)));
    let past = PastKey {
        fragment: std::mem::replace(&mut ring.fragment, fragment),
        key: old.public().to_multikey(),
        until: now.to_string(),
        compromised,
    };
    ring.past.push(past);
    ring.file = file;
    let text = serde_json::to_string_pretty(&ring).map_err(|error| damaged(error.to_string()))?;
    replace_private(&dir.join(RING_FILE), text.as_bytes())?;
    Ok(Rotated { kid: format!("{did}#{}", ring.fragment), key, left: old.public().clone() })
}
