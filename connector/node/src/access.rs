//! Access tokens: what a provider hands to the consumer of a started transfer (DSP data address).

use std::sync::Arc;

use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis, json as base_json};
use shuyu_credentials::jws;

use crate::identity::Identity;

/// Life of an access token, in milliseconds.
const LIFETIME_MS: i64 = 600_000;
/// `typ` of an access token.
const TYP: &str = "shuyu-access+jwt";

/// Issues and reads the access tokens of this node; clones share the key.
#[derive(Clone)]
pub struct AccessTokens {
    own: Arc<Identity>,
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

impl AccessTokens {
    /// Signed by `own`.
    pub fn new(own: Arc<Identity>) -> Self {
        Self { own }
    }

    /// A token and when it ends.
    pub fn issue(&self, consumer: &Did, transfer: &str, agreement: &str, now: UnixMillis) -> (String, UnixMillis) {
        let expires = now.plus_millis(LIFETIME_MS);
        let claims = json!({
            "iss": self.own.did.as_str(), "sub": consumer.as_str(), "transfer": transfer, "agreement": agreement,
            "iat": now.unix_seconds(), "exp": expires.unix_seconds(), "jti": uuid::Uuid::new_v4().to_string(),
        });
        let token = jws::sign(&self.own.key, &self.own.kid, TYP, claims.to_string().as_bytes());
        (token, expires)
    }

    /// Reads a token of ours that has not ended.
    pub fn read(&self, token: &str, now: UnixMillis) -> Option<AccessClaims> {
        let own_key = |kid: &str| (kid == self.own.kid).then(|| self.own.key.public().clone());
        let verified = jws::verify(token, own_key).ok()?;
        if verified.typ.as_deref() != Some(TYP) {
            return None;
        }
        let claims = base_json::parse(&verified.payload, 64 * 1024).ok()?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        let expires = UnixMillis::from_unix_seconds(claims.get("exp")?.as_i64()?);
        if expires < now {
            return None;
        }
        Some(AccessClaims {
            consumer: text("sub")?.parse().ok()?,
            transfer: text("transfer")?.to_owned(),
            agreement: text("agreement")?.to_owned(),
        })
    }
}
