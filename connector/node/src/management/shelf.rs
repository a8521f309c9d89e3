//! Assets, policies and offers over HTTP.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use shuyu_data_plane::{Engine, schema_to_bytes};
use url::Url;

use crate::clock;
use crate::holdings::{Asset, Column, Holdings, Offer, PolicyRow, ServedBy};
use crate::management::exchange::{Paging, page};
use crate::management::{Body, chain};
use crate::problem::Problem;

/// What these handlers need.
pub struct Shelf {
    /// The holder's rows.
    pub holdings: Holdings,
    /// The node directory: relative locations start here.
    pub dir: PathBuf,
    /// Reads a table's columns.
    pub engine: Arc<Engine>,
}

/// Routes under `/v1`.
pub fn router(shelf: Arc<Shelf>) -> Router {
    Router::new()
        .route("/assets", get(list_assets).post(add_asset))
        .route("/assets/{id}", get(show_asset).delete(remove_asset))
        .route("/policies", get(list_policies).post(add_policy))
        .route("/policies/{id}", get(show_policy).delete(remove_policy))
        .route("/offers", get(list_offers).post(add_offer))
        .route("/offers/{id}", axum::routing::delete(remove_offer))
        .with_state(shelf)
}

async fn list_assets(State(shelf): State<Arc<Shelf>>, Query(paging): Query<Paging>) -> Result<Json<Value>, Problem> {
    let assets = shelf.holdings.assets(paging.after.as_deref(), paging.limit() + 1)?;
    Ok(page(assets, paging.limit(), |asset| asset.id.clone(), shown))
}

async fn show_asset(State(shelf): State<Arc<Shelf>>, Path(id): Path<String>) -> Result<Json<Value>, Problem> {
    Ok(Json(shown(&shelf.holdings.asset(&id)?)))
}

/// An asset without what only the node itself reads.
fn shown(asset: &Asset) -> Value {
    json!({
        "id": asset.id, "title": asset.title, "description": asset.description, "keywords": asset.keywords,
        "table": asset.table, "location": asset.location, "format": asset.format, "schema": asset.schema,
        "issued": asset.issued,
    })
}

async fn add_asset(
    State(shelf): State<Arc<Shelf>>,
    Body(asset): Body<Asset>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let asset = read_asset(&shelf, asset).await?;
    Ok((StatusCode::CREATED, Json(shown(&shelf.holdings.add_asset(asset).await?))))
}

/// Looks at the table an asset names, and notes its columns.
///
/// # Errors
/// 400 if it cannot be read.
pub async fn read_asset(shelf: &Shelf, mut asset: Asset) -> Result<Asset, Problem> {
    if let Some(served) = &asset.data_plane {
        shelf.holdings.formats_of(&asset)?;
        (asset.location, asset.format) = (served.location(), ServedBy::FORMAT.to_owned());
        (asset.schema, asset.arrow_schema, asset.issued) = (Vec::new(), String::new(), clock::now().to_string());
        return Ok(asset);
    }
    asset.location = absolute(&shelf.dir, &asset.location)?;
    asset.arrow_schema = String::new();
    let schema = shelf
        .engine
        .infer_schema(&asset.source()?)
        .await
        .map_err(|error| Problem::invalid(format!("`location`: the table cannot be read: {}", chain(&error))))?;
    let bytes = schema_to_bytes(&schema).map_err(|error| Problem::invalid(error.to_string()))?;
    asset.arrow_schema = STANDARD.encode(bytes);
    asset.issued = clock::now().to_string();
    asset.schema = schema
        .fields()
        .iter()
        .map(|field| Column { name: field.name().clone(), kind: field.data_type().to_string() })
        .collect();
    Ok(asset)
}

async fn remove_asset(State(shelf): State<Arc<Shelf>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    shelf.holdings.remove_asset(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn list_policies(State(shelf): State<Arc<Shelf>>, Query(paging): Query<Paging>) -> Result<Json<Value>, Problem> {
    let policies = shelf.holdings.policies(paging.after.as_deref(), paging.limit() + 1)?;
    Ok(page(policies, paging.limit(), |row| row.id.clone(), |row| json!(row)))
}

async fn show_policy(State(shelf): State<Arc<Shelf>>, Path(id): Path<String>) -> Result<Json<PolicyRow>, Problem> {
    shelf.holdings.policy(&id).map(Json)
}

async fn add_policy(
    State(shelf): State<Arc<Shelf>>,
    Body(row): Body<PolicyRow>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let id = row.id.clone();
    let findings = shelf.holdings.add_policy(row).await?;
    Ok((StatusCode::CREATED, Json(json!({ "id": id, "findings": findings }))))
}

async fn remove_policy(State(shelf): State<Arc<Shelf>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    shelf.holdings.remove_policy(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn list_offers(State(shelf): State<Arc<Shelf>>, Query(paging): Query<Paging>) -> Result<Json<Value>, Problem> {
    let offers = shelf.holdings.offers(paging.after.as_deref(), paging.limit() + 1)?;
    Ok(page(offers, paging.limit(), |offer| offer.id.clone(), |offer| json!(offer)))
}

async fn add_offer(
    State(shelf): State<Arc<Shelf>>,
    Body(offer): Body<Offer>,
) -> Result<(StatusCode, Json<Offer>), Problem> {
    Ok((StatusCode::CREATED, Json(shelf.holdings.add_offer(offer).await?)))
}

async fn remove_offer(State(shelf): State<Arc<Shelf>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    shelf.holdings.remove_offer(&id).await.map(|()| StatusCode::NO_CONTENT)
}

/// Object store URLs stay as they are; a path becomes an absolute file URL, so that it means the same after a restart.
///
/// # Errors
/// 400 if there is no such file.
pub fn absolute(dir: &FsPath, location: &str) -> Result<String, Problem> {
    if location.contains("://") {
        return Ok(location.to_owned());
    }
    let path = dir.join(location);
    let bad = |reason: &str| Problem::invalid(format!("`location`: cannot open `{}`: {reason}", path.display()));
    let path = path.canonicalize().map_err(|error| bad(&error.to_string()))?;
    let url = if path.is_dir() { Url::from_directory_path(&path) } else { Url::from_file_path(&path) };
    url.map(String::from).map_err(|()| bad("not an absolute path"))
}
