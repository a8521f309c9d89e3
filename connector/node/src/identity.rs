//! The node's own identity, and who is calling.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use shuyu_base::keys::{PublicKey, SecretKey, Suite};
use shuyu_base::{Did, UnixMillis};
use shuyu_contract_engine::signature::{Signature, Subject};
use shuyu_credentials::access::{self, Grant};
use shuyu_credentials::document::ExtendDocumentError;
use shuyu_credentials::{DidDocument, JwsError, Relationship, Scope, token};
use shuyu_resolver::{DidResolver, ResolveError};
use url::Url;

use crate::claims::space::Viewer;
use crate::config::{Config, Role};
use crate::init::{InitError, read_passphrase};
use crate::key_ring::{KeyRing, KeyRingError};
use crate::store::{Batch, Store, StoreError, Table};

/// Life of a token this node issues, in milliseconds.
const TOKEN_LIFETIME_MS: i64 = 120_000;

/// Fragment of the SM2 key in the DID document.
const SM2_FRAGMENT: &str = "sm2-1";

/// Type of the service entry under which a node's DSP root is found (DSP 2025-1, section 4.2).
pub const DSP_SERVICE: &str = "DataService";
/// Type of the service entry of the evidence ledger's public address.
pub const LEDGER_SERVICE: &str = "ShuyuLedger";

/// Type of the service entry of the holder's side of DCP 1.0 (section 5.2).
pub const CREDENTIAL_SERVICE: &str = "CredentialService";
/// Type of the service entry of the issuer's side of DCP 1.0 (section 6.2).
pub const ISSUER_SERVICE: &str = "IssuerService";
/// Path of the credential service below the public root.
pub const CREDENTIAL_SERVICE_PATH: &str = "/dcp";
/// Path of the issuer service below the public root.
pub const ISSUER_SERVICE_PATH: &str = "/issuer";

/// Life of an access token to the credential service, in milliseconds.
pub const ACCESS_LIFETIME_MS: i64 = 300_000;
/// How long one access token is given to the same peer again, in milliseconds, so that the peer's memory of what it saw
/// is of use.
const ACCESS_REUSE_MS: i64 = 120_000;
/// Most peers whose access token is remembered.
const MAX_ACCESS: usize = 10_000;

/// Access tokens in use, by peer, and when they are replaced.
type AccessMemory = Mutex<HashMap<Did, (String, UnixMillis)>>;

/// The key and the name this node acts under.
pub struct Identity {
    /// The owner's DID.
    pub did: Did,
    /// Id of the verification method of [`Identity::key`].
    pub kid: String,
    /// The signing key.
    pub key: SecretKey,
    /// The SM2 key and its id, if the node has one.
    national: Option<(Arc<SecretKey>, String)>,
    /// Id and key of the signing key before, if others cannot have it: what it signed lately may still be under way.
    before: Option<(String, PublicKey)>,
    /// The ledger's key: Ed25519, used for checkpoints and nothing else.
    pub ledger_key: Arc<SecretKey>,
    /// The document served at `/.well-known/did.json`.
    pub document: DidDocument,
    /// What every peer may read of the owner's credentials: what the spaces ask of their members or accept from them.
    presents: BTreeSet<Scope>,
    access: AccessMemory,
}

/// Why the node has no usable identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The passphrase file cannot be used.
    #[error(transparent)]
    Passphrase(#[from] InitError),
    /// The ring of signing keys cannot be read.
    #[error(transparent)]
    Ring(#[from] KeyRingError),
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
        let ring = KeyRing::load(dir, config)?;
        let [key, ledger_key, national] = read_keys(
            [
                Some(dir.join(&ring.file)),
                Some(dir.join(&config.keys.ledger_key)),
                config.keys.sm2_key.as_ref().map(|file| dir.join(file)),
            ],
            &passphrase,
        )?;
        let (Some(key), Some(ledger_key)) = (key, ledger_key) else {
            return Err(IdentityError::Did("there is no signing key".to_owned()));
        };
        let ledger_key = Arc::new(ledger_key);
        let kid = format!("{did}#{}", ring.fragment);
        let national = national.map(|key| (Arc::new(key), format!("{did}#{SM2_FRAGMENT}")));
        let mut document = DidDocument::new(did.clone());
        let own = [
            (ring.fragment.as_str(), Some(key.public()), Relationship::ALL.as_slice()),
            ("ledger", Some(ledger_key.public()), &[Relationship::AssertionMethod]),
            (SM2_FRAGMENT, national.as_ref().map(|(key, _)| key.public()), &[Relationship::AssertionMethod]),
        ];
        let own = own.into_iter().filter_map(|(fragment, key, uses)| Some((fragment, key?.clone(), uses)));
        ring.check(&did, key.public())?;
        let past = ring.past_keys()?;
        let past_ones = past.iter().map(|(past, key)| {
            // What the key signed before can be found out with it still; what it signs from now on is good for nothing.
            let uses: &[Relationship] = if past.compromised { &[] } else { &[Relationship::AssertionMethod] };
            (past.fragment.as_str(), key.clone(), uses)
        });
        let bad = |error: ExtendDocumentError| IdentityError::Did(error.to_string());
        for (fragment, key, uses) in own.chain(past_ones) {
            document.add_method(fragment, key, uses.iter().copied()).map_err(bad)?;
        }
        for succession in &ring.successions {
            document.add_succession(succession).map_err(bad)?;
        }
        add_services(&mut document, config).map_err(IdentityError::Did)?;
        let before = past.last().filter(|(past, _)| !past.compromised);
        let before = before.map(|(past, key)| (format!("{did}#{}", past.fragment), key.clone()));
        let spaces = config.space_terms().map_err(|error| IdentityError::Did(error.to_string()))?;
        let presents = spaces.into_iter().flat_map(|space| space.requirements);
        let presents = presents.map(|requirement| Scope::Type(requirement.kind)).collect();
        Ok(Self { did, kid, key, national, before, ledger_key, document, presents, access: Mutex::default() })
    }

    /// The SM2 key beside the signing key, if the node has one: it signs agreements and the ledger's checkpoints.
    pub fn sm2_key(&self) -> Option<&Arc<SecretKey>> {
        self.national.as_ref().map(|(key, _)| key)
    }

    /// Signatures under an agreement, one with each key that the owner has for it.
    pub fn sign_agreement(&self, subject: &Subject<'_>) -> Vec<Signature> {
        // One signature a suite.
        let national =
            self.national.as_ref().filter(|_| self.key.suite() != Suite::Sm2).map(|(key, kid)| (&**key, kid));
        let keys = [(&self.key, &self.kid)].into_iter().chain(national);
        let sign = |(key, kid): (&SecretKey, &String)| Signature {
            kid: kid.clone(),
            key: key.public().clone(),
            compact: subject.sign(key, kid),
        };
        keys.map(sign).collect()
    }

    /// Whether the owner signs agreements with an SM2 key as well.
    pub fn signs_nationally(&self) -> bool {
        self.national.is_some() || self.key.suite() == Suite::Sm2
    }

    /// Id and key of the signing key before this one, unless others may have it.
    pub fn key_before(&self) -> Option<&(String, PublicKey)> {
        self.before.as_ref()
    }

    /// A self-issued token for `audience` (DCP 1.0, section 4.3), with which it may read what the space asks for.
    ///
    /// # Errors
    /// [`token::IssueError`] if a member is out of bounds.
    pub fn token(&self, audience: &Did, now: UnixMillis) -> Result<String, token::IssueError> {
        let access = (!self.presents.is_empty()).then(|| self.access_for(audience, now));
        self.token_with(audience, now, access.as_deref())
    }

    /// An access token with which `verifier` may read `scopes`; see [`ACCESS_LIFETIME_MS`].
    pub fn grant(&self, verifier: &Did, scopes: BTreeSet<Scope>, now: UnixMillis) -> String {
        let jti = uuid::Uuid::new_v4().to_string();
        let grant = Grant { verifier: verifier.clone(), scopes, expires_at: now.plus_millis(ACCESS_LIFETIME_MS) };
        access::grant(&self.key, &self.kid, &self.did, &jti, &grant)
    }

    fn access_for(&self, audience: &Did, now: UnixMillis) -> String {
        let mut memory = self.access.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, until)) = memory.get(audience)
            && now < *until
        {
            return token.clone();
        }
        if MAX_ACCESS <= memory.len() {
            memory.clear();
        }
        let token = self.grant(audience, self.presents.clone(), now);
        memory.insert(audience.clone(), (token.clone(), now.plus_millis(ACCESS_REUSE_MS)));
        token
    }

    /// A self-issued token for `audience` that carries an access token: ours, or the one `audience` gave us.
    ///
    /// # Errors
    /// [`token::IssueError`] if a member is out of bounds.
    pub fn token_with(
        &self,
        audience: &Did,
        now: UnixMillis,
        access: Option<&str>,
    ) -> Result<String, token::IssueError> {
        let jti = uuid::Uuid::new_v4().to_string();
        let extra = access.map(|access| ("token".to_owned(), Value::from(access)));
        let draft = token::Draft {
            issuer: &self.did,
            audience,
            jti: &jti,
            now,
            lifetime_ms: TOKEN_LIFETIME_MS,
            extra: extra.into_iter().collect(),
        };
        token::issue(&self.key, &self.kid, &draft)
    }
}

/// Reads key files at once: a passphrase is slow to check by design, and a start must not be slow three times.
fn read_keys<const N: usize>(
    files: [Option<PathBuf>; N],
    passphrase: &[u8],
) -> Result<[Option<SecretKey>; N], IdentityError> {
    let mut keys = [const { None }; N];
    let read = std::thread::scope(|scope| {
        let readers = files.map(|file| file.map(|file| scope.spawn(move || read_key(&file, passphrase))));
        readers.map(|reader| reader.map(std::thread::ScopedJoinHandle::join))
    });
    for (key, read) in keys.iter_mut().zip(read) {
        *key = match read {
            None => None,
            Some(Ok(read)) => Some(read?),
            Some(Err(_)) => return Err(IdentityError::Did("a key file could not be read".to_owned())),
        };
    }
    Ok(keys)
}

fn read_key(path: &Path, passphrase: &[u8]) -> Result<SecretKey, IdentityError> {
    let bad = |reason: String| IdentityError::Key { path: path.display().to_string(), reason };
    let pem = std::fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    SecretKey::from_encrypted_pem(&pem, passphrase).map_err(|error| bad(error.to_string()))
}

fn add_services(document: &mut DidDocument, config: &Config) -> Result<(), String> {
    let root = config.public.url.trim_end_matches('/');
    let url = |path: &str| Url::parse(&format!("{root}{path}")).map_err(|error| error.to_string());
    let issuer = config.has(Role::Issuer).then_some(("issuer", ISSUER_SERVICE, ISSUER_SERVICE_PATH));
    let services = [
        ("dsp", DSP_SERVICE, "/.well-known/dspace-version"),
        ("log", LEDGER_SERVICE, "/ledger"),
        ("credentials", CREDENTIAL_SERVICE, CREDENTIAL_SERVICE_PATH),
    ];
    for (fragment, kind, path) in services.into_iter().chain(issuer) {
        document.add_service(fragment, kind, url(path)?).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Who sends a request, as proved by its token.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The sender.
    pub did: Did,
    /// The key it proved to hold.
    pub key: PublicKey,
    /// How it stands in our spaces.
    pub viewer: Viewer,
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

    /// What the token of this `Authorization` header says. A token is good once.
    ///
    /// # Errors
    /// [`AuthError`] says which check failed.
    pub async fn claims(&self, authorization: Option<&str>, now: UnixMillis) -> Result<token::Claims, AuthError> {
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
        Ok(claims)
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

/// The access token that a self-issued token carries (DCP 1.0, section 4.3.1).
pub fn access_token(claims: &token::Claims) -> Option<&str> {
    claims.extra.get("token").and_then(Value::as_str)
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
