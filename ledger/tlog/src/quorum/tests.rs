use super::*;
use crate::checkpoint::Checkpoint;
use crate::cosignature::WitnessSigner;
use crate::merkle::Hash;
use proptest::prelude::*;
use shuyu_base::keys::{SecretKey, Suite};
use std::sync::Arc;

fn signer(seed: u8) -> WitnessSigner {
    let key = SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).unwrap();
    WitnessSigner::new(&format!("w{seed}.example"), Arc::new(key)).unwrap()
}

/// A note cosigned by each (seed, time).
fn note(by: &[(u8, u64)]) -> Note {
    let head = Checkpoint { origin: "o".to_owned(), size: 3, root: Hash([3; 32]) };
    let note = Note::sign(head.to_string(), &[]).unwrap();
    let lines: Vec<_> = by.iter().map(|(seed, time_s)| signer(*seed).cosign(&note, *time_s).unwrap()).collect();
    note.with_signatures(lines).unwrap()
}

fn policy(tail: &str) -> Result<WitnessPolicy, ParsePolicyError> {
    let witnesses: String =
        (1..=5).map(|seed| format!("witness W{seed} {} https://w{seed}.example\n", signer(seed).key())).collect();
    WitnessPolicy::parse(format!("# who\n\n{witnesses}{tail}").as_bytes())
}

#[test]
fn thresholds_and_nested_groups_count_as_the_specification_says() {
    let two_and_regulator = policy("group peers 2 W1 W2 W3\ngroup q all peers W5\n\tquorum  q\n").unwrap();
    assert!(!two_and_regulator.is_met(&note(&[(1, 1), (2, 1), (3, 1)])).unwrap(), "the regulator is missing");
    assert!(!two_and_regulator.is_met(&note(&[(1, 1), (4, 1), (5, 1)])).unwrap());
    assert!(two_and_regulator.is_met(&note(&[(1, 1), (3, 1), (5, 1)])).unwrap());
    assert!(policy("group q any W1 W2\nquorum q").unwrap().is_met(&note(&[(2, 1)])).unwrap());
    assert!(policy("quorum W4").unwrap().is_met(&note(&[(4, 1)])).unwrap());
    let none = policy("quorum none").unwrap();
    assert!(none.is_met(&note(&[])).unwrap() && !none.needs_witnesses());
    assert_eq!(none.existed_by(&note(&[(1, 7)])).unwrap(), None);
    assert_eq!(two_and_regulator.witnesses()[4].url.as_deref(), Some("https://w5.example"));
}

#[test]
fn times_are_those_that_a_quorum_stands_behind() {
    let policy = policy("group q 2 W1 W2 W3\nquorum q").unwrap();
    let cosigned = note(&[(1, 10), (2, 20), (3, 90)]);
    // One lying clock moves neither bound past the honest ones.
    assert_eq!(policy.existed_by(&cosigned).unwrap(), Some(20));
    assert_eq!(policy.newest_at(&cosigned).unwrap(), Some(20));
    assert_eq!(policy.existed_by(&note(&[(1, 10)])).unwrap(), None);
    assert_eq!(policy.newest_at(&note(&[(4, 10), (5, 10)])).unwrap(), None, "not of this quorum");
}

#[test]
fn a_line_that_does_not_verify_is_an_error_and_a_strange_one_is_not() {
    let policy = policy("quorum W1").unwrap();
    let mut forged = note(&[(1, 10)]).signatures()[0].clone();
    if let Some(last) = forged.signature.last_mut() {
        *last ^= 1;
    }
    let bad = note(&[]).with_signatures([forged]).unwrap();
    assert!(policy.is_met(&bad).is_err());
    assert!(!policy.is_met(&note(&[(9, 1)])).unwrap());
}

#[test]
fn each_mistake_names_its_line() {
    let key = signer(1).key().to_string();
    // The five witnesses stand on lines 3 to 7.
    let cases = [
        ("quorum W9", ParsePolicyError::Unknown { line: 8, name: "W9".to_owned() }),
        ("", ParsePolicyError::NoQuorum),
        ("quorum W1\nquorum W2", ParsePolicyError::Repeated { line: 9, what: "quorum".to_owned() }),
        ("group g 0 W1\nquorum g", ParsePolicyError::Threshold { line: 8 }),
        ("group g 3 W1 W2\nquorum g", ParsePolicyError::Threshold { line: 8 }),
        ("group g 01 W1\nquorum g", ParsePolicyError::Threshold { line: 8 }),
        ("group g any\nquorum g", ParsePolicyError::Line { line: 8 }),
        ("group g any W1 W1\nquorum g", ParsePolicyError::Repeated { line: 8, what: "W1".to_owned() }),
        ("group g any W1\ngroup h any W1 g\nquorum h", ParsePolicyError::Repeated { line: 9, what: "W1".to_owned() }),
        ("group W1 any W2\nquorum W1", ParsePolicyError::Repeated { line: 8, what: "W1".to_owned() }),
        ("group g any none\nquorum g", ParsePolicyError::Unknown { line: 8, name: "none".to_owned() }),
        ("group none any W1\nquorum none", ParsePolicyError::Repeated { line: 8, what: "none".to_owned() }),
        ("group g any h\ngroup h any W1\nquorum h", ParsePolicyError::Unknown { line: 8, name: "h".to_owned() }),
        ("hello\nquorum none", ParsePolicyError::Line { line: 8 }),
        ("log x\nquorum none", ParsePolicyError::Key { line: 8, role: "log" }),
        ("witness X x\nquorum none", ParsePolicyError::Key { line: 8, role: "witness" }),
    ];
    for (tail, error) in cases {
        assert_eq!(policy(tail), Err(error), "{tail}");
    }
    let twice = format!("witness A {key}\nwitness B {key}\nquorum none");
    assert!(matches!(WitnessPolicy::parse(twice.as_bytes()), Err(ParsePolicyError::Repeated { line: 2, .. })));
    // The key of a log is none of a witness, and the other way round.
    assert!(matches!(
        WitnessPolicy::parse(format!("log {key}\nquorum none").as_bytes()),
        Err(ParsePolicyError::Key { role: "log", .. })
    ));
    assert_eq!(WitnessPolicy::parse(b"quorum none\r\n"), Err(ParsePolicyError::NotText));
    assert_eq!(WitnessPolicy::parse(&[0xff]), Err(ParsePolicyError::NotText));
}

proptest! {
    #[test]
    fn a_bound_is_met_by_exactly_those_who_signed_in_time(
        times in proptest::collection::vec(proptest::option::of(0_u64..50), 5), needed in 1_usize..=5
    ) {
        let by: Vec<(u8, u64)> = (1..=5).zip(&times).filter_map(|(seed, time)| Some((seed, (*time)?))).collect();
        let policy = policy(&format!("group q {needed} W1 W2 W3 W4 W5\nquorum q")).unwrap();
        let note = note(&by);
        let mut sorted: Vec<u64> = by.iter().map(|(_, time)| *time).collect();
        sorted.sort_unstable();
        prop_assert_eq!(policy.is_met(&note).unwrap(), needed <= sorted.len());
        prop_assert_eq!(policy.existed_by(&note).unwrap(), sorted.get(needed - 1).copied());
        prop_assert_eq!(policy.newest_at(&note).unwrap(), sorted.iter().rev().nth(needed - 1).copied());
    }

    #[test]
    fn any_text_is_read_without_panic(text in "((log|witness|group|quorum|#) ?[ a-zW0-9+/=]{0,30}\n){0,6}", bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        let _ = WitnessPolicy::parse(text.as_bytes());
        let _ = WitnessPolicy::parse(&bytes);
    }
}
