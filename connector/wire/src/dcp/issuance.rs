//! Requesting, issuing, offering (DCP 1.0, chapter 6).

use serde_json::{Map, Value, json};
use shuyu_base::Did;
use shuyu_credentials::CredentialType;
use shuyu_credentials::scope::MAX_TYPE_BYTES;
use shuyu_credentials::vc::MAX_CREDENTIAL_BYTES;

use super::{DecodeError, MAX_CREDENTIALS, MAX_ID_BYTES, MAX_METHODS, MAX_TEXT_BYTES, Problem, invalid, open, start};
use crate::dsp::reader::{At, Object};

/// A holder asks for credentials (section 6.4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRequest {
    /// The holder's name for the request.
    pub holder_pid: String,
    /// Ids of the issuer's credential objects, at least one.
    pub credentials: Vec<String>,
}

impl CredentialRequest {
    const TYPE: &str = "CredentialRequestMessage";

    /// Reads a request.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let holder_pid = message.text("holderPid", MAX_ID_BYTES)?.to_owned();
        let list = message.need("credentials")?;
        let items = list.items(MAX_CREDENTIALS)?;
        if items.is_empty() {
            return Err(list.error(Problem::Empty));
        }
        let ids = items.into_iter().map(|item| Ok(item.object()?.text("id", MAX_ID_BYTES)?.to_owned()));
        Ok(Self { holder_pid, credentials: ids.collect::<Result<_, _>>()? })
    }

    /// The request as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("holderPid".to_owned(), self.holder_pid.as_str().into());
        message.insert("credentials".to_owned(), self.credentials.iter().map(|id| json!({ "id": id })).collect());
        Value::Object(message)
    }
}

/// One credential on its way to its holder (section 6.5.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialContainer {
    /// Its type.
    pub kind: CredentialType,
    /// The profile, by the issuer's account; the payload itself decides.
    pub format: String,
    /// The JWT.
    pub payload: String,
}

/// What a request came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The credentials.
    Issued(Vec<CredentialContainer>),
    /// Nothing, with the reason if the issuer gives one.
    Rejected(Option<String>),
}

/// An issuer delivers (section 6.5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialMessage {
    /// The issuer's name for the request.
    pub issuer_pid: String,
    /// The holder's name for the request.
    pub holder_pid: Option<String>,
    /// What it came to.
    pub outcome: Outcome,
}

impl CredentialMessage {
    const TYPE: &str = "CredentialMessage";

    /// Reads a delivery.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let issuer_pid = message.text("issuerPid", MAX_ID_BYTES)?.to_owned();
        let holder_pid = message.maybe_text("holderPid", MAX_ID_BYTES)?;
        let outcome = match message.text("status", MAX_ID_BYTES)? {
            "ISSUED" => Outcome::Issued(Self::containers(&message)?),
            "REJECTED" => Outcome::Rejected(message.maybe_text("rejectionReason", MAX_TEXT_BYTES)?),
            _ => return Err(message.error("status", Problem::Unknown("`ISSUED` or `REJECTED`".to_owned()))),
        };
        Ok(Self { issuer_pid, holder_pid, outcome })
    }

    fn containers(message: &Object<'_>) -> Result<Vec<CredentialContainer>, DecodeError> {
        let list = message.need("credentials")?;
        let items = list.items(MAX_CREDENTIALS)?;
        if items.is_empty() {
            return Err(list.error(Problem::Empty));
        }
        let one = |item: At<'_>| {
            let members = item.object()?;
            Ok(CredentialContainer {
                kind: kind(&members.need("credentialType")?)?,
                format: members.text("format", MAX_ID_BYTES)?.to_owned(),
                payload: members.text("payload", MAX_CREDENTIAL_BYTES)?.to_owned(),
            })
        };
        items.into_iter().map(one).collect()
    }

    /// The delivery as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("issuerPid".to_owned(), self.issuer_pid.as_str().into());
        if let Some(pid) = &self.holder_pid {
            message.insert("holderPid".to_owned(), pid.as_str().into());
        }
        match &self.outcome {
            Outcome::Issued(credentials) => {
                let one = |credential: &CredentialContainer| {
                    json!({
                        "credentialType": credential.kind.as_str(), "format": credential.format,
                        "payload": credential.payload,
                    })
                };
                message.insert("status".to_owned(), "ISSUED".into());
                message.insert("credentials".to_owned(), credentials.iter().map(one).collect());
            }
            Outcome::Rejected(reason) => {
                message.insert("status".to_owned(), "REJECTED".into());
                if let Some(reason) = reason {
                    message.insert("rejectionReason".to_owned(), reason.as_str().into());
                }
            }
        }
        Value::Object(message)
    }
}

/// A credential that an issuer can issue (section 6.6.2). An offer may name it by its id alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialObject {
    /// Stable id.
    pub id: String,
    /// Type of the credential.
    pub kind: Option<CredentialType>,
    /// Alias of the profile.
    pub profile: Option<String>,
    /// What the credential can be bound to, for example `did:web`.
    pub binding_methods: Vec<String>,
    /// Address of the JSON Schema of the subject.
    pub schema: Option<String>,
    /// Why it is offered, for example `reissue`.
    pub reason: Option<String>,
}

impl CredentialObject {
    const TYPE: &str = "CredentialObject";

    fn decode(at: At<'_>) -> Result<Self, DecodeError> {
        let members = at.object()?;
        let id = members.text("id", MAX_ID_BYTES)?.to_owned();
        let found = members.maybe_text("type", MAX_ID_BYTES)?;
        if found.is_some_and(|found| found != Self::TYPE) {
            return Err(members.error("type", Problem::Unknown(format!("`{}`", Self::TYPE))));
        }
        let methods = members.maybe_items("bindingMethods", MAX_METHODS)?;
        let methods = methods.iter().map(|item| item.text(MAX_ID_BYTES).map(str::to_owned));
        Ok(Self {
            id,
            kind: members.get("credentialType").map(|at| kind(&at)).transpose()?,
            profile: members.maybe_text("profile", MAX_ID_BYTES)?,
            binding_methods: methods.collect::<Result<_, _>>()?,
            schema: members.maybe_text("credentialSchema", MAX_TEXT_BYTES)?,
            reason: members.maybe_text("offerReason", MAX_TEXT_BYTES)?,
        })
    }

    fn encode(&self) -> Value {
        let mut members = Map::new();
        let mut set = |member: &str, value: Value| members.insert(member.to_owned(), value);
        set("id", self.id.as_str().into());
        let Some(kind) = &self.kind else { return Value::Object(members) };
        set("type", Self::TYPE.into());
        set("credentialType", kind.as_str().into());
        set("bindingMethods", self.binding_methods.clone().into());
        for (member, value) in
            [("profile", &self.profile), ("credentialSchema", &self.schema), ("offerReason", &self.reason)]
        {
            if let Some(value) = value {
                set(member, value.as_str().into());
            }
        }
        // Nothing is asked for before issuing that the protocol could say; metadata must have the member all the same.
        set("issuancePolicy", json!({}));
        Value::Object(members)
    }
}

/// An issuer offers credentials (section 6.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialOffer {
    /// The issuer.
    pub issuer: Did,
    /// What is offered, at least one.
    pub credentials: Vec<CredentialObject>,
}

impl CredentialOffer {
    const TYPE: &str = "CredentialOfferMessage";

    /// Reads an offer.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let list = message.need("credentials")?;
        let items = list.items(MAX_CREDENTIALS)?;
        if items.is_empty() {
            return Err(list.error(Problem::Empty));
        }
        let credentials = items.into_iter().map(CredentialObject::decode).collect::<Result<_, _>>()?;
        Ok(Self { issuer: message.need("issuer")?.parse(Did::MAX_BYTES)?, credentials })
    }

    /// The offer as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("issuer".to_owned(), self.issuer.as_str().into());
        message.insert("credentials".to_owned(), self.credentials.iter().map(CredentialObject::encode).collect());
        Value::Object(message)
    }
}

/// What an issuer can issue (section 6.7.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerMetadata {
    /// The issuer.
    pub issuer: Did,
    /// What it supports.
    pub supported: Vec<CredentialObject>,
}

impl IssuerMetadata {
    const TYPE: &str = "IssuerMetadata";

    /// Reads metadata.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let items = message.maybe_items("credentialsSupported", MAX_CREDENTIALS)?;
        let supported = items.into_iter().map(CredentialObject::decode).collect::<Result<_, _>>()?;
        Ok(Self { issuer: message.need("issuer")?.parse(Did::MAX_BYTES)?, supported })
    }

    /// The metadata as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("issuer".to_owned(), self.issuer.as_str().into());
        message
            .insert("credentialsSupported".to_owned(), self.supported.iter().map(CredentialObject::encode).collect());
        Value::Object(message)
    }
}

/// How far a request is (section 6.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStatus {
    /// Not decided, or decided and not delivered.
    Received,
    /// Refused.
    Rejected,
    /// Delivered.
    Issued,
}

impl RequestStatus {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Received, Self::Rejected, Self::Issued];

    /// The word used on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Received => "RECEIVED",
            Self::Rejected => "REJECTED",
            Self::Issued => "ISSUED",
        }
    }
}

/// The status of a request, for the holder who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStatus {
    /// The issuer's name for the request.
    pub issuer_pid: String,
    /// The holder's name for it.
    pub holder_pid: String,
    /// How far it is.
    pub status: RequestStatus,
}

impl CredentialStatus {
    const TYPE: &str = "CredentialStatus";

    /// Reads a status.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value, Self::TYPE)?;
        let text = message.text("status", MAX_ID_BYTES)?;
        let status = RequestStatus::ALL.into_iter().find(|status| status.name() == text);
        let unknown = || message.error("status", Problem::Unknown("`RECEIVED`, `REJECTED` or `ISSUED`".to_owned()));
        Ok(Self {
            issuer_pid: message.text("issuerPid", MAX_ID_BYTES)?.to_owned(),
            holder_pid: message.text("holderPid", MAX_ID_BYTES)?.to_owned(),
            status: status.ok_or_else(unknown)?,
        })
    }

    /// The status as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(Self::TYPE);
        message.insert("issuerPid".to_owned(), self.issuer_pid.as_str().into());
        message.insert("holderPid".to_owned(), self.holder_pid.as_str().into());
        message.insert("status".to_owned(), self.status.name().into());
        Value::Object(message)
    }
}

fn kind(at: &At<'_>) -> Result<CredentialType, DecodeError> {
    at.text(MAX_TYPE_BYTES)?.parse().map_err(|error| at.error(invalid(error)))
}
