//! Web hooks: `/v3/webhooks`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use serde_json::{Value, json};

use super::jsonld::{context, with_context};
use super::operation::{Answer, OPERATE, Operation, Route, Verb, route};
use super::{Id, Ld, V3, made, millis};
use crate::hooks::{Hook, Progress};
use crate::problem::Problem;

pub fn routes() -> Vec<Route> {
    let make = Operation::new(
        Verb::Post,
        "/webhooks",
        "createWebHook",
        "Adds an address to which events are posted as CloudEvents, each at least once, from now on",
    );
    let list = Operation::new(Verb::Get, "/webhooks", "listWebHooks", "Lists web hooks and how far each has come");
    let show = Operation::new(Verb::Get, "/webhooks/{id}", "getWebHook", "Shows a web hook and how far it has come");
    let remove = Operation::new(Verb::Delete, "/webhooks/{id}", "deleteWebHook", "Removes a web hook");
    vec![
        route(make.by(OPERATE).takes("WebHookInput").gives(Answer::One("IdResponse")).or(&[409]), post(create)),
        route(list.by(OPERATE).gives(Answer::Many("WebHook")), get(all)),
        route(show.by(OPERATE).gives(Answer::One("WebHook")).or(&[404]), get(one)),
        route(remove.by(OPERATE).or(&[404]), delete(drop_it)),
    ]
}

async fn create(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let uri = message.text("uri", 2048)?;
    let events = message.texts("events", 32)?;
    let secret = message.maybe_text("secret", 512)?;
    message.finish()?;
    let hook = v3.hooks.add(&uri, events, secret).await?;
    Ok(made(&hook.id, millis(&hook.created)))
}

async fn all(State(v3): State<Arc<V3>>) -> Result<Json<Value>, Problem> {
    let shown = v3.hooks.list()?.into_iter().map(|hook| v3.hooks.get(&hook.id).map(shown));
    Ok(Json(Value::Array(shown.collect::<Result<_, _>>()?)))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    v3.hooks.get(&id).map(|found| Json(shown(found)))
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    v3.hooks.remove(&id).await.map(|()| StatusCode::NO_CONTENT)
}

/// A hook without its secret.
fn shown((hook, progress): (Hook, Progress)) -> Value {
    let shown = json!({
        "@id": hook.id, "@type": "WebHook", "uri": hook.url, "events": hook.events,
        "createdAt": millis(&hook.created), "hasSecret": hook.secret.is_some(), "position": progress.position,
        "delivered": progress.delivered, "refused": progress.refused, "missed": progress.missed,
        "failures": progress.failures, "errorDetail": progress.error, "gone": progress.gone,
    });
    with_context(shown, context())
}
