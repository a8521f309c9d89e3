use proptest::prelude::*;

use super::*;
use crate::merkle::node_hash;

fn key() -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519, &[1; 32]).unwrap()
}

fn claims() -> ReceiptClaims {
    let text = |text: &str| text.to_owned();
    ReceiptClaims {
        kid: text("did:web:a.example#l"),
        issuer: text("did:web:a.example"),
        subject: text("a.example/ledger"),
    }
}

/// The last of three entries.
fn example() -> (Receipt, Hash) {
    let kind = HashKind::Sha256;
    let leaves = [b"a", b"b", b"c"].map(|entry| leaf_hash(kind, entry));
    let left = node_hash(kind, &leaves[0], &leaves[1]);
    let receipt = Receipt::sign(&key(), claims(), b"c", (2, 3, vec![left])).unwrap();
    (receipt, node_hash(kind, &left, &leaves[2]))
}

#[test]
fn a_receipt_round_trips_and_verifies() {
    let (receipt, root) = example();
    let bytes = receipt.to_bytes();
    let read = Receipt::parse(&bytes).unwrap();
    assert_eq!(read, receipt);
    assert_eq!(read.verify(b"c", key().public()), Ok(root));
    assert_eq!(read.verify(b"b", key().public()), Err(VerifyReceiptError::Signature));
    let other = SecretKey::from_seed(Suite::Ed25519, &[2; 32]).unwrap();
    assert_eq!(read.verify(b"c", other.public()), Err(VerifyReceiptError::Signature));
    let moved = Receipt { index: 3, ..read };
    assert!(matches!(moved.verify(b"c", key().public()), Err(VerifyReceiptError::Proof(_))));
}

/// The bytes, as a person can follow them in RFC 9942 figure 3.
#[test]
fn the_bytes_of_the_example() {
    let bytes = example().0.to_bytes();
    assert!(bytes.starts_with(&[0xd2, 0x84, 0x58]));
    let protected = [&[0xa4, 0x01, 0x27, 0x04, 0x53][..], b"did:web:a.example#l", &[0x0f, 0xa2, 0x01]].concat();
    assert!(bytes[4..].starts_with(&protected));
    let unprotected = [0x19, 0x01, 0x8b, 0x01, 0xa1, 0x19, 0x01, 0x8c, 0xa1, 0x20, 0x81, 0x58, 0x26, 0x83, 0x03, 0x02];
    assert!(bytes.windows(unprotected.len()).any(|part| part == unprotected));
}

#[test]
fn no_receipt_is_made_of_the_twin_or_of_another_entry() {
    let sm2 = SecretKey::from_seed(Suite::Sm2, &[1; 32]).unwrap();
    assert_eq!(Receipt::sign(&sm2, claims(), b"a", (0, 1, Vec::new())), Err(SignReceiptError::Suite));
    let long = ReceiptClaims { kid: "x".repeat(MAX_TEXT_BYTES + 1), ..claims() };
    assert_eq!(Receipt::sign(&key(), long, b"a", (0, 1, Vec::new())), Err(SignReceiptError::Claim));
    assert!(matches!(Receipt::sign(&key(), claims(), b"a", (1, 1, Vec::new())), Err(SignReceiptError::Proof(_))));
    let alone = Receipt::sign(&key(), claims(), b"a", (0, 1, Vec::new())).unwrap();
    assert!(alone.verify(b"a", sm2.public()).is_err());
    assert_eq!(Receipt::parse(&alone.to_bytes()).unwrap(), alone);
}

#[test]
fn malformed_receipts_are_refused() {
    let bytes = example().0.to_bytes();
    let find = |part: &[u8]| bytes.windows(part.len()).position(|found| found == part).unwrap();
    let changed = |at: usize, to: &[u8]| [&bytes[..at], to, &bytes[at + to.len()..]].concat();
    let unsupported = |parameter| Err(ParseReceiptError::Unsupported { parameter });
    let header = |parameter| Err(ParseReceiptError::Header { parameter });
    for (bad, error) in [
        (bytes[..bytes.len() - 1].to_vec(), Err(ParseReceiptError::Sign1)),
        ([&bytes[..], &[0]].concat(), Err(ParseReceiptError::Cbor)),
        (changed(0, &[0xd1]), Err(ParseReceiptError::Sign1)),
        (changed(1, &[0x85]), Err(ParseReceiptError::Sign1)),
        (changed(6, &[0x26]), unsupported("alg")),
        (changed(5, &[0x02]), unsupported("crit")),
        (changed(find(&[0x19, 0x01, 0x8b]) + 3, &[2]), unsupported("vds")),
        (changed(find(&[0x19, 0x01, 0x8b]) + 2, &[0x8d]), header("vds")),
        (changed(find(&[0x19, 0x01, 0x8c]) + 2, &[0x8b]), header("unprotected")),
        (changed(find(&[0x19, 0x01, 0x8c]) + 4, &[0x21]), header("vdp")),
        (changed(bytes.len() - 67, &[0xf5]), Err(ParseReceiptError::Sign1)),
        (vec![0; MAX_RECEIPT_BYTES + 1], Err(ParseReceiptError::TooLarge)),
        (Vec::new(), Err(ParseReceiptError::Sign1)),
    ] {
        assert_eq!(Receipt::parse(&bad), error, "{bad:02x?}");
    }
}

#[test]
fn unknown_header_parameters_are_passed_over() {
    let (receipt, _) = example();
    let mut writer = Writer::default();
    writer.map(4).int(ALG).int(EDDSA).int(VDS).int(1).int(-70_000).map(1).uint(1).array(2).null().bytes(b"x");
    writer.text("later").int(-5);
    let protected = writer.into_bytes();
    let root = root_of_inclusion(HashKind::Sha256, &leaf_hash(HashKind::Sha256, b"c"), 2, 3, &receipt.path).unwrap();
    let signature = key().sign(&to_be_signed(&protected, &root));
    let theirs = Receipt { claims: ReceiptClaims::default(), protected, signature, ..receipt };
    let read = Receipt::parse(&theirs.to_bytes()).unwrap();
    assert_eq!(read, theirs);
    assert_eq!(read.verify(b"c", key().public()), Ok(root));
    let deep = [vec![0xa1, 0x05], vec![0x81; 100], vec![0]].concat();
    assert_eq!(read_protected(&deep), Err(ParseReceiptError::Cbor));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Receipt::parse(&bytes);
        let _ = Receipt::parse(&[&[0xd2, 0x84][..], &bytes].concat());
    }

    #[test]
    fn a_flipped_bit_does_not_verify(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let (receipt, root) = example();
        let mut bytes = receipt.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let read = Receipt::parse(&bytes).ok().and_then(|read| read.verify(b"c", key().public()).ok());
        // The size is not under the signature; as long as the path fits it, the root is the same.
        prop_assert!(read.is_none_or(|found| found == root));
    }

    #[test]
    fn integers_round_trip(value in any::<i64>(), shift in 0_u32..63) {
        let value = value >> shift;
        let mut writer = Writer::default();
        writer.int(value);
        let bytes = writer.into_bytes();
        prop_assert_eq!(Reader::new(&bytes).int(), Some(value));
    }
}
