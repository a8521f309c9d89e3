//! Web hooks: what happens, posted as CloudEvents 1.0 to addresses of the operator's choosing.
//!
//! Each hook is a task of its own that reads the event log from a position on disk, so a hook that is down, slow or
//! hostile delays nobody else, and one that comes back gets what it missed as long as the log holds it. An event is
//! delivered at least once; its `id` is the same each time.

mod deliver;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shuyu_resolver::Http;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::clock;
use crate::event_log::EventLog;
use crate::exchange::driver::Tools;
use crate::identity::Identity;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};

/// Most hooks of a node: each is a task and a connection.
pub const MAX_HOOKS: usize = 64;
/// Most event names a hook may ask for.
const MAX_NAMES: usize = 32;
/// Longest event name, in bytes.
const MAX_NAME_BYTES: usize = 128;
/// Shortest and longest shared secret, in bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=512;
/// What the keys of hooks start with; those of their positions start with [`AT`].
const HOOK: &str = "hook ";
/// See [`HOOK`].
const AT: &str = "at ";

/// A hook as the operator wrote it.
#[derive(Clone, Serialize, Deserialize)]
pub struct Hook {
    /// Identifier.
    pub id: String,
    /// Where events are posted.
    pub url: String,
    /// Names of events, or beginnings of them such as `contract.negotiation`; every event if empty.
    pub events: Vec<String>,
    /// Shared with the receiver; without one, this node's key signs.
    pub secret: Option<String>,
    /// When it was added.
    pub created: String,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hook").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

impl Hook {
    /// Whether it wants events of this name.
    fn wants(&self, kind: &str) -> bool {
        let covers = |name: &String| {
            kind.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.events.is_empty() || self.events.iter().any(covers)
    }
}

/// How far a hook has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The last event that needs no further attempt.
    pub position: u64,
    /// Events delivered.
    pub delivered: u64,
    /// Events that the receiver refused again and again, and that were given up.
    pub refused: u64,
    /// Events that the log had forgotten before they could be delivered.
    pub missed: u64,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// What the last failure was.
    pub error: Option<String>,
    /// Whether the receiver said that it is gone for good (410).
    pub gone: bool,
}

/// The hooks of a node; clones share them.
#[derive(Clone)]
pub struct Hooks {
    store: Store,
    log: EventLog,
    http: Http,
    own: Arc<Identity>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

impl Hooks {
    /// Starts every stored hook where it stopped.
    ///
    /// # Errors
    /// When the store fails.
    pub fn start(tools: &Tools, http: Http, own: Arc<Identity>) -> Result<Self, Problem> {
        let hooks = Self {
            store: tools.store.clone(),
            log: tools.events.log().clone(),
            http,
            own,
            tasks: tools.tasks.clone(),
            stopping: tools.stopping.clone(),
            running: Arc::default(),
        };
        for hook in hooks.list()? {
            hooks.run(hook);
        }
        Ok(hooks)
    }

    /// Adds a hook; it hears what happens from now on.
    ///
    /// # Errors
    /// 400 naming the field; 409 if there are [`MAX_HOOKS`].
    pub async fn add(&self, url: &str, events: Vec<String>, secret: Option<String>) -> Result<Hook, Problem> {
        let bad = |field: &str, reason: &str| Problem::invalid(format!("`{field}`: {reason}"));
        let parsed = Url::parse(url).map_err(|error| bad("uri", &error.to_string()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() || 2048 < url.len() {
            return Err(bad("uri", "must have no user name and at most 2048 bytes"));
        }
        self.http.guard().check_url(&parsed).map_err(|refusal| bad("uri", &refusal.to_string()))?;
        let is_name = |name: &String| {
            (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if MAX_NAMES < events.len() || !events.iter().all(is_name) {
            return Err(bad("events", "at most 32 names of 1 to 128 visible ASCII characters"));
        }
        if secret.as_ref().is_some_and(|secret| !SECRET_BYTES.contains(&secret.len())) {
            return Err(bad("secret", "must have 24 to 512 bytes"));
        }
        if MAX_HOOKS <= self.list()?.len() {
            return Err(Problem::conflict(format!("there are {MAX_HOOKS} web hooks, the most this node has")));
        }
        let id = uuid::Uuid::new_v4().to_string();
        let hook = Hook { id, url: url.to_owned(), events, secret, created: clock::now().to_string() };
        let progress = Progress { position: self.log.settled().borrow().saturating_sub(1), ..Progress::default() };
        let mut batch = Batch::default();
        batch.put(Table::Hooks, &format!("{HOOK}{}", hook.id), &hook)?;
        batch.put(Table::Hooks, &format!("{AT}{}", hook.id), &progress)?;
        self.store.commit(batch).await?;
        self.run(hook.clone());
        Ok(hook)
    }

    /// Every hook.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<Hook>, Problem> {
        let rows = self.store.list::<Hook>(Table::Hooks, Some(HOOK), MAX_HOOKS)?;
        Ok(rows.into_iter().map(|(_, hook)| hook).collect())
    }

    /// The hook of this id and how far it has come.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, id: &str) -> Result<(Hook, Progress), Problem> {
        let hook = self.store.get(Table::Hooks, &format!("{HOOK}{id}"))?;
        Ok((hook.ok_or_else(|| Problem::not_found("web hook", id))?, self.progress(id)?))
    }

    /// Removes a hook; a delivery under way may still arrive.
    ///
    /// # Errors
    /// 404.
    pub async fn remove(&self, id: &str) -> Result<(), Problem> {
        self.get(id)?;
        if let Some(stop) = self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(id) {
            stop.cancel();
        }
        let mut batch = Batch::default();
        batch.delete(Table::Hooks, &format!("{HOOK}{id}"));
        batch.delete(Table::Hooks, &format!("{AT}{id}"));
        Ok(self.store.commit(batch).await?)
    }

    fn progress(&self, id: &str) -> Result<Progress, Problem> {
        Ok(self.store.get(Table::Hooks, &format!("{AT}{id}"))?.unwrap_or_default())
    }

    /// Remembers how far a hook is. After a power failure an event may be delivered once more.
    fn remember(&self, id: &str, progress: &Progress) -> Result<(), Problem> {
        let mut batch = Batch::default();
        batch.put(Table::Hooks, &format!("{AT}{id}"), progress)?;
        Ok(self.store.commit_blocking(&batch, false)?)
    }

    fn run(&self, hook: Hook) {
        let stop = self.stopping.child_token();
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(hook.id.clone(), stop.clone());
        let hooks = self.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = deliver::follow(&hooks, &hook) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}
