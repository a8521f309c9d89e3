//! Witnesses whose cosignatures cannot both be true (tlog-cosignature: "the largest consistent tree I have observed").

use std::collections::BTreeMap;

use shuyu_tlog::quorum::PolicyWitness;
use shuyu_tlog::{Checkpoint, Note};

use super::super::{Accused, Basis, Bundle, CLOCK_TOLERANCE_S, Conviction, ConvictionKind, NodeEvidence, Part};
use super::node::Checked;

/// One cosignature.
struct Cosigned<'a> {
    head: Checkpoint,
    time_s: u64,
    note: &'a [u8],
}

pub(super) fn check(bundle: &Bundle, checked: &[(&NodeEvidence, Checked)], convictions: &mut Vec<Conviction>) {
    let Some(policy) = &bundle.policy else { return };
    let of_nodes = checked.iter().flat_map(|(_, has)| has.book.heads.iter().map(|seen| seen.note.as_slice()));
    let mut notes: BTreeMap<&[u8], (Note, Checkpoint)> = BTreeMap::new();
    for bytes in bundle.heads.iter().map(Vec::as_slice).chain(of_nodes) {
        if notes.contains_key(bytes) {
            continue;
        }
        let note = Note::parse(bytes).ok();
        let head = note.as_ref().and_then(|note| note.text().parse().ok());
        notes.extend(note.zip(head).map(|pair| (bytes, pair)));
    }
    for witness in policy.witnesses() {
        let signed: Vec<Cosigned<'_>> =
            notes.iter().flat_map(|(bytes, (note, head))| lines(witness, bytes, note, head)).collect();
        let lie = of_pairs(&signed).or_else(|| of_prefixes(&signed, checked));
        convictions.extend(lie.map(|(detail, proof)| Conviction {
            kind: ConvictionKind::LyingWitness,
            basis: Basis::SignedByAccused,
            who: vec![Accused::Witness(witness.key.to_string())],
            detail,
            proof,
        }));
    }
}

/// Every cosignature of the witness on a note; each line is verified alone, so that a bad one hides no good one.
fn lines<'a>(witness: &PolicyWitness, bytes: &'a [u8], note: &Note, head: &Checkpoint) -> Vec<Cosigned<'a>> {
    let own = note.signatures().iter().filter(|line| line.name == witness.key.name());
    let alone = own.filter_map(|line| {
        let bare = Note::sign(note.text().to_owned(), &[]).ok()?.with_signatures([line.clone()]).ok()?;
        witness.key.cosignature(&bare).ok().flatten()
    });
    alone.map(|line| Cosigned { head: head.clone(), time_s: line.time_s, note: bytes }).collect()
}

/// One size with two roots, or a smaller tree later than a larger one.
fn of_pairs(signed: &[Cosigned<'_>]) -> Option<(String, Vec<Part>)> {
    let mut logs: BTreeMap<&str, Vec<&Cosigned<'_>>> = BTreeMap::new();
    for one in signed {
        logs.entry(&one.head.origin).or_default().push(one);
    }
    logs.into_values().find_map(|mut of_log| {
        of_log.sort_by_key(|one| (one.head.size, one.head.root));
        two_roots(&of_log).or_else(|| set_back(&of_log))
    })
}

/// Takes cosignatures of one log by size.
fn two_roots(of_log: &[&Cosigned<'_>]) -> Option<(String, Vec<Part>)> {
    let pairs = of_log.iter().zip(of_log.iter().skip(1));
    let (one, two) = { pairs }.find(|(a, b)| a.head.size == b.head.size && a.head.root != b.head.root)?;
    let (size, origin) = (one.head.size, &one.head.origin);
    let detail = format!("cosigned size {size} of `{origin}` with roots `{}` and `{}`", one.head.root, two.head.root);
    Some((detail, [one, two].map(|one| Part::Head(one.note.to_vec())).to_vec()))
}

/// Takes cosignatures of one log by size.
fn set_back(of_log: &[&Cosigned<'_>]) -> Option<(String, Vec<Part>)> {
    // The larger head that was cosigned first.
    let mut first: Option<&Cosigned<'_>> = None;
    for of_size in of_log.chunk_by(|a, b| a.head.size == b.head.size).rev() {
        let late = of_size.iter().max_by_key(|one| one.time_s)?;
        if let Some(large) = first.filter(|large| large.time_s.saturating_add(CLOCK_TOLERANCE_S) < late.time_s) {
            let detail = format!(
                "cosigned size {} of `{}` at {} as the newest, and size {} at {} before",
                late.head.size, late.head.origin, late.time_s, large.head.size, large.time_s
            );
            return Some((detail, [late, large].map(|one| Part::Head(one.note.to_vec())).to_vec()));
        }
        let early = of_size.iter().min_by_key(|one| one.time_s).copied();
        first = first.into_iter().chain(early).min_by_key(|one| one.time_s);
    }
    None
}

/// Two sizes that are not of one history.
fn of_prefixes(signed: &[Cosigned<'_>], checked: &[(&NodeEvidence, Checked)]) -> Option<(String, Vec<Part>)> {
    for fact in checked.iter().flat_map(|(_, has)| &has.facts) {
        let large = signed.iter().find(|one| one.head == fact.of);
        let is_other = |one: &&Cosigned<'_>| {
            one.head.origin == fact.of.origin && one.head.size == fact.size && one.head.root != fact.root
        };
        let small = signed.iter().find(is_other);
        if let (Some(large), Some(small)) = (large, small) {
            let detail = format!(
                "cosigned sizes {} and {} of `{}`, which are not of one history",
                fact.size, fact.of.size, fact.of.origin
            );
            // The prefix brings its own head, with the cosignature or without.
            let brings = matches!(&fact.part, Part::Prefix { head, .. } if head == large.note);
            let heads = [Some(small), Some(large).filter(|_| !brings)].into_iter().flatten();
            let heads = heads.map(|one| Part::Head(one.note.to_vec()));
            return Some((detail, [fact.part.clone()].into_iter().chain(heads).collect()));
        }
    }
    None
}
