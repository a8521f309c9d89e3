//! The catalogue this node shows to others (DSP 2025-1, "Catalog Protocol").

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, Weak};

use serde_json::Value;
use shuyu_base::{Did, UnixMillis};
use shuyu_catalog::{Catalog as Index, Cursor, Dataset, Distribution, Field, OfferRef, Query};
use shuyu_policy::{DataPlan, Policy, PolicyKind};
use shuyu_wire::dsp::{CallbackUrl, Catalog, CatalogEntry, CatalogRequest, DataService, rules_digest};
use shuyu_wire::odrl;

use crate::claims::space::Viewer;
use crate::clock;
use crate::holdings::{Asset, Holdings, Rule, parse_policy};
use crate::problem::Problem;

/// Entries of a page when the caller names no limit.
const DEFAULT_LIMIT: usize = 100;

/// What is offered, kept ready: an answer reads no row and parses no policy.
pub struct Catalogue {
    own: Did,
    holdings: Holdings,
    service: DataService,
    shown: RwLock<Shown>,
}

#[derive(Default)]
struct Shown {
    index: Index,
    /// The offers of each dataset as they are shown, in the order of its offers in the index.
    offers: HashMap<String, Vec<ShownOffer>>,
    /// Who sees offers, each rule once: an answer tries each at most once, whatever the number of offers.
    rules: HashMap<String, Weak<Rule>>,
}

/// Rules made while changes are taken up, by what they are made of: offers often share a policy.
type MadeRules = HashMap<String, Arc<Rule>>;

/// An offer as it is shown.
struct ShownOffer {
    policy: Value,
    /// The columns that it shows.
    columns: BTreeSet<String>,
    rule: Arc<Rule>,
}

/// A page of the catalogue and where the next one starts.
pub struct Page {
    /// The page.
    pub catalog: Catalog,
    /// The cursor of the next page.
    pub next: Option<Cursor>,
}

impl Catalogue {
    /// The catalogue of `own`, whose protocol root is `root`. Later changes are taken from these holdings and their clones.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open(own: Did, holdings: Holdings, root: CallbackUrl) -> Result<Self, Problem> {
        let service = DataService { id: format!("{own}#dsp"), endpoint_url: root };
        holdings.note_changes(holdings.offered()?);
        let this = Self { own, holdings, service, shown: RwLock::default() };
        drop(this.shown()?);
        Ok(this)
    }

    /// A page of what is offered to this viewer.
    ///
    /// # Errors
    /// 400 for a bad limit or cursor.
    pub fn page(
        &self,
        viewer: &Viewer,
        request: CatalogRequest,
        limit: Option<usize>,
        after: Option<Cursor>,
    ) -> Result<Page, Problem> {
        let bad = |error: &dyn std::error::Error| Problem::invalid(error.to_string());
        let query = Query::new(request.filters, limit.unwrap_or(DEFAULT_LIMIT), after).map_err(|error| bad(&error))?;
        let shown = self.shown()?;
        let sight = Sight::of(&shown, viewer);
        let page = shown.index.search(&query, |dataset| sight.part(dataset)).map_err(|error| bad(&error))?;
        let catalog = Catalog {
            id: format!("{}#catalog", self.own),
            participant_id: self.own.to_string(),
            services: vec![self.service.clone()],
            entries: page.datasets.iter().map(|dataset| sight.entry(dataset)).collect(),
        };
        Ok(Page { catalog, next: page.next })
    }

    /// One dataset as JSON.
    ///
    /// # Errors
    /// 404 if it is not offered to this viewer.
    pub fn dataset(&self, viewer: &Viewer, id: &str) -> Result<Value, Problem> {
        let shown = self.shown()?;
        let sight = Sight::of(&shown, viewer);
        let dataset = shown.index.get(id).and_then(|dataset| sight.part(dataset));
        let dataset = dataset.ok_or_else(|| Problem::not_found("dataset", id))?;
        Ok(sight.entry(&dataset).encode(&self.service))
    }

    /// What is shown, after all changes so far.
    fn shown(&self) -> Result<RwLockReadGuard<'_, Shown>, Problem> {
        if self.holdings.has_changed() {
            // Changes are taken under the lock, so that nobody reads between their taking and their showing.
            let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
            let changed = self.holdings.take_changed();
            let mut made = MadeRules::new();
            shown.rules.retain(|_, rule| 0 < rule.strong_count());
            if let Err(problem) = changed.iter().try_for_each(|id| self.show(&mut shown, id, &mut made)) {
                self.holdings.note_changes(changed);
                return Err(problem);
            }
        }
        Ok(self.shown.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at an asset again. One that cannot be shown is left out, and stops no other.
    fn show(&self, shown: &mut Shown, id: &str, made: &mut MadeRules) -> Result<(), Problem> {
        shown.index.remove(id);
        shown.offers.remove(id);
        let (dataset, offers) = match self.entry(id, &mut shown.rules, made) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(()),
            Err(problem) if problem.status.is_server_error() => return Err(problem),
            Err(problem) => {
                tracing::error!(asset = %id, detail = %problem.detail, "the asset cannot be shown in the catalogue");
                return Ok(());
            }
        };
        match shown.index.insert(dataset) {
            Ok(()) => drop(shown.offers.insert(id.to_owned(), offers)),
            Err(error) => tracing::error!(asset = %id, %error, "the asset cannot be shown in the catalogue"),
        }
        Ok(())
    }

    /// An asset as it is shown, if it is offered.
    fn entry(
        &self,
        id: &str,
        rules: &mut HashMap<String, Weak<Rule>>,
        made: &mut MadeRules,
    ) -> Result<Option<(Dataset, Vec<ShownOffer>)>, Problem> {
        let offers = self.holdings.offers_of(id)?;
        if offers.is_empty() {
            return Ok(None);
        }
        let asset = self.holdings.asset(id)?;
        let (mut found, mut shown) = (Vec::new(), Vec::new());
        for offer in offers {
            let decides = offer.access.as_ref().map_or(("contract", &offer.policy), |access| ("access", access));
            let key = format!("{decides:?} {:?}", offer.spaces);
            let rule = match made.get(&key) {
                Some(rule) => Arc::clone(rule),
                None => shared(rules, self.holdings.rule_of(&offer)?),
            };
            made.insert(key, Arc::clone(&rule));
            let mut policy = parse_policy(&self.holdings.policy(&offer.policy)?.policy)?;
            policy.uid.clone_from(&offer.id);
            policy.kind = PolicyKind::Offer;
            (policy.target, policy.assignee) = (None, None);
            policy.assigner = Some(self.own.clone());
            let json = odrl::to_json(&policy);
            let columns = visible_columns(&asset, &policy);
            let policy_digest = rules_digest(&json).map_err(|error| Problem::invalid(error.to_string()))?;
            found.push(OfferRef { id: offer.id, policy_digest });
            shown.push(ShownOffer { policy: json, columns, rule });
        }
        let columns =
            asset.schema.iter().filter(|column| shown.iter().any(|offer| offer.columns.contains(&column.name)));
        let fields = columns.map(|column| Field { name: column.name.clone(), kind: column.kind.clone() }).collect();
        let formats = self.holdings.formats_of(&asset)?;
        Ok(Some((self.describe(asset, found, fields, formats), shown)))
    }

    fn describe(&self, asset: Asset, offers: Vec<OfferRef>, fields: Vec<Field>, formats: Vec<String>) -> Dataset {
        Dataset {
            id: asset.id,
            title: asset.title,
            description: asset.description,
            keywords: asset.keywords,
            issued: UnixMillis::from_rfc3339(&asset.issued).unwrap_or(UnixMillis(0)),
            publisher: self.own.clone(),
            offers,
            distributions: formats.into_iter().map(|format| Distribution { format }).collect(),
            fields,
            product_code: None,
        }
    }
}

/// The rule of this name that is known already, or this one.
fn shared(rules: &mut HashMap<String, Weak<Rule>>, rule: Rule) -> Arc<Rule> {
    let name = rule.name();
    if let Some(known) = rules.get(&name).and_then(Weak::upgrade) {
        return known;
    }
    let rule = Arc::new(rule);
    rules.insert(name, Arc::downgrade(&rule));
    rule
}

/// What one viewer sees, for the time of one answer.
struct Sight<'a> {
    shown: &'a Shown,
    viewer: &'a Viewer,
    now: UnixMillis,
    /// Rules tried so far, by where they are.
    tried: RefCell<HashMap<*const Rule, bool>>,
}

impl<'a> Sight<'a> {
    fn of(shown: &'a Shown, viewer: &'a Viewer) -> Self {
        Self { shown, viewer, now: clock::now(), tried: RefCell::default() }
    }

    fn admits(&self, rule: &Arc<Rule>) -> bool {
        let mut tried = self.tried.borrow_mut();
        *tried.entry(Arc::as_ptr(rule)).or_insert_with(|| rule.admits(self.viewer, self.now))
    }

    /// The offers of a dataset that the viewer sees.
    fn offers(&self, id: &str) -> impl Iterator<Item = (bool, &'a ShownOffer)> {
        self.shown.offers.get(id).into_iter().flatten().map(|offer| (self.admits(&offer.rule), offer))
    }

    /// A dataset as the viewer sees it; `None` if it sees no offer of it.
    fn part(&self, dataset: &Arc<Dataset>) -> Option<Arc<Dataset>> {
        let seen: Vec<(bool, &ShownOffer)> = self.offers(&dataset.id).collect();
        if seen.iter().all(|(admits, _)| *admits) {
            return (!seen.is_empty()).then(|| Arc::clone(dataset));
        }
        let refs = dataset.offers.iter().zip(&seen).filter(|(_, (admits, _))| *admits);
        let offers: Vec<OfferRef> = refs.map(|(offer, _)| offer.clone()).collect();
        if offers.is_empty() {
            return None;
        }
        let shows = |field: &&Field| seen.iter().any(|(admits, offer)| *admits && offer.columns.contains(&field.name));
        let fields = dataset.fields.iter().filter(shows).cloned().collect();
        Some(Arc::new(Dataset { offers, fields, ..(**dataset).clone() }))
    }

    /// The entry of what [`Sight::part`] gave.
    fn entry(&self, dataset: &Dataset) -> CatalogEntry {
        let seen = self.offers(&dataset.id).filter(|(admits, _)| *admits);
        CatalogEntry { dataset: dataset.clone(), policies: seen.map(|(_, offer)| offer.policy.clone()).collect() }
    }
}

/// The columns that at least one permission of the policy does not deny. A denied column is not named to anyone.
fn visible_columns(asset: &Asset, policy: &Policy) -> BTreeSet<String> {
    let plans: Vec<DataPlan> = policy.permissions.iter().filter_map(|rule| DataPlan::of(rule).ok()).collect();
    let seen = |name: &String| plans.iter().any(|plan| !plan.denied.contains(name));
    asset.schema.iter().map(|column| &column.name).filter(|name| seen(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use shuyu_wire::dsp::CatalogRequest;

    use super::*;
    use crate::holdings::{Approve, Offer};
    use crate::store::Store;

    async fn add(holdings: &Holdings, id: &str, keyword: &str) {
        let asset = json!({
            "id": id, "title": id, "keywords": [keyword], "table": "t", "location": "file:///t.csv", "format": "csv",
            "issued": "2026-11-22T00:00:00.000Z",
        });
        holdings.add_asset(serde_json::from_value(asset).unwrap()).await.unwrap();
        let offer = Offer {
            id: format!("offer-of-{id}"),
            asset: id.to_owned(),
            policy: "open".to_owned(),
            access: None,
            spaces: Vec::new(),
            approve: Approve::Auto,
            definition: None,
        };
        holdings.add_offer(offer).await.unwrap();
    }

    fn request(filter: Value) -> CatalogRequest {
        let context = ["https://w3id.org/dspace/2025/1/context.jsonld"];
        let message = json!({ "@context": context, "@type": "CatalogRequestMessage", "filter": filter });
        CatalogRequest::decode(&message).unwrap()
    }

    fn stranger() -> Viewer {
        Viewer { did: "did:web:stranger.example".parse().unwrap(), standing: None }
    }

    fn all(catalogue: &Catalogue, limit: usize) -> Vec<String> {
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = catalogue.page(&stranger(), request(json!([])), Some(limit), after).unwrap();
            assert!(page.catalog.entries.iter().all(|entry| entry.policies.len() == entry.dataset.offers.len()));
            ids.extend(page.catalog.entries.into_iter().map(|entry| entry.dataset.id));
            match page.next {
                Some(next) => after = Some(next),
                None => return ids,
            }
        }
    }

    #[tokio::test]
    async fn pages_are_complete_and_follow_every_change() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let holdings = Holdings::new(store.clone());
        let policy = json!({
            "@context": ["http://www.w3.org/ns/odrl.jsonld"], "@id": "urn:p", "@type": "Set",
            "profile": "https://w3id.org/shuyu/profile/1", "permission": [{ "action": "use" }],
        });
        let row = serde_json::from_value(json!({ "id": "open", "policy": policy })).unwrap();
        holdings.add_policy(row).await.unwrap();
        let own: Did = "did:web:holder.example".parse().unwrap();
        let root: CallbackUrl = "https://holder.example/dsp/2025-1".parse().unwrap();
        let catalogue = Catalogue::open(own.clone(), holdings.clone(), root.clone()).unwrap();
        assert!(all(&catalogue, 10).is_empty());
        let mut wanted: Vec<String> = (0..60).map(|n| format!("asset-{n:03}")).collect();
        for (n, id) in wanted.iter().enumerate() {
            add(&holdings, id, if n % 20 == 7 { "rare" } else { "common" }).await;
        }
        // An id that another begins with, and a second offer of one asset.
        add(&holdings, "asset-00", "common").await;
        let second = Offer { id: "second".to_owned(), ..holdings.offers_of("asset-003").unwrap().remove(0) };
        holdings.add_offer(second).await.unwrap();
        wanted.insert(0, "asset-00".to_owned());
        for limit in [1, 7, 61, 500] {
            assert_eq!(all(&catalogue, limit), wanted, "{limit}");
        }
        assert_eq!(holdings.offers_of("asset-00").unwrap().len(), 1);
        assert_eq!(catalogue.dataset(&stranger(), "asset-003").unwrap()["hasPolicy"].as_array().map(Vec::len), Some(2));

        holdings.remove_offer("second").await.unwrap();
        assert_eq!(all(&catalogue, 100), wanted, "one offer is left");
        holdings.remove_offer("offer-of-asset-003").await.unwrap();
        wanted.retain(|id| id != "asset-003");
        assert_eq!(all(&catalogue, 100), wanted);
        assert_eq!(catalogue.dataset(&stranger(), "asset-003").unwrap_err().status, axum::http::StatusCode::NOT_FOUND);
        // What a later start finds in the store is the same.
        drop(holdings);
        let again = Catalogue::open(own, Holdings::new(store), root).unwrap();
        assert_eq!(all(&again, 13), wanted);
    }

    /// What a viewer does not see decides nothing: not the page, not a filter, not what is shown of a dataset.
    #[tokio::test]
    async fn hidden_offers_do_not_show_in_any_way() {
        let dir = tempfile::tempdir().unwrap();
        let holdings = Holdings::new(Store::open(dir.path()).unwrap());
        let policy = |constraints: Value| {
            json!({
                "@context": ["http://www.w3.org/ns/odrl.jsonld"], "@id": "urn:p", "@type": "Set",
                "profile": "https://w3id.org/shuyu/profile/1",
                "permission": [{ "action": "use", "constraint": constraints }],
            })
        };
        let constraint = |left: &str, operator: &str, right: &str| json!([{ "leftOperand": left, "operator": operator, "rightOperand": right }]);
        let deny = constraint("https://w3id.org/shuyu/profile/1#columnDeny", "eq", "secret");
        let friend = constraint("recipient", "eq", "did:web:friend.example");
        for (id, constraints) in [("all", json!([])), ("narrow", deny), ("friends", friend)] {
            let row = serde_json::from_value(json!({ "id": id, "policy": policy(constraints) })).unwrap();
            holdings.add_policy(row).await.unwrap();
        }
        let asset = json!({
            "id": "a", "title": "a", "table": "t", "location": "file:///t.csv", "format": "csv",
            "issued": "2026-11-22T00:00:00.000Z",
            "schema": [{ "name": "open", "type": "Int64" }, { "name": "secret", "type": "Int64" }],
        });
        holdings.add_asset(serde_json::from_value(asset).unwrap()).await.unwrap();
        for (id, policy, access) in [("wide", "all", Some("friends")), ("narrow", "narrow", None)] {
            let offer = json!({ "id": id, "asset": "a", "policy": policy, "access": access });
            holdings.add_offer(serde_json::from_value(offer).unwrap()).await.unwrap();
        }
        let root: CallbackUrl = "https://holder.example/dsp/2025-1".parse().unwrap();
        let catalogue = Catalogue::open("did:web:holder.example".parse().unwrap(), holdings.clone(), root).unwrap();
        let friend = Viewer { did: "did:web:friend.example".parse().unwrap(), standing: None };
        let found = |viewer: &Viewer, filter: Value| {
            let page = catalogue.page(viewer, request(filter), None, None).unwrap();
            let of = |entry: &CatalogEntry| {
                let fields: Vec<&str> = entry.dataset.fields.iter().map(|field| field.name.as_str()).collect();
                (entry.policies.len(), entry.dataset.offers.len(), fields.join(" "))
            };
            page.catalog.entries.iter().map(of).collect::<Vec<_>>()
        };
        let by_field = || json!([{ "property": "field", "operator": "=", "value": "secret" }]);
        assert_eq!(found(&friend, json!([])), [(2, 2, "open secret".to_owned())]);
        assert_eq!(found(&friend, by_field()).len(), 1);
        assert_eq!(found(&stranger(), json!([])), [(1, 1, "open".to_owned())]);
        assert!(found(&stranger(), by_field()).is_empty());
        let shown = |viewer: &Viewer| catalogue.dataset(viewer, "a").map(|dataset| dataset.to_string());
        assert!(shown(&friend).unwrap().contains("wide") && !shown(&stranger()).unwrap().contains("wide"));
        // With the other offer gone there is nothing left to see.
        holdings.remove_offer("narrow").await.unwrap();
        let (hidden, none) = (shown(&stranger()).unwrap_err(), catalogue.dataset(&stranger(), "b").unwrap_err());
        assert_eq!((hidden.status, hidden.detail.replace("`a`", "`b`")), (none.status, none.detail));
    }
}
