//! Keys of the management API and what they are good for.
//!
//! `api-keys.toml` in the node directory holds a digest of each key, never the key. A key is 256 random bits, so that a
//! plain digest of it tells nothing; shorter ones are refused when they are presented. The file is read again when it
//! changes, and a file that cannot be read lets nobody in but the holder of `management.key`.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use shuyu_base::Digest;

use crate::init::random;

/// Name of the file in a node directory.
pub const API_KEYS_FILE: &str = "api-keys.toml";
/// Most keys of a node.
const MAX_KEYS: usize = 1000;
/// Most bytes of the file.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Fewest characters of a key that is accepted: 128 bits in hex.
const MIN_KEY_CHARS: usize = 32;
/// Most characters of a key.
const MAX_KEY_CHARS: usize = 256;
/// What keys made here start with, so that scanners of repositories find them.
const KEY_PREFIX: &str = "shuyu_";

/// What a key is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApiRole {
    /// Publishes: assets, policies, contract definitions, and the contracts made of them.
    Holder,
    /// Uses: catalogues, negotiations, transfers, access to data.
    Consumer,
    /// Looks at everything but tokens, and changes nothing.
    Regulator,
    /// Everything, web hooks and `/v1` included.
    Operator,
    /// Leads flows of this node's data plane: a foreign control plane (`/signaling`). Operators do not need it.
    Control,
    /// Tells this node's control plane how flows stand: a foreign data plane, by whose identifier the key is named.
    Dataplane,
}

impl ApiRole {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Holder, Self::Consumer, Self::Regulator, Self::Operator, Self::Control, Self::Dataplane];

    /// The word in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holder => "holder",
            Self::Consumer => "consumer",
            Self::Regulator => "regulator",
            Self::Operator => "operator",
            Self::Control => "control",
            Self::Dataplane => "dataplane",
        }
    }
}

/// One key, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// A name for people and logs.
    pub name: String,
    /// What it is good for.
    pub roles: Vec<ApiRole>,
    /// SHA-256 of the key, as `sha256:` and hex.
    pub digest: String,
}

/// The file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    #[serde(default)]
    keys: Vec<ApiKey>,
}

/// Why the key file was not read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApiKeyError {
    /// The file cannot be read or written.
    #[error("cannot use `{path}`: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The name is taken, unknown or not a name.
    #[error("key name `{name}` {reason}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// There is no random source.
    #[error("cannot make a key: {0}")]
    Random(String),
}

/// Who presented a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiCaller {
    /// The key's name.
    pub name: String,
    /// What it is good for.
    pub roles: Vec<ApiRole>,
}

impl ApiCaller {
    /// Whether one of these roles, or the operator's, is the caller's.
    pub fn may(&self, roles: &[ApiRole]) -> bool {
        self.roles.iter().any(|role| *role == ApiRole::Operator || roles.contains(role))
    }
}

/// The keys of a running node; clones share what was read.
#[derive(Clone)]
pub struct ApiKeys {
    path: PathBuf,
    /// Digest of the content of `management.key`, which is good for everything.
    management: Digest,
    read: Arc<Mutex<Read>>,
}

#[derive(Default)]
struct Read {
    /// Time, length and number of the file that was read.
    of: Option<(SystemTime, u64, u64)>,
    keys: Vec<ApiKey>,
}

impl ApiKeys {
    /// The keys of the node in `dir`; `management_key` is good for everything.
    pub fn new(dir: &Path, management_key: &str) -> Self {
        let management = Digest::sha256(management_key.as_bytes());
        Self { path: dir.join(API_KEYS_FILE), management, read: Arc::default() }
    }

    /// Whose key this is.
    pub fn caller(&self, key: &str) -> Option<ApiCaller> {
        let digest = Digest::sha256(key.as_bytes());
        if digest == self.management {
            return Some(ApiCaller { name: "management.key".to_owned(), roles: vec![ApiRole::Operator] });
        }
        if !(MIN_KEY_CHARS..=MAX_KEY_CHARS).contains(&key.len()) {
            return None;
        }
        // Digests of random keys are compared: how long that takes tells nothing about a key.
        let digest = digest.to_string();
        let found = self.keys().into_iter().find(|known| known.digest == digest)?;
        Some(ApiCaller { name: found.name, roles: found.roles })
    }

    fn keys(&self) -> Vec<ApiKey> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let seen =
            std::fs::metadata(&self.path).ok().and_then(|file| Some((file.modified().ok()?, file.len(), file.ino())));
        if seen != read.of {
            read.of = seen;
            read.keys = match seen.map(|_| load(&self.path)) {
                Some(Ok(file)) => file.keys,
                Some(Err(error)) => {
                    tracing::error!(%error, "no key of the file is accepted");
                    Vec::new()
                }
                None => Vec::new(),
            };
        }
        read.keys.clone()
    }
}

/// Makes a key for the node in `dir` and returns it; it cannot be had again.
///
/// # Errors
/// [`ApiKeyError`].
pub fn add_api_key(dir: &Path, name: &str, roles: &[ApiRole]) -> Result<String, ApiKeyError> {
    let bad = |reason| ApiKeyError::Name { name: name.to_owned(), reason };
    if name.is_empty() || 64 < name.len() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(bad("must be 1 to 64 visible ASCII characters"));
    }
    let path = dir.join(API_KEYS_FILE);
    let mut file = load(&path)?;
    if file.keys.iter().any(|key| key.name == name) {
        return Err(bad("is taken"));
    }
    if MAX_KEYS <= file.keys.len() {
        return Err(bad("finds no room; remove keys first"));
    }
    let secret = random::<32>().map_err(|error| ApiKeyError::Random(error.to_string()))?;
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let key = format!("{KEY_PREFIX}{hex}");
    let digest = Digest::sha256(key.as_bytes()).to_string();
    file.keys.push(ApiKey { name: name.to_owned(), roles: roles.to_vec(), digest });
    save(&path, &file)?;
    Ok(key)
}

/// The keys of the node in `dir`.
///
/// # Errors
/// [`ApiKeyError`].
pub fn list_api_keys(dir: &Path) -> Result<Vec<ApiKey>, ApiKeyError> {
    Ok(load(&dir.join(API_KEYS_FILE))?.keys)
}

/// Removes a key; a running node refuses it from its next request on.
///
/// # Errors
/// [`ApiKeyError::Name`] if there is none of this name.
pub fn remove_api_key(dir: &Path, name: &str) -> Result<(), ApiKeyError> {
    let path = dir.join(API_KEYS_FILE);
    let mut file = load(&path)?;
    let before = file.keys.len();
    file.keys.retain(|key| key.name != name);
    if file.keys.len() == before {
        return Err(ApiKeyError::Name { name: name.to_owned(), reason: "is not known" });
    }
    save(&path, &file)
}

fn load(path: &Path) -> Result<KeyFile, ApiKeyError> {
    let bad = |reason: String| ApiKeyError::File { path: path.to_owned(), reason };
    match std::fs::metadata(path) {
        Ok(file) if MAX_FILE_BYTES < file.len() => return Err(bad("is larger than 1 MiB".to_owned())),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(KeyFile::default()),
        Err(error) => return Err(bad(error.to_string())),
    }
    let text = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let file: KeyFile = toml::from_str(&text).map_err(|error| bad(error.to_string().trim_end().to_owned()))?;
    if MAX_KEYS < file.keys.len() {
        return Err(bad(format!("has more than {MAX_KEYS} keys")));
    }
    if let Some(key) = file.keys.iter().find(|key| key.digest.parse::<Digest>().is_err()) {
        return Err(bad(format!("the digest of key `{}` is not one", key.name)));
    }
    Ok(file)
}

/// Writes the file beside its place and moves it there, so that a node never reads half of it.
fn save(path: &Path, file: &KeyFile) -> Result<(), ApiKeyError> {
    use std::io::Write as _;
    let bad = |reason: String| ApiKeyError::File { path: path.to_owned(), reason };
    let text = toml::to_string_pretty(file).map_err(|error| bad(error.to_string()))?;
    let beside = path.with_extension("toml.new");
    let write = || -> std::io::Result<()> {
        let mut new = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        new.write_all(text.as_bytes())?;
        new.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| bad(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_good_until_it_is_removed_and_is_not_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ApiKeys::new(dir.path(), "the management key, however long");
        assert_eq!(keys.caller("the management key, however long").unwrap().roles, [ApiRole::Operator]);
        let key = add_api_key(dir.path(), "dashboard", &[ApiRole::Holder]).unwrap();
        assert!(matches!(
            add_api_key(dir.path(), "dashboard", &[ApiRole::Holder]),
            Err(ApiKeyError::Name { reason: "is taken", .. })
        ));
        let caller = keys.caller(&key).unwrap();
        assert!(caller.may(&[ApiRole::Holder]) && !caller.may(&[ApiRole::Consumer]));
        assert!(!std::fs::read_to_string(dir.path().join(API_KEYS_FILE)).unwrap().contains(&key));
        assert_eq!(keys.caller(&key.replace("shuyu_", "shuyu-")), None);
        remove_api_key(dir.path(), "dashboard").unwrap();
        assert_eq!(keys.caller(&key), None);
    }

    #[test]
    fn a_weak_key_and_a_damaged_file_let_nobody_in() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ApiKeys::new(dir.path(), "the management key, however long");
        let weak = ApiKey {
            name: "weak".to_owned(),
            roles: vec![ApiRole::Operator],
            digest: Digest::sha256(b"password").to_string(),
        };
        save(&dir.path().join(API_KEYS_FILE), &KeyFile { keys: vec![weak] }).unwrap();
        assert_eq!(keys.caller("password"), None);
        let key = add_api_key(dir.path(), "good", &[ApiRole::Consumer]).unwrap();
        assert!(keys.caller(&key).is_some());
        std::fs::write(dir.path().join(API_KEYS_FILE), "keys = 7 # damaged").unwrap();
        assert_eq!(keys.caller(&key), None);
    }
}
