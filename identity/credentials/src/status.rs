//! Status of credentials: Bitstring Status List 1.0 and Status List 2021, both a bit a credential in a packed list.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};
use url::Url;

use crate::gzip::{GunzipError, gunzip, gzip};

/// Largest list accepted, in bytes unpacked: status of eight million credentials.
pub const MAX_LIST_BYTES: usize = 1024 * 1024;
/// Smallest list published, in bytes, so that a list hides whose credential it is about (Bitstring Status List,
/// section 3.3: "at least 16KB").
pub const MIN_PUBLISHED_BYTES: usize = 16 * 1024;
/// Most status entries of one credential.
pub const MAX_ENTRIES: usize = 4;
/// Longest URL of a list, in bytes.
pub const MAX_URL_BYTES: usize = 2048;

/// The two ways of writing a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StatusKind {
    /// Bitstring Status List 1.0.
    Bitstring,
    /// Status List 2021, its draft.
    List2021,
}

impl StatusKind {
    const ALL: [Self; 2] = [Self::Bitstring, Self::List2021];

    /// `type` of the entry in a credential.
    pub fn entry_type(self) -> &'static str {
        match self {
            Self::Bitstring => "BitstringStatusListEntry",
            Self::List2021 => "StatusList2021Entry",
        }
    }

    /// `type` of the subject of the list's credential.
    pub fn list_type(self) -> &'static str {
        match self {
            Self::Bitstring => "BitstringStatusList",
            Self::List2021 => "StatusList2021",
        }
    }

    /// `type` of the list's credential.
    pub fn credential_type(self) -> &'static str {
        match self {
            Self::Bitstring => "BitstringStatusListCredential",
            Self::List2021 => "StatusList2021Credential",
        }
    }
}

/// What a set bit means. Others than these do not decide validity and are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Taken back for good.
    Revocation,
    /// Not valid for now.
    Suspension,
}

impl Purpose {
    const ALL: [Self; 2] = [Self::Revocation, Self::Suspension];

    /// The word used on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Revocation => "revocation",
            Self::Suspension => "suspension",
        }
    }
}

/// Where the status of a credential is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StatusEntry {
    /// How the list is written.
    pub kind: StatusKind,
    /// What a set bit means.
    pub purpose: Purpose,
    /// Number of the bit, from 0, the first bit being the most significant of the first byte.
    pub index: u32,
    /// Address of the list's credential.
    pub list: Url,
}

/// A list whose credential was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusList {
    /// How it is written.
    pub kind: StatusKind,
    /// What a set bit means.
    pub purpose: Purpose,
    bits: Vec<u8>, // Invariant: at most MAX_LIST_BYTES.
}

/// Why a status cannot be known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StatusError {
    /// A member of the entry or the list is missing or malformed.
    #[error("status: member `{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// More than [`MAX_ENTRIES`].
    #[error("status: more than {MAX_ENTRIES} entries")]
    TooMany,
    /// The packed list cannot be unpacked within [`MAX_LIST_BYTES`].
    #[error("status: list cannot be unpacked")]
    Packed(#[source] GunzipError),
    /// The list is of another kind or purpose than the entry.
    #[error("status: list has another `{member}` than the entry")]
    Mismatch {
        /// `type` or `statusPurpose`.
        member: &'static str,
    },
    /// The list is too short.
    #[error("status: index {index} is outside the list of {len_bits} bits")]
    OutsideList {
        /// The index of the entry.
        index: u32,
        /// The list's length, in bits.
        len_bits: usize,
    },
}

impl StatusEntry {
    /// The entries of `credentialStatus`: one object or a list of them.
    ///
    /// # Errors
    /// [`StatusError`] names the member. A type or purpose that is not known is an error: the credential may be revoked.
    pub fn parse_all(value: &Value) -> Result<Vec<Self>, StatusError> {
        let entries = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        if MAX_ENTRIES < entries.len() {
            return Err(StatusError::TooMany);
        }
        entries.iter().map(Self::parse).collect()
    }

    fn parse(value: &Value) -> Result<Self, StatusError> {
        let bad = |member| StatusError::Member { member };
        let members = value.as_object().ok_or(bad("credentialStatus"))?;
        let text = |member: &'static str| members.get(member).and_then(Value::as_str).ok_or(bad(member));
        let kind = one_of(&StatusKind::ALL, text("type")?, StatusKind::entry_type).ok_or(bad("type"))?;
        let purpose = one_of(&Purpose::ALL, text("statusPurpose")?, Purpose::name).ok_or(bad("statusPurpose"))?;
        // Several bits a credential carry messages, not validity.
        if members.get("statusSize").is_some_and(|size| size.as_u64() != Some(1)) {
            return Err(bad("statusSize"));
        }
        let index = match members.get("statusListIndex") {
            Some(Value::String(text)) => decimal(text),
            Some(Value::Number(number)) => number.as_u64().and_then(|n| u32::try_from(n).ok()),
            _ => None,
        };
        let index = index.ok_or(bad("statusListIndex"))?;
        let list = Some(text("statusListCredential")?).filter(|text| text.len() <= MAX_URL_BYTES);
        let list = list.and_then(|text| Url::parse(text).ok()).filter(|url| matches!(url.scheme(), "http" | "https"));
        Ok(Self { kind, purpose, index, list: list.ok_or(bad("statusListCredential"))? })
    }

    /// The entry as JSON, without an id.
    pub fn to_json(&self) -> Value {
        json!({
            "id": format!("{}#{}", self.list, self.index),
            "type": self.kind.entry_type(),
            "statusPurpose": self.purpose.name(),
            "statusListIndex": self.index.to_string(),
            "statusListCredential": self.list.as_str(),
        })
    }
}

impl StatusList {
    /// A list of `len_bytes` zero bytes, at least [`MIN_PUBLISHED_BYTES`] and at most [`MAX_LIST_BYTES`].
    pub fn new(kind: StatusKind, purpose: Purpose, len_bytes: usize) -> Self {
        Self { kind, purpose, bits: vec![0; len_bytes.clamp(MIN_PUBLISHED_BYTES, MAX_LIST_BYTES)] }
    }

    /// Reads the subject of a list's credential.
    ///
    /// # Errors
    /// [`StatusError`].
    pub fn parse(subject: &Map<String, Value>) -> Result<Self, StatusError> {
        let bad = |member| StatusError::Member { member };
        let text = |member: &'static str| subject.get(member).and_then(Value::as_str).ok_or(bad(member));
        let kind = one_of(&StatusKind::ALL, text("type")?, StatusKind::list_type).ok_or(bad("type"))?;
        let purpose = one_of(&Purpose::ALL, text("statusPurpose")?, Purpose::name).ok_or(bad("statusPurpose"))?;
        let encoded = text("encodedList")?;
        // Bitstring lists are Multibase, whose base64url starts with `u`. The older ones are bare base64; a gzip stream
        // starts with `H` there, so the two cannot be taken for each other.
        let packed = match (encoded.strip_prefix('u'), kind) {
            (Some(rest), _) => URL_SAFE_NO_PAD.decode(rest.trim_end_matches('=')).ok(),
            (None, StatusKind::Bitstring) => None,
            (None, StatusKind::List2021) => {
                let bare = encoded.trim_end_matches('=');
                URL_SAFE_NO_PAD.decode(bare).or_else(|_| STANDARD_NO_PAD.decode(bare)).ok()
            }
        };
        let packed = packed.ok_or(bad("encodedList"))?;
        let bits = gunzip(&packed, MAX_LIST_BYTES).map_err(StatusError::Packed)?;
        Ok(Self { kind, purpose, bits })
    }

    /// The subject of the list's credential as JSON, without an id.
    pub fn to_json(&self) -> Map<String, Value> {
        let packed = URL_SAFE_NO_PAD.encode(gzip(&self.bits));
        let encoded = match self.kind {
            StatusKind::Bitstring => format!("u{packed}"),
            StatusKind::List2021 => packed,
        };
        let mut subject = Map::new();
        subject.insert("type".to_owned(), self.kind.list_type().into());
        subject.insert("statusPurpose".to_owned(), self.purpose.name().into());
        subject.insert("encodedList".to_owned(), encoded.into());
        subject
    }

    /// Whether the bit of `entry` is set.
    ///
    /// # Errors
    /// [`StatusError::Mismatch`] or [`StatusError::OutsideList`].
    pub fn is_set(&self, entry: &StatusEntry) -> Result<bool, StatusError> {
        if entry.kind != self.kind {
            return Err(StatusError::Mismatch { member: "type" });
        }
        if entry.purpose != self.purpose {
            return Err(StatusError::Mismatch { member: "statusPurpose" });
        }
        let byte = self.bits.get(byte_of(entry.index)).ok_or_else(|| self.outside(entry.index))?;
        Ok(byte & mask(entry.index) != 0)
    }

    /// Sets or clears a bit.
    ///
    /// # Errors
    /// [`StatusError::OutsideList`].
    pub fn set(&mut self, index: u32, to: Bit) -> Result<(), StatusError> {
        let outside = self.outside(index);
        let byte = self.bits.get_mut(byte_of(index)).ok_or(outside)?;
        match to {
            Bit::Set => *byte |= mask(index),
            Bit::Clear => *byte &= !mask(index),
        }
        Ok(())
    }

    fn outside(&self, index: u32) -> StatusError {
        StatusError::OutsideList { index, len_bits: self.bits.len().saturating_mul(8) }
    }
}

/// The two values of a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bit {
    /// 1: revoked or suspended.
    Set,
    /// 0: neither.
    Clear,
}

fn byte_of(index: u32) -> usize {
    usize::try_from(index / 8).unwrap_or(usize::MAX)
}

/// The first bit is the leftmost (Bitstring Status List, section 3.2).
fn mask(index: u32) -> u8 {
    0x80 >> (index % 8)
}

fn decimal(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn one_of<T: Copy>(all: &[T], text: &str, name: impl Fn(T) -> &'static str) -> Option<T> {
    all.iter().copied().find(|one| name(*one) == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(index: u32) -> StatusEntry {
        let list = Url::parse("https://issuer.example/status/1").unwrap();
        StatusEntry { kind: StatusKind::Bitstring, purpose: Purpose::Revocation, index, list }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = entry(7).to_json();
        assert_eq!(StatusEntry::parse_all(&good), Ok(vec![entry(7)]));
        for (member, value) in [
            ("type", json!("CredentialStatusList2017")),
            ("statusPurpose", json!("message")),
            ("statusListIndex", json!("-1")),
            ("statusListIndex", json!("+1")),
            ("statusListIndex", json!(4_294_967_296_u64)),
            ("statusListIndex", json!(1.5)),
            ("statusListCredential", json!("file:///etc/passwd")),
            ("statusSize", json!(2)),
        ] {
            let mut bad = good.clone();
            bad[member] = value;
            assert_eq!(StatusEntry::parse_all(&bad), Err(StatusError::Member { member }));
        }
        let many = Value::Array(vec![good; MAX_ENTRIES + 1]);
        assert_eq!(StatusEntry::parse_all(&many), Err(StatusError::TooMany));
    }

    #[test]
    fn an_index_outside_another_purpose_and_a_bomb_are_errors() {
        let mut list = StatusList::new(StatusKind::Bitstring, Purpose::Revocation, 1);
        list.set(9, Bit::Set).unwrap();
        assert_eq!((list.is_set(&entry(9)), list.is_set(&entry(8))), (Ok(true), Ok(false)));
        let outside = StatusError::OutsideList { index: 131_072, len_bits: 131_072 };
        assert_eq!(list.is_set(&entry(131_072)), Err(outside.clone()));
        assert_eq!(list.set(131_072, Bit::Set), Err(outside));
        let suspended = StatusEntry { purpose: Purpose::Suspension, ..entry(9) };
        assert_eq!(list.is_set(&suspended), Err(StatusError::Mismatch { member: "statusPurpose" }));
        let other = StatusEntry { kind: StatusKind::List2021, ..entry(9) };
        assert_eq!(list.is_set(&other), Err(StatusError::Mismatch { member: "type" }));

        let mut bomb = list.to_json();
        let packed = URL_SAFE_NO_PAD.encode(gzip(&vec![0; 32 << 20]));
        bomb.insert("encodedList".to_owned(), format!("u{packed}").into());
        let too_large = GunzipError::TooLarge { max_bytes: MAX_LIST_BYTES };
        assert_eq!(StatusList::parse(&bomb), Err(StatusError::Packed(too_large)));
    }

    proptest! {
        #[test]
        fn a_list_is_read_as_it_is_written(set in proptest::collection::btree_set(0_u32..131_072, 0..20), old in any::<bool>()) {
            let kind = if old { StatusKind::List2021 } else { StatusKind::Bitstring };
            let mut list = StatusList::new(kind, Purpose::Suspension, 0);
            for index in &set {
                list.set(*index, Bit::Set).unwrap();
            }
            prop_assert_eq!(StatusList::parse(&list.to_json()), Ok(list));
        }

        #[test]
        fn no_entry_panics(text in "\\PC{0,20}", number in any::<u64>()) {
            let value = json!({"type": text, "statusListIndex": number, "statusListCredential": text});
            prop_assert!(StatusEntry::parse_all(&value).is_err());
        }
    }
}
