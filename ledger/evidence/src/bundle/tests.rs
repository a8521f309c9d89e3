use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_base::{Digest, HashKind};
use shuyu_credentials::Relationship;
use shuyu_tlog::tile::{TiledTree, tile_bytes};
use shuyu_tlog::{
    Hash, InclusionProof, NoteSigner, SignedCheckpoint, Tile, TileHashes, leaf_hash, prove_inclusion, tiles_of,
    write_bundle,
};

mod convictions;
mod honest;

use super::*;
use crate::statement::{Act, Statement};

const KIND: HashKind = HashKind::Sha256;
const SEEN: UnixMillis = UnixMillis(1_795_305_600_000);

/// A node with a key, a document and a log, as a real one would have them.
struct Node {
    did: Did,
    key: Arc<SecretKey>,
    entries: Vec<Vec<u8>>,
}

impl Node {
    fn new(name: &str, seed: u8) -> Self {
        let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap());
        Self { did: format!("did:web:{name}.example").parse().unwrap(), key, entries: Vec::new() }
    }

    fn kid(&self) -> String {
        format!("{}#key-1", self.did)
    }

    fn signer(&self) -> NoteSigner {
        NoteSigner::new(&format!("{}/ledger", self.did.id()), Arc::clone(&self.key)).unwrap()
    }

    fn states(&mut self, with: &Did, act: Act, seq: u64, event: &str) {
        let statement = Statement {
            kind: "test.message".to_owned(),
            act,
            process: "urn:uuid:1".to_owned(),
            seq,
            by: self.did.clone(),
            with: with.clone(),
            at: UnixMillis(0),
            event: Digest::sha256(event.as_bytes()),
            agreement: None,
            commit: BTreeMap::new(),
        };
        self.entries.push(crate::sign(&statement, &self.key, &self.kid()).unwrap());
    }

    fn tree(&self, size: usize) -> (Hash, BTreeMap<TilePath, Vec<u8>>) {
        let mut tree = TiledTree::new(KIND);
        let mut files = BTreeMap::new();
        for entry in &self.entries[..size] {
            tree.push(leaf_hash(KIND, entry), |path, hashes| {
                files.insert(path, tile_bytes(hashes));
            });
        }
        files.extend(tree.partial_tiles().map(|(path, hashes)| (path, tile_bytes(hashes))));
        for path in tiles_of(size as u64).into_iter().filter(|path| path.tile() == Tile::Entries) {
            let from = usize::try_from(path.index()).unwrap() * 256;
            let bundle = &self.entries[from..from + usize::from(path.width())];
            files.insert(path, write_bundle(bundle.iter().map(Vec::as_slice)).unwrap());
        }
        (tree.tree().root(), files)
    }

    fn head(&self, size: usize) -> Observed {
        self.head_with(size, self.tree(size).0)
    }

    fn head_with(&self, size: usize, root: Hash) -> Observed {
        let signed = SignedCheckpoint::sign(&self.signer(), size as u64, root).unwrap();
        Observed { at: SEEN, checkpoint: signed.bytes().to_vec() }
    }

    fn evidence(&self) -> NodeEvidence {
        let mut document = DidDocument::new(self.did.clone());
        document.add_method("key-1", self.key.public().clone(), [Relationship::AssertionMethod]).unwrap();
        let size = self.entries.len();
        let node = NodeEvidence::new(self.did.clone(), document, self.signer().vkey().clone());
        NodeEvidence { observed: vec![self.head(size)], files: self.tree(size).1, ..node }
    }

    fn picked(&self, index: usize) -> Picked {
        let (size, (_, files)) = (self.entries.len() as u64, self.tree(self.entries.len()));
        let source = TileHashes::new(KIND, size, |path: &TilePath| files.get(path).cloned().ok_or(()));
        let proof = InclusionProof {
            extra: None,
            index: index as u64,
            path: prove_inclusion(KIND, index as u64, size, &source).unwrap(),
            checkpoint: String::from_utf8(self.head(self.entries.len()).checkpoint).unwrap(),
        };
        Picked { entry: self.entries[index].clone(), proof: proof.to_string().into_bytes() }
    }
}

/// Two parties with `count` messages between them, each recorded by both.
fn parties(count: u64) -> (Node, Node) {
    let (mut a, mut b) = (Node::new("a", 1), Node::new("b", 2));
    let (a_did, b_did) = (a.did.clone(), b.did.clone());
    for seq in 1..=count {
        let event = format!("event {seq}");
        let (from, to) = if seq % 2 == 1 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let (from_did, to_did) = if seq % 2 == 1 { (&a_did, &b_did) } else { (&b_did, &a_did) };
        from.states(to_did, Act::Sent, seq, &event);
        to.states(from_did, Act::Received, seq, &event);
    }
    (a, b)
}

fn bundle_of(nodes: Vec<NodeEvidence>) -> Bundle {
    Bundle { made_at: SEEN, policy: None, heads: Vec::new(), nodes }
}

fn judged(nodes: Vec<NodeEvidence>) -> Audit {
    let bundle = bundle_of(nodes);
    let bytes = bundle.to_json().unwrap();
    let read = Bundle::parse(&bytes).unwrap();
    assert_eq!(read, bundle);
    read.verify().unwrap()
}

fn convictions(nodes: Vec<NodeEvidence>) -> Vec<(ConvictionKind, Basis)> {
    match judged(nodes).verdict {
        Verdict::Holds => Vec::new(),
        Verdict::DoesNotHold(found) => found.iter().map(|one| (one.kind, one.basis)).collect(),
    }
}

#[test]
fn true_logs_hold() {
    let (a, b) = parties(300);
    let audit = judged(vec![a.evidence(), b.evidence()]);
    assert_eq!(audit.verdict, Verdict::Holds);
    assert_eq!(audit.pairs[0].report.agreed(), 300);
    assert!(audit.pairs[0].is_whole && audit.nodes.iter().all(|node| node.is_whole && node.entry_count == 300));
    // Earlier heads on the way are consistent.
    let mut seen = a.evidence();
    seen.observed.splice(0..0, [0, 1, 255, 256, 299].map(|size| a.head(size)));
    assert_eq!(convictions(vec![seen]), []);
    assert_eq!(convictions(vec![Node::new("c", 3).evidence()]), []);
}

#[test]
fn an_altered_entry_is_located_by_the_tiles() {
    let (a, b) = parties(300);
    let mut served = a.evidence();
    let path: TilePath = "tile/entries/001.p/44".parse().unwrap();
    *served.files.get_mut(&path).unwrap().last_mut().unwrap() ^= 1;
    let audit = judged(vec![served.clone(), b.evidence()]);
    let Verdict::DoesNotHold(found) = audit.verdict else { panic!("holds") };
    assert_eq!((found.len(), found[0].kind, found[0].basis), (1, ConvictionKind::Altered, Basis::ServedToAuditor));
    assert!(found[0].detail.contains(": 299"), "{}", found[0]);
    assert!(!audit.nodes[0].is_whole && audit.nodes[0].entry_count == 299);
    // Without the tiles it still does not hold.
    served.files.retain(|path, _| path.tile() == Tile::Entries);
    assert_eq!(convictions(vec![served]), [(ConvictionKind::Altered, Basis::ServedToAuditor)]);
    // A tile of hashes alone was altered.
    let mut served = a.evidence();
    served.files.get_mut(&"tile/0/000".parse().unwrap()).unwrap()[7] ^= 1;
    assert_eq!(convictions(vec![served]), [(ConvictionKind::Altered, Basis::ServedToAuditor)]);
}

#[test]
fn a_fork_convicts_by_signatures_alone() {
    let (a, _) = parties(5);
    let mut served = a.evidence();
    served.observed.push(a.head_with(5, Hash([7; 32])));
    assert_eq!(convictions(vec![served.clone()]), [(ConvictionKind::Fork, Basis::SignedByAccused)]);
    served.files.clear();
    assert_eq!(convictions(vec![served]), [(ConvictionKind::Fork, Basis::SignedByAccused)]);
}

#[test]
fn an_inconsistent_head_convicts_and_a_rollback_shows() {
    let (a, _) = parties(9);
    let mut served = a.evidence();
    served.observed.insert(0, a.head_with(4, Hash([7; 32])));
    assert_eq!(convictions(vec![served]), [(ConvictionKind::Inconsistent, Basis::SignedByAccused)]);
    let mut served = a.evidence();
    served.observed.push(a.head(4));
    assert_eq!(convictions(vec![served]), [(ConvictionKind::Rollback, Basis::ServedToAuditor)]);
    // Cut back and written anew: both.
    let mut served = a.evidence();
    served.observed.push(a.head_with(4, Hash([7; 32])));
    let both =
        [(ConvictionKind::Rollback, Basis::ServedToAuditor), (ConvictionKind::Inconsistent, Basis::SignedByAccused)];
    assert_eq!(convictions(vec![served]), both);
}

#[test]
fn a_checkpoint_of_another_key_accuses_nobody_by_signature() {
    let (a, b) = parties(3);
    let mut served = a.evidence();
    served.observed.push(b.head_with(3, Hash([7; 32])));
    assert_eq!(convictions(vec![served]), [(ConvictionKind::BadSignature, Basis::ServedToAuditor)]);
}

#[test]
fn statements_that_are_not_the_nodes_own_convict_it() {
    let (mut a, b) = parties(2);
    a.entries.push(b.entries[0].clone());
    a.entries.push(b"not a statement".to_vec());
    a.entries.push(a.entries[0].clone());
    let expected = [ConvictionKind::BadStatement, ConvictionKind::BadStatement, ConvictionKind::Replayed];
    assert_eq!(convictions(vec![a.evidence()]), expected.map(|kind| (kind, Basis::SignedByAccused)));
}

#[test]
fn an_omission_sets_the_parties_against_each_other() {
    let (a, mut b) = parties(5);
    b.entries.pop();
    assert_eq!(convictions(vec![a.evidence(), b.evidence()]), []); // The last message may be on its way.
    let (mut a, b) = parties(5);
    a.entries.pop();
    let disagree = (ConvictionKind::Disagreement, Basis::PartiesDisagree);
    assert_eq!(convictions(vec![a.evidence(), b.evidence()]), [disagree]);
    let (mut a, b) = parties(5);
    a.entries.remove(2);
    let out = (ConvictionKind::OutOfSequence, Basis::SignedByAccused);
    assert_eq!(convictions(vec![a.evidence(), b.evidence()]), [out, disagree]);
}

#[test]
fn single_entries_with_proofs_are_compared_for_what_is_there() {
    let (a, b) = parties(5);
    let only = |node: &Node, indexes: &[usize]| {
        let picked = indexes.iter().map(|index| node.picked(*index)).collect();
        NodeEvidence { files: BTreeMap::new(), picked, ..node.evidence() }
    };
    let audit = judged(vec![only(&a, &[1, 4]), only(&b, &[1])]);
    assert_eq!(audit.verdict, Verdict::Holds);
    assert_eq!((audit.pairs[0].report.agreed(), audit.pairs[0].is_whole), (1, false));
    let mut altered = only(&a, &[1]);
    altered.picked[0].entry = a.entries[2].clone();
    assert_eq!(convictions(vec![altered]), [(ConvictionKind::Altered, Basis::ServedToAuditor)]);
}

#[test]
fn what_cannot_be_read_is_an_error_and_not_a_verdict() {
    let (a, b) = parties(5);
    let error = |edit: &dyn Fn(&mut NodeEvidence)| {
        let mut node = a.evidence();
        edit(&mut node);
        bundle_of(vec![node]).verify().unwrap_err()
    };
    let unreadable = error(&|node| node.observed[0].checkpoint = b"garbage".to_vec());
    assert!(matches!(unreadable, VerifyBundleError::Unreadable { .. }));
    let unreadable = error(&|node| node.picked = vec![Picked { entry: vec![], proof: vec![] }]);
    assert!(matches!(unreadable, VerifyBundleError::Unreadable { .. }));
    let incomplete = error(&|node| {
        let path: TilePath = "tile/entries/000.p/5".parse().unwrap();
        let bytes = node.files.remove(&path).unwrap();
        node.files.insert("tile/entries/000.p/3".parse().unwrap(), bytes);
    });
    assert!(matches!(incomplete, VerifyBundleError::Incomplete { .. }));
    let stranger = error(&|node| node.vkey = b.evidence().vkey);
    assert!(matches!(stranger, VerifyBundleError::KeyNotOfNode { .. }));
    let stranger = error(&|node| node.document = b.evidence().document);
    assert!(matches!(stranger, VerifyBundleError::DocumentNotOfNode { .. }));
    let twice = bundle_of(vec![a.evidence(), a.evidence()]);
    assert!(matches!(twice.verify(), Err(VerifyBundleError::Twice { .. })));
    assert!(matches!(
        twice.check_pins(&BTreeMap::from([(a.did.clone(), b.evidence().vkey)])),
        Err(VerifyBundleError::Pin { .. })
    ));
}

/// An accuser who brings a document of his own cannot speak for an identifier that contains its key.
#[test]
fn nobody_can_be_framed_with_another_key_for_did_key() {
    let mut a = Node::new("a", 1);
    a.did = shuyu_credentials::did_key(a.key.public()).unwrap();
    let mut framed = Node::new("x", 9);
    framed.did = a.did.clone();
    let bundle = bundle_of(vec![framed.evidence()]);
    assert!(matches!(bundle.verify(), Err(VerifyBundleError::DocumentNotOfNode { .. })));
    assert_eq!(convictions(vec![a.evidence()]), []);
}

#[test]
fn malformed_bundles_are_refused() {
    let (a, _) = parties(2);
    let text = String::from_utf8(bundle_of(vec![a.evidence()]).to_json().unwrap()).unwrap();
    for (from, to) in [
        ("\"version\":2", "\"version\":3"),
        ("shuyu-evidence-bundle", "other"),
        ("\"nodes\":", "\"notes\":"),
        ("tile/entries/000", "../../etc/passwd"),
        ("\"did\":\"did:web:a", "\"did\":\"did:web:b"),
        ("\"version\":2", "\"version\":2,\"extra\":0"),
        ("\"version\":2", "\"version\":2,\"version\":2"),
        ("\"made_at\":\"2", "\"made_at\":\"x"),
    ] {
        let bad = text.replacen(from, to, 1);
        assert_ne!(bad, text, "{from}");
        assert!(Bundle::parse(bad.as_bytes()).is_err(), "{from} -> {to}");
    }
    assert!(matches!(Bundle::parse(&vec![b' '; MAX_BUNDLE_BYTES + 1]), Err(ReadBundleError::Json(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Bundle::parse(&bytes).is_err());
    }

    /// Whatever single byte of a bundle's evidence changes, it no longer holds, or it cannot be read.
    #[test]
    fn no_byte_of_the_served_files_can_change_unseen(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (a, b) = parties(4);
        let mut served = a.evidence();
        let sizes: usize = served.files.values().map(Vec::len).sum();
        let mut at = at.index(sizes);
        for bytes in served.files.values_mut() {
            if at < bytes.len() {
                bytes[at] ^= 1 << bit;
                break;
            }
            at -= bytes.len();
        }
        prop_assert!(!convictions(vec![served, b.evidence()]).is_empty());
    }
}
