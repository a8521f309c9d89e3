//! Performs what the machines decide, in the order that is law: state and evidence are saved together, the
//! evidence is made durable, and only then is a message acknowledged or sent.
//!
//! One driver serves both kinds of process. Nothing here polls: a step ends in an answer, a delivery or a timer.

mod delivery;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use serde_json::Value;
use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_contract_engine::{Act, Assessment, Effect, Machine, Msg, Pid, Proposal, Record, RetryPolicy};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::agreements::Side;
use crate::claims::space::Spaces;
use crate::clock;
use crate::event_log::Recording;
use crate::events::Events;
use crate::evidence::{About, Evidence, EvidenceError, Saved};
use crate::exchange::answer::{Verdict, answer, aside};
use crate::exchange::open::OpenProcesses;
use crate::exchange::row::{Happened, Kind, MachineRow, Row, Said};
use crate::locks::KeyedLocks;
use crate::peers::Peers;
use crate::problem::Problem;
use crate::promises::Promises;
use crate::store::{Batch, Store, StoreError};
use crate::vault::Stated;

/// Longest history kept in a row; the ledger keeps all of it.
const MAX_HISTORY: usize = 64;
/// How long an answer to our own message waits for the acknowledgement of that, which is on its way; then we say "busy".
const ACK_ON_ITS_WAY: std::time::Duration = std::time::Duration::from_millis(100);
/// Pause before a process is taken up again whose evidence could not be written.
const LEDGER_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

pub use crate::exchange::answer::Answer;

/// What every driver works with.
#[derive(Clone)]
pub struct Tools {
    /// The node's owner.
    pub did: Did,
    /// State.
    pub store: Store,
    /// Evidence.
    pub evidence: Evidence,
    /// Other nodes.
    pub peers: Arc<Peers>,
    /// What other nodes' ledgers promised us.
    pub promises: Promises,
    /// The spaces we belong to, and how others stand in them.
    pub spaces: Arc<Spaces>,
    /// What others may want to hear of.
    pub events: Events,
    /// Most processes of one kind open with one peer for it to open another.
    pub max_open_per_peer: usize,
    /// Work that outlives a request, and its end.
    pub tasks: TaskTracker,
    /// Set when the node stops.
    pub stopping: CancellationToken,
}

/// A message of our own to be proposed.
pub struct Draft<K: Kind> {
    /// What it says.
    pub proposal: Proposal<K>,
    /// The message as it is sent.
    pub body: Value,
}

/// What the effects of a step say of it.
#[derive(Default)]
struct Noted {
    /// The evidence, in order.
    saved: Vec<Saved>,
    /// Which of it is of the other party's message; it is promised to it.
    received: Option<usize>,
    /// Whether the row changes.
    save: bool,
    /// What the other party refuses is not said again by rule: it waits for a person.
    refused_us: bool,
}

/// Runs every process of one kind.
pub struct Driver<K: Kind> {
    tools: Tools,
    locks: KeyedLocks,
    /// Machines with a message under way; what they know of the link is not in the store.
    live: Mutex<HashMap<String, Machine<K>>>,
    open: OpenProcesses,
    /// Called after a step with the row as saved, outside any lock.
    follow_up: Box<dyn Fn(Row<K>) + Send + Sync>,
    /// When each waiting message is due.
    timers: Mutex<HashMap<String, UnixMillis>>,
    /// Told of every answer to a message of ours.
    settled: Notify,
    /// Processes whose saved step waits for the disk.
    waiting_for_disk: Mutex<HashSet<String>>,
    this: Weak<Self>,
}

impl<K: Kind> Driver<K> {
    /// A driver that tells `follow_up` of every step.
    pub fn new(tools: Tools, follow_up: Box<dyn Fn(Row<K>) + Send + Sync>) -> Arc<Self> {
        let open = OpenProcesses::new(tools.max_open_per_peer);
        let mut heard = tools.peers.reach().subscribe();
        let (tasks, stopping) = (tools.tasks.clone(), tools.stopping.clone());
        let driver = Arc::new_cyclic(|this| Self {
            tools,
            locks: KeyedLocks::default(),
            live: Mutex::default(),
            open,
            follow_up,
            timers: Mutex::default(),
            settled: Notify::new(),
            waiting_for_disk: Mutex::default(),
            this: Weak::clone(this),
        });
        let weak = Arc::downgrade(&driver);
        tasks.spawn(async move {
            loop {
                let peer = tokio::select! {
                    peer = heard.recv() => peer,
                    () = stopping.cancelled() => return,
                };
                let Some(driver) = weak.upgrade() else { return };
                match peer {
                    Ok(peer) => driver.wake(&peer),
                    // Those that were missed have timers of their own.
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
        });
        driver
    }

    /// The row of a process.
    ///
    /// # Errors
    /// 404.
    pub fn get(&self, pid: &str) -> Result<Row<K>, Problem> {
        self.tools.store.get(K::TABLE, pid)?.ok_or_else(|| Problem::not_found(K::NAME, pid))
    }

    /// Rows in order of identifier.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Result<Vec<Row<K>>, Problem> {
        Ok(self.tools.store.list(K::TABLE, after, limit)?.into_iter().map(|(_, row)| row).collect())
    }

    /// Starts a process with our first message.
    ///
    /// # Errors
    /// [`Problem`]; nothing was sent.
    pub async fn open(&self, row: Row<K>, draft: Draft<K>) -> Result<Row<K>, Problem> {
        let _guard = self.locks.lock(&row.pid).await;
        let our_pid = pid(&row.pid)?;
        let machine = Machine::new(row.role.party(), our_pid, None, RetryPolicy::STANDARD);
        self.propose_in(row, machine, draft, Batch::default()).await
    }

    /// Adds a message of our own to a process. `draft` sees the row under the lock; what it adds to the batch is saved
    /// with the message.
    ///
    /// # Errors
    /// 404, 409 if the message is not legal now, or what `draft` says.
    pub async fn propose(
        &self,
        pid: &str,
        draft: impl FnOnce(&mut Row<K>, &mut Batch) -> Result<Draft<K>, Problem> + Send,
    ) -> Result<Row<K>, Problem> {
        let _guard = self.locks.lock(pid).await;
        let mut row = self.get(pid)?;
        let machine = self.machine(&row)?;
        let mut batch = Batch::default();
        let draft = draft(&mut row, &mut batch)?;
        self.propose_in(row, machine, draft, batch).await
    }

    async fn propose_in(
        &self,
        mut row: Row<K>,
        mut machine: Machine<K>,
        draft: Draft<K>,
        batch: Batch,
    ) -> Result<Row<K>, Problem> {
        let effects = machine.propose(draft.proposal).map_err(|error| {
            Problem::conflict(error.to_string()).hint("look at the process's state and history first")
        })?;
        row.outgoing = Some(draft.body);
        row.error = None;
        self.perform(&mut row, machine, effects, batch, None).await?;
        Ok(row)
    }

    /// Takes a message of another node. For a first message `fresh` makes the row; else it is the sender's process
    /// `pid`. `apply` checks what the message means and changes the row's detail; its refusal is final.
    pub async fn receive(
        &self,
        pid: &str,
        sender: &Did,
        (msg, said): (Msg<K>, &Said),
        fresh: Option<Row<K>>,
        apply: impl FnOnce(&mut Row<K>, &mut Batch) -> Result<(), String> + Send,
    ) -> Answer<K> {
        let deadline = tokio::time::Instant::now() + ACK_ON_ITS_WAY;
        let _guard = loop {
            let settled = self.settled.notified();
            let guard = self.locks.lock(pid).await;
            let answers_ours =
                self.get(pid).and_then(|row| self.machine(&row)).is_ok_and(|own| own.answers_pending(&msg));
            if !answers_ours {
                break guard;
            }
            drop(guard);
            if tokio::time::timeout_at(deadline, settled).await.is_err() {
                break self.locks.lock(pid).await;
            }
        };
        match self.receive_locked(pid, sender, (msg, said), fresh, apply).await {
            Ok(answer) => answer,
            Err(problem) => Answer::Failed(problem),
        }
    }

    async fn receive_locked(
        &self,
        pid_text: &str,
        sender: &Did,
        (msg, said): (Msg<K>, &Said),
        fresh: Option<Row<K>>,
        apply: impl FnOnce(&mut Row<K>, &mut Batch) -> Result<(), String> + Send,
    ) -> Result<Answer<K>, Problem> {
        let stored = self.tools.store.get::<Row<K>>(K::TABLE, pid_text)?;
        let (mut row, mut machine) = match (stored, fresh) {
            (Some(row), _) => {
                let machine = self.machine(&row)?;
                (row, machine)
            }
            (None, Some(row)) => {
                self.open.check_room(&row.peer)?;
                let machine =
                    Machine::new(row.role.party(), pid(&row.pid)?, Some(msg.sender_pid.clone()), RetryPolicy::STANDARD);
                (row, machine)
            }
            (None, None) => return Ok(Answer::Unknown),
        };
        if row.peer != sender.as_str() {
            return Ok(Answer::Unknown);
        }
        let now = clock::now();
        let mut batch = Batch::default();
        let mut declined = None;
        if machine.assess(&msg) == Assessment::Acceptable
            && let Err(reason) = apply(&mut row, &mut batch)
        {
            declined = Some(reason);
        }
        let effects = match &declined {
            Some(_) => machine.decline(now, &msg),
            None => machine.on_msg(now, &msg),
        };
        if let Some(reason) = declined {
            // What `apply` changed in the row is not wanted.
            let row = self.tools.store.get::<Row<K>>(K::TABLE, pid_text)?;
            if let Some(mut row) = row {
                self.perform(&mut row, machine, effects, Batch::default(), Some(said)).await?;
            }
            return Ok(Answer::Refused(reason));
        }
        let answer = answer(&effects);
        self.perform(&mut row, machine, effects, batch, Some(said)).await?;
        Ok(match answer {
            Verdict::Done => Answer::Done(Box::new(row)),
            Verdict::Busy => Answer::Busy,
            Verdict::Refused(reason) => Answer::Refused(reason),
        })
    }

    /// Takes up a process that was set aside.
    ///
    /// # Errors
    /// 404.
    pub async fn resume(&self, pid: &str) -> Result<Row<K>, Problem> {
        let _guard = self.locks.lock(pid).await;
        let mut row = self.get(pid)?;
        let mut machine = self.machine(&row)?;
        let effects = machine.resume(clock::now());
        row.error = None;
        self.perform(&mut row, machine, effects, Batch::default(), None).await?;
        Ok(row)
    }

    /// Goes on with everything a stop interrupted: messages under way are due at once, and every live process is
    /// shown to the rules again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self) -> Result<(), Problem> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.list(after.as_deref(), 500)?;
            let Some(last) = rows.last() else { return Ok(()) };
            after = Some(last.pid.clone());
            for row in rows {
                let is_over = self.machine(&row).is_ok_and(|machine| machine.is_over());
                self.open.note(&row.peer, &row.pid, is_over);
                if row.machine.has_pending() {
                    self.spawn(|driver| async move { driver.tick(&row.pid).await });
                } else {
                    (self.follow_up)(row);
                }
            }
        }
    }

    fn machine(&self, row: &Row<K>) -> Result<Machine<K>, Problem> {
        if let Some(machine) = self.live.lock().unwrap_or_else(PoisonError::into_inner).get(&row.pid) {
            return Ok(machine.clone());
        }
        let bad = |why: &str| {
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, format!("{} `{}`: {why}", K::NAME, row.pid))
        };
        let snapshot = row.machine.snapshot::<K>(row.role, &row.pid).ok_or_else(|| bad("the stored row is damaged"))?;
        Machine::restore(snapshot, RetryPolicy::STANDARD).map_err(|error| bad(&error.to_string()))
    }

    /// Performs the effects of one step. Everything up to and including durable evidence happens before this
    /// returns; deliveries and timers are started after it.
    async fn perform(
        &self,
        row: &mut Row<K>,
        machine: Machine<K>,
        effects: Vec<Effect<K>>,
        mut batch: Batch,
        said: Option<&Said>,
    ) -> Result<(), Problem> {
        // Evidence that an earlier failure kept from the ledger goes first, so that no repeat is acknowledged without it.
        if let Err(error) = self.tools.evidence.flush().await {
            self.try_again_later(&row.pid);
            return Err(failed(error));
        }
        let before = row.machine.state().map(str::to_owned);
        row.machine = MachineRow::of(machine.snapshot());
        self.note_history(row, &machine, before.as_deref());
        let Noted { saved, received, save, refused_us } = self.note(row, &effects, said, &mut batch)?;
        if !row.machine.has_pending() {
            row.outgoing = None;
        }
        if save {
            let _told = self.put(&mut batch, row, before.as_deref())?;
            // A bare save notes that the other party has our message. A power failure that undoes it makes us send the
            // message once more, and it is acknowledged again.
            let committed = if effects == [Effect::Save] {
                self.tools.store.commit_blocking(&batch, false)
            } else {
                self.tools.store.commit(batch).await
            };
            if let Err(error) = committed {
                self.try_again_later(&row.pid);
                return Err(error.into());
            }
            match self.tools.evidence.make_promised(&saved, received).await {
                Ok(promised) => row.promised = promised,
                Err(error) => {
                    self.try_again_later(&row.pid);
                    return Err(failed(error));
                }
            }
        }
        self.open.note(&row.peer, &row.pid, machine.is_over());
        self.keep_live(&row.pid, machine);
        for effect in effects {
            self.start(row, effect);
        }
        if save {
            self.tools.events.publish(K::NAME, &row.pid, row.machine.state());
            if !row.machine.has_pending() && !refused_us {
                (self.follow_up)(row.clone());
            }
        }
        Ok(())
    }

    /// Adds to the batch what the effects of a step say of it: the evidence, and what else changes with it.
    fn note(
        &self,
        row: &mut Row<K>,
        effects: &[Effect<K>],
        said: Option<&Said>,
        batch: &mut Batch,
    ) -> Result<Noted, Problem> {
        let mut noted = Noted::default();
        for effect in effects {
            match effect {
                Effect::Save => noted.save = true,
                Effect::Record(record) => {
                    match record.act {
                        Act::Withdrawn => {
                            noted.refused_us = true;
                            K::withdrawn(row, record.verb, &self.tools.store, batch)?;
                        }
                        Act::Received | Act::Sent => noted.refused_us = false,
                    }
                    let stated = self.statement(row, record, said).map_err(failed)?;
                    if record.act == Act::Received {
                        noted.received = Some(noted.saved.len());
                    }
                    noted.saved.push(self.tools.evidence.save(batch, &stated).map_err(failed)?);
                }
                Effect::SetAside(reason) => {
                    row.error = Some(aside(*reason));
                    noted.save = true;
                }
                Effect::Ack
                | Effect::AckAgain
                | Effect::Busy
                | Effect::Refuse(_)
                | Effect::Send { .. }
                | Effect::Enquire
                | Effect::ScheduleAt(_) => {}
            }
        }
        Ok(noted)
    }

    /// Adds the row, and what happened, to what is saved.
    fn put(&self, batch: &mut Batch, row: &Row<K>, before: Option<&str>) -> Result<Option<Recording>, StoreError> {
        batch.put(K::TABLE, &row.pid, row)?;
        self.tools.events.step(batch, row, before)
    }

    fn note_history(&self, row: &mut Row<K>, machine: &Machine<K>, before: Option<&str>) {
        let Some(state) = machine.state().map(K::state_name) else { return };
        if before == Some(state) {
            return;
        }
        let snapshot = machine.snapshot();
        let known = |event: &Digest| row.history.iter().any(|happened| happened.event == event.to_string());
        let ours = snapshot.ours_last.filter(|applied| !known(&applied.event)).map(|applied| (row.role, applied));
        let theirs = snapshot.theirs.last().copied().filter(|applied| !known(&applied.event));
        let theirs = theirs.map(|applied| (Side::from(row.role.party().other()), applied));
        let Some((from, applied)) = ours.or(theirs) else { return };
        if MAX_HISTORY <= row.history.len() {
            row.history.remove(0);
        }
        row.history.push(Happened {
            at: clock::now().to_string(),
            from,
            verb: K::verb_name(applied.verb).to_owned(),
            state: state.to_owned(),
            event: applied.event.to_string(),
        });
    }

    /// What we state about a message: ours is in the row, theirs is what they `said`. A withdrawal is of a message stated
    /// before.
    fn statement(&self, row: &Row<K>, record: &Record<K>, said: Option<&Said>) -> Result<Stated, EvidenceError> {
        let (agreement, beside) = K::commitments(row, record.verb).unzip();
        let (act, message) = match record.act {
            Act::Sent => (shuyu_evidence::Act::Sent, row.outgoing.as_ref()),
            Act::Received => (shuyu_evidence::Act::Received, said.map(|said| &said.message)),
            Act::Withdrawn => (shuyu_evidence::Act::Withdrawn, None),
        };
        let about = About {
            kind: format!("{}.{}", K::NAME, K::verb_name(record.verb)),
            act,
            process: row.process.clone(),
            seq: record.seq,
            with: row.peer.parse().unwrap_or_else(|_| self.tools.did.clone()),
            agreement,
        };
        let Some(mut content) = message.cloned() else {
            return Ok(self.tools.evidence.bare(about, record.event)?.into());
        };
        if let Some(members) = content.as_object_mut() {
            // It holds the access token; nothing keeps that longer than it must.
            members.remove("dataAddress");
            members.extend(beside.into_iter().flatten());
        }
        self.tools.evidence.heard(about, record.event, content)
    }

    /// The state is saved and its evidence is not durable: nothing may leave. The stored machine is taken up again
    /// once the ledger works.
    fn try_again_later(&self, pid: &str) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(pid);
        if !self.waiting_for_disk.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.to_owned()) {
            return;
        }
        let pid = pid.to_owned();
        self.spawn(|driver| async move {
            tokio::select! {
                () = tokio::time::sleep(LEDGER_RETRY) => {}
                () = driver.tools.stopping.cancelled() => return,
            }
            driver.waiting_for_disk.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
            driver.tick(&pid).await;
        });
    }

    fn keep_live(&self, pid: &str, machine: Machine<K>) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if machine.snapshot().pending.is_some() {
            live.insert(pid.to_owned(), machine);
        } else {
            live.remove(pid);
        }
    }

    fn report(&self, pid: &str, result: Result<(), Problem>) {
        if let Err(problem) = result {
            tracing::error!(kind = K::NAME, pid, detail = %problem.detail, "a step failed; it is repeated at the next start");
        }
    }
}

pub(crate) fn pid(text: &str) -> Result<Pid, Problem> {
    text.parse().map_err(|error| Problem::invalid(format!("process identifier `{text}`: {error}")))
}

fn failed(error: crate::evidence::EvidenceError) -> Problem {
    Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
        .hint("nothing was acknowledged; check the disk of the ledger")
}

/// Spreads retries; not a secret.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_le_bytes(bytes),
        Err(_) => 0,
    }
}
