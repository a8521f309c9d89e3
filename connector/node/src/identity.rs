//! The node's own identity, and who is calling.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use shuyu_base::keys::SecretKey;
use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::{DidDocument, JwsError, Relationship, token};
use shuyu_resolver::{DidResolver, ResolveError};
use url::Url;

use crate::config::Config;
use crate::init::{InitError, read_passphrase};
use crate::store::{Batch, Store, StoreError, Table};

/// Life of a token this node issues, in milliseconds.
const TOKEN_LIFETIME_MS: i64 = 120_000;

/// Type of the service entry under which a node's DSP root is found (DSP 2025-1, section 4.2).
pub const DSP_SERVICE: &str = "DataService";
/// Type of the service entry of the evidence ledger's public address.
pub const LEDGER_SERVICE: &str = "ShuyuLedger";

/// The key and the name this node acts under.
pub struct Identity {
    /// The owner's DID.
    pub did: Did,
    /// Id of the verification method of [`Identity::key`].
    pub kid: String,
    /// The signing key.
    pub key: SecretKey,
    /// The ledger's key: Ed25519, used for checkpoints and nothing else.
    pub ledger_key: Arc<SecretKey>,
    /// The document served at `/.well-known/did.json`.
    pub document: DidDocument,
}

/// Why the node has no usable identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The passphrase file cannot be used.
    #[error(transparent)]
    Passphrase(#[from] InitError),
    /// The key file cannot be read.
    #[error("cannot read signing key `{path}`: {reason}")]
    Key {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The configured DID cannot be used.
    #[error("configuration key `did`: {0}")]
    Did(String),
}

impl Identity {
    /// Reads the key that the configuration names.
    ///
    /// # Errors
    /// [`IdentityError`]; the key itself is never part of the message.
    pub fn load(dir: &Path, config: &Config) -> Result<Self, IdentityError> {
        let did = config.did().map_err(|error| IdentityError::Did(error.to_string()))?;
        let passphrase = read_passphrase(&dir.join(&config.keys.passphrase_file))?;
        let key = read_key(&dir.join(&config.keys.signing_key), &passphrase)?;
        let ledger_key = Arc::new(read_key(&dir.join(&config.keys.ledger_key), &passphrase)?);
        let kid = format!("{did}#key-1");
        let document = document(&did, &key, &ledger_key, config).map_err(IdentityError::Did)?;
        Ok(Self { did, kid, key, ledger_key, document })
    }

    /// A self-issued token for `audience` (DCP 1.0, section 4.3).
    ///
    /// # Errors
    /// [`token::IssueError`] if a member is out of bounds.
    pub fn token(&self, audience: &Did, now: UnixMillis) -> Result<String, token::IssueError> {
        let jti = uuid::Uuid::new_v4().to_string();
        let draft = token::Draft {
            issuer: &self.did,
            audience,
            jti: &jti,
            now,
            lifetime_ms: TOKEN_LIFETIME_MS,
            extra: Map::new(),
        };
        token::issue(&self.key, &self.kid, &draft)
    }
}

fn read_key(path: &Path, passphrase: &[u8]) -> Result<SecretKey, IdentityError> {
    let bad = |reason: String| IdentityError::Key { path: path.display().to_string(), reason };
    let pem = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    SecretKey::from_encrypted_pem(&pem, passphrase).map_err(|error| bad(error.to_string()))
}

fn document(did: &Did, key: &SecretKey, ledger_key: &SecretKey, config: &Config) -> Result<DidDocument, String> {
    let root = config.public.url.trim_end_matches('/');
    let url = |path: &str| Url::parse(&format!("{root}{path}")).map_err(|error| error.to_string());
    let mut document = DidDocument::new(did.clone());
    let mut build = || {
        document.add_method("key-1", key.public().clone(), Relationship::ALL)?;
        document.add_method("ledger", ledger_key.public().clone(), [Relationship::AssertionMethod])
    };
    build().map_err(|error| error.to_string())?;
    for (fragment, kind, path) in
        [("dsp", DSP_SERVICE, "/.well-known/dspace-version"), ("log", LEDGER_SERVICE, "/ledger")]
    {
        document.add_service(fragment, kind, url(path)?).map_err(|error| error.to_string())?;
    }
    Ok(document)
}

/// Why a caller is not believed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// No bearer token.
    #[error("the request carries no `Authorization: Bearer` token")]
    Missing,
    /// The token is not valid for us now.
    #[error("token refused: {0}")]
    Token(#[from] token::TokenError),
    /// The sender's DID document cannot be had.
    #[error("the sender's DID document cannot be had: {0}")]
    Resolve(#[from] Arc<ResolveError>),
    /// The token was used before.
    #[error("token refused: `jti` was seen before")]
    Replayed,
    /// Our store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Checks tokens of other nodes; clones share the memory of what was seen.
#[derive(Clone)]
pub struct Doorkeeper {
    own: Did,
    resolver: Arc<DidResolver>,
    store: Store,
    replay: Arc<Mutex<()>>,
}

impl Doorkeeper {
    /// For the node `own`.
    pub fn new(own: Did, resolver: Arc<DidResolver>, store: Store) -> Self {
        Self { own, resolver, store, replay: Arc::default() }
    }

    /// Who sent this `Authorization` header. A token is good once.
    ///
    /// # Errors
    /// [`AuthError`] says which check failed.
    pub async fn caller(&self, authorization: Option<&str>, now: UnixMillis) -> Result<Did, AuthError> {
        let compact = bearer(authorization).ok_or(AuthError::Missing)?;
        let issuer = token::peek_issuer(compact)?;
        let document = self.resolver.resolve(&issuer).await?;
        let claims = match token::verify(compact, &document, &self.own, now) {
            // The sender may have changed its keys since we looked.
            Err(token::TokenError::Jws(JwsError::UnknownKey { .. })) => {
                let document = self.resolver.refresh(&issuer).await?;
                token::verify(compact, &document, &self.own, now)?
            }
            other => other?,
        };
        self.first_use(&claims.issuer, &claims.jti, claims.remember_until())?;
        Ok(claims.issuer)
    }

    /// Remembers `jti` until the token has expired. The write reaches the operating system before we go on,
    /// so a killed process remembers it too.
    fn first_use(&self, issuer: &Did, jti: &str, until: UnixMillis) -> Result<(), AuthError> {
        let key = format!("{issuer} {jti}");
        let _guard = self.replay.lock().unwrap_or_else(PoisonError::into_inner);
        if self.store.get::<Value>(Table::Replay, &key)?.is_some() {
            return Err(AuthError::Replayed);
        }
        let mut batch = Batch::default();
        batch.put(Table::Replay, &key, &until.0)?;
        self.store.commit_blocking(&batch, false)?;
        Ok(())
    }

    /// Forgets tokens that nobody would believe any more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn forget_expired(&self, now: UnixMillis) -> Result<(), StoreError> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.list::<i64>(Table::Replay, after.as_deref(), 1000)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut batch = Batch::default();
            for (key, _) in rows.iter().filter(|(_, until)| *until < now.0) {
                batch.delete(Table::Replay, key);
            }
            if !batch.is_empty() {
                self.store.commit(batch).await?;
            }
        }
    }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
