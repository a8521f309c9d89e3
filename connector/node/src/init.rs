//! Making a node directory.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use shuyu_base::keys::{PublicKey, SecretKey, Suite};

use crate::config::{
    AuditOptions, Config, ConfigError, FILE_NAME, Keys, LedgerOptions, Limits, Listen, Public, Role, Space, Tls,
    WitnessOptions,
};

/// Name of the file with the management API's key.
pub const MANAGEMENT_KEY_FILE: &str = "management.key";

/// What `shuyu init` was told.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Directory to make; must not hold a node yet.
    pub dir: PathBuf,
    /// A name for people.
    pub name: String,
    /// The owner's DID.
    pub did: String,
    /// What the node will do.
    pub roles: Vec<Role>,
    /// Public socket.
    pub listen: SocketAddr,
    /// Management socket.
    pub management: SocketAddr,
    /// Flight socket.
    pub flight: SocketAddr,
    /// Root address for peers; derived from the DID's host if absent.
    pub public_url: Option<String>,
    /// Flight address for peers; derived from `public_url` and the Flight port if absent.
    pub flight_url: Option<String>,
    /// Permit plain text on this machine.
    pub insecure_loopback: bool,
    /// TLS files.
    pub tls: Option<Tls>,
    /// The data spaces the node is to belong to.
    pub spaces: Vec<Space>,
    /// Suite of the signing key.
    pub suite: Suite,
    /// File with the passphrase; a random key file is made if absent.
    pub passphrase_file: Option<PathBuf>,
}

/// Why no node directory was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitError {
    /// There is one already.
    #[error("`{0}` holds a node already")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("cannot write `{path}`")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The passphrase file cannot be used.
    #[error("passphrase file `{path}`: {reason}")]
    Passphrase {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No key could be made.
    #[error("cannot make a key: {0}")]
    Key(String),
    /// The options do not make a valid configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

/// Makes the directory with configuration, encrypted key and management key.
///
/// # Errors
/// [`InitError`]; an existing node is never touched.
pub fn init(options: &InitOptions) -> Result<(), InitError> {
    let dir = &options.dir;
    if dir.join(FILE_NAME).exists() {
        return Err(InitError::Exists(dir.clone()));
    }
    let config = config(options)?;
    config.check()?;
    make_dir(dir)?;
    make_dir(&dir.join("keys"))?;
    let passphrase = match &options.passphrase_file {
        Some(path) => read_passphrase(path)?,
        None => {
            let secret = hex(&random::<32>()?);
            write_private(&dir.join("keys/node.pass"), secret.as_bytes())?;
            secret.into_bytes()
        }
    };
    for (file, suite) in [("node.pem", options.suite), ("ledger.pem", Suite::Ed25519), ("sm2.pem", Suite::Sm2)] {
        write_private(&dir.join("keys").join(file), random_pem(suite, &passphrase)?.1.as_bytes())?;
    }
    write_private(&dir.join(MANAGEMENT_KEY_FILE), hex(&random::<32>()?).as_bytes())?;
    let text = toml::to_string_pretty(&config).map_err(|error| InitError::Key(error.to_string()))?;
    write_private(&dir.join(FILE_NAME), text.as_bytes())
}

/// Reads a passphrase: the file's bytes without a trailing line break.
pub(crate) fn read_passphrase(path: &Path) -> Result<Vec<u8>, InitError> {
    let bad = |reason: String| InitError::Passphrase { path: path.to_owned(), reason };
    let mut bytes = std::fs::read(path).map_err(|error| bad(error.to_string()))?;
    while matches!(bytes.last(), Some(b'\n' | b'\r')) {
        bytes.pop();
    }
    if bytes.len() < 8 {
        return Err(bad("must hold at least 8 bytes".to_owned()));
    }
    Ok(bytes)
}

fn config(options: &InitOptions) -> Result<Config, InitError> {
    let scheme = if options.insecure_loopback { "http" } else { "https" };
    let host = options
        .did
        .strip_prefix("did:web:")
        .and_then(|id| id.split(':').next())
        .map_or_else(|| options.listen.to_string(), |host| host.replace("%3A", ":").replace("%3a", ":"));
    let url = options.public_url.clone().unwrap_or_else(|| format!("{scheme}://{host}"));
    let flight_scheme = if options.insecure_loopback { "grpc" } else { "grpc+tls" };
    let bare_host = host.rsplit_once(':').map_or(host.as_str(), |(bare, _)| bare);
    let flight_url = options
        .flight_url
        .clone()
        .unwrap_or_else(|| format!("{flight_scheme}://{bare_host}:{}", options.flight.port()));
    Ok(Config {
        name: options.name.clone(),
        did: options.did.clone(),
        roles: options.roles.clone(),
        insecure_loopback: options.insecure_loopback,
        allow_networks: Vec::new(),
        listen: Listen { public: options.listen, management: options.management, flight: options.flight },
        public: Public { url, flight_url },
        tls: options.tls.clone(),
        keys: Keys {
            signing_key: "keys/node.pem".into(),
            ledger_key: "keys/ledger.pem".into(),
            sm2_key: Some("keys/sm2.pem".into()),
            passphrase_file: options.passphrase_file.clone().unwrap_or_else(|| "keys/node.pass".into()),
        },
        ledger: LedgerOptions::default(),
        witness: WitnessOptions::default(),
        audit: AuditOptions::default(),
        anchors: Vec::new(),
        buckets: Vec::new(),
        limits: Limits::default(),
        space: None,
        spaces: options.spaces.clone(),
        require_signed_agreements: false,
        signaling: false,
        max_counter_offers: 3,
    })
}

/// A fresh key, and its file encrypted under the passphrase.
pub(crate) fn random_pem(suite: Suite, passphrase: &[u8]) -> Result<(PublicKey, String), InitError> {
    let key = random_key(suite)?;
    let pem =
        key.to_encrypted_pem(passphrase, random()?, random()?).map_err(|error| InitError::Key(error.to_string()))?;
    Ok((key.public().clone(), pem))
}

/// A key from the system's random source. A seed is refused by a suite about once in 2^32 draws (zero or too large): draw again.
fn random_key(suite: Suite) -> Result<SecretKey, InitError> {
    let mut refused = String::new();
    for _ in 0..8 {
        match SecretKey::from_seed(suite, &random()?) {
            Ok(key) => return Ok(key),
            Err(error) => refused = error.to_string(),
        }
    }
    Err(InitError::Key(refused))
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], InitError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| InitError::Key(error.to_string()))?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn make_dir(path: &Path) -> Result<(), InitError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| InitError::Write { path: path.to_owned(), source })
}

/// Writes a file that only its owner can read, the whole of it or nothing, in place of one that may be there.
pub(crate) fn replace_private(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let part = path.with_extension("part");
    let failed = |source| InitError::Write { path: path.to_owned(), source };
    match std::fs::remove_file(&part) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    write_private(&part, bytes)?;
    std::fs::rename(&part, path).map_err(failed)?;
    let parent = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::File::open(parent).and_then(|dir| dir.sync_all()).map_err(failed)
}

/// Writes a new file that only its owner can read.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    let write = || -> std::io::Result<()> {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| InitError::Write { path: path.to_owned(), source })
}
