//! Contract agreements: `/v3/contractagreements`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use shuyu_base::Did;

use super::jsonld::{context_with_policy, with_context};
use super::operation::{Answer, LOOK, Operation, Route, Verb, route};
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, millis, negotiations};
use crate::agreements::{AgreementRow, Side};
use crate::problem::Problem;
use crate::store::Table;

const FIELDS: Fields = Fields {
    names: &["contractSigningDate", "assetId", "consumerId", "providerId", "policy"],
    keys: &["@id"],
    open: false,
};

pub fn routes() -> Vec<Route> {
    let list = Operation::new(Verb::Post, "/contractagreements/request", "queryAgreements", "Lists agreements");
    let show = Operation::new(Verb::Get, "/contractagreements/{id}", "getAgreement", "Shows an agreement");
    let negotiation = Operation::new(
        Verb::Get,
        "/contractagreements/{id}/negotiation",
        "getNegotiationByAgreement",
        "Shows the negotiation that led to it",
    );
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("ContractAgreement")), post(query)),
        route(show.by(LOOK).gives(Answer::One("ContractAgreement")).or(&[404]), get(one)),
        route(negotiation.by(LOOK).gives(Answer::One("ContractNegotiation")).or(&[404]), get(negotiation_of)),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let own = v3.did.clone();
    let show = move |row: AgreementRow| Ok(Some(shown(&own, &row)));
    let found = page(v3.store.clone(), Table::Agreements, spec, FIELDS, show).await?;
    Ok(found.answer("/v3/contractagreements/request"))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&v3.did, &v3.desk.agreements.get(&id)?)))
}

async fn negotiation_of(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    let agreement = v3.desk.agreements.get(&id)?;
    Ok(Json(negotiations::shown(&v3.desk.negotiations.driver()?.get(&agreement.negotiation)?)))
}

/// An agreement as it is answered; `own` is whose node this is.
pub fn shown(own: &Did, row: &AgreementRow) -> Value {
    let (consumer, provider) = match row.role {
        Side::Consumer => (own.as_str(), row.peer.as_str()),
        Side::Provider => (row.peer.as_str(), own.as_str()),
    };
    let shown = json!({
        "@id": row.id, "@type": "ContractAgreement", "contractSigningDate": millis(&row.signed_at) / 1000,
        "assetId": row.asset, "consumerId": consumer, "providerId": provider, "policy": row.policy,
    });
    with_context(shown, context_with_policy())
}
