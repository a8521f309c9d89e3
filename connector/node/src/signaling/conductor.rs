//! Tells foreign data planes what our transfers have come to, until they acknowledge it.
//!
//! For each transfer that a foreign data plane serves there is a [`Lead`]: where its flow is, and where it shall be. A
//! task a lead sends the signals between the two, one after another, and ends when there is nothing to say. A data plane
//! that is slow, down or talks nonsense delays nobody else: its lead is tried again, then set aside with the error to be
//! seen. Only what stops data (suspend, terminate) is tried without end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::{Map, json};
use shuyu_contract_engine::data_flow::{Next, leads_to};
use shuyu_evidence::Act;
use shuyu_wire::signaling::{FlowRequest, FlowSignal, FlowStatus, Signal, State};
use tokio::sync::Notify;

use super::lead::{Begin, Lead, new_message};
use super::planes::{DataPlane, DataPlanes, Told};
use crate::agreements::Side;
use crate::evidence::About;
use crate::exchange::driver::Tools;
use crate::exchange::handover::Address;
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Batch, Table};

/// First pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Attempts after which what does not stop data is set aside: about half a minute, and the waits for answers.
const MAX_ATTEMPTS: u32 = 6;

/// Called with a lead whose flow has come to where it shall be, or was ended by the data plane.
type Reached = Box<dyn Fn(Lead) + Send + Sync>;

/// Leads every transfer of this node that a foreign data plane serves.
pub struct Conductor {
    tools: Tools,
    planes: DataPlanes,
    changing: KeyedLocks,
    running: Mutex<HashMap<String, Arc<Notify>>>,
    reached: OnceLock<Reached>,
    this: Weak<Self>,
}

impl Conductor {
    /// A conductor that tells `reached` of every flow that has arrived.
    pub fn new(tools: Tools) -> Arc<Self> {
        let planes = DataPlanes::new(tools.store.clone(), tools.peers.http().clone());
        Arc::new_cyclic(|this| Self {
            tools,
            planes,
            changing: KeyedLocks::default(),
            running: Mutex::default(),
            reached: OnceLock::new(),
            this: Weak::clone(this),
        })
    }

    /// Who is told of flows that have arrived; said once, before anything else.
    pub fn on_reached(&self, reached: impl Fn(Lead) + Send + Sync + 'static) {
        let _ = self.reached.set(Box::new(reached));
    }

    /// The data planes.
    pub fn planes(&self) -> &DataPlanes {
        &self.planes
    }

    /// The lead of a transfer, if a foreign data plane serves it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find(&self, transfer: &str) -> Result<Option<Lead>, Problem> {
        Ok(self.tools.store.get(Table::Leads, transfer)?)
    }

    /// A transfer that this data plane serves, or that it has not acknowledged the end of.
    ///
    /// # Errors
    /// When the store fails.
    pub fn serving(&self, plane: &str) -> Result<Option<Lead>, Problem> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.tools.store.list::<Lead>(Table::Leads, after.as_deref(), 500)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            after = Some(last.clone());
            let is_open = |lead: &Lead| lead.plane == plane && (lead.next() != Next::Nothing || lead.holds_data());
            if let Some((_, lead)) = rows.into_iter().find(|(_, lead)| is_open(lead)) {
                return Ok(Some(lead));
            }
        }
    }

    /// Begins to lead a transfer, or goes on with it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, begin: Begin, wanted: State) -> Result<(), Problem> {
        let guard = self.changing.lock(&begin.transfer).await;
        if self.find(&begin.transfer)?.is_some() {
            drop(guard);
            return self.want(&begin.transfer, wanted, None, None).await;
        }
        let lead = Lead::new(begin, wanted);
        self.save(&lead, Batch::default()).await?;
        drop(guard);
        self.go(&lead.transfer);
        Ok(())
    }

    /// Says where the flow of a transfer shall be now; nothing if no foreign data plane serves it. `address` is where a
    /// consumer's data plane gets the data.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn want(
        &self,
        transfer: &str,
        wanted: State,
        reason: Option<&str>,
        address: Option<Address>,
    ) -> Result<(), Problem> {
        let guard = self.changing.lock(transfer).await;
        let Some(mut lead) = self.find(transfer)? else { return Ok(()) };
        let is_final = lead.wanted().is_over() && !(lead.wanted() == State::Completed && wanted == State::Terminated);
        if is_final || (lead.wanted() == wanted && address.is_none()) {
            drop(guard);
            // Known; a task that waits before its next attempt goes on waiting.
            if !self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(transfer) {
                self.go(transfer);
            }
            return Ok(());
        }
        lead.wanted = wanted.name().to_owned();
        lead.reason = reason.map(str::to_owned);
        lead.address = address.or(lead.address);
        lead.message = new_message();
        (lead.failures, lead.aside, lead.error) = (0, false, None);
        self.save(&lead, Batch::default()).await?;
        drop(guard);
        self.go(transfer);
        Ok(())
    }

    /// Takes up a lead that was set aside.
    ///
    /// # Errors
    /// 404.
    pub async fn retry(&self, transfer: &str) -> Result<Lead, Problem> {
        let guard = self.changing.lock(transfer).await;
        let mut lead = self.find(transfer)?.ok_or_else(|| Problem::not_found("data flow of transfer", transfer))?;
        (lead.failures, lead.aside) = (0, false);
        self.save(&lead, Batch::default()).await?;
        drop(guard);
        self.go(transfer);
        Ok(lead)
    }

    /// What a data plane tells by itself (section "Control Plane Endpoint").
    ///
    /// # Errors
    /// 404 for a transfer that this data plane does not serve; 409 if it is not legal now.
    pub async fn told(&self, plane: &str, transfer: &str, what: &str, status: FlowStatus) -> Result<(), Problem> {
        let guard = self.changing.lock(transfer).await;
        let none = || Problem::not_found("transfer of this data plane", transfer);
        let mut lead = self.find(transfer)?.filter(|lead| lead.plane == plane).ok_or_else(none)?;
        if lead.flow.is_some() && status.flow_id.is_some() && lead.flow != status.flow_id {
            return Err(none());
        }
        let (now, wanted) = (lead.reached(), lead.wanted());
        let to = match (what, now) {
            ("prepared", State::Preparing | State::Prepared) => State::Prepared,
            ("started", State::Starting | State::Started) => State::Started,
            ("completed", State::Started | State::Completed) => State::Completed,
            ("errored", _) => {
                let error = status.error.unwrap_or_else(|| "the data plane reports an error without words".to_owned());
                (lead.error, lead.aside) = (Some(error), !lead.wanted().is_over());
                return self.save(&lead, Batch::default()).await;
            }
            (_, now) => {
                return Err(Problem::conflict(format!("`{what}` is not legal in state {}", now.name())));
            }
        };
        if now != to {
            self.arrive(&mut lead, to, Some(status), None).await?;
            if to == State::Completed && !wanted.is_over() {
                lead.wanted = to.name().to_owned();
                self.save(&lead, Batch::default()).await?;
            }
        }
        drop(guard);
        self.tell(&lead);
        self.go(transfer);
        Ok(())
    }

    /// Goes on with every lead that is not where it shall be.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recover(&self) -> Result<(), Problem> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.tools.store.list::<Lead>(Table::Leads, after.as_deref(), 500)?;
            let Some((last, _)) = rows.last() else { return Ok(()) };
            after = Some(last.clone());
            for (transfer, lead) in &rows {
                if lead.next() != Next::Nothing {
                    self.go(transfer);
                } else if !lead.reached().is_over() {
                    self.tell(lead);
                }
            }
        }
    }

    /// Lets the task of a lead look again, or starts it.
    fn go(&self, transfer: &str) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = running.get(transfer) {
            task.notify_one();
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        let poked = Arc::new(Notify::new());
        running.insert(transfer.to_owned(), Arc::clone(&poked));
        let (transfer, stopping) = (transfer.to_owned(), self.tools.stopping.clone());
        self.tools.tasks.spawn(async move {
            tokio::select! {
                () = this.run(&transfer, &poked) => {}
                () = stopping.cancelled() => {}
            }
        });
    }

    async fn run(&self, transfer: &str, poked: &Notify) {
        loop {
            let pause = match self.step(transfer).await {
                Ok(Some(pause)) => pause,
                Ok(None) if self.is_done(transfer) => return,
                Ok(None) => Duration::ZERO,
                Err(problem) => {
                    tracing::error!(transfer, detail = %problem.detail, "a data flow cannot be led just now");
                    Duration::from_secs(5)
                }
            };
            tokio::select! {
                () = poked.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Whether there is nothing to say; then the task is over, and the next wish starts another.
    fn is_done(&self, transfer: &str) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let is_done =
            matches!(self.find(transfer).map(|lead| lead.map(|lead| lead.next())), Ok(None | Some(Next::Nothing)));
        if is_done {
            running.remove(transfer);
        }
        is_done
    }

    /// Does what is next; how long to wait before the step after it, or nothing if none is left.
    async fn step(&self, transfer: &str) -> Result<Option<Duration>, Problem> {
        let Some(lead) = self.find(transfer)? else { return Ok(None) };
        let (signal, told) = match lead.next() {
            Next::Nothing => return Ok(None),
            Next::Wait if lead.failures == 0 => {
                // The first look comes after a pause; until then the data plane may call back.
                self.failed(transfer, &lead, None).await?;
                return Ok(Some(FIRST_PAUSE));
            }
            Next::Wait => (None, self.enquire(&lead).await?),
            Next::Send(signal) => {
                let lead = self.granted(transfer, signal).await?;
                (Some(signal), self.send(&lead, signal).await?)
            }
        };
        let guard = self.changing.lock(transfer).await;
        let Some(mut now) = self.find(transfer)? else { return Ok(None) };
        if now.message != lead.message || now.reached() != lead.reached() {
            // Something else is wanted meanwhile; an answer to what was said still counts.
            now.failures = 0;
        }
        if now.reached().is_over() {
            return Ok(Some(Duration::ZERO));
        }
        let pause = self.judge(&mut now, &lead, signal, told).await?;
        drop(guard);
        Ok(Some(pause))
    }

    /// Notes that we wait for a callback.
    async fn failed(&self, transfer: &str, lead: &Lead, error: Option<String>) -> Result<(), Problem> {
        let _guard = self.changing.lock(transfer).await;
        let Some(mut now) = self.find(transfer)?.filter(|now| now.reached() == lead.reached()) else { return Ok(()) };
        now.failures += 1;
        now.error = error;
        self.save(&now, Batch::default()).await
    }

    /// What an answer means. The next step may come at once when it was understood.
    async fn judge(
        &self,
        now: &mut Lead,
        then: &Lead,
        signal: Option<Signal>,
        told: Told,
    ) -> Result<Duration, Problem> {
        let from = then.reached();
        let is_legal = |to: State| match signal {
            Some(signal) => leads_to(from, signal, to),
            None => from.is_under_way(),
        };
        let error = match (told, signal) {
            (Told::Done(status), signal) => {
                let to = status.as_ref().map(|status| status.state).or_else(|| signal.and_then(silent));
                match to {
                    // Still under way.
                    Some(to) if signal.is_none() && to == from => None,
                    Some(State::Started) if signal.is_none() && now.side == Side::Provider && now.address.is_none() => {
                        Some("it has started and told no data address".to_owned())
                    }
                    Some(to) if is_legal(to) && !to.is_under_way() => {
                        return self.arrived(now, to, status, signal).await;
                    }
                    Some(to) => Some(format!("it says {} where that cannot be", to.name())),
                    None => Some("its answer names no state".to_owned()),
                }
            }
            (Told::Later(status), Some(_)) if is_legal(status.state) && status.state.is_under_way() => {
                return self.arrived(now, status.state, Some(status), signal).await;
            }
            (Told::Later(status), _) => {
                Some(format!("it accepts and says {}, where that cannot be", status.state.name()))
            }
            // It knows nothing of the flow, so nothing flows.
            (Told::Unknown, Some(signal @ (Signal::Terminate | Signal::Suspend | Signal::Complete))) => {
                return self.arrived(now, State::Terminated, None, Some(signal)).await;
            }
            (Told::Unknown, _) => Some("it knows no such flow".to_owned()),
            (Told::Refused(words), None) => Some(words),
            (Told::Refused(words), Some(signal)) if stops_data(signal) => Some(words),
            (Told::Refused(words), Some(_)) => {
                // Refused at once, nothing was started; after an answer that was lost, something may be.
                now.granted = now.granted && 0 < now.failures;
                now.failures = MAX_ATTEMPTS;
                Some(words)
            }
            (Told::Failed(words), _) => Some(words),
        };
        now.failures = now.failures.saturating_add(1);
        now.aside = !signal.is_some_and(stops_data) && MAX_ATTEMPTS < now.failures;
        if now.aside && error.is_none() {
            now.error = Some("it said that it would tell later, and has not".to_owned());
        }
        if let Some(error) = error {
            tracing::info!(transfer = %now.transfer, plane = %now.plane, failures = now.failures, error, "data plane");
            now.error = Some(error);
        }
        self.save(now, Batch::default()).await?;
        let doubled = FIRST_PAUSE.saturating_mul(1 << now.failures.saturating_sub(1).min(12));
        Ok(doubled.min(LONGEST_PAUSE))
    }

    async fn arrived(
        &self,
        lead: &mut Lead,
        to: State,
        status: Option<FlowStatus>,
        signal: Option<Signal>,
    ) -> Result<Duration, Problem> {
        self.arrive(lead, to, status, signal).await?;
        self.tell(lead);
        Ok(Duration::ZERO)
    }

    /// Saves where the flow is now, and evidences that data was stopped.
    async fn arrive(
        &self,
        lead: &mut Lead,
        to: State,
        status: Option<FlowStatus>,
        signal: Option<Signal>,
    ) -> Result<(), Problem> {
        let was_started = matches!(lead.reached(), State::Started | State::Starting);
        lead.reached = to.name().to_owned();
        (lead.failures, lead.error) = (0, None);
        if signal.is_some() {
            lead.message = new_message();
        }
        if let Some(status) = status {
            lead.flow = status.flow_id.or(lead.flow.take());
            if lead.side == Side::Provider {
                lead.address = status.data_address.as_ref().map(Address::of).or(lead.address.take());
            }
        }
        let mut batch = Batch::default();
        let mut saved = None;
        if matches!(to, State::Suspended | State::Completed | State::Terminated) {
            lead.granted = false;
            if lead.side == Side::Provider && (was_started || to.is_over()) && 0 < lead.grants {
                let kind = format!("flow.{}", to.name().to_ascii_lowercase());
                saved = Some(self.evidence(lead, Act::Revoked, &kind, &mut batch).await?);
            }
        }
        if to.is_over() {
            lead.address = None;
        }
        let word = to.name().to_ascii_lowercase();
        let data = json!({ "@id": lead.transfer, "dataplaneId": lead.plane, "state": to.name() });
        let _told = self.tools.events.record(&mut batch, &format!("dataflow.{word}"), &lead.transfer, data)?;
        self.save(lead, batch).await?;
        match saved {
            Some(saved) => self.tools.evidence.make_durable(&[saved]).await.map_err(evidence_failed),
            None => Ok(()),
        }
    }

    /// Before data is let flow, that is evident and durable.
    async fn granted(&self, transfer: &str, signal: Signal) -> Result<Lead, Problem> {
        let _guard = self.changing.lock(transfer).await;
        let none = || Problem::not_found("data flow of transfer", transfer);
        let mut lead = self.find(transfer)?.ok_or_else(none)?;
        let lets = matches!(signal, Signal::Start | Signal::Resume) && lead.side == Side::Provider;
        if lets && !lead.granted {
            lead.granted = true;
            lead.grants += 1;
            let mut batch = Batch::default();
            let saved = self.evidence(&lead, Act::Decided, "flow.started", &mut batch).await?;
            self.save(&lead, batch).await?;
            self.tools.evidence.make_durable(&[saved]).await.map_err(evidence_failed)?;
        }
        Ok(lead)
    }

    async fn evidence(
        &self,
        lead: &Lead,
        act: Act,
        kind: &str,
        batch: &mut Batch,
    ) -> Result<crate::evidence::Saved, Problem> {
        let content = json!({
            "transfer": lead.transfer, "agreement": lead.agreement, "dataPlane": lead.plane, "flow": lead.flow,
            "profile": lead.profile,
        });
        let about = About {
            kind: kind.to_owned(),
            act,
            process: format!("flow/{}", lead.transfer),
            seq: lead.grants,
            with: lead.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?,
            agreement: Some(lead.agreement.clone()),
        };
        let stated = self.tools.evidence.state(about, content).map_err(evidence_failed)?;
        self.tools.evidence.flush().await.map_err(evidence_failed)?;
        self.tools.evidence.save(batch, &stated).map_err(evidence_failed)
    }

    async fn save(&self, lead: &Lead, mut batch: Batch) -> Result<(), Problem> {
        batch.put(Table::Leads, &lead.transfer, lead)?;
        self.tools.store.commit(batch).await?;
        self.tools.events.publish("dataflow", &lead.transfer, Some(&lead.reached));
        Ok(())
    }

    fn tell(&self, lead: &Lead) {
        if let Some(reached) = self.reached.get() {
            reached(lead.clone());
        }
    }

    fn plane(&self, lead: &Lead) -> Result<Result<DataPlane, Told>, Problem> {
        let gone = || Told::Failed(format!("there is no data plane `{}`", lead.plane));
        Ok(self.planes.find(&lead.plane)?.ok_or_else(gone))
    }

    async fn enquire(&self, lead: &Lead) -> Result<Told, Problem> {
        Ok(match self.plane(lead)? {
            Ok(plane) => self.planes.status(&plane, lead.flow.as_deref().unwrap_or(&lead.transfer)).await,
            Err(told) => told,
        })
    }

    async fn send(&self, lead: &Lead, signal: Signal) -> Result<Told, Problem> {
        let plane = match self.plane(lead)? {
            Ok(plane) => plane,
            Err(told) => return Ok(told),
        };
        if matches!(signal, Signal::Start | Signal::Prepare) {
            let request = FlowRequest {
                message_id: lead.message.clone(),
                participant_id: self.tools.did.to_string(),
                counter_party_id: lead.peer.clone(),
                dataspace_context: "dsp:2025-1".to_owned(),
                process_id: lead.transfer.clone(),
                agreement_id: lead.agreement.clone(),
                dataset_id: lead.asset.clone(),
                profile: lead.profile.clone(),
                data_address: None,
                labels: Vec::new(),
                metadata: lead.metadata.clone(),
                claims: Map::new(),
            };
            return Ok(self.planes.post(&plane, &[signal.path()], request.encode()).await);
        }
        let carries_address = matches!(signal, Signal::Started | Signal::Resume) && lead.side == Side::Consumer;
        let explains = matches!(signal, Signal::Suspend | Signal::Terminate);
        let message = FlowSignal {
            message_id: Some(lead.message.clone()),
            reason: lead.reason.clone().filter(|_| explains),
            data_address: lead.address().filter(|_| carries_address),
        };
        let flow = lead.flow.as_deref().unwrap_or(&lead.transfer);
        Ok(self.planes.post(&plane, &[flow, signal.path()], message.encode()).await)
    }
}

/// Whether a signal stops data; it is sent until it is acknowledged.
fn stops_data(signal: Signal) -> bool {
    matches!(signal, Signal::Terminate | Signal::Suspend | Signal::Complete)
}

/// The state to which an acknowledgement without words leads.
fn silent(signal: Signal) -> Option<State> {
    match signal {
        Signal::Started | Signal::Resume => Some(State::Started),
        Signal::Suspend => Some(State::Suspended),
        Signal::Complete => Some(State::Completed),
        Signal::Terminate => Some(State::Terminated),
        // Their answers say whether it is done.
        Signal::Prepare | Signal::Start => None,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn evidence_failed(error: crate::evidence::EvidenceError) -> Problem {
    Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
}
