//! Messages of a transfer process ("Transfer Process Protocol", "Message Types").

use std::fmt;

use serde_json::{Value, json};
use shuyu_base::Digest;
use shuyu_contract_engine::transfer::{State, Verb};
use shuyu_contract_engine::{Msg, Party, Pid, Salt, Transfer};

use super::envelope::{CallbackUrl, Explanation, MAX_ID_BYTES, ProcessState, open, put, start};
use super::reader::{At, DecodeError, Problem};

/// The state of a transfer as the other party reports it.
pub type TransferState = ProcessState<State>;

/// A message of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferMessage {
    /// The message's own identifier (`@id`); it salts the digest and tells a repeat from a second message.
    pub id: Option<String>,
    /// The provider's identifier; absent in the request.
    pub provider_pid: Option<Pid>,
    /// The consumer's identifier.
    pub consumer_pid: Pid,
    /// What it says.
    pub body: TransferBody,
}

/// What a message of a transfer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferBody {
    /// Transfer Request Message.
    Request {
        /// The agreement it rests on.
        agreement_id: String,
        /// The format, of a distribution of the dataset.
        format: String,
        /// Where to push to; only for a push.
        data_address: Option<DataAddress>,
        /// Where the consumer listens.
        callback: CallbackUrl,
    },
    /// Transfer Start Message.
    Start {
        /// Where to pull from; only for a pull.
        data_address: Option<DataAddress>,
    },
    /// Transfer Suspension Message.
    Suspension(Explanation),
    /// Transfer Completion Message.
    Completion,
    /// Transfer Termination Message.
    Termination(Explanation),
}

/// Where data is to be had or put. Properties may hold tokens, so `Debug` shows their names only.
#[derive(Clone, PartialEq, Eq)]
pub struct DataAddress {
    /// The kind of transport.
    pub endpoint_type: String,
    /// Its address.
    pub endpoint: Option<String>,
    /// Names and values, for example `authorization` and `authType`.
    pub properties: Vec<(String, String)>,
}

impl DataAddress {
    /// Most properties.
    pub const MAX_PROPERTIES: usize = 64;
    /// Longest endpoint.
    pub const MAX_ENDPOINT_BYTES: usize = 2048;
    /// Longest value; tokens with credentials inside reach some kilobytes.
    pub const MAX_VALUE_BYTES: usize = 16 * 1024;

    /// The value of the first property with this name.
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn decode(at: At<'_>) -> Result<Self, DecodeError> {
        let address = at.object()?;
        address.need_type("DataAddress")?;
        let mut properties = Vec::new();
        for item in address.maybe_items("endpointProperties", Self::MAX_PROPERTIES)? {
            let item = item.object()?;
            item.need_type("EndpointProperty")?;
            let value = item.text("value", Self::MAX_VALUE_BYTES)?;
            properties.push((item.text("name", MAX_ID_BYTES)?.to_owned(), value.to_owned()));
        }
        let endpoint_type = address.text("endpointType", MAX_ID_BYTES)?.to_owned();
        Ok(Self { endpoint_type, endpoint: address.maybe_text("endpoint", Self::MAX_ENDPOINT_BYTES)?, properties })
    }

    /// The address as JSON, with its values.
    pub fn encode(&self) -> Value {
        let mut address = json!({ "@type": "DataAddress", "endpointType": self.endpoint_type });
        if let Value::Object(members) = &mut address {
            put(members, "endpoint", self.endpoint.as_deref());
            if !self.properties.is_empty() {
                let property = |(name, value): &(String, String)| json!({ "@type": "EndpointProperty", "name": name, "value": value });
                let properties = self.properties.iter().map(property).collect();
                members.insert("endpointProperties".to_owned(), Value::Array(properties));
            }
        }
        address
    }
}

impl fmt::Debug for DataAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.properties.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("DataAddress")
            .field("endpoint_type", &self.endpoint_type)
            .field("endpoint", &self.endpoint)
            .field("property_names", &names)
            .finish_non_exhaustive()
    }
}

impl TransferMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = open(value)?;
        let data_address = || message.get("dataAddress").map(DataAddress::decode).transpose();
        let body = match message.text("@type", MAX_ID_BYTES)? {
            "TransferRequestMessage" => TransferBody::Request {
                agreement_id: message.text("agreementId", MAX_ID_BYTES)?.to_owned(),
                format: message.text("format", MAX_ID_BYTES)?.to_owned(),
                data_address: data_address()?,
                callback: message.need("callbackAddress")?.parse(CallbackUrl::MAX_BYTES)?,
            },
            "TransferStartMessage" => TransferBody::Start { data_address: data_address()? },
            "TransferSuspensionMessage" => TransferBody::Suspension(Explanation::decode(&message)?),
            "TransferCompletionMessage" => TransferBody::Completion,
            "TransferTerminationMessage" => TransferBody::Termination(Explanation::decode(&message)?),
            _ => return Err(message.error("@type", Problem::Unknown("a message of a transfer".to_owned()))),
        };
        let provider_pid = match &body {
            TransferBody::Request { .. } => None,
            TransferBody::Start { .. }
            | TransferBody::Suspension(_)
            | TransferBody::Completion
            | TransferBody::Termination(_) => Some(message.pid("providerPid")?),
        };
        let id = message.maybe_text("@id", MAX_ID_BYTES)?;
        Ok(Self { id, provider_pid, consumer_pid: message.pid("consumerPid")?, body })
    }

    /// The message as JSON.
    pub fn encode(&self) -> Value {
        let mut message = start(self.type_name(), self.id.as_deref());
        put(&mut message, "providerPid", self.provider_pid.as_ref().map(Pid::as_str));
        put(&mut message, "consumerPid", Some(self.consumer_pid.as_str()));
        let address = match &self.body {
            TransferBody::Request { agreement_id, format, data_address, callback } => {
                put(&mut message, "agreementId", Some(agreement_id));
                put(&mut message, "format", Some(format));
                put(&mut message, "callbackAddress", Some(callback.as_str()));
                data_address.as_ref()
            }
            TransferBody::Start { data_address } => data_address.as_ref(),
            TransferBody::Suspension(explanation) | TransferBody::Termination(explanation) => {
                explanation.encode(&mut message);
                None
            }
            TransferBody::Completion => None,
        };
        if let Some(address) = address {
            message.insert("dataAddress".to_owned(), address.encode());
        }
        Value::Object(message)
    }

    /// The kind of message, as the machine names it.
    pub fn verb(&self) -> Verb {
        match &self.body {
            TransferBody::Request { .. } => Verb::Request,
            TransferBody::Start { .. } => Verb::Start,
            TransferBody::Suspension(_) => Verb::Suspend,
            TransferBody::Completion => Verb::Complete,
            TransferBody::Termination(_) => Verb::Terminate,
        }
    }

    /// The message as the machine takes it; `None` if the sender's own identifier is missing.
    pub fn to_msg(&self, from: Party, event: Digest) -> Option<Msg<Transfer>> {
        let consumer = Some(self.consumer_pid.clone());
        let (sender, receiver_pid) = match from {
            Party::Provider => (self.provider_pid.clone(), consumer),
            Party::Consumer => (consumer, self.provider_pid.clone()),
        };
        let salt = if self.id.is_some() { Salt::Unique } else { Salt::Absent };
        Some(Msg { from, verb: self.verb(), event, salt, sender_pid: sender?, receiver_pid, terms: None })
    }

    fn type_name(&self) -> &'static str {
        match &self.body {
            TransferBody::Request { .. } => "TransferRequestMessage",
            TransferBody::Start { .. } => "TransferStartMessage",
            TransferBody::Suspension(_) => "TransferSuspensionMessage",
            TransferBody::Completion => "TransferCompletionMessage",
            TransferBody::Termination(_) => "TransferTerminationMessage",
        }
    }
}

impl TransferState {
    /// Reads a `TransferProcess`.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        Self::decode_as(value, "TransferProcess", &State::ALL.map(|state| (state.name(), state)))
    }

    /// The `TransferProcess` as JSON.
    pub fn encode(&self) -> Value {
        self.encode_as("TransferProcess", self.state.name())
    }
}
