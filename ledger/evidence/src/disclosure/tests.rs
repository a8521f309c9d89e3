use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_base::{Digest, HashKind, UnixMillis};
use shuyu_credentials::Relationship;
use shuyu_tlog::{NoteSigner, SignedCheckpoint, leaf_hash, node_hash};

use super::*;
use crate::commitment::{Fields, Seed};
use crate::statement::Act;

/// The second of two entries, with two of its fields.
fn example() -> Disclosure {
    let did: Did = "did:web:a.example".parse().unwrap();
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap());
    let mut document = DidDocument::new(did.clone());
    document.add_method("key-1", key.public().clone(), [Relationship::AssertionMethod]).unwrap();
    let content = json!({ "query": "select", "rows": 7, "to": "did:web:b.example" });
    let fields = Fields::of("use.served", &content, &Seed::new([9; 32])).unwrap();
    let statement = Statement {
        kind: "use.served".to_owned(),
        act: Act::Served,
        process: "use/1".to_owned(),
        seq: 1,
        by: did.clone(),
        with: "did:web:b.example".parse().unwrap(),
        at: UnixMillis(0),
        event: Digest::sha256(b"content"),
        agreement: None,
        commit: BTreeMap::from([(FIELDS.to_owned(), fields.root())]),
    };
    let entry = crate::sign(&statement, &key, "did:web:a.example#key-1").unwrap();
    let (first, leaf) = (leaf_hash(HashKind::Sha256, b"first"), leaf_hash(HashKind::Sha256, &entry));
    let signer = NoteSigner::new("a.example/ledger", key).unwrap();
    let head = SignedCheckpoint::sign(&signer, 2, node_hash(HashKind::Sha256, &first, &leaf)).unwrap();
    let checkpoint = String::from_utf8(head.bytes().to_vec()).unwrap();
    Disclosure {
        did,
        document,
        vkey: signer.vkey().clone(),
        entry,
        proof: InclusionProof { extra: None, index: 1, path: vec![first], checkpoint },
        size: 16,
        fields: fields.show(&["rows".to_owned(), "to".to_owned()]),
    }
}

#[test]
fn a_disclosure_proves_its_fields_and_shows_no_other() {
    let disclosure = example();
    let bytes = disclosure.to_json().unwrap();
    let read = Disclosure::parse(&bytes).unwrap();
    assert_eq!(read, disclosure);
    let disclosed = read.verify().unwrap();
    assert_eq!((disclosed.index, disclosed.head.size), (1, 2));
    let shown: Vec<_> = disclosed.fields.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    assert_eq!(shown, [("/rows", json!(7)), ("/to", json!("did:web:b.example"))]);
    assert!(!String::from_utf8(bytes).unwrap().contains("select"));
}

#[test]
fn what_was_changed_does_not_hold() {
    let good = example();
    let changed = |change: &dyn Fn(&mut Disclosure)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad.verify().unwrap_err().to_string()
    };
    let other = SecretKey::from_seed(Suite::Ed25519, &[2; 32]).unwrap();
    let with_key = |key: &SecretKey, did: &str| {
        let mut document = DidDocument::new(did.parse().unwrap());
        document.add_method("key-1", key.public().clone(), [Relationship::AssertionMethod]).unwrap();
        document
    };
    let key = SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap();
    for (said, change) in [
        (
            "commit to this value of `/rows`",
            &(|d: &mut Disclosure| d.fields[0].field.value = json!(8)) as &dyn Fn(&mut Disclosure),
        ),
        ("commit to this value", &|d| d.fields[1].index ^= 1),
        ("commit to this value", &|d| d.size = 32),
        ("not in the log", &|d| d.entry[40] ^= 1),
        ("not in the log", &|d| d.proof.index = 0),
        ("not a key of", &|d| d.document = with_key(&other, "did:web:a.example")),
        ("not its own", &|d| d.document = with_key(&key, "did:web:c.example")),
        ("not of the owner", &|d| {
            d.did = "did:web:c.example".parse().unwrap();
            d.document = with_key(&key, "did:web:c.example");
            d.entry = crate::sign(&Statement { ..peeked(&d.entry) }, &key, "did:web:c.example#key-1").unwrap();
            let signer =
                NoteSigner::new("a.example/ledger", Arc::new(SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap()));
            let root = leaf_hash(HashKind::Sha256, &d.entry);
            let head = SignedCheckpoint::sign(&signer.unwrap(), 1, root).unwrap();
            let checkpoint = String::from_utf8(head.bytes().to_vec()).unwrap();
            d.proof = InclusionProof { extra: None, index: 0, path: Vec::new(), checkpoint };
        }),
    ] {
        let error = changed(change);
        assert!(error.contains(said), "{error}, not {said}");
    }
}

fn peeked(entry: &[u8]) -> Statement {
    crate::peek(entry).unwrap()
}

#[test]
fn files_outside_the_bounds_are_refused() {
    let good: Value = serde_json::from_slice(&example().to_json().unwrap()).unwrap();
    let field = good["fields"][0].clone();
    for (place, value) in [
        ("/version", json!(2)),
        ("/format", json!("x")),
        ("/size", json!(3)),
        ("/size", json!(2048)),
        ("/size", json!(0)),
        ("/fields", json!([])),
        ("/fields", json!([field, field])),
        ("/fields/0/salt", json!("AAAA")),
        ("/fields/0/index", json!(16)),
        ("/fields/0/path", json!(vec!["A".repeat(43) + "="; 11])),
        ("/fields/0/name", json!("x".repeat(5000))),
        ("/fields/0/extra", json!(1)),
        ("/proof", json!("x")),
    ] {
        let mut bad = good.clone();
        match bad.pointer_mut(place) {
            Some(found) => *found = value,
            None => drop(bad["fields"][0].as_object_mut().unwrap().insert("extra".to_owned(), value)),
        }
        assert!(Disclosure::parse(bad.to_string().as_bytes()).is_err(), "{place}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Disclosure::parse(&bytes).is_err());
    }

    /// No changed byte of a file proves anything else than the file did.
    #[test]
    fn a_flipped_byte_proves_nothing_new(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let good = example();
        let mut bytes = good.to_json().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(disclosed) = Disclosure::parse(&bytes).map_err(drop).and_then(|read| read.verify().map_err(drop)) {
            prop_assert_eq!(disclosed, good.verify().unwrap());
        }
    }
}
