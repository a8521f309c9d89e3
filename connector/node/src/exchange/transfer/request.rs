//! A consumer asks for access to the data of an agreement.

use shuyu_base::Did;
use shuyu_contract_engine::Transfer;
use shuyu_policy::Standing;
use shuyu_wire::dsp::TransferBody;
use shuyu_wire::signaling::State as FlowState;

use super::{Detail, Transfers, draft, new_pid};
use crate::agreements::Side;
use crate::clock;
use crate::exchange::handover::Format;
use crate::exchange::row::Row;
use crate::problem::Problem;
use crate::signaling::Begin;

impl Transfers {
    /// Asks the provider of an agreement for access.
    ///
    /// # Errors
    /// 404; 409 if the contract has ended; 502 if the provider cannot be found.
    pub async fn request(&self, agreement: &str, format: Format) -> Result<Row<Transfer>, Problem> {
        self.request_as(&new_pid(), agreement, format).await
    }

    /// [`Transfers::request`], under an identifier that was chosen before.
    pub(super) async fn request_as(
        &self,
        pid: &str,
        agreement: &str,
        format: Format,
    ) -> Result<Row<Transfer>, Problem> {
        let contract = self.agreements.get(agreement)?;
        if contract.role != Side::Consumer {
            return Err(Problem::conflict("we are the provider of this contract; its consumer asks for access"));
        }
        let program = self.agreements.program(&contract)?;
        if self.agreements.standing(&contract, &program, clock::now()) != Standing::Active {
            return Err(Problem::conflict("the contract has ended").hint("negotiate a new one"));
        }
        if let Some(why) = self.agreements.retired(&contract)? {
            return Err(Problem::conflict(why));
        }
        let provider: Did = contract.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        let root = self
            .tools
            .peers
            .dsp_root(&provider)
            .await
            .map_err(|error| Problem::peer(crate::management::chain(&error)))?;
        let detail =
            Detail { agreement: agreement.to_owned(), format: format.clone(), data_address: None, reason: None };
        let row = Row::fresh(pid, Side::Consumer, &provider, &root, (&self.tools.did, pid), detail);
        let body = TransferBody::Request {
            agreement_id: agreement.to_owned(),
            format: format.name().to_owned(),
            data_address: None,
            callback: self.own_root.clone(),
        };
        let draft = draft(&row, body)?;
        self.driver()?.open(row, draft).await
    }

    /// Asks the provider of an agreement for access; a foreign data plane of ours takes the data. It is prepared first,
    /// so the transfer begins when it is ready. Answers with the transfer's identifier.
    ///
    /// # Errors
    /// As [`Transfers::request`]; 400 if there is no such data plane or it does not know the profile.
    pub async fn request_for(&self, agreement: &str, format: Format, plane: &str) -> Result<String, Problem> {
        let contract = self.agreements.get(agreement)?;
        if contract.role != Side::Consumer {
            return Err(Problem::conflict("we are the provider of this contract; its consumer asks for access"));
        }
        let found = self.conductor.planes().find(plane)?;
        let found =
            found.ok_or_else(|| Problem::invalid(format!("`dataplaneId`: there is no data plane `{plane}`")))?;
        if !found.profiles.iter().any(|known| known == format.name()) {
            return Err(Problem::invalid(format!("`transferType`: the data plane does not know `{}`", format.name())));
        }
        let pid = new_pid();
        let begin = Begin {
            transfer: pid.clone(),
            plane: found.id,
            side: Side::Consumer,
            agreement: contract.id,
            asset: contract.asset,
            peer: contract.peer,
            profile: format.name().to_owned(),
            metadata: serde_json::Map::new(),
        };
        self.conductor.begin(begin, FlowState::Prepared).await?;
        Ok(pid)
    }
}
