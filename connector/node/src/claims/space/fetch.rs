//! Fetching what a verdict over credentials needs: documents, status lists, schemas. Bounded, and kept for a short time.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use futures::future::join_all;
use shuyu_base::UnixMillis;
use shuyu_credentials::schema::MAX_SCHEMA_BYTES;
use shuyu_credentials::vc::MAX_LIST_CREDENTIAL_BYTES;
use shuyu_credentials::verdict::{Materials, Need};
use shuyu_resolver::Http;
use url::Url;

use crate::clock;
use crate::config::SpaceTerms;
use crate::management::chain;
use crate::peers::Peers;

/// Most status lists and schemas kept; each is at most a mebibyte.
const MAX_FETCHED: usize = 64;

/// Something fetched and when.
type Fetched = (UnixMillis, Arc<[u8]>);

/// Fetches for verdicts.
pub struct Fetcher {
    peers: Arc<Peers>,
    http: Http,
    /// How long a list or schema is good for, in milliseconds.
    ttl_ms: i64,
    fetched: Mutex<HashMap<Url, Fetched>>,
}

impl Fetcher {
    /// One that keeps lists and schemas for `ttl_ms`.
    pub fn new(peers: Arc<Peers>, http: Http, ttl_ms: i64) -> Self {
        Self { peers, http, ttl_ms, fetched: Mutex::default() }
    }

    /// Adds what is needed to the materials; returns when the oldest of it was fetched. Documents are cut to the keys
    /// that `space` trusts.
    pub async fn fetch(&self, space: &SpaceTerms, needs: BTreeSet<Need>, materials: &mut Materials) -> UnixMillis {
        let mut oldest = clock::now();
        for (need, got) in join_all(needs.into_iter().map(|need| self.fetch_one(need))).await {
            match (need, got) {
                (Need::Document(did), Got::Document(document)) => {
                    let trusted = document.map(|document| space.trusted(document));
                    materials.documents.insert(did, trusted);
                }
                (Need::List(url), Got::Bytes(bytes)) => {
                    let text = bytes.and_then(|(at, bytes)| {
                        oldest = oldest.min(at);
                        let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string())?;
                        Ok(text.trim().to_owned())
                    });
                    materials.lists.insert(url, text);
                }
                (Need::Schema(url), Got::Bytes(bytes)) => {
                    materials.schemas.insert(url, bytes.map(|(_, bytes)| bytes.to_vec()));
                }
                // A need gets its own kind of answer.
                (Need::Document(_), Got::Bytes(_)) | (Need::List(_) | Need::Schema(_), Got::Document(_)) => {}
            }
        }
        oldest
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

    async fn bytes(&self, url: &Url, accept: &str, max_bytes: usize) -> Result<Fetched, String> {
        let now = clock::now();
        let kept = self.fetched.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned();
        if let Some((at, bytes)) = kept
            && now.since(at) < self.ttl_ms
        {
            return Ok((at, bytes));
        }
        let response = self.http.get(url, accept, None, max_bytes).await.map_err(|error| chain(&error))?;
        if !response.is_success() {
            return Err(format!("`{url}` answered with status {}", response.status));
        }
        let bytes: Arc<[u8]> = response.body.to_vec().into();
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.retain(|_, (at, _)| now.since(*at) < self.ttl_ms);
        if fetched.len() < MAX_FETCHED {
            fetched.insert(url.clone(), (now, Arc::clone(&bytes)));
        }
        Ok((now, bytes))
    }
}

/// What a need was answered with.
enum Got {
    Document(Result<shuyu_credentials::DidDocument, String>),
    Bytes(Result<Fetched, String>),
}
