//! Data plane signaling: foreign data planes (`/v3/dataplanes`), the flows of transfers that they serve, and agreements
//! that a foreign control plane made.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Extension, Json};
use serde_json::{Value, json};
use shuyu_base::Did;

use super::agreements::shown as agreement_shown;
use super::jsonld::{Message, context, invalid, with_context};
use super::operation::{Answer, CONTROL, LOOK, OPERATE, Operation, PUBLISH, Route, USE, Verb, route};
use super::{Id, Ld, V3, made, millis};
use crate::api_keys::ApiCaller;
use crate::problem::Problem;
use crate::signaling::{Authorization, DataPlane, Lead, NewAgreement};

pub fn routes() -> Vec<Route> {
    let register = Operation::new(
        Verb::Put,
        "/dataplanes",
        "registerDataPlane",
        "Registers a foreign data plane, or replaces what was registered of it (Data Plane Signaling)",
    );
    let list = Operation::new(Verb::Get, "/dataplanes", "listDataPlanes", "Lists foreign data planes");
    let show = Operation::new(Verb::Get, "/dataplanes/{id}", "getDataPlane", "Shows a foreign data plane");
    let remove = Operation::new(Verb::Delete, "/dataplanes/{id}", "removeDataPlane", "Removes a foreign data plane");
    let flow = Operation::new(
        Verb::Get,
        "/transferprocesses/{id}/dataflow",
        "getDataFlow",
        "Shows how the flow of a transfer stands that a foreign data plane serves",
    );
    let retry = Operation::new(
        Verb::Post,
        "/transferprocesses/{id}/dataflow/retry",
        "retryDataFlow",
        "Tries again what the data plane did not acknowledge",
    );
    let agree = Operation::new(
        Verb::Post,
        "/contractagreements",
        "registerAgreement",
        "Takes in an agreement that a foreign control plane made with a consumer; this node enforces it",
    );
    let address = Operation::new(
        Verb::Get,
        "/dataflows/{id}/dataaddress",
        "getDataFlowAddress",
        "Address of a started flow in which a foreign control plane lets this node take data",
    );
    vec![
        route(register.by(OPERATE).takes("DataPlaneInput").gives(Answer::One("IdResponse")).or(&[409]), put(enter)),
        route(list.by(LOOK).gives(Answer::Many("DataPlane")), get(all)),
        route(show.by(LOOK).gives(Answer::One("DataPlane")).or(&[404]), get(one)),
        route(remove.by(OPERATE).or(&[404, 409]), delete(drop_it)),
        route(flow.by(LOOK).gives(Answer::One("DataFlow")).or(&[404]), get(flow_of)),
        route(retry.by(PUBLISH).gives(Answer::One("DataFlow")).or(&[404]), post(try_again)),
        route(
            agree.by(CONTROL).takes("AgreementInput").gives(Answer::One("ContractAgreement")).or(&[409]),
            post(take_in),
        ),
        route(address.by(USE).gives(Answer::One("FlowAddress")).or(&[404, 409]), get(address_of)),
    ]
}

/// Signaling is off unless the configuration says otherwise.
fn check_on(v3: &V3) -> Result<(), Problem> {
    if v3.signaling {
        return Ok(());
    }
    Err(Problem::conflict("data plane signaling is off").hint("set `signaling = true` in shuyu.toml"))
}

async fn enter(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    check_on(&v3)?;
    let plane = DataPlane {
        id: message.text("dataplaneId", 64)?,
        endpoint: message.text("endpoint", 2048)?,
        profiles: message.texts("profiles", 64)?,
        labels: message.texts("labels", 64)?,
        authorization: authorization(message.maybe_message("authorization")?)?,
        registered: String::new(),
    };
    message.finish()?;
    let plane = v3.desk.transfers.conductor().planes().put(plane).await?;
    v3.holdings.note_served_by(&plane.id)?;
    Ok(made(&plane.id, millis(&plane.registered)))
}

fn authorization(message: Option<Message>) -> Result<Authorization, Problem> {
    let Some(mut message) = message else { return Ok(Authorization::None) };
    let kind = message.text("type", 64)?;
    let authorization = match kind.as_str() {
        "none" => Authorization::None,
        "bearer" => Authorization::Bearer { token: message.text("token", 4096)? },
        "oauth2_client_credentials" => Authorization::ClientCredentials {
            token_endpoint: message.text("tokenEndpoint", 2048)?,
            client_id: message.text("clientId", 4096)?,
            client_secret: message.text("clientSecret", 4096)?,
        },
        other => {
            let known = "none, bearer, oauth2_client_credentials";
            return Err(invalid("authorization.type", format_args!("`{other}` is not one of {known}")));
        }
    };
    message.finish()?;
    Ok(authorization)
}

/// A data plane without its secrets.
fn plane_shown(plane: &DataPlane) -> Value {
    let shown = json!({
        "@id": plane.id, "@type": "DataPlane", "dataplaneId": plane.id, "endpoint": plane.endpoint,
        "profiles": plane.profiles, "labels": plane.labels, "registeredAt": millis(&plane.registered),
        "authorization": { "type": plane.authorization.name() },
    });
    with_context(shown, context())
}

async fn all(State(v3): State<Arc<V3>>) -> Result<Json<Value>, Problem> {
    let planes = v3.desk.transfers.conductor().planes().list()?;
    Ok(Json(Value::Array(planes.iter().map(plane_shown).collect())))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let found = v3.desk.transfers.conductor().planes().find(&id)?;
    Ok(Json(plane_shown(&found.ok_or_else(|| Problem::not_found("data plane", &id))?)))
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    if let Some(lead) = v3.desk.transfers.conductor().serving(&id)? {
        return Err(Problem::conflict(format!("it serves transfer `{}`", lead.transfer))
            .hint("end its transfers first, or it cannot be told that they ended"));
    }
    v3.desk.transfers.conductor().planes().remove(&id).await?;
    v3.holdings.note_served_by(&id)?;
    Ok(StatusCode::NO_CONTENT)
}

fn flow_shown(lead: &Lead) -> Value {
    let shown = json!({
        "@id": lead.transfer, "@type": "DataFlow", "transferProcessId": lead.transfer, "dataplaneId": lead.plane,
        "dataFlowId": lead.flow, "agreementId": lead.agreement, "assetId": lead.asset, "profile": lead.profile,
        "state": lead.reached().name(), "wantedState": lead.wanted().name(), "failures": lead.failures,
        "errorDetail": lead.error, "setAside": lead.aside, "acknowledged": lead.reached() == lead.wanted(),
    });
    with_context(shown, context())
}

async fn flow_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let found = v3.desk.transfers.conductor().find(&id)?;
    Ok(Json(flow_shown(&found.ok_or_else(|| Problem::not_found("data flow of transfer", &id))?)))
}

async fn try_again(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<Json<Value>, Problem> {
    message.finish()?;
    Ok(Json(flow_shown(&v3.desk.transfers.conductor().retry(&id).await?)))
}

async fn take_in(
    State(v3): State<Arc<V3>>,
    Extension(caller): Extension<ApiCaller>,
    Ld(mut message): Ld,
) -> Result<Json<Value>, Problem> {
    check_on(&v3)?;
    let consumer = message.text("consumerId", Did::MAX_BYTES)?;
    let new = NewAgreement {
        id: id_of(message.text("@id", 256)?)?,
        asset: message.text("assetId", 256)?,
        consumer: consumer.parse().map_err(|error| invalid("consumerId", error))?,
        policy: message.take("policy").ok_or_else(|| invalid("policy", "is missing"))?,
        control_plane: message.maybe_text("controlPlane", 64)?,
    };
    if message.maybe_text("providerId", Did::MAX_BYTES)?.is_some_and(|given| given != v3.did.as_str()) {
        return Err(invalid("providerId", "is not the owner of this node"));
    }
    message.finish()?;
    let row = v3.desk.transfers.flows().register(&caller, new).await?;
    Ok(Json(agreement_shown(&v3.did, &row)))
}

/// Identifiers are visible ASCII, as those of our own agreements.
fn id_of(id: String) -> Result<String, Problem> {
    let is_plain = id.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain.then_some(id).ok_or_else(|| invalid("@id", "must be visible ASCII characters"))
}

async fn address_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Response, Problem> {
    let address = v3.desk.transfers.flows().address(&id)?;
    let private = [(axum::http::header::CACHE_CONTROL, "no-store")];
    Ok((private, Json(with_context(address.encode(), context()))).into_response())
}
