//! A consumer's access to a started transfer (EDC: endpoint data reference): kept, and renewed by one call at a time.

use std::future::Future;

use serde::{Deserialize, Serialize};
use shuyu_base::UnixMillis;

use crate::clock;
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};

/// An access token is renewed when it has less than this left, in milliseconds.
const RENEW_BEFORE_MS: i64 = 60_000;

/// A token and its end. It is never logged or shown but to who asks for it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The token.
    pub bearer: String,
    /// When it ends, in RFC 3339.
    pub expires_at: String,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Token {
    fn ends(&self) -> UnixMillis {
        UnixMillis::from_rfc3339(&self.expires_at).unwrap_or(UnixMillis(0))
    }
}

/// Whether a token that is still good is renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renew {
    /// When it is about to end.
    WhenDue,
    /// Now.
    Now,
}

/// Renewed tokens of the transfers in which we are the consumer.
pub struct Edrs {
    store: Store,
    renewing: KeyedLocks,
}

impl Edrs {
    /// Over the node's store.
    pub fn new(store: Store) -> Self {
        Self { store, renewing: KeyedLocks::default() }
    }

    /// The token to use for `transfer` now: `given` by its last start message, or a later one. Callers that come while
    /// one renews wait for it and take what it got.
    ///
    /// # Errors
    /// What `ask` says, unless the token at hand is still good.
    pub async fn token<W>(
        &self,
        transfer: &str,
        given: Token,
        renew: Renew,
        ask: impl FnOnce() -> W,
    ) -> Result<Token, Problem>
    where
        W: Future<Output = Result<Token, Problem>>,
    {
        let seen = self.newest(transfer, given.clone())?;
        if renew == Renew::WhenDue && !is_due(&seen) {
            return Ok(seen);
        }
        let _guard = self.renewing.lock(transfer).await;
        let at_hand = self.newest(transfer, given)?;
        if at_hand != seen && !is_due(&at_hand) {
            return Ok(at_hand);
        }
        match ask().await {
            Ok(renewed) => {
                let mut batch = Batch::default();
                batch.put(Table::Edrs, transfer, &renewed)?;
                self.store.commit(batch).await?;
                Ok(renewed)
            }
            // The provider cannot be reached just now, and the old token is good until a later one is used.
            Err(problem) if renew == Renew::WhenDue && problem.status.is_server_error() => {
                if clock::now() < at_hand.ends() { Ok(at_hand) } else { Err(problem) }
            }
            Err(problem) => Err(problem),
        }
    }

    /// Forgets what was renewed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget(&self, transfer: &str) -> Result<(), Problem> {
        let mut batch = Batch::default();
        batch.delete(Table::Edrs, transfer);
        Ok(self.store.commit(batch).await?)
    }

    fn newest(&self, transfer: &str, given: Token) -> Result<Token, Problem> {
        let renewed = self.store.get::<Token>(Table::Edrs, transfer)?;
        Ok(renewed.filter(|renewed| given.ends() < renewed.ends()).unwrap_or(given))
    }
}

fn is_due(token: &Token) -> bool {
    token.ends().since(clock::now()) < RENEW_BEFORE_MS
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn token(name: &str, left_ms: i64) -> Token {
        Token { bearer: name.to_owned(), expires_at: clock::now().plus_millis(left_ms).to_string() }
    }

    #[tokio::test]
    async fn many_callers_renew_once() {
        let dir = tempfile::tempdir().unwrap();
        let edrs = Arc::new(Edrs::new(Store::open(dir.path()).unwrap()));
        let asked = Arc::new(AtomicU32::new(0));
        let given = token("old", 1_000);
        let calls = (0..20).map(|_| {
            let (edrs, asked, given) = (Arc::clone(&edrs), Arc::clone(&asked), given.clone());
            tokio::spawn(async move {
                let ask = || async {
                    tokio::task::yield_now().await;
                    asked.fetch_add(1, Ordering::Relaxed);
                    Ok(token("new", 600_000))
                };
                edrs.token("t", given, Renew::WhenDue, ask).await.unwrap().bearer
            })
        });
        for call in calls.collect::<Vec<_>>() {
            assert_eq!(call.await.unwrap(), "new");
        }
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_provider_that_is_down_does_not_take_a_good_token_away() {
        let dir = tempfile::tempdir().unwrap();
        let edrs = Edrs::new(Store::open(dir.path()).unwrap());
        let down = || async { Err(Problem::peer("down")) };
        let kept = edrs.token("t", token("old", 30_000), Renew::WhenDue, down).await.unwrap();
        assert_eq!(kept.bearer, "old");
        assert!(edrs.token("t", token("old", -1), Renew::WhenDue, down).await.is_err());
        assert!(edrs.token("t", token("old", 30_000), Renew::Now, down).await.is_err());
        let refused = || async { Err(Problem::not_found("started transfer", "t")) };
        assert!(edrs.token("t", token("old", 30_000), Renew::WhenDue, refused).await.is_err());
    }
}
