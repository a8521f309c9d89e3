//! The catalogue this node shows to others (DSP 2025-1, "Catalog Protocol").

use std::collections::BTreeSet;

use shuyu_base::{Did, UnixMillis};
use shuyu_catalog::{Catalog as Index, Cursor, Dataset, Distribution, Field, OfferRef, Query};
use shuyu_policy::{DataPlan, Policy, PolicyKind};
use shuyu_wire::dsp::{CallbackUrl, Catalog, CatalogEntry, CatalogRequest, DataService, rules_digest};
use shuyu_wire::odrl;

use crate::exchange::handover::Format;
use crate::holdings::{Asset, Holdings, parse_policy};
use crate::problem::Problem;

/// Entries of a page when the caller names no limit.
const DEFAULT_LIMIT: usize = 100;

/// Answers from the holder's shelf.
pub struct Catalogue {
    own: Did,
    holdings: Holdings,
    service: DataService,
}

/// A page of the catalogue and where the next one starts.
pub struct Page {
    /// The page.
    pub catalog: Catalog,
    /// The cursor of the next page.
    pub next: Option<Cursor>,
}

impl Catalogue {
    /// The catalogue of `own`, whose protocol root is `root`.
    pub fn new(own: Did, holdings: Holdings, root: CallbackUrl) -> Self {
        let service = DataService { id: format!("{own}#dsp"), endpoint_url: root };
        Self { own, holdings, service }
    }

    /// A page of what is offered.
    ///
    /// # Errors
    /// 400 for a bad limit or cursor.
    pub fn page(&self, request: CatalogRequest, limit: Option<usize>, after: Option<Cursor>) -> Result<Page, Problem> {
        let bad = |error: &dyn std::error::Error| Problem::invalid(error.to_string());
        let query = Query::new(request.filters, limit.unwrap_or(DEFAULT_LIMIT), after).map_err(|error| bad(&error))?;
        let entries = self.entries()?;
        let mut index = Index::default();
        for entry in &entries {
            index.insert(entry.dataset.clone()).map_err(|error| bad(&error))?;
        }
        let page = index.search(&query, |_| true).map_err(|error| bad(&error))?;
        let wanted = |entry: &CatalogEntry| page.datasets.iter().any(|dataset| dataset.id == entry.dataset.id);
        let catalog = Catalog {
            id: format!("{}#catalog", self.own),
            participant_id: self.own.to_string(),
            services: vec![self.service.clone()],
            entries: entries.into_iter().filter(wanted).collect(),
        };
        Ok(Page { catalog, next: page.next })
    }

    /// One dataset as JSON.
    ///
    /// # Errors
    /// 404 if it is not offered.
    pub fn dataset(&self, id: &str) -> Result<serde_json::Value, Problem> {
        let entry = self.entries()?.into_iter().find(|entry| entry.dataset.id == id);
        entry.map(|entry| entry.encode(&self.service)).ok_or_else(|| Problem::not_found("dataset", id))
    }

    fn entries(&self) -> Result<Vec<CatalogEntry>, Problem> {
        let offers = self.holdings.offers()?;
        let mut entries = Vec::new();
        for asset in self.holdings.assets()? {
            let (mut found, mut policies) = (Vec::new(), Vec::new());
            let mut shown = BTreeSet::new();
            for offer in offers.iter().filter(|offer| offer.asset == asset.id) {
                let mut policy = parse_policy(&self.holdings.policy(&offer.policy)?.policy)?;
                policy.uid.clone_from(&offer.id);
                policy.kind = PolicyKind::Offer;
                (policy.target, policy.assignee) = (None, None);
                policy.assigner = Some(self.own.clone());
                let json = odrl::to_json(&policy);
                shown.extend(visible_columns(&asset, &policy));
                let policy_digest = rules_digest(&json).map_err(|error| Problem::invalid(error.to_string()))?;
                found.push(OfferRef { id: offer.id.clone(), policy_digest });
                policies.push(json);
            }
            if !found.is_empty() {
                let columns = asset.schema.iter().filter(|column| shown.contains(&column.name));
                let fields =
                    columns.map(|column| Field { name: column.name.clone(), kind: column.kind.clone() }).collect();
                entries.push(CatalogEntry { dataset: self.describe(asset, found, fields), policies });
            }
        }
        Ok(entries)
    }

    fn describe(&self, asset: Asset, offers: Vec<OfferRef>, fields: Vec<Field>) -> Dataset {
        Dataset {
            id: asset.id,
            title: asset.title,
            description: asset.description,
            keywords: asset.keywords,
            issued: UnixMillis::from_rfc3339(&asset.issued).unwrap_or(UnixMillis(0)),
            publisher: self.own.clone(),
            offers,
            distributions: Format::ALL.iter().map(|format| Distribution { format: format.name().to_owned() }).collect(),
            fields,
            product_code: None,
        }
    }
}

/// The columns that at least one permission of the policy does not deny. A denied column is not named to anyone.
fn visible_columns(asset: &Asset, policy: &Policy) -> BTreeSet<String> {
    let plans: Vec<DataPlan> = policy.permissions.iter().filter_map(|rule| DataPlan::of(rule).ok()).collect();
    let seen = |name: &String| plans.iter().any(|plan| !plan.denied.contains(name));
    asset.schema.iter().map(|column| &column.name).filter(|name| seen(name)).cloned().collect()
}
