//! Keys that a node gave up, and what was signed with them afterwards.
//!
//! A node empties its outbox before it records a change of keys, and signs with the new key from then on: what stands
//! behind that entry under the old key was signed by whoever has it now.

use std::collections::BTreeMap;

use shuyu_base::Digest;
use shuyu_base::keys::PublicKey;

use super::super::{ConvictionKind, Part, SUCCESSION_KIND};
use super::node::Judge;
use crate::statement::{Act, Statement};

pub(super) fn check(judge: &mut Judge<'_>, statements: &[Statement], places: &[(u64, PublicKey)]) {
    // Thumbprints of keys that left, and the entry that says so.
    let mut left: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut found = Vec::new();
    for (statement, (index, key)) in statements.iter().zip(places) {
        if let Some(at) = left.get(&key.thumbprint()) {
            let detail = format!("entry {index} is signed with a key that entry {at} had given up");
            let own = |index| judge.book.part(&judge.node.did, index);
            found.push((detail, vec![own(*at), own(*index)]));
        }
        if statement.kind == SUCCESSION_KIND
            && statement.act == Act::Published
            && let Some(from) = statement.commit.get("from")
        {
            left.entry(*from).or_insert(*index);
        }
    }
    found.extend(heads_after(judge, &left));
    found.into_iter().for_each(|(detail, proof)| judge.signed(ConvictionKind::RevokedKey, detail, proof));
}

/// Heads signed with the log's key after the log gave it up. The one that takes up the entry may be its last.
fn heads_after(judge: &Judge<'_>, left: &BTreeMap<Digest, u64>) -> Option<(String, Vec<Part>)> {
    let at = *left.get(&judge.node.vkey.key().thumbprint())?;
    let mut after: Vec<_> = judge.book.heads.iter().filter(|seen| at < seen.head.size).collect();
    after.sort_by_key(|seen| seen.head.size);
    let (first, last) = (after.first()?, after.last()?);
    if first.head.size == last.head.size {
        return None;
    }
    let detail =
        format!("the head of size {} is signed with the log's key, which entry {at} had given up", last.head.size);
    let heads = [first, last].map(|seen| Part::Head(seen.note.clone()));
    Some((detail, [judge.book.part(&judge.node.did, at)].into_iter().chain(heads).collect()))
}
