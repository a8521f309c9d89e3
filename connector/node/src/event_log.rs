//! What happened, numbered and durable, for web hooks and event streams.
//!
//! An event is written in the batch of the state it tells of. Numbers are given before that batch is committed, so a
//! reader goes no further than [`EventLog::settled`]: below it no event will appear any more.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::clock;
use crate::store::{Batch, Store, StoreError, Table};

/// Events kept for streams and hooks that are behind; who is further behind is told how many it missed.
pub const MAX_EVENTS: u64 = 100_000;
/// Most events forgotten in one write.
const MAX_TRIM: u64 = 10_000;

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its number, from 1.
    #[serde(skip)]
    pub seq: u64,
    /// When, in RFC 3339.
    pub at: String,
    /// What, such as `contract.negotiation.finalized`.
    #[serde(rename = "type")]
    pub kind: String,
    /// To what it happened.
    pub subject: String,
    /// More of it.
    pub data: Value,
}

impl Logged {
    /// The event as CloudEvents 1.0 has it, in JSON; `source` is the node's DID. The time is part of the `id`, because a
    /// number may be given again when a power failure undid what it told of.
    pub fn to_cloud_event(&self, source: &str) -> Value {
        json!({
            "specversion": "1.0", "id": format!("{}/{}", self.at, self.seq), "source": source, "type": self.kind,
            "subject": self.subject, "time": self.at, "datacontenttype": "application/json",
            "sequence": key(self.seq), "data": self.data,
        })
    }
}

/// The log; clones share it.
#[derive(Clone)]
pub struct EventLog {
    store: Store,
    numbers: Arc<Mutex<Numbers>>,
    settled: watch::Sender<u64>,
}

struct Numbers {
    next: u64,
    /// Given and not yet committed or given up.
    open: BTreeSet<u64>,
    /// The first that is still kept, as far as known.
    first: u64,
}

/// An event in a batch that is being committed. Dropping it says that the batch is through, or never will be.
pub struct Recording {
    log: EventLog,
    seq: u64,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut numbers = self.log.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        numbers.open.remove(&self.seq);
        let settled = numbers.open.first().map_or(numbers.next, |open| *open);
        self.log.settled.send_if_modified(|known| std::mem::replace(known, settled) != settled);
    }
}

impl EventLog {
    /// Goes on behind what is stored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(store: Store) -> Result<Self, StoreError> {
        let number = |key: Option<String>| key.and_then(|key| key.parse::<u64>().ok());
        let next = number(store.last_key(Table::EventLog)?).unwrap_or(0) + 1;
        let first = store.list::<Value>(Table::EventLog, None, 1)?.into_iter().next().map(|(key, _)| key);
        let numbers = Numbers { next, open: BTreeSet::new(), first: number(first).unwrap_or(next) };
        Ok(Self { store, numbers: Arc::new(Mutex::new(numbers)), settled: watch::channel(next).0 })
    }

    /// Adds an event to a batch. Keep the answer until the batch is committed.
    ///
    /// # Errors
    /// [`StoreError`] when `data` has no JSON form.
    pub fn record(&self, batch: &mut Batch, kind: &str, subject: &str, data: Value) -> Result<Recording, StoreError> {
        let seq = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            let seq = numbers.next;
            numbers.next += 1;
            numbers.open.insert(seq);
            seq
        };
        let recording = Recording { log: self.clone(), seq };
        let at = clock::now().to_string();
        let event = Logged { seq, at, kind: kind.to_owned(), subject: subject.to_owned(), data };
        batch.put(Table::EventLog, &key(seq), &event)?;
        Ok(recording)
    }

    /// The number below which nothing will change any more; it tells when it grows.
    pub fn settled(&self) -> watch::Receiver<u64> {
        self.settled.subscribe()
    }

    /// The first number that is still kept.
    pub fn first(&self) -> u64 {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).first
    }

    /// Up to `limit` settled events after number `after`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn page(&self, after: u64, limit: usize) -> Result<Vec<Logged>, StoreError> {
        let settled = *self.settled.borrow();
        let rows = self.store.list::<Logged>(Table::EventLog, Some(&key(after)), limit)?;
        let numbered = rows.into_iter().filter_map(|(key, event)| Some(Logged { seq: key.parse().ok()?, ..event }));
        Ok(numbered.filter(|event| event.seq < settled).collect())
    }

    /// Forgets the oldest events above [`MAX_EVENTS`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn trim(&self) -> Result<(), StoreError> {
        loop {
            let (first, end) = {
                let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
                (numbers.first, numbers.next.saturating_sub(MAX_EVENTS))
            };
            if end <= first {
                return Ok(());
            }
            let end = end.min(first.saturating_add(MAX_TRIM));
            let mut batch = Batch::default();
            (first..end).for_each(|seq| batch.delete(Table::EventLog, &key(seq)));
            self.store.commit(batch).await?;
            self.numbers.lock().unwrap_or_else(PoisonError::into_inner).first = end;
        }
    }
}

/// Numbers as keys in order.
fn key(seq: u64) -> String {
    format!("{seq:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reader_never_passes_an_event_that_is_still_to_come() {
        let dir = tempfile::tempdir().unwrap();
        let log = EventLog::open(Store::open(dir.path()).unwrap()).unwrap();
        let (mut slow, mut fast) = (Batch::default(), Batch::default());
        let first = log.record(&mut slow, "a", "x", Value::Null).unwrap();
        let second = log.record(&mut fast, "b", "x", Value::Null).unwrap();
        log.store.commit(fast).await.unwrap();
        drop(second);
        assert_eq!(log.page(0, 10).unwrap(), []);
        log.store.commit(slow).await.unwrap();
        drop(first);
        let kinds: Vec<String> = log.page(0, 10).unwrap().into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["a", "b"]);
        assert_eq!(log.page(1, 10).unwrap().first().map(|event| event.seq), Some(2));
        let again = EventLog::open(log.store.clone()).unwrap();
        assert_eq!(*again.settled().borrow(), 3);
    }
}
