//! Messages of a contract negotiation ("Contract Negotiation Protocol", "Message Types").

use serde_json::{Map, Value};
use shuyu_base::Digest;
use shuyu_contract_engine::negotiation::{State, Verb};
use shuyu_contract_engine::signature::{MAX_SIGNATURE_BYTES, MAX_SIGNATURES};
use shuyu_contract_engine::{Msg, Negotiation, OfferTerms, Party, Pid, Salt};

use super::envelope::{CallbackUrl, Explanation, MAX_ID_BYTES, ProcessState, open, put, start};
use super::policy::{AgreementPart, OfferPart};
use super::reader::{DecodeError, Object, Problem};

/// The member with a party's signatures under the agreement: an extension, so a full IRI, which JSON-LD takes as it is.
pub const SIGNATURES_MEMBER: &str = "https://w3id.org/shuyu/profile/1#signatures";
/// The member by which a request names the agreement it renews.
pub const RENEWS_MEMBER: &str = "https://w3id.org/shuyu/profile/1#renews";

/// The state of a negotiation as the other party reports it.
pub type NegotiationState = ProcessState<State>;

/// A message of a negotiation.
#[derive(Clone, Debug, PartialEq)]
pub struct NegotiationMessage {
    /// The message's own identifier (`@id`); it salts the digest and tells a repeat from a second message.
    pub id: Option<String>,
    /// The provider's identifier; absent in the request that opens.
    pub provider_pid: Option<Pid>,
    /// The consumer's identifier; absent in the offer that opens.
    pub consumer_pid: Option<Pid>,
    /// What it says.
    pub body: NegotiationBody,
}

/// What a message of a negotiation says.
#[derive(Clone, Debug, PartialEq)]
pub enum NegotiationBody {
    /// Contract Request Message.
    Request {
        /// The terms asked for.
        offer: OfferPart,
        /// Where the consumer listens; in the message that opens.
        callback: Option<CallbackUrl>,
        /// The agreement that the new one is to take the place of; an extension of this profile.
        renews: Option<String>,
    },
    /// Contract Offer Message.
    Offer {
        /// The terms offered.
        offer: OfferPart,
        /// Where the provider listens; in the message that opens.
        callback: Option<CallbackUrl>,
    },
    /// Contract Negotiation Event Message, `ACCEPTED`.
    Accepted,
    /// Contract Agreement Message.
    Agreement {
        /// The agreement.
        agreement: AgreementPart,
        /// The provider's signatures under it; an extension of this profile.
        signatures: Vec<String>,
    },
    /// Contract Agreement Verification Message.
    Verification {
        /// The consumer's signatures under the agreement; an extension of this profile.
        signatures: Vec<String>,
    },
    /// Contract Negotiation Event Message, `FINALIZED`.
    Finalized,
    /// Contract Negotiation Termination Message.
    Termination(Explanation),
}

impl NegotiationMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value)?;
        let callback = || message.get("callbackAddress").map(|at| at.parse(CallbackUrl::MAX_BYTES)).transpose();
        let body = match message.text("@type", MAX_ID_BYTES)? {
            "ContractRequestMessage" => {
                let offer = OfferPart::decode_in_message(&message.need("offer")?)?;
                let renews = message.maybe_text(RENEWS_MEMBER, MAX_ID_BYTES)?;
                NegotiationBody::Request { offer, callback: callback()?, renews }
            }
            "ContractOfferMessage" => {
                let offer = OfferPart::decode_in_message(&message.need("offer")?)?;
                NegotiationBody::Offer { offer, callback: callback()? }
            }
            "ContractNegotiationEventMessage" => match message.text("eventType", MAX_ID_BYTES)? {
                "ACCEPTED" => NegotiationBody::Accepted,
                "FINALIZED" => NegotiationBody::Finalized,
                _ => return Err(message.error("eventType", Problem::Unknown("`ACCEPTED` or `FINALIZED`".to_owned()))),
            },
            "ContractAgreementMessage" => NegotiationBody::Agreement {
                agreement: AgreementPart::decode(&message.need("agreement")?)?,
                signatures: signatures(&message)?,
            },
            "ContractAgreementVerificationMessage" => {
                NegotiationBody::Verification { signatures: signatures(&message)? }
            }
            "ContractNegotiationTerminationMessage" => NegotiationBody::Termination(Explanation::decode(&message)?),
            _ => return Err(message.error("@type", Problem::Unknown("a message of a negotiation".to_owned()))),
        };
        let read = Self {
            id: message.maybe_text("@id", MAX_ID_BYTES)?,
            provider_pid: message.maybe_pid("providerPid")?,
            consumer_pid: message.maybe_pid("consumerPid")?,
            body,
        };
        read.check_pids(&message)?;
        Ok(read)
    }

    /// Both identifiers are needed, except in a message that opens, which needs the callback address instead.
    fn check_pids(&self, message: &Object<'_>) -> Result<(), DecodeError> {
        let missing = |name: &str| Err(message.error(name, Problem::Missing));
        match (&self.body, &self.provider_pid, &self.consumer_pid) {
            (NegotiationBody::Request { .. }, _, None) => missing("consumerPid"),
            (NegotiationBody::Request { callback: None, .. }, None, Some(_))
            | (NegotiationBody::Offer { callback: None, .. }, Some(_), None) => missing("callbackAddress"),
            (_, Some(_), Some(_))
            | (NegotiationBody::Request { .. }, None, Some(_))
            | (NegotiationBody::Offer { .. }, Some(_), None) => Ok(()),
            (_, None, _) => missing("providerPid"),
            (_, Some(_), None) => missing("consumerPid"),
        }
    }

    /// The message as JSON. The callback address is written only in a message that opens (schema, `oneOf`).
    pub fn encode(&self) -> Value {
        let mut message = start(self.type_name(), self.id.as_deref());
        put(&mut message, "providerPid", self.provider_pid.as_ref().map(Pid::as_str));
        put(&mut message, "consumerPid", self.consumer_pid.as_ref().map(Pid::as_str));
        let opens = self.provider_pid.is_none() || self.consumer_pid.is_none();
        match &self.body {
            NegotiationBody::Request { offer, callback, .. } | NegotiationBody::Offer { offer, callback } => {
                message.insert("offer".to_owned(), offer.policy.clone());
                if let NegotiationBody::Request { renews, .. } = &self.body {
                    put(&mut message, RENEWS_MEMBER, renews.as_deref());
                }
                put(&mut message, "callbackAddress", callback.as_ref().filter(|_| opens).map(CallbackUrl::as_str));
            }
            NegotiationBody::Accepted => put(&mut message, "eventType", Some("ACCEPTED")),
            NegotiationBody::Finalized => put(&mut message, "eventType", Some("FINALIZED")),
            NegotiationBody::Agreement { agreement, signatures } => {
                message.insert("agreement".to_owned(), agreement.policy.clone());
                put_signatures(&mut message, signatures);
            }
            NegotiationBody::Verification { signatures } => put_signatures(&mut message, signatures),
            NegotiationBody::Termination(explanation) => explanation.encode(&mut message),
        }
        Value::Object(message)
    }

    /// The kind of message, as the machine names it.
    pub fn verb(&self) -> Verb {
        match &self.body {
            NegotiationBody::Request { .. } => Verb::Request,
            NegotiationBody::Offer { .. } => Verb::Offer,
            NegotiationBody::Accepted => Verb::Accept,
            NegotiationBody::Agreement { .. } => Verb::Agree,
            NegotiationBody::Verification { .. } => Verb::Verify,
            NegotiationBody::Finalized => Verb::Finalize,
            NegotiationBody::Termination(_) => Verb::Terminate,
        }
    }

    /// The terms the message carries. `policy_digest` is the shell's digest of its rules.
    pub fn terms(&self, policy_digest: Digest) -> Option<OfferTerms> {
        let id = match &self.body {
            NegotiationBody::Request { offer, .. } | NegotiationBody::Offer { offer, .. } => &offer.id,
            NegotiationBody::Agreement { agreement, .. } => &agreement.id,
            NegotiationBody::Accepted
            | NegotiationBody::Verification { .. }
            | NegotiationBody::Finalized
            | NegotiationBody::Termination(_) => return None,
        };
        Some(OfferTerms { offer_id: id.as_str().into(), policy_digest })
    }

    /// The policy the message carries.
    pub fn policy(&self) -> Option<&Value> {
        match &self.body {
            NegotiationBody::Request { offer, .. } | NegotiationBody::Offer { offer, .. } => Some(&offer.policy),
            NegotiationBody::Agreement { agreement, .. } => Some(&agreement.policy),
            NegotiationBody::Accepted
            | NegotiationBody::Verification { .. }
            | NegotiationBody::Finalized
            | NegotiationBody::Termination(_) => None,
        }
    }

    /// The message as the machine takes it; `None` if the sender's own identifier is missing, which no decoded
    /// message of that sender lacks.
    pub fn to_msg(&self, from: Party, event: Digest, terms: Option<OfferTerms>) -> Option<Msg<Negotiation>> {
        let (sender, receiver) = match from {
            Party::Provider => (&self.provider_pid, &self.consumer_pid),
            Party::Consumer => (&self.consumer_pid, &self.provider_pid),
        };
        let salt = if self.id.is_some() { Salt::Unique } else { Salt::Absent };
        let (sender_pid, receiver_pid) = (sender.clone()?, receiver.clone());
        Some(Msg { from, verb: self.verb(), event, salt, sender_pid, receiver_pid, terms })
    }

    fn type_name(&self) -> &'static str {
        match &self.body {
            NegotiationBody::Request { .. } => "ContractRequestMessage",
            NegotiationBody::Offer { .. } => "ContractOfferMessage",
            NegotiationBody::Accepted | NegotiationBody::Finalized => "ContractNegotiationEventMessage",
            NegotiationBody::Agreement { .. } => "ContractAgreementMessage",
            NegotiationBody::Verification { .. } => "ContractAgreementVerificationMessage",
            NegotiationBody::Termination(_) => "ContractNegotiationTerminationMessage",
        }
    }
}

fn signatures(message: &Object<'_>) -> Result<Vec<String>, DecodeError> {
    let items = message.maybe_items(SIGNATURES_MEMBER, MAX_SIGNATURES)?;
    items.iter().map(|at| at.text(MAX_SIGNATURE_BYTES).map(str::to_owned)).collect()
}

fn put_signatures(message: &mut Map<String, Value>, signatures: &[String]) {
    if !signatures.is_empty() {
        message.insert(SIGNATURES_MEMBER.to_owned(), signatures.into());
    }
}

impl NegotiationState {
    /// Reads a `ContractNegotiation`.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        Self::decode_as(value, "ContractNegotiation", &State::ALL.map(|state| (state.name(), state)))
    }

    /// The `ContractNegotiation` as JSON.
    pub fn encode(&self) -> Value {
        self.encode_as("ContractNegotiation", self.state.name())
    }
}
