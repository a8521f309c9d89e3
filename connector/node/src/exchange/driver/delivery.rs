//! What happens between two steps: deliveries, timers, questions, and what their answers mean.

use std::sync::{Arc, PoisonError};

use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_contract_engine::{AckError, Effect, Machine};

use super::{Driver, random};
use crate::clock;
use crate::exchange::answer::{aside, named_pid};
use crate::exchange::row::{Kind, Row};
use crate::peers::PeerError;
use crate::store::Batch;

impl<K: Kind> Driver<K> {
    /// A peer that was silent answers again: what waits for it is due now.
    pub(super) fn wake(&self, peer: &str) {
        for pid in self.open.with(peer) {
            let waits = self.live.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&pid);
            if waits {
                self.spawn(|driver| async move { driver.step(&pid, Machine::hurry).await });
            }
        }
    }

    pub(super) fn start(&self, row: &Row<K>, effect: Effect<K>) {
        let pid = row.pid.clone();
        match effect {
            Effect::Send { verb, event, .. } => {
                let row = row.clone();
                self.spawn(move |driver| async move { driver.deliver(row, verb, event).await });
            }
            Effect::ScheduleAt(at) => {
                // The last timer that was set counts; earlier ones end without a step.
                self.timers.lock().unwrap_or_else(PoisonError::into_inner).insert(pid.clone(), at);
                self.spawn(move |driver| async move {
                    let wait = u64::try_from(at.since(clock::now())).unwrap_or(0);
                    tokio::select! {
                        () = tokio::time::sleep(std::time::Duration::from_millis(wait)) => {}
                        () = driver.tools.stopping.cancelled() => return,
                    }
                    let is_last = {
                        let mut timers = driver.timers.lock().unwrap_or_else(PoisonError::into_inner);
                        timers.get(&pid) == Some(&at) && timers.remove(&pid).is_some()
                    };
                    if is_last {
                        driver.tick(&pid).await;
                    }
                });
            }
            Effect::Enquire => {
                let row = row.clone();
                self.spawn(move |driver| async move { driver.enquire(row).await });
            }
            Effect::SetAside(reason) => {
                tracing::warn!(kind = K::NAME, %pid, reason = %aside(reason), "set aside; waits for an operator");
            }
            Effect::Save | Effect::Record(_) | Effect::Ack | Effect::AckAgain | Effect::Busy | Effect::Refuse(_) => {}
        }
    }

    pub(super) fn spawn<F, W>(&self, work: F)
    where
        F: FnOnce(Arc<Self>) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        if let Some(driver) = self.this.upgrade() {
            self.tools.tasks.spawn(work(driver));
        }
    }

    pub(super) async fn tick(&self, pid: &str) {
        self.step(pid, Machine::on_tick).await;
    }

    pub(super) async fn step(&self, pid: &str, move_on: fn(&mut Machine<K>, UnixMillis) -> Vec<Effect<K>>) {
        let _guard = self.locks.lock(pid).await;
        let step = async {
            let mut row = self.get(pid)?;
            let mut machine = self.machine(&row)?;
            let effects = move_on(&mut machine, clock::now());
            let idle = effects.is_empty() && machine.snapshot().pending.is_none();
            self.perform(&mut row, machine, effects, Batch::default(), None).await?;
            if idle {
                // A step that was saved before the disk failed has not been followed up.
                (self.follow_up)(row);
            }
            Ok(())
        };
        self.report(pid, step.await);
    }

    /// Sends the pending message once and tells the machine how it went.
    pub(super) async fn deliver(&self, row: Row<K>, verb: K::Verb, event: Digest) {
        let Some(body) = &row.outgoing else { return };
        let Ok(peer) = row.peer.parse::<Did>() else { return };
        let receiver = row.role.party().other();
        let opens = row.machine.peer_pid().is_none();
        let url = format!("{}{}", row.peer_root, K::path(verb, receiver, row.machine.peer_pid()));
        let sent = tokio::select! {
            sent = self.tools.peers.deliver(&peer, &url, body) => sent,
            () = self.tools.stopping.cancelled() => return,
        };
        self.settle(
            &row.pid,
            |machine, now| match &sent {
                Ok((answer, _)) => {
                    // Only the answer to the message that opens is specified; of every other, 200 alone says all
                    // ("The response body is not specified", HTTPS binding).
                    let named = if opens { named_pid(answer, receiver) } else { None };
                    machine.on_ack(event, named.as_ref()).or_else(|error| match error {
                        AckError::NoPeerPid | AckError::OtherProcess => machine.on_no_answer(now, event, random()),
                        other @ (AckError::NothingPending | _) => Err(other),
                    })
                }
                Err(PeerError::Silent { .. }) => machine.on_not_sent(now, event, random()),
                Err(PeerError::Busy { .. }) => machine.on_busy(now, event, random()),
                Err(error) if error.is_definite() => machine.on_refused(event),
                Err(_) => machine.on_no_answer(now, event, random()),
            },
            sent.as_ref().err().map(ToString::to_string),
        )
        .await;
        if let Ok((_, Some(promised))) = sent
            && let Err(error) = self.tools.promises.keep(&peer, &row.process, promised)
        {
            tracing::warn!(%error, "a promise of another ledger could not be kept");
        }
    }

    /// Asks the other party for its view of the process.
    pub(super) async fn enquire(&self, row: Row<K>) {
        let (Ok(peer), Some(their_pid)) = (row.peer.parse::<Did>(), row.machine.peer_pid()) else { return };
        let url = format!("{}{}", row.peer_root, K::state_path(their_pid));
        let answer = self.tools.peers.ask(&peer, &url).await;
        let state = answer.ok().and_then(|view| K::state_of(view.get("state")?.as_str()?));
        self.settle(
            &row.pid,
            |machine, now| match (state, &machine.snapshot().pending) {
                (Some(state), _) => machine.on_peer_state(state),
                (None, Some(pending)) => {
                    let event = pending.event;
                    machine.on_no_answer(now, event, random())
                }
                (None, None) => Err(AckError::NothingPending),
            },
            None,
        )
        .await;
    }

    pub(super) async fn settle(
        &self,
        pid: &str,
        tell: impl FnOnce(&mut Machine<K>, UnixMillis) -> Result<Vec<Effect<K>>, AckError> + Send,
        error: Option<String>,
    ) {
        let _guard = self.locks.lock(pid).await;
        let step = async {
            let mut row = self.get(pid)?;
            let mut machine = self.machine(&row)?;
            // An answer to a message that is not under way any more changes nothing.
            let Ok(effects) = tell(&mut machine, clock::now()) else { return Ok(()) };
            if let Some(error) = &error {
                tracing::info!(kind = K::NAME, pid, error, "message not delivered");
                if effects.iter().any(|effect| matches!(effect, Effect::Record(_))) {
                    row.error = Some(error.clone());
                }
            }
            self.perform(&mut row, machine, effects, Batch::default(), None).await
        };
        self.report(pid, step.await);
        self.settled.notify_waiters();
    }
}
