//! Proof files.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{HashKind, SecretKey, Suite};
use shuyu_tlog::{Hash, InclusionProof, Vkey, leaf_hash, verify_consistency, verify_inclusion};

fuzz_target!(|bytes: &[u8]| {
    let Ok(proof) = InclusionProof::parse(bytes) else { return };
    assert_eq!(proof.to_string().as_bytes(), bytes, "a proof has one form");
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let vkey = Vkey::new("a.example/log", key.public().clone()).expect("a name");
    assert!(proof.verify(b"entry", &vkey).is_err());
    for size in [0, 1, 2, 255, 256, 257, u64::MAX >> 1] {
        let leaf = leaf_hash(HashKind::Sha256, b"entry");
        let root = proof.path.first().copied().unwrap_or(Hash([1; 32]));
        let holds = verify_inclusion(HashKind::Sha256, &leaf, proof.index, size, &proof.path, &root).is_ok();
        assert!(!holds, "no proof leads to a hash of its own");
        let _ = verify_consistency(HashKind::Sha256, proof.index, &root, size, &root, &proof.path);
    }
});
