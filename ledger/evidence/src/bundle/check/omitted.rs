//! Uses that a node signed a receipt of and does not have in its log.
//!
//! The receipt carries no time; that it existed by a time, the other party's log says, once a quorum has cosigned the
//! head with the entry that names it. The accused's log must be whole and known to have gone on after that time.

use serde_json::Value;
use shuyu_base::{Did, Digest, json};
use shuyu_credentials::jws;

use super::super::{
    ABSENCE_TOLERANCE_S, Accused, Basis, Conviction, ConvictionKind, NodeEvidence, OUTBOX_TOLERANCE_S, Part,
};
use super::node::Checked;
use crate::statement::Act;

/// The `typ` of a receipt.
pub const RECEIPT_TYPE: &str = "shuyu-receipt+jws";

/// Largest receipt, in bytes; one of ours has about 600.
const MAX_RECEIPT_BYTES: usize = 16 * 1024;

/// What a receipt says, its signature verified.
struct Use {
    event: Digest,
    to: Did,
}

pub(super) fn check(checked: &[(&NodeEvidence, Checked)], convictions: &mut Vec<Conviction>) {
    for (node, has) in checked.iter().filter(|(_, has)| has.is_whole) {
        for (at, compact) in node.receipts.iter().enumerate() {
            let Some(receipt) = open(node, compact) else { continue };
            let known = |act, statements: &[crate::Statement]| {
                statements.iter().position(|one| one.act == act && one.event == receipt.event)
            };
            if known(Act::Served, &has.statements).is_some() {
                continue;
            }
            let Some((other, theirs)) = checked.iter().find(|(other, _)| other.did == receipt.to) else { continue };
            let place = known(Act::Receipt, &theirs.statements).and_then(|found| theirs.places.get(found));
            let Some((by, seen)) = place.and_then(|(index, _)| theirs.book.earliest(*index)) else { continue };
            let Some((until, mut proof)) = went_on(has, by) else { continue };
            let index = place.map_or(0, |(index, _)| *index);
            let detail = format!(
                "it signed a receipt of the use `{}`, which existed by {by}; its log went on until {until} without it",
                receipt.event
            );
            proof.push(Part::Receipt { did: node.did.clone(), at });
            proof.push(Part::Log(node.did.clone()));
            proof.push(Part::Entry { did: other.did.clone(), index, head: seen.note.clone() });
            let (kind, basis) = (ConvictionKind::Omitted, Basis::CosignedByQuorum);
            convictions.push(Conviction { kind, basis, who: vec![Accused::Node(node.did.clone())], detail, proof });
        }
    }
}

/// A time after `by` at which the whole log is known to have gone on, and the note that shows it.
fn went_on(has: &Checked, by: u64) -> Option<(u64, Vec<Part>)> {
    if let Some(last) = has.bounds.last().filter(|last| by.saturating_add(OUTBOX_TOLERANCE_S) < last.time_s) {
        return Some((last.time_s, vec![Part::Head(last.note.clone())]));
    }
    let size = has.head.as_ref()?.size;
    let (until, seen) = has.book.absent_until(size)?;
    let is_late = by.saturating_add(ABSENCE_TOLERANCE_S) < until;
    is_late.then(|| (until, vec![Part::Head(seen.note.clone())]))
}

fn open(node: &NodeEvidence, compact: &str) -> Option<Use> {
    if MAX_RECEIPT_BYTES < compact.len() {
        return None;
    }
    let key = |kid: &str| node.document.method(kid).map(|method| method.key.clone());
    let verified = jws::verify(compact, key).ok()?;
    if verified.typ.as_deref() != Some(RECEIPT_TYPE) {
        return None;
    }
    let content = json::parse(&verified.payload, MAX_RECEIPT_BYTES).ok()?;
    let text = |name: &str| content.get(name).and_then(Value::as_str);
    if text("by")? != node.did.as_str() {
        return None;
    }
    let event = Digest::sha256(&json::canonical(&content).ok()?);
    Some(Use { event, to: text("to")?.parse().ok()? })
}
