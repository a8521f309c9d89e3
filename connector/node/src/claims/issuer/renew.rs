//! Issuing anew before the end, and forgetting what is long over.

use std::collections::{BTreeSet, HashMap};
use std::sync::PoisonError;
use std::time::Duration;

use shuyu_base::UnixMillis;
use shuyu_credentials::Profile;

use super::evidence::Deed;
use super::row::{Definition, Delivery, IssuedRow, Payload, RequestRow, RequestState};
use super::{Issuer, NEXT_INDEX};
use crate::clock;
use crate::problem::Problem;
use crate::store::{Batch, Table};

/// Pause before a renewal is tried again that failed, in milliseconds.
const RENEW_AGAIN_MS: i64 = 600_000;
/// Longest sleep; clocks of a machine may be set meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// How long a settled request, and an expired credential, is kept for the operator to look at, in milliseconds: 90 days.
const KEPT_MS: i64 = 90 * 86_400_000;
/// Most settled requests kept, the newest ones.
const MAX_SETTLED: usize = 10_000;
/// How often what is over is looked for.
const PRUNE_EVERY_MS: i64 = 3_600_000;

impl Issuer {
    /// Renews each credential when it is due, and prunes now and then, until the node stops. It sleeps until the next
    /// credential is due, and wakes when a new one is.
    pub async fn keep_up(&self) {
        let mut prune_at = clock::now();
        loop {
            let now = clock::now();
            self.renew(now).await;
            if prune_at <= now {
                if let Err(problem) = self.prune(now).await {
                    tracing::warn!(detail = %problem.detail, "old requests were not forgotten");
                }
                prune_at = now.plus_millis(PRUNE_EVERY_MS);
            }
            let next = self.due.lock().unwrap_or_else(PoisonError::into_inner).first().map(|(at, _)| *at);
            let wake = next.map_or(prune_at, |next| next.min(prune_at));
            let left = u64::try_from(wake.since(clock::now())).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(left).min(LONGEST_SLEEP)) => {}
                () = self.new_due.notified() => {}
                () = self.tools.stopping.cancelled() => return,
            }
        }
    }

    /// Issues anew what is about to expire, was not revoked and is still defined; the old one stays valid to its end.
    async fn renew(&self, now: UnixMillis) {
        for id in self.taken_due(now) {
            if let Err(problem) = self.renew_one(&id, now).await {
                tracing::warn!(credential = %id, detail = %problem.detail, "credential not renewed");
                let again = now.plus_millis(RENEW_AGAIN_MS);
                self.due.lock().unwrap_or_else(PoisonError::into_inner).insert((again, id));
            }
        }
    }

    fn taken_due(&self, now: UnixMillis) -> Vec<String> {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let later = due.split_off(&(now.plus_millis(1), String::new()));
        std::mem::replace(&mut *due, later).into_iter().map(|(_, id)| id).collect()
    }

    async fn renew_one(&self, id: &str, now: UnixMillis) -> Result<(), Problem> {
        let _turn = self.writing.lock().await;
        let old = self.tools.store.get::<IssuedRow>(Table::Issued, id)?;
        let Some(mut old) = old.filter(|row| row.due().is_some() && now.0 < row.valid_until_ms) else { return Ok(()) };
        let profile = Profile::from_name(&old.profile);
        let definition = self.tools.store.get::<Definition>(Table::IssuerTypes, &old.definition)?;
        let (Some(profile), Some(definition)) = (profile, definition) else { return Ok(()) };
        let mut row = self.row(&old.request)?;
        let index = self.tools.store.get::<u32>(Table::StatusLists, NEXT_INDEX)?.unwrap_or_default();
        let definition_name = old.definition.clone();
        let (renewed, mut issued, jwt) =
            self.sign(&row, &old.request, &definition, (&definition_name, profile), &old.claims, index)?;
        row.payloads = vec![Payload { r#type: definition.r#type.clone(), profile: profile.name().to_owned(), jwt }];
        (row.state, row.delivery) = (RequestState::Approved, Delivery::default());
        old.renewed_by = Some(renewed.clone());
        let mut batch = Batch::default();
        let saved = self.state(&mut batch, Deed::Issued, &renewed, &mut issued)?;
        batch.put(Table::StatusLists, NEXT_INDEX, &index.saturating_add(1))?;
        batch.put(Table::Issued, &renewed, &issued)?;
        batch.put(Table::Issued, id, &old)?;
        batch.put(Table::IssuerRequests, &old.request, &row)?;
        self.commit(batch, &[saved]).await?;
        tracing::info!(credential = %id, by = %renewed, holder = %old.holder, "credential renewed");
        self.note_due(&renewed, &issued);
        self.start_delivery(&old.request);
        Ok(())
    }

    /// Forgets credentials that expired long ago, and settled requests that are old or too many and that no credential
    /// needs any more. The ledger keeps what was done.
    async fn prune(&self, now: UnixMillis) -> Result<(), Problem> {
        let _turn = self.writing.lock().await;
        let mut batch = Batch::default();
        let mut needed = BTreeSet::new();
        self.rows(Table::Issued, |id, row: IssuedRow| {
            if row.valid_until_ms.saturating_add(KEPT_MS) < now.0 {
                batch.delete(Table::Issued, &id);
            } else if row.due().is_some() && now.0 < row.valid_until_ms {
                needed.insert(row.request);
            }
        })?;
        let mut settled = HashMap::new();
        self.rows(Table::IssuerRequests, |pid, row: RequestRow| {
            let is_settled = match row.state {
                RequestState::Issued => true,
                RequestState::Rejected => 0 < row.delivery.attempts,
                RequestState::Received | RequestState::Approved => false,
            };
            if is_settled && !needed.contains(&pid) {
                settled.insert(pid, UnixMillis::from_rfc3339(&row.created).unwrap_or(UnixMillis(0)));
            }
        })?;
        for pid in pruned(settled, now) {
            batch.delete(Table::IssuerRequests, &pid);
        }
        if batch.is_empty() { Ok(()) } else { Ok(self.tools.store.commit(batch).await?) }
    }
}

/// Which settled requests go: the old ones, and the oldest of those that are too many.
fn pruned(settled: HashMap<String, UnixMillis>, now: UnixMillis) -> Vec<String> {
    let mut by_age: Vec<(String, UnixMillis)> = settled.into_iter().collect();
    by_age.sort_by_key(|(pid, created)| (std::cmp::Reverse(*created), pid.clone()));
    let too_old = |created: UnixMillis| KEPT_MS < now.since(created);
    let gone = by_age.into_iter().enumerate().filter(|(at, (_, created))| MAX_SETTLED <= *at || too_old(*created));
    gone.map(|(_, (pid, _))| pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_too_many_requests_are_forgotten() {
        let now = UnixMillis(KEPT_MS * 2);
        let at = |n: i64| (format!("r{n:05}"), now.plus_millis(-n));
        assert!(pruned((0..100).map(at).collect(), now).is_empty());
        let many = i64::try_from(MAX_SETTLED).unwrap();
        assert_eq!(pruned((0..=many).map(at).collect(), now), [at(many).0]);
        let old = ("old".to_owned(), now.plus_millis(-KEPT_MS - 1));
        assert_eq!(pruned([old, at(0)].into(), now), ["old"]);
    }
}
