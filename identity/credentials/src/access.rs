//! Access tokens of a holder's own credential service: which verifier may read which credentials, until when.
//!
//! To others they are opaque (DCP 1.0, section 4.3.1). They are signed by the holder for itself, under a type of their
//! own, so that they pass for nothing else; and they are bound to one verifier, who must present them inside a
//! self-issued token.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shuyu_base::{Did, SecretKey, UnixMillis, json as strict_json};

use crate::jws::{self, JwsError};
use crate::scope::Scope;

/// Longest access token accepted, in bytes.
pub const MAX_ACCESS_TOKEN_BYTES: usize = 16 * 1024;
/// Most scopes of one token or query.
pub const MAX_SCOPES: usize = 32;
/// The media type that tells them from other tokens.
const TYP: &str = "dcp-access+jwt";

/// What an access token grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The verifier it is for.
    pub verifier: Did,
    /// What may be read.
    pub scopes: BTreeSet<Scope>,
    /// Until when.
    pub expires_at: UnixMillis,
}

/// Why an access token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Not a token of ours.
    #[error("access token is not one of this credential service")]
    Jws(#[source] JwsError),
    /// Signed as another kind of message, or a member is missing.
    #[error("access token is not one of this credential service")]
    Foreign,
    /// Presented by someone else than it was made for.
    #[error("access token is for another verifier")]
    OtherVerifier,
    /// Past its end. It is our own clock that counts, so there is no allowance.
    #[error("access token expired at {expires_at}")]
    Expired {
        /// Its end.
        expires_at: UnixMillis,
    },
}

/// Makes an access token. Times are cut to whole seconds.
pub fn grant(key: &SecretKey, kid: &str, holder: &Did, jti: &str, grant: &Grant) -> String {
    let scopes: Vec<String> = grant.scopes.iter().map(Scope::to_string).collect();
    let payload = json!({
        "iss": holder.as_str(), "aud": holder.as_str(), "sub": grant.verifier.as_str(), "jti": jti,
        "scope": scopes, "exp": grant.expires_at.unix_seconds(),
    });
    jws::sign(key, kid, TYP, payload.to_string().as_bytes())
}

/// Checks an access token that `verifier` presents to the holder it is from.
///
/// # Errors
/// [`AccessError`].
pub fn check(
    compact: &str,
    key: &SecretKey,
    kid: &str,
    holder: &Did,
    verifier: &Did,
    now: UnixMillis,
) -> Result<Grant, AccessError> {
    let of = |found: &str| (found == kid).then(|| key.public().clone());
    let verified = jws::verify_within(compact, MAX_ACCESS_TOKEN_BYTES, of).map_err(AccessError::Jws)?;
    if verified.typ.as_deref() != Some(TYP) {
        return Err(AccessError::Foreign);
    }
    let claims = strict_json::parse(&verified.payload, MAX_ACCESS_TOKEN_BYTES).map_err(|_| AccessError::Foreign)?;
    let text = |claim: &str| claims.get(claim).and_then(Value::as_str);
    if text("iss") != Some(holder.as_str()) || text("aud") != Some(holder.as_str()) {
        return Err(AccessError::Foreign);
    }
    if text("sub") != Some(verifier.as_str()) {
        return Err(AccessError::OtherVerifier);
    }
    let expires = claims.get("exp").and_then(Value::as_i64).ok_or(AccessError::Foreign)?;
    let expires_at = UnixMillis::from_unix_seconds(expires);
    if expires_at <= now {
        return Err(AccessError::Expired { expires_at });
    }
    let scopes = claims.get("scope").and_then(Value::as_array).ok_or(AccessError::Foreign)?;
    let scopes = scopes.iter().map(|scope| scope.as_str()?.parse().ok()).collect::<Option<BTreeSet<Scope>>>();
    Ok(Grant { verifier: verifier.clone(), scopes: scopes.ok_or(AccessError::Foreign)?, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shuyu_base::Suite;

    #[test]
    fn a_token_is_good_for_its_verifier_until_its_end_and_for_nothing_else() {
        let key = SecretKey::from_seed(Suite::P256, &[3; 32]).unwrap();
        let did = |text: &str| text.parse::<Did>().unwrap();
        let (holder, verifier, kid) = (did("did:web:h.example"), did("did:web:v.example"), "did:web:h.example#key-1");
        let now = UnixMillis(1_795_305_600_000);
        let given = Grant {
            verifier: verifier.clone(),
            scopes: ["org.eclipse.dspace.dcp.vc.type:M:read".parse().unwrap()].into(),
            expires_at: now.plus_millis(60_000),
        };
        let token = grant(&key, kid, &holder, "1", &given);
        let at = |verifier: &Did, millis| check(&token, &key, kid, &holder, verifier, now.plus_millis(millis));
        assert_eq!(at(&verifier, 59_999), Ok(given.clone()));
        assert_eq!(at(&verifier, 60_000), Err(AccessError::Expired { expires_at: given.expires_at }));
        assert_eq!(at(&did("did:web:other.example"), 0), Err(AccessError::OtherVerifier));
        // A self-issued token of the same key, and a token of another key.
        let payload = json!({"iss": holder.as_str(), "aud": holder.as_str(), "sub": verifier.as_str()}).to_string();
        let confused = jws::sign(&key, kid, "JWT", payload.as_bytes());
        assert_eq!(check(&confused, &key, kid, &holder, &verifier, now), Err(AccessError::Foreign));
        let other = SecretKey::from_seed(Suite::P256, &[4; 32]).unwrap();
        let forged = grant(&other, kid, &holder, "1", &given);
        assert!(matches!(check(&forged, &key, kid, &holder, &verifier, now), Err(AccessError::Jws(_))));
        assert!(matches!(check("faketoken", &key, kid, &holder, &verifier, now), Err(AccessError::Jws(_))));
    }
}
