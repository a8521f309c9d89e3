//! Changing what is on the shelf, without changing what was agreed.

use std::collections::BTreeSet;

use super::{Asset, Change, Holdings, Offer, PolicyRow, check_text, checked_policy, parse_policy};
use crate::problem::Problem;
use crate::store::Table;

/// Offers read at a time.
const CHUNK: usize = 500;

impl Holdings {
    /// Describes an asset anew. Where its data is stays as it is: contracts are about that data.
    ///
    /// # Errors
    /// 404; 409 if table, location or format differ.
    pub async fn update_asset(&self, asset: Asset) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        let known = self.asset(&asset.id)?;
        check_text("title", &asset.title, 256)?;
        if (&known.table, &known.location, &known.format) != (&asset.table, &asset.location, &asset.format) {
            return Err(Problem::conflict(format!("`dataAddress` of asset `{}` cannot be changed", asset.id))
                .hint("remove the asset and add another; contracts are about the data they were made for"));
        }
        let mut change = Change::new("asset", "updated", &asset.id);
        let row = Asset { schema: known.schema, arrow_schema: known.arrow_schema, issued: known.issued, ..asset };
        change.batch.put(Table::Assets, &row.id, &row)?;
        change.assets.insert(row.id);
        self.commit(change).await
    }

    /// Writes a policy anew; contracts already made keep the terms they were made with.
    ///
    /// # Errors
    /// 404; 409 if it decides who sees an offer and could no longer; 422 as when adding.
    pub async fn update_policy(&self, row: PolicyRow) -> Result<Vec<String>, Problem> {
        let _guard = self.changing.lock().await;
        let known = self.policy(&row.id)?;
        let words = checked_policy(&row.policy)?;
        self.check_credentials(&parse_policy(&row.policy)?)?;
        self.check_still_access(&row)?;
        let mut change = Change::new("policy", "updated", &row.id);
        let row = PolicyRow { issued: known.issued, ..row };
        change.batch.put(Table::Policies, &row.id, &row)?;
        change.assets = self.assets_under(&row.id)?;
        self.commit(change).await?;
        Ok(words)
    }

    /// The assets that are offered under a policy.
    fn assets_under(&self, policy: &str) -> Result<BTreeSet<String>, Problem> {
        let (mut assets, mut after) = (BTreeSet::new(), None::<String>);
        loop {
            let offers = self.offers(after.as_deref(), CHUNK)?;
            let Some(last) = offers.last() else { return Ok(assets) };
            after = Some(last.id.clone());
            let uses = |offer: &Offer| offer.policy == policy || offer.access.as_deref() == Some(policy);
            assets.extend(offers.into_iter().filter(uses).map(|offer| offer.asset));
        }
    }
}
