//! Promises: with the acknowledgement of a message comes the entry that records it and the ledger's word that a checkpoint
//! will cover it by a deadline. Whoever gets one keeps it: an entry that is dropped afterwards convicts its node.
//!
//! They travel as two headers of the answer, `shuyu-entry` (the entry, a compact JWS) and `shuyu-promise` (the promise file
//! in base64url). Connectors of other makes neither send nor miss them.

use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::Did;
use shuyu_credentials::DidDocument;
use shuyu_evidence::MAX_ENTRY_BYTES;
use shuyu_tlog::promise::MAX_PROMISE_BYTES;
use shuyu_tlog::{Note, Promise, PromiseProof, Vkey};

use crate::clock;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::store::{Batch, Store, StoreError, Table};

/// The header with the entry.
const ENTRY: &str = "shuyu-entry";
/// The header with the promise.
const PROMISE: &str = "shuyu-promise";
/// Most promises of one listing.
const MAX_LISTED: usize = 1000;

/// An entry and the promise about it, as they came; nothing is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// The entry.
    pub entry: String,
    /// The promise file.
    pub promise: String,
}

impl Promised {
    /// The headers of an acknowledgement.
    pub fn headers(&self) -> HeaderMap {
        let promise = URL_SAFE_NO_PAD.encode(&self.promise);
        let both = [(ENTRY, self.entry.as_str()), (PROMISE, promise.as_str())];
        let header = |(name, value)| Some((HeaderName::from_static(name), HeaderValue::from_str(value).ok()?));
        both.into_iter().filter_map(header).collect()
    }

    /// What the headers of an answer hold, if they hold both parts within their bounds.
    pub fn from_headers(headers: &[(String, String)]) -> Option<Self> {
        let value = |name| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let entry = value(ENTRY).filter(|entry| entry.len() <= MAX_ENTRY_BYTES)?;
        let promise = value(PROMISE).filter(|promise| promise.len() <= 2 * MAX_PROMISE_BYTES)?;
        let promise = String::from_utf8(URL_SAFE_NO_PAD.decode(promise).ok()?).ok()?;
        Some(Self { entry: entry.clone(), promise })
    }
}

#[derive(Serialize, Deserialize)]
struct PromiseRow {
    peer: String,
    at: String,
    #[serde(flatten)]
    promised: Promised,
}

/// The promises that other nodes gave us; clones share them.
#[derive(Clone)]
pub struct Promises {
    store: Store,
    peers: Arc<Peers>,
}

impl Promises {
    /// Over the node's store.
    pub fn new(store: Store, peers: Arc<Peers>) -> Self {
        Self { store, peers }
    }

    /// Keeps what came with an acknowledgement. It is verified when it is shown: a bad one is worth as little as none.
    ///
    /// # Errors
    /// When the store fails.
    pub fn keep(&self, peer: &Did, process: &str, promised: Promised) -> Result<(), StoreError> {
        let now = clock::now();
        let row = PromiseRow { peer: peer.to_string(), at: now.to_string(), promised };
        let mut batch = Batch::default();
        batch.put(Table::Promises, &format!("{process} {:020}", now.0), &row)?;
        // One that a power failure takes is no loss: the acknowledgement itself is in our own ledger.
        self.store.commit_blocking(&batch, false)
    }

    /// The promises about a process, or about all, each with what is wrong with it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list(&self, process: Option<&str>, after: Option<&str>) -> Result<Value, Problem> {
        let from = after.map_or_else(|| process.map(|process| format!("{process} ")), |after| Some(after.to_owned()));
        let rows = self.store.list::<PromiseRow>(Table::Promises, from.as_deref(), MAX_LISTED)?;
        let is_full = rows.len() == MAX_LISTED;
        let mut items = Vec::new();
        let mut last = None;
        for (key, row) in rows {
            let Some((of, _)) = key.rsplit_once(' ') else { continue };
            if process.is_some_and(|process| process != of) {
                return Ok(json!({ "items": items, "next": null }));
            }
            let (promise, fault) = match self.verified(&row).await {
                Ok(promise) => (Some(promise), None),
                Err(fault) => (None, Some(fault)),
            };
            items.push(json!({
                "process": of, "peer": row.peer, "at": row.at,
                "index": PromiseProof::parse(row.promised.promise.as_bytes()).ok().map(|proof| proof.index),
                "origin": promise.as_ref().map(|promise| promise.origin.clone()),
                "deadline": promise.as_ref().map(|promise| promise.deadline_s),
                "fault": fault, "entry": row.promised.entry, "promise": row.promised.promise,
            }));
            last = Some(key);
        }
        Ok(json!({ "items": items, "next": last.filter(|_| is_full) }))
    }

    async fn verified(&self, row: &PromiseRow) -> Result<Promise, String> {
        let did: Did = row.peer.parse().map_err(|_| "the stored peer is no DID".to_owned())?;
        let document = self.peers.document(&did).await.map_err(|error| error.to_string())?;
        verify(&row.promised, &document)
    }
}

/// Verifies a promise with a key of the node's document.
fn verify(promised: &Promised, document: &DidDocument) -> Result<Promise, String> {
    let proof = PromiseProof::parse(promised.promise.as_bytes()).map_err(|error| error.to_string())?;
    let note = Note::parse(proof.note.as_bytes()).map_err(|error| error.to_string())?;
    let stated: Promise = note.text().parse().map_err(|error| format!("{error}"))?;
    let keys = document.methods().iter().filter_map(|method| Vkey::new(&stated.origin, method.key.clone()).ok());
    let mut fault = "no key of the node signed it".to_owned();
    for key in keys {
        match proof.verify(promised.entry.as_bytes(), &key) {
            Ok(promise) => return Ok(promise),
            Err(shuyu_tlog::VerifyPromiseError::Signature(_)) => {}
            Err(error) => fault = error.to_string(),
        }
    }
    Err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_carry_both_parts_or_nothing() {
        let promised = Promised { entry: "a.b.c".to_owned(), promise: "two\nlines\n".to_owned() };
        let text = |headers: &HeaderMap| -> Vec<(String, String)> {
            let pair = |(name, value): (&HeaderName, &HeaderValue)| {
                (name.as_str().to_owned(), value.to_str().unwrap().to_owned())
            };
            headers.iter().map(pair).collect()
        };
        let headers = text(&promised.headers());
        assert_eq!(Promised::from_headers(&headers), Some(promised));
        assert_eq!(Promised::from_headers(&headers[..1]), None);
        let long = vec![(ENTRY.to_owned(), "x".repeat(MAX_ENTRY_BYTES + 1)), headers[1].clone()];
        assert_eq!(Promised::from_headers(&long), None);
    }
}
