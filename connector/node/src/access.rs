//! Access tokens: what a provider hands to the consumer of a started transfer (DSP data address).
//!
//! The tokens of a transfer are numbered. A renewed token does not end the one before it: that one is good until it
//! expires or a later one is presented, so that an answer lost on the way locks nobody out.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use shuyu_base::{Did, PublicKey, UnixMillis, json as base_json};
use shuyu_credentials::jws;

use crate::identity::Identity;
use crate::store::{Batch, Store, StoreError, Table};

/// Life of an access token, in milliseconds.
const LIFETIME_MS: i64 = 600_000;
/// How long a token outlives its agreement, in milliseconds. Every use is refused from the end on; whoever comes just
/// too late is told why, which a token that is not valid cannot be.
const AFTER_END_MS: i64 = 60_000;
/// `typ` of an access token.
const TYP: &str = "shuyu-access+jwt";

/// Issues and reads the access tokens of this node; clones share the key.
#[derive(Clone)]
pub struct AccessTokens {
    own: Arc<Identity>,
    store: Store,
    counting: Arc<Mutex<()>>,
}

/// What a valid token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessClaims {
    /// The consumer.
    pub consumer: Did,
    /// The provider's process id of the transfer.
    pub transfer: String,
    /// The agreement.
    pub agreement: String,
}

/// For whom and what a token is issued.
#[derive(Clone, Copy, Debug)]
pub struct Grantee<'a> {
    /// The consumer.
    pub consumer: &'a Did,
    /// The provider's process id of the transfer.
    pub transfer: &'a str,
    /// The agreement.
    pub agreement: &'a str,
    /// When the agreement ends, if it does.
    pub ends: Option<UnixMillis>,
}

impl AccessTokens {
    /// Signed by `own`; the numbers are kept in `store`.
    pub fn new(own: Arc<Identity>, store: Store) -> Self {
        Self { own, store, counting: Arc::default() }
    }

    /// A token and when it ends: after ten minutes, or soon after the agreement.
    ///
    /// # Errors
    /// [`StoreError`]; no token was issued.
    pub fn issue(&self, to: Grantee<'_>, now: UnixMillis) -> Result<(String, UnixMillis), StoreError> {
        let expires = now.plus_millis(LIFETIME_MS);
        let last = to.ends.map_or(expires, |ends| ends.plus_millis(AFTER_END_MS));
        let expires = expires.min(last);
        let number = self.count(&issued_key(to.transfer), |issued| issued + 1)?;
        let claims = json!({
            "iss": self.own.did.as_str(), "sub": to.consumer.as_str(), "transfer": to.transfer,
            "agreement": to.agreement, "number": number,
            "iat": now.unix_seconds(), "exp": expires.unix_seconds(), "jti": uuid::Uuid::new_v4().to_string(),
        });
        let token = jws::sign(&self.own.key, &self.own.kid, TYP, claims.to_string().as_bytes());
        Ok((token, expires))
    }

    /// Reads a token of ours that has not ended, neither by time nor by the use of a later one. What cannot be looked up
    /// is not accepted.
    pub fn read(&self, token: &str, now: UnixMillis) -> Option<AccessClaims> {
        let verified = jws::verify(token, |kid| self.own_key(kid, now)).ok()?;
        if verified.typ.as_deref() != Some(TYP) {
            return None;
        }
        let claims = base_json::parse(&verified.payload, 64 * 1024).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let expires = UnixMillis::from_unix_seconds(claims.get("exp")?.as_i64()?);
        if expires < now {
            return None;
        }
        let transfer = text("transfer")?.to_owned();
        // Tokens of earlier versions have no number; they end by time.
        let number = claims.get("number").and_then(Value::as_u64).unwrap_or(0);
        self.presented(&transfer, number)?;
        Some(AccessClaims { consumer: text("sub")?.parse().ok()?, transfer, agreement: text("agreement")?.to_owned() })
    }

    /// Notes that the key in use has begun to be used, if it is new.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn begin_key(&self, now: UnixMillis) -> Result<(), StoreError> {
        let now = u64::try_from(now.0).unwrap_or_default();
        self.count(&began_key(&self.own.kid), |began| if began == 0 { now } else { began }).map(|_| ())
    }

    /// The key that a token of ours may be signed with. One that was replaced is good for as long as the tokens live that
    /// were issued up to the change.
    fn own_key(&self, kid: &str, now: UnixMillis) -> Option<PublicKey> {
        if kid == self.own.kid {
            return Some(self.own.key.public().clone());
        }
        let (before, key) = self.own.key_before()?;
        let began = self.store.get::<u64>(Table::TokenCounts, &began_key(&self.own.kid)).ok()??;
        let began = UnixMillis(i64::try_from(began).ok()?);
        (kid == before && now <= began.plus_millis(LIFETIME_MS)).then(|| key.clone())
    }

    /// Ends every token of a transfer issued so far; later ones are good.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn end_all(&self, transfer: &str) -> Result<(), StoreError> {
        let issued = self.store.get::<u64>(Table::TokenCounts, &issued_key(transfer))?.unwrap_or(0);
        self.count(&used_key(transfer), |used| used.max(issued + 1)).map(drop)
    }

    /// Notes that the token of this number is in use, which ends those before it.
    fn presented(&self, transfer: &str, number: u64) -> Option<()> {
        let key = used_key(transfer);
        let used = self.store.get::<u64>(Table::TokenCounts, &key).ok()?.unwrap_or(0);
        if number < used {
            return None;
        }
        if used < number {
            let newest = self.count(&key, |used| used.max(number)).ok()?;
            return (newest == number).then_some(());
        }
        Some(())
    }

    /// Changes a number in one step. The write reaches the operating system before we go on.
    fn count(&self, key: &str, change: impl FnOnce(u64) -> u64) -> Result<u64, StoreError> {
        let _guard = self.counting.lock().unwrap_or_else(PoisonError::into_inner);
        let number = change(self.store.get::<u64>(Table::TokenCounts, key)?.unwrap_or(0));
        let mut batch = Batch::default();
        batch.put(Table::TokenCounts, key, &number)?;
        self.store.commit_blocking(&batch, false)?;
        Ok(number)
    }
}

/// When a signing key began to be used, in milliseconds.
fn began_key(kid: &str) -> String {
    format!("began {kid}")
}

/// Tokens issued so far. Whoever issues changes this row, whoever reads the other one.
fn issued_key(transfer: &str) -> String {
    format!("issued {transfer}")
}

/// The greatest number presented so far.
fn used_key(transfer: &str) -> String {
    format!("used {transfer}")
}
