//! `shuyu init`: a node directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use shuyu_base::keys;
use shuyu_node::{InitError, InitOptions, Role, Space, Tls, init};

use crate::context::{Globals, read_file};
use crate::failure::{Failure, Outcome, chain};
use crate::print;

/// A new node.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  shuyu init holder --name 'Transport office' --did did:web:localhost%3A7101 --role holder --insecure-loopback
  shuyu init node --name 'City data' --did did:web:data.city.example --role holder --role consumer \\
      --listen 0.0.0.0:443 --flight 0.0.0.0:7103 --tls-certificate chain.pem --tls-key key.pem

  shuyu init member --name 'Hospital' --did did:web:hospital.example --role holder --space city.toml --tls-certificate ...

A space is described by its operator; the node then asks every caller for these credentials and shows its own:
  name = 'City'
  catalogue-peers = ['did:web:hub.city.example']
  [[require]]                                        what members must show
  type = 'MembershipCredential'
  issuers = ['did:web:space.city.example']
  [[accept]]                                         what policies may speak of besides
  type = 'AuditorCredential'
  issuers = ['did:web:space.city.example']
  [[trust-roots]]                                    keys under which an issuer counts, whatever its DID document says
  did = 'did:web:space.city.example'
  keys = ['z6Mk...']
  [witnesses]                                        who cosigns the members' ledgers (C2SP tlog-policy)
  policy = '''
  witness regulator regulator.example/witness+8b0e...+BIx... https://regulator.example/witness
  witness w1 w1.example/witness+92aa...+BMq... https://w1.example/witness
  group both all regulator w1
  quorum both
  '''
Catalogue peers are kept and shown (`shuyu space show`); this version does not use them yet.

The directory holds the configuration (shuyu.toml), the encrypted signing key and the key of the management API,
all readable by their owner only. Nothing is contacted. `shuyu run --dir DIR` starts the node.")]
pub struct Init {
    /// Directory to make
    dir: PathBuf,
    /// A name for people
    #[arg(long)]
    name: String,
    /// The owner's DID; the node serves the document of a did:web itself
    #[arg(long)]
    did: String,
    /// What the node does; may be repeated
    #[arg(long = "role", value_enum, required = true)]
    roles: Vec<RoleName>,
    /// Socket for peers: protocol, downloads, ledger, DID document
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7101")]
    listen: SocketAddr,
    /// Socket of the management API; loopback only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7102")]
    management: SocketAddr,
    /// Socket of Arrow Flight SQL
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7103")]
    flight: SocketAddr,
    /// Address under which peers reach --listen; by default from the DID
    #[arg(long, value_name = "URL")]
    public_url: Option<String>,
    /// Address under which peers reach --flight; by default from the DID
    #[arg(long, value_name = "URL")]
    flight_url: Option<String>,
    /// Permit plain http on loopback; for trying things on one machine, never in production
    #[arg(long, conflicts_with = "tls_certificate")]
    insecure_loopback: bool,
    /// Certificate chain for --listen and --flight, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Further roots to trust when calling peers, PEM
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_extra_roots: Option<PathBuf>,
    /// Description of a data space to join: TOML that its operator publishes; may be repeated
    #[arg(long = "space", value_name = "FILE")]
    spaces: Vec<PathBuf>,
    /// Suite of the signing key
    #[arg(long, value_enum, default_value = "ed25519")]
    suite: SuiteName,
    /// File with the passphrase of the signing key; by default a key file is made beside it
    #[arg(long, value_name = "FILE", env = "SHUYU_PASSPHRASE_FILE")]
    passphrase_file: Option<PathBuf>,
}

/// What a node does.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    /// Publishes data and enforces contracts over it
    Holder,
    /// Negotiates for data of others and uses it
    Consumer,
    /// Mirrors and checks the ledgers of others
    Regulator,
    /// Issues credentials to the members of a space
    Issuer,
    /// Cosigns the ledgers of others
    Witness,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Holder => Self::Holder,
            RoleName::Consumer => Self::Consumer,
            RoleName::Regulator => Self::Regulator,
            RoleName::Issuer => Self::Issuer,
            RoleName::Witness => Self::Witness,
        }
    }
}

/// Signature suites.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SuiteName {
    /// Ed25519
    Ed25519,
    /// ECDSA over P-256
    P256,
    /// SM2 with SM3
    Sm2,
}

impl From<SuiteName> for keys::Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::Ed25519 => Self::Ed25519,
            SuiteName::P256 => Self::P256,
            SuiteName::Sm2 => Self::Sm2,
        }
    }
}

/// Runs `shuyu init`.
pub fn run(globals: &Globals, wish: &Init) -> Outcome {
    let tls = match (&wish.tls_certificate, &wish.tls_key) {
        (Some(certificate), Some(key)) => {
            Some(Tls { certificate: certificate.clone(), key: key.clone(), extra_roots: wish.tls_extra_roots.clone() })
        }
        (None, _) | (_, None) => None,
    };
    let options = InitOptions {
        dir: wish.dir.clone(),
        name: wish.name.clone(),
        did: wish.did.clone(),
        roles: wish.roles.iter().copied().map(Role::from).collect(),
        listen: wish.listen,
        management: wish.management,
        flight: wish.flight,
        public_url: wish.public_url.clone(),
        flight_url: wish.flight_url.clone(),
        insecure_loopback: wish.insecure_loopback,
        tls,
        spaces: wish.spaces.iter().map(|path| read_space(path)).collect::<Outcome<_>>()?,
        suite: wish.suite.into(),
        passphrase_file: wish
            .passphrase_file
            .as_deref()
            .map(std::path::absolute)
            .transpose()
            .map_err(|error| Failure::invalid(format_args!("--passphrase-file: {error}")))?,
    };
    init(&options).map_err(|error| failure(&error))?;
    print::line(&wish.dir.display().to_string())?;
    globals.hint(format_args!("`shuyu run --dir {}` starts the node", wish.dir.display()));
    Ok(())
}

pub fn read_space(path: &Path) -> Outcome<Space> {
    let bytes = read_file(path, Space::MAX_FILE_BYTES)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Failure::invalid(format_args!("`{}` is not UTF-8", path.display())))?;
    Space::parse(&text, path).map_err(|error| Failure::invalid(chain(&error)))
}

fn failure(error: &InitError) -> Failure {
    let text = chain(error);
    if matches!(error, InitError::Exists(_)) {
        return Failure::failed(text).hint("choose another directory; an existing node is never touched");
    }
    if matches!(error, InitError::Config(_) | InitError::Passphrase { .. }) {
        return Failure::invalid(text);
    }
    Failure::failed(text)
}
