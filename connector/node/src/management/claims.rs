//! The wallet, the clients of the token endpoint and the issuer over HTTP.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::claims::issuer::{Definition, Issuer, Paging, listed};
use crate::claims::tokens::TokenDesk;
use crate::claims::wallet::{Wallet, Wanted};
use crate::management::Body;
use crate::problem::Problem;

/// What these handlers need.
pub struct Desk {
    /// The owner's credentials.
    pub wallet: Arc<Wallet>,
    /// Programs that may fetch tokens.
    pub tokens: Arc<TokenDesk>,
    /// The issuer, where the node is one.
    pub issuer: Option<Arc<Issuer>>,
}

impl Desk {
    fn issuer(&self) -> Result<&Arc<Issuer>, Problem> {
        let none = || Problem::conflict("this node is no issuer").hint("add `issuer` to `roles` in shuyu.toml");
        self.issuer.as_ref().ok_or_else(none)
    }
}

/// Routes under `/v1`.
pub fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/credentials", get(credentials))
        .route("/credentials/{id}", get(credential).delete(forget))
        .route("/credential-requests", get(requests).post(request))
        .route("/credential-requests/{id}", delete(close))
        .route("/credential-offers", get(offers))
        .route("/credential-offers/accept", post(accept))
        .route("/token-clients", get(clients).post(add_client))
        .route("/token-clients/{id}", delete(remove_client))
        .route("/issuer/types", get(definitions).post(define))
        .route("/issuer/types/{id}", delete(undefine))
        .route("/issuer/offers", post(offer))
        .route("/issuer/requests", get(issuer_requests))
        .route("/issuer/requests/{id}/approve", post(approve))
        .route("/issuer/requests/{id}/reject", post(reject))
        .route("/issuer/requests/{id}/deliver", post(redeliver))
        .route("/issuer/credentials", get(issued))
        .route("/issuer/credentials/{id}/revoke", post(revoke))
        .route("/issuer/credentials/{id}/suspend", post(suspend))
        .route("/issuer/credentials/{id}/resume", post(resume))
        .with_state(desk)
}

type Shared = State<Arc<Desk>>;

async fn credentials(State(desk): Shared) -> Result<Json<Value>, Problem> {
    Ok(Json(listed(desk.wallet.credentials()?)))
}

async fn credential(State(desk): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    desk.wallet.credential(&id).map(Json)
}

async fn forget(State(desk): Shared, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    desk.wallet.forget(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn requests(State(desk): Shared) -> Result<Json<Value>, Problem> {
    Ok(Json(listed(desk.wallet.requests()?)))
}

async fn request(State(desk): Shared, Body(wanted): Body<Wanted>) -> Result<(StatusCode, Json<Value>), Problem> {
    Ok((StatusCode::CREATED, Json(desk.wallet.request(wanted).await?)))
}

async fn close(State(desk): Shared, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    desk.wallet.close(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn offers(State(desk): Shared) -> Result<Json<Value>, Problem> {
    Ok(Json(listed(desk.wallet.offers()?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    issuer: String,
    id: String,
}

async fn accept(State(desk): Shared, Body(offer): Body<Accepted>) -> Result<(StatusCode, Json<Value>), Problem> {
    Ok((StatusCode::CREATED, Json(desk.wallet.accept(&offer.issuer, &offer.id).await?)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewClient {
    id: String,
}

async fn add_client(State(desk): Shared, Body(client): Body<NewClient>) -> Result<(StatusCode, Json<Value>), Problem> {
    let secret = desk.tokens.add(&client.id).await?;
    Ok((StatusCode::CREATED, Json(json!({"id": client.id, "secret": secret}))))
}

async fn clients(State(desk): Shared) -> Result<Json<Value>, Problem> {
    let shown = |(id, created): (String, String)| json!({"id": id, "created": created});
    Ok(Json(listed(desk.tokens.list()?.into_iter().map(shown).collect())))
}

async fn remove_client(State(desk): Shared, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    desk.tokens.remove(&id).await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
struct NewDefinition {
    id: String,
    #[serde(flatten)]
    definition: Map<String, Value>,
}

async fn define(State(desk): Shared, Body(new): Body<NewDefinition>) -> Result<(StatusCode, Json<Value>), Problem> {
    let definition: Definition =
        serde_json::from_value(Value::Object(new.definition)).map_err(|error| Problem::invalid(error.to_string()))?;
    Ok((StatusCode::CREATED, Json(desk.issuer()?.define(&new.id, definition).await?)))
}

async fn definitions(State(desk): Shared) -> Result<Json<Value>, Problem> {
    Ok(Json(listed(desk.issuer()?.shown_definitions()?)))
}

async fn undefine(State(desk): Shared, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    desk.issuer()?.undefine(&id).await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewOffer {
    holder: String,
    definition: String,
    reason: Option<String>,
}

async fn offer(State(desk): Shared, Body(new): Body<NewOffer>) -> Result<StatusCode, Problem> {
    desk.issuer()?.offer(&new.holder, &new.definition, new.reason.as_deref()).await.map(|()| StatusCode::NO_CONTENT)
}

async fn issuer_requests(State(desk): Shared, Query(paging): Query<Paging>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.shown_requests(&paging).map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approved {
    #[serde(default)]
    claims: Map<String, Value>,
}

async fn approve(
    State(desk): Shared,
    Path(id): Path<String>,
    Body(approved): Body<Approved>,
) -> Result<Json<Value>, Problem> {
    desk.issuer()?.approve(&id, &approved.claims).await.map(Json)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    reason: Option<String>,
}

async fn reject(State(desk): Shared, Path(id): Path<String>, Body(why): Body<Why>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.reject(&id, why.reason).await.map(Json)
}

async fn redeliver(State(desk): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.redeliver(&id).await.map(Json)
}

async fn issued(State(desk): Shared, Query(paging): Query<Paging>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.issued(&paging).map(Json)
}

async fn suspend(State(desk): Shared, Path(id): Path<String>, Body(why): Body<Why>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.suspend(&id, why.reason).await.map(Json)
}

async fn resume(State(desk): Shared, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.resume(&id).await.map(Json)
}

async fn revoke(State(desk): Shared, Path(id): Path<String>, Body(why): Body<Why>) -> Result<Json<Value>, Problem> {
    desk.issuer()?.revoke(&id, why.reason).await.map(Json)
}
