//! Looking into other nodes' catalogues.

use std::sync::Arc;

use serde_json::{Value, json};
use shuyu_base::Did;
use shuyu_wire::dsp::{Catalog, CatalogEntry, CatalogRequest};
use url::Url;

use crate::dsp_server::NEXT_MEMBER;
use crate::exchange::kinds::path_segment;
use crate::management::chain;
use crate::peers::{PeerError, Peers};
use crate::problem::Problem;

/// Reads catalogues as the node's owner.
#[derive(Clone)]
pub struct Finder {
    peers: Arc<Peers>,
}

impl Finder {
    /// Speaks through `peers`.
    pub fn new(peers: Arc<Peers>) -> Self {
        Self { peers }
    }

    /// One page of a provider's catalogue.
    ///
    /// # Errors
    /// 502 if the provider does not answer with a catalogue.
    pub async fn find(
        &self,
        provider: &Did,
        text: Option<&str>,
        filter: Option<&Value>,
        limit: Option<u32>,
        after: Option<&str>,
    ) -> Result<Value, Problem> {
        let mut conditions: Vec<Value> = filter.and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(text) = text {
            conditions.push(json!({ "property": "text", "operator": "contains", "value": text }));
        }
        let (page, next) = self.catalog(provider, conditions, limit, after).await?;
        let items: Vec<Value> = page.entries.iter().map(item).collect();
        Ok(json!({ "provider": provider.as_str(), "items": items, "next": next }))
    }

    /// One page of a provider's catalogue as it is, and the cursor of the next one.
    ///
    /// # Errors
    /// 502 if the provider does not answer with a catalogue.
    pub async fn catalog(
        &self,
        provider: &Did,
        conditions: Vec<Value>,
        limit: Option<u32>,
        after: Option<&str>,
    ) -> Result<(Catalog, Option<String>), Problem> {
        let root = self.root(provider).await?;
        let mut request = CatalogRequest::encode(&[]);
        if let Some(members) = request.as_object_mut() {
            members.insert("filter".to_owned(), Value::Array(conditions));
        }
        let mut url =
            Url::parse(&format!("{root}/catalog/request")).map_err(|error| Problem::peer(error.to_string()))?;
        if let Some(limit) = limit {
            url.query_pairs_mut().append_pair("limit", &limit.to_string());
        }
        if let Some(after) = after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let answer =
            self.peers.post(provider, url.as_str(), &request).await.map_err(|error| Problem::peer(chain(&error)))?;
        let page = Catalog::decode(&answer, provider)
            .map_err(|error| Problem::peer(format!("the catalogue of `{provider}` is not understood: {error}")))?;
        if page.participant_id != provider.as_str() {
            return Err(Problem::peer(format!("the catalogue says it is of `{}`", page.participant_id)));
        }
        let next = answer.get(NEXT_MEMBER).and_then(Value::as_str).map(str::to_owned);
        Ok((page, next))
    }

    /// One dataset of a provider.
    ///
    /// # Errors
    /// 404 if the provider does not show it to us; 502 if it answers with something else.
    pub async fn dataset(&self, provider: &Did, dataset: &str) -> Result<CatalogEntry, Problem> {
        let root = self.root(provider).await?;
        let url = format!("{root}/catalog/datasets/{}", path_segment(dataset));
        let answer = self.peers.ask(provider, &url).await.map_err(|error| {
            if matches!(error, PeerError::Refused { status: 404, .. }) {
                return Problem::not_found("dataset", dataset);
            }
            Problem::peer(chain(&error))
        })?;
        CatalogEntry::decode(&answer, provider)
            .map_err(|error| Problem::peer(format!("the dataset of `{provider}` is not understood: {error}")))
    }

    /// The root of a provider's protocol binding.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn protocol_root(&self, provider: &Did) -> Result<String, PeerError> {
        self.peers.dsp_root(provider).await
    }

    /// The terms of one offer.
    ///
    /// # Errors
    /// 404 if the provider does not show it to us.
    pub async fn offer(&self, provider: &Did, dataset: &str, offer: &str) -> Result<Value, Problem> {
        let entry = self.dataset(provider, dataset).await?;
        let found = entry.dataset.offers.iter().zip(entry.policies).find(|(found, _)| found.id == offer);
        found.map(|(_, policy)| policy).ok_or_else(|| Problem::not_found("offer", offer))
    }

    async fn root(&self, provider: &Did) -> Result<String, Problem> {
        self.peers
            .dsp_root(provider)
            .await
            .map_err(|error| Problem::peer(chain(&error)).hint("is the provider's node up, and its DID right?"))
    }
}

/// A catalogue entry as the management API shows it.
fn item(entry: &CatalogEntry) -> Value {
    let dataset = &entry.dataset;
    let offers: Vec<Value> = dataset
        .offers
        .iter()
        .zip(&entry.policies)
        .map(|(offer, policy)| json!({ "id": offer.id, "policy": policy }))
        .collect();
    let schema: Vec<Value> =
        dataset.fields.iter().map(|field| json!({ "name": field.name, "type": field.kind })).collect();
    let formats: Vec<&str> = dataset.distributions.iter().map(|distribution| distribution.format.as_str()).collect();
    json!({
        "id": dataset.id, "title": dataset.title, "description": dataset.description, "keywords": dataset.keywords,
        "issued": dataset.issued.to_string(), "formats": formats, "schema": schema, "offers": offers,
    })
}
