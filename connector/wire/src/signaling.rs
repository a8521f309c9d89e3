//! Messages of Eclipse Data Plane Signaling 1.0 as JSON, and back.
//!
//! Members that are not known are ignored; what is missing, misshapen or too large is refused with the path of the
//! member. Where the schemas ask for more than a receiver needs (`messageId` of an answer, `@type` of a data address,
//! `dataFlowId` of an answer to a message that named the process), it may be left out: implementations leave it out.

use serde_json::{Map, Value, json};
pub use shuyu_contract_engine::data_flow::{Signal, State};

use crate::dsp::reader::{At, Object};
use crate::dsp::{DataAddress, DecodeError, Problem};

/// Longest identifier, in bytes.
pub const MAX_ID_BYTES: usize = 512;
/// Longest address of an endpoint, in bytes.
pub const MAX_URL_BYTES: usize = 2048;
/// Longest text for people: a reason, an error. What a data plane says beyond it is cut.
pub const MAX_TEXT_BYTES: usize = 2048;
/// Most labels of a message or a registration, and most transfer profiles of a data plane.
pub const MAX_LABELS: usize = 64;
/// Longest secret of a registration, in bytes.
pub const MAX_SECRET_BYTES: usize = 4096;

/// A `DataFlowPrepareMessage` or a `DataFlowStartMessage`: which flow it shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRequest {
    /// The message's own identifier.
    pub message_id: String,
    /// The participant whose control plane speaks.
    pub participant_id: String,
    /// The other participant.
    pub counter_party_id: String,
    /// The data space.
    pub dataspace_context: String,
    /// The control plane's identifier of the transfer process.
    pub process_id: String,
    /// The agreement it rests on.
    pub agreement_id: String,
    /// The dataset.
    pub dataset_id: String,
    /// The transfer profile.
    pub profile: String,
    /// Where to push to; only for a push.
    pub data_address: Option<DataAddress>,
    /// Flavours of flow.
    pub labels: Vec<String>,
    /// What the data plane may need to know.
    pub metadata: Map<String, Value>,
    /// What the control plane has verified about the other participant.
    pub claims: Map<String, Value>,
}

impl FlowRequest {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = At::new(value).object()?;
        let text = |name: &str| message.text(name, MAX_ID_BYTES).map(str::to_owned);
        Ok(Self {
            message_id: text("messageId")?,
            participant_id: text("participantId")?,
            counter_party_id: text("counterPartyId")?,
            dataspace_context: text("dataspaceContext")?,
            process_id: text("processId")?,
            agreement_id: text("agreementId")?,
            dataset_id: text("datasetId")?,
            profile: text("profile")?,
            data_address: address(&message)?,
            labels: texts(&message, "labels")?,
            metadata: members(&message, "metadata")?,
            claims: members(&message, "claims")?,
        })
    }

    /// The message as JSON. `dataFlowId` repeats the process: data planes built with `dataplane-sdk` look for it there.
    pub fn encode(&self) -> Value {
        let mut message = json!({
            "messageId": self.message_id, "participantId": self.participant_id,
            "counterPartyId": self.counter_party_id, "dataspaceContext": self.dataspace_context,
            "processId": self.process_id, "dataFlowId": self.process_id, "agreementId": self.agreement_id,
            "datasetId": self.dataset_id, "profile": self.profile, "labels": self.labels, "metadata": self.metadata,
            "claims": self.claims,
        });
        insert_address(&mut message, self.data_address.as_ref());
        message
    }
}

/// A message about a flow that there is: started notification, suspend, resume, terminate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowSignal {
    /// The message's own identifier; `completed` has none.
    pub message_id: Option<String>,
    /// Why, for people.
    pub reason: Option<String>,
    /// Where the data is to be had or put now.
    pub data_address: Option<DataAddress>,
}

impl FlowSignal {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = At::new(value).object()?;
        Ok(Self {
            message_id: message.maybe_text("messageId", MAX_ID_BYTES)?,
            reason: said(&message, "reason")?,
            data_address: address(&message)?,
        })
    }

    /// The message as JSON.
    pub fn encode(&self) -> Value {
        let mut message = json!({});
        insert_text(&mut message, "messageId", self.message_id.as_deref());
        insert_text(&mut message, "reason", self.reason.as_deref());
        insert_address(&mut message, self.data_address.as_ref());
        message
    }
}

/// A `DataFlowStatusMessage` or `DataFlowStatusResponseMessage`: how a flow stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowStatus {
    /// The message's own identifier.
    pub message_id: Option<String>,
    /// The data plane's identifier of the flow.
    pub flow_id: Option<String>,
    /// Its state.
    pub state: State,
    /// Where the data is to be had or put.
    pub data_address: Option<DataAddress>,
    /// What went wrong, cut to [`MAX_TEXT_BYTES`].
    pub error: Option<String>,
}

impl FlowStatus {
    /// Reads a message.
    ///
    /// # Errors
    /// [`DecodeError`] with the path.
    pub fn decode(value: &Value) -> Result<Self, DecodeError> {
        let message = At::new(value).object()?;
        let state = message.need("state")?;
        let unknown = || state.error(Problem::Unknown("a state of a data flow".to_owned()));
        Ok(Self {
            message_id: message.maybe_text("messageId", MAX_ID_BYTES)?,
            flow_id: message.maybe_text("dataFlowId", MAX_ID_BYTES)?,
            state: State::from_name(state.text(MAX_ID_BYTES)?).ok_or_else(unknown)?,
            data_address: address(&message)?,
            error: said(&message, "error")?,
        })
    }

    /// The message as JSON.
    pub fn encode(&self) -> Value {
        let mut message = json!({ "state": self.state.name() });
        insert_text(&mut message, "messageId", self.message_id.as_deref());
        insert_text(&mut message, "dataFlowId", self.flow_id.as_deref());
        insert_text(&mut message, "error", self.error.as_deref());
        insert_address(&mut message, self.data_address.as_ref());
        message
    }
}

/// A data address, whose `@type` may be left out. An empty one is none.
fn address(message: &Object<'_>) -> Result<Option<DataAddress>, DecodeError> {
    let Some(at) = message.get("dataAddress") else { return Ok(None) };
    let address = at.object()?;
    if address.members.is_empty() {
        return Ok(None);
    }
    let mut properties = Vec::new();
    for item in address.maybe_items("endpointProperties", DataAddress::MAX_PROPERTIES)? {
        let item = item.object()?;
        let value = item.text("value", DataAddress::MAX_VALUE_BYTES)?;
        properties.push((item.text("name", MAX_ID_BYTES)?.to_owned(), value.to_owned()));
    }
    Ok(Some(DataAddress {
        endpoint_type: address.text("endpointType", MAX_ID_BYTES)?.to_owned(),
        endpoint: address.maybe_text("endpoint", DataAddress::MAX_ENDPOINT_BYTES)?,
        properties,
    }))
}

fn texts(message: &Object<'_>, name: &str) -> Result<Vec<String>, DecodeError> {
    let items = message.maybe_items(name, MAX_LABELS)?;
    items.iter().map(|item| item.text(MAX_ID_BYTES).map(str::to_owned)).collect()
}

fn members(message: &Object<'_>, name: &str) -> Result<Map<String, Value>, DecodeError> {
    message.get(name).map_or_else(|| Ok(Map::new()), |at| Ok(at.object()?.members.clone()))
}

/// A text for people: an empty one is none, a long one is cut.
fn said(message: &Object<'_>, name: &str) -> Result<Option<String>, DecodeError> {
    let Some(at) = message.get(name) else { return Ok(None) };
    let text = at.value.as_str().ok_or_else(|| at.error(Problem::NotA("a text")))?;
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    Ok(text.get(..end).filter(|text| !text.is_empty()).map(str::to_owned))
}

fn insert_text(message: &mut Value, name: &str, text: Option<&str>) {
    if let (Value::Object(members), Some(text)) = (message, text) {
        members.insert(name.to_owned(), text.into());
    }
}

fn insert_address(message: &mut Value, address: Option<&DataAddress>) {
    if let (Value::Object(members), Some(address)) = (message, address) {
        members.insert("dataAddress".to_owned(), address.encode());
    }
}
