//! Transfer processes: `/v3/transferprocesses`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use shuyu_contract_engine::Transfer;
use shuyu_contract_engine::transfer::Verb as Step;

use super::jsonld::{Message, context, invalid, with_context};
use super::negotiations::{PROTOCOL, no_callbacks, reason, side, times};
use super::operation::{Answer, DEAL, LOOK, Operation, Route, USE, Verb, route};
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, made, party};
use crate::agreements::Agreements;
use crate::clock;
use crate::exchange::handover::Format;
use crate::exchange::row::Row;
use crate::problem::Problem;
use crate::store::Table;

const FIELDS: Fields = Fields {
    names: &[
        "type",
        "state",
        "stateTimestamp",
        "createdAt",
        "counterPartyId",
        "counterPartyAddress",
        "contractId",
        "assetId",
        "correlationId",
        "transferType",
        "errorDetail",
        "protocol",
    ],
    keys: &["@id"],
    open: false,
};

pub fn routes() -> Vec<Route> {
    let list = Operation::new(Verb::Post, "/transferprocesses/request", "queryTransferProcesses", "Lists transfers");
    let begin = Operation::new(
        Verb::Post,
        "/transferprocesses",
        "initiateTransferProcess",
        "Asks for access to the data of an agreement; ask for the state to see how it goes",
    );
    let show = Operation::new(Verb::Get, "/transferprocesses/{id}", "getTransferProcess", "Shows a transfer");
    let state =
        Operation::new(Verb::Get, "/transferprocesses/{id}/state", "getTransferProcessState", "Tells its state");
    let end =
        |path, id, summary| Operation::new(Verb::Post, path, id, summary).by(DEAL).takes("Reason").or(&[404, 409]);
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("TransferProcess")), post(query)),
        route(begin.by(USE).takes("TransferRequest").gives(Answer::One("IdResponse")).or(&[409, 502]), post(initiate)),
        route(show.by(LOOK).gives(Answer::One("TransferProcess")).or(&[404]), get(one)),
        route(state.by(LOOK).gives(Answer::One("TransferState")).or(&[404]), get(state_of)),
        route(end("/transferprocesses/{id}/terminate", "terminateTransferProcess", "Ends a transfer"), post(terminate)),
        route(end("/transferprocesses/{id}/suspend", "suspendTransferProcess", "Pauses a transfer"), post(suspend)),
        route(
            end("/transferprocesses/{id}/resume", "resumeTransferProcess", "Goes on with a paused transfer"),
            post(resume),
        ),
        route(
            end("/transferprocesses/{id}/complete", "completeTransferProcess", "Says that a transfer is done"),
            post(complete),
        ),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let agreements = v3.desk.agreements.clone();
    let show = move |row: Row<Transfer>| Ok(Some(shown(&agreements, &row)));
    let found = page(v3.store.clone(), Table::Transfers, spec, FIELDS, show).await?;
    Ok(found.answer("/v3/transferprocesses/request"))
}

fn load(v3: &V3, id: &str) -> Result<Row<Transfer>, Problem> {
    v3.desk.transfers.driver()?.get(id)
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&v3.desk.agreements, &load(&v3, &id)?)))
}

async fn state_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let body = json!({ "@type": "TransferState", "state": state(&load(&v3, &id)?) });
    Ok(Json(with_context(body, context())))
}

async fn initiate(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let named = party::take(&mut message)?;
    no_callbacks(&mut message)?;
    let contract = message.text("contractId", 256)?;
    let kind = message.text("transferType", 64)?;
    destination(&mut message)?;
    let plane = message.maybe_text("dataplaneId", 64)?;
    let asset = message.maybe_text("assetId", 512)?;
    message.finish()?;
    let known = Format::OWN.join(", ");
    let format = Format::from_name(&kind).ok_or_else(|| {
        invalid("transferType", format_args!("`{kind}` is not one of {known}, nor the URI of a transfer profile"))
    })?;
    let agreement = v3.desk.agreements.get(&contract).map_err(|problem| match problem.status {
        StatusCode::NOT_FOUND => invalid("contractId", format_args!("there is no agreement `{contract}`")),
        _ => problem,
    })?;
    if asset.is_some_and(|asset| asset != agreement.asset) {
        return Err(invalid("assetId", "is not the asset of the agreement"));
    }
    let party = named.find(&v3, Some(&agreement.peer)).await?;
    if party.did.as_str() != agreement.peer {
        return Err(invalid("counterPartyId", "is not the other party of the agreement"));
    }
    let pid = match plane {
        Some(plane) => v3.desk.transfers.request_for(&contract, format, &plane).await?,
        None => v3.desk.transfers.request(&contract, format).await?.pid,
    };
    Ok(made(&pid, clock::now().0))
}

/// Data is pulled here, so there is no destination; `HttpProxy` is how older clients of the EDC say that.
fn destination(message: &mut Message) -> Result<(), Problem> {
    let Some(mut destination) = message.maybe_message("dataDestination")? else { return Ok(()) };
    let kind = destination.maybe_text("type", 64)?;
    match kind.as_deref() {
        None | Some("HttpProxy") => destination.finish(),
        Some(other) => Err(invalid(
            "dataDestination.type",
            format_args!("`{other}` is not supported: data is pulled from this network's nodes"),
        )),
    }
}

async fn terminate(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<StatusCode, Problem> {
    say(&v3, &id, Step::Terminate, message).await
}

async fn suspend(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<StatusCode, Problem> {
    say(&v3, &id, Step::Suspend, message).await
}

async fn resume(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<StatusCode, Problem> {
    reason(&id, message)?;
    v3.desk.transfers.open(&id).await.map(|_| StatusCode::NO_CONTENT)
}

async fn complete(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<StatusCode, Problem> {
    say(&v3, &id, Step::Complete, message).await
}

async fn say(v3: &V3, id: &str, step: Step, message: Message) -> Result<StatusCode, Problem> {
    let reason = reason(id, message)?;
    v3.desk.transfers.say(id, step, &reason).await?;
    if matches!(step, Step::Terminate | Step::Complete) {
        v3.desk.transfers.forget_access(id).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The state in the words of the EDC: while a message of ours is under way, what it will lead to.
fn state(row: &Row<Transfer>) -> &'static str {
    match (row.machine.pending_verb(), row.machine.state()) {
        (Some("request"), _) => "REQUESTING",
        (Some("start"), Some("SUSPENDED")) => "RESUMING",
        (Some("start"), _) => "STARTING",
        (Some("suspend"), _) => "SUSPENDING",
        (Some("complete"), _) => "COMPLETING",
        (Some("terminate"), _) => "TERMINATING",
        (_, Some("REQUESTED")) => "REQUESTED",
        (_, Some("STARTED")) => "STARTED",
        (_, Some("SUSPENDED")) => "SUSPENDED",
        (_, Some("COMPLETED")) => "COMPLETED",
        (_, Some("TERMINATED")) => "TERMINATED",
        (_, _) => "INITIAL",
    }
}

fn shown(agreements: &Agreements, row: &Row<Transfer>) -> Value {
    let (created, changed) = times(row);
    let asset = agreements.get(&row.detail.agreement).map(|agreement| agreement.asset).unwrap_or_default();
    let shown = json!({
        "@id": row.pid, "@type": "TransferProcess", "type": side(row), "protocol": PROTOCOL, "state": state(row),
        "stateTimestamp": changed, "createdAt": created, "counterPartyId": row.peer,
        "counterPartyAddress": row.peer_root, "contractId": row.detail.agreement, "assetId": asset,
        "correlationId": row.machine.peer_pid(), "transferType": row.detail.format.name(),
        "errorDetail": row.error.as_ref().or(row.detail.reason.as_ref()), "dataDestination": null,
        "callbackAddresses": [], "privateProperties": {},
    });
    with_context(shown, context())
}
