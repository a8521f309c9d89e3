//! The 47 characters that name a digital contract (TC609-6-2025-14, B.3).

use std::str::FromStr;

use super::{NodeKind, ParseCodeError, ParticipantCode, PlaceCode, Reader, Serial, shows_its_text, with_check};
use crate::UnixMillis;

/// A digital contract.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContractCode {
    text: Box<str>, // Invariant: 47 characters, check fits, the time exists.
    owner: ParticipantCode,
}

/// The contract's type; the first character of the code.
///
/// B.3 prints one digit here without a table of its own, so the signing mode of TC609-14 is taken: point to point
/// or with a platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SignMode {
    /// `1`: point to point (点对点).
    PointToPoint,
    /// `2`: with a platform (平台参与).
    WithPlatform,
}

impl ContractCode {
    /// Length in characters.
    pub const LENGTH: usize = 47;

    /// Puts the fields together and computes the check character.
    ///
    /// `issued_at` is written in China Standard Time, to the second. `None` if its year there is outside 1 to 9999.
    pub fn new(
        mode: SignMode,
        node: NodeKind,
        owner: ParticipantCode,
        place: PlaceCode,
        issued_at: UnixMillis,
        serial: Serial,
    ) -> Option<Self> {
        let mode = match mode {
            SignMode::PointToPoint => '1',
            SignMode::WithPlatform => '2',
        };
        let time: String = issued_at
            .plus_millis(CHINA_OFFSET_MILLIS)
            .to_string()
            .chars()
            .filter(char::is_ascii_digit)
            .take(14)
            .collect();
        let body = format!("{mode}{}{owner}{}{time}{}", node.digit(), place.as_str(), serial.as_str());
        with_check(body).parse().ok()
    }

    /// The participant that issued the contract.
    pub fn owner(&self) -> &ParticipantCode {
        &self.owner
    }

    /// When the contract was issued, to the second.
    pub fn issued_at(&self) -> UnixMillis {
        self.text.get(24..38).and_then(read_time).unwrap_or(UnixMillis(0)) // Exists by the invariant.
    }
}

/// China Standard Time is eight hours ahead of UTC all year.
const CHINA_OFFSET_MILLIS: i64 = 8 * 3_600_000;

/// Reads `YYYYMMDDhhmmss` in China Standard Time.
fn read_time(digits: &str) -> Option<UnixMillis> {
    let part = |from: usize, to: usize| digits.get(from..to);
    UnixMillis::from_rfc3339(&format!(
        "{}-{}-{}T{}:{}:{}+08:00",
        part(0, 4)?,
        part(4, 6)?,
        part(6, 8)?,
        part(8, 10)?,
        part(10, 12)?,
        part(12, 14)?
    ))
}

impl FromStr for ContractCode {
    type Err = ParseCodeError;

    fn from_str(text: &str) -> Result<Self, ParseCodeError> {
        let mut reader = Reader::new("contract", "47", text, |length| length == Self::LENGTH)?;
        let mode = reader.field("type", 1, |b| b.is_ascii_digit())?;
        if !["1", "2"].contains(&mode) {
            return Err(reader.bad_value("type", 1));
        }
        let digit = reader.field("node type", 1, |b| b.is_ascii_digit())?;
        NodeKind::from_digit(digit).ok_or_else(|| reader.bad_value("node type", 1))?;
        let owner = reader.participant()?;
        reader.place()?;
        let time = reader.field("time", 14, |b| b.is_ascii_digit())?;
        read_time(time).ok_or_else(|| reader.bad_value("time", 14))?;
        reader.serial()?;
        reader.check()?;
        Ok(Self { text: text.into(), owner })
    }
}

shows_its_text!(ContractCode);
