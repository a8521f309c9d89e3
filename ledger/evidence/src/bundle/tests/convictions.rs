//! Every conviction that needs more than one log's own bytes: times, promises, keys, receipts, witnesses.

use shuyu_tlog::{Note, Promise, WitnessSigner, prove_consistency};

use super::*;

/// An instant in seconds.
pub(super) const NOW_S: u64 = 1_795_305_600;
const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;

pub(super) fn witness(name: &str, seed: u8) -> WitnessSigner {
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap());
    WitnessSigner::new(name, key).unwrap()
}

/// Two of three witnesses make the quorum.
pub(super) fn witnesses() -> [WitnessSigner; 3] {
    [witness("w.example/1", 101), witness("w.example/2", 102), witness("w.example/3", 103)]
}

pub(super) fn policy() -> WitnessPolicy {
    let lines: String =
        witnesses().iter().enumerate().map(|(at, one)| format!("witness w{at} {}\n", one.key())).collect();
    WitnessPolicy::parse(format!("{lines}group two 2 w0 w1 w2\nquorum two\n").as_bytes()).unwrap()
}

/// The note with the cosignatures of these witnesses at this time.
pub(super) fn cosign(note: &[u8], by: &[WitnessSigner], time_s: u64) -> Vec<u8> {
    let note = Note::parse(note).unwrap();
    let lines: Vec<_> = by.iter().map(|one| one.cosign(&note, time_s).unwrap()).collect();
    note.with_signatures(lines).unwrap().to_string().into_bytes()
}

impl Node {
    fn says(&mut self, kind: &str, act: Act, at_s: u64, event: Digest) -> usize {
        let key = Arc::clone(&self.key);
        self.says_with(kind, act, at_s, event, (&key, &self.kid()), BTreeMap::new())
    }

    fn says_with(
        &mut self,
        kind: &str,
        act: Act,
        at_s: u64,
        event: Digest,
        (key, kid): (&SecretKey, &str),
        commit: BTreeMap<String, Digest>,
    ) -> usize {
        let statement = Statement {
            kind: kind.to_owned(),
            act,
            process: format!("urn:uuid:{}", self.entries.len()),
            seq: 1,
            by: self.did.clone(),
            with: "did:web:peer.example".parse().unwrap(),
            at: UnixMillis::from_unix_seconds(i64::try_from(at_s).unwrap()),
            event,
            agreement: None,
            commit,
        };
        self.entries.push(crate::sign(&statement, key, kid).unwrap());
        self.entries.len() - 1
    }

    fn event(&mut self, at_s: u64) -> usize {
        self.says("test.message", Act::Published, at_s, Digest::sha256(&self.entries.len().to_be_bytes()))
    }

    fn cosigned(&self, size: usize, time_s: u64) -> Vec<u8> {
        cosign(&self.head(size).checkpoint, &witnesses()[..2], time_s)
    }

    fn evidence_of(&self, notes: &[Vec<u8>]) -> NodeEvidence {
        let observed = notes.iter().map(|note| Observed { at: SEEN, checkpoint: note.clone() }).collect();
        NodeEvidence { observed, ..self.evidence() }
    }

    fn promise(&self, first: usize, index: usize, deadline_s: u64) -> Picked {
        let leaves: Vec<Hash> = self.entries[first..].iter().map(|entry| leaf_hash(KIND, entry)).collect();
        let signed = Promise::sign(&self.signer(), first as u64, &leaves, deadline_s).unwrap();
        let proof = signed.proof(index as u64).unwrap().to_string().into_bytes();
        Picked { entry: self.entries[index].clone(), proof }
    }
}

pub(super) fn found(bundle: &Bundle) -> Vec<(ConvictionKind, Basis)> {
    let read = Bundle::parse(&bundle.to_json().unwrap()).unwrap();
    assert_eq!(read, *bundle);
    match read.verify().unwrap().verdict {
        Verdict::Holds => Vec::new(),
        Verdict::DoesNotHold(found) => found.iter().map(|one| (one.kind, one.basis)).collect(),
    }
}

/// The bundle convicts of this alone, and so does the minimal one, which is smaller and has no whole log.
#[track_caller]
fn convicts(bundle: &Bundle, kind: ConvictionKind, basis: Basis) -> Bundle {
    assert_eq!(found(bundle), [(kind, basis)]);
    let small = bundle.minimal(kind).unwrap();
    assert_eq!(found(&small), [(kind, basis)], "{small:?}");
    small
}

fn with_policy(nodes: Vec<NodeEvidence>) -> Bundle {
    Bundle { policy: Some(policy()), ..bundle_of(nodes) }
}

/// A log of `count` entries, an hour apart, up to now.
fn history(count: u64) -> Node {
    let mut node = Node::new("a", 1);
    for n in (0..count).rev() {
        node.event(NOW_S - n * HOUR_S);
    }
    node
}

#[test]
fn forks_of_unequal_sizes_convict_with_a_few_hashes() {
    let a = history(300);
    let mut served = a.evidence();
    served.observed.insert(0, a.head_with(130, Hash([7; 32])));
    let (kind, basis) = (ConvictionKind::Inconsistent, Basis::SignedByAccused);
    let small = convicts(&bundle_of(vec![served]), kind, basis);
    assert!(small.nodes[0].files.is_empty() && small.nodes[0].prefixes[0].hashes.len() < 12);
    assert!(small.to_json().unwrap().len() < 4096);
    // A hash of the proof changed: nothing is proven any more.
    let mut broken = small.clone();
    broken.nodes[0].prefixes[0].hashes[1].0[3] ^= 1;
    assert!(matches!(broken.verify(), Err(VerifyBundleError::Unreadable { .. })));
    let mut served = a.evidence();
    served.observed.push(a.head_with(300, Hash([7; 32])));
    assert!(convicts(&bundle_of(vec![served]), ConvictionKind::Fork, basis).nodes[0].files.is_empty());
}

#[test]
fn an_exchanged_entry_convicts_by_two_proofs() {
    let (mut a, before) = (history(9), history(9));
    a.entries[4] = a.entries[5].clone();
    a.entries[5] = before.entries[4].clone();
    a.event(NOW_S);
    let mut served = a.evidence();
    served.picked.push(before.picked(4));
    let found = found(&bundle_of(vec![served.clone()]));
    assert!(found.contains(&(ConvictionKind::Altered, Basis::SignedByAccused)), "{found:?}");
    let small = bundle_of(vec![served]).minimal(ConvictionKind::Altered).unwrap();
    assert_eq!((small.nodes[0].picked.len(), small.nodes[0].files.len()), (2, 0));
}

#[test]
fn entries_with_false_times_convict() {
    let quorum = Basis::CosignedByQuorum;
    // A head without the entry was the newest long after the time it claims.
    let mut a = history(5);
    let before = a.cosigned(5, NOW_S + 3 * DAY_S);
    a.event(NOW_S);
    let bundle = with_policy(vec![a.evidence_of(&[before, a.cosigned(6, NOW_S + 4 * DAY_S)])]);
    convicts(&bundle, ConvictionKind::BackDated, quorum);
    // One witness is no quorum, and without a policy there is no time.
    let one = cosign(&a.head(5).checkpoint, &witnesses()[..1], NOW_S + 3 * DAY_S);
    assert_eq!(super::convictions::found(&with_policy(vec![a.evidence_of(&[one, a.head(6).checkpoint])])), []);
    assert_eq!(super::convictions::found(&Bundle { policy: None, ..bundle }), []);
    // It existed before the time it claims.
    let mut a = history(5);
    a.event(NOW_S + DAY_S);
    let bundle = with_policy(vec![a.evidence_of(&[a.cosigned(6, NOW_S)])]);
    convicts(&bundle, ConvictionKind::PreMade, quorum);
    let later = with_policy(vec![a.evidence_of(&[a.cosigned(6, NOW_S + DAY_S - CLOCK_TOLERANCE_S)])]);
    assert_eq!(super::convictions::found(&later), []);
}

#[test]
fn what_stands_behind_a_newer_foreign_head_is_back_dated() {
    let foreign = history(2).cosigned(2, NOW_S);
    let mut a = Node::new("b", 2);
    a.event(NOW_S - HOUR_S);
    a.says(HEAD_KINDS[1], Act::Observed, NOW_S, Digest::sha256(&foreign));
    a.event(NOW_S - OUTBOX_TOLERANCE_S);
    let mut bundle = with_policy(vec![a.evidence()]);
    bundle.heads.push(foreign.clone());
    assert_eq!(found(&bundle), []);
    a.event(NOW_S - OUTBOX_TOLERANCE_S - 1);
    bundle.nodes = vec![a.evidence()];
    let small = convicts(&bundle, ConvictionKind::BackDated, Basis::CosignedByQuorum);
    assert_eq!((small.heads.len(), small.nodes[0].picked.len()), (1, 2));
    // Another note than the one that the entry names proves nothing.
    bundle.heads = vec![cosign(&foreign, &witnesses()[2..], NOW_S)];
    assert_eq!(found(&bundle), []);
}

#[test]
fn broken_promises_convict() {
    let a = history(7);
    let promise = a.promise(4, 5, NOW_S + 60);
    let kept = NodeEvidence { promises: vec![promise.clone()], ..a.evidence() };
    assert_eq!(found(&bundle_of(vec![kept.clone()])), []);
    let mut other = history(5);
    other.event(NOW_S + 9);
    other.event(NOW_S + 10);
    let broken = NodeEvidence { promises: vec![promise.clone()], ..other.evidence() };
    let small = convicts(&bundle_of(vec![broken]), ConvictionKind::Dropped, Basis::SignedByAccused);
    assert!(small.nodes[0].files.is_empty());
    // Past the deadline the quorum still knows no larger head.
    let mut short = history(5);
    short.entries.truncate(5);
    let head =
        |time_s| NodeEvidence { promises: vec![promise.clone()], ..short.evidence_of(&[short.cosigned(5, time_s)]) };
    assert_eq!(found(&with_policy(vec![head(NOW_S + 60 + ABSENCE_TOLERANCE_S)])), []);
    let bundle = with_policy(vec![head(NOW_S + 61 + ABSENCE_TOLERANCE_S)]);
    convicts(&bundle, ConvictionKind::Dropped, Basis::CosignedByQuorum);
    let mut forged = kept;
    forged.promises[0].entry = a.entries[4].clone();
    assert!(matches!(bundle_of(vec![forged]).verify(), Err(VerifyBundleError::Unreadable { .. })));
}

#[test]
fn a_key_that_was_given_up_convicts_whoever_uses_it_on() {
    let mut a = history(3);
    let new = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[44; 32]).unwrap());
    let kid = format!("{}#key-2", a.did);
    let commit = BTreeMap::from([("from".to_owned(), a.key.public().thumbprint())]);
    let event = Digest::sha256(b"succession");
    a.says_with(SUCCESSION_KIND, Act::Published, NOW_S, event, (&new, &kid), commit);
    let with_both = |a: &Node| {
        let mut node = a.evidence();
        node.document.add_method("key-2", new.public().clone(), [Relationship::AssertionMethod]).unwrap();
        // The test's log is signed with the first key; a second head would be signed after it left.
        node.observed.truncate(1);
        node
    };
    assert_eq!(found(&bundle_of(vec![with_both(&a)])), []);
    a.event(NOW_S);
    let (kind, basis) = (ConvictionKind::RevokedKey, Basis::SignedByAccused);
    let small = convicts(&bundle_of(vec![with_both(&a)]), kind, basis);
    assert_eq!(small.nodes[0].picked.len(), 2);
    // So does a further head of a log whose own key it was.
    a.entries.pop();
    let mut node = with_both(&a);
    node.observed.push(node.observed[0].clone());
    assert_eq!(found(&bundle_of(vec![node])), []);
    let last = a.head(4);
    a.says_with("test.message", Act::Published, NOW_S, Digest::sha256(b"5"), (&new, &kid), BTreeMap::new());
    let mut node = with_both(&a);
    node.observed.insert(0, last);
    assert_eq!(found(&bundle_of(vec![node])), [(kind, basis)]);
}

#[test]
fn a_use_that_its_own_receipt_proves_must_be_in_the_log() {
    let (mut a, mut b) = (history(3), Node::new("b", 2));
    let content = serde_json::json!({"agreement": "urn:x", "seq": 1, "by": a.did.as_str(), "to": b.did.as_str()});
    let canonical = shuyu_base::json::canonical(&content).unwrap();
    let receipt = shuyu_credentials::jws::sign(&a.key, &a.kid(), "shuyu-receipt+jws", &canonical);
    let event = Digest::sha256(&canonical);
    b.says("use.served", Act::Receipt, NOW_S, event);
    let theirs = b.evidence_of(&[b.cosigned(1, NOW_S)]);
    let ours = |a: &Node, until| NodeEvidence {
        receipts: vec![receipt.clone()],
        ..a.evidence_of(&[a.cosigned(a.entries.len(), until)])
    };
    let bundle = |a: &Node, until| with_policy(vec![ours(a, until), theirs.clone()]);
    let late = NOW_S + ABSENCE_TOLERANCE_S + 1;
    let (kind, basis) = (ConvictionKind::Omitted, Basis::CosignedByQuorum);
    let small = convicts(&bundle(&a, late), kind, basis);
    assert_eq!(small.nodes.len(), 2);
    assert_eq!(found(&bundle(&a, late - 1)), [], "it may only be late");
    // Without the other's cosigned entry nobody knows when the receipt was made.
    assert_eq!(found(&with_policy(vec![ours(&a, late)])), []);
    // A foreign head in its own log shows sooner that it went on.
    let mut other = Node::new("f", 9);
    other.event(NOW_S);
    let foreign = other.cosigned(1, NOW_S + OUTBOX_TOLERANCE_S + 1);
    a.says(HEAD_KINDS[1], Act::Observed, NOW_S + OUTBOX_TOLERANCE_S + 1, Digest::sha256(&foreign));
    let mut sooner = bundle(&a, NOW_S + OUTBOX_TOLERANCE_S + 2);
    sooner.heads.push(foreign);
    convicts(&sooner, kind, basis);
    a.says("use.served", Act::Served, NOW_S, event);
    assert!(!found(&bundle(&a, late)).contains(&(kind, basis)));
}

#[test]
fn a_witness_is_convicted_by_its_own_cosignatures() {
    let (kind, basis) = (ConvictionKind::LyingWitness, Basis::SignedByAccused);
    let a = history(40);
    let one = &witnesses()[..1];
    let lies = |notes: Vec<Vec<u8>>| Bundle { heads: notes, ..with_policy(Vec::new()) };
    let fork = a.head_with(40, Hash([7; 32])).checkpoint;
    let same_size = lies(vec![cosign(&a.head(40).checkpoint, one, NOW_S), cosign(&fork, one, NOW_S)]);
    convicts(&same_size, kind, basis);
    let at = |size, time_s| cosign(&a.head(size).checkpoint, one, time_s);
    convicts(&lies(vec![at(40, NOW_S), at(39, NOW_S + CLOCK_TOLERANCE_S + 1)]), kind, basis);
    assert_eq!(found(&lies(vec![at(40, NOW_S), at(39, NOW_S + CLOCK_TOLERANCE_S)])), []);
    // Two witnesses who saw different things, and one who cosigned the same again, do not lie.
    let other = cosign(&fork, &witnesses()[1..2], NOW_S);
    assert_eq!(found(&lies(vec![at(40, NOW_S), at(40, NOW_S + 9), other])), []);
    // Unequal sizes need the hashes between them; the log is convicted too.
    let bad = a.head_with(17, Hash([7; 32])).checkpoint;
    let mut node = a.evidence_of(&[cosign(&bad, one, NOW_S), at(40, NOW_S)]);
    let whole = with_policy(vec![node.clone()]);
    assert_eq!(found(&whole), [(ConvictionKind::Inconsistent, basis), (kind, basis)]);
    assert!(whole.minimal(kind).unwrap().nodes[0].files.is_empty());
    let (root, files) = a.tree(40);
    let source = TileHashes::new(KIND, 40, |path: &TilePath| files.get(path).cloned().ok_or(()));
    let hashes = prove_consistency(KIND, 17, 40, &source).unwrap();
    node.files.clear();
    node.prefixes.push(Prefix { head: at(40, NOW_S), size: 17, root: a.tree(17).0, hashes });
    assert_eq!(found(&with_policy(vec![node])), [(ConvictionKind::Inconsistent, basis), (kind, basis)], "{root}");
}

#[test]
fn a_bundle_of_version_one_is_read() {
    let text = String::from_utf8(bundle_of(vec![history(2).evidence()]).to_json().unwrap()).unwrap();
    let first = text.replacen("\"version\":2", "\"version\":1", 1);
    assert_eq!(Bundle::parse(first.as_bytes()).unwrap(), Bundle::parse(text.as_bytes()).unwrap());
    let mixed = first.replacen("\"nodes\":", "\"heads\":[\"x\"],\"nodes\":", 1);
    assert!(matches!(Bundle::parse(mixed.as_bytes()), Err(ReadBundleError::Version)));
    assert!(matches!(
        bundle_of(vec![history(2).evidence()]).minimal(ConvictionKind::Fork),
        Err(MinimalError::None { kind: "fork" })
    ));
}

impl Node {
    pub(super) fn event_at(&mut self, at_s: u64) -> usize {
        self.event(at_s)
    }

    pub(super) fn takes_head(&mut self, at_s: u64, note: &[u8]) -> usize {
        self.says(HEAD_KINDS[0], Act::Observed, at_s, Digest::sha256(note))
    }

    pub(super) fn bundle_with(&self, notes: &[Vec<u8>], heads: &[Vec<u8>], promises: Vec<Picked>) -> Bundle {
        let node = NodeEvidence { promises, ..self.evidence_of(notes) };
        Bundle { heads: heads.to_vec(), ..with_policy(vec![node]) }
    }

    pub(super) fn promise_of(&self, index: usize, deadline_s: u64) -> Picked {
        self.promise(index, index, deadline_s)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever byte of a proof is changed, it convicts nobody whom it did not convict before.
    #[test]
    fn a_changed_byte_frames_nobody(which in 0_usize..4, at in any::<prop::sample::Index>(), bit in 0_u8..7) {
        let bundle = small_proofs().swap_remove(which);
        let accused = |bundle: &Bundle| -> Vec<(ConvictionKind, Vec<Accused>)> {
            match bundle.verify().map(|audit| audit.verdict) {
                Ok(Verdict::DoesNotHold(found)) => {
                    let proven = found.into_iter().filter(|one| one.basis.convicts());
                    proven.map(|one| (one.kind, one.who)).collect()
                }
                Ok(Verdict::Holds) | Err(_) => Vec::new(),
            }
        };
        let before = accused(&bundle);
        prop_assert_eq!(before.len(), 1);
        let mut bytes = bundle.to_json().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(changed) = Bundle::parse(&bytes) {
            prop_assert!(accused(&changed).iter().all(|one| before.contains(one)));
        }
    }
}

/// One minimal proof each of a fork, an impossible prefix, a pre-made entry and a lying witness.
fn small_proofs() -> Vec<Bundle> {
    let mut a = history(5);
    let mut forked = a.evidence();
    forked.observed.push(a.head_with(5, Hash([7; 32])));
    let mut torn = a.evidence();
    torn.observed.push(a.head_with(3, Hash([7; 32])));
    let one = &witnesses()[..1];
    let lies = [a.head(5).checkpoint, a.head_with(5, Hash([7; 32])).checkpoint].map(|note| cosign(&note, one, NOW_S));
    a.event(NOW_S + DAY_S);
    let pre_made = with_policy(vec![a.evidence_of(&[a.cosigned(6, NOW_S)])]);
    vec![
        bundle_of(vec![forked]).minimal(ConvictionKind::Fork).unwrap(),
        bundle_of(vec![torn]).minimal(ConvictionKind::Inconsistent).unwrap(),
        pre_made.minimal(ConvictionKind::PreMade).unwrap(),
        Bundle { heads: lies.to_vec(), ..with_policy(Vec::new()) },
    ]
}
