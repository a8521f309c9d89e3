//! Contract definitions: which assets are offered under which policy. Each asset so offered is an [`Offer`] of its own,
//! made and withdrawn together with the definition, and for a definition of every asset together with the asset.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Approve, Asset, Change, Holdings, Offer, PolicyRow, check_id};
use crate::clock;
use crate::problem::Problem;
use crate::store::{Batch, Table};

/// Rows read at a time.
const CHUNK: usize = 500;

/// Which assets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Selector {
    /// This one.
    One(String),
    /// These.
    Some(Vec<String>),
    /// Every asset, also those added later.
    All,
}

/// Assets under a policy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Definition {
    /// Identifier.
    pub id: String,
    /// The policy that decides who sees the offers. The contract's own decides by what it says of the caller.
    pub access_policy: String,
    /// The policy of the contracts.
    pub contract_policy: String,
    /// Which assets.
    pub selector: Selector,
    /// The spaces whose members may see the offers.
    #[serde(default)]
    pub spaces: Vec<String>,
    /// Who answers requests.
    #[serde(default = "by_rule")]
    pub approve: Approve,
    /// When it was added.
    #[serde(default)]
    pub issued: String,
    /// Properties for the holder alone.
    #[serde(default)]
    pub private_properties: Map<String, Value>,
}

/// How requests are answered that nothing else is said of.
fn by_rule() -> Approve {
    Approve::Auto
}

impl Definition {
    /// The definition that an offer of one asset is.
    pub fn of(offer: &Offer) -> Self {
        Self {
            id: offer.id.clone(),
            access_policy: offer.access.as_ref().unwrap_or(&offer.policy).clone(),
            contract_policy: offer.policy.clone(),
            selector: Selector::One(offer.asset.clone()),
            spaces: offer.spaces.clone(),
            approve: offer.approve,
            issued: clock::now().to_string(),
            private_properties: Map::new(),
        }
    }

    /// The offer of one of its assets.
    fn offer(&self, asset: &str) -> Offer {
        let (id, definition) = match self.selector {
            Selector::One(_) => (self.id.clone(), None),
            Selector::Some(_) | Selector::All => (self.offer_id(asset), Some(self.id.clone())),
        };
        Offer {
            id,
            asset: asset.to_owned(),
            policy: self.contract_policy.clone(),
            access: (self.access_policy != self.contract_policy).then(|| self.access_policy.clone()),
            spaces: self.spaces.clone(),
            approve: self.approve,
            definition,
        }
    }

    fn offer_id(&self, asset: &str) -> String {
        format!("{}:{asset}", self.id)
    }
}

impl Holdings {
    /// The definition of this id.
    ///
    /// # Errors
    /// 404.
    pub fn definition(&self, id: &str) -> Result<Definition, Problem> {
        self.store.get(Table::Definitions, id)?.ok_or_else(|| Problem::not_found("contract definition", id))
    }

    /// Offers assets under a policy.
    ///
    /// # Errors
    /// 400 naming the field for a policy or asset that does not exist; 409 for an id in use.
    pub async fn add_definition(&self, mut definition: Definition) -> Result<Definition, Problem> {
        check_id("@id", &definition.id)?;
        let _guard = self.changing.lock().await;
        if self.store.get::<Value>(Table::Definitions, &definition.id)?.is_some() {
            return Err(Problem::conflict(format!("there is contract definition `{}` already", definition.id)));
        }
        self.check_definition(&mut definition)?;
        definition.issued = clock::now().to_string();
        let mut change = Change::new("offer", "created", &definition.id);
        self.put_definition(&definition, &mut change)?;
        self.commit(change).await?;
        Ok(definition)
    }

    /// Replaces a definition; contracts already made stay as they are.
    ///
    /// # Errors
    /// 404; 400 and 409 as when adding.
    pub async fn update_definition(&self, mut definition: Definition) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        let known = self.definition(&definition.id)?;
        self.check_definition(&mut definition)?;
        definition.issued.clone_from(&known.issued);
        let mut change = Change::new("offer", "updated", &definition.id);
        self.delete_definition(&known, &mut change)?;
        self.put_definition(&definition, &mut change)?;
        self.commit(change).await
    }

    /// Withdraws the offers of a definition; agreements made from them live on.
    ///
    /// # Errors
    /// 404.
    pub async fn remove_definition(&self, id: &str) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        let known = self.definition(id)?;
        let mut change = Change::new("offer", "deleted", id);
        self.delete_definition(&known, &mut change)?;
        self.commit(change).await
    }

    /// Makes a definition of every offer of an earlier version of this node.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn adopt_offers(&self) -> Result<(), Problem> {
        if self.store.last_key(Table::Definitions)?.is_some() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for offer in self.offers(None, usize::MAX)? {
            batch.put(Table::Definitions, &offer.id, &Definition::of(&offer))?;
        }
        if batch.is_empty() { Ok(()) } else { Ok(self.store.commit(batch).await?) }
    }

    /// Adds the offers of a new asset that definitions of every asset make.
    pub(super) fn offer_everywhere(&self, asset: &str, change: &mut Change) -> Result<(), Problem> {
        for (id, ()) in self.store.list::<()>(Table::DefinitionsOfAll, None, usize::MAX)? {
            let offer = self.definition(&id)?.offer(asset);
            check_id("@id", &offer.id)?;
            change.put_offer(&offer)?;
        }
        Ok(())
    }

    /// Withdraws the offers of an asset that definitions of every asset made; returns the others.
    pub(super) fn withdraw_everywhere(&self, offers: Vec<Offer>, change: &mut Change) -> Result<Vec<Offer>, Problem> {
        let mut kept = Vec::new();
        for offer in offers {
            let definition = offer.definition.as_deref().map(|id| self.definition(id)).transpose()?;
            if definition.is_some_and(|definition| definition.selector == Selector::All) {
                change.delete_offer(&offer);
            } else {
                kept.push(offer);
            }
        }
        Ok(kept)
    }

    /// A definition that uses this policy.
    pub(super) fn definition_with_policy(&self, policy: &str) -> Result<Option<Definition>, Problem> {
        self.find_definition(|definition| definition.access_policy == policy || definition.contract_policy == policy)
    }

    pub(super) fn find_definition(&self, wanted: impl Fn(&Definition) -> bool) -> Result<Option<Definition>, Problem> {
        let mut after: Option<String> = None;
        loop {
            let rows = self.store.list::<Definition>(Table::Definitions, after.as_deref(), CHUNK)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            after = Some(last.clone());
            if let Some((_, found)) = rows.into_iter().find(|(_, definition)| wanted(definition)) {
                return Ok(Some(found));
            }
        }
    }

    /// Checks what a definition names, and settles the spaces of its offers.
    fn check_definition(&self, definition: &mut Definition) -> Result<(), Problem> {
        let policy = |field: &str, id: &str| {
            let row = self.store.get::<PolicyRow>(Table::Policies, id)?;
            row.ok_or_else(|| Problem::invalid(format!("`{field}`: there is no policy definition `{id}`")))
        };
        policy("contractPolicyId", &definition.contract_policy)?;
        let access = policy("accessPolicyId", &definition.access_policy)?;
        if definition.access_policy != definition.contract_policy {
            self.check_access_policy("accessPolicyId", &access)?;
        }
        definition.spaces = self.spaces_for("privateProperties.spaces", &definition.spaces)?;
        let assets: &[String] = match &definition.selector {
            Selector::One(asset) => std::slice::from_ref(asset),
            Selector::Some(assets) => assets,
            Selector::All => &[],
        };
        for asset in assets {
            if self.store.get::<Asset>(Table::Assets, asset)?.is_none() {
                return Err(Problem::invalid(format!("`assetsSelector[0].operandRight`: there is no asset `{asset}`")));
            }
        }
        Ok(())
    }

    fn put_definition(&self, definition: &Definition, change: &mut Change) -> Result<(), Problem> {
        change.batch.put(Table::Definitions, &definition.id, definition)?;
        match &definition.selector {
            Selector::One(asset) => self.put_offer(definition, asset, change),
            Selector::Some(assets) => assets.iter().try_for_each(|asset| self.put_offer(definition, asset, change)),
            Selector::All => {
                change.batch.put(Table::DefinitionsOfAll, &definition.id, &())?;
                let mut after: Option<String> = None;
                loop {
                    let rows = self.store.list::<Asset>(Table::Assets, after.as_deref(), CHUNK)?;
                    let Some((last, _)) = rows.last() else { return Ok(()) };
                    after = Some(last.clone());
                    rows.iter().try_for_each(|(asset, _)| self.put_offer(definition, asset, change))?;
                }
            }
        }
    }

    fn put_offer(&self, definition: &Definition, asset: &str, change: &mut Change) -> Result<(), Problem> {
        let offer = definition.offer(asset);
        check_id("@id", &offer.id)?;
        let taken = self.store.get::<Offer>(Table::Offers, &offer.id)?;
        let is_ours = |known: &Offer| known.id == definition.id || known.definition.as_deref() == Some(&definition.id);
        if taken.is_some_and(|known| !is_ours(&known)) {
            return Err(Problem::conflict(format!("there is offer `{}` already", offer.id)));
        }
        change.put_offer(&offer)
    }

    fn delete_definition(&self, definition: &Definition, change: &mut Change) -> Result<(), Problem> {
        change.batch.delete(Table::Definitions, &definition.id);
        change.batch.delete(Table::DefinitionsOfAll, &definition.id);
        match &definition.selector {
            Selector::One(asset) => change.delete_offer(&definition.offer(asset)),
            Selector::Some(assets) => assets.iter().for_each(|asset| change.delete_offer(&definition.offer(asset))),
            Selector::All => {
                let prefix = definition.offer_id("");
                let mut after = prefix.clone();
                loop {
                    let rows = self.store.list::<Offer>(Table::Offers, Some(&after), CHUNK)?;
                    let Some((last, _)) = rows.last().cloned() else { return Ok(()) };
                    let ours = |(key, offer): &&(String, Offer)| {
                        key.starts_with(&prefix) && offer.definition.as_deref() == Some(&definition.id)
                    };
                    rows.iter().filter(ours).for_each(|(_, offer)| change.delete_offer(offer));
                    if !last.starts_with(&prefix) {
                        return Ok(());
                    }
                    after = last;
                }
            }
        }
        Ok(())
    }
}
