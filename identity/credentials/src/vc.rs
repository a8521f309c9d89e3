//! Verifiable credentials as JWT, in the two profiles of DCP 1.0: Data Model 1.1 with a `vc` claim, and Data Model 2.0
//! with the credential itself as payload (VC-JOSE-COSE, section 3.1).

use serde_json::{Map, Value, json};
use shuyu_base::{Did, SecretKey, UnixMillis, json as strict_json};
use url::Url;

use crate::jws::{self, JwsError};
use crate::scope::CredentialType;
use crate::status::{StatusEntry, StatusError};
use crate::token::SKEW_MS;
use crate::{DidDocument, Relationship};

/// Longest credential accepted, in bytes of its JWT.
pub const MAX_CREDENTIAL_BYTES: usize = jws::MAX_JWS_BYTES;
/// Longest credential of a status list accepted, in bytes of its JWT.
pub const MAX_LIST_CREDENTIAL_BYTES: usize = 1024 * 1024;
/// Most types of one credential.
pub const MAX_TYPES: usize = 16;
/// Most schemas of one credential.
pub const MAX_SCHEMAS: usize = 4;
/// Longest id, context or schema address, in bytes.
pub const MAX_TEXT_BYTES: usize = 2048;
/// Most contexts of one credential.
const MAX_CONTEXTS: usize = 16;

/// JSON-LD context of Data Model 1.1.
pub const CONTEXT_V1: &str = "https://www.w3.org/2018/credentials/v1";
/// JSON-LD context of Data Model 2.0.
pub const CONTEXT_V2: &str = "https://www.w3.org/ns/credentials/v2";
/// The type that every credential has.
pub const BASE_TYPE: &str = "VerifiableCredential";
/// Types of `credentialSchema` whose schema is a JSON Schema.
const SCHEMA_TYPES: [&str; 2] = ["JsonSchema", "JsonSchemaValidator2018"];

/// Data model, status mechanism and proof, together (DCP 1.0, "Profiles").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// Data Model 2.0, Bitstring Status List, JWT.
    Vc20,
    /// Data Model 1.1, Status List 2021, JWT.
    Vc11,
}

impl Profile {
    /// Both, the newer first.
    pub const ALL: [Self; 2] = [Self::Vc20, Self::Vc11];

    /// The alias of the specification.
    pub fn name(self) -> &'static str {
        match self {
            Self::Vc20 => "vc20-bssl/jwt",
            Self::Vc11 => "vc11-sl2021/jwt",
        }
    }

    /// The profile of an alias.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name() == name)
    }
}

/// A credential whose signature and members were checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// How it is written.
    pub profile: Profile,
    /// Its own identifier.
    pub id: Option<String>,
    /// Its types without [`BASE_TYPE`].
    pub types: Vec<CredentialType>,
    /// Who says so.
    pub issuer: Did,
    /// About whom.
    pub subject: Did,
    /// What is said, without `id`.
    pub claims: Map<String, Value>,
    /// Since when it is valid: the later of what the envelope and the credential say.
    pub valid_from: UnixMillis,
    /// Until when: the earlier of what the two say.
    pub valid_until: Option<UnixMillis>,
    /// Where its status is; every one must be clear.
    pub status: Vec<StatusEntry>,
    /// Addresses of JSON Schemas for the subject, `id` included.
    pub schemas: Vec<Url>,
}

/// What a credential is to say.
#[derive(Clone, Debug)]
pub struct Draft<'a> {
    /// How it is written.
    pub profile: Profile,
    /// Its identifier, a URI.
    pub id: &'a str,
    /// Its types besides [`BASE_TYPE`].
    pub types: &'a [CredentialType],
    /// Who says so: the signer.
    pub issuer: &'a Did,
    /// About whom.
    pub subject: &'a str,
    /// What is said, without `id`.
    pub claims: Map<String, Value>,
    /// Since when; cut to whole seconds.
    pub valid_from: UnixMillis,
    /// Until when; cut to whole seconds.
    pub valid_until: UnixMillis,
    /// Where its status will be, once for each purpose.
    pub status: &'a [StatusEntry],
}

/// Why a JWT is not a credential we accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// The envelope is malformed, or its signature does not hold.
    #[error("credential is not an acceptable jws")]
    Jws(#[source] JwsError),
    /// Signed as another kind of message.
    #[error("credential has `typ` `{found}`")]
    Typ {
        /// The type found.
        found: String,
    },
    /// A member is missing, malformed or too long.
    #[error("credential member `{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// Two places say different things.
    #[error("credential member `{member}` contradicts the envelope")]
    Contradiction {
        /// The member.
        member: &'static str,
    },
    /// The key belongs to someone else than the issuer.
    #[error("credential key `{kid}` does not belong to the issuer")]
    NotIssuer {
        /// The key.
        kid: String,
    },
    /// The key may not be used for statements.
    #[error("credential key `{kid}` does not hold `assertionMethod`")]
    Relationship {
        /// The key.
        kid: String,
    },
    /// `credentialStatus` is not understood.
    #[error("credential status is not understood")]
    Status(#[source] StatusError),
}

/// Why a credential is not valid at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ValidityError {
    /// Past its end, even with a slow clock.
    #[error("credential expired at {until}")]
    Expired {
        /// Its end.
        until: UnixMillis,
    },
    /// Before its start, even with a fast clock.
    #[error("credential is not valid before {from}")]
    NotYetValid {
        /// Its start.
        from: UnixMillis,
    },
}

impl Credential {
    /// Whether it is valid at `now`, clocks being up to [`SKEW_MS`] apart.
    ///
    /// # Errors
    /// [`ValidityError`].
    pub fn check_time(&self, now: UnixMillis) -> Result<(), ValidityError> {
        if now.plus_millis(SKEW_MS) < self.valid_from {
            return Err(ValidityError::NotYetValid { from: self.valid_from });
        }
        match self.valid_until {
            Some(until) if until.plus_millis(SKEW_MS) <= now => Err(ValidityError::Expired { until }),
            _ => Ok(()),
        }
    }

    /// Whether it is of this type.
    pub fn is_a(&self, kind: &CredentialType) -> bool {
        self.types.contains(kind)
    }

    /// The subject as the schemas see it: the claims and the `id`.
    pub fn subject_json(&self) -> Value {
        let mut subject = self.claims.clone();
        subject.insert("id".to_owned(), self.subject.as_str().into());
        Value::Object(subject)
    }
}

/// What a credential says of itself, **unverified**: enough to know whose document is needed and whether to look further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The issuer it names.
    pub issuer: Did,
    /// The types it names, without [`BASE_TYPE`].
    pub types: Vec<CredentialType>,
}

/// Reads issuer and types without checking anything else.
///
/// # Errors
/// [`CredentialError`] when it cannot be genuine whatever the issuer's document says.
pub fn peek(compact: &str) -> Result<Claimed, CredentialError> {
    let unverified = jws::peek_within(compact, MAX_LIST_CREDENTIAL_BYTES).map_err(CredentialError::Jws)?;
    let body = Body::parse(&unverified.payload, unverified.typ.as_deref())?;
    let issuer = body.issuer()?;
    Ok(Claimed { types: body.types()?, issuer })
}

/// Checks a credential against its issuer's document. Time, status, schema and trust are separate questions.
///
/// # Errors
/// [`CredentialError`] names the member.
pub fn verify(compact: &str, issuer: &DidDocument) -> Result<Credential, CredentialError> {
    let body = open(compact, issuer, MAX_CREDENTIAL_BYTES)?;
    body.credential()
}

/// Checks the credential of a status list against its issuer's document and returns its subject and validity.
///
/// # Errors
/// [`CredentialError`] names the member.
pub fn verify_list(compact: &str, issuer: &DidDocument) -> Result<(Map<String, Value>, Window), CredentialError> {
    let body = open(compact, issuer, MAX_LIST_CREDENTIAL_BYTES)?;
    let window = body.window()?;
    Ok((body.subject()?.clone(), window))
}

/// When something is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Since when.
    pub from: UnixMillis,
    /// Until when.
    pub until: Option<UnixMillis>,
}

impl Window {
    /// Whether `now` lies within, clocks being up to [`SKEW_MS`] apart.
    pub fn holds(self, now: UnixMillis) -> bool {
        self.from <= now.plus_millis(SKEW_MS) && self.until.is_none_or(|until| now < until.plus_millis(SKEW_MS))
    }
}

fn open(compact: &str, issuer: &DidDocument, max_bytes: usize) -> Result<Body, CredentialError> {
    let mut other_use = None;
    let verified = jws::verify_within(compact, max_bytes, |kid| {
        let method = issuer.method(kid)?;
        if !method.relationships.contains(&Relationship::AssertionMethod) {
            other_use = Some(kid.to_owned());
            return None;
        }
        Some(method.key.clone())
    });
    if let Some(kid) = other_use {
        return Err(CredentialError::Relationship { kid });
    }
    let verified = verified.map_err(CredentialError::Jws)?;
    let body = Body::parse(&verified.payload, verified.typ.as_deref())?;
    let own = verified.kid.strip_prefix(issuer.id().as_str()).is_some_and(|rest| rest.starts_with('#'));
    if !own || body.issuer()? != *issuer.id() {
        return Err(CredentialError::NotIssuer { kid: verified.kid });
    }
    Ok(body)
}

/// Signs a credential with `key`, which the issuer's document lists as `kid` under `assertionMethod`.
pub fn issue(key: &SecretKey, kid: &str, draft: &Draft<'_>) -> String {
    issue_with(key, kid, draft, &[])
}

/// As [`issue`], with contexts besides the data model's.
pub fn issue_with(key: &SecretKey, kid: &str, draft: &Draft<'_>, contexts: &[&str]) -> String {
    let mut types = vec![Value::from(BASE_TYPE)];
    types.extend(draft.types.iter().map(|kind| kind.as_str().into()));
    let mut subject = draft.claims.clone();
    subject.insert("id".to_owned(), draft.subject.into());
    let (from_s, until_s) = (draft.valid_from.unix_seconds(), draft.valid_until.unix_seconds());
    let (from, until) = (text_of(from_s), text_of(until_s));
    let base = match draft.profile {
        Profile::Vc20 => CONTEXT_V2,
        Profile::Vc11 => CONTEXT_V1,
    };
    let contexts = [&[base], contexts].concat();
    let mut credential = json!({
        "@context": contexts, "id": draft.id, "type": types, "issuer": draft.issuer.as_str(),
        "credentialSubject": subject,
    });
    let times = match draft.profile {
        Profile::Vc20 => [("validFrom", from), ("validUntil", until)],
        Profile::Vc11 => [("issuanceDate", from), ("expirationDate", until)],
    };
    let claims = json!({
        "iss": draft.issuer.as_str(), "sub": draft.subject, "jti": draft.id,
        "iat": from_s, "nbf": from_s, "exp": until_s,
    });
    if let (Some(members), Value::Object(claims)) = (credential.as_object_mut(), claims) {
        members.extend(times.map(|(member, time)| (member.to_owned(), time.into())));
        let status = match draft.status {
            [] => None,
            [only] => Some(only.to_json()),
            several => Some(several.iter().map(StatusEntry::to_json).collect()),
        };
        members.extend(status.map(|status| ("credentialStatus".to_owned(), status)));
        let (typ, payload) = match draft.profile {
            Profile::Vc20 => {
                members.extend(claims);
                ("vc+jwt", credential)
            }
            Profile::Vc11 => {
                let mut payload = claims;
                payload.insert("vc".to_owned(), credential);
                ("JWT", Value::Object(payload))
            }
        };
        return jws::sign(key, kid, typ, payload.to_string().as_bytes());
    }
    String::new() // Not reached: both literals above are objects.
}

/// Whole seconds as RFC 3339.
fn text_of(seconds: i64) -> String {
    UnixMillis::from_unix_seconds(seconds).to_string().replace(".000Z", "Z")
}

/// The two parts of a credential's JWT; the same map twice in Data Model 2.0.
struct Body {
    profile: Profile,
    claims: Map<String, Value>,
    vc: Map<String, Value>,
}

impl Body {
    fn parse(payload: &[u8], typ: Option<&str>) -> Result<Self, CredentialError> {
        let bad = |member| CredentialError::Member { member };
        let Ok(Value::Object(mut claims)) = strict_json::parse(payload, MAX_LIST_CREDENTIAL_BYTES) else {
            return Err(bad("payload"));
        };
        let (profile, vc, typs): (_, _, &[&str]) = match claims.remove("vc") {
            Some(Value::Object(vc)) => (Profile::Vc11, vc, &["JWT"]),
            Some(_) => return Err(bad("vc")),
            None => (Profile::Vc20, claims.clone(), &["vc+jwt", "vc+ld+jwt"]),
        };
        // A 2.0 credential is told from other JWTs by its type; a 1.1 credential by its `vc` claim.
        let typ_is_good = match typ {
            Some(typ) => typs.iter().any(|good| good.eq_ignore_ascii_case(typ)),
            None => profile == Profile::Vc11,
        };
        if !typ_is_good {
            return Err(CredentialError::Typ { found: typ.unwrap_or_default().to_owned() });
        }
        let body = Self { profile, claims, vc };
        body.check_context()?;
        Ok(body)
    }

    fn check_context(&self) -> Result<(), CredentialError> {
        let bad = CredentialError::Member { member: "@context" };
        let expected = match self.profile {
            Profile::Vc20 => CONTEXT_V2,
            Profile::Vc11 => CONTEXT_V1,
        };
        let contexts = items(self.given("@context").ok_or(bad.clone())?);
        let first = contexts.first().and_then(Value::as_str);
        if first == Some(expected) && contexts.len() <= MAX_CONTEXTS { Ok(()) } else { Err(bad) }
    }

    /// A member of the credential; null is how several libraries write what is absent.
    fn given(&self, member: &str) -> Option<&Value> {
        self.vc.get(member).filter(|value| !value.is_null())
    }

    fn claim(&self, claim: &str) -> Option<&Value> {
        self.claims.get(claim).filter(|value| !value.is_null())
    }

    /// The issuer: `iss` and `issuer` (text or object with an `id`), equal where both are given.
    fn issuer(&self) -> Result<Did, CredentialError> {
        let bad = CredentialError::Member { member: "issuer" };
        let inner = match self.given("issuer") {
            Some(Value::Object(members)) => Some(members.get("id").and_then(Value::as_str).ok_or(bad.clone())?),
            Some(value) => Some(value.as_str().ok_or(bad.clone())?),
            None => None,
        };
        let outer = self.claim("iss").map(|value| value.as_str().ok_or(bad.clone())).transpose()?;
        if let (Some(inner), Some(outer)) = (inner, outer)
            && inner != outer
        {
            return Err(CredentialError::Contradiction { member: "issuer" });
        }
        inner.or(outer).and_then(|text| text.parse().ok()).ok_or(bad)
    }

    fn types(&self) -> Result<Vec<CredentialType>, CredentialError> {
        let bad = CredentialError::Member { member: "type" };
        let types = items(self.given("type").ok_or(bad.clone())?);
        if MAX_TYPES < types.len() || !types.iter().any(|kind| kind.as_str() == Some(BASE_TYPE)) {
            return Err(bad);
        }
        let others = types.iter().filter(|kind| kind.as_str() != Some(BASE_TYPE));
        others.map(|kind| kind.as_str().and_then(|text| text.parse().ok()).ok_or(bad.clone())).collect()
    }

    /// The one subject.
    fn subject(&self) -> Result<&Map<String, Value>, CredentialError> {
        let bad = CredentialError::Member { member: "credentialSubject" };
        match items(self.given("credentialSubject").ok_or(bad.clone())?) {
            [one] => one.as_object().ok_or(bad),
            _ => Err(bad),
        }
    }

    fn window(&self) -> Result<Window, CredentialError> {
        let (from, until) = match self.profile {
            Profile::Vc20 => ("validFrom", "validUntil"),
            Profile::Vc11 => ("issuanceDate", "expirationDate"),
        };
        let starts = [self.date(from)?, self.number("nbf")?];
        let ends = [self.date(until)?, self.number("exp")?];
        // VC Data Model 1.1, section 4.6: an issuance date must be given, here or as `nbf`; 2.0 makes it optional.
        let from = starts.into_iter().flatten().max();
        if from.is_none() && self.profile == Profile::Vc11 {
            return Err(CredentialError::Member { member: "issuanceDate" });
        }
        Ok(Window { from: from.unwrap_or(UnixMillis(i64::MIN)), until: ends.into_iter().flatten().min() })
    }

    fn date(&self, member: &'static str) -> Result<Option<UnixMillis>, CredentialError> {
        let parse = |value: &Value| UnixMillis::from_rfc3339(value.as_str()?);
        self.given(member).map(|value| parse(value).ok_or(CredentialError::Member { member })).transpose()
    }

    fn number(&self, member: &'static str) -> Result<Option<UnixMillis>, CredentialError> {
        let parse = |value: &Value| value.as_i64().map(UnixMillis::from_unix_seconds);
        self.claim(member).map(|value| parse(value).ok_or(CredentialError::Member { member })).transpose()
    }

    fn schemas(&self) -> Result<Vec<Url>, CredentialError> {
        let bad = CredentialError::Member { member: "credentialSchema" };
        let Some(value) = self.given("credentialSchema") else { return Ok(Vec::new()) };
        let entries = items(value);
        if MAX_SCHEMAS < entries.len() {
            return Err(bad);
        }
        let one = |entry: &Value| {
            let text = |member| entry.get(member).and_then(Value::as_str);
            let known = text("type").is_some_and(|kind| SCHEMA_TYPES.contains(&kind));
            let url = text("id").filter(|id| known && id.len() <= MAX_TEXT_BYTES).and_then(|id| Url::parse(id).ok());
            url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(bad.clone())
        };
        entries.iter().map(one).collect()
    }

    fn credential(&self) -> Result<Credential, CredentialError> {
        let bad = |member| CredentialError::Member { member };
        let id = match self.given("id") {
            Some(value) => {
                let id = value.as_str().filter(|id| (1..=MAX_TEXT_BYTES).contains(&id.len()));
                Some(id.ok_or(bad("id"))?.to_owned())
            }
            None => None,
        };
        let mut claims = self.subject()?.clone();
        let subject = claims.remove("id");
        let subject = subject.as_ref().and_then(Value::as_str).ok_or(bad("credentialSubject.id"))?;
        if self.claim("sub").is_some_and(|sub| sub.as_str() != Some(subject)) {
            return Err(CredentialError::Contradiction { member: "credentialSubject.id" });
        }
        let status = match self.given("credentialStatus") {
            Some(value) => StatusEntry::parse_all(value).map_err(CredentialError::Status)?,
            None => Vec::new(),
        };
        let window = self.window()?;
        Ok(Credential {
            profile: self.profile,
            id,
            types: self.types()?,
            issuer: self.issuer()?,
            subject: subject.parse().map_err(|_| bad("credentialSubject.id"))?,
            claims,
            valid_from: window.from,
            valid_until: window.until,
            status,
            schemas: self.schemas()?,
        })
    }
}

/// A value that may stand alone or in a list.
fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

#[cfg(test)]
mod tests;
