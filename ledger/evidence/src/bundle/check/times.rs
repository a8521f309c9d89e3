//! What entries claim about their time, against what witnesses say.

use std::collections::BTreeMap;

use shuyu_base::Digest;
use shuyu_base::keys::PublicKey;

use super::super::{
    ABSENCE_TOLERANCE_S, Bundle, CLOCK_TOLERANCE_S, ConvictionKind, HEAD_KINDS, OUTBOX_TOLERANCE_S, Part,
};
use super::book;
use super::node::Judge;
use crate::statement::{Act, Statement};

/// How many entries of one log are named for one kind.
const MAX_NAMED: usize = 16;

/// The notes that entries may state, by their SHA-256, with the time before which they did not exist.
pub(super) type Notes<'a> = BTreeMap<Digest, (&'a [u8], u64)>;

/// The loose notes of a bundle that a quorum dates.
pub(super) fn notes(bundle: &Bundle) -> Notes<'_> {
    let dated = |note: &'_ Vec<u8>| book::times(bundle.policy.as_ref(), note).1;
    bundle.heads.iter().filter_map(|note| Some((Digest::sha256(note), (note.as_slice(), dated(note)?)))).collect()
}

/// A note that did not exist before a time, stated by the entry at `index`.
pub(super) struct Bound {
    /// Seconds since 1970.
    pub time_s: u64,
    pub index: u64,
    pub note: Vec<u8>,
}

/// The heads that a log states, in its order, each later than those before.
fn bounds(notes: &Notes<'_>, statements: &[Statement], places: &[(u64, PublicKey)]) -> Vec<Bound> {
    let mut found: Vec<Bound> = Vec::new();
    for (statement, (index, _)) in statements.iter().zip(places) {
        if !HEAD_KINDS.contains(&statement.kind.as_str()) || statement.act != Act::Observed {
            continue;
        }
        let Some((note, time_s)) = notes.get(&statement.event) else { continue };
        if found.last().is_none_or(|last| last.time_s < *time_s) {
            found.push(Bound { time_s: *time_s, index: *index, note: note.to_vec() });
        }
    }
    found
}

/// Finds entries that are back-dated or pre-made; returns the heads that the log states.
pub(super) fn check(
    judge: &mut Judge<'_>,
    notes: &Notes<'_>,
    statements: &[Statement],
    places: &[(u64, PublicKey)],
) -> Vec<Bound> {
    let bounds = bounds(notes, statements, places);
    let mut found: Vec<(ConvictionKind, String, Vec<Part>)> = Vec::new();
    for (statement, (index, _)) in statements.iter().zip(places) {
        let claimed_s = u64::try_from(statement.at.unix_seconds()).unwrap_or(0);
        let before = bounds.partition_point(|bound| bound.index < *index);
        let behind = before.checked_sub(1).and_then(|last| bounds.get(last));
        found.extend(behind.and_then(|bound| behind_head(judge, *index, claimed_s, bound)));
        found.extend(absent(judge, *index, claimed_s));
        found.extend(too_early(judge, *index, claimed_s));
    }
    let mut counts: BTreeMap<ConvictionKind, usize> = BTreeMap::new();
    for (kind, detail, proof) in found {
        let count = counts.entry(kind).or_default();
        *count += 1;
        if *count <= MAX_NAMED {
            judge.cosigned(kind, detail, proof);
        }
    }
    bounds
}

/// The entry stands behind a head that is newer than the time it claims.
fn behind_head(
    judge: &Judge<'_>,
    index: u64,
    claimed_s: u64,
    bound: &Bound,
) -> Option<(ConvictionKind, String, Vec<Part>)> {
    if bound.time_s <= claimed_s.saturating_add(OUTBOX_TOLERANCE_S) {
        return None;
    }
    let detail = format!(
        "entry {index} claims time {claimed_s}, but stands behind entry {} with a head that did not exist before {}",
        bound.index, bound.time_s
    );
    let own = |index| judge.book.part(&judge.node.did, index);
    Some((ConvictionKind::BackDated, detail, vec![own(bound.index), own(index), Part::Head(bound.note.clone())]))
}

/// A head without the entry was the newest that the quorum knew, long after the time it claims.
fn absent(judge: &Judge<'_>, index: u64, claimed_s: u64) -> Option<(ConvictionKind, String, Vec<Part>)> {
    let (until, seen) = judge.book.absent_until(index)?;
    if until <= claimed_s.saturating_add(ABSENCE_TOLERANCE_S) {
        return None;
    }
    let detail =
        format!("entry {index} claims time {claimed_s}, but at {until} the newest head was of size {}", seen.head.size);
    let proof = vec![Part::Head(seen.note.clone()), judge.book.part(&judge.node.did, index)];
    Some((ConvictionKind::BackDated, detail, proof))
}

/// A head with the entry existed before the time it claims.
fn too_early(judge: &Judge<'_>, index: u64, claimed_s: u64) -> Option<(ConvictionKind, String, Vec<Part>)> {
    let (by, seen) = judge.book.earliest(index)?;
    if claimed_s <= by.saturating_add(CLOCK_TOLERANCE_S) {
        return None;
    }
    let detail = format!(
        "entry {index} claims time {claimed_s}, but the head of size {} that covers it existed by {by}",
        seen.head.size
    );
    let head = seen.note.clone();
    Some((ConvictionKind::PreMade, detail, vec![Part::Entry { did: judge.did(), index, head }]))
}
