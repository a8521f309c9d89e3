//! What the command line reads in a node directory.

use std::path::Path;

use shuyu_base::keys::{PublicKey, SecretKey};
use shuyu_node::Config;
use shuyu_node::key_ring::KeyRing;
use url::Url;

use crate::failure::{Failure, Outcome, chain};

/// The configuration of a node directory.
pub struct NodeDir {
    /// As read and checked.
    pub config: Config,
}

/// Reads `dir/shuyu.toml`.
///
/// # Errors
/// Exit code 3, naming the file, line or key.
pub fn read(dir: &Path) -> Outcome<NodeDir> {
    let config = Config::load(dir).map_err(|error| {
        Failure::invalid(chain(&error))
            .hint(format_args!("is `{}` a node directory? `shuyu init` makes one", dir.display()))
    })?;
    Ok(NodeDir { config })
}

impl NodeDir {
    /// Address of the management API.
    pub fn management_url(&self) -> Outcome<Url> {
        let text = format!("http://{}", self.config.listen.management);
        text.parse().map_err(|error| Failure::invalid(format_args!("configuration key `listen.management`: {error}")))
    }
}

/// The public halves of a node's keys.
pub struct NodeKeys {
    /// Signs statements and tokens.
    pub signing: PublicKey,
    /// Signs the ledger's head.
    pub ledger: PublicKey,
    /// Signs it by the national suite, where the node has one.
    pub sm2: Option<PublicKey>,
}

/// Decrypts the key files that the configuration names; only the public halves leave this function.
///
/// # Errors
/// Exit code 3, naming the file.
pub fn keys(dir: &Path, config: &Config) -> Outcome<NodeKeys> {
    let file = dir.join(&config.keys.passphrase_file);
    let unreadable = |file: &Path, why: String| Failure::invalid(format_args!("`{}`: {why}", file.display()));
    let passphrase = std::fs::read(&file).map_err(|error| unreadable(&file, error.to_string()))?;
    let passphrase = passphrase.trim_ascii_end();
    let public = |name: &Path| {
        let file = dir.join(name);
        let pem = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error.to_string()))?;
        let key = SecretKey::from_encrypted_pem(&pem, passphrase).map_err(|error| unreadable(&file, chain(&error)))?;
        Ok(key.public().clone())
    };
    let ring = KeyRing::load(dir, config).map_err(|error| Failure::invalid(chain(&error)))?;
    let sm2 = config.keys.sm2_key.as_deref().map(public).transpose()?;
    Ok(NodeKeys { signing: public(&ring.file)?, ledger: public(&config.keys.ledger_key)?, sm2 })
}
