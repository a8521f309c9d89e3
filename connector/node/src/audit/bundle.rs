//! What the mirror holds, as a bundle that anybody can judge; and the heads that mirrored logs state.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_evidence::bundle::{HEAD_KINDS, MAX_HEADS};
use shuyu_evidence::{Audit, Bundle, NodeEvidence, Observed, Verdict};
use shuyu_tlog::note::MAX_NOTE_BYTES;
use shuyu_tlog::{Tile, TilePath, Vkey, new_tiles, read_bundle, tiles_of};

use super::{Auditor, FollowedRow, held_document, write};
use crate::clock;
use crate::management::chain;
use crate::problem::Problem;
use crate::store::Table;

/// Where stated heads are kept, below a mirror.
const HEADS: &str = "heads";

impl Auditor {
    pub(super) fn verified(&self, did: &str, size: u64, untraced: &[String]) -> Result<Value, Problem> {
        let Some(row) = self.store.get::<FollowedRow>(Table::Audit, did)? else {
            return Err(Problem::not_found("followed node", did));
        };
        let mut findings: Vec<String> = match self.bundle_of(std::slice::from_ref(&row))?.verify() {
            Ok(Audit { verdict: Verdict::Holds, .. }) => Vec::new(),
            Ok(Audit { verdict: Verdict::DoesNotHold(convictions), .. }) => {
                convictions.iter().map(ToString::to_string).collect()
            }
            Err(error) => vec![chain(&error)],
        };
        let stranger = |kid: &String| format!("no key held of this node handed over to `{kid}`; it is not taken");
        findings.extend(untraced.iter().map(stranger));
        Ok(json!({ "did": did, "size": size, "verified": findings.is_empty(), "findings": findings, "reached": true }))
    }

    /// What does not hold in everything that is held of a node.
    pub(super) async fn judged(self: &Arc<Self>, did: &Did) -> Result<Vec<String>, Problem> {
        let (auditor, did) = (Arc::clone(self), did.clone());
        let judged = tokio::task::spawn_blocking(move || auditor.verified(did.as_str(), 0, &[]));
        let judged = judged.await.map_err(|error| Problem::conflict(error.to_string()))??;
        let findings = judged.get("findings").and_then(Value::as_array).into_iter().flatten();
        Ok(findings.filter_map(Value::as_str).map(str::to_owned).collect())
    }

    /// Everything held about every followed node, as one bundle.
    ///
    /// # Errors
    /// When the mirror cannot be read.
    pub fn bundle(&self) -> Result<Bundle, Problem> {
        self.bundle_of(&self.rows()?)
    }

    fn bundle_of(&self, rows: &[FollowedRow]) -> Result<Bundle, Problem> {
        let nodes = rows.iter().map(|row| self.evidence(row)).collect::<Result<Vec<_>, _>>()?;
        let heads = nodes.iter().flat_map(|node| self.heads(&node.did)).take(MAX_HEADS).collect();
        Ok(Bundle { made_at: clock::now(), policy: None, heads, nodes })
    }

    fn evidence(&self, row: &FollowedRow) -> Result<NodeEvidence, Problem> {
        let damaged = |what: &str| Problem::conflict(format!("what is stored about `{}` is damaged: {what}", row.did));
        let did: Did = row.did.parse().map_err(|_| damaged("did"))?;
        let vkey: Vkey = row.vkey.parse().map_err(|_| damaged("vkey"))?;
        let mirror = self.mirror(&did);
        let mut files: BTreeMap<TilePath, Vec<u8>> = BTreeMap::new();
        for path in tiles_of(row.size) {
            let bytes = std::fs::read(mirror.join(path.to_string())).map_err(|error| damaged(&error.to_string()))?;
            files.insert(path, bytes);
        }
        let observed = row
            .observed
            .iter()
            .map(|seen| Observed { at: UnixMillis(seen.at), checkpoint: seen.checkpoint.clone().into_bytes() })
            .collect();
        Ok(NodeEvidence { observed, files, ..NodeEvidence::new(did, held_document(row)?, vkey) })
    }

    /// The heads kept of a node.
    fn heads(&self, did: &Did) -> Vec<Vec<u8>> {
        let Ok(listed) = std::fs::read_dir(self.mirror(did).join(HEADS)) else { return Vec::new() };
        let mut files: Vec<_> = listed.filter_map(|file| Some(file.ok()?.path())).collect();
        files.sort();
        files.iter().filter_map(|file| std::fs::read(file).ok()).collect()
    }

    /// Copies the cosigned heads that entries `from..to` of the mirror state. One that cannot be had is passed over: it
    /// would only date what stands behind it.
    pub(super) async fn copy_heads(&self, did: &Did, root: &str, from: u64, to: u64) {
        let mirror = self.mirror(did);
        for path in new_tiles(from, to).into_iter().filter(|path| path.tile() == Tile::Entries) {
            let Ok(bytes) = tokio::fs::read(mirror.join(path.to_string())).await else { continue };
            let Ok(entries) = read_bundle(&bytes, path.width()) else { continue };
            let stated = entries.iter().filter_map(|entry| shuyu_evidence::peek(entry).ok());
            let stated: Vec<_> = stated.filter(|one| HEAD_KINDS.contains(&one.kind.as_str())).collect();
            for one in stated {
                let name = one.event.to_string();
                let name = name.rsplit(':').next().unwrap_or_default();
                let file = mirror.join(HEADS).join(name);
                if tokio::fs::try_exists(&file).await.unwrap_or(false) {
                    continue;
                }
                let url = format!("{root}/heads/{name}");
                let Ok(bytes) = self.peers.bytes(did, &url, MAX_NOTE_BYTES).await else { continue };
                if shuyu_base::Digest::sha256(&bytes) != one.event {
                    tracing::warn!(did = did.as_str(), head = name, "a stated head is not what was stated");
                } else if let Err(error) = write(&file, &bytes).await {
                    tracing::warn!(%error, "a stated head could not be kept");
                }
            }
        }
    }
}
