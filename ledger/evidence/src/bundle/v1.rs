//! Version 1 of the bundle file: one JSON object of at most 64 MiB.
//!
//! ```json
//! { "format": "shuyu-evidence-bundle", "version": 1, "made_at": "<RFC 3339>",
//!   "nodes": [ {
//!     "did": "did:...",
//!     "document": { DID document },
//!     "vkey": "<name>+<id>+<key>",
//!     "observed": [ { "at": "<RFC 3339>", "checkpoint": "<signed note>" } ],
//!     "files": { "tile/entries/000.p/5": "<base64>", "tile/0/000.p/5": "<base64>" },
//!     "picked": [ { "entry": "<base64>", "proof": "<tlog-proof@v1>" } ]
//! } ] }
//! ```
//!
//! `observed` is in the order in which the auditor saw the checkpoints. `files` are the bytes served under the C2SP
//! tlog-tiles names, uncompressed. Unknown members are refused: a verdict must not depend on what a reader skips.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Did, UnixMillis, json};
use shuyu_credentials::DidDocument;

use super::{Bundle, MAX_BUNDLE_BYTES, MAX_NODES, MAX_OBSERVED, NodeEvidence, Observed, Picked};

const FORMAT: &str = "shuyu-evidence-bundle";

/// Why bytes are not a bundle, or a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBundleError {
    /// Not JSON within bounds.
    #[error("bundle is not acceptable JSON")]
    Json(#[from] json::ParseJsonError),
    /// JSON, but not with the members of a bundle.
    #[error("bundle does not have the members of version 1")]
    Members(#[source] serde_json::Error),
    /// Another format or version.
    #[error("bundle is not `{FORMAT}` version 1")]
    Version,
    /// A member is malformed or out of bounds.
    #[error("`{member}` of the bundle is malformed or out of bounds")]
    Member {
        /// The name of the member.
        member: &'static str,
    },
    /// Larger than [`MAX_BUNDLE_BYTES`] once written.
    #[error("bundle is {len_bytes} bytes, the limit is {MAX_BUNDLE_BYTES}")]
    TooLarge {
        /// The size it would have, in bytes.
        len_bytes: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleV1 {
    format: String,
    version: u64,
    made_at: String,
    nodes: Vec<NodeV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeV1 {
    did: String,
    document: Value,
    vkey: String,
    observed: Vec<ObservedV1>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    picked: Vec<PickedV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObservedV1 {
    at: String,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PickedV1 {
    entry: String,
    proof: String,
}

pub(super) fn read(bytes: &[u8]) -> Result<Bundle, ReadBundleError> {
    let value = json::parse(bytes, MAX_BUNDLE_BYTES)?;
    let dto: BundleV1 = serde_json::from_value(value).map_err(ReadBundleError::Members)?;
    if dto.format != FORMAT || dto.version != 1 {
        return Err(ReadBundleError::Version);
    }
    if MAX_NODES < dto.nodes.len() {
        return Err(bad("nodes"));
    }
    let nodes = dto.nodes.into_iter().map(read_node).collect::<Result<_, _>>()?;
    Ok(Bundle { made_at: read_time(&dto.made_at, "made_at")?, nodes })
}

fn read_node(dto: NodeV1) -> Result<NodeEvidence, ReadBundleError> {
    let did: Did = dto.did.parse().map_err(|_| bad("did"))?;
    let document = serde_json::to_vec(&dto.document).map_err(ReadBundleError::Members)?;
    let document = DidDocument::parse(&document, &did).map_err(|_| bad("document"))?;
    if MAX_OBSERVED < dto.observed.len() {
        return Err(bad("observed"));
    }
    let mut observed = Vec::new();
    for one in dto.observed {
        observed.push(Observed { at: read_time(&one.at, "at")?, checkpoint: one.checkpoint.into_bytes() });
    }
    let mut files = BTreeMap::new();
    for (path, bytes) in dto.files {
        files.insert(path.parse().map_err(|_| bad("files"))?, read_bytes(&bytes, "files")?);
    }
    let mut picked = Vec::new();
    for one in dto.picked {
        picked.push(Picked { entry: read_bytes(&one.entry, "entry")?, proof: one.proof.into_bytes() });
    }
    Ok(NodeEvidence { did, document, vkey: dto.vkey.parse().map_err(|_| bad("vkey"))?, observed, files, picked })
}

pub(super) fn write(bundle: &Bundle) -> Result<Vec<u8>, ReadBundleError> {
    if MAX_NODES < bundle.nodes.len() {
        return Err(bad("nodes"));
    }
    let dto = BundleV1 {
        format: FORMAT.to_owned(),
        version: 1,
        made_at: bundle.made_at.to_string(),
        nodes: bundle.nodes.iter().map(write_node).collect::<Result<_, _>>()?,
    };
    let bytes = serde_json::to_vec(&dto).map_err(ReadBundleError::Members)?;
    if MAX_BUNDLE_BYTES < bytes.len() {
        return Err(ReadBundleError::TooLarge { len_bytes: bytes.len() });
    }
    Ok(bytes)
}

fn write_node(node: &NodeEvidence) -> Result<NodeV1, ReadBundleError> {
    if MAX_OBSERVED < node.observed.len() {
        return Err(bad("observed"));
    }
    let text = |bytes: &[u8], member| String::from_utf8(bytes.to_vec()).map_err(|_| bad(member));
    let mut observed = Vec::new();
    for one in &node.observed {
        observed.push(ObservedV1 { at: one.at.to_string(), checkpoint: text(&one.checkpoint, "checkpoint")? });
    }
    let mut picked = Vec::new();
    for one in &node.picked {
        picked.push(PickedV1 { entry: STANDARD.encode(&one.entry), proof: text(&one.proof, "proof")? });
    }
    Ok(NodeV1 {
        did: node.did.to_string(),
        document: node.document.to_json(),
        vkey: node.vkey.to_string(),
        observed,
        files: node.files.iter().map(|(path, bytes)| (path.to_string(), STANDARD.encode(bytes))).collect(),
        picked,
    })
}

fn read_time(text: &str, member: &'static str) -> Result<UnixMillis, ReadBundleError> {
    UnixMillis::from_rfc3339(text).ok_or(bad(member))
}

fn read_bytes(text: &str, member: &'static str) -> Result<Vec<u8>, ReadBundleError> {
    STANDARD.decode(text).map_err(|_| bad(member))
}

fn bad(member: &'static str) -> ReadBundleError {
    ReadBundleError::Member { member }
}
