//! Catalogues, datasets and requests for them ("Catalog Protocol").
//!
//! Names for people go under the prefixes of the context (`dct:title`, `dcat:keyword` ...); what DCAT has no word
//! for goes under absolute names of our own, which JSON-LD readers of other connectors carry or ignore.

use serde_json::{Map, Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_catalog::{Dataset, Distribution, Field, Filter, InvalidDataset, OfferRef, Query};

use super::envelope::{CONTEXT, CallbackUrl, MAX_ID_BYTES, open, put, start};
use super::policy::{OfferPart, rules_digest};
use super::reader::{At, DecodeError, Object, Problem};

const FIELDS: &str = "https://w3id.org/shuyu/profile/1#fields";
const PRODUCT_CODE: &str = "https://w3id.org/shuyu/profile/1#productCode";

/// Where the terms of the protocol have their full names.
const NAMESPACE: &str = "https://w3id.org/dspace/2025/1/";

/// Catalog Request Message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogRequest {
    /// Conditions that must all hold; see [`shuyu_catalog::query`].
    pub filters: Vec<Filter>,
}

/// A catalogue, as answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Catalog {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub participant_id: String,
    /// Where negotiations and transfers are begun; at least one.
    pub services: Vec<DataService>,
    /// Its datasets.
    pub entries: Vec<CatalogEntry>,
}

/// Where negotiations and transfers are begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataService {
    /// Its identifier.
    pub id: String,
    /// The base to which the protocol's paths are added.
    pub endpoint_url: CallbackUrl,
}

/// A dataset with the text of its offers.
#[derive(Clone, Debug, PartialEq)]
pub struct CatalogEntry {
    /// The dataset.
    pub dataset: Dataset,
    /// The policies of its offers, in the order of `dataset.offers`, without targets.
    pub policies: Vec<Value>,
}

impl CatalogRequest {
    /// Reads a request. A filter in other words than ours is refused: the binding asks for HTTP 400.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        if let Some(whole) = Self::expanded(value) {
            return whole;
        }
        let message = open(value)?;
        message.need_type("CatalogRequestMessage")?;
        let mut filters = Vec::new();
        for at in message.maybe_items("filter", Query::MAX_FILTERS)? {
            let condition = at.clone().object()?;
            let value = condition.need("value")?;
            let values = if value.value.is_array() { value.items(Query::MAX_VALUES)? } else { vec![value] };
            let texts: Result<Vec<&str>, _> = values.iter().map(|value| value.text(Query::MAX_VALUE_BYTES)).collect();
            let property = condition.text("property", MAX_ID_BYTES)?;
            let filter = Filter::new(property, condition.text("operator", MAX_ID_BYTES)?, &texts?);
            filters.push(filter.map_err(|error| at.error(Problem::Invalid(error.to_string())))?);
        }
        Ok(Self { filters })
    }

    /// A request in expanded JSON-LD, without a context, as some clients send it. Only one without conditions is taken:
    /// their words have no expanded form.
    fn expanded(value: &Value) -> Option<Result<Self, DecodeError>> {
        let members = value.as_object().filter(|members| !members.contains_key("@context"))?;
        let name = |word: &str| format!("{NAMESPACE}{word}");
        if members.get("@type").and_then(Value::as_str) != Some(&name("CatalogRequestMessage")) {
            return None;
        }
        let path = name("filter");
        let is_empty = match members.get(&path) {
            None | Some(Value::Null) => true,
            Some(Value::Object(filter)) => filter.is_empty(),
            Some(Value::Array(filters)) => filters.is_empty(),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
        };
        let problem = Problem::Invalid("conditions need the context of the protocol".to_owned());
        Some(if is_empty { Ok(Self { filters: Vec::new() }) } else { Err(DecodeError { path, problem }) })
    }

    /// A request as JSON, from conditions in words: property, operator, values. One value is written as a text.
    pub fn encode(conditions: &[(&str, &str, &[&str])]) -> Value {
        let condition = |(property, operator, values): &(&str, &str, &[&str])| match values {
            [value] => json!({ "property": property, "operator": operator, "value": value }),
            _ => json!({ "property": property, "operator": operator, "value": values }),
        };
        let filter: Vec<Value> = conditions.iter().map(condition).collect();
        let mut message = start("CatalogRequestMessage", None);
        message.insert("filter".to_owned(), Value::Array(filter));
        Value::Object(message)
    }
}

impl Catalog {
    /// Most datasets read from one answer; a page of ours has at most [`Query::MAX_LIMIT`].
    pub const MAX_ENTRIES: usize = 10_000;
    /// Most services.
    pub const MAX_SERVICES: usize = 64;

    /// Reads a catalogue; catalogues inside it are ignored. `publisher` is the party that answered.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value, publisher: &Did) -> Result<Self, DecodeError> {
        let message = open(value)?;
        message.need_type("Catalog")?;
        let services = message.maybe_items("service", Self::MAX_SERVICES)?;
        let entries = message.maybe_items("dataset", Self::MAX_ENTRIES)?;
        Ok(Self {
            id: message.text("@id", MAX_ID_BYTES)?.to_owned(),
            participant_id: message.text("participantId", Did::MAX_BYTES)?.to_owned(),
            services: services.into_iter().map(DataService::decode).collect::<Result<_, _>>()?,
            entries: entries.into_iter().map(|at| CatalogEntry::read(&at, publisher)).collect::<Result<_, _>>()?,
        })
    }

    /// The catalogue as JSON. An empty list is left out, as the schema asks for at least one item.
    pub fn encode(&self) -> Value {
        let mut message = start("Catalog", Some(&self.id));
        put(&mut message, "participantId", Some(&self.participant_id));
        let service = self.services.first().map(|service| Value::String(service.id.clone()));
        let lists = [
            ("service", self.services.iter().map(DataService::encode).collect::<Vec<_>>()),
            ("dataset", self.entries.iter().map(|entry| entry.write(service.as_ref())).collect()),
        ];
        for (name, items) in lists {
            if !items.is_empty() {
                message.insert(name.to_owned(), Value::Array(items));
            }
        }
        Value::Object(message)
    }
}

impl DataService {
    fn decode(at: At<'_>) -> Result<Self, DecodeError> {
        let service = at.object()?;
        let endpoint_url = service.need("endpointURL")?.parse(CallbackUrl::MAX_BYTES)?;
        Ok(Self { id: service.text("@id", MAX_ID_BYTES)?.to_owned(), endpoint_url })
    }

    fn encode(&self) -> Value {
        json!({ "@id": self.id, "@type": "DataService", "endpointURL": self.endpoint_url.as_str() })
    }
}

impl CatalogEntry {
    /// Reads the answer to a Dataset Request: a dataset with a context. `publisher` is the party that answered.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value, publisher: &Did) -> Result<Self, DecodeError> {
        open(value)?;
        Self::read(&At::new(value), publisher)
    }

    /// The answer to a Dataset Request: the dataset with its service inside.
    pub fn encode(&self, service: &DataService) -> Value {
        let mut value = self.write(Some(&service.encode()));
        if let Value::Object(members) = &mut value {
            members.insert("@context".to_owned(), json!([CONTEXT]));
        }
        value
    }

    fn read(at: &At<'_>, publisher: &Did) -> Result<Self, DecodeError> {
        let entry = at.clone().object()?;
        if let Some(kind) = entry.get("@type").filter(|kind| kind.value != "Dataset") {
            return Err(kind.error(Problem::Unknown("`Dataset`".to_owned())));
        }
        let (mut offers, mut policies) = (Vec::new(), Vec::new());
        for at in entry.need("hasPolicy")?.items(Dataset::MAX_ITEMS)? {
            let OfferPart { id, policy, .. } = OfferPart::decode_in_dataset(&at)?;
            let policy_digest = rules_digest(&policy).map_err(|why| at.error(Problem::Invalid(why.to_string())))?;
            offers.push(OfferRef { id, policy_digest });
            policies.push(policy);
        }
        let mut distributions = Vec::new();
        for at in entry.need("distribution")?.items(Dataset::MAX_ITEMS)? {
            let distribution = at.object()?;
            distribution.need("accessService")?;
            distributions.push(Distribution { format: distribution.text("format", MAX_ID_BYTES)?.to_owned() });
        }
        let id = entry.text("@id", MAX_ID_BYTES)?.to_owned();
        let title = entry.maybe_text("dct:title", Dataset::MAX_NAME_BYTES)?.unwrap_or_else(|| id.clone());
        let dataset = Dataset {
            title,
            id,
            description: entry.maybe_text("dct:description", Dataset::MAX_DESCRIPTION_BYTES)?.unwrap_or_default(),
            keywords: keywords(&entry)?,
            issued: issued(&entry)?,
            publisher: publisher.clone(),
            offers,
            distributions,
            fields: fields(&entry)?,
            product_code: entry.maybe_text(PRODUCT_CODE, Dataset::MAX_NAME_BYTES)?,
        };
        dataset.check().map_err(|why: InvalidDataset| at.error(Problem::Invalid(why.to_string())))?;
        Ok(Self { dataset, policies })
    }

    fn write(&self, service: Option<&Value>) -> Value {
        let dataset = &self.dataset;
        let mut entry = Map::new();
        put(&mut entry, "@id", Some(&dataset.id));
        put(&mut entry, "@type", Some("Dataset"));
        put(&mut entry, "dct:title", Some(&dataset.title));
        put(&mut entry, "dct:description", Some(dataset.description.as_str()).filter(|text| !text.is_empty()));
        put(&mut entry, "dct:issued", Some(&dataset.issued.to_string()));
        put(&mut entry, "dct:publisher", Some(dataset.publisher.as_str()));
        put(&mut entry, PRODUCT_CODE, dataset.product_code.as_deref());
        let distribution = |distribution: &Distribution| json!({ "@type": "Distribution", "format": distribution.format, "accessService": service });
        let field = |field: &Field| json!({ "name": field.name, "type": field.kind });
        let lists = [
            ("dcat:keyword", dataset.keywords.iter().map(|word| json!(word)).collect::<Vec<_>>()),
            (FIELDS, dataset.fields.iter().map(field).collect()),
            ("hasPolicy", self.policies.clone()),
            ("distribution", dataset.distributions.iter().map(distribution).collect()),
        ];
        for (name, items) in lists {
            if !items.is_empty() {
                entry.insert(name.to_owned(), Value::Array(items));
            }
        }
        Value::Object(entry)
    }
}

/// The keywords: a list, or a single text as compacted JSON-LD has it.
fn keywords(entry: &Object<'_>) -> Result<Vec<String>, DecodeError> {
    let Some(at) = entry.get("dcat:keyword") else { return Ok(Vec::new()) };
    let items = if at.value.is_string() { vec![at] } else { at.items(Dataset::MAX_ITEMS)? };
    items.iter().map(|item| item.text(Dataset::MAX_NAME_BYTES).map(str::to_owned)).collect()
}

/// When it was published; the epoch if the other party does not say.
fn issued(entry: &Object<'_>) -> Result<UnixMillis, DecodeError> {
    let Some(at) = entry.get("dct:issued") else { return Ok(UnixMillis(0)) };
    let text = at.text(MAX_ID_BYTES)?;
    UnixMillis::from_rfc3339(text).ok_or_else(|| at.error(Problem::Invalid("not an RFC 3339 time".to_owned())))
}

fn fields(entry: &Object<'_>) -> Result<Vec<Field>, DecodeError> {
    let field = |at: At<'_>| {
        let field = at.object()?;
        let text = |name: &str| field.text(name, Dataset::MAX_NAME_BYTES).map(str::to_owned);
        Ok(Field { name: text("name")?, kind: text("type")? })
    };
    entry.maybe_items(FIELDS, Dataset::MAX_FIELDS)?.into_iter().map(field).collect()
}
