//! DID resolution with a bounded cache: one fetch at a time for each DID, and a short memory of failures.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shuyu_base::Did;
use shuyu_credentials::document::MAX_DOCUMENT_BYTES;
use shuyu_credentials::{
    DidDocument, LocalDidError, ParseDocumentError, Scheme, WebLocation, WebLocationError, local_document,
};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::{Instant, timeout};

use crate::http::{Http, HttpError};

/// How long a document is good for. A revoked key is at most this much longer in use.
pub const FRESH_FOR: Duration = Duration::from_secs(300);
/// How long a failure is remembered, so that a peer in trouble is not asked again with every message.
pub const FAILED_FOR: Duration = Duration::from_secs(5);
/// A document younger than this is not fetched again on demand.
pub const MIN_REFRESH: Duration = Duration::from_secs(10);
/// How long one fetch may take, with waiting for its turn.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
/// Most DIDs remembered; the oldest make room.
pub const MAX_ENTRIES: usize = 1024;
/// Most fetches at once. Whoever sends us a token chooses what we fetch, so this bounds what it can cost.
pub const MAX_FETCHES: usize = 64;

const ACCEPT: &str = "application/did+json, application/did+ld+json;q=0.9, application/json;q=0.8";

/// Why a DID has no document.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Not did:web, did:key or did:jwk.
    #[error("did method `{method}` is not supported")]
    Method {
        /// The method.
        method: String,
    },
    /// The did:web names no place a document can be at.
    #[error("did `{did}` has no location")]
    Location {
        /// The DID.
        did: Did,
        /// The part at fault.
        source: WebLocationError,
    },
    /// The did:key or did:jwk holds no usable key.
    #[error("did `{did}` is malformed")]
    Local {
        /// The DID.
        did: Did,
        /// What is wrong.
        source: LocalDidError,
    },
    /// The document could not be fetched.
    #[error("document of `{did}` could not be fetched")]
    Fetch {
        /// The DID.
        did: Did,
        /// What went wrong.
        source: HttpError,
    },
    /// No answer within [`FETCH_TIMEOUT`].
    #[error("document of `{did}` could not be fetched in time")]
    TimedOut {
        /// The DID.
        did: Did,
    },
    /// What was fetched is not the DID's document.
    #[error("document of `{did}` is not acceptable")]
    Document {
        /// The DID.
        did: Did,
        /// What is wrong with it.
        source: ParseDocumentError,
    },
}

impl ResolveError {
    /// Whether the same DID may resolve a little later, without its owner changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Method { .. } | Self::Location { .. } | Self::Local { .. } | Self::Document { .. } => false,
            Self::TimedOut { .. } => true,
            Self::Fetch { source, .. } => match source {
                HttpError::Unreachable { .. } | HttpError::TimedOut { .. } => true,
                HttpError::Status { status, .. } => 500 <= *status || *status == 429,
                HttpError::NotAllowed { .. }
                | HttpError::TooLarge { .. }
                | HttpError::NotJson { .. }
                | HttpError::BadRequest { .. } => false,
            },
        }
    }
}

/// What one resolution came to; waiters share it.
pub type Resolution = Result<Arc<DidDocument>, Arc<ResolveError>>;

/// Resolves did:web over the guarded client, did:key and did:jwk without one. Clones share the cache.
#[derive(Clone)]
pub struct DidResolver {
    http: Http,
    fresh_for: Duration,
    failed_for: Duration,
    entries: Arc<Mutex<HashMap<Did, Entry>>>,
    fetches: Arc<Semaphore>,
}

/// One DID of the cache. The cell is empty while the first to ask is fetching.
#[derive(Clone)]
struct Entry {
    asked_at: Instant,
    outcome: Arc<OnceCell<(Instant, Resolution)>>,
}

impl DidResolver {
    /// A resolver with an empty cache.
    pub fn new(http: Http) -> Self {
        Self::with_times(http, FRESH_FOR, FAILED_FOR)
    }

    /// As [`Self::new`], with other times than [`FRESH_FOR`] and [`FAILED_FOR`].
    pub fn with_times(http: Http, fresh_for: Duration, failed_for: Duration) -> Self {
        Self {
            http,
            fresh_for,
            failed_for,
            entries: Arc::new(Mutex::new(HashMap::new())),
            fetches: Arc::new(Semaphore::new(MAX_FETCHES)),
        }
    }

    /// The document of `did`, from the cache if it is fresh.
    ///
    /// # Errors
    /// [`ResolveError`]; see [`ResolveError::is_transient`].
    pub async fn resolve(&self, did: &Did) -> Resolution {
        if let Some(local) = local_document(did) {
            return local.map(Arc::new).map_err(|source| Arc::new(ResolveError::Local { did: did.clone(), source }));
        }
        if did.method() != "web" {
            return Err(Arc::new(ResolveError::Method { method: did.method().to_owned() }));
        }
        let entry = self.entry(did);
        let (_, outcome) = entry
            .outcome
            .get_or_init(|| async {
                let outcome = self.fetch_in_time(did).await;
                (Instant::now(), outcome.map(Arc::new).map_err(Arc::new))
            })
            .await;
        outcome.clone()
    }

    /// The document of `did`, fetched again unless that was done less than [`MIN_REFRESH`] ago. For a signature by a
    /// key that the cached document does not have: its owner may have changed keys.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub async fn refresh(&self, did: &Did) -> Resolution {
        self.forget_older_than(did, MIN_REFRESH.min(self.fresh_for));
        self.resolve(did).await
    }

    /// The document as it is now, however lately it was fetched: for what the owner of this node asks for, never for what a
    /// peer causes.
    ///
    /// # Errors
    /// As [`DidResolver::resolve`].
    pub async fn fetch_anew(&self, did: &Did) -> Resolution {
        self.forget_older_than(did, Duration::ZERO);
        self.resolve(did).await
    }

    fn forget_older_than(&self, did: &Did, age: Duration) {
        let now = Instant::now();
        let is_old = |entry: &Entry| entry.outcome.get().is_some_and(|(at, _)| age <= now.duration_since(*at));
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.get(did).is_some_and(is_old) {
            entries.remove(did);
        }
    }

    /// The entry to wait on: the present one if it is fresh or being fetched, else a new one.
    fn entry(&self, did: &Did) -> Entry {
        let now = Instant::now();
        let is_fresh = |entry: &Entry| match entry.outcome.get() {
            None => true,
            Some((at, Ok(_))) => now.duration_since(*at) < self.fresh_for,
            Some((at, Err(_))) => now.duration_since(*at) < self.failed_for,
        };
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(did).filter(|entry| is_fresh(entry)) {
            return entry.clone();
        }
        if MAX_ENTRIES <= entries.len() {
            entries.retain(|_, entry| is_fresh(entry));
        }
        if MAX_ENTRIES <= entries.len() {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.asked_at).map(|(did, _)| did.clone());
            oldest.and_then(|did| entries.remove(&did));
        }
        let entry = Entry { asked_at: now, outcome: Arc::new(OnceCell::new()) };
        entries.insert(did.clone(), entry.clone());
        entry
    }

    async fn fetch_in_time(&self, did: &Did) -> Result<DidDocument, ResolveError> {
        let turn_and_fetch = async {
            let _turn = self.fetches.acquire().await; // Never closed; without a permit the fetch runs all the same.
            self.fetch(did).await
        };
        timeout(FETCH_TIMEOUT, turn_and_fetch)
            .await
            .unwrap_or_else(|_| Err(ResolveError::TimedOut { did: did.clone() }))
    }

    async fn fetch(&self, did: &Did) -> Result<DidDocument, ResolveError> {
        let location =
            WebLocation::from_did(did).map_err(|source| ResolveError::Location { did: did.clone(), source })?;
        let scheme =
            if self.http.guard().insecure_loopback() && location.is_loopback() { Scheme::Http } else { Scheme::Https };
        let url = location
            .url(scheme)
            .ok_or_else(|| ResolveError::Location { did: did.clone(), source: WebLocationError::Host })?;
        let failed = |source| ResolveError::Fetch { did: did.clone(), source };
        let response = self.http.get(&url, ACCEPT, None, MAX_DOCUMENT_BYTES).await.map_err(failed)?;
        if response.status != 200 {
            return Err(failed(HttpError::Status { url: url.into(), status: response.status }));
        }
        tracing::debug!(%did, %url, bytes = response.body.len(), "fetched did document");
        DidDocument::parse(&response.body, did).map_err(|source| ResolveError::Document { did: did.clone(), source })
    }
}

impl std::fmt::Debug for DidResolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DidResolver").field("http", &self.http).finish_non_exhaustive()
    }
}
