//! A regulator's commands over HTTP.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use shuyu_evidence::Verdict;

use crate::audit::{Auditor, Follower};
use crate::management::{Body, chain};
use crate::problem::Problem;

/// Routes under `/v1`.
pub fn router(auditor: Arc<Auditor>, follower: Arc<Follower>) -> Router {
    let following = Router::new()
        .route("/audit/standing", get(standing))
        .route("/audit/alarms", get(alarms))
        .route("/audit/pass", post(pass))
        .with_state(follower);
    Router::new()
        .route("/audit/nodes", get(nodes).post(follow))
        .route("/audit/sync", post(sync))
        .route("/audit/report", get(report))
        .route("/audit/bundle", post(bundle))
        .with_state(auditor)
        .merge(following)
}

/// How each followed node fares.
async fn standing(State(follower): State<Arc<Follower>>) -> Json<Value> {
    Json(json!({ "items": follower.standings(), "next": null }))
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
}

async fn alarms(State(follower): State<Arc<Follower>>, Query(from): Query<After>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": follower.alarms(from.after)?, "next": null })))
}

/// Looks at every followed node now.
async fn pass(State(follower): State<Arc<Follower>>) -> Result<Json<Value>, Problem> {
    follower.pass().await?;
    Ok(Json(json!({ "items": follower.standings(), "next": null })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Follow {
    did: String,
}

async fn follow(
    State(auditor): State<Arc<Auditor>>,
    Body(follow): Body<Follow>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let did = follow.did.parse().map_err(|error| Problem::invalid(format!("`did`: {error}")))?;
    Ok((StatusCode::CREATED, Json(auditor.follow(&did).await?)))
}

async fn nodes(State(auditor): State<Arc<Auditor>>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": auditor.nodes()?, "next": null })))
}

async fn sync(State(auditor): State<Arc<Auditor>>) -> Result<Json<Value>, Problem> {
    Ok(Json(json!({ "items": auditor.sync().await?, "next": null })))
}

/// Verifies everything that is held and says what was found.
async fn report(State(auditor): State<Arc<Auditor>>) -> Result<Json<Value>, Problem> {
    let bundle = auditor.bundle()?;
    let audit = tokio::task::spawn_blocking(move || bundle.verify())
        .await
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?
        .map_err(|error| Problem::conflict(chain(&error)).hint("`shuyu audit sync` copies what is missing"))?;
    let nodes: Vec<Value> = audit
        .nodes
        .iter()
        .map(|node| {
            let head = node.head.as_ref().map(|head| head.size);
            json!({ "did": node.did.as_str(), "entries": node.entry_count, "head": head, "whole": node.is_whole })
        })
        .collect();
    let comparisons: Vec<Value> = audit
        .pairs
        .iter()
        .map(|pair| {
            let processes: Vec<Value> = pair
                .report
                .processes
                .iter()
                .map(|process| {
                    let findings: Vec<String> = process.findings.iter().map(ToString::to_string).collect();
                    json!({ "process": process.process, "agreed": process.agreed, "findings": findings })
                })
                .collect();
            json!({ "a": pair.a.as_str(), "b": pair.b.as_str(), "agreed": pair.report.agreed(), "processes": processes })
        })
        .collect();
    let findings: Vec<String> = match &audit.verdict {
        Verdict::Holds => Vec::new(),
        Verdict::DoesNotHold(convictions) => convictions.iter().map(ToString::to_string).collect(),
    };
    Ok(Json(json!({ "holds": findings.is_empty(), "nodes": nodes, "comparisons": comparisons, "findings": findings })))
}

async fn bundle(State(auditor): State<Arc<Auditor>>) -> Result<Response, Problem> {
    let bytes = auditor.bundle()?.to_json().map_err(|error| Problem::conflict(chain(&error)))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], bytes).into_response())
}
