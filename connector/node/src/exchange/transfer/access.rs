//! Access to the data of a started transfer: a consumer's, and what a provider renews.

use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_contract_engine::Transfer;
use shuyu_contract_engine::transfer::State;
use shuyu_data_plane::StreamStanding;
use shuyu_wire::dsp::DataAddress;

use super::{Transfers, standing, state};
use crate::access::Grantee;
use crate::agreements::{AgreementRow, Held, Side, last_end};
use crate::clock;
use crate::counterparty::OTHER_HANDS;
use crate::edr::{Renew, Token};
use crate::exchange::handover::{Access, Format};
use crate::exchange::kinds::path_segment;
use crate::exchange::row::Row;
use crate::identity::Caller;
use crate::problem::Problem;
use crate::signaling::Flows;

impl Transfers {
    /// Where and with which token a consumer reads the data; the token is renewed when it is about to end.
    ///
    /// # Errors
    /// 404; 409 if the transfer is not started; 502 if the provider does not renew the token.
    pub async fn access(&self, pid: &str) -> Result<Access, Problem> {
        self.access_renewed(pid, Renew::WhenDue).await
    }

    /// Like [`Transfers::access`], with the choice of renewing the token now.
    ///
    /// # Errors
    /// As [`Transfers::access`].
    pub async fn access_renewed(&self, pid: &str, renew: Renew) -> Result<Access, Problem> {
        let row = self.driver()?.get(pid)?;
        if row.role != Side::Consumer {
            return Err(Problem::conflict("we are the provider of this transfer"));
        }
        if state(&row) != Some(State::Started) {
            return Err(Problem::conflict(format!(
                "the transfer is in state {}",
                row.machine.state().unwrap_or("NEW")
            ))
            .hint(row.detail.reason.clone().unwrap_or_else(|| "only a started transfer gives access".to_owned())));
        }
        let address =
            row.detail.data_address.as_ref().ok_or_else(|| Problem::peer("the provider sent no data address"))?;
        if address.property("httpEndpoint").is_none() {
            return Ok(of_foreign_plane(&row, &address.whole()));
        }
        let text = |name: &str| {
            address
                .property(name)
                .map(str::to_owned)
                .ok_or_else(|| Problem::peer(format!("the provider's data address has no `{name}`")))
        };
        let given = Token { bearer: text("authorization")?, expires_at: text("expiresAt")? };
        let endpoint = text("refreshEndpoint")?;
        let Token { bearer, expires_at } = self.edrs.token(pid, given, renew, || self.renew(&row, &endpoint)).await?;
        Ok(Access {
            format: row.detail.format.name().to_owned(),
            flight_endpoint: text("flightEndpoint")?,
            http_endpoint: text("httpEndpoint")?,
            bearer,
            expires_at,
            table: text("table")?,
            agreement: row.detail.agreement.clone(),
        })
    }

    async fn renew(&self, row: &Row<Transfer>, endpoint: &str) -> Result<Token, Problem> {
        let peer: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        let answer = self
            .tools
            .peers
            .post(&peer, endpoint, &json!({}))
            .await
            .map_err(|error| Problem::peer(crate::management::chain(&error)))?;
        let text = |name: &str| {
            let value = answer.get(name).and_then(Value::as_str);
            value.map(str::to_owned).ok_or_else(|| Problem::peer(format!("the renewed access has no `{name}`")))
        };
        Ok(Token { bearer: text("bearer")?, expires_at: text("expires_at")? })
    }

    /// A provider's answer to a consumer that wants a new token.
    ///
    /// # Errors
    /// 404 for anything that is not the caller's started transfer.
    pub async fn renewed(&self, caller: &Caller, pid: &str) -> Result<Value, Problem> {
        if Flows::is_flow(pid) {
            return self.flows.renewed(&caller.did, pid);
        }
        let row = self.driver()?.get(pid)?;
        let is_ours = row.role == Side::Provider && self.conductor.find(pid)?.is_none();
        if !is_ours || row.peer != caller.did.as_str() || standing(&row) != StreamStanding::Live {
            return Err(Problem::not_found("started transfer", pid));
        }
        if !self.is_same_party(caller, &self.agreements.get(&row.detail.agreement)?).await? {
            return Err(Problem::new(axum::http::StatusCode::UNAUTHORIZED, OTHER_HANDS));
        }
        // As it is now, after that wait.
        let contract = self.agreements.get(&row.detail.agreement)?;
        let (bearer, expires) = self.issue(&caller.did, pid, &contract)?;
        Ok(json!({ "bearer": bearer, "expires_at": expires.to_string() }))
    }

    /// A provider's start message carries the data address with a fresh token; a consumer's carries none.
    pub(super) fn data_address(&self, row: &Row<Transfer>) -> Result<Option<DataAddress>, Problem> {
        if row.role == Side::Consumer {
            return Ok(None);
        }
        if let Some(lead) = self.conductor.find(&row.pid)? {
            return Ok(lead.address());
        }
        let contract = self.agreements.get(&row.detail.agreement)?;
        let asset = self.holdings.asset(&contract.asset)?;
        let consumer: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        let (token, expires) = self.issue(&consumer, &row.pid, &contract)?;
        let http = self.http_endpoint(&row.pid);
        let endpoint = match &row.detail.format {
            Format::FlightSql => self.flight_url.clone(),
            Format::HttpPull => http.clone(),
            Format::Profile(name) => {
                return Err(Problem::conflict(format!("no data plane serves `{name}` here")));
            }
        };
        let properties = [
            ("authorization", token),
            ("authType", "bearer".to_owned()),
            ("expiresAt", expires.to_string()),
            ("refreshEndpoint", format!("{}/access/{}", self.public_url, path_segment(&row.pid))),
            ("flightEndpoint", self.flight_url.clone()),
            ("httpEndpoint", http),
            ("table", asset.table),
        ];
        Ok(Some(DataAddress {
            endpoint_type: row.detail.format.name().to_owned(),
            endpoint: Some(endpoint),
            properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        }))
    }

    fn http_endpoint(&self, pid: &str) -> String {
        format!("{}/data/{}", self.public_url, path_segment(pid))
    }

    /// A token, while the contract holds; it ends soon after the contract does.
    fn issue(&self, to: &Did, pid: &str, contract: &AgreementRow) -> Result<(String, UnixMillis), Problem> {
        let program = self.agreements.program(contract)?;
        let ends = last_end(program.policy());
        let now = clock::now();
        if contract.held == Held::Terminated || ends.is_some_and(|ends| ends < now) {
            return Err(Problem::not_found("started transfer", pid));
        }
        let grantee = Grantee { consumer: to, transfer: pid, agreement: &contract.id, ends };
        Ok(self.tokens.issue(grantee, now)?)
    }

    /// Forgets the token renewed for a transfer that is over.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_access(&self, pid: &str) -> Result<(), Problem> {
        self.edrs.forget(pid).await
    }
}

/// When the token of a foreign data plane ends that does not say: never, as far as we know.
const UNKNOWN_END: &str = "9999-12-31T23:59:59.000Z";

/// What a foreign data plane of the provider hands out. It is renewed by its own rules, if at all.
fn of_foreign_plane(row: &Row<Transfer>, address: &DataAddress) -> Access {
    let text = |name: &str| address.property(name).unwrap_or_default().to_owned();
    Access {
        format: row.detail.format.name().to_owned(),
        flight_endpoint: String::new(),
        http_endpoint: address.endpoint.clone().unwrap_or_default(),
        bearer: text("authorization"),
        expires_at: address.property("expiresAt").unwrap_or(UNKNOWN_END).to_owned(),
        table: text("table"),
        agreement: row.detail.agreement.clone(),
    }
}
