//! The 32 characters that name a platform or a connector.

use std::str::FromStr;

use super::{ParseCodeError, ParticipantCode, PlaceCode, Reader, Serial, shows_its_text, with_check};

/// A platform or a connector.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeCode {
    text: Box<str>, // Invariant: 32 characters, check fits.
    kind: NodeKind,
    owner: ParticipantCode,
}

/// What kind of node a code names; the first character of the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NodeKind {
    /// `1`: the function node of the whole space (全域).
    Global,
    /// `2`: a regional node (区域).
    Regional,
    /// `3`: the node of a trade (行业).
    Trade,
    /// `4`: a business node (业务).
    Business,
    /// `5`: a connector (连接器).
    Connector,
}

impl NodeKind {
    pub(super) fn digit(self) -> char {
        match self {
            Self::Global => '1',
            Self::Regional => '2',
            Self::Trade => '3',
            Self::Business => '4',
            Self::Connector => '5',
        }
    }

    pub(super) fn from_digit(digit: &str) -> Option<Self> {
        [Self::Global, Self::Regional, Self::Trade, Self::Business, Self::Connector]
            .into_iter()
            .find(|kind| digit.starts_with(kind.digit()))
    }
}

impl NodeCode {
    /// Length in characters.
    pub const LENGTH: usize = 32;

    /// Puts the fields together and computes the check character.
    pub fn new(kind: NodeKind, owner: ParticipantCode, place: PlaceCode, serial: Serial) -> Self {
        let text = with_check(format!("{}{owner}{}{}", kind.digit(), place.as_str(), serial.as_str()));
        Self { text, kind, owner }
    }

    /// What kind of node this is.
    pub fn kind(&self) -> NodeKind {
        self.kind
    }

    /// The participant that owns the node.
    pub fn owner(&self) -> &ParticipantCode {
        &self.owner
    }
}

impl FromStr for NodeCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let mut reader = Reader::new("node", "32", text, |length| length == Self::LENGTH)?;
        let digit = reader.field("type", 1, |b| b.is_ascii_digit())?;
        let kind = NodeKind::from_digit(digit).ok_or_else(|| reader.bad_value("type", 1))?;
        let owner = reader.participant()?;
        reader.place()?;
        reader.serial()?;
        reader.check()?;
        Ok(Self { text: text.into(), kind, owner })
    }
}

shows_its_text!(NodeCode);
