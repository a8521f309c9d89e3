//! What happens in the node, told to whoever waits for it.

use tokio::sync::broadcast;

/// Events kept for a slow listener before it misses some.
const BACKLOG: usize = 1024;

/// Something changed.
#[derive(Clone, Debug)]
pub struct Event {
    /// What kind of thing: `negotiation`, `transfer`, `contract`.
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
}

impl Default for Events {
    fn default() -> Self {
        Self { sender: broadcast::channel(BACKLOG).0 }
    }
}

impl Events {
    /// Tells everyone; nobody listening is fine.
    pub fn publish(&self, kind: &'static str, id: &str, state: Option<&str>) {
        let _ = self.sender.send(Event { kind, id: id.to_owned(), state: state.map(str::to_owned) });
    }

    /// Hears everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }
}
