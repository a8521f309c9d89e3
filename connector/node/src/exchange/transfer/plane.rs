//! Transfers whose data a foreign data plane gives or takes, and flows of ours that a foreign control plane leads.

use std::sync::Arc;

use shuyu_contract_engine::Transfer;
use shuyu_contract_engine::transfer::{State, Verb};
use shuyu_wire::signaling::State as FlowState;

use super::{Transfers, state};
use crate::agreements::{AgreementRow, Side};
use crate::exchange::handover::Format;
use crate::exchange::row::{Kind, Row};
use crate::holdings::ServedBy;
use crate::problem::Problem;
use crate::signaling::{Begin, Conductor, Flows, Lead};

impl Transfers {
    /// Flows that a foreign control plane leads.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// What foreign data planes are told.
    pub fn conductor(&self) -> &Arc<Conductor> {
        &self.conductor
    }

    pub(super) fn hear_of_flows(self: &Arc<Self>) {
        let (weak, tasks) = (Arc::downgrade(self), self.tools.tasks.clone());
        self.conductor.on_reached(move |lead| {
            let Some(this) = weak.upgrade() else { return };
            tasks.spawn(async move {
                if let Err(problem) = this.flow_reached(&lead).await {
                    tracing::info!(pid = %lead.transfer, detail = %problem.detail, "a flow's state changes no transfer");
                }
            });
        });
    }

    /// Looks again at what every transfer that is served elsewhere has come to.
    pub(super) async fn recover_flows(&self) -> Result<(), Problem> {
        let mut after: Option<String> = None;
        loop {
            let leads = self.tools.store.list::<Lead>(crate::store::Table::Leads, after.as_deref(), 500)?;
            let Some((last, _)) = leads.last() else { break };
            after = Some(last.clone());
            for (pid, lead) in &leads {
                if lead.wanted().is_over() {
                    continue;
                }
                if let Ok(row) = self.driver()?.get(pid) {
                    self.lead(&row).await?;
                }
            }
        }
        self.conductor.recover()
    }

    /// What the holder says of who serves the asset of a contract.
    fn served_by(&self, contract: &AgreementRow) -> Result<Option<ServedBy>, Problem> {
        Ok(self.holdings.asset(&contract.asset)?.data_plane)
    }

    /// Whether the asset can be handed over so.
    pub(super) fn check_format(&self, contract: &AgreementRow, format: &Format) -> Result<(), Problem> {
        let is_served = match self.served_by(contract) {
            Ok(Some(served)) => {
                let plane = self.conductor.planes().find(&served.id)?;
                plane.is_some_and(|plane| plane.profiles.iter().any(|known| known == format.name()))
            }
            Ok(None) => Format::OWN.contains(&format.name()),
            // The asset is gone; the transfer says so when it starts.
            Err(problem) if problem.status == axum::http::StatusCode::NOT_FOUND => true,
            Err(problem) => return Err(problem),
        };
        if is_served { Ok(()) } else { Err(Problem::invalid("`format` is not one of the dataset's")) }
    }

    /// Whether a foreign data plane must start or go on before we can say so; it is told.
    pub(super) async fn starts_elsewhere(&self, row: &Row<Transfer>) -> Result<bool, Problem> {
        if row.role != Side::Provider {
            return Ok(false);
        }
        let contract = self.agreements.get(&row.detail.agreement)?;
        let Some(served) = self.served_by(&contract)? else { return Ok(false) };
        let known = self.conductor.find(&row.pid)?;
        if known.as_ref().is_some_and(|lead| lead.reached() == FlowState::Started) {
            return Ok(false);
        }
        if row.machine.has_pending() || !matches!(state(row), Some(State::Requested | State::Suspended)) {
            return Ok(false);
        }
        let begin = Begin {
            transfer: row.pid.clone(),
            plane: served.id,
            side: Side::Provider,
            agreement: contract.id,
            asset: contract.asset,
            peer: contract.peer,
            profile: row.detail.format.name().to_owned(),
            metadata: served.metadata,
        };
        self.conductor.begin(begin, FlowState::Started).await?;
        Ok(true)
    }

    /// Tells the data plane of a transfer, if a foreign one serves it, what the transfer has come to.
    pub(super) async fn lead(&self, row: &Row<Transfer>) -> Result<(), Problem> {
        let leaving = row.machine.pending_verb().and_then(Transfer::verb_of);
        let wanted = match (state(row), leaving) {
            (_, Some(Verb::Terminate)) | (Some(State::Terminated), _) => FlowState::Terminated,
            (_, Some(Verb::Complete)) | (Some(State::Completed), _) => FlowState::Completed,
            (_, Some(Verb::Suspend)) => FlowState::Suspended,
            (Some(State::Started), _) | (Some(State::Suspended), Some(Verb::Start)) => FlowState::Started,
            (Some(State::Suspended), _) => FlowState::Suspended,
            (Some(State::Requested) | None, _) => return Ok(()),
        };
        let address = match (row.role, wanted) {
            (Side::Consumer, FlowState::Started) => row.detail.data_address.clone(),
            (Side::Consumer | Side::Provider, _) => None,
        };
        self.conductor.want(&row.pid, wanted, row.detail.reason.as_deref(), address).await
    }

    /// The contract has ended, whatever is under way with its consumer.
    pub(super) async fn end_flow(&self, row: &Row<Transfer>, reason: &str) -> Result<(), Problem> {
        self.conductor.want(&row.pid, FlowState::Terminated, Some(reason), None).await
    }

    /// What a flow has come to changes its transfer.
    async fn flow_reached(&self, lead: &Lead) -> Result<(), Problem> {
        let pid = &lead.transfer;
        let row = match self.driver()?.get(pid) {
            Ok(row) => row,
            Err(_) if lead.side == Side::Consumer && lead.reached() == FlowState::Prepared => {
                let format = Format::from_name(&lead.profile).ok_or_else(|| Problem::invalid("unknown profile"))?;
                return self.request_as(pid, &lead.agreement, format).await.map(drop);
            }
            Err(problem) => return Err(problem),
        };
        let here = (row.role, state(&row), lead.reached(), lead.wanted());
        match here {
            (Side::Provider, Some(State::Requested | State::Suspended), FlowState::Started, FlowState::Started)
                if !row.machine.has_pending() =>
            {
                self.open(pid).await.map(drop)
            }
            (_, Some(State::Started), FlowState::Completed, _) if !row.machine.has_pending() => {
                self.say(pid, Verb::Complete, "").await.map(drop)
            }
            _ => Ok(()),
        }
    }
}
