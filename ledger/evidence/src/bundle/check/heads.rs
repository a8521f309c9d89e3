//! Signed heads against each other: forks, rollbacks, and heads that are no prefix of a larger one.

use std::collections::BTreeMap;

use shuyu_tlog::{Checkpoint, Hash, SignedCheckpoint, verify_consistency};

use super::super::history::KIND;
use super::super::{ConvictionKind, Part, VerifyBundleError};
use super::node::Judge;

/// What a head says about a smaller tree: "at `size`, the tree of `of` has this root", proven by hashes alone.
pub(super) struct Fact {
    pub of: Checkpoint,
    pub size: u64,
    pub root: Hash,
    pub part: Part,
}

impl Judge<'_> {
    /// The prefixes that come with the node; each must be of a head that the log signed, and its proof must hold.
    pub fn prefixes(&mut self) -> Result<(), VerifyBundleError> {
        for (at, one) in self.node.prefixes.iter().enumerate() {
            let signed = SignedCheckpoint::open(&one.head, &self.node.vkey)
                .map_err(|error| self.unreadable(format!("head of prefix {at}"), error))?;
            let of = signed.checkpoint().clone();
            verify_consistency(KIND, one.size, &one.root, of.size, &of.root, &one.hashes)
                .map_err(|error| self.unreadable(format!("proof of prefix {at}"), error))?;
            let part = Part::Prefix { did: self.did(), head: one.head.clone(), size: one.size };
            let unseen = (shuyu_base::UnixMillis(i64::MIN), None);
            self.book.add_head(of.clone(), &one.head, unseen, self.policy);
            self.facts.push(Fact { of, size: one.size, root: one.root, part });
        }
        Ok(())
    }
}

/// Two signed heads of one size with different roots.
pub(super) fn forks(judge: &mut Judge<'_>) {
    let mut by_size: BTreeMap<u64, BTreeMap<Hash, &[u8]>> = BTreeMap::new();
    for seen in &judge.book.heads {
        by_size.entry(seen.head.size).or_default().entry(seen.head.root).or_insert(&seen.note);
    }
    let mut found = Vec::new();
    for (size, roots) in by_size.into_iter().filter(|(_, roots)| 1 < roots.len()) {
        let named: Vec<String> = roots.keys().map(|root| format!("`{root}`")).collect();
        let proof = roots.values().take(2).map(|note| Part::Head(note.to_vec())).collect();
        found.push((format!("signed size {size} with roots {}", named.join(" and ")), proof));
    }
    found.into_iter().for_each(|(detail, proof)| judge.signed(ConvictionKind::Fork, detail, proof));
}

/// A smaller head after a larger one.
pub(super) fn rollbacks(judge: &mut Judge<'_>) {
    let mut largest: Option<(u64, &[u8])> = None;
    let mut found = Vec::new();
    for seen in judge.book.heads.iter().filter(|seen| seen.order.is_some()) {
        match largest {
            Some((size, note)) if seen.head.size < size => {
                let detail = format!("signed size {} was served after size {size}", seen.head.size);
                found.push((detail, vec![Part::Head(note.to_vec()), Part::Head(seen.note.clone())]));
            }
            Some((size, _)) if seen.head.size <= size => {}
            Some(_) | None => largest = Some((seen.head.size, &seen.note)),
        }
    }
    found.into_iter().for_each(|(detail, proof)| judge.served(ConvictionKind::Rollback, detail, proof));
}

/// Heads that a larger signed head contradicts.
pub(super) fn inconsistencies(judge: &mut Judge<'_>) {
    let mut by_size: BTreeMap<u64, Vec<&super::book::Seen>> = BTreeMap::new();
    for seen in &judge.book.heads {
        by_size.entry(seen.head.size).or_default().push(seen);
    }
    let mut found: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for fact in &judge.facts {
        let same_size = by_size.get(&fact.size).into_iter().flatten();
        let Some(seen) = same_size.copied().find(|seen| seen.head.root != fact.root) else { continue };
        let detail = format!(
            "signed size {} has root `{}`, but the tree signed at size {} has `{}` there",
            fact.size, seen.head.root, fact.of.size, fact.root
        );
        found.entry(detail).or_insert_with(|| vec![fact.part.clone(), Part::Head(seen.note.clone())]);
    }
    found.into_iter().for_each(|(detail, proof)| judge.signed(ConvictionKind::Inconsistent, detail, proof));
}
