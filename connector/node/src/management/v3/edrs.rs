//! Endpoint data references: `/v3/edrs`, where and with which token the data of a started transfer is read.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde_json::{Value, json};
use shuyu_contract_engine::Transfer;

use super::jsonld::{context, with_context};
use super::negotiations::times;
use super::operation::{Answer, LOOK, Operation, Route, USE, Verb, route};
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, millis};
use crate::agreements::{Agreements, Side};
use crate::edr::Renew;
use crate::exchange::handover::Access;
use crate::exchange::row::Row;
use crate::problem::Problem;
use crate::store::Table;

/// The type that EDC data planes give to an address read over HTTP.
const HTTP_TYPE: &str = "https://w3id.org/idsa/v4.1/HTTP";
const FIELDS: Fields = Fields {
    names: &["agreementId", "assetId", "providerId", "contractNegotiationId", "createdAt"],
    keys: &["@id", "transferProcessId"],
    open: false,
};

pub fn routes() -> Vec<Route> {
    let list =
        Operation::new(Verb::Post, "/edrs/request", "queryEdrs", "Lists the started transfers with access to data");
    let address = Operation::new(
        Verb::Get,
        "/edrs/{id}/dataaddress",
        "getEdrDataAddress",
        "Address and token of a started transfer; the token is renewed when it is about to end",
    );
    let refresh = Operation::new(
        Verb::Post,
        "/edrs/{id}/refresh",
        "refreshEdr",
        "Renews the token now; the one before is good until this one is used",
    );
    let remove = Operation::new(Verb::Delete, "/edrs/{id}", "removeEdr", "Forgets the token renewed last");
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("EndpointDataReferenceEntry")), post(query)),
        route(address.by(USE).gives(Answer::One("EdrDataAddress")).or(&[404, 409, 502]), get(data_address)),
        route(refresh.by(USE).gives(Answer::One("EdrDataAddress")).or(&[404, 409, 502]), post(renew)),
        route(remove.by(USE).or(&[404]), delete(forget)),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let agreements = v3.desk.agreements.clone();
    let show = move |row: Row<Transfer>| Ok(shown(&agreements, &row));
    let found = page(v3.store.clone(), Table::Transfers, spec, FIELDS, show).await?;
    Ok(found.answer("/v3/edrs/request"))
}

async fn data_address(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Response, Problem> {
    Ok(address(v3.desk.transfers.access(&id).await?))
}

async fn renew(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<Response, Problem> {
    message.finish()?;
    Ok(address(v3.desk.transfers.access_renewed(&id, Renew::Now).await?))
}

async fn forget(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    v3.desk.transfers.driver()?.get(&id)?;
    v3.desk.transfers.forget_access(&id).await.map(|()| StatusCode::NO_CONTENT)
}

/// A data address in the words of the EDC; nobody on the way may keep it.
fn address(access: Access) -> Response {
    let expires = millis(&access.expires_at);
    let (kind, endpoint) = match access.format.as_str() {
        "FlightSql" => ("FlightSql", access.flight_endpoint.clone()),
        "HttpData-PULL" => (HTTP_TYPE, access.http_endpoint.clone()),
        profile => (profile, access.http_endpoint.clone()),
    };
    let shown = json!({
        "@type": "DataAddress", "type": kind, "endpointType": kind, "endpoint": endpoint,
        "authType": "bearer", "authorization": access.bearer, "expiresAt": access.expires_at,
        "expiresAtMillis": expires, "transferType": access.format, "httpEndpoint": access.http_endpoint,
        "flightEndpoint": access.flight_endpoint, "tableName": access.table, "agreementId": access.agreement,
    });
    let private = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (private, Json(with_context(shown, context()))).into_response()
}

/// An entry for a transfer that gives access now; nothing for any other.
fn shown(agreements: &Agreements, row: &Row<Transfer>) -> Option<Value> {
    let gives_access = row.role == Side::Consumer
        && row.machine.state() == Some("STARTED")
        && !row.machine.has_pending()
        && row.detail.data_address.is_some();
    let agreement = agreements.get(&row.detail.agreement).ok().filter(|_| gives_access)?;
    let shown = json!({
        "@id": row.pid, "@type": "EndpointDataReferenceEntry", "transferProcessId": row.pid,
        "agreementId": agreement.id, "assetId": agreement.asset, "providerId": row.peer,
        "contractNegotiationId": agreement.negotiation, "createdAt": times(row).1,
    });
    Some(with_context(shown, context()))
}
