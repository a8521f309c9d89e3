use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

/// The naive definition of RFC 6962 section 2.1, which everything else is compared with.
struct Naive {
    kind: HashKind,
    leaves: Vec<Hash>,
}

impl Naive {
    fn new(kind: HashKind, count: u64) -> Self {
        Self { kind, leaves: (0..count).map(|i| leaf_hash(kind, &i.to_be_bytes())).collect() }
    }

    fn root(&self, from: usize, to: usize) -> Hash {
        match to - from {
            0 => empty_root(self.kind),
            1 => self.leaves[from],
            count => {
                let mut k = 1;
                while k * 2 < count {
                    k *= 2;
                }
                node_hash(self.kind, &self.root(from, from + k), &self.root(from + k, to))
            }
        }
    }

    fn first(&self, count: u64) -> Hash {
        self.root(0, usize::try_from(count).unwrap())
    }
}

impl HashSource for Naive {
    type Error = Infallible;
    fn hash(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (from, to) = (index << level, (index + 1) << level);
        Ok(self.root(usize::try_from(from).unwrap(), usize::try_from(to).unwrap()))
    }
}

/// The eight entries and roots used by every RFC 6962 implementation since Certificate Transparency's own tests.
#[test]
fn roots_of_the_certificate_transparency_vectors() {
    let entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut tree = Tree::new(HashKind::Sha256);
    assert_eq!(hex::encode(tree.root().0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (entry, root) in entries.iter().zip(roots) {
        tree.push(leaf_hash(HashKind::Sha256, &hex::decode(entry).unwrap()));
        assert_eq!(hex::encode(tree.root().0), root);
    }
}

/// CVE-2022-36111 (immudb): a linear proof whose middle was not checked let two histories pass.
#[test]
fn every_hash_of_a_proof_matters() {
    let kind = HashKind::Sha256;
    let log = Naive::new(kind, 100);
    let good = prove_consistency(kind, 37, 100, &log).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at].0[0] ^= 1;
        assert!(verify_consistency(kind, 37, &log.first(37), 100, &log.first(100), &bad).is_err());
    }
    let mut long = good.clone();
    long.push(good[0]);
    assert!(verify_consistency(kind, 37, &log.first(37), 100, &log.first(100), &long).is_err());
    assert!(verify_consistency(kind, 37, &log.first(37), 100, &log.first(100), &good[1..]).is_err());
}

#[test]
fn the_edges_of_the_definition() {
    let kind = HashKind::Sm3;
    let log = Naive::new(kind, 8);
    let empty = empty_root(kind);
    assert_eq!(verify_consistency(kind, 0, &empty, 8, &log.first(8), &[]), Ok(()));
    assert_eq!(verify_consistency(kind, 0, &log.first(1), 8, &log.first(8), &[]), Err(ProofError::RootMismatch));
    assert_eq!(verify_consistency(kind, 8, &log.first(8), 8, &log.first(8), &[]), Ok(()));
    assert_eq!(verify_consistency(kind, 8, &empty, 8, &log.first(8), &[]), Err(ProofError::RootMismatch));
    assert!(verify_consistency(kind, 9, &empty, 8, &log.first(8), &[]).is_err());
    assert!(verify_inclusion(kind, &log.leaves[0], 8, 8, &[], &log.first(8)).is_err());
    assert!(verify_inclusion(kind, &log.leaves[0], 0, 0, &[], &empty).is_err());
    assert_eq!(verify_inclusion(kind, &log.leaves[0], 0, 1, &[], &log.first(1)), Ok(()));
    let most = u64::MAX;
    let _ = verify_inclusion(kind, &empty, most - 1, most, &[empty; 64], &empty);
    let _ = verify_consistency(kind, most - 1, &empty, most, &empty, &[empty; 65]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn agrees_with_the_naive_tree(size in 1_u64..200, pick in any::<u64>(), sm3 in any::<bool>()) {
        let kind = if sm3 { HashKind::Sm3 } else { HashKind::Sha256 };
        let log = Naive::new(kind, size);
        let mut tree = Tree::new(kind);
        log.leaves.iter().for_each(|leaf| tree.push(*leaf));
        let root = log.first(size);
        prop_assert_eq!(tree.root(), root);
        prop_assert_eq!(&Tree::load(kind, size, &log).unwrap(), &tree);

        let index = pick % size;
        let path = prove_inclusion(kind, index, size, &log).unwrap();
        let leaf = log.leaves[usize::try_from(index).unwrap()];
        prop_assert_eq!(verify_inclusion(kind, &leaf, index, size, &path, &root), Ok(()));
        for other in 0..size {
            if other != index {
                prop_assert!(verify_inclusion(kind, &leaf, other, size, &path, &root).is_err());
            }
        }

        let old = pick % (size + 1);
        let path = prove_consistency(kind, old, size, &log).unwrap();
        prop_assert_eq!(verify_consistency(kind, old, &log.first(old), size, &root, &path), Ok(()));
        prop_assert!(old == size || verify_consistency(kind, old, &root, size, &root, &path).is_err());
    }

    #[test]
    fn any_proof_is_judged_without_panic(
        a in any::<u64>(), b in any::<u64>(), proof in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        let kind = HashKind::Sha256;
        let proof: Vec<Hash> = proof.into_iter().map(Hash).collect();
        let root = empty_root(kind);
        let _ = verify_inclusion(kind, &root, a, b, &proof, &root);
        let _ = verify_consistency(kind, a, &root, b, &root, &proof);
    }

    #[test]
    fn push_reports_each_perfect_subtree_once(size in 1_u64..300) {
        let log = Naive::new(HashKind::Sha256, size);
        let mut tree = Tree::new(HashKind::Sha256);
        let mut count = 0;
        for leaf in &log.leaves {
            tree.push_with(*leaf, |level, index, hash| {
                count += 1;
                assert_eq!(hash, log.hash(level, index).unwrap());
            });
        }
        let expected: u64 = (0..64).map(|level| size >> level).sum();
        prop_assert_eq!(count, expected);
    }
}

/// Roots by the recursive definition of RFC 6962 with the SM3 of Python's hashlib (OpenSSL).
#[test]
fn roots_of_sm3_are_those_of_openssl() {
    for (size, root) in [
        (0, "1ab21d8355cfa17f8e61194831e81a8f22bec8c728fefb747ed035eb5082aa2b"),
        (1, "2ece41c75007c06f823979b4a2f8984e91772f7702e3b8a695435a8655385c3e"),
        (7, "bb05fffd183b4d5067f7d025090f7bd52791e022abca515dbcccea7da469b5dd"),
        (300, "c143c6d056e6876faec5d2cc12748c3f2c920a523571602232b67e08106b0758"),
    ] {
        let mut tree = Tree::new(HashKind::Sm3);
        (0..size).for_each(|n| tree.push(leaf_hash(HashKind::Sm3, format!("entry {n}").as_bytes())));
        assert_eq!(hex::encode(tree.root().0), root, "{size} entries");
    }
}
