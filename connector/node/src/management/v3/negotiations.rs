//! Contract negotiations: `/v3/contractnegotiations`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post};
use serde_json::{Value, json};
use shuyu_contract_engine::Negotiation;

use super::jsonld::{Message, context, invalid, with_context};
use super::operation::{Answer, DEAL, LOOK, Operation, Route, USE, Verb, route};
use super::policies::policy_of;
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, agreements, made, millis, party};
use crate::agreements::Side;
use crate::clock;
use crate::exchange::negotiation::Wish;
use crate::exchange::row::{Kind, Row};
use crate::holdings::{Approve, parse_policy};
use crate::problem::Problem;
use crate::store::Table;

/// What the field calls the protocol.
pub const PROTOCOL: &str = "dataspace-protocol-http:2025-1";
/// Longest reason, in bytes.
const MAX_REASON_BYTES: usize = 1024;
const FIELDS: Fields = Fields {
    names: &[
        "type",
        "state",
        "stateTimestamp",
        "createdAt",
        "counterPartyId",
        "counterPartyAddress",
        "contractAgreementId",
        "assetId",
        "correlationId",
        "errorDetail",
        "protocol",
    ],
    keys: &["@id"],
    open: false,
};

pub fn routes() -> Vec<Route> {
    let with_id = "/contractnegotiations/{id}";
    let list = Operation::new(Verb::Post, "/contractnegotiations/request", "queryNegotiations", "Lists negotiations");
    let begin = Operation::new(
        Verb::Post,
        "/contractnegotiations",
        "initiateContractNegotiation",
        "Asks a provider for a contract; ask for the state to see how it goes",
    );
    let show = Operation::new(Verb::Get, with_id, "getNegotiation", "Shows a negotiation");
    let state = Operation::new(Verb::Get, "/contractnegotiations/{id}/state", "getNegotiationState", "Tells its state");
    let agreement = Operation::new(
        Verb::Get,
        "/contractnegotiations/{id}/agreement",
        "getAgreementForNegotiation",
        "Shows the agreement it led to",
    );
    let end = Operation::new(
        Verb::Post,
        "/contractnegotiations/{id}/terminate",
        "terminateNegotiation",
        "Ends a negotiation",
    );
    let remove = Operation::new(
        Verb::Delete,
        with_id,
        "deleteNegotiation",
        "Always refused: negotiations are kept with their evidence",
    );
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("ContractNegotiation")), post(query)),
        route(
            begin.by(USE).takes("ContractRequest").gives(Answer::One("IdResponse")).or(&[404, 409, 502]),
            post(initiate),
        ),
        route(show.by(LOOK).gives(Answer::One("ContractNegotiation")).or(&[404]), get(one)),
        route(state.by(LOOK).gives(Answer::One("NegotiationState")).or(&[404]), get(state_of)),
        route(agreement.by(LOOK).gives(Answer::One("ContractAgreement")).or(&[404]), get(agreement_of)),
        route(end.by(DEAL).takes("Reason").or(&[404, 409]), post(terminate)),
        route(remove.by(DEAL).or(&[404, 409]), delete(drop_it)),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let show = |row: Row<Negotiation>| Ok(Some(shown(&row)));
    let found = page(v3.store.clone(), Table::Negotiations, spec, FIELDS, show).await?;
    Ok(found.answer("/v3/contractnegotiations/request"))
}

fn load(v3: &V3, id: &str) -> Result<Row<Negotiation>, Problem> {
    v3.desk.negotiations.driver()?.get(id)
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    load(&v3, &id).map(|row| Json(shown(&row)))
}

async fn state_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let body = json!({ "@type": "NegotiationState", "state": state(&load(&v3, &id)?) });
    Ok(Json(with_context(body, context())))
}

async fn agreement_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let row = load(&v3, &id)?;
    let agreement = agreement_id(&row).ok_or_else(|| Problem::not_found("agreement of negotiation", &id))?;
    Ok(Json(agreements::shown(&v3.did, &v3.desk.agreements.get(agreement)?)))
}

async fn initiate(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let named = party::take(&mut message)?;
    no_callbacks(&mut message)?;
    let policy = policy_of(&mut message, "", "Offer")?;
    message.finish()?;
    let offer = parse_policy(&policy)?;
    if offer.uid.is_empty() {
        return Err(invalid("policy.@id", "is missing; it is the offer's identifier in the catalogue"));
    }
    let dataset = offer.target.clone().ok_or_else(|| invalid("policy.target", "is missing; it is the dataset"))?;
    let party = named.find(&v3, offer.assigner.as_ref().map(shuyu_base::Did::as_str)).await?;
    if offer.assigner.as_ref().is_some_and(|assigner| *assigner != party.did) {
        return Err(invalid("policy.assigner", "is another party than `counterPartyId`"));
    }
    // What was asked for is agreed to as it is; other terms that the provider offers instead wait for a person.
    let wish = Wish { provider: party.did, dataset, offer: offer.uid, policy, answers: Approve::Manual, renews: None };
    let row = v3.desk.negotiations.request(wish).await?;
    Ok(made(&row.pid, clock::now().0))
}

async fn terminate(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<StatusCode, Problem> {
    let reason = reason(&id, message)?;
    v3.desk.negotiations.refuse(&id, &reason).await.map(|_| StatusCode::NO_CONTENT)
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    load(&v3, &id)?;
    Err(Problem::conflict("negotiations are kept, as the evidence of them is"))
}

/// The reason of a message that ends or pauses something.
///
/// # Errors
/// 400 naming the member.
pub fn reason(id: &str, mut message: Message) -> Result<String, Problem> {
    if message.maybe_text("@id", 512)?.is_some_and(|given| given != id) {
        return Err(invalid("@id", "is not the identifier in the path"));
    }
    let reason = message.maybe_text("reason", MAX_REASON_BYTES)?.unwrap_or_default();
    message.finish()?;
    if reason.chars().any(char::is_control) {
        return Err(invalid("reason", "must be text without control characters"));
    }
    Ok(reason)
}

/// Refuses callbacks of a single process.
///
/// # Errors
/// 400 naming the member.
pub fn no_callbacks(message: &mut Message) -> Result<(), Problem> {
    message.refuse("callbackAddresses", "is not supported; add a web hook at /v3/webhooks, or follow /v3/events")?;
    message.refuse("privateProperties", "is not kept for processes")
}

fn agreement_id(row: &Row<Negotiation>) -> Option<&str> {
    let agreement = row.detail.agreement.as_ref().filter(|_| row.machine.state() == Some("FINALIZED"))?;
    agreement.get("@id")?.as_str()
}

/// The state in the words of the EDC: while a message of ours is under way, what it will lead to.
fn state(row: &Row<Negotiation>) -> &'static str {
    match (row.machine.pending_verb(), row.machine.state()) {
        (Some("request"), _) => "REQUESTING",
        (Some("offer"), _) => "OFFERING",
        (Some("accept"), _) => "ACCEPTING",
        (Some("agree"), _) => "AGREEING",
        (Some("verify"), _) => "VERIFYING",
        (Some("finalize"), _) => "FINALIZING",
        (Some("terminate"), _) => "TERMINATING",
        (_, Some("REQUESTED")) => "REQUESTED",
        (_, Some("OFFERED")) => "OFFERED",
        (_, Some("ACCEPTED")) => "ACCEPTED",
        (_, Some("AGREED")) => "AGREED",
        (_, Some("VERIFIED")) => "VERIFIED",
        (_, Some("FINALIZED")) => "FINALIZED",
        (_, Some("TERMINATED")) => "TERMINATED",
        (_, _) => "INITIAL",
    }
}

/// Times of the first and the last step of a process, in milliseconds since 1970.
pub fn times<K: Kind>(row: &Row<K>) -> (i64, i64) {
    let at = |happened: Option<&crate::exchange::row::Happened>| happened.map_or(0, |happened| millis(&happened.at));
    (at(row.history.first()), at(row.history.last()))
}

/// Our side of a process.
pub fn side<K: Kind>(row: &Row<K>) -> &'static str {
    match row.role {
        Side::Consumer => "CONSUMER",
        Side::Provider => "PROVIDER",
    }
}

/// A negotiation as it is answered.
pub fn shown(row: &Row<Negotiation>) -> Value {
    let (created, changed) = times(row);
    let shown = json!({
        "@id": row.pid, "@type": "ContractNegotiation", "type": side(row), "protocol": PROTOCOL, "state": state(row),
        "stateTimestamp": changed, "createdAt": created, "counterPartyId": row.peer,
        "counterPartyAddress": row.peer_root, "contractAgreementId": agreement_id(row),
        "assetId": row.detail.dataset, "correlationId": row.machine.peer_pid(), "errorDetail": row.error,
        "callbackAddresses": [], "privateProperties": {},
    });
    with_context(shown, context())
}
