//! What happens in the node, told to whoever waits for it.

use serde_json::{Value, json};
use tokio::sync::broadcast;

use crate::event_log::{EventLog, Recording};
use crate::exchange::row::{Kind, Row};
use crate::store::{Batch, Store, StoreError};

/// Events kept for a slow listener before it misses some.
const BACKLOG: usize = 1024;

/// Something changed.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of thing: `negotiation`, `transfer`, `contract`, `dataflow`.
    pub kind: &'static str,
    /// Its identifier.
    pub id: String,
    /// The state it is in now.
    pub state: Option<String>,
}

/// Publishes events; clones share the listeners.
#[derive(Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
    log: EventLog,
}

impl Events {
    /// Over the node's store.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(store: Store) -> Result<Self, StoreError> {
        Ok(Self { sender: broadcast::channel(BACKLOG).0, log: EventLog::open(store)? })
    }

    /// Tells everyone; nobody listening is fine.
    pub fn publish(&self, kind: &'static str, id: &str, state: Option<&str>) {
        let _ = self.sender.send(Event { kind, id: id.to_owned(), state: state.map(str::to_owned) });
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    /// Adds an event to the batch of the state it tells of. Keep the answer until the batch is committed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn record(&self, batch: &mut Batch, kind: &str, subject: &str, data: Value) -> Result<Recording, StoreError> {
        self.log.record(batch, kind, subject, data)
    }

    /// Adds a step of a process to the batch that saves it, if it changed the state or went wrong.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn step<K: Kind>(
        &self,
        batch: &mut Batch,
        row: &Row<K>,
        before: Option<&str>,
    ) -> Result<Option<Recording>, StoreError> {
        let state = row.machine.state();
        if state == before && row.error.is_none() {
            return Ok(None);
        }
        let noun = match K::NAME {
            "negotiation" => "contract.negotiation",
            "transfer" => "transfer.process",
            other => other,
        };
        let word = state.map_or_else(|| "initiated".to_owned(), str::to_ascii_lowercase);
        let data = json!({
            "@id": row.pid, "type": row.role, "state": state, "counterPartyId": row.peer, "errorDetail": row.error,
        });
        self.record(batch, &format!("{noun}.{word}"), &row.pid, data).map(Some)
    }

    /// The durable log.
    pub fn log(&self) -> &EventLog {
        &self.log
    }
}
