//! The smallest bundle that proves one conviction of a larger one.

use shuyu_base::Did;
use shuyu_tlog::{InclusionProof, SignedCheckpoint, prove_inclusion};

use super::check::{served_entries, served_hashes};
use super::history::{History, KIND};
use super::{
    Accused, Bundle, Conviction, ConvictionKind, NodeEvidence, Observed, Part, Picked, Prefix, Verdict,
    VerifyBundleError,
};

/// Why a bundle was not cut down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MinimalError {
    /// The whole bundle cannot be judged.
    #[error("bundle cannot be judged")]
    Verify(#[from] VerifyBundleError),
    /// It proves nothing of the kind.
    #[error("bundle holds no conviction of the kind `{kind}`")]
    None {
        /// The name of the kind.
        kind: &'static str,
    },
    /// The parts alone do not convict.
    #[error("conviction `{kind}` cannot be proven by less than the whole bundle")]
    Whole {
        /// The name of the kind.
        kind: &'static str,
    },
}

pub(super) fn of(bundle: &Bundle, kind: ConvictionKind) -> Result<Bundle, MinimalError> {
    let found = convictions(bundle)?.into_iter().filter(|one| one.kind == kind);
    // Of several the one that rests on the least trust, then the one with the fewest parts.
    let best = found.min_by_key(|one| (!one.basis.convicts(), one.basis as u8, weight(one)));
    let best = best.ok_or(MinimalError::None { kind: kind.name() })?;
    let small = cut(bundle, &best).ok_or(MinimalError::Whole { kind: kind.name() })?;
    let same = |one: &Conviction| one.kind == best.kind && one.basis == best.basis && one.who == best.who;
    if convictions(&small)?.iter().any(same) { Ok(small) } else { Err(MinimalError::Whole { kind: kind.name() }) }
}

fn convictions(bundle: &Bundle) -> Result<Vec<Conviction>, VerifyBundleError> {
    match bundle.verify()?.verdict {
        Verdict::Holds => Ok(Vec::new()),
        Verdict::DoesNotHold(found) => Ok(found),
    }
}

/// Whole logs weigh most.
fn weight(one: &Conviction) -> (usize, usize) {
    (one.proof.iter().filter(|part| matches!(part, Part::Log(_))).count(), one.proof.len())
}

fn cut(bundle: &Bundle, conviction: &Conviction) -> Option<Bundle> {
    let policy = bundle.policy.clone();
    let mut cutter =
        Cutter { from: bundle, into: Bundle { policy, heads: Vec::new(), nodes: Vec::new(), ..bundle.clone() } };
    for who in &conviction.who {
        if let Accused::Node(did) = who {
            cutter.node(did)?;
        }
    }
    // Logs first: what they bring already is not brought again.
    for part in conviction.proof.iter().filter(|part| matches!(part, Part::Log(_))) {
        cutter.part(part)?;
    }
    for part in conviction.proof.iter().filter(|part| !matches!(part, Part::Log(_))) {
        cutter.part(part)?;
    }
    Some(cutter.into)
}

struct Cutter<'a> {
    from: &'a Bundle,
    into: Bundle,
}

impl<'a> Cutter<'a> {
    fn original(&self, did: &Did) -> Option<&'a NodeEvidence> {
        self.from.nodes.iter().find(|node| node.did == *did)
    }

    /// The node's record in the new bundle.
    fn node(&mut self, did: &Did) -> Option<&mut NodeEvidence> {
        let original = self.original(did)?;
        let at = match self.into.nodes.iter().position(|node| node.did == *did) {
            Some(at) => at,
            None => {
                let (document, vkey) = (original.document.clone(), original.vkey.clone());
                self.into.nodes.push(NodeEvidence::new(did.clone(), document, vkey));
                self.into.nodes.len() - 1
            }
        };
        self.into.nodes.get_mut(at)
    }

    fn part(&mut self, part: &Part) -> Option<()> {
        match part {
            Part::Head(note) => self.head(note),
            Part::Entry { did, index, head } => self.entry(did, *index, head),
            Part::Served { did, index, head } => self.served(did, *index, head),
            Part::Prefix { did, head, size } => self.prefix(did, head, *size),
            Part::Picked { did, at } => {
                let one = self.original(did)?.picked.get(*at)?.clone();
                push_new(&mut self.node(did)?.picked, one)
            }
            Part::Promise { did, at } => {
                let one = self.original(did)?.promises.get(*at)?.clone();
                push_new(&mut self.node(did)?.promises, one)
            }
            Part::Receipt { did, at } => {
                let one = self.original(did)?.receipts.get(*at)?.clone();
                push_new(&mut self.node(did)?.receipts, one)
            }
            Part::Log(did) => {
                let original = self.original(did)?;
                let node = self.node(did)?;
                node.files.clone_from(&original.files);
                node.observed.clone_from(&original.observed);
                Some(())
            }
        }
    }

    /// A head goes where it was seen: with its node in the order of the auditor, or among the loose ones.
    fn head(&mut self, note: &[u8]) -> Option<()> {
        for node in &mut self.into.nodes {
            let original = self.from.nodes.iter().find(|one| one.did == node.did)?;
            let seen = original.observed.iter().position(|one| one.checkpoint == note);
            let Some(seen) = seen else { continue };
            let place = |one: &Observed| original.observed.iter().position(|other| other == one);
            if !node.observed.iter().any(|one| one.checkpoint == note) {
                let before = node.observed.iter().filter(|one| place(one) < Some(seen)).count();
                node.observed.insert(before, original.observed.get(seen)?.clone());
            }
            // A node's own copy does not serve a hash that an entry of another log names.
            if !self.from.heads.iter().any(|loose| loose == note) {
                return Some(());
            }
        }
        push_new(&mut self.into.heads, note.to_vec())
    }

    fn entry(&mut self, did: &Did, index: u64, head: &[u8]) -> Option<()> {
        let original = self.original(did)?;
        let same = |one: &&Picked| {
            InclusionProof::parse(&one.proof)
                .is_ok_and(|proof| proof.index == index && proof.checkpoint.as_bytes() == head)
        };
        let picked = match original.picked.iter().find(same) {
            Some(one) => one.clone(),
            None => {
                let (entries, history, size) = history(original, head)?;
                let entry = entries.get(usize::try_from(index).ok()?)?.clone();
                Picked { entry, proof: history.proof_file(index, size, head)? }
            }
        };
        push_new(&mut self.node(did)?.picked, picked)
    }

    /// The bytes that were served, with the proof of what should have been.
    fn served(&mut self, did: &Did, index: u64, head: &[u8]) -> Option<()> {
        let original = self.original(did)?;
        let size = size_of(original, head)?;
        let entry = served_entries(original, size).ok()?.ok()?.get(usize::try_from(index).ok()?)?.clone();
        let path = prove_inclusion(KIND, index, size, &served_hashes(original, size)).ok()?;
        let checkpoint = String::from_utf8(head.to_vec()).ok()?;
        let proof = InclusionProof { extra: None, index, path, checkpoint }.to_string().into_bytes();
        push_new(&mut self.node(did)?.picked, Picked { entry, proof })
    }

    fn prefix(&mut self, did: &Did, head: &[u8], size: u64) -> Option<()> {
        let original = self.original(did)?;
        let prefix = match original.prefixes.iter().find(|one| one.head == head && one.size == size) {
            Some(one) => one.clone(),
            None => {
                let (_, history, new) = history(original, head)?;
                let (root, hashes) = (history.root_at(size)?, history.consistency(size, new)?);
                Prefix { head: head.to_vec(), size, root, hashes }
            }
        };
        push_new(&mut self.node(did)?.prefixes, prefix)
    }
}

fn size_of(node: &NodeEvidence, head: &[u8]) -> Option<u64> {
    Some(SignedCheckpoint::open(head, &node.vkey).ok()?.checkpoint().size)
}

/// The entries under a head of the node, and their tree.
fn history(node: &NodeEvidence, head: &[u8]) -> Option<(Vec<Vec<u8>>, History, u64)> {
    let signed = SignedCheckpoint::open(head, &node.vkey).ok()?;
    let size = signed.checkpoint().size;
    let entries = served_entries(node, size).ok()?.ok()?;
    let history = History::of_entries(&entries);
    (history.root() == signed.checkpoint().root).then_some((entries, history, size))
}

fn push_new<T: PartialEq>(list: &mut Vec<T>, one: T) -> Option<()> {
    if !list.contains(&one) {
        list.push(one);
    }
    Some(())
}
