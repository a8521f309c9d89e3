//! What this node cosigns, over HTTP.

use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::problem::Problem;
use crate::witness::WitnessDesk;

/// Routes under `/v1`; a node that is no witness answers 404 with a hint.
pub fn router(witness: Option<(Arc<WitnessDesk>, String)>) -> Router {
    let Some(witness) = witness else {
        let none = || Problem::not_found("role", "witness").hint("add \"witness\" to `roles` in shuyu.toml");
        return Router::new().route("/witness", get(move || std::future::ready(none())));
    };
    Router::new().route("/witness", get(show)).with_state(Arc::new(witness))
}

async fn show(State(witness): State<Arc<(Arc<WitnessDesk>, String)>>) -> Result<Json<Value>, Problem> {
    let (desk, public_url) = &*witness;
    let url = format!("{}/witness", public_url.trim_end_matches('/'));
    let (count, retired) = desk.standing().await;
    Ok(Json(json!({
        "name": desk.key().name(), "key": desk.key().to_string(), "url": url, "cosigned": count, "retired": retired,
        "policy_line": format!("witness NAME {} {url}", desk.key()), "items": desk.logs()?, "next": null,
    })))
}
