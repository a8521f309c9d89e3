//! Self-issued tokens in the shape of the Decentralized Claims Protocol 1.0 (section 4.3): one node tells another who
//! it is. The verifier must also remember each `jti` until [`Claims::remember_until`]; that needs a disk.

use serde_json::{Map, Value};
use shuyu_base::{Did, PublicKey, SecretKey, UnixMillis, json};

use crate::jws::{self, JwsError};
use crate::{DidDocument, Relationship};

/// Longest life of a token, `exp - iat`, in milliseconds: ten minutes, as connectors in the field issue, and the second by
/// which two times may differ that were cut to seconds one after the other.
pub const MAX_LIFETIME_MS: i64 = 601_000;
/// How far two clocks may be apart, in milliseconds.
pub const SKEW_MS: i64 = 30_000;
/// Longest `jti` accepted, in bytes; a UUID has 36.
pub const MAX_JTI_BYTES: usize = 128;

/// Claims that have a meaning here and cannot be given as extra ones.
const RESERVED: [&str; 7] = ["iss", "sub", "aud", "jti", "iat", "exp", "nbf"];

/// The `typ` of a token; a token without one is accepted as well (RFC 7519 section 5.1).
const TYP: &str = "JWT";

/// What a token is to say.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// The sender: issuer and subject.
    pub issuer: &'a Did,
    /// The receiver.
    pub audience: &'a Did,
    /// A value never used before by this issuer, at most [`MAX_JTI_BYTES`] long; a random UUID.
    pub jti: &'a str,
    /// The time of issue; cut to whole seconds.
    pub now: UnixMillis,
    /// How long the token lives, in milliseconds; from 1 s to [`MAX_LIFETIME_MS`], cut to whole seconds.
    pub lifetime_ms: i64,
    /// Further claims, such as DCP's `token`.
    pub extra: Map<String, Value>,
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// The sender.
    pub issuer: Did,
    /// The key that signed.
    pub key: PublicKey,
    /// The token's own identifier.
    pub jti: String,
    /// When it was issued.
    pub issued_at: UnixMillis,
    /// When it ends.
    pub expires_at: UnixMillis,
    /// Every claim that has no field here.
    pub extra: Map<String, Value>,
}

impl Claims {
    /// Until then the token could be presented again, so its `jti` must be remembered, also over a restart.
    pub fn remember_until(&self) -> UnixMillis {
        self.expires_at.plus_millis(SKEW_MS)
    }
}

/// Why a token was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Shorter than a second or longer than [`MAX_LIFETIME_MS`].
    #[error("token lifetime is {lifetime_ms} ms, allowed is 1000 to {MAX_LIFETIME_MS}")]
    Lifetime {
        /// The lifetime asked for.
        lifetime_ms: i64,
    },
    /// Empty or longer than [`MAX_JTI_BYTES`].
    #[error("token `jti` must have 1 to {MAX_JTI_BYTES} bytes")]
    Jti,
    /// The key is not one of the issuer's.
    #[error("token key `{kid}` does not belong to the issuer")]
    Kid {
        /// The key.
        kid: String,
    },
    /// An extra claim would overwrite a reserved one.
    #[error("token claim `{claim}` is reserved")]
    Reserved {
        /// The claim.
        claim: String,
    },
}

/// Why a token was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The envelope is malformed or its signature does not hold.
    #[error("token is not an acceptable jws")]
    Jws(#[source] JwsError),
    /// Signed as another kind of message.
    #[error("token has `typ` `{found}`")]
    Typ {
        /// The type found.
        found: String,
    },
    /// The payload is not a JSON object, or repeats a member.
    #[error("token payload is not an acceptable JSON object")]
    Payload,
    /// A claim is missing or has the wrong shape.
    #[error("token claim `{claim}` is missing or malformed")]
    Claim {
        /// The claim.
        claim: &'static str,
    },
    /// `iss`, `sub`, the DID of `kid` and the document are not all the same.
    #[error("token claim `{claim}` does not name the issuer")]
    NotIssuer {
        /// `iss`, `sub` or `kid`.
        claim: &'static str,
    },
    /// The key may not be used for tokens.
    #[error("token key `{kid}` does not hold `capabilityInvocation`")]
    Relationship {
        /// The key.
        kid: String,
    },
    /// For someone else.
    #[error("token is for another audience")]
    Audience,
    /// Past its end, even with a slow clock.
    #[error("token expired at {expires_at}")]
    Expired {
        /// Its end.
        expires_at: UnixMillis,
    },
    /// Issued or valid in the future, even with a fast clock.
    #[error("token is not valid before {from}")]
    NotYetValid {
        /// Its start.
        from: UnixMillis,
    },
    /// Ends before it starts, or lives longer than [`MAX_LIFETIME_MS`].
    #[error("token lives {lifetime_ms} ms, allowed is 1 to {MAX_LIFETIME_MS}")]
    Lifetime {
        /// `exp - iat`, in milliseconds.
        lifetime_ms: i64,
    },
}

/// Issues a token signed with `key`, which the issuer's document lists as `kid` under `capabilityInvocation`.
///
/// # Errors
/// [`IssueError`] when no verifier would accept the result.
pub fn issue(key: &SecretKey, kid: &str, draft: &Draft<'_>) -> Result<String, IssueError> {
    if !(1000..=MAX_LIFETIME_MS).contains(&draft.lifetime_ms) {
        return Err(IssueError::Lifetime { lifetime_ms: draft.lifetime_ms });
    }
    if !is_jti(draft.jti) {
        return Err(IssueError::Jti);
    }
    if !belongs_to(kid, draft.issuer) {
        return Err(IssueError::Kid { kid: kid.to_owned() });
    }
    let mut claims = draft.extra.clone();
    if let Some(claim) = RESERVED.into_iter().find(|claim| claims.contains_key(*claim)) {
        return Err(IssueError::Reserved { claim: claim.to_owned() });
    }
    let issued_at = draft.now.unix_seconds();
    let mut set = |claim: &str, value: Value| claims.insert(claim.to_owned(), value);
    set("iss", draft.issuer.as_str().into());
    set("sub", draft.issuer.as_str().into());
    set("aud", draft.audience.as_str().into());
    set("jti", draft.jti.into());
    set("iat", issued_at.into());
    set("nbf", issued_at.into());
    set("exp", issued_at.saturating_add(draft.lifetime_ms / 1000).into());
    Ok(jws::sign(key, kid, TYP, Value::Object(claims).to_string().as_bytes()))
}

/// The issuer a token claims, **unverified**: it says whose document to resolve before [`verify`].
///
/// # Errors
/// [`TokenError`] when the token cannot be genuine whatever the document says.
pub fn peek_issuer(compact: &str) -> Result<Did, TokenError> {
    let unverified = jws::peek(compact).map_err(TokenError::Jws)?;
    let claims = parse_claims(&unverified.payload)?;
    let issuer: Did = text(&claims, "iss")?.parse().map_err(|_| TokenError::Claim { claim: "iss" })?;
    if !belongs_to(&unverified.kid, &issuer) {
        return Err(TokenError::NotIssuer { claim: "kid" });
    }
    Ok(issuer)
}

/// Checks a token against the issuer's document. The caller then checks that the `jti` is new.
///
/// # Errors
/// [`TokenError`] says which rule is broken.
pub fn verify(compact: &str, issuer: &DidDocument, audience: &Did, now: UnixMillis) -> Result<Claims, TokenError> {
    let (mut other_use, mut used) = (None, None);
    let verified = jws::verify(compact, |kid| {
        let method = issuer.method(kid)?;
        if !method.relationships.contains(&Relationship::CapabilityInvocation) {
            other_use = Some(kid.to_owned());
            return None;
        }
        used = Some(method.key.clone());
        used.clone()
    });
    if let Some(kid) = other_use {
        return Err(TokenError::Relationship { kid });
    }
    let verified = verified.map_err(TokenError::Jws)?;
    let key = used.ok_or_else(|| TokenError::Jws(JwsError::UnknownKey { kid: verified.kid.clone() }))?;
    if let Some(found) = verified.typ.filter(|typ| !typ.eq_ignore_ascii_case(TYP)) {
        return Err(TokenError::Typ { found });
    }
    let mut claims = parse_claims(&verified.payload)?;
    for claim in ["iss", "sub"] {
        if text(&claims, claim)? != issuer.id().as_str() {
            return Err(TokenError::NotIssuer { claim });
        }
    }
    // The document holds only its subject's keys; this is the second lock on the same door.
    if !belongs_to(&verified.kid, issuer.id()) {
        return Err(TokenError::NotIssuer { claim: "kid" });
    }
    check_audience(&claims, audience)?;
    let (issued_at, expires_at) = check_times(&claims, now)?;
    let jti = text(&claims, "jti")?.to_owned();
    if !is_jti(&jti) {
        return Err(TokenError::Claim { claim: "jti" });
    }
    claims.retain(|claim, _| !RESERVED.contains(&claim.as_str()));
    Ok(Claims { issuer: issuer.id().clone(), key, jti, issued_at, expires_at, extra: claims })
}

/// `aud` is the one receiver, as text or as a list of one (RFC 7519 section 4.1.3).
fn check_audience(claims: &Map<String, Value>, audience: &Did) -> Result<(), TokenError> {
    let found = match claims.get("aud") {
        Some(Value::Array(list)) => match list.as_slice() {
            [one] => one.as_str(),
            _ => None,
        },
        other => other.and_then(Value::as_str),
    };
    let found = found.ok_or(TokenError::Claim { claim: "aud" })?;
    if found == audience.as_str() { Ok(()) } else { Err(TokenError::Audience) }
}

fn check_times(claims: &Map<String, Value>, now: UnixMillis) -> Result<(UnixMillis, UnixMillis), TokenError> {
    let issued_at = instant(claims, "iat")?;
    let expires_at = instant(claims, "exp")?;
    let lifetime_ms = expires_at.since(issued_at);
    if !(1..=MAX_LIFETIME_MS).contains(&lifetime_ms) {
        return Err(TokenError::Lifetime { lifetime_ms });
    }
    let mut starts = vec![issued_at];
    if claims.contains_key("nbf") {
        starts.push(instant(claims, "nbf")?);
    }
    let latest = now.plus_millis(SKEW_MS);
    if let Some(from) = starts.into_iter().find(|from| latest < *from) {
        return Err(TokenError::NotYetValid { from });
    }
    if expires_at.plus_millis(SKEW_MS) <= now {
        return Err(TokenError::Expired { expires_at });
    }
    Ok((issued_at, expires_at))
}

fn parse_claims(payload: &[u8]) -> Result<Map<String, Value>, TokenError> {
    match json::parse(payload, jws::MAX_JWS_BYTES) {
        Ok(Value::Object(claims)) => Ok(claims),
        Ok(_) | Err(_) => Err(TokenError::Payload),
    }
}

fn text<'a>(claims: &'a Map<String, Value>, claim: &'static str) -> Result<&'a str, TokenError> {
    claims.get(claim).and_then(Value::as_str).ok_or(TokenError::Claim { claim })
}

/// A `NumericDate` in whole seconds (RFC 7519 section 2).
fn instant(claims: &Map<String, Value>, claim: &'static str) -> Result<UnixMillis, TokenError> {
    let seconds = claims.get(claim).and_then(Value::as_i64).ok_or(TokenError::Claim { claim })?;
    Ok(UnixMillis::from_unix_seconds(seconds))
}

fn belongs_to(kid: &str, did: &Did) -> bool {
    kid.strip_prefix(did.as_str()).is_some_and(|rest| rest.starts_with('#') && 1 < rest.len())
}

fn is_jti(jti: &str) -> bool {
    (1..=MAX_JTI_BYTES).contains(&jti.len())
}

#[cfg(test)]
mod tests;
