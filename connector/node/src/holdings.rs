//! What a holder has and offers: assets, policies and offers, with references that cannot dangle.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shuyu_data_plane::{ParseFormError, TableSource, schema_from_bytes};
use shuyu_policy::{Finding, Policy, Severity};
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::agreements::{AgreementRow, Held, Side};
use crate::clock;
use crate::event_log::Recording;
use crate::events::Events;
use crate::exchange::handover::Format;
use crate::problem::Problem;
use crate::signaling::DataPlane;
use crate::store::{Batch, Store, Table};

mod access;
mod change;
mod definitions;

pub use access::{Rule, Spaced};
pub use definitions::{Definition, Selector};

/// A table that the holder can offer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Asset {
    /// Identifier in the catalogue: a product code, a URI or a short name.
    pub id: String,
    /// A title for people.
    pub title: String,
    /// What it is.
    #[serde(default)]
    pub description: String,
    /// Words to find it by.
    #[serde(default)]
    pub keywords: Vec<String>,
    /// Name of the table in queries.
    pub table: String,
    /// Path or object store URL; known only to the holder.
    pub location: String,
    /// `parquet`, `csv` or `ndjson`.
    pub format: String,
    /// Columns as read when the asset was added.
    #[serde(default)]
    pub schema: Vec<Column>,
    /// The same columns as an Arrow schema in base64, so that hidden rows cannot change what is guessed of a CSV.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arrow_schema: String,
    /// When it was added.
    #[serde(default)]
    pub issued: String,
    /// Properties shown to others that have no place of their own here, as the holder wrote them.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// Properties for the holder alone.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub private_properties: Map<String, Value>,
    /// The foreign data plane that serves it; this node does if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_plane: Option<ServedBy>,
}

/// That a foreign data plane serves an asset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBy {
    /// The data plane.
    pub id: String,
    /// What it is told with every flow, so that it finds the data.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

impl ServedBy {
    /// What such an asset has for the format of a table.
    pub const FORMAT: &str = "dataplane";

    /// What such an asset has for the location of a table.
    pub fn location(&self) -> String {
        format!("dataplane://{}", self.id)
    }
}

impl Asset {
    /// Where the table is, with its columns pinned.
    ///
    /// # Errors
    /// When the row is damaged.
    pub fn source(&self) -> Result<TableSource, Problem> {
        let bad = |field: &str, error: String| Problem::invalid(format!("`{field}`: {error}"));
        if let Some(plane) = &self.data_plane {
            return Err(Problem::invalid(format!("the foreign data plane `{}` serves this asset", plane.id)));
        }
        let bytes = STANDARD.decode(&self.arrow_schema).map_err(|error| bad("arrow_schema", error.to_string()))?;
        let schema = match bytes.as_slice() {
            [] => None,
            bytes => Some(schema_from_bytes(bytes).map_err(|error| bad("arrow_schema", error.to_string()))?),
        };
        Ok(TableSource {
            name: self.table.clone(),
            location: Url::parse(&self.location).map_err(|error| bad("location", error.to_string()))?,
            format: self.format.parse().map_err(|error: ParseFormError| bad("format", error.to_string()))?,
            schema,
        })
    }
}

/// A column of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Arrow type as text.
    #[serde(rename = "type")]
    pub kind: String,
}

/// A policy of the holder as it was written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicyRow {
    /// Identifier.
    pub id: String,
    /// ODRL JSON-LD.
    pub policy: Value,
    /// When it was added.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub issued: String,
    /// Properties for the holder alone.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub private_properties: Map<String, Value>,
}

/// Who answers the other party.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approve {
    /// The rules of the holder.
    #[default]
    Auto,
    /// A person decides on the terms; what follows from a yes is said by rule.
    Manual,
    /// A person, or a program at the management API, says every word: agreement, verification, finalization, and the
    /// start of every transfer under the contract.
    EachStep,
}

impl Approve {
    /// Whether what follows from a yes is said by rule.
    pub fn goes_on_by_rule(self) -> bool {
        match self {
            Self::Auto | Self::Manual => true,
            Self::EachStep => false,
        }
    }
}

/// An asset under a policy (EDC: contract definition).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Offer {
    /// Identifier.
    #[serde(default)]
    pub id: String,
    /// The asset's id.
    pub asset: String,
    /// The policy's id.
    pub policy: String,
    /// Id of the policy that decides who sees it; absent, what `policy` says of the caller decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
    /// The spaces whose members may see it. Absent on a node of one space it is that one; a node of several wants them
    /// named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<String>,
    /// Who answers requests.
    #[serde(default)]
    pub approve: Approve,
    /// The definition of several assets that it belongs to; one of its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<String>,
}

/// The holder's shelf. Clones share what they know of changes.
#[derive(Clone)]
pub struct Holdings {
    store: Store,
    /// Assets whose offers have changed and that [`Holdings::take_changed`] has not given yet.
    changed: Arc<Mutex<BTreeSet<String>>>,
    events: Option<Events>,
    /// One change at a time, so that what was looked up still holds when it is written.
    changing: Arc<AsyncMutex<()>>,
    spaced: Spaced,
}

impl Holdings {
    /// Over the node's store.
    pub fn new(store: Store) -> Self {
        Self { store, changed: Arc::default(), events: None, changing: Arc::default(), spaced: Spaced::default() }
    }

    /// The same shelf; what changes on it is told.
    #[must_use]
    pub fn telling(mut self, events: Events) -> Self {
        self.events = Some(events);
        self
    }

    fn changed(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether offers of some asset have changed since [`Holdings::take_changed`].
    pub fn has_changed(&self) -> bool {
        !self.changed().is_empty()
    }

    /// Assets whose offers have changed since the last call, each once.
    pub fn take_changed(&self) -> BTreeSet<String> {
        std::mem::take(&mut *self.changed())
    }

    /// Adds to what [`Holdings::take_changed`] gives next.
    pub fn note_changes(&self, assets: BTreeSet<String>) {
        self.changed().extend(assets);
    }

    /// Adds or replaces nothing: an id is taken once.
    ///
    /// # Errors
    /// 400 for a bad field, 409 for an id or table name in use.
    pub async fn add_asset(&self, asset: Asset) -> Result<Asset, Problem> {
        check_id("id", &asset.id)?;
        check_text("title", &asset.title, 256)?;
        check_table(&asset.table)?;
        let _guard = self.changing.lock().await;
        let mut change = Change::new("asset", "created", &asset.id);
        self.offer_everywhere(&asset.id, &mut change)?;
        self.insert(Table::Assets, &asset, change).await?;
        Ok(asset)
    }

    /// Adds a policy after checking it; the findings that do not refuse it are returned.
    ///
    /// # Errors
    /// 422 with an explanation for unknown or unenforceable terms.
    pub async fn add_policy(&self, mut row: PolicyRow) -> Result<Vec<String>, Problem> {
        check_id("id", &row.id)?;
        let words = checked_policy(&row.policy)?;
        self.check_credentials(&parse_policy(&row.policy)?)?;
        row.issued = clock::now().to_string();
        let _guard = self.changing.lock().await;
        self.insert(Table::Policies, &row, Change::new("policy", "created", &row.id)).await?;
        Ok(words)
    }

    /// Offers an asset under a policy.
    ///
    /// # Errors
    /// 400 if the asset or the policy does not exist.
    pub async fn add_offer(&self, mut offer: Offer) -> Result<Offer, Problem> {
        if offer.id.is_empty() {
            offer.id = format!("offer-{}", uuid::Uuid::new_v4());
        }
        check_id("id", &offer.id)?;
        let _guard = self.changing.lock().await;
        if self.store.get::<Asset>(Table::Assets, &offer.asset)?.is_none() {
            return Err(Problem::invalid(format!("`asset`: there is no asset `{}`", offer.asset)));
        }
        self.known_policy("policy", &offer.policy)?;
        offer.access = offer.access.filter(|access| *access != offer.policy);
        if let Some(access) = &offer.access {
            self.check_access_policy("access", &self.known_policy("access", access)?)?;
        }
        offer.spaces = self.spaces_for("spaces", &offer.spaces)?;
        if self.store.get::<Value>(Table::Offers, &offer.id)?.is_some() {
            return Err(Problem::conflict(format!("there is offer `{}` already", offer.id)));
        }
        offer.definition = None;
        let mut change = Change::new("offer", "created", &offer.id);
        change.batch.put(Table::Definitions, &offer.id, &Definition::of(&offer))?;
        change.put_offer(&offer)?;
        self.commit(change).await?;
        Ok(offer)
    }

    /// The asset of this id.
    ///
    /// # Errors
    /// 404.
    pub fn asset(&self, id: &str) -> Result<Asset, Problem> {
        self.store.get(Table::Assets, id)?.ok_or_else(|| Problem::not_found("asset", id))
    }

    /// The formats in which an asset is handed over.
    ///
    /// # Errors
    /// 400 if its foreign data plane is not registered.
    pub fn formats_of(&self, asset: &Asset) -> Result<Vec<String>, Problem> {
        let Some(served) = &asset.data_plane else { return Ok(Format::OWN.map(str::to_owned).to_vec()) };
        let plane: Option<DataPlane> = self.store.get(Table::DataPlanes, &served.id)?;
        let none = || Problem::invalid(format!("`dataplaneId`: there is no data plane `{}`", served.id));
        plane.map(|plane| plane.profiles).ok_or_else(none)
    }

    /// Notes that what a foreign data plane serves is handed over in other ways now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn note_served_by(&self, plane: &str) -> Result<(), Problem> {
        let mut after: Option<String> = None;
        loop {
            let assets = self.assets(after.as_deref(), 500)?;
            let Some(last) = assets.last() else { return Ok(()) };
            after = Some(last.id.clone());
            let is_served = |asset: &Asset| asset.data_plane.as_ref().is_some_and(|served| served.id == plane);
            self.note_changes(assets.into_iter().filter(is_served).map(|asset| asset.id).collect());
        }
    }

    /// The policy of this id.
    ///
    /// # Errors
    /// 404.
    pub fn policy(&self, id: &str) -> Result<PolicyRow, Problem> {
        self.store.get(Table::Policies, id)?.ok_or_else(|| Problem::not_found("policy", id))
    }

    /// The offer of this id.
    ///
    /// # Errors
    /// 404.
    pub fn offer(&self, id: &str) -> Result<Offer, Problem> {
        self.store.get(Table::Offers, id)?.ok_or_else(|| Problem::not_found("offer", id))
    }

    /// Up to `limit` assets in order of id, from the one after `after` on.
    ///
    /// # Errors
    /// When the store fails.
    pub fn assets(&self, after: Option<&str>, limit: usize) -> Result<Vec<Asset>, Problem> {
        self.rows(Table::Assets, after, limit)
    }

    /// Up to `limit` policies in order of id, from the one after `after` on.
    ///
    /// # Errors
    /// When the store fails.
    pub fn policies(&self, after: Option<&str>, limit: usize) -> Result<Vec<PolicyRow>, Problem> {
        self.rows(Table::Policies, after, limit)
    }

    /// Up to `limit` offers in order of id, from the one after `after` on.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offers(&self, after: Option<&str>, limit: usize) -> Result<Vec<Offer>, Problem> {
        self.rows(Table::Offers, after, limit)
    }

    /// The offers of one asset.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offers_of(&self, asset: &str) -> Result<Vec<Offer>, Problem> {
        let ids = self.store.keys_after(Table::OffersByAsset, &format!("{asset} "))?;
        let offers = ids.iter().filter_map(|id| self.store.get(Table::Offers, id).transpose());
        Ok(offers.collect::<Result<_, _>>()?)
    }

    /// The assets that are offered, in order of id.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offered(&self) -> Result<BTreeSet<String>, Problem> {
        let places = self.store.keys_after(Table::OffersByAsset, "")?;
        Ok(places.iter().filter_map(|place| place.split(' ').next().map(str::to_owned)).collect())
    }

    /// Removes an asset that no offer names.
    ///
    /// # Errors
    /// 404, or 409 naming the offer.
    pub async fn remove_asset(&self, id: &str) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        self.asset(id)?;
        let mut change = Change::new("asset", "deleted", id);
        let kept = self.withdraw_everywhere(self.offers_of(id)?, &mut change)?;
        if let Some(offer) = kept.first() {
            return Err(Problem::conflict(format!("asset `{id}` is offered by `{}`", offer.id))
                .hint("remove the offer first; contracts already made stay as they are"));
        }
        // A later asset of the same id must not appear under an old contract.
        let contracts = self.store.list::<AgreementRow>(Table::Agreements, None, usize::MAX)?;
        let held = |row: &AgreementRow| row.role == Side::Provider && row.held != Held::Terminated && row.asset == id;
        if let Some((contract, _)) = contracts.into_iter().find(|(_, row)| held(row)) {
            return Err(
                Problem::conflict(format!("contract `{contract}` is about asset `{id}`")).hint("revoke it first")
            );
        }
        change.batch.delete(Table::Assets, id);
        self.commit(change).await
    }

    /// Removes a policy that no offer names.
    ///
    /// # Errors
    /// 404, or 409 naming the offer.
    pub async fn remove_policy(&self, id: &str) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        self.policy(id)?;
        if let Some(user) = self.definition_with_policy(id)? {
            return Err(Problem::conflict(format!("policy `{id}` is used by offer `{}`", user.id)));
        }
        let mut change = Change::new("policy", "deleted", id);
        change.batch.delete(Table::Policies, id);
        self.commit(change).await
    }

    /// Withdraws an offer; agreements made from it live on.
    ///
    /// # Errors
    /// 404.
    pub async fn remove_offer(&self, id: &str) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        let offer = self.offer(id)?;
        if let Some(definition) = offer.definition {
            return Err(Problem::conflict(format!("the offer belongs to the contract definition `{definition}`"))
                .hint("change or remove the definition"));
        }
        let mut change = Change::new("offer", "deleted", id);
        change.batch.delete(Table::Definitions, id);
        change.delete_offer(&offer);
        self.commit(change).await
    }

    fn rows<T: DeserializeOwned>(&self, table: Table, after: Option<&str>, limit: usize) -> Result<Vec<T>, Problem> {
        Ok(self.store.list(table, after, limit)?.into_iter().map(|(_, row)| row).collect())
    }

    async fn insert<T: Serialize>(&self, table: Table, row: &T, mut change: Change) -> Result<(), Problem> {
        if self.store.get::<Value>(table, &change.id)?.is_some() {
            return Err(Problem::conflict(format!("there is {} `{}` already", change.what, change.id)));
        }
        change.batch.put(table, &change.id, row)?;
        self.commit(change).await
    }

    /// Makes a change durable and tells of it.
    async fn commit(&self, mut change: Change) -> Result<(), Problem> {
        let _told = self.told(&mut change)?;
        self.store.commit(change.batch).await?;
        self.changed().extend(change.assets);
        Ok(())
    }

    /// Adds what happened to the batch, in the words of the field.
    fn told(&self, change: &mut Change) -> Result<Option<Recording>, Problem> {
        let Some(events) = &self.events else { return Ok(None) };
        let noun = match change.what {
            "policy" => "policy.definition",
            "offer" => "contract.definition",
            other => other,
        };
        let (kind, data) = (format!("{noun}.{}", change.verb), json!({ "@id": change.id }));
        Ok(Some(events.record(&mut change.batch, &kind, &change.id, data)?))
    }
}

/// A change of the shelf that is being put together.
struct Change {
    what: &'static str,
    verb: &'static str,
    id: String,
    batch: Batch,
    /// Assets that look different afterwards.
    assets: BTreeSet<String>,
}

impl Change {
    fn new(what: &'static str, verb: &'static str, id: &str) -> Self {
        Self { what, verb, id: id.to_owned(), batch: Batch::default(), assets: BTreeSet::new() }
    }

    fn put_offer(&mut self, offer: &Offer) -> Result<(), Problem> {
        self.batch.put(Table::Offers, &offer.id, offer)?;
        self.batch.put(Table::OffersByAsset, &place(offer), &())?;
        self.assets.insert(offer.asset.clone());
        Ok(())
    }

    fn delete_offer(&mut self, offer: &Offer) {
        self.batch.delete(Table::Offers, &offer.id);
        self.batch.delete(Table::OffersByAsset, &place(offer));
        self.assets.insert(offer.asset.clone());
    }
}

/// Where an offer is among those of its asset. Identifiers have no white space.
fn place(offer: &Offer) -> String {
    format!("{} {}", offer.asset, offer.id)
}

/// Checks a policy as it will be enforced; the findings that do not refuse it.
///
/// # Errors
/// 422 with an explanation for unknown or unenforceable terms.
pub fn checked_policy(json: &Value) -> Result<Vec<String>, Problem> {
    let findings = shuyu_policy::check(&parse_policy(json)?);
    let words = findings.iter().map(described).collect::<Vec<_>>();
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Err(Problem::refused("the policy cannot be enforced as written", words)
            .hint("`shuyu policy check FILE` explains each finding"));
    }
    Ok(words)
}

/// Reads ODRL JSON, naming the term that is not understood.
///
/// # Errors
/// 422 with the path and the term.
pub fn parse_policy(json: &Value) -> Result<Policy, Problem> {
    shuyu_wire::odrl::from_json(json).map_err(|error| {
        Problem::refused(format!("the policy is not understood: {error}"), vec![error.to_string()])
            .hint("docs/profile lists every term that can be used")
    })
}

/// A finding in one line.
fn described(finding: &Finding) -> String {
    format!("`{}`: {} ({})", finding.path, finding.what, finding.hint)
}

/// Identifiers of people's own choosing: 1 to 256 visible ASCII characters.
fn check_id(field: &str, id: &str) -> Result<(), Problem> {
    if id.is_empty() || 256 < id.len() || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Problem::invalid(format!("`{field}` must be 1 to 256 visible ASCII characters")));
    }
    Ok(())
}

fn check_text(field: &str, text: &str, max_bytes: usize) -> Result<(), Problem> {
    if text.is_empty() || max_bytes < text.len() {
        return Err(Problem::invalid(format!("`{field}` must be 1 to {max_bytes} bytes")));
    }
    Ok(())
}

fn check_table(name: &str) -> Result<(), Problem> {
    let first_ok = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let rest_ok = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !first_ok || !rest_ok || 64 < name.len() {
        return Err(Problem::invalid("`table` must be 1 to 64 characters a-z, 0-9, _ and not start with a digit"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_has_three_names_and_a_default_for_older_rows() {
        for (name, approve) in [("auto", Approve::Auto), ("manual", Approve::Manual), ("each-step", Approve::EachStep)]
        {
            assert_eq!(serde_json::to_value(approve).unwrap(), name);
            assert_eq!(serde_json::from_value::<Approve>(name.into()).unwrap(), approve);
        }
        let older = serde_json::json!({
            "id": "urn:uuid:1", "role": "provider", "peer": "did:web:a.example", "asset": "weather", "policy": {},
            "signed_at": "2026-11-22T08:00:00Z", "negotiation": "urn:uuid:2", "held": "active",
        });
        assert_eq!(serde_json::from_value::<AgreementRow>(older).unwrap().answers, Approve::Auto);
    }
}
