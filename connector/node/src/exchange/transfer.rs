//! Transfer processes: access to the data of an agreement, from request to end.

mod access;
mod plane;
mod request;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::json;
use shuyu_base::PublicKey;
use shuyu_contract_engine::transfer::{State, Verb};
use shuyu_contract_engine::{Party, Proposal, Transfer};
use shuyu_data_plane::StreamStanding;
use shuyu_evidence::Act;
use shuyu_policy::Standing;
use shuyu_wire::dsp::{CallbackUrl, Explanation, TransferBody, TransferMessage};

use crate::access::AccessTokens;
use crate::agreements::{AgreementRow, Agreements, Held, Side};
use crate::clock;
use crate::config::Config;
use crate::counterparty::{Counterparties, Hands};
use crate::edr::Edrs;
use crate::evidence::About;
use crate::exchange::driver::{Answer, Draft, Driver, Tools};
use crate::exchange::handover::{Address, Format};
use crate::exchange::negotiation::{new_pid, salted};
use crate::exchange::row::{Kind, Row, Said};
use crate::holdings::Holdings;
use crate::identity::Caller;
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::signaling::{Conductor, Flows};
use crate::store::{Batch, Table};
use crate::vault::Stated;

/// Most keys that a person may vouch for under one agreement.
const MAX_TRUSTED: usize = 16;

/// What one party does to a contract by itself.
enum Change<'a> {
    Revoked,
    Retired,
    KeyTrusted(&'a PublicKey),
    KeyFollowed(&'a PublicKey),
}

/// What a transfer is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// The agreement's id.
    pub agreement: String,
    /// How the data is handed over.
    pub format: Format,
    /// Where and with which token, once started; a consumer's view.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_address: Option<Address>,
    /// Why it was suspended or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The transfers of this node.
pub struct Transfers {
    driver: OnceLock<Arc<Driver<Transfer>>>,
    tools: Tools,
    agreements: Agreements,
    counterparties: Arc<Counterparties>,
    holdings: Holdings,
    tokens: AccessTokens,
    edrs: Edrs,
    /// Flows that a foreign control plane leads.
    flows: Flows,
    /// Transfers that foreign data planes serve.
    conductor: Arc<Conductor>,
    /// One opening message at a time from each sender and process.
    opening: KeyedLocks,
    own_root: CallbackUrl,
    public_url: String,
    flight_url: String,
}

impl Transfers {
    /// Transfers over these stores.
    pub fn new(
        tools: Tools,
        agreements: Agreements,
        counterparties: Arc<Counterparties>,
        tokens: AccessTokens,
        own_root: CallbackUrl,
        config: &Config,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            driver: OnceLock::new(),
            holdings: Holdings::new(tools.store.clone()),
            flows: Flows::new(tools.clone(), agreements.clone(), tokens.clone(), config),
            conductor: Conductor::new(tools.clone()),
            agreements,
            counterparties,
            tokens,
            edrs: Edrs::new(tools.store.clone()),
            opening: KeyedLocks::default(),
            own_root,
            public_url: config.public.url.trim_end_matches('/').to_owned(),
            flight_url: config.public.flight_url.clone(),
            tools: tools.clone(),
        });
        let weak = Arc::downgrade(&this);
        let tasks = tools.tasks.clone();
        let driver = Driver::new(
            tools,
            Box::new(move |row: Row<Transfer>| {
                if let Some(this) = weak.upgrade() {
                    tasks.spawn(async move { this.follow_up(row).await });
                }
            }),
        );
        let _ = this.driver.set(driver);
        this.hear_of_flows();
        this
    }

    /// The driver below.
    ///
    /// # Errors
    /// Never once [`Transfers::new`] has returned.
    pub fn driver(&self) -> Result<&Arc<Driver<Transfer>>, Problem> {
        self.driver.get().ok_or_else(|| Problem::conflict("the node is starting"))
    }

    /// Goes on with what a stop interrupted, including ends of contracts that were not yet told to everyone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self) -> Result<(), Problem> {
        self.driver()?.recover().await?;
        self.recover_flows().await
    }

    /// A consumer asks for access. A repeat finds the transfer it opened before.
    pub async fn opened_by(&self, sender: &Caller, message: &TransferMessage, said: &Said) -> Answer<Transfer> {
        match self.open_for(sender, message, said).await {
            Ok(answer) => answer,
            Err(problem) if problem.status.is_server_error() => Answer::Failed(problem),
            Err(problem) => Answer::Refused(problem.detail),
        }
    }

    async fn open_for(
        &self,
        caller: &Caller,
        message: &TransferMessage,
        said: &Said,
    ) -> Result<Answer<Transfer>, Problem> {
        let sender = &caller.did;
        let TransferBody::Request { agreement_id, format, callback, .. } = &message.body else {
            return Ok(Answer::Unknown);
        };
        self.tools.peers.check_callback(callback)?;
        let format =
            Format::from_name(format).ok_or_else(|| Problem::invalid("`format` is not one of the dataset's"))?;
        // Somebody else's agreement looks like none.
        let no_agreement = || Problem::invalid("`agreementId`: there is no such agreement with you");
        let contract = self.agreements.get(agreement_id).map_err(|_| no_agreement())?;
        if contract.role != Side::Provider || contract.peer != sender.as_str() {
            return Err(no_agreement());
        }
        // Nor is there one in a space that the consumer is not in.
        if caller.viewer.shown_in(&self.tools.spaces.names().of(&contract.spaces)).is_empty() {
            return Err(no_agreement());
        }
        if !self.is_same_party(caller, &contract).await? {
            return Ok(Answer::OtherHands);
        }
        self.check_format(&contract, &format)?;
        let theirs = message.consumer_pid.as_str().to_owned();
        if !theirs.is_ascii() {
            return Err(Problem::invalid("the process identifier has characters outside ASCII"));
        }
        let index = format!("transfer {sender} {theirs}");
        let _guard = self.opening.lock(&index).await;
        let pid = match self.tools.store.get::<String>(Table::PeerIndex, &index)? {
            Some(pid) => pid,
            None => match self.agreements.retired(&contract)? {
                Some(why) => return Err(Problem::invalid(format!("`agreementId`: {why}"))),
                None => new_pid(),
            },
        };
        let row = Row::fresh(
            &pid,
            Side::Provider,
            sender,
            callback.as_str(),
            (sender, &theirs),
            Detail { agreement: agreement_id.clone(), format, data_address: None, reason: None },
        );
        let msg = message
            .to_msg(Party::Consumer, said.event)
            .ok_or_else(|| Problem::invalid("the sender's process identifier is missing"))?;
        let apply = |_: &mut Row<Transfer>, batch: &mut Batch| {
            batch.put(Table::PeerIndex, &index, &pid).map_err(|error| error.to_string())
        };
        Ok(self.driver()?.receive(&pid, sender, (msg, said), Some(row), apply).await)
    }

    /// A later message of the other party.
    pub async fn received(
        &self,
        pid: &str,
        sender: &Caller,
        message: &TransferMessage,
        said: &Said,
    ) -> Answer<Transfer> {
        let step = async {
            let driver = self.driver()?;
            let row = driver.get(pid)?;
            let contract = self.agreements.get(&row.detail.agreement)?;
            if row.peer == sender.did.as_str() && !self.is_same_party(sender, &contract).await? {
                return Ok(Answer::OtherHands);
            }
            let msg = message
                .to_msg(row.role.party().other(), said.event)
                .ok_or_else(|| Problem::invalid("the sender's process identifier is missing"))?;
            let apply = move |row: &mut Row<Transfer>, _: &mut Batch| match &message.body {
                TransferBody::Start { data_address } => {
                    if row.role == Side::Provider && contract.held == Held::Terminated {
                        return Err("the contract has ended".to_owned());
                    }
                    let last = row.history.iter().rev().find(|happened| happened.verb == Verb::Suspend.name());
                    if row.role == Side::Provider && last.is_some_and(|happened| happened.from == Side::Provider) {
                        return Err("the provider suspended the transfer, and only it can resume it".to_owned());
                    }
                    if let Some(address) = data_address {
                        row.detail.data_address = Some(Address::of(address));
                    }
                    row.detail.reason = None;
                    Ok(())
                }
                TransferBody::Suspension(explanation) | TransferBody::Termination(explanation) => {
                    row.detail.reason = (!explanation.reason.is_empty()).then(|| explanation.reason.join("; "));
                    Ok(())
                }
                TransferBody::Request { .. } | TransferBody::Completion => Ok(()),
            };
            Ok::<_, Problem>(driver.receive(pid, &sender.did, (msg, said), None, apply).await)
        };
        match step.await {
            Ok(answer) => answer,
            Err(problem) if problem.status == axum::http::StatusCode::NOT_FOUND => Answer::Unknown,
            Err(problem) if problem.status.is_server_error() => Answer::Failed(problem),
            Err(problem) => Answer::Refused(problem.detail),
        }
    }

    /// Starts or resumes.
    ///
    /// # Errors
    /// 404; 409 if it is not legal now, or if we are the provider and the contract has ended.
    pub async fn open(&self, pid: &str) -> Result<Row<Transfer>, Problem> {
        let row = self.driver()?.get(pid)?;
        if row.role == Side::Provider && self.standing_of(&row)?.1 != Standing::Active {
            return Err(Problem::conflict("the contract has ended").hint("terminate the transfer"));
        }
        if self.starts_elsewhere(&row).await? {
            return Ok(row);
        }
        self.say(pid, Verb::Start, "").await
    }

    /// Suspends, resumes, completes or terminates.
    ///
    /// # Errors
    /// 404; 409 if it is not legal now.
    pub async fn say(&self, pid: &str, verb: Verb, reason: &str) -> Result<Row<Transfer>, Problem> {
        let row = self
            .driver()?
            .propose(pid, |row, _| {
                let explanation = || {
                    let reason = if reason.is_empty() { Vec::new() } else { vec![reason.to_owned()] };
                    Explanation { code: None, reason }
                };
                let body = match verb {
                    Verb::Suspend => TransferBody::Suspension(explanation()),
                    Verb::Complete => TransferBody::Completion,
                    Verb::Terminate => TransferBody::Termination(explanation()),
                    Verb::Start | Verb::Request => TransferBody::Start { data_address: self.data_address(row)? },
                };
                row.detail.reason = (!reason.is_empty()).then(|| reason.to_owned());
                draft(row, body)
            })
            .await?;
        // Our own streams end now, not when the other party has heard of it.
        self.stop_streams_of(&row);
        self.lead(&row).await?;
        Ok(row)
    }

    /// The provider ends a contract: it is durable and evident first, then every stream ends, then the consumer is told.
    ///
    /// # Errors
    /// 404; 409 if we are not its provider or it has ended.
    pub async fn revoke(&self, agreement: &str, reason: &str) -> Result<AgreementRow, Problem> {
        let _guard = self.agreements.lock(agreement).await;
        let mut contract = self.agreements.get(agreement)?;
        if contract.role != Side::Provider {
            return Err(Problem::conflict("only the provider can revoke a contract")
                .hint("a consumer ends its transfers: `shuyu transfer terminate`"));
        }
        if contract.held == Held::Terminated {
            // Once more, for those who could not be told the first time.
            self.agreements.stop_streams_under(agreement, reason);
            self.end_transfers(agreement, reason).await?;
            return Ok(contract);
        }
        contract.held = Held::Terminated;
        contract.reason = Some(reason.to_owned());
        self.put_changed(&contract, Change::Revoked).await?;
        self.end_transfers(agreement, reason).await?;
        Ok(contract)
    }

    /// Either party closes a contract to new transfers. Those it has go on, until they end or the contract does.
    ///
    /// # Errors
    /// 404; 409 if it has ended.
    pub async fn retire(&self, agreement: &str, reason: &str) -> Result<AgreementRow, Problem> {
        let _guard = self.agreements.lock(agreement).await;
        let mut contract = self.agreements.get(agreement)?;
        match contract.held {
            Held::Terminated => return Err(Problem::conflict("the contract has ended")),
            Held::Retired => return Ok(contract),
            Held::Active => {}
        }
        contract.held = Held::Retired;
        contract.reason = Some(reason.to_owned());
        self.put_changed(&contract, Change::Retired).await?;
        Ok(contract)
    }

    /// A person vouches for a key of the other party that its own keys did not hand over to, because they were lost.
    ///
    /// # Errors
    /// 404; 409 if the contract has ended, is not signed by the other party, or has too many keys.
    pub async fn trust_key(&self, agreement: &str, key: &PublicKey) -> Result<AgreementRow, Problem> {
        let _guard = self.agreements.lock(agreement).await;
        let mut contract = self.agreements.get(agreement)?;
        let held = contract.peer_keys();
        if contract.held == Held::Terminated {
            return Err(Problem::conflict("the contract has ended"));
        }
        if held.is_empty() {
            return Err(Problem::conflict("the other party did not sign this contract, so no key is pinned to it"));
        }
        if held.contains(key) {
            return Ok(contract);
        }
        if MAX_TRUSTED <= contract.trusted.len() {
            return Err(Problem::conflict(format!("{MAX_TRUSTED} keys are trusted already under this contract")));
        }
        contract.trusted.push(key.to_multikey());
        self.put_changed(&contract, Change::KeyTrusted(key)).await?;
        Ok(contract)
    }

    /// Whether whoever calls is the party of the contract still. A key that was handed over to is the pinned one from then
    /// on, so that the old one can hand over to nobody else.
    pub(super) async fn is_same_party(&self, caller: &Caller, contract: &AgreementRow) -> Result<bool, Problem> {
        match self.counterparties.hands(caller, &contract.peer_keys()).await? {
            Hands::Same => return Ok(true),
            Hands::Other => return Ok(false),
            Hands::HandedOver => {}
        }
        let _guard = self.agreements.lock(&contract.id).await;
        let mut contract = self.agreements.get(&contract.id)?;
        // Somebody else may have been first.
        if self.counterparties.hands(caller, &contract.peer_keys()).await? == Hands::HandedOver {
            contract.peer_key = Some(caller.key.to_multikey());
            self.put_changed(&contract, Change::KeyFollowed(&caller.key)).await?;
        }
        Ok(contract.peer_keys().contains(&caller.key))
    }

    /// Saves a contract that we changed by ourselves, with the evidence of it; streams under a revoked one end with that.
    async fn put_changed(&self, contract: &AgreementRow, change: Change<'_>) -> Result<(), Problem> {
        let stated = self.change_of(contract, &change)?;
        let (event, state) = match change {
            Change::Revoked => ("contract.agreement.terminated", "terminated"),
            Change::Retired => ("contract.agreement.retired", "retired"),
            Change::KeyTrusted(_) | Change::KeyFollowed(_) => ("contract.agreement.updated", "updated"),
        };
        let mut batch = Batch::default();
        batch.put(Table::Agreements, &contract.id, contract)?;
        let failed = |error: crate::evidence::EvidenceError| {
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
        };
        let saved = self.tools.evidence.save(&mut batch, &stated).map_err(failed)?;
        let told = json!({ "@id": contract.id, "reason": contract.reason, "counterPartyId": contract.peer });
        let _told = self.tools.events.record(&mut batch, event, &contract.id, told)?;
        self.tools.store.commit(batch).await?;
        if contract.held == Held::Terminated {
            let reason = contract.reason.as_deref().unwrap_or("the contract has ended");
            self.agreements.stop_streams_under(&contract.id, reason);
        }
        self.tools.evidence.make_durable(&[saved]).await.map_err(failed)?;
        self.tools.events.publish("contract", &contract.id, Some(state));
        Ok(())
    }

    /// Tells the consumer of every transfer; one that fails stops no other.
    async fn end_transfers(&self, agreement: &str, reason: &str) -> Result<(), Problem> {
        let mut failure = None;
        for row in self.of_agreement(agreement)? {
            self.end_flow(&row, reason).await?;
            match self.say(&row.pid, Verb::Terminate, reason).await {
                Ok(_) => {}
                Err(problem) if problem.status == axum::http::StatusCode::CONFLICT => {}
                Err(problem) => failure = Some(problem),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn change_of(&self, contract: &AgreementRow, change: &Change<'_>) -> Result<Stated, Problem> {
        let now = clock::now().to_string();
        let (kind, act, process, seq, content) = match change {
            Change::Revoked => {
                let content = json!({ "agreement": contract.id, "revoked": now });
                ("contract.revoked", Act::Revoked, "end", 1, content)
            }
            Change::Retired => {
                let content = json!({ "agreement": contract.id, "retired": now });
                ("contract.retired", Act::Revoked, "retirement", 1, content)
            }
            Change::KeyTrusted(key) => {
                let content = json!({ "agreement": contract.id, "trusted": key.to_multikey(), "at": now });
                ("contract.key-trusted", Act::Decided, "keys", contract.trusted.len() as u64, content)
            }
            Change::KeyFollowed(key) => {
                let content = json!({ "agreement": contract.id, "followed": key.to_multikey(), "at": now });
                ("contract.key-followed", Act::Decided, "succession", 1, content)
            }
        };
        let about = About {
            kind: kind.to_owned(),
            act,
            process: match change {
                // A key is followed to once, so its name makes a process of its own.
                Change::KeyFollowed(key) => format!("{}/{process}/{}", contract.id, key.to_multikey()),
                Change::Revoked | Change::Retired | Change::KeyTrusted(_) => format!("{}/{process}", contract.id),
            },
            seq,
            with: contract.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?,
            agreement: Some(contract.id.clone()),
        };
        let mut stated =
            self.tools.evidence.state(about, content).map_err(|error| Problem::invalid(error.to_string()))?;
        match change {
            // A public key: whoever reads the ledger must be able to follow it.
            Change::KeyTrusted(key) | Change::KeyFollowed(key) => {
                stated.statement.commit.insert("key".to_owned(), key.thumbprint());
            }
            Change::Revoked | Change::Retired => {}
        }
        Ok(stated)
    }

    fn of_agreement(&self, agreement: &str) -> Result<Vec<Row<Transfer>>, Problem> {
        let mut found = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let rows = self.driver()?.list(after.as_deref(), 500)?;
            let Some(last) = rows.last() else { return Ok(found) };
            after = Some(last.pid.clone());
            found.extend(rows.into_iter().filter(|row| row.detail.agreement == agreement));
        }
    }

    /// Whether data may flow over this transfer now.
    pub fn standing(&self, pid: &str) -> StreamStanding {
        if Flows::is_flow(pid) {
            return self.flows.standing(pid);
        }
        let Ok(row) = self.driver().and_then(|driver| driver.get(pid)) else {
            return StreamStanding::Revoked("there is no such transfer".to_owned());
        };
        standing(&row)
    }

    fn stop_streams_of(&self, row: &Row<Transfer>) {
        match standing(row) {
            StreamStanding::Live => {}
            StreamStanding::Revoked(reason) => self.agreements.stop_streams(&row.pid, &reason),
            StreamStanding::Expired => self.agreements.stop_streams(&row.pid, "the transfer is completed"),
        }
    }

    /// The rules of this node after a step of a transfer.
    async fn follow_up(&self, row: Row<Transfer>) {
        self.stop_streams_of(&row);
        if let Err(problem) = self.lead(&row).await {
            tracing::error!(pid = %row.pid, detail = %problem.detail, "the data plane could not be led");
        }
        let step = match (row.role, state(&row)) {
            (Side::Provider, Some(State::Requested)) => self.start(&row).await,
            (Side::Provider, Some(State::Started | State::Suspended)) => self.end_if_revoked(&row).await,
            (Side::Provider | Side::Consumer, _) => Ok(()),
        };
        if let Err(problem) = step
            && problem.status != axum::http::StatusCode::CONFLICT
        {
            tracing::error!(pid = %row.pid, detail = %problem.detail, "the rules could not answer");
        }
    }

    /// The contract of a transfer, and whether it holds now.
    fn standing_of(&self, row: &Row<Transfer>) -> Result<(AgreementRow, Standing), Problem> {
        let contract = self.agreements.get(&row.detail.agreement)?;
        let program = self.agreements.program(&contract)?;
        let standing = self.agreements.standing(&contract, &program, clock::now());
        Ok((contract, standing))
    }

    /// Who has to do something next: `us`, `peer` or `nobody`.
    pub fn waiting_for(&self, row: &Row<Transfer>) -> &'static str {
        if row.machine.has_pending() {
            return "peer";
        }
        match (state(row), row.role) {
            (Some(State::Requested), Side::Provider) => "us",
            (Some(State::Requested) | None, _) => "peer",
            (Some(State::Started | State::Suspended | State::Completed | State::Terminated), _) => "nobody",
        }
    }

    async fn start(&self, row: &Row<Transfer>) -> Result<(), Problem> {
        let (contract, standing) = self.standing_of(row)?;
        let (verb, reason) = match standing {
            Standing::Active if contract.answers.goes_on_by_rule() && self.starts_elsewhere(row).await? => {
                return Ok(());
            }
            Standing::Active if !contract.answers.goes_on_by_rule() => return Ok(()),
            Standing::Active => (Verb::Start, ""),
            Standing::Suspended | Standing::Terminated => (Verb::Terminate, "the contract has ended"),
            Standing::Expired => (Verb::Terminate, "the contract has expired"),
        };
        self.say(&row.pid, verb, reason).await.map(|_| ())
    }

    /// A contract that was revoked while the node went down still has transfers to end.
    async fn end_if_revoked(&self, row: &Row<Transfer>) -> Result<(), Problem> {
        let contract = self.agreements.get(&row.detail.agreement)?;
        if contract.held != Held::Terminated {
            return Ok(());
        }
        let reason = contract.reason.unwrap_or_else(|| "the contract has ended".to_owned());
        self.say(&row.pid, Verb::Terminate, &reason).await.map(|_| ())
    }
}

/// The state of a row as a value.
pub fn state(row: &Row<Transfer>) -> Option<State> {
    row.machine.state().and_then(Transfer::state_of)
}

/// Whether data may flow: only while started, and not once we have said otherwise.
fn standing(row: &Row<Transfer>) -> StreamStanding {
    let reason = |default: &str| row.detail.reason.clone().unwrap_or_else(|| default.to_owned());
    let leaving = row.machine.pending_verb().and_then(Transfer::verb_of);
    match (state(row), leaving) {
        (_, Some(Verb::Terminate)) | (Some(State::Terminated), _) => {
            StreamStanding::Revoked(reason("the transfer was terminated"))
        }
        (_, Some(Verb::Suspend)) | (Some(State::Suspended), _) => {
            StreamStanding::Revoked(reason("the transfer is suspended"))
        }
        (_, Some(Verb::Complete)) | (Some(State::Completed), _) => StreamStanding::Expired,
        // The consumer learns its token from the start message, before we learn that it has it.
        (Some(State::Started), _) | (Some(State::Requested), Some(Verb::Start)) => StreamStanding::Live,
        (Some(State::Requested) | None, _) => StreamStanding::Revoked("the transfer has not started".to_owned()),
    }
}

/// A message of ours about this process.
fn draft(row: &Row<Transfer>, body: TransferBody) -> Result<Draft<Transfer>, Problem> {
    let own = super::driver::pid(&row.pid)?;
    let theirs = row.machine.peer_pid().map(super::driver::pid).transpose()?;
    let (consumer_pid, provider_pid) = match row.role {
        Side::Provider => (theirs.ok_or_else(|| Problem::conflict("the consumer is not known yet"))?, Some(own)),
        Side::Consumer => (own, theirs),
    };
    let message = TransferMessage { id: Some(new_pid()), provider_pid, consumer_pid, body };
    let (body, event) = salted(message.encode())?;
    Ok(Draft { proposal: Proposal { verb: message.verb(), event, terms: None }, body })
}
