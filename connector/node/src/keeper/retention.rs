//! How long the vault keeps what the ledger's statements commit to: `[ledger.retention]`.
//!
//! The ledger itself keeps its entries for ever. Laws set a least time for logs and a most for personal data: 180 days at
//! least for the log of a connector (NDI-05 section 6.2; Cybersecurity Law of the PRC, article 21), no longer than the
//! purpose needs for personal data (GDPR, article 5(1)(e); PIPL, article 19). Which holds for which kind of event the
//! owner decides; without an entry, the vault keeps it for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use shuyu_base::UnixMillis;
use tokio_util::sync::CancellationToken;

use super::Keeper;
use crate::clock;
use crate::problem::Problem;
use crate::vault::Listed;

/// Longest time between two looks at the vault.
const MAX_PAUSE: Duration = Duration::from_secs(3600);
/// Most rules.
const MAX_RULES: usize = 64;

/// How long contents of some kinds are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Kinds that are this, or begin with it and a dot.
    kind: String,
    /// How long, in milliseconds.
    keep_ms: i64,
}

impl Retention {
    fn covers(&self, kind: &str) -> bool {
        kind.strip_prefix(&self.kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// Reads the rules as the configuration has them: a kind or its beginning, and a time such as `"1095d"`, `"12h"`, `"30s"`.
///
/// # Errors
/// What is wrong, naming the kind.
pub fn parse_retention(rules: &BTreeMap<String, String>) -> Result<Vec<Retention>, String> {
    if MAX_RULES < rules.len() {
        return Err(format!("at most {MAX_RULES} kinds"));
    }
    let rule = |(kind, time): (&String, &String)| {
        let keep_ms =
            keep_ms(time).ok_or_else(|| format!("`{kind}`: `{time}` is no time such as 1095d, 12h or 30s"))?;
        let is_kind =
            kind.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
        if is_kind {
            Ok(Retention { kind: kind.clone(), keep_ms })
        } else {
            Err(format!("`{kind}` is no kind of event"))
        }
    };
    rules.iter().map(rule).collect()
}

fn keep_ms(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit_ms = match unit {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "s" => 1000,
        _ => return None,
    };
    if !number.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok().filter(|number| (1..=1_000_000).contains(number))?.checked_mul(unit_ms)
}

/// Whether contents of this kind and age are due to be forgotten: the longest kind named decides.
fn is_due(rules: &[Retention], kind: &str, at: UnixMillis, now: UnixMillis) -> bool {
    let rule = rules.iter().filter(|rule| rule.covers(kind)).max_by_key(|rule| rule.kind.len());
    rule.is_some_and(|rule| at.plus_millis(rule.keep_ms) <= now)
}

impl Keeper {
    /// Forgets what is due, again and again, until told to stop. Returns at once where everything is kept.
    pub async fn keep_up(&self, stopping: CancellationToken) {
        let Some(shortest) = self.retention.iter().map(|rule| rule.keep_ms).min() else { return };
        let shortest = Duration::from_millis(u64::try_from(shortest).unwrap_or_default());
        let mut looks = tokio::time::interval((shortest / 4).clamp(Duration::from_secs(1), MAX_PAUSE));
        while stopping.run_until_cancelled(looks.tick()).await.is_some() {
            match self.forget_due(clock::now()).await {
                Ok(0) => {}
                Ok(count) => tracing::info!(count, "contents of entries forgotten as `ledger.retention` says"),
                Err(problem) => tracing::warn!(detail = %problem.detail, "contents not forgotten; trying again"),
            }
        }
    }

    async fn forget_due(&self, now: UnixMillis) -> Result<usize, Problem> {
        let _one = self.erasing.lock().await;
        let shortest = self.retention.iter().map(|rule| rule.keep_ms).min().unwrap_or(i64::MAX);
        let due = |row: &Listed| is_due(&self.retention, &row.kind, row.at, now);
        let keys = tokio::task::block_in_place(|| self.filtered(now.plus_millis(1 - shortest), due))?;
        Ok(self.forget(&keys, &[], "retention", "retention").await?.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(all: &[(&str, &str)]) -> Result<Vec<Retention>, String> {
        parse_retention(&all.iter().map(|(kind, time)| ((*kind).to_owned(), (*time).to_owned())).collect())
    }

    #[test]
    fn the_longest_kind_named_decides() {
        let rules = rules(&[("use", "180d"), ("use.refused", "12h"), ("credential", "30s")]).unwrap();
        let hour = 3_600_000;
        for (kind, age_ms, due) in [
            ("use.served", 13 * hour, false),
            ("use.served", 180 * 24 * hour - 1, false),
            ("use.served", 180 * 24 * hour, true),
            ("use.refused", 12 * hour, true),
            ("used", 10_000 * hour, false),
            ("credential.issued", 30_000, true),
            ("credential.issued", 29_999, false),
            ("negotiation.request", 10_000 * hour, false),
        ] {
            assert_eq!(is_due(&rules, kind, UnixMillis(5), UnixMillis(5 + age_ms)), due, "{kind} {age_ms}");
        }
    }

    #[test]
    fn what_is_no_time_or_kind_is_named() {
        for (kind, time) in [
            ("use", "180"),
            ("use", "d"),
            ("use", ""),
            ("use", "0d"),
            ("use", "-1d"),
            ("use", "1.5d"),
            ("use", "9999999d"),
            ("use", "3天"),
            ("Use", "3d"),
            ("use.", "3d"),
            ("", "3d"),
        ] {
            assert!(rules(&[(kind, time)]).is_err(), "{kind} {time}");
        }
    }
}
