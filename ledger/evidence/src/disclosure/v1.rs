//! Version 1 of the disclosure file: one JSON object of at most 8 MiB.
//!
//! ```json
//! { "format": "shuyu-disclosure", "version": 1,
//!   "did": "did:...", "document": { DID document }, "vkey": "<name>+<id>+<key>",
//!   "entry": "<compact JWS>", "proof": "<tlog-proof@v1>", "size": 16,
//!   "fields": [ { "name": "/rows", "salt": "<base64url>", "value": 7, "index": 3, "path": ["<base64>"] } ] }
//! ```
//!
//! Unknown members are refused.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::json;
use shuyu_credentials::DidDocument;
use shuyu_tlog::{Hash, InclusionProof};

use super::{Disclosure, MAX_DISCLOSURE_BYTES};
use crate::commitment::{Field, MAX_LEAVES, MAX_NAME_BYTES, Shown};
use crate::entry::MAX_ENTRY_BYTES;

const FORMAT: &str = "shuyu-disclosure";

/// Longest path: the tree has at most 2^10 leaves.
const MAX_PATH: usize = MAX_LEAVES.ilog2() as usize;

/// Why bytes are not a disclosure, or one cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadDisclosureError {
    /// Not JSON within bounds.
    #[error("disclosure is not acceptable JSON")]
    Json(#[from] json::ParseJsonError),
    /// JSON, but not with the members of a disclosure.
    #[error("disclosure does not have the members of version 1")]
    Members(#[source] serde_json::Error),
    /// Another format or version.
    #[error("disclosure is not `{FORMAT}` version 1")]
    Version,
    /// A member is malformed or out of bounds.
    #[error("`{member}` of the disclosure is malformed or out of bounds")]
    Member {
        /// The name of the member.
        member: &'static str,
    },
    /// Larger than [`MAX_DISCLOSURE_BYTES`] once written.
    #[error("disclosure is {len_bytes} bytes, the limit is {MAX_DISCLOSURE_BYTES}")]
    TooLarge {
        /// The size it would have, in bytes.
        len_bytes: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DisclosureV1 {
    format: String,
    version: u64,
    did: String,
    document: Value,
    vkey: String,
    entry: String,
    proof: String,
    size: u64,
    fields: Vec<FieldV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FieldV1 {
    name: String,
    salt: String,
    value: Value,
    index: u64,
    path: Vec<String>,
}

pub(super) fn write(disclosure: &Disclosure) -> Result<Vec<u8>, ReadDisclosureError> {
    let field = |shown: &Shown| FieldV1 {
        name: shown.field.name.clone(),
        salt: URL_SAFE_NO_PAD.encode(shown.field.salt),
        value: shown.field.value.clone(),
        index: shown.index,
        path: shown.path.iter().map(ToString::to_string).collect(),
    };
    let dto = DisclosureV1 {
        format: FORMAT.to_owned(),
        version: 1,
        did: disclosure.did.to_string(),
        document: disclosure.document.to_json(),
        vkey: disclosure.vkey.to_string(),
        entry: String::from_utf8_lossy(&disclosure.entry).into_owned(),
        proof: disclosure.proof.to_string(),
        size: disclosure.size,
        fields: disclosure.fields.iter().map(field).collect(),
    };
    let bytes = serde_json::to_vec_pretty(&dto).map_err(ReadDisclosureError::Members)?;
    if MAX_DISCLOSURE_BYTES < bytes.len() {
        return Err(ReadDisclosureError::TooLarge { len_bytes: bytes.len() });
    }
    read(&bytes)?;
    Ok(bytes)
}

pub(super) fn read(bytes: &[u8]) -> Result<Disclosure, ReadDisclosureError> {
    let value = json::parse(bytes, MAX_DISCLOSURE_BYTES)?;
    let dto: DisclosureV1 = serde_json::from_value(value).map_err(ReadDisclosureError::Members)?;
    let bad = |member| ReadDisclosureError::Member { member };
    let check = |ok: bool, member| if ok { Ok(()) } else { Err(bad(member)) };
    if dto.format != FORMAT || dto.version != 1 {
        return Err(ReadDisclosureError::Version);
    }
    check(dto.entry.len() <= MAX_ENTRY_BYTES, "entry")?;
    let max_size = MAX_LEAVES as u64;
    check((1..=max_size).contains(&dto.size) && dto.size.is_power_of_two(), "size")?;
    check((1..=MAX_LEAVES).contains(&dto.fields.len()), "fields")?;
    let did = dto.did.parse().map_err(|_| bad("did"))?;
    let document = DidDocument::parse(dto.document.to_string().as_bytes(), &did).map_err(|_| bad("document"))?;
    let fields = dto.fields.into_iter().map(|one| field(one, dto.size)).collect::<Result<Vec<_>, _>>()?;
    let mut places: Vec<u64> = fields.iter().map(|one| one.index).collect();
    places.sort_unstable();
    places.dedup();
    check(places.len() == fields.len(), "fields")?;
    Ok(Disclosure {
        did,
        document,
        vkey: dto.vkey.parse().map_err(|_| bad("vkey"))?,
        entry: dto.entry.into_bytes(),
        proof: InclusionProof::parse(dto.proof.as_bytes()).map_err(|_| bad("proof"))?,
        size: dto.size,
        fields,
    })
}

fn field(dto: FieldV1, size: u64) -> Result<Shown, ReadDisclosureError> {
    let bad = |member| ReadDisclosureError::Member { member };
    if MAX_NAME_BYTES < dto.name.len() {
        return Err(bad("name"));
    }
    if size <= dto.index {
        return Err(bad("index"));
    }
    if MAX_PATH < dto.path.len() {
        return Err(bad("path"));
    }
    let hash = |text: &String| {
        let bytes = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        bytes.map(Hash).ok_or_else(|| bad("path"))
    };
    let salt = URL_SAFE_NO_PAD.decode(&dto.salt).ok().and_then(|bytes| bytes.try_into().ok());
    Ok(Shown {
        field: Field { name: dto.name, salt: salt.ok_or_else(|| bad("salt"))?, value: dto.value },
        index: dto.index,
        path: dto.path.iter().map(hash).collect::<Result<_, _>>()?,
    })
}
