//! The judgement over a bundle.

mod book;
mod heads;
mod keys;
mod log;
mod node;
mod omitted;
mod promises;
mod times;
mod witness;

use std::collections::BTreeSet;

use shuyu_base::Did;

use super::{
    Accused, Audit, Basis, Bundle, Conviction, ConvictionKind, NodeEvidence, NodeSummary, PairSummary, Part, Verdict,
    VerifyBundleError,
};
use crate::compare::{Finding, Party, compare};
use node::Checked;

pub(super) use log::{served_entries, served_hashes};

pub(super) fn audit(bundle: &Bundle) -> Result<Audit, VerifyBundleError> {
    let mut seen: BTreeSet<&Did> = BTreeSet::new();
    let mut checked = Vec::new();
    let notes = times::notes(bundle);
    for node in &bundle.nodes {
        if !seen.insert(&node.did) {
            return Err(VerifyBundleError::Twice { did: node.did.clone() });
        }
        checked.push((node, node::check(node, bundle, &notes)?));
    }
    let mut convictions = Vec::new();
    let mut pairs = Vec::new();
    for (at, (node, one)) in checked.iter().enumerate() {
        convictions.extend(one.convictions.iter().cloned());
        for (peer, other) in checked.iter().skip(at + 1) {
            pairs.extend(compare_pair((node, one), (peer, other), &mut convictions));
        }
    }
    omitted::check(&checked, &mut convictions);
    witness::check(bundle, &checked, &mut convictions);
    let nodes = checked.into_iter().map(|(node, one)| summary(node, one)).collect();
    let verdict = if convictions.is_empty() { Verdict::Holds } else { Verdict::DoesNotHold(convictions) };
    Ok(Audit { verdict, nodes, pairs })
}

fn summary(node: &NodeEvidence, one: Checked) -> NodeSummary {
    let is_whole = one.is_whole;
    NodeSummary {
        did: node.did.clone(),
        vkey: node.vkey.clone(),
        head: one.head,
        entry_count: one.entry_count,
        is_whole,
    }
}

/// Compares two nodes; nothing where they have no process in common.
fn compare_pair(
    (a, a_has): (&NodeEvidence, &Checked),
    (b, b_has): (&NodeEvidence, &Checked),
    convictions: &mut Vec<Conviction>,
) -> Option<PairSummary> {
    let party = |node: &'_ NodeEvidence, has: &'_ Checked| (node.did.clone(), has.seen_at);
    let ((a_did, a_seen), (b_did, b_seen)) = (party(a, a_has), party(b, b_has));
    let mut report = compare(
        Party { did: &a_did, statements: &a_has.statements, seen_at: a_seen },
        Party { did: &b_did, statements: &b_has.statements, seen_at: b_seen },
    );
    let is_whole = a_has.is_whole && b_has.is_whole;
    if !is_whole {
        // What is absent may be in the part that is not here.
        report.processes.iter_mut().for_each(|one| one.findings.retain(Finding::stands_on_part));
    }
    if report.processes.is_empty() {
        return None;
    }
    // What one log shows against itself was found there.
    for (process, finding) in report.faults().filter(|(_, finding)| finding.self_convicted().is_none()) {
        convictions.push(Conviction {
            kind: ConvictionKind::Disagreement,
            basis: Basis::PartiesDisagree,
            who: [&a_did, &b_did].map(|did| Accused::Node(did.clone())).to_vec(),
            detail: format!("process `{process}`: {finding}"),
            // Either account alone says little; both logs are the proof.
            proof: [&a_did, &b_did].map(|did| Part::Log(did.clone())).to_vec(),
        });
    }
    Some(PairSummary { a: a_did, b: b_did, report, is_whole })
}

fn signed(kind: ConvictionKind, who: &Did, detail: String, proof: Vec<Part>) -> Conviction {
    Conviction { kind, basis: Basis::SignedByAccused, who: vec![Accused::Node(who.clone())], detail, proof }
}
