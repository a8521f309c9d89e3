//! The gate of a space: a caller must present the credentials that the space asks of its members.
//!
//! Fail closed: what cannot be fetched or verified refuses. What a caller was found to hold is remembered for a short
//! time, under the access token it gave, and never beyond the life of its credentials.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_credentials::access::MAX_ACCESS_TOKEN_BYTES;
use shuyu_credentials::schema::MAX_SCHEMA_BYTES;
use shuyu_credentials::vc::MAX_LIST_CREDENTIAL_BYTES;
use shuyu_credentials::verdict::{Materials, Need, Question, Requirement, Verdict, VerdictError, decide};
use shuyu_credentials::vp::PresentationError;
use shuyu_credentials::{Claims, Credential, CredentialError, JwsError, Scope};
use shuyu_resolver::Http;
use shuyu_wire::dcp::{PresentationQuery, PresentationResponse};
use tokio::sync::Semaphore;
use url::Url;

use crate::clock;
use crate::identity::{CREDENTIAL_SERVICE, access_token};
use crate::locks::KeyedLocks;
use crate::management::chain;
use crate::peers::{PeerError, Peers};

/// How long a caller is believed without being asked again, in milliseconds.
const MEMORY_MS: i64 = 60_000;
/// Most callers remembered; beyond that the memory starts anew.
const MAX_MEMORY: usize = 10_000;
/// How long a status list is good for, in milliseconds: a revocation is at most this much longer unknown.
const LIST_MS: i64 = 60_000;
/// Most status lists and schemas kept; each is at most a mebibyte.
const MAX_FETCHED: usize = 64;
/// Most rounds of fetching for one caller: documents, then lists and schemas, then the verdict.
const MAX_ROUNDS: usize = 4;
/// Most things fetched in one round.
const MAX_NEEDS: usize = 16;
/// Most callers that are being asked or wait for it at once. Each holds a place among the requests served, so they must
/// be fewer than those.
const MAX_WAITING: usize = 256;
/// Most requests of one caller that wait for its own answer.
const MAX_WAITING_OF_ONE: usize = 32;
/// How long asking one caller may take, with everything that is fetched for it.
const ASK_TIME: Duration = Duration::from_secs(15);

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The token of the caller carries no access token.
    #[error("the token carries no access token (`token` claim) to the caller's credentials")]
    NoAccess,
    /// The access token is longer than a request may carry on.
    #[error("the access token is longer than {MAX_ACCESS_TOKEN_BYTES} bytes")]
    TooLong,
    /// The caller's credential service cannot be asked, or refuses.
    #[error("the caller's credential service: {0}")]
    Service(#[from] PeerError),
    /// It answered with something else than presentations.
    #[error("the caller's credential service answered badly: {0}")]
    Answer(String),
    /// The presentations do not satisfy.
    #[error("presentation refused: {0}")]
    Refused(String),
    /// Too many callers are being asked.
    #[error("too many callers are being asked for their credentials")]
    Busy,
    /// The caller's credential service or something it refers to is too slow.
    #[error("the caller's credentials could not be verified in {} s", ASK_TIME.as_secs())]
    TooSlow,
}

impl AdmitError {
    /// The HTTP status for the caller: 401 without access token, 503 when trying again may help, 403 otherwise.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoAccess | Self::TooLong => StatusCode::UNAUTHORIZED,
            Self::Service(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Busy | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Service(_) | Self::Answer(_) | Self::Refused(_) => StatusCode::FORBIDDEN,
        }
    }
}

/// Something fetched and when.
type Fetched = (UnixMillis, Arc<[u8]>);

/// The gate of one space.
pub struct SpaceGate {
    own: Did,
    requirements: Vec<Requirement>,
    scopes: BTreeSet<Scope>,
    peers: Arc<Peers>,
    http: Http,
    /// Until when a caller with an access token is believed.
    memory: Mutex<HashMap<Digest, UnixMillis>>,
    fetched: Mutex<HashMap<Url, Fetched>>,
    asking: KeyedLocks,
    places: Semaphore,
    waiting: Mutex<HashMap<Did, usize>>,
}

impl SpaceGate {
    /// A gate of `own` that asks for `requirements`.
    pub fn new(own: Did, requirements: Vec<Requirement>, peers: Arc<Peers>, http: Http) -> Self {
        let scopes = requirements.iter().map(|requirement| Scope::Type(requirement.kind.clone())).collect();
        Self {
            own,
            requirements,
            scopes,
            peers,
            http,
            memory: Mutex::default(),
            fetched: Mutex::default(),
            asking: KeyedLocks::default(),
            places: Semaphore::new(MAX_WAITING),
            waiting: Mutex::default(),
        }
    }

    /// The DIDs whose credentials count.
    pub fn issuers(&self) -> impl Iterator<Item = &Did> {
        self.requirements.iter().flat_map(|requirement| &requirement.issuers)
    }

    /// Lets a caller in whose token was verified, or says why not.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub async fn admit(&self, claims: &Claims) -> Result<(), AdmitError> {
        let access = access_token(claims).ok_or(AdmitError::NoAccess)?;
        if MAX_ACCESS_TOKEN_BYTES < access.len() {
            return Err(AdmitError::TooLong);
        }
        let caller = &claims.issuer;
        let key = Digest::sha256(format!("{caller} {access}").as_bytes());
        if self.remembers(&key) {
            return Ok(());
        }
        let _place = self.places.try_acquire().map_err(|_| AdmitError::Busy)?;
        let _own_place = OwnPlace::take(&self.waiting, caller)?;
        // One question at a time for the same caller; the others find the answer.
        let _turn = self.asking.lock(caller.as_str()).await;
        if self.remembers(&key) {
            return Ok(());
        }
        let asked = tokio::time::timeout(ASK_TIME, self.ask(caller, access)).await;
        let credentials = asked.map_err(|_| AdmitError::TooSlow)??;
        let now = clock::now();
        let ends = credentials.iter().filter_map(|credential| credential.valid_until);
        let until = ends.fold(now.plus_millis(MEMORY_MS), UnixMillis::min);
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if MAX_MEMORY <= memory.len() {
            memory.clear();
        }
        memory.insert(key, until);
        Ok(())
    }

    fn remembers(&self, key: &Digest) -> bool {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key).is_some_and(|until| clock::now() < *until)
    }

    /// Queries the caller's credential service and decides about the answer.
    async fn ask(&self, caller: &Did, access: &str) -> Result<Vec<Credential>, AdmitError> {
        let endpoint = self.peers.service(caller, CREDENTIAL_SERVICE).await?;
        let url = format!("{}/presentations/query", endpoint.trim_end_matches('/'));
        let query = PresentationQuery::encode(&self.scopes);
        let answer = self.peers.post_with(caller, &url, &query, Some(access)).await?.body;
        let answer = PresentationResponse::decode(&answer).map_err(|error| AdmitError::Answer(error.to_string()))?;
        match self.verify(caller, &answer.presentations).await {
            // A key may have changed since we looked: once more, with fresh documents.
            Err(error) if is_unknown_key(&error) => {
                self.peers.fresh_document(caller).await?;
                for issuer in self.issuers() {
                    // What cannot be had shows in the verdict.
                    let _ = self.peers.fresh_document(issuer).await;
                }
                self.verify(caller, &answer.presentations).await
            }
            other => other,
        }
        .map_err(|error| AdmitError::Refused(chain(&error)))
    }

    async fn verify(&self, caller: &Did, presentations: &[String]) -> Result<Vec<Credential>, VerdictError> {
        let unavailable = |what: String, reason: String| VerdictError::Unavailable { what, reason };
        let holder =
            self.peers.document(caller).await.map_err(|error| unavailable(caller.to_string(), chain(&error)))?;
        let mut materials = Materials::default();
        for _ in 0..MAX_ROUNDS {
            let question =
                Question { holder: &holder, audience: &self.own, now: clock::now(), requirements: &self.requirements };
            match decide(presentations, &question, &materials)? {
                Verdict::Satisfied(credentials) => return Ok(credentials),
                Verdict::Needs(needs) if MAX_NEEDS < needs.len() => break,
                Verdict::Needs(needs) => self.fetch(needs, &mut materials).await,
            }
        }
        Err(unavailable(caller.to_string(), "its credentials need too much to be verified".to_owned()))
    }

    async fn fetch(&self, needs: BTreeSet<Need>, materials: &mut Materials) {
        for (need, got) in join_all(needs.into_iter().map(|need| self.fetch_one(need))).await {
            match (need, got) {
                (Need::Document(did), Got::Document(document)) => drop(materials.documents.insert(did, document)),
                (Need::List(url), Got::Bytes(bytes)) => {
                    let text = bytes.and_then(|bytes| {
                        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
                        Ok(text.trim().to_owned())
                    });
                    materials.lists.insert(url, text);
                }
                (Need::Schema(url), Got::Bytes(bytes)) => {
                    materials.schemas.insert(url, bytes.map(|bytes| bytes.to_vec()));
                }
                // A need gets its own kind of answer.
                (Need::Document(_), Got::Bytes(_)) | (Need::List(_) | Need::Schema(_), Got::Document(_)) => {}
            }
        }
    }

    async fn fetch_one(&self, need: Need) -> (Need, Got) {
        let got = match &need {
            Need::Document(did) => {
                let document = self.peers.document(did).await;
                Got::Document(document.map(|document| (*document).clone()).map_err(|error| chain(&error)))
            }
            Need::List(url) => {
                let accept = "application/vc+jwt, application/jwt;q=0.9, */*;q=0.5";
                Got::Bytes(self.bytes(url, accept, MAX_LIST_CREDENTIAL_BYTES).await)
            }
            Need::Schema(url) => {
                Got::Bytes(self.bytes(url, "application/schema+json, application/json", MAX_SCHEMA_BYTES).await)
            }
        };
        (need, got)
    }

    async fn bytes(&self, url: &Url, accept: &str, max_bytes: usize) -> Result<Arc<[u8]>, String> {
        let now = clock::now();
        let kept = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some((at, bytes)) = kept
            && now.since(at) < LIST_MS
        {
            return Ok(bytes);
        }
        let response = self.http.get(url, accept, None, max_bytes).await.map_err(|error| chain(&error))?;
        if !response.is_success() {
            return Err(format!("`{url}` answered with status {}", response.status));
        }
        let bytes: Arc<[u8]> = response.body.to_vec().into();
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|_, (at, _)| now.since(*at) < LIST_MS);
        if fetched.len() < MAX_FETCHED {
            fetched.insert(url.clone(), (now, Arc::clone(&bytes)));
        }
        Ok(bytes)
    }
}

/// A place among the requests of one caller that wait.
struct OwnPlace<'a> {
    waiting: &'a Mutex<HashMap<Did, usize>>,
    caller: Did,
}

impl<'a> OwnPlace<'a> {
    fn take(waiting: &'a Mutex<HashMap<Did, usize>>, caller: &Did) -> Result<Self, AdmitError> {
        let mut counts = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(caller.clone()).or_default();
        if MAX_WAITING_OF_ONE <= *count {
            return Err(AdmitError::Busy);
        }
        *count += 1;
        Ok(Self { waiting, caller: caller.clone() })
    }
}

impl Drop for OwnPlace<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.caller);
            }
        }
    }
}

/// What a need was answered with.
enum Got {
    Document(Result<shuyu_credentials::DidDocument, String>),
    Bytes(Result<Arc<[u8]>, String>),
}

fn is_unknown_key(error: &VerdictError) -> bool {
    matches!(
        error,
        VerdictError::Presentation { source: PresentationError::Jws(JwsError::UnknownKey { .. }), .. }
            | VerdictError::Credential(CredentialError::Jws(JwsError::UnknownKey { .. }))
    )
}
