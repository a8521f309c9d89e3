//! One of our transfers that a foreign data plane serves: where its flow is, and where it shall be.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shuyu_contract_engine::data_flow::{self, Next};
use shuyu_wire::dsp::DataAddress;
use shuyu_wire::signaling::{Signal, State};

use crate::agreements::Side;
use crate::exchange::handover::Address;

/// A transfer that a foreign data plane serves.
#[derive(Clone, Serialize, Deserialize)]
pub struct Lead {
    /// Our process id of the transfer.
    pub transfer: String,
    /// The data plane.
    pub plane: String,
    /// Our side of the transfer.
    pub side: Side,
    /// The agreement.
    pub agreement: String,
    /// The dataset.
    pub asset: String,
    /// The other participant.
    pub peer: String,
    /// The transfer profile.
    pub profile: String,
    /// What the data plane is told so that it finds the data.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    pub(super) reached: String,
    pub(super) wanted: String,
    /// The data plane's identifier of the flow, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<String>,
    /// Where the data is to be had: of our data plane if we provide, of the provider if we consume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) address: Option<Address>,
    /// Why it shall be where it shall be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The signal under way has this identifier, the same each time.
    pub(super) message: String,
    /// How often data was let flow; what is evidenced of it has this number.
    pub(super) grants: u64,
    /// Whether the start or resume under way is evidenced.
    pub(super) granted: bool,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// What the last failure was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Whether a person must look at it before it goes on.
    pub aside: bool,
}

impl Lead {
    /// Where the flow is, as far as the data plane has said.
    pub fn reached(&self) -> State {
        State::from_name(&self.reached).unwrap_or(State::Initialized)
    }

    /// Where it shall be.
    pub fn wanted(&self) -> State {
        State::from_name(&self.wanted).unwrap_or(State::Terminated)
    }

    /// Whether the data plane may hold a flow that is not over.
    pub fn holds_data(&self) -> bool {
        !self.reached().is_over() && (self.granted || self.reached() != State::Initialized)
    }

    /// Where the data is to be had.
    pub fn address(&self) -> Option<DataAddress> {
        self.address.as_ref().map(Address::whole)
    }

    pub(super) fn next(&self) -> Next {
        let side = match self.side {
            Side::Provider => data_flow::Side::Provider,
            Side::Consumer => data_flow::Side::Consumer,
        };
        if self.aside {
            return Next::Nothing;
        }
        // A start whose answer was lost may have started something.
        if self.granted && self.reached() == State::Initialized && self.wanted() == State::Terminated {
            return Next::Send(Signal::Terminate);
        }
        data_flow::next(side, self.reached(), self.wanted())
    }
}

/// What a lead begins with.
pub struct Begin {
    /// Our process id of the transfer.
    pub transfer: String,
    /// The data plane.
    pub plane: String,
    /// Our side.
    pub side: Side,
    /// The agreement.
    pub agreement: String,
    /// The dataset.
    pub asset: String,
    /// The other participant.
    pub peer: String,
    /// The transfer profile.
    pub profile: String,
    /// What the data plane is told so that it finds the data.
    pub metadata: Map<String, Value>,
}

impl Lead {
    /// A lead of which the data plane knows nothing yet.
    pub(super) fn new(begin: Begin, wanted: State) -> Self {
        Self {
            transfer: begin.transfer,
            plane: begin.plane,
            side: begin.side,
            agreement: begin.agreement,
            asset: begin.asset,
            peer: begin.peer,
            profile: begin.profile,
            metadata: begin.metadata,
            reached: State::Initialized.name().to_owned(),
            wanted: wanted.name().to_owned(),
            flow: None,
            address: None,
            reason: None,
            message: new_message(),
            grants: 0,
            granted: false,
            failures: 0,
            error: None,
            aside: false,
        }
    }
}

/// A fresh identifier of a message.
pub(super) fn new_message() -> String {
    uuid::Uuid::new_v4().to_string()
}
