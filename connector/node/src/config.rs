//! `shuyu.toml`: one file per node, every key known, every bound stated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shuyu_base::Did;
use shuyu_resolver::{Network, ParseNetworkError};
use shuyu_tlog::Vkey;

use crate::keeper::parse_retention;

mod space;

pub use space::{FieldError, Require, Space, SpaceTerms, TrustRoot, Witnesses};

/// Most data spaces of one node.
pub const MAX_SPACES: usize = 16;

/// Most ledgers that a witness is told to cosign.
pub const MAX_WITNESSED_LOGS: usize = 4096;

/// Most regulators that a node or a space names.
pub const MAX_REGULATORS: usize = 64;

/// Name of the configuration file in a node directory.
pub const FILE_NAME: &str = "shuyu.toml";

/// What a node does for its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Publishes data and enforces contracts over it.
    Holder,
    /// Negotiates for data of others and uses it.
    Consumer,
    /// Mirrors and checks the ledgers of others.
    Regulator,
    /// Issues credentials to the members of a space.
    Issuer,
    /// Cosigns the ledgers of others.
    Witness,
}

impl Role {
    /// The word used in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Holder => "holder",
            Self::Consumer => "consumer",
            Self::Regulator => "regulator",
            Self::Issuer => "issuer",
            Self::Witness => "witness",
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// A name for people.
    pub name: String,
    /// The owner's DID. For did:web, this node serves the document itself.
    pub did: String,
    /// What the node does.
    pub roles: Vec<Role>,
    /// Permit http and loopback addresses towards peers. For one machine only, never in production.
    #[serde(default)]
    pub insecure_loopback: bool,
    /// Networks that peers may be in though they are not public, such as a city's own: `["10.20.0.0/16"]`. What a peer
    /// names elsewhere among private addresses is never contacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_networks: Vec<String>,
    /// Sockets this node listens on.
    pub listen: Listen,
    /// Addresses under which peers reach it.
    pub public: Public,
    /// TLS of the public sockets; plain text is refused unless `insecure-loopback` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Where the key file's passphrase is read from.
    pub keys: Keys,
    /// The evidence ledger.
    #[serde(default)]
    pub ledger: LedgerOptions,
    /// Where the ledger's checkpoints are anchored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anchors: Vec<Anchor>,
    /// Cosigning the ledgers of others.
    #[serde(default)]
    pub witness: WitnessOptions,
    /// Following the ledgers of others.
    #[serde(default)]
    pub audit: AuditOptions,
    /// Object stores with tables of this holder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<BucketKeys>,
    /// Bounds of one query and of the spool.
    #[serde(default)]
    pub limits: Limits,
    /// The data space this node belongs to, where it is one: `[space]` is one entry of `spaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<Space>,
    /// The data spaces this node belongs to, at most 16; without any, every node that proves its DID may speak with this
    /// one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<Space>,
    /// Refuse agreements that the other party does not sign. A peer whose DID document names an evidence ledger must sign in
    /// any case; without this, connectors of other makes may conclude agreements that carry our signature alone.
    #[serde(default)]
    pub require_signed_agreements: bool,
    /// Whether the management socket takes and tells data flows (Eclipse Data Plane Signaling): a foreign control plane
    /// may lead this node's data plane, and foreign data planes may serve for it.
    #[serde(default)]
    pub signaling: bool,
    /// How many automatic counter-offers a holder makes before it refuses, 0 to 16.
    #[serde(default = "three")]
    pub max_counter_offers: u32,
}

/// Sockets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Listen {
    /// Dataspace protocol, data pull, ledger and DID document.
    pub public: SocketAddr,
    /// Management API; keep it on loopback or behind a gateway.
    pub management: SocketAddr,
    /// Arrow Flight SQL.
    pub flight: SocketAddr,
}

/// Addresses peers use.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Public {
    /// Root of the public socket, for example `https://data.city.example`.
    pub url: String,
    /// Root of the Flight socket, for example `grpc+tls://data.city.example:7103`.
    pub flight_url: String,
}

/// PEM files.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, the node's own first.
    pub certificate: PathBuf,
    /// Private key of that certificate.
    pub key: PathBuf,
    /// Further roots trusted when this node calls others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra_roots: Option<PathBuf>,
}

/// The node's keys.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Keys {
    /// The key messages and evidence are signed with: encrypted PKCS#8 in PEM.
    pub signing_key: PathBuf,
    /// The ledger's Ed25519 key, likewise.
    pub ledger_key: PathBuf,
    /// The SM2 key with which agreements are signed beside the signing key, likewise. Without one this node signs none of
    /// its agreements by the national suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sm2_key: Option<PathBuf>,
    /// File that holds the passphrase of all of them.
    pub passphrase_file: PathBuf,
}

/// Who may read the tiles and entries of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LedgerRead {
    /// Anybody. Entries say nothing of contents; they do say which node dealt with which, and when.
    #[default]
    Public,
    /// The regulators, and members of the spaces of this node.
    Members,
    /// The regulators; the party that an entry names reads that entry.
    Parties,
}

/// The evidence ledger: `[ledger]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LedgerOptions {
    /// Keep a twin of the ledger in a tree of SM3, signed with `keys.sm2-key`, and serve it below `/ledger-sm3`. It takes
    /// as much room on disk again as the ledger's tiles.
    #[serde(default)]
    pub sm3_twin: bool,
    /// A policy file (C2SP tlog-policy) that names the witnesses of this ledger, beside those that the spaces name. All
    /// policies must be met for a checkpoint to count as witnessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness_policy: Option<PathBuf>,
    /// Within how many seconds after an entry is durable a checkpoint covers it, as is promised to whom the entry concerns;
    /// 1 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promise_s: Option<u32>,
    /// Take checkpoints of other nodes' ledgers into this one, for whoever proves its DID.
    #[serde(default)]
    pub take_anchors: bool,
    /// How often the newest cosigned head is stated in the ledger itself while entries are added, in seconds; 600 if it is
    /// not set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads_every_s: Option<u32>,
    /// Who may read its tiles and entries: `public`, `members` or `parties`. Its size, its root and its keys are public.
    #[serde(default)]
    pub read: LedgerRead,
    /// DIDs of those who may read everything whatever `read` says, beside the regulators of the spaces; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regulators: Vec<String>,
    /// How long what the entries commit to is kept, by kind of event or its beginning: `use = "1095d"`, in days (`d`),
    /// hours (`h`) or seconds (`s`). Then it is erased from the vault, and the erasure is evidence; the entries stay. What
    /// is not named is kept for ever. Connectors keep their logs 180 days at least (NDI-05 section 6.2).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retention: BTreeMap<String, String>,
    /// A second file for the last signed checkpoint, best on another disk: it shows when the ledger was put back to an older
    /// state together with the file that it keeps itself. A relative path starts at the node directory; its directory must
    /// be there. The twin's is beside it, with `-sm3` behind the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water: Option<PathBuf>,
}

impl LedgerOptions {
    /// As the ledger of the node in `dir` takes them.
    pub fn of_node(&self, dir: &Path) -> shuyu_ledger::LedgerOptions {
        shuyu_ledger::LedgerOptions { high_water: self.high_water.as_ref().map(|path| dir.join(path)) }
    }
}

/// A place where the ledger's checkpoints are anchored: `[[anchors]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Anchor {
    /// A name for people: 1 to 64 letters, digits and hyphens, no two alike.
    pub name: String,
    /// The DID of a node whose ledger states our checkpoints (`ledger.take-anchors` there); this or `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Where checkpoints are posted, https; this or `node`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// File with a bearer token for `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// How often, in seconds, at least 1; an hour if it is not set. Only a log that has grown is anchored.
    #[serde(default = "hour")]
    pub every_s: u32,
}

fn hour() -> u32 {
    3600
}

/// Following other ledgers: `[audit]`, for the role `regulator`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct AuditOptions {
    /// How often every followed node is looked at, in seconds, 1 to 3600; 10 if it is not set.
    pub every_s: u32,
    /// Serve the mirrors to everybody, below `/mirror/<SHA-256 of the origin>`: for ledgers that are public anyway.
    pub serve_mirrors: bool,
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self { every_s: 10, serve_mirrors: false }
    }
}

/// Cosigning other ledgers: `[witness]`, for the role `witness`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct WitnessOptions {
    /// Verifier keys of the ledgers that are cosigned (`shuyu status` shows a node's); at most 4096. A node that is also a
    /// regulator cosigns what it follows besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// File with the count of cosignatures, in the node's directory if it is not set. On another disk than the store it
    /// shows a store that was set back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high_water: Option<PathBuf>,
}

impl WitnessOptions {
    /// The ledgers' keys as values.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for `witness.logs`.
    pub fn keys(&self) -> Result<Vec<Vkey>, ConfigError> {
        if MAX_WITNESSED_LOGS < self.logs.len() {
            return Err(ConfigError::Value { key: "witness.logs", reason: format!("at most {MAX_WITNESSED_LOGS}") });
        }
        let bad = |text: &str, error| ConfigError::Value { key: "witness.logs", reason: format!("`{text}`: {error}") };
        self.logs.iter().map(|text| text.parse().map_err(|error| bad(text, error))).collect()
    }
}

/// A bucket of an object store that speaks the S3 protocol: `[[buckets]]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct BucketKeys {
    /// The bucket; assets are added as `s3://NAME/path`.
    pub name: String,
    /// Where it is, if not at Amazon: an https URL; http only with `insecure-loopback`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// Its region, if the store has regions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Access key id. Without one the environment is asked (`AWS_ACCESS_KEY_ID` and so on), as by other clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key_id: Option<String>,
    /// File that holds the secret access key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_access_key_file: Option<PathBuf>,
}

impl BucketKeys {
    /// Where the bucket is, as a value.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for `buckets.endpoint`.
    pub fn endpoint(&self) -> Result<Option<url::Url>, ConfigError> {
        let parsed = self.endpoint.as_deref().map(url::Url::parse).transpose();
        parsed.map_err(|error| ConfigError::Value { key: "buckets.endpoint", reason: error.to_string() })
    }
}

/// Bounds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Limits {
    /// Longest run of one query, in seconds.
    pub query_timeout_s: u64,
    /// Memory of one query, in MiB.
    pub query_memory_mib: u64,
    /// Disk for results waiting to be pulled, in MiB.
    pub spool_mib: u64,
    /// Longest time a pulled result is kept, in seconds.
    pub spool_ttl_s: u64,
    /// Requests served at once on the public socket.
    pub max_requests: usize,
    /// Negotiations, and as many transfers, that may be open with one peer for it to open another.
    pub max_open_per_peer: usize,
    /// How long what is known of a peer's credentials, and a status list, is believed before it is looked at again, in
    /// seconds, 1 to 300: a revocation is unknown for at most so long.
    pub credentials_ttl_s: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            query_timeout_s: 120,
            query_memory_mib: 1024,
            spool_mib: 4096,
            spool_ttl_s: 3600,
            max_requests: 512,
            max_open_per_peer: 1000,
            credentials_ttl_s: 60,
        }
    }
}

fn three() -> u32 {
    3
}

/// Why a configuration was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not TOML, or a key is missing, unknown or of the wrong type.
    #[error("`{path}` is not a valid configuration: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, column and key.
        reason: String,
    },
    /// The description of a space cannot be used.
    #[error("`{at}`: {source}")]
    Space {
        /// The file, or the place in the configuration.
        at: String,
        /// The field.
        source: FieldError,
    },
    /// A value is well-formed and cannot be used.
    #[error("configuration key `{key}`: {reason}")]
    Value {
        /// The key.
        key: &'static str,
        /// Why.
        reason: String,
    },
}

impl Config {
    /// Reads and checks `dir/shuyu.toml`.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, the line or the key.
    pub fn load(dir: &Path) -> Result<Self, ConfigError> {
        let path = dir.join(FILE_NAME);
        let text = std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path: path.clone(), source })?;
        let config: Self = toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path, reason: error.to_string().trim_end().to_owned() })?;
        config.check()?;
        Ok(config)
    }

    /// The owner's DID as a value.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for `did`.
    pub fn did(&self) -> Result<Did, ConfigError> {
        self.did.parse().map_err(|error| ConfigError::Value { key: "did", reason: format!("{error}") })
    }

    /// The permitted networks as values.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for `allow-networks`.
    pub fn networks(&self) -> Result<Vec<Network>, ConfigError> {
        let parsed = self.allow_networks.iter().map(|text| text.parse());
        parsed
            .collect::<Result<_, ParseNetworkError>>()
            .map_err(|error| ConfigError::Value { key: "allow-networks", reason: error.to_string() })
    }

    /// The spaces this node belongs to.
    pub fn all_spaces(&self) -> impl Iterator<Item = &Space> {
        self.space.iter().chain(&self.spaces)
    }

    /// The spaces as values.
    ///
    /// # Errors
    /// [`ConfigError::Space`] names the space and the field; [`ConfigError::Value`] for `spaces`.
    pub fn space_terms(&self) -> Result<Vec<SpaceTerms>, ConfigError> {
        let mut all: Vec<SpaceTerms> = Vec::new();
        let places = self.space.iter().map(|_| "space".to_owned());
        let places = places.chain((0..self.spaces.len()).map(|at| format!("spaces[{at}]")));
        for (space, at) in self.all_spaces().zip(places) {
            let terms = space.terms().map_err(|source| ConfigError::Space { at, source })?;
            if all.iter().any(|known| known.name == terms.name) {
                let reason = format!("there are two with the name `{}`", terms.name);
                return Err(ConfigError::Value { key: "spaces", reason });
            }
            all.push(terms);
        }
        if MAX_SPACES < all.len() {
            return Err(ConfigError::Value { key: "spaces", reason: format!("at most {MAX_SPACES}") });
        }
        Ok(all)
    }

    /// Those who may read the whole ledger: the regulators of the ledger and of the spaces.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for `ledger.regulators`.
    pub fn regulators(&self) -> Result<Vec<Did>, ConfigError> {
        let bad = |reason: String| ConfigError::Value { key: "ledger.regulators", reason };
        let named = self.all_spaces().flat_map(|space| &space.regulators).chain(&self.ledger.regulators);
        let all = named.map(|text| text.parse().map_err(|error| bad(format!("`{text}`: {error}"))));
        let all = all.collect::<Result<Vec<Did>, _>>()?;
        if MAX_REGULATORS < self.ledger.regulators.len() {
            return Err(bad(format!("at most {MAX_REGULATORS}")));
        }
        Ok(all)
    }

    /// Whether the node has this role.
    pub fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Value`] names the key.
    pub fn check(&self) -> Result<(), ConfigError> {
        let bad = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        self.did()?;
        self.networks()?;
        if self.roles.is_empty() {
            return bad("roles", "at least one of holder, consumer, regulator, issuer, witness");
        }
        self.space_terms()?;
        if !(1..=300).contains(&self.limits.credentials_ttl_s) {
            return bad("limits.credentials-ttl-s", "must be 1 to 300");
        }
        self.witness.keys()?;
        let is_word =
            |name: &str| (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        for (at, anchor) in self.anchors.iter().enumerate() {
            if !is_word(&anchor.name) || self.anchors.iter().take(at).any(|known| known.name == anchor.name) {
                return bad("anchors", "names are 1 to 64 letters, digits and hyphens, no two alike");
            }
            if anchor.every_s == 0 {
                return bad("anchors", "every-s must be at least 1");
            }
        }
        if !(1..=3600).contains(&self.audit.every_s) {
            return bad("audit.every-s", "must be 1 to 3600");
        }
        if self.ledger.heads_every_s == Some(0) {
            return bad("ledger.heads-every-s", "must be at least 1");
        }
        if self.ledger.promise_s.is_some_and(|promise_s| !(1..=86_400).contains(&promise_s)) {
            return bad("ledger.promise-s", "must be 1 to 86400");
        }
        if 16 < self.max_counter_offers {
            return bad("max-counter-offers", "at most 16");
        }
        self.regulators()?;
        if self.ledger.read == LedgerRead::Members && self.all_spaces().next().is_none() {
            return bad("ledger.read", "`members` needs a space; use `parties`");
        }
        parse_retention(&self.ledger.retention)
            .map_err(|reason| ConfigError::Value { key: "ledger.retention", reason })?;
        if self.limits.query_timeout_s == 0 || self.limits.query_memory_mib < 16 {
            return bad("limits", "query-timeout-s at least 1 and query-memory-mib at least 16");
        }
        if !self.listen.management.ip().is_loopback() {
            return bad(
                "listen.management",
                "must be a loopback address; put a gateway with TLS in front to reach it from elsewhere",
            );
        }
        for bucket in &self.buckets {
            let is_plain = bucket.endpoint()?.is_some_and(|endpoint| endpoint.scheme() != "https");
            if is_plain && !self.insecure_loopback {
                return bad("buckets.endpoint", "must be https");
            }
            if bucket.access_key_id.is_some() != bucket.secret_access_key_file.is_some() {
                return bad("buckets", "access-key-id and secret-access-key-file go together");
            }
        }
        self.check_plain_text()
    }

    /// Plain text leaves the machine only by mistake: it needs the explicit switch and loopback sockets.
    fn check_plain_text(&self) -> Result<(), ConfigError> {
        let bad = |key, reason: &str| Err(ConfigError::Value { key, reason: reason.to_owned() });
        let url = url::Url::parse(&self.public.url)
            .map_err(|error| ConfigError::Value { key: "public.url", reason: error.to_string() })?;
        if self.insecure_loopback {
            if !(self.listen.public.ip().is_loopback() && self.listen.flight.ip().is_loopback()) {
                return bad(
                    "insecure-loopback",
                    "is true, so listen.public and listen.flight must be loopback addresses",
                );
            }
            return Ok(());
        }
        if url.scheme() != "https" {
            return bad("public.url", "must be https, or set insecure-loopback = true on a single machine");
        }
        if self.tls.is_none() {
            return bad(
                "tls",
                "is missing; give certificate and key, or set insecure-loopback = true on a single machine",
            );
        }
        Ok(())
    }
}
