//! Assets: `/v3/assets`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use serde_json::{Map, Value, json};

use super::jsonld::{self, Message, context, invalid, with_context};
use super::operation::{Answer, LOOK, Operation, PUBLISH, Route, Verb, route};
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, made, millis};
use crate::holdings::{Asset, ServedBy};
use crate::management::shelf::{absolute, read_asset};
use crate::problem::Problem;
use crate::store::Table;

/// Longest text of an asset, in bytes.
const MAX_TEXT_BYTES: usize = 4096;
/// Type of the data address of an asset that a foreign data plane serves.
const FOREIGN: &str = "DataPlane";
/// Most keywords.
const MAX_KEYWORDS: usize = 64;
/// Properties that have a place of their own in the catalogue, by the names in use for them.
const TITLES: [&str; 3] = ["name", "http://purl.org/dc/terms/title", "title"];
/// See [`TITLES`].
const DESCRIPTIONS: [&str; 2] = ["description", "http://purl.org/dc/terms/description"];
/// See [`TITLES`].
const KEYWORDS: [&str; 2] = ["keywords", "http://www.w3.org/ns/dcat#keyword"];
const FIELDS: Fields =
    Fields { names: &["createdAt", "properties", "privateProperties", "dataAddress"], keys: &["@id"], open: true };

pub fn routes() -> Vec<Route> {
    let list = Operation::new(Verb::Post, "/assets/request", "queryAssets", "Lists assets");
    let make = Operation::new(Verb::Post, "/assets", "createAsset", "Adds an asset");
    let show = Operation::new(Verb::Get, "/assets/{id}", "getAsset", "Shows an asset");
    let change = Operation::new(Verb::Put, "/assets", "updateAsset", "Describes an asset anew; its data stays");
    let remove = Operation::new(Verb::Delete, "/assets/{id}", "removeAsset", "Removes an asset without contracts");
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("Asset")), post(query)),
        route(make.by(PUBLISH).takes("AssetInput").gives(Answer::One("IdResponse")).or(&[409]), post(create)),
        route(show.by(LOOK).gives(Answer::One("Asset")).or(&[404]), get(one)),
        route(change.by(PUBLISH).takes("AssetInput").or(&[404, 409]), put(update)),
        route(remove.by(PUBLISH).or(&[404, 409]), delete(drop_it)),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let found = page(v3.store.clone(), Table::Assets, spec, FIELDS, |asset: Asset| Ok(Some(shown(&asset)))).await?;
    Ok(found.answer("/v3/assets/request"))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    v3.holdings.asset(&id).map(|asset| Json(shown(&asset)))
}

async fn create(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let id = message.maybe_text("@id", 256)?.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let asset = read(id, message, None)?;
    let asset = v3.holdings.add_asset(read_asset(&v3.shelf, asset).await?).await?;
    Ok(made(&asset.id, millis(&asset.issued)))
}

async fn update(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<StatusCode, Problem> {
    let id = message.text("@id", 256)?;
    let known = v3.holdings.asset(&id)?;
    let mut asset = read(id, message, Some(&known))?;
    asset.location = absolute(&v3.shelf.dir, &asset.location)?;
    v3.holdings.update_asset(asset).await.map(|()| StatusCode::NO_CONTENT)
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    v3.holdings.remove_asset(&id).await.map(|()| StatusCode::NO_CONTENT)
}

/// An asset as it is answered.
fn shown(asset: &Asset) -> Value {
    let mut properties = asset.properties.clone();
    if properties.is_empty() {
        properties.insert("name".to_owned(), asset.title.clone().into());
        properties.insert("description".to_owned(), asset.description.clone().into());
        properties.insert("keywords".to_owned(), asset.keywords.clone().into());
    }
    properties.insert("id".to_owned(), asset.id.clone().into());
    let columns: Vec<Value> =
        asset.schema.iter().map(|column| json!({ "name": column.name, "type": column.kind })).collect();
    let shown = json!({
        "@id": asset.id, "@type": "Asset", "createdAt": millis(&asset.issued), "properties": properties,
        "privateProperties": asset.private_properties, "dataAddress": address(asset),
        "https://w3id.org/shuyu/profile/1#fields": columns,
    });
    with_context(shown, context())
}

fn address(asset: &Asset) -> Value {
    let mut address = Map::new();
    address.insert("@type".to_owned(), "DataAddress".into());
    if let Some(served) = &asset.data_plane {
        address.insert("type".to_owned(), FOREIGN.into());
        address.insert("dataplaneId".to_owned(), served.id.as_str().into());
        address.insert("metadata".to_owned(), served.metadata.clone().into());
        return Value::Object(address);
    }
    match asset.location.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
        Some((bucket, object)) => {
            address.insert("type".to_owned(), "AmazonS3".into());
            address.insert("bucketName".to_owned(), bucket.into());
            address.insert("objectName".to_owned(), object.into());
        }
        None => {
            address.insert("type".to_owned(), "File".into());
            address.insert("location".to_owned(), asset.location.as_str().into());
        }
    }
    address.insert("format".to_owned(), asset.format.as_str().into());
    address.insert("tableName".to_owned(), asset.table.as_str().into());
    Value::Object(address)
}

fn read(id: String, mut message: Message, known: Option<&Asset>) -> Result<Asset, Problem> {
    let mut properties = message.properties("properties")?;
    if properties.remove("id").is_some_and(|given| given != id.as_str()) {
        return Err(invalid("properties.id", "is not the asset's `@id`"));
    }
    let private_properties = message.properties("privateProperties")?;
    message.refuse("dataplaneMetadata", "is not used: name a foreign data plane in `dataAddress`")?;
    // What this node adds to its answers may come back with them.
    message.take("https://w3id.org/shuyu/profile/1#fields");
    let (table, location, format, data_plane) = match (message.maybe_message("dataAddress")?, known) {
        (Some(address), _) => place(&id, address)?,
        (None, Some(known)) => {
            (known.table.clone(), known.location.clone(), known.format.clone(), known.data_plane.clone())
        }
        (None, None) => return Err(invalid("dataAddress", "is missing: where is the table?")),
    };
    message.finish()?;
    Ok(Asset {
        title: text(&properties, &TITLES)?.unwrap_or_else(|| id.clone()),
        description: text(&properties, &DESCRIPTIONS)?.unwrap_or_default(),
        keywords: keywords(&properties)?,
        id,
        table,
        location,
        format,
        schema: Vec::new(),
        arrow_schema: String::new(),
        issued: String::new(),
        properties,
        private_properties,
        data_plane,
    })
}

/// Table name, location and format of a data address, or the foreign data plane that serves it.
fn place(id: &str, mut address: Message) -> Result<(String, String, String, Option<ServedBy>), Problem> {
    let kind = address.text("type", 64)?;
    if kind == FOREIGN {
        let served = ServedBy { id: address.text("dataplaneId", 64)?, metadata: address.properties("metadata")? };
        address.finish()?;
        return Ok((table_of(id), served.location(), ServedBy::FORMAT.to_owned(), Some(served)));
    }
    let location = match kind.as_str() {
        "File" => address.text("location", MAX_TEXT_BYTES)?,
        "AmazonS3" => {
            let bucket = address.text("bucketName", 256)?;
            let object = match address.maybe_text("objectName", 2048)? {
                Some(object) => object,
                None => address.text("objectPrefix", 2048)?,
            };
            format!("s3://{bucket}/{}", object.trim_start_matches('/'))
        }
        other => {
            return Err(invalid("dataAddress.type", format_args!("`{other}` is not one of File, AmazonS3, DataPlane")));
        }
    };
    let format = address.maybe_text("format", 16)?.or_else(|| format_of(&location).map(str::to_owned));
    let format = format.ok_or_else(|| invalid("dataAddress.format", "must be parquet, csv or ndjson"))?;
    let table = address.maybe_text("tableName", 64)?.unwrap_or_else(|| table_of(id));
    address.finish()?;
    Ok((table, location, format, None))
}

fn format_of(location: &str) -> Option<&'static str> {
    match location.rsplit_once('.')?.1.to_ascii_lowercase().as_str() {
        "parquet" => Some("parquet"),
        "csv" => Some("csv"),
        "ndjson" | "jsonl" => Some("ndjson"),
        _ => None,
    }
}

/// A table name made of an identifier.
fn table_of(id: &str) -> String {
    let last = id.rsplit([':', '/', '#']).next().unwrap_or(id);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '_' };
    let name: String = last.chars().take(60).map(plain).collect();
    if name.starts_with(|letter: char| letter.is_ascii_lowercase()) { name } else { format!("t_{name}") }
}

fn text(properties: &Map<String, Value>, names: &[&str]) -> Result<Option<String>, Problem> {
    let Some((name, value)) = names.iter().find_map(|name| Some((name, properties.get(*name)?))) else {
        return Ok(None);
    };
    match value.as_str() {
        Some(text) if text.len() <= MAX_TEXT_BYTES => Ok(Some(text.to_owned()).filter(|text| !text.is_empty())),
        _ => Err(invalid(&format!("properties.{name}"), "must be a text of at most 4096 bytes")),
    }
}

fn keywords(properties: &Map<String, Value>) -> Result<Vec<String>, Problem> {
    let found = KEYWORDS.iter().find_map(|name| properties.get(*name));
    let items = match found {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    let word = |item: &Value| item.as_str().filter(|word| !word.is_empty() && word.len() <= 256).map(str::to_owned);
    let words: Option<Vec<String>> = items.iter().map(word).collect();
    words
        .filter(|words| words.len() <= MAX_KEYWORDS)
        .ok_or_else(|| jsonld::invalid("properties.keywords", "must be at most 64 texts of 1 to 256 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asset(body: Value) -> Result<Asset, String> {
        let message = jsonld::read(body).map_err(|problem| problem.detail)?;
        read("urn:x:Rain-2024".to_owned(), message, None).map_err(|problem| problem.detail)
    }

    #[test]
    fn an_asset_comes_back_as_it_was_written() {
        let body = json!({
            "@context": { "@vocab": jsonld::EDC, "dcat": "http://www.w3.org/ns/dcat#" },
            "properties": { "name": "Rain", "dcat:keyword": ["water"], "deep": { "a": [1] } },
            "privateProperties": { "p": true },
            "dataAddress": { "@type": "DataAddress", "type": "AmazonS3", "bucketName": "b", "objectName": "x.parquet" },
        });
        let made = asset(body).unwrap();
        assert_eq!((made.table.as_str(), made.format.as_str()), ("rain_2024", "parquet"));
        assert_eq!((made.title.as_str(), made.keywords.as_slice()), ("Rain", ["water".to_owned()].as_slice()));
        let shown = shown(&made);
        assert_eq!(shown["dataAddress"]["objectName"], "x.parquet");
        assert_eq!(shown["properties"]["deep"], json!({ "a": [1] }));
        let again = read(made.id.clone(), jsonld::read(strip(shown)).unwrap(), None).unwrap();
        assert_eq!((again.properties, again.location), (made.properties, made.location));
    }

    fn strip(mut shown: Value) -> Value {
        shown.as_object_mut().unwrap().remove("@id");
        shown
    }

    #[test]
    fn what_this_node_cannot_serve_is_refused_by_field() {
        let check = |address: Value, wanted: &str| {
            let said = asset(json!({ "properties": {}, "dataAddress": address })).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        };
        check(Value::Null, "`dataAddress`");
        check(json!({ "type": "HttpData", "baseUrl": "http://x" }), "`dataAddress.type`");
        check(json!({ "type": "File" }), "`dataAddress.location`");
        check(json!({ "type": "File", "location": "x.doc" }), "`dataAddress.format`");
        check(json!({ "type": "File", "location": "x.csv", "secretKey": "x" }), "`dataAddress.secretKey` is not known");
    }
}
