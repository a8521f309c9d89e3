//! What is proven of one log: its signed heads, and which entries stand in which of them.

use std::collections::BTreeMap;

use shuyu_base::{Did, UnixMillis};
use shuyu_tlog::quorum::WitnessPolicy;
use shuyu_tlog::{Checkpoint, Note};

use super::super::Part;

/// A head with a good signature.
pub(super) struct Seen {
    pub head: Checkpoint,
    /// The signed note, verbatim.
    pub note: Vec<u8>,
    /// When the auditor saw it; the least time for heads that came with proofs.
    pub at: UnixMillis,
    /// Position among the checkpoints observed; other heads have none.
    pub order: Option<usize>,
    /// By when a quorum of witnesses had seen it, in seconds.
    pub existed_by: Option<u64>,
    /// The last time at which a quorum knew nothing newer, in seconds.
    pub newest_at: Option<u64>,
}

/// An entry that stands in at least one signed head.
pub(super) struct Proven {
    pub bytes: Vec<u8>,
    /// Heads that it is proven in by proof files, and the place of the proof among `picked`.
    pub picked: Vec<(usize, usize)>,
    /// Whether it is one of the whole log, and so stands in every larger head on its path.
    pub in_log: bool,
}

/// The heads and entries of one log.
#[derive(Default)]
pub(super) struct Book {
    pub heads: Vec<Seen>,
    pub proven: BTreeMap<u64, Proven>,
    /// Heads that the whole log leads to, by size; empty without the whole log.
    pub path: Vec<usize>,
    /// For each place in `path`: the head from there on that existed first.
    earliest: Vec<Option<(u64, usize)>>,
    /// Heads by size, and for each the latest time at which it or a smaller one was the newest.
    newest: Vec<(u64, Option<(u64, usize)>)>,
}

/// The times that a policy gives a note; none where a line of a witness does not verify.
pub(super) fn times(policy: Option<&WitnessPolicy>, note: &[u8]) -> (Option<u64>, Option<u64>) {
    let (Some(policy), Ok(note)) = (policy, Note::parse(note)) else { return (None, None) };
    (policy.existed_by(&note).ok().flatten(), policy.newest_at(&note).ok().flatten())
}

impl Book {
    /// Adds a head whose signature holds; returns its place.
    pub fn add_head(
        &mut self,
        head: Checkpoint,
        note: &[u8],
        (at, order): (UnixMillis, Option<usize>),
        policy: Option<&WitnessPolicy>,
    ) -> usize {
        let (existed_by, newest_at) = times(policy, note);
        self.heads.push(Seen { head, note: note.to_vec(), at, order, existed_by, newest_at });
        self.heads.len() - 1
    }

    /// To be called when all heads and entries are in.
    pub fn finish(&mut self) {
        let size = |at: &usize| self.heads.get(*at).map_or(0, |seen| seen.head.size);
        self.path.sort_by_key(size);
        let mut earliest = vec![None; self.path.len()];
        let mut best: Option<(u64, usize)> = None;
        for (place, at) in self.path.iter().enumerate().rev() {
            let time = self.heads.get(*at).and_then(|seen| seen.existed_by);
            best = [best, time.map(|time| (time, *at))].into_iter().flatten().min();
            if let Some(slot) = earliest.get_mut(place) {
                *slot = best;
            }
        }
        self.earliest = earliest;
        let mut by_size: Vec<usize> = (0..self.heads.len()).collect();
        by_size.sort_by_key(size);
        let mut latest: Option<(u64, usize)> = None;
        let mut newest = Vec::new();
        for at in by_size {
            let Some(seen) = self.heads.get(at) else { continue };
            latest = [latest, seen.newest_at.map(|time| (time, at))].into_iter().flatten().max();
            newest.push((seen.head.size, latest));
        }
        self.newest = newest;
    }

    /// The earliest time, in seconds, by which a quorum had seen a head with this entry, and that head.
    pub fn earliest(&self, index: u64) -> Option<(u64, &Seen)> {
        let proven = self.proven.get(&index)?;
        let time = |at: usize| Some((self.heads.get(at)?.existed_by?, at));
        let picked = proven.picked.iter().filter_map(|(at, _)| time(*at)).min();
        let log = if proven.in_log { self.earliest.get(self.above(index)).copied().flatten() } else { None };
        let (time, at) = [picked, log].into_iter().flatten().min()?;
        Some((time, self.heads.get(at)?))
    }

    /// The latest time, in seconds, at which a quorum knew nothing newer than a head without this place, and that head.
    pub fn absent_until(&self, index: u64) -> Option<(u64, &Seen)> {
        let upto = self.newest.partition_point(|(size, _)| *size <= index);
        let (time, at) = self.newest.get(upto.checked_sub(1)?)?.1?;
        Some((time, self.heads.get(at)?))
    }

    /// A head that the entry is proven in.
    pub fn head_of(&self, index: u64) -> Option<&Seen> {
        let proven = self.proven.get(&index)?;
        let log = if proven.in_log { self.path.get(self.above(index)) } else { None };
        let at = proven.picked.first().map(|(at, _)| at).or(log)?;
        self.heads.get(*at)
    }

    /// The entry as a part of a proof.
    pub fn part(&self, did: &Did, index: u64) -> Part {
        let head = self.head_of(index).map(|seen| seen.note.clone()).unwrap_or_default();
        Part::Entry { did: did.clone(), index, head }
    }

    /// The largest head.
    pub fn largest(&self) -> Option<&Seen> {
        self.heads.iter().max_by_key(|seen| seen.head.size)
    }

    fn above(&self, index: u64) -> usize {
        self.path.partition_point(|at| self.heads.get(*at).is_some_and(|seen| seen.head.size <= index))
    }
}
