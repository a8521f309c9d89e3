//! Flows of our data plane that a foreign control plane leads.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_data_plane::StreamStanding;
use shuyu_evidence::Act;
use shuyu_policy::{PolicyKind, Standing};
use shuyu_wire::dsp::DataAddress;
use shuyu_wire::odrl;
use shuyu_wire::signaling::{FlowRequest, FlowSignal, FlowStatus, Signal, State};

use crate::access::{AccessTokens, Grantee};
use crate::agreements::{AgreementRow, Agreements, Held, Side, last_end};
use crate::api_keys::ApiCaller;
use crate::clock;
use crate::config::Config;
use crate::evidence::About;
use crate::exchange::driver::Tools;
use crate::exchange::handover::{Address, Format};
use crate::exchange::kinds::path_segment;
use crate::holdings::{Approve, Holdings, checked_policy, parse_policy};
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Batch, Table};
use crate::vault::Stated;
use shuyu_contract_engine::data_flow::leads_to;

/// What the identifier of a flow begins with; transfers of our own control plane begin otherwise.
const PREFIX: &str = "flow-";
/// The profile of the specification for pulling over HTTP (profiles/http).
const HTTP_PULL: &str = "https://w3id.org/dspace-sig/profile/http-pull";

/// An agreement that a foreign control plane made for us.
pub struct NewAgreement {
    /// Its identifier.
    pub id: String,
    /// The asset it is about.
    pub asset: String,
    /// The consumer.
    pub consumer: Did,
    /// Its policy, ODRL JSON-LD.
    pub policy: Value,
    /// Name of the key that may lead flows under it, if not the one that registers it.
    pub control_plane: Option<String>,
}

/// Who may lead flows under an agreement.
#[derive(Serialize, Deserialize)]
struct Registered {
    control_plane: String,
}

/// A flow.
#[derive(Clone, Serialize, Deserialize)]
struct FlowRow {
    id: String,
    /// Name of the key that started it.
    control_plane: String,
    /// The control plane's identifier of its transfer process.
    process: String,
    side: Side,
    agreement: String,
    asset: String,
    peer: String,
    format: Format,
    profile: String,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// How often it was started or resumed; what is evidenced of it has this number.
    grants: u64,
    /// Where the data is to be had; a consumer's flow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<Address>,
    created: String,
}

impl FlowRow {
    fn state(&self) -> State {
        State::from_name(&self.state).unwrap_or(State::Terminated)
    }
}

/// The flows of this node's data plane.
pub struct Flows {
    tools: Tools,
    agreements: Agreements,
    holdings: Holdings,
    tokens: AccessTokens,
    /// One change at a time to a flow, and one opening at a time of a control plane.
    changing: KeyedLocks,
    public_url: String,
    flight_url: String,
}

impl Flows {
    /// Flows over these stores.
    pub fn new(tools: Tools, agreements: Agreements, tokens: AccessTokens, config: &Config) -> Self {
        let holdings = Holdings::new(tools.store.clone());
        let public_url = config.public.url.trim_end_matches('/').to_owned();
        let (changing, flight_url) = (KeyedLocks::default(), config.public.flight_url.clone());
        Self { tools, agreements, holdings, tokens, changing, public_url, flight_url }
    }

    /// Whether this names a flow, and not a transfer of our own control plane.
    pub fn is_flow(id: &str) -> bool {
        id.starts_with(PREFIX)
    }

    /// Takes in an agreement that a foreign control plane made with a consumer in our name. It is checked like a policy
    /// of our own and becomes evidence; from then on it is a contract like any other.
    ///
    /// # Errors
    /// 400 naming the field, 409 if there is an agreement of this id, 422 with an explanation for a policy that cannot
    /// be enforced.
    pub async fn register(&self, caller: &ApiCaller, new: NewAgreement) -> Result<AgreementRow, Problem> {
        let asset = self
            .holdings
            .asset(&new.asset)
            .map_err(|_| Problem::invalid(format!("`assetId`: there is no asset `{}`", new.asset)))?;
        if asset.data_plane.is_some() {
            return Err(Problem::invalid("`assetId`: a foreign data plane serves this asset, not this node"));
        }
        let control_plane = match new.control_plane {
            Some(name) if name != caller.name && !caller.may(&[]) => {
                return Err(Problem::invalid(
                    "`controlPlane` must be the key's own name, unless an operator registers",
                ));
            }
            named => named.unwrap_or_else(|| caller.name.clone()),
        };
        checked_policy(&new.policy)?;
        let mut policy = parse_policy(&new.policy)?;
        let differs = |given: Option<&str>, ours: &str| given.is_some_and(|given| given != ours);
        if differs(policy.target.as_deref(), &new.asset) {
            return Err(Problem::invalid("`policy.target` is not the asset"));
        }
        if differs(policy.assigner.as_ref().map(Did::as_str), self.tools.did.as_str()) {
            return Err(Problem::invalid("`policy.assigner` is not this node's owner"));
        }
        if differs(policy.assignee.as_ref().map(Did::as_str), new.consumer.as_str()) {
            return Err(Problem::invalid("`policy.assignee` is not the consumer"));
        }
        policy.uid.clone_from(&new.id);
        policy.kind = PolicyKind::Agreement;
        policy.target = Some(new.asset.clone());
        policy.assigner = Some(self.tools.did.clone());
        policy.assignee = Some(new.consumer.clone());
        let row = AgreementRow {
            id: new.id,
            role: Side::Provider,
            peer: new.consumer.to_string(),
            asset: new.asset,
            policy: odrl::to_json(&policy),
            signed_at: clock::now().to_string(),
            negotiation: String::new(),
            held: Held::Active,
            reason: None,
            answers: Approve::Auto,
            signatures: Vec::new(),
            trusted: Vec::new(),
            renews: None,
            peer_key: None,
            spaces: Vec::new(),
        };
        let _guard = self.changing.lock(&row.id).await;
        if self.agreements.get(&row.id).is_ok() {
            return Err(Problem::conflict(format!("there is agreement `{}` already", row.id)));
        }
        let content = json!({ "agreement": row.policy, "controlPlane": control_plane, "asset": row.asset });
        let place = (format!("{}/registered", row.id), 1);
        let stated = self.statement(Act::Published, "contract.registered", place, &row.peer, &row.id, content)?;
        let mut batch = Batch::default();
        batch.put(Table::Agreements, &row.id, &row)?;
        batch.put(Table::ForeignAgreements, &row.id, &Registered { control_plane })?;
        self.commit(batch, &stated, "contract.agreement.registered", &row.id).await?;
        Ok(row)
    }

    /// Gets ready to take data; the provider's address comes with the started notification.
    ///
    /// # Errors
    /// 400 naming the field; 409 if there is a flow of this process; 429 if too many are open.
    pub async fn prepare(&self, caller: &ApiCaller, request: FlowRequest) -> Result<FlowStatus, Problem> {
        let peer: Did =
            request.counter_party_id.parse().map_err(|error| Problem::invalid(format!("`counterPartyId`: {error}")))?;
        let (format, agreement) = (self.format(&request)?, request.agreement_id.clone());
        let asset = request.dataset_id.clone();
        let row = fresh(caller, request, Side::Consumer, peer.to_string(), (agreement, asset, format));
        self.open(row, State::Prepared).await
    }

    /// Starts to give data under an agreement that this control plane has registered.
    ///
    /// # Errors
    /// 400 naming the field, also where the agreement is not this control plane's or has ended; 409 if there is a flow of
    /// this process; 429 if too many are open.
    pub async fn start(&self, caller: &ApiCaller, request: FlowRequest) -> Result<FlowStatus, Problem> {
        if request.data_address.is_some() {
            return Err(Problem::invalid("`dataAddress` must not be given: data is pulled from this data plane"));
        }
        let format = self.format(&request)?;
        let contract = self.contract(caller, &request)?;
        self.check_active(&contract)?;
        let peer = contract.peer.clone();
        let row = fresh(caller, request, Side::Provider, peer, (contract.id, contract.asset, format));
        self.open(row, State::Started).await
    }

    fn format(&self, request: &FlowRequest) -> Result<Format, Problem> {
        if request.participant_id != self.tools.did.as_str() {
            return Err(Problem::invalid(format!(
                "`participantId` is not `{}`, the owner of this node",
                self.tools.did
            )));
        }
        match Format::from_name(&request.profile) {
            Some(Format::Profile(name)) if name == HTTP_PULL => Ok(Format::HttpPull),
            Some(format @ (Format::FlightSql | Format::HttpPull)) => Ok(format),
            Some(Format::Profile(_)) | None => {
                Err(Problem::invalid(format!("`profile` is not one of {}, {HTTP_PULL}", Format::OWN.join(", "))))
            }
        }
    }

    /// The agreement of a start message. One that is not the caller's looks like none.
    fn contract(&self, caller: &ApiCaller, request: &FlowRequest) -> Result<AgreementRow, Problem> {
        let none = || {
            Problem::invalid("`agreementId`: there is no such agreement of this control plane")
                .hint("register it first: POST /v3/contractagreements")
        };
        let contract = self.agreements.get(&request.agreement_id).map_err(|_| none())?;
        let known: Option<Registered> = self.tools.store.get(Table::ForeignAgreements, &contract.id)?;
        let is_callers = known.is_some_and(|known| known.control_plane == caller.name || caller.may(&[]));
        if !is_callers || contract.role != Side::Provider {
            return Err(none());
        }
        if contract.peer != request.counter_party_id {
            return Err(Problem::invalid("`counterPartyId` is not the consumer of the agreement"));
        }
        if contract.asset != request.dataset_id {
            return Err(Problem::invalid("`datasetId` is not the asset of the agreement"));
        }
        Ok(contract)
    }

    fn check_active(&self, contract: &AgreementRow) -> Result<(), Problem> {
        let program = self.agreements.program(contract)?;
        match self.agreements.standing(contract, &program, clock::now()) {
            Standing::Active => Ok(()),
            Standing::Suspended | Standing::Terminated => Err(Problem::invalid("the agreement has ended")),
            Standing::Expired => Err(Problem::invalid("the agreement has expired")),
        }
    }

    async fn open(&self, mut row: FlowRow, to: State) -> Result<FlowStatus, Problem> {
        let _guard = self.changing.lock(&row.control_plane).await;
        let place = open_key(&row.control_plane, &row.process);
        if self.tools.store.get::<String>(Table::Flows, &place)?.is_some() {
            return Err(Problem::conflict("`processId`: there is a flow of this process already"));
        }
        let open = self.tools.store.keys_after(Table::Flows, &live_key(&row.control_plane, ""))?.len();
        if self.tools.max_open_per_peer <= open {
            let words = format!("{open} flows are open, the most this node allows one control plane; end some first");
            return Err(Problem::new(axum::http::StatusCode::TOO_MANY_REQUESTS, words));
        }
        let mut batch = Batch::default();
        batch.put(Table::Flows, &place, &row.id)?;
        self.change(&mut row, to, batch).await?;
        self.status_of(&row, to == State::Started)
    }

    /// What a control plane says about a flow.
    ///
    /// # Errors
    /// 404; 409 if it is not legal now, or if the agreement has ended.
    pub async fn signal(
        &self,
        caller: &ApiCaller,
        id: &str,
        signal: Signal,
        message: FlowSignal,
    ) -> Result<FlowStatus, Problem> {
        let _guard = self.changing.lock(id).await;
        let mut row = self.load(caller, id)?;
        let to = match signal {
            Signal::Suspend => State::Suspended,
            Signal::Resume | Signal::Started | Signal::Start => State::Started,
            Signal::Complete => State::Completed,
            Signal::Terminate => State::Terminated,
            Signal::Prepare => State::Prepared,
        };
        let now = self.state(&row)?;
        if now == to {
            // A repeat; its answer was lost.
            return self.status_of(&row, to == State::Started);
        }
        if !leads_to(now, signal, to) {
            return Err(Problem::conflict(format!("`{}` is not legal in state {}", signal.path(), now.name())));
        }
        row.reason = message.reason;
        if row.side == Side::Consumer
            && let Some(address) = &message.data_address
        {
            row.address = Some(Address::of(address));
        }
        self.change(&mut row, to, Batch::default()).await?;
        self.status_of(&row, to == State::Started)
    }

    /// How a flow stands.
    ///
    /// # Errors
    /// 404.
    pub fn status(&self, caller: &ApiCaller, id: &str) -> Result<FlowStatus, Problem> {
        let row = self.load(caller, id)?;
        Ok(FlowStatus { message_id: None, data_address: None, error: None, ..self.status_of(&row, false)? })
    }

    /// Where a consumer's program gets the data of a flow.
    ///
    /// # Errors
    /// 404; 409 if it is not started or has no address.
    pub fn address(&self, id: &str) -> Result<DataAddress, Problem> {
        let none = || Problem::not_found("flow", id);
        let found: Option<FlowRow> = if Self::is_flow(id) { self.tools.store.get(Table::Flows, id)? } else { None };
        let row = found.filter(|row| row.side == Side::Consumer).ok_or_else(none)?;
        if row.state() != State::Started {
            return Err(Problem::conflict(format!("the flow is in state {}", row.state)));
        }
        row.address.map(|address| address.whole()).ok_or_else(|| Problem::conflict("the flow has no data address"))
    }

    /// Whether data may flow.
    pub fn standing(&self, id: &str) -> StreamStanding {
        let row = match self.tools.store.get::<FlowRow>(Table::Flows, id) {
            Ok(Some(row)) if row.side == Side::Provider => row,
            Ok(_) => return StreamStanding::Revoked("there is no such flow".to_owned()),
            Err(error) => {
                tracing::error!(%error, "a flow cannot be looked up");
                return StreamStanding::Revoked("the node cannot decide this now".to_owned());
            }
        };
        let reason = |default: &str| StreamStanding::Revoked(row.reason.clone().unwrap_or_else(|| default.to_owned()));
        match row.state() {
            State::Started => StreamStanding::Live,
            State::Suspended => reason("the flow is suspended"),
            State::Completed => StreamStanding::Expired,
            State::Terminated => reason("the flow was terminated"),
            State::Initialized | State::Preparing | State::Prepared | State::Starting => {
                StreamStanding::Revoked("the flow has not started".to_owned())
            }
        }
    }

    /// The answer to a consumer that wants a new token.
    ///
    /// # Errors
    /// 404 for anything that is not the caller's started flow.
    pub fn renewed(&self, caller: &Did, id: &str) -> Result<Value, Problem> {
        let none = || Problem::not_found("started transfer", id);
        let row: FlowRow = self.tools.store.get(Table::Flows, id)?.ok_or_else(none)?;
        if row.side != Side::Provider || row.peer != caller.as_str() || self.state(&row)? != State::Started {
            return Err(none());
        }
        let (bearer, expires) = self.issue(&row)?;
        Ok(json!({ "bearer": bearer, "expires_at": expires.to_string() }))
    }

    fn load(&self, caller: &ApiCaller, id: &str) -> Result<FlowRow, Problem> {
        let none = || Problem::not_found("flow", id);
        if !Self::is_flow(id) {
            return Err(none());
        }
        let row: FlowRow = self.tools.store.get(Table::Flows, id)?.ok_or_else(none)?;
        let is_callers = row.control_plane == caller.name || caller.may(&[]);
        is_callers.then_some(row).ok_or_else(none)
    }

    /// The state in which a flow is now: its agreement may have ended meanwhile.
    fn state(&self, row: &FlowRow) -> Result<State, Problem> {
        let state = row.state();
        if row.side == Side::Consumer || state.is_over() {
            return Ok(state);
        }
        let contract = self.agreements.get(&row.agreement)?;
        Ok(if self.check_active(&contract).is_ok() { state } else { State::Terminated })
    }

    /// Saves a step and its evidence together, stops streams, and returns once the evidence is durable.
    async fn change(&self, row: &mut FlowRow, to: State, mut batch: Batch) -> Result<(), Problem> {
        row.state = to.name().to_owned();
        let key = live_key(&row.control_plane, &row.id);
        if to.is_over() {
            batch.delete(Table::Flows, &key)
        } else {
            batch.put(Table::Flows, &key, &())?
        }
        let word = to.name().to_ascii_lowercase();
        if row.side == Side::Consumer {
            batch.put(Table::Flows, &row.id, row)?;
            return Ok(self.tools.store.commit(batch).await?);
        }
        let act = if to == State::Started { Act::Decided } else { Act::Revoked };
        if to == State::Started {
            row.grants += 1;
        }
        batch.put(Table::Flows, &row.id, row)?;
        let content = json!({
            "flow": row.id, "agreement": row.agreement, "controlPlane": row.control_plane, "process": row.process,
            "profile": row.profile, "state": row.state,
        });
        let place = (format!("flow/{}", row.id), row.grants);
        let kind = format!("flow.{word}");
        let stated = self.statement(act, &kind, place, &row.peer, &row.agreement, content)?;
        let told = format!("dataflow.{word}");
        if act == Act::Revoked {
            self.tokens.end_all(&row.id)?;
        }
        self.commit(batch, &stated, &told, &row.id).await
    }

    async fn commit(&self, mut batch: Batch, stated: &Stated, told: &str, id: &str) -> Result<(), Problem> {
        let statement = &stated.statement;
        let failed = |error: crate::evidence::EvidenceError| {
            Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, crate::management::chain(&error))
        };
        self.tools.evidence.flush().await.map_err(failed)?;
        let saved = self.tools.evidence.save(&mut batch, stated).map_err(failed)?;
        let data = json!({ "@id": id, "counterPartyId": statement.with.as_str(), "contractId": statement.agreement });
        let _told = self.tools.events.record(&mut batch, told, id, data)?;
        self.tools.store.commit(batch).await?;
        match self.standing(id) {
            StreamStanding::Live => {}
            _ if !Self::is_flow(id) => {}
            StreamStanding::Revoked(reason) => self.agreements.stop_streams(id, &reason),
            StreamStanding::Expired => self.agreements.stop_streams(id, "the flow is completed"),
        }
        self.tools.evidence.make_durable(&[saved]).await.map_err(failed)
    }

    fn statement(
        &self,
        act: Act,
        kind: &str,
        (process, seq): (String, u64),
        with: &str,
        agreement: &str,
        content: Value,
    ) -> Result<Stated, Problem> {
        let about = About {
            kind: kind.to_owned(),
            act,
            process,
            seq,
            with: with.parse().map_err(|_| Problem::conflict("the consumer has no valid DID"))?,
            agreement: Some(agreement.to_owned()),
        };
        self.tools.evidence.state(about, content).map_err(|error| Problem::invalid(error.to_string()))
    }

    fn status_of(&self, row: &FlowRow, addressed: bool) -> Result<FlowStatus, Problem> {
        let state = self.state(row)?;
        let data_address = match (row.side, addressed && state == State::Started) {
            (Side::Provider, true) => Some(self.data_address(row)?),
            (Side::Provider | Side::Consumer, _) => None,
        };
        Ok(FlowStatus {
            message_id: Some(uuid::Uuid::new_v4().to_string()),
            flow_id: Some(row.id.clone()),
            state,
            data_address,
            error: None,
        })
    }

    fn issue(&self, row: &FlowRow) -> Result<(String, UnixMillis), Problem> {
        let contract = self.agreements.get(&row.agreement)?;
        let consumer: Did = row.peer.parse().map_err(|_| Problem::conflict("the consumer has no valid DID"))?;
        let ends = last_end(self.agreements.program(&contract)?.policy());
        let grantee = Grantee { consumer: &consumer, transfer: &row.id, agreement: &row.agreement, ends };
        Ok(self.tokens.issue(grantee, clock::now())?)
    }

    fn data_address(&self, row: &FlowRow) -> Result<DataAddress, Problem> {
        let (token, expires) = self.issue(row)?;
        let asset = self.holdings.asset(&row.asset)?;
        let http = format!("{}/data/{}", self.public_url, path_segment(&row.id));
        let endpoint = if row.format == Format::FlightSql { self.flight_url.clone() } else { http.clone() };
        let properties = [
            ("authorization", token),
            ("authType", "bearer".to_owned()),
            ("expiresAt", expires.to_string()),
            ("refreshEndpoint", format!("{}/access/{}", self.public_url, path_segment(&row.id))),
            ("flightEndpoint", self.flight_url.clone()),
            ("httpEndpoint", http),
            ("table", asset.table),
        ];
        Ok(DataAddress {
            endpoint_type: row.profile.clone(),
            endpoint: Some(endpoint),
            properties: properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        })
    }
}

fn fresh(
    caller: &ApiCaller,
    request: FlowRequest,
    side: Side,
    peer: String,
    (agreement, asset, format): (String, String, Format),
) -> FlowRow {
    FlowRow {
        id: format!("{PREFIX}{}", uuid::Uuid::new_v4()),
        control_plane: caller.name.clone(),
        process: request.process_id,
        side,
        agreement,
        asset,
        peer,
        format,
        profile: request.profile,
        state: State::Initialized.name().to_owned(),
        reason: None,
        grants: 0,
        address: None,
        created: clock::now().to_string(),
    }
}

/// Where the id of the flow of a process is.
fn open_key(control_plane: &str, process: &str) -> String {
    format!("of {control_plane} {process}")
}

/// Marks a flow that is not over.
fn live_key(control_plane: &str, id: &str) -> String {
    format!("live {control_plane} {id}")
}
