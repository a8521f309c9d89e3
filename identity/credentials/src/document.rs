//! DID documents (DID Core 1.0): parsed strictly and within bounds, and written.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use shuyu_base::keys::ParseKeyError;
use shuyu_base::{Did, PublicKey, json as strict_json};
use url::Url;

use crate::succession::{self, MAX_SUCCESSION_BYTES, MAX_SUCCESSIONS};

/// Largest document accepted, in bytes.
pub const MAX_DOCUMENT_BYTES: usize = 64 * 1024;
/// Most verification methods accepted, embedded ones included; an organisation has two or three.
pub const MAX_METHODS: usize = 32;
/// The member with the changes of keys ([`crate::succession`]); a full IRI, so that it is itself in JSON-LD.
pub const SUCCESSION_MEMBER: &str = "https://w3id.org/shuyu/profile/1#keySuccession";
/// Most services accepted.
pub const MAX_SERVICES: usize = 32;
/// Most references accepted in one verification relationship.
pub const MAX_REFERENCES: usize = 64;
/// Longest method id, service id, service type or endpoint accepted, in bytes.
pub const MAX_TEXT_BYTES: usize = 2048;

/// What a key may be used for (DID Core 1.0 section 5.3). Relationships not listed here are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Relationship {
    /// Proving to be the subject: presentations.
    Authentication,
    /// Making statements: credentials, agreements, evidence.
    AssertionMethod,
    /// Calling others: self-issued tokens of DCP.
    CapabilityInvocation,
}

impl Relationship {
    /// All of them, in the order of declaration.
    pub const ALL: [Self; 3] = [Self::Authentication, Self::AssertionMethod, Self::CapabilityInvocation];

    /// The member of the document that lists it.
    pub fn member(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::AssertionMethod => "assertionMethod",
            Self::CapabilityInvocation => "capabilityInvocation",
        }
    }
}

/// A key of the document's subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationMethod {
    /// The DID URL of the method: the DID, `#` and a fragment.
    pub id: String,
    /// The key.
    pub key: PublicKey,
    /// What the subject uses it for.
    pub relationships: BTreeSet<Relationship>,
}

/// A place where the subject can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// The DID URL of the service.
    pub id: String,
    /// The type, for example `CredentialService`. A service with several types appears once for each.
    pub kind: String,
    /// Where it is; `http` or `https`. Whether it may be called is for the caller to decide.
    pub endpoint: Url,
}

/// The keys and services of one DID.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DidDocument {
    // Invariant: method ids start with the DID and `#` and differ; at most MAX_METHODS, MAX_SERVICES, MAX_SUCCESSIONS.
    id: Did,
    methods: Vec<VerificationMethod>,
    services: Vec<Service>,
    successions: Vec<String>,
}

/// Why bytes are not the document of the DID.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseDocumentError {
    /// Not JSON, too large, too deep or with duplicate members.
    #[error("did document is not acceptable JSON")]
    Json(#[source] strict_json::ParseJsonError),
    /// A member is missing or has the wrong shape.
    #[error("did document: member `{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// The document is about someone else.
    #[error("did document has id `{found}`, expected `{expected}`")]
    WrongId {
        /// The id found, cut to the longest DID.
        found: String,
        /// The DID that was resolved.
        expected: Did,
    },
    /// More entries than the limit.
    #[error("did document: `{member}` has more than {max} entries")]
    TooMany {
        /// The member.
        member: &'static str,
        /// The limit.
        max: usize,
    },
    /// A method id belongs to another DID, has no fragment or appears twice; or its controller is someone else.
    #[error("did document: method `{id}` has a bad `{member}`")]
    Method {
        /// The id found.
        id: String,
        /// The member at fault.
        member: &'static str,
    },
    /// A key of a supported type is malformed.
    #[error("did document: method `{id}` has a bad key")]
    Key {
        /// The method.
        id: String,
        /// What is wrong with the key.
        source: ParseKeyError,
    },
}

/// A method or service that could not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendDocumentError {
    /// The fragment is empty, too long, has a character that is not allowed, or is taken.
    #[error("fragment `{fragment}` is empty, malformed or taken")]
    Fragment {
        /// The fragment.
        fragment: String,
    },
    /// The document is full.
    #[error("did document already has {max} entries of this kind")]
    Full {
        /// The limit.
        max: usize,
    },
}

impl DidDocument {
    /// A document without keys.
    pub fn new(id: Did) -> Self {
        Self { id, methods: Vec::new(), services: Vec::new(), successions: Vec::new() }
    }

    /// The subject.
    pub fn id(&self) -> &Did {
        &self.id
    }

    /// The keys of supported types, in document order, embedded ones last.
    pub fn methods(&self) -> &[VerificationMethod] {
        &self.methods
    }

    /// The services whose endpoint is an `http` or `https` URL, in document order.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The changes of keys the document tells of, unchecked: see [`crate::succession::leads`].
    pub fn successions(&self) -> &[String] {
        &self.successions
    }

    /// The method with this id, which must be the full DID URL.
    pub fn method(&self, kid: &str) -> Option<&VerificationMethod> {
        self.methods.iter().find(|method| method.id == kid)
    }

    /// The same document with only these keys: what is signed with any other does not hold.
    #[must_use]
    pub fn with_keys(mut self, keys: &[PublicKey]) -> Self {
        self.methods.retain(|method| keys.contains(&method.key));
        self
    }

    /// The first service of this type.
    pub fn service(&self, kind: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.kind == kind)
    }

    /// Adds a key under `fragment`, which is without `#`.
    ///
    /// # Errors
    /// [`ExtendDocumentError`] when the fragment cannot be used or the document is full.
    pub fn add_method(
        &mut self,
        fragment: &str,
        key: PublicKey,
        relationships: impl IntoIterator<Item = Relationship>,
    ) -> Result<(), ExtendDocumentError> {
        let id = self.new_id(fragment)?;
        if MAX_METHODS <= self.methods.len() {
            return Err(ExtendDocumentError::Full { max: MAX_METHODS });
        }
        self.methods.push(VerificationMethod { id, key, relationships: relationships.into_iter().collect() });
        Ok(())
    }

    /// Adds a service under `fragment`, which is without `#`.
    ///
    /// # Errors
    /// [`ExtendDocumentError`] when the fragment cannot be used or the document is full.
    pub fn add_service(&mut self, fragment: &str, kind: &str, endpoint: Url) -> Result<(), ExtendDocumentError> {
        let id = self.new_id(fragment)?;
        if MAX_SERVICES <= self.services.len() {
            return Err(ExtendDocumentError::Full { max: MAX_SERVICES });
        }
        self.services.push(Service { id, kind: kind.to_owned(), endpoint });
        Ok(())
    }

    /// Adds a change of keys.
    ///
    /// # Errors
    /// [`ExtendDocumentError::Full`].
    pub fn add_succession(&mut self, compact: &str) -> Result<(), ExtendDocumentError> {
        if MAX_SUCCESSIONS <= self.successions.len() {
            return Err(ExtendDocumentError::Full { max: MAX_SUCCESSIONS });
        }
        self.successions.push(compact.to_owned());
        Ok(())
    }

    /// What someone who holds this document makes of a later one, and the ids of the keys it does not take: a new key is
    /// taken only if a key held so far handed over to it. What the later one leaves out is kept, so that old signatures
    /// can still be checked.
    #[must_use]
    pub fn followed_by(&self, later: &Self) -> (Self, Vec<String>) {
        let mut joined = self.clone();
        let mut untraced = Vec::new();
        for method in &later.methods {
            let traced = |held: &VerificationMethod| {
                succession::leads(&later.successions, &self.id, &held.key, &method.key).is_ok()
            };
            match self.method(&method.id) {
                Some(held) if held.key == method.key => {}
                None if self.methods.iter().any(traced) && joined.methods.len() < MAX_METHODS => {
                    joined.methods.push(method.clone());
                }
                Some(_) | None => untraced.push(method.id.clone()),
            }
        }
        joined.successions.clone_from(&later.successions);
        // What is held must be readable again.
        if MAX_DOCUMENT_BYTES < joined.to_json().to_string().len() {
            let ids = later.methods.iter().filter(|method| self.method(&method.id).is_none()).map(|one| one.id.clone());
            return (self.clone(), ids.collect());
        }
        (joined, untraced)
    }

    fn new_id(&self, fragment: &str) -> Result<String, ExtendDocumentError> {
        let id = format!("{}#{fragment}", self.id);
        let taken =
            self.methods.iter().any(|method| method.id == id) || self.services.iter().any(|service| service.id == id);
        if taken || !is_fragment(fragment) || MAX_TEXT_BYTES < id.len() {
            return Err(ExtendDocumentError::Fragment { fragment: fragment.to_owned() });
        }
        Ok(id)
    }

    /// Reads the document of `expected`.
    ///
    /// Methods of types and curves that are not supported are left out, as are services whose endpoint is not one
    /// URL: a peer may publish keys we cannot use. A malformed key of a supported type refuses the document, and so does
    /// a document that [`Self::to_json`] would write larger than [`MAX_DOCUMENT_BYTES`].
    ///
    /// # Errors
    /// [`ParseDocumentError`] names the member or the method.
    pub fn parse(bytes: &[u8], expected: &Did) -> Result<Self, ParseDocumentError> {
        let value = strict_json::parse(bytes, MAX_DOCUMENT_BYTES).map_err(ParseDocumentError::Json)?;
        let members = value.as_object().ok_or(ParseDocumentError::Member { member: "id" })?;
        let found = members.get("id").and_then(Value::as_str).ok_or(ParseDocumentError::Member { member: "id" })?;
        if found != expected.as_str() {
            let found = found.chars().take(Did::MAX_BYTES).collect();
            return Err(ParseDocumentError::WrongId { found, expected: expected.clone() });
        }
        let mut reader = Reader { id: expected, seen: BTreeSet::new(), methods: Vec::new() };
        for entry in list(members, "verificationMethod", MAX_METHODS)? {
            reader.method(entry, None)?;
        }
        for relationship in Relationship::ALL {
            for entry in list(members, relationship.member(), MAX_REFERENCES)? {
                match entry.as_str() {
                    Some(reference) => reader.reference(reference, relationship),
                    None => reader.method(entry, Some(relationship))?,
                }
            }
        }
        let methods = reader.methods;
        let mut services = Vec::new();
        for entry in list(members, "service", MAX_SERVICES)? {
            read_service(entry, expected, &mut services)?;
        }
        if MAX_SERVICES < services.len() {
            return Err(ParseDocumentError::TooMany { member: "service", max: MAX_SERVICES });
        }
        let mut successions = Vec::new();
        for entry in list(members, SUCCESSION_MEMBER, MAX_SUCCESSIONS)? {
            let compact = entry.as_str().filter(|compact| compact.len() <= MAX_SUCCESSION_BYTES);
            successions.push(compact.ok_or(ParseDocumentError::Member { member: SUCCESSION_MEMBER })?.to_owned());
        }
        let document = Self { id: expected.clone(), methods, services, successions };
        // Written out, relative ids and services of several types take more room; who keeps a document must be able to
        // read it again.
        let len_bytes = document.to_json().to_string().len();
        if MAX_DOCUMENT_BYTES < len_bytes {
            let too_large = strict_json::ParseJsonError::TooLarge { len_bytes, max_bytes: MAX_DOCUMENT_BYTES };
            return Err(ParseDocumentError::Json(too_large));
        }
        Ok(document)
    }

    /// The document as JSON-LD, keys as `JsonWebKey2020`, which connectors in the field read.
    pub fn to_json(&self) -> Value {
        let methods: Vec<Value> = self
            .methods
            .iter()
            .map(|method| {
                json!({
                    "id": method.id,
                    "type": "JsonWebKey2020",
                    "controller": self.id.as_str(),
                    "publicKeyJwk": method.key.to_jwk(),
                })
            })
            .collect();
        let services: Vec<Value> = self
            .services
            .iter()
            .map(
                |service| json!({"id": service.id, "type": service.kind, "serviceEndpoint": service.endpoint.as_str()}),
            )
            .collect();
        let mut document = json!({
            "@context": ["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"],
            "id": self.id.as_str(),
            "verificationMethod": methods,
        });
        if let Some(members) = document.as_object_mut() {
            for relationship in Relationship::ALL {
                let ids: Vec<Value> = self
                    .methods
                    .iter()
                    .filter(|method| method.relationships.contains(&relationship))
                    .map(|method| method.id.as_str().into())
                    .collect();
                if !ids.is_empty() {
                    members.insert(relationship.member().to_owned(), ids.into());
                }
            }
            if !services.is_empty() {
                members.insert("service".to_owned(), services.into());
            }
            if !self.successions.is_empty() {
                members.insert(SUCCESSION_MEMBER.to_owned(), self.successions.clone().into());
            }
        }
        document
    }
}

/// Collects the methods of one document.
struct Reader<'a> {
    id: &'a Did,
    seen: BTreeSet<String>,
    methods: Vec<VerificationMethod>,
}

impl Reader<'_> {
    /// A relationship that names a method. One that names a method we left out, or another DID's, is of no use here.
    fn reference(&mut self, reference: &str, relationship: Relationship) {
        let full = absolute(reference, self.id);
        if let Some(method) = self.methods.iter_mut().find(|method| method.id == full) {
            method.relationships.insert(relationship);
        }
    }

    /// A method of the list, or one embedded in a relationship.
    fn method(&mut self, entry: &Value, embedded_in: Option<Relationship>) -> Result<(), ParseDocumentError> {
        let member = "verificationMethod";
        let members = entry.as_object().ok_or(ParseDocumentError::Member { member })?;
        let id = members
            .get("id")
            .and_then(Value::as_str)
            .map(|id| absolute(id, self.id))
            .filter(|id| id.len() <= MAX_TEXT_BYTES)
            .ok_or(ParseDocumentError::Member { member: "verificationMethod.id" })?;
        let bad = |id: &String, member| ParseDocumentError::Method { id: id.clone(), member };
        let own = id.strip_prefix(self.id.as_str()).and_then(|rest| rest.strip_prefix('#')).is_some_and(is_fragment);
        if !own || !self.seen.insert(id.clone()) {
            return Err(bad(&id, "id"));
        }
        if MAX_METHODS < self.seen.len() {
            return Err(ParseDocumentError::TooMany { member, max: MAX_METHODS });
        }
        if members.get("controller").and_then(Value::as_str) != Some(self.id.as_str()) {
            return Err(bad(&id, "controller"));
        }
        if let Some(key) = read_key(members, &id)? {
            self.methods.push(VerificationMethod { id, key, relationships: embedded_in.into_iter().collect() });
        }
        Ok(())
    }
}

/// The key of a method; `None` for a type or a curve that is not supported.
fn read_key(members: &Map<String, Value>, id: &str) -> Result<Option<PublicKey>, ParseDocumentError> {
    let bad = |member| ParseDocumentError::Method { id: id.to_owned(), member };
    // Null is how several libraries write what is absent.
    let given = |member| members.get(member).filter(|value: &&Value| !value.is_null());
    let (jwk, multibase) = (given("publicKeyJwk"), given("publicKeyMultibase"));
    // DID Core 1.0 section 5.2.1: not several representations of the same material.
    if jwk.is_some() && multibase.is_some() {
        return Err(bad("publicKeyJwk"));
    }
    let key = match members.get("type").and_then(Value::as_str).ok_or_else(|| bad("type"))? {
        "JsonWebKey2020" | "JsonWebKey" => PublicKey::from_jwk(jwk.ok_or_else(|| bad("publicKeyJwk"))?),
        "Multikey" | "Ed25519VerificationKey2020" => {
            let text = multibase.and_then(Value::as_str).ok_or_else(|| bad("publicKeyMultibase"))?;
            PublicKey::from_multikey(text)
        }
        _ => return Ok(None),
    };
    match key {
        Ok(key) => Ok(Some(key)),
        Err(ParseKeyError::UnknownCodec | ParseKeyError::JwkUnsupported { member: "kty" | "crv" }) => Ok(None),
        Err(source) => Err(ParseDocumentError::Key { id: id.to_owned(), source }),
    }
}

fn read_service(entry: &Value, did: &Did, services: &mut Vec<Service>) -> Result<(), ParseDocumentError> {
    let bad = |member| ParseDocumentError::Member { member };
    let members = entry.as_object().ok_or(bad("service"))?;
    let short = |text: &&str| text.len() <= MAX_TEXT_BYTES;
    let id = members.get("id").and_then(Value::as_str).map(|id| absolute(id, did));
    let id = id.filter(|id| short(&id.as_str())).ok_or(bad("service.id"))?;
    let Some(Value::String(endpoint)) = members.get("serviceEndpoint") else { return Ok(()) };
    let url = Some(endpoint.as_str()).filter(short).and_then(|text| Url::parse(text).ok());
    // A URL grows when its characters are percent-encoded.
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && short(&url.as_str()));
    let Some(endpoint) = url else { return Ok(()) };
    let kind = members.get("type").ok_or(bad("service.type"))?;
    let kinds = kind.as_array().map_or(std::slice::from_ref(kind), Vec::as_slice);
    for kind in kinds {
        let kind = kind.as_str().filter(short).ok_or(bad("service.type"))?.to_owned();
        services.push(Service { id: id.clone(), kind, endpoint: endpoint.clone() });
    }
    Ok(())
}

/// A list member, empty when it is absent.
fn list<'a>(
    members: &'a Map<String, Value>,
    member: &'static str,
    max: usize,
) -> Result<&'a [Value], ParseDocumentError> {
    match members.get(member) {
        None => Ok(&[]),
        Some(Value::Array(entries)) if entries.len() <= max => Ok(entries),
        Some(Value::Array(_)) => Err(ParseDocumentError::TooMany { member, max }),
        Some(_) => Err(ParseDocumentError::Member { member }),
    }
}

/// A relative DID URL `#fragment` made absolute (DID Core 1.0 section 3.2.2).
fn absolute(reference: &str, did: &Did) -> String {
    if reference.starts_with('#') { format!("{did}{reference}") } else { reference.to_owned() }
}

/// `fragment` of RFC 3986 section 3.5, not empty and without percent-encoding, which would give one key two names.
fn is_fragment(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&b))
}

#[cfg(test)]
mod tests;
