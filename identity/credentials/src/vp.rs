//! Verifiable presentations as JWT, in the two profiles of DCP 1.0: Data Model 1.1 with a `vp` claim, and Data Model 2.0
//! with enveloped credentials (VC-JOSE-COSE, section 3.1).

use serde_json::{Map, Value, json};
use shuyu_base::{Did, SecretKey, UnixMillis, json as strict_json};

use crate::jws::{self, JwsError};
use crate::token::SKEW_MS;
use crate::vc::{CONTEXT_V1, CONTEXT_V2, Profile};
use crate::{DidDocument, Relationship};

/// Longest presentation accepted, in bytes of its JWT.
pub const MAX_PRESENTATION_BYTES: usize = 512 * 1024;
/// Most credentials in one presentation.
pub const MAX_CREDENTIALS: usize = 32;
/// Longest life of a presentation, `exp - iat`, in milliseconds.
pub const MAX_LIFETIME_MS: i64 = 3_600_000;

const TYPE: &str = "VerifiablePresentation";
const ENVELOPED: &str = "EnvelopedVerifiableCredential";
const DATA_URLS: [&str; 2] = ["data:application/vc+jwt,", "data:application/vc+ld+jwt,"];

/// A presentation whose signature and members were checked; its credentials were not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presentation {
    /// How it is written; its credentials must be written likewise.
    pub profile: Profile,
    /// Who presents.
    pub holder: Did,
    /// The credentials as JWTs.
    pub credentials: Vec<String>,
}

/// Why a JWT is not a presentation we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresentationError {
    /// The envelope is malformed, or its signature does not hold.
    #[error("presentation is not an acceptable jws")]
    Jws(#[source] JwsError),
    /// Signed as another kind of message.
    #[error("presentation has `typ` `{found}`")]
    Typ {
        /// The type found.
        found: String,
    },
    /// A member is missing, malformed or too long.
    #[error("presentation member `{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// Somebody else than the expected holder presents.
    #[error("presentation member `{member}` does not name the holder")]
    NotHolder {
        /// `iss`, `sub`, `holder` or `kid`.
        member: &'static str,
    },
    /// The key may not be used to prove who one is.
    #[error("presentation key `{kid}` does not hold `authentication`")]
    Relationship {
        /// The key.
        kid: String,
    },
    /// Made for someone else.
    #[error("presentation is for another audience")]
    Audience,
    /// Past its end, even with a slow clock.
    #[error("presentation expired at {expires_at}")]
    Expired {
        /// Its end.
        expires_at: UnixMillis,
    },
    /// From the future, even with a fast clock.
    #[error("presentation is not valid before {from}")]
    NotYetValid {
        /// Its start.
        from: UnixMillis,
    },
    /// Lives longer than [`MAX_LIFETIME_MS`].
    #[error("presentation lives {lifetime_ms} ms, allowed is 1 to {MAX_LIFETIME_MS}")]
    Lifetime {
        /// `exp - iat`, in milliseconds.
        lifetime_ms: i64,
    },
    /// More than [`MAX_CREDENTIALS`].
    #[error("presentation has more than {MAX_CREDENTIALS} credentials")]
    TooMany,
}

/// What a presentation is to say.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// How it is written: as its credentials are.
    pub profile: Profile,
    /// Who presents: the signer.
    pub holder: &'a Did,
    /// To whom.
    pub audience: &'a Did,
    /// A value never used before by this holder.
    pub jti: &'a str,
    /// The time of presenting; cut to whole seconds.
    pub now: UnixMillis,
    /// How long it lives, in milliseconds, at most [`MAX_LIFETIME_MS`].
    pub lifetime_ms: i64,
}

/// Signs a presentation with `key`, which the holder's document lists as `kid` under `authentication`.
pub fn present(key: &SecretKey, kid: &str, draft: &Draft<'_>, credentials: &[&str]) -> String {
    let now = draft.now.unix_seconds();
    let expires = now.saturating_add(draft.lifetime_ms.clamp(1000, MAX_LIFETIME_MS) / 1000);
    let holder = draft.holder.as_str();
    let mut payload = json!({
        "iss": holder, "sub": holder, "aud": draft.audience.as_str(), "jti": draft.jti,
        "iat": now, "nbf": now, "exp": expires,
    });
    let (typ, body) = match draft.profile {
        Profile::Vc11 => {
            let vp = json!({"@context": [CONTEXT_V1], "type": [TYPE], "verifiableCredential": credentials});
            ("JWT", json!({ "vp": vp }))
        }
        Profile::Vc20 => {
            let one = |jwt: &&str| json!({"@context": [CONTEXT_V2], "type": [ENVELOPED], "id": format!("data:application/vc+jwt,{jwt}")});
            let all: Vec<Value> = credentials.iter().map(one).collect();
            let body = json!({
                "@context": [CONTEXT_V2], "type": [TYPE], "holder": holder, "verifiableCredential": all,
            });
            ("vp+jwt", body)
        }
    };
    if let (Some(members), Value::Object(body)) = (payload.as_object_mut(), body) {
        members.extend(body);
    }
    jws::sign(key, kid, typ, payload.to_string().as_bytes())
}

/// Checks a presentation of `holder` (whose document this is) to `audience`.
///
/// # Errors
/// [`PresentationError`] names the member.
pub fn verify(
    compact: &str,
    holder: &DidDocument,
    audience: &Did,
    now: UnixMillis,
) -> Result<Presentation, PresentationError> {
    let mut other_use = None;
    let verified = jws::verify_within(compact, MAX_PRESENTATION_BYTES, |kid| {
        let method = holder.method(kid)?;
        if !method.relationships.contains(&Relationship::Authentication) {
            other_use = Some(kid.to_owned());
            return None;
        }
        Some(method.key.clone())
    });
    if let Some(kid) = other_use {
        return Err(PresentationError::Relationship { kid });
    }
    let verified = verified.map_err(PresentationError::Jws)?;
    if !verified.kid.strip_prefix(holder.id().as_str()).is_some_and(|rest| rest.starts_with('#')) {
        return Err(PresentationError::NotHolder { member: "kid" });
    }
    let body = Body::parse(&verified.payload, verified.typ.as_deref())?;
    body.check_holder(holder.id())?;
    body.check_audience(audience)?;
    body.check_times(now)?;
    Ok(Presentation { profile: body.profile, holder: holder.id().clone(), credentials: body.credentials()? })
}

struct Body {
    profile: Profile,
    claims: Map<String, Value>,
    vp: Map<String, Value>,
}

impl Body {
    fn parse(payload: &[u8], typ: Option<&str>) -> Result<Self, PresentationError> {
        let bad = |member| PresentationError::Member { member };
        let Ok(Value::Object(mut claims)) = strict_json::parse(payload, MAX_PRESENTATION_BYTES) else {
            return Err(bad("payload"));
        };
        let (profile, vp, typs): (_, _, &[&str]) = match claims.remove("vp") {
            Some(Value::Object(vp)) => (Profile::Vc11, vp, &["JWT"]),
            Some(_) => return Err(bad("vp")),
            None => (Profile::Vc20, claims.clone(), &["vp+jwt", "vp+ld+jwt"]),
        };
        let typ_is_good = match typ {
            Some(typ) => typs.iter().any(|good| good.eq_ignore_ascii_case(typ)),
            None => profile == Profile::Vc11,
        };
        if !typ_is_good {
            return Err(PresentationError::Typ { found: typ.unwrap_or_default().to_owned() });
        }
        let body = Self { profile, claims, vp };
        let is_presentation = items(body.vp.get("type")).iter().any(|kind| kind.as_str() == Some(TYPE));
        let context = items(body.vp.get("@context")).first().and_then(Value::as_str);
        let expected = match profile {
            Profile::Vc20 => CONTEXT_V2,
            Profile::Vc11 => CONTEXT_V1,
        };
        match (is_presentation, context == Some(expected)) {
            (false, _) => Err(bad("type")),
            (_, false) => Err(bad("@context")),
            (true, true) => Ok(body),
        }
    }

    /// `iss` must be the holder; `sub` and `holder` too, where they are given.
    fn check_holder(&self, holder: &Did) -> Result<(), PresentationError> {
        let is_holder = |value: &Value| value.as_str() == Some(holder.as_str());
        if !self.claims.get("iss").is_some_and(is_holder) {
            return Err(PresentationError::NotHolder { member: "iss" });
        }
        if self.claims.get("sub").is_some_and(|value| !is_holder(value)) {
            return Err(PresentationError::NotHolder { member: "sub" });
        }
        let named = match self.vp.get("holder") {
            Some(Value::Object(members)) => members.get("id"),
            other => other,
        };
        if named.is_some_and(|value| !is_holder(value)) {
            return Err(PresentationError::NotHolder { member: "holder" });
        }
        Ok(())
    }

    /// `aud` is the one verifier, so that nobody can present it to another.
    fn check_audience(&self, audience: &Did) -> Result<(), PresentationError> {
        match items(self.claims.get("aud")) {
            [one] if one.as_str() == Some(audience.as_str()) => Ok(()),
            [] => Err(PresentationError::Member { member: "aud" }),
            _ => Err(PresentationError::Audience),
        }
    }

    fn check_times(&self, now: UnixMillis) -> Result<(), PresentationError> {
        let instant = |member: &'static str| match self.claims.get(member) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_i64() {
                Some(seconds) => Ok(Some(UnixMillis::from_unix_seconds(seconds))),
                None => Err(PresentationError::Member { member }),
            },
        };
        let expires_at = instant("exp")?.ok_or(PresentationError::Member { member: "exp" })?;
        let (issued_at, not_before) = (instant("iat")?, instant("nbf")?);
        if expires_at.plus_millis(SKEW_MS) <= now {
            return Err(PresentationError::Expired { expires_at });
        }
        let latest = now.plus_millis(SKEW_MS);
        if let Some(from) = [issued_at, not_before].into_iter().flatten().find(|from| latest < *from) {
            return Err(PresentationError::NotYetValid { from });
        }
        let lifetime_ms = expires_at.since(issued_at.or(not_before).unwrap_or(now));
        if (1..=MAX_LIFETIME_MS).contains(&lifetime_ms) {
            return Ok(());
        }
        Err(PresentationError::Lifetime { lifetime_ms })
    }

    fn credentials(&self) -> Result<Vec<String>, PresentationError> {
        let bad = PresentationError::Member { member: "verifiableCredential" };
        let entries = items(self.vp.get("verifiableCredential"));
        if MAX_CREDENTIALS < entries.len() {
            return Err(PresentationError::TooMany);
        }
        let one = |entry: &Value| match self.profile {
            Profile::Vc11 => entry.as_str().map(str::to_owned),
            Profile::Vc20 => {
                let is_enveloped = items(entry.get("type")).iter().any(|kind| kind.as_str() == Some(ENVELOPED));
                let url = entry.get("id").and_then(Value::as_str).filter(|_| is_enveloped)?;
                DATA_URLS.iter().find_map(|prefix| url.strip_prefix(prefix)).map(str::to_owned)
            }
        };
        entries.iter().map(|entry| one(entry).ok_or(bad.clone())).collect()
    }
}

/// A value that may stand alone, in a list or not at all.
fn items(value: Option<&Value>) -> &[Value] {
    match value {
        None | Some(Value::Null) => &[],
        Some(Value::Array(items)) => items,
        Some(one) => std::slice::from_ref(one),
    }
}
