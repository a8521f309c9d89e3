//! Version 2 of the bundle file: one JSON object of at most 64 MiB.
//!
//! ```json
//! { "format": "shuyu-evidence-bundle", "version": 2, "made_at": "<RFC 3339>",
//!   "policy": "<C2SP tlog-policy file: witnesses, their keys, the quorum>",
//!   "heads": [ "<signed note>" ],
//!   "nodes": [ {
//!     "did": "did:...",
//!     "document": { DID document },
//!     "vkey": "<name>+<id>+<key>",
//!     "observed": [ { "at": "<RFC 3339>", "checkpoint": "<signed note>" } ],
//!     "files": { "tile/entries/000.p/5": "<base64>", "tile/0/000.p/5": "<base64>" },
//!     "picked": [ { "entry": "<base64>", "proof": "<tlog-proof@v1>" } ],
//!     "promises": [ { "entry": "<base64>", "proof": "<promise-proof/v1>" } ],
//!     "prefixes": [ { "head": "<signed note>", "size": "3", "root": "<base64>", "hashes": [ "<base64>" ] } ],
//!     "receipts": [ "<compact JWS>" ]
//! } ] }
//! ```
//!
//! Version 1 had no `policy`, `heads`, `promises`, `prefixes` and `receipts`; such a file is read as one of version 2 that
//! leaves them out, which every member but `did`, `document`, `vkey` and `observed` may be. We write version 2.
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
use shuyu_tlog::Hash;
use shuyu_tlog::merkle::MAX_PROOF_HASHES;
use shuyu_tlog::quorum::WitnessPolicy;

use super::{
    Bundle, MAX_BUNDLE_BYTES, MAX_EXTRAS, MAX_HEADS, MAX_NODES, MAX_OBSERVED, NodeEvidence, Observed, Picked, Prefix,
};

const FORMAT: &str = "shuyu-evidence-bundle";

/// Why bytes are not a bundle, or a bundle cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadBundleError {
    /// Not JSON within bounds.
    #[error("bundle is not acceptable JSON")]
    Json(#[from] json::ParseJsonError),
    /// JSON, but not with the members of a bundle.
    #[error("bundle does not have the members of its version")]
    Members(#[source] serde_json::Error),
    /// Another format or version.
    #[error("bundle is not `{FORMAT}` version 1 or 2")]
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
struct BundleV2 {
    format: String,
    version: u64,
    made_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<String>,
    nodes: Vec<NodeV2>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeV2 {
    did: String,
    document: Value,
    vkey: String,
    observed: Vec<ObservedV2>,
    #[serde(default)]
    files: BTreeMap<String, String>,
    #[serde(default)]
    picked: Vec<PickedV2>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    promises: Vec<PickedV2>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    prefixes: Vec<PrefixV2>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    receipts: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ObservedV2 {
    at: String,
    checkpoint: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PickedV2 {
    entry: String,
    proof: String,
}

/// The size is a text: a JSON number does not hold every size.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PrefixV2 {
    head: String,
    size: String,
    root: String,
    hashes: Vec<String>,
}

pub(super) fn read(bytes: &[u8]) -> Result<Bundle, ReadBundleError> {
    let value = json::parse(bytes, MAX_BUNDLE_BYTES)?;
    let dto: BundleV2 = serde_json::from_value(value).map_err(ReadBundleError::Members)?;
    let has_new = |node: &NodeV2| !(node.promises.is_empty() && node.prefixes.is_empty() && node.receipts.is_empty());
    let is_first = dto.policy.is_none() && dto.heads.is_empty() && !dto.nodes.iter().any(has_new);
    if dto.format != FORMAT || !(dto.version == 2 || dto.version == 1 && is_first) {
        return Err(ReadBundleError::Version);
    }
    bounded(dto.nodes.len(), MAX_NODES, "nodes")?;
    bounded(dto.heads.len(), MAX_HEADS, "heads")?;
    let policy = dto.policy.map(|text| WitnessPolicy::parse(text.as_bytes()).map_err(|_| bad("policy")));
    Ok(Bundle {
        made_at: read_time(&dto.made_at, "made_at")?,
        policy: policy.transpose()?,
        heads: dto.heads.into_iter().map(String::into_bytes).collect(),
        nodes: dto.nodes.into_iter().map(read_node).collect::<Result<_, _>>()?,
    })
}

fn read_node(dto: NodeV2) -> Result<NodeEvidence, ReadBundleError> {
    let did: Did = dto.did.parse().map_err(|_| bad("did"))?;
    let document = serde_json::to_vec(&dto.document).map_err(ReadBundleError::Members)?;
    let document = DidDocument::parse(&document, &did).map_err(|_| bad("document"))?;
    let mut node = NodeEvidence::new(did, document, dto.vkey.parse().map_err(|_| bad("vkey"))?);
    bounded(dto.observed.len(), MAX_OBSERVED, "observed")?;
    for one in dto.observed {
        node.observed.push(Observed { at: read_time(&one.at, "at")?, checkpoint: one.checkpoint.into_bytes() });
    }
    for (path, bytes) in dto.files {
        node.files.insert(path.parse().map_err(|_| bad("files"))?, read_bytes(&bytes, "files")?);
    }
    node.picked = read_picked(dto.picked)?;
    bounded(dto.promises.len(), MAX_EXTRAS, "promises")?;
    node.promises = read_picked(dto.promises)?;
    bounded(dto.prefixes.len(), MAX_EXTRAS, "prefixes")?;
    node.prefixes = dto.prefixes.into_iter().map(read_prefix).collect::<Result<_, _>>()?;
    bounded(dto.receipts.len(), MAX_EXTRAS, "receipts")?;
    node.receipts = dto.receipts;
    Ok(node)
}

fn read_picked(dtos: Vec<PickedV2>) -> Result<Vec<Picked>, ReadBundleError> {
    let read = |one: PickedV2| Ok(Picked { entry: read_bytes(&one.entry, "entry")?, proof: one.proof.into_bytes() });
    dtos.into_iter().map(read).collect()
}

fn read_prefix(dto: PrefixV2) -> Result<Prefix, ReadBundleError> {
    bounded(dto.hashes.len(), MAX_PROOF_HASHES, "hashes")?;
    let size: u64 = dto.size.parse().map_err(|_| bad("size"))?;
    if size.to_string() != dto.size {
        return Err(bad("size"));
    }
    let hashes = dto.hashes.iter().map(|hash| read_hash(hash, "hashes")).collect::<Result<_, _>>()?;
    Ok(Prefix { head: dto.head.into_bytes(), size, root: read_hash(&dto.root, "root")?, hashes })
}

pub(super) fn write(bundle: &Bundle) -> Result<Vec<u8>, ReadBundleError> {
    bounded(bundle.nodes.len(), MAX_NODES, "nodes")?;
    bounded(bundle.heads.len(), MAX_HEADS, "heads")?;
    let dto = BundleV2 {
        format: FORMAT.to_owned(),
        version: 2,
        made_at: bundle.made_at.to_string(),
        policy: bundle.policy.as_ref().map(ToString::to_string),
        heads: bundle.heads.iter().map(|head| text(head, "heads")).collect::<Result<_, _>>()?,
        nodes: bundle.nodes.iter().map(write_node).collect::<Result<_, _>>()?,
    };
    let bytes = serde_json::to_vec(&dto).map_err(ReadBundleError::Members)?;
    if MAX_BUNDLE_BYTES < bytes.len() {
        return Err(ReadBundleError::TooLarge { len_bytes: bytes.len() });
    }
    Ok(bytes)
}

fn write_node(node: &NodeEvidence) -> Result<NodeV2, ReadBundleError> {
    bounded(node.observed.len(), MAX_OBSERVED, "observed")?;
    bounded(node.promises.len(), MAX_EXTRAS, "promises")?;
    bounded(node.prefixes.len(), MAX_EXTRAS, "prefixes")?;
    bounded(node.receipts.len(), MAX_EXTRAS, "receipts")?;
    let mut observed = Vec::new();
    for one in &node.observed {
        observed.push(ObservedV2 { at: one.at.to_string(), checkpoint: text(&one.checkpoint, "checkpoint")? });
    }
    let mut prefixes = Vec::new();
    for one in &node.prefixes {
        let hashes = one.hashes.iter().map(ToString::to_string).collect();
        let (size, root) = (one.size.to_string(), one.root.to_string());
        prefixes.push(PrefixV2 { head: text(&one.head, "head")?, size, root, hashes });
    }
    Ok(NodeV2 {
        did: node.did.to_string(),
        document: node.document.to_json(),
        vkey: node.vkey.to_string(),
        observed,
        files: node.files.iter().map(|(path, bytes)| (path.to_string(), STANDARD.encode(bytes))).collect(),
        picked: write_picked(&node.picked)?,
        promises: write_picked(&node.promises)?,
        prefixes,
        receipts: node.receipts.clone(),
    })
}

fn write_picked(picked: &[Picked]) -> Result<Vec<PickedV2>, ReadBundleError> {
    let write = |one: &Picked| Ok(PickedV2 { entry: STANDARD.encode(&one.entry), proof: text(&one.proof, "proof")? });
    picked.iter().map(write).collect()
}

fn bounded(len: usize, max: usize, member: &'static str) -> Result<(), ReadBundleError> {
    if len <= max { Ok(()) } else { Err(bad(member)) }
}

fn text(bytes: &[u8], member: &'static str) -> Result<String, ReadBundleError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| bad(member))
}

fn read_time(text: &str, member: &'static str) -> Result<UnixMillis, ReadBundleError> {
    UnixMillis::from_rfc3339(text).ok_or(bad(member))
}

fn read_bytes(text: &str, member: &'static str) -> Result<Vec<u8>, ReadBundleError> {
    STANDARD.decode(text).map_err(|_| bad(member))
}

fn read_hash(text: &str, member: &'static str) -> Result<Hash, ReadBundleError> {
    read_bytes(text, member)?.try_into().map(Hash).map_err(|_| bad(member))
}

fn bad(member: &'static str) -> ReadBundleError {
    ReadBundleError::Member { member }
}
