use proptest::prelude::*;
use shuyu_base::UnixMillis;

use super::*;

const A: &str = "did:web:a.example";
const B: &str = "did:web:b.example";

fn said(by: &str, act: Act, seq: u64, event: &str) -> Statement {
    Statement {
        kind: "test.message".to_owned(),
        act,
        process: "urn:uuid:1".to_owned(),
        seq,
        by: by.parse().unwrap(),
        with: if by == A { B } else { A }.parse().unwrap(),
        at: UnixMillis(0),
        event: Digest::sha256(event.as_bytes()),
        agreement: None,
        commit: BTreeMap::new(),
    }
}

fn compared(a: &[Statement], b: &[Statement]) -> (u64, Vec<Finding>) {
    let (a_did, b_did): (Did, Did) = (A.parse().unwrap(), B.parse().unwrap());
    let seen_at = UnixMillis(1_000_000);
    let report = compare(Party { did: &a_did, statements: a, seen_at }, Party { did: &b_did, statements: b, seen_at });
    assert!(report.processes.len() <= 1);
    (report.agreed(), report.processes.into_iter().flat_map(|one| one.findings).collect())
}

fn check(a: &[Statement], b: &[Statement], agreed: u64, findings: &[Finding]) {
    assert_eq!(compared(a, b), (agreed, findings.to_vec()));
}

fn did(text: &str) -> Did {
    text.parse().unwrap()
}

/// A sends 1, B sends 2, A sends 3.
fn exchange() -> (Vec<Statement>, Vec<Statement>) {
    (
        vec![said(A, Act::Sent, 1, "one"), said(A, Act::Received, 2, "two"), said(A, Act::Sent, 3, "three")],
        vec![said(B, Act::Received, 1, "one"), said(B, Act::Sent, 2, "two"), said(B, Act::Received, 3, "three")],
    )
}

#[test]
fn two_true_accounts_agree() {
    let (a, b) = exchange();
    check(&a, &b, 3, &[]);
    check(&[], &[], 0, &[]);
}

#[test]
fn the_last_message_may_be_on_its_way() {
    let (a, b) = exchange();
    check(&a, &b[..2], 2, &[Finding::Pending { by: did(A), seq: 3 }]);
    check(&a[..1], &[], 0, &[Finding::Pending { by: did(A), seq: 1 }]);
}

#[test]
fn an_omission_shows() {
    let (a, mut b) = exchange();
    b.remove(0);
    let out = Finding::OutOfSequence { by: did(B), seq: 2, due: 1 };
    check(&a, &b, 2, &[out, Finding::Missing { by: did(B), seq: 1, act: Act::Received }]);
    // The sender hides that it sent.
    let (mut a, b) = exchange();
    a.pop();
    check(&a, &b, 2, &[Finding::Extra { by: did(B), seq: 3, act: Act::Received }]);
}

#[test]
fn a_changed_event_shows() {
    let (a, mut b) = exchange();
    b[2] = said(B, Act::Received, 3, "forged");
    check(&a, &b, 2, &[Finding::Contradicting { seq: 3, difference: Difference::Event }]);
    b[2] = said(B, Act::Received, 3, "three");
    b[2].kind = "other".to_owned();
    check(&a, &b, 2, &[Finding::Contradicting { seq: 3, difference: Difference::Kind }]);
}

#[test]
fn a_refused_message_frees_its_place() {
    let (mut a, b) = exchange();
    a.splice(2..2, [said(A, Act::Sent, 3, "refused"), said(A, Act::Withdrawn, 3, "refused")]);
    check(&a, &b, 3, &[]);
    // Withdrawn by the sender, yet recorded as received by the peer.
    let a = [said(A, Act::Sent, 1, "one"), said(A, Act::Withdrawn, 1, "one")];
    let difference = Difference::Withdrawn;
    check(&a, &[said(B, Act::Received, 1, "one")], 0, &[Finding::Contradicting { seq: 1, difference }]);
    // The same message again at a later place.
    let a = [
        said(A, Act::Sent, 1, "one"),
        said(A, Act::Withdrawn, 1, "one"),
        said(A, Act::Received, 1, "two"),
        said(A, Act::Sent, 2, "one"),
    ];
    check(&a, &[said(B, Act::Sent, 1, "two"), said(B, Act::Received, 2, "one")], 2, &[]);
    // A withdrawal of something that is not the last message.
    let a = [said(A, Act::Withdrawn, 1, "one")];
    check(&a, &[], 0, &[Finding::OutOfSequence { by: did(A), seq: 1, due: 1 }]);
}

#[test]
fn a_replay_shows_in_the_log_itself() {
    let (a, mut b) = exchange();
    b.push(said(B, Act::Received, 4, "three"));
    check(&a, &b, 3, &[Finding::Replayed { by: did(B), seq: 4 }]);
}

#[test]
fn two_messages_in_one_place_contradict() {
    let a = [said(A, Act::Sent, 1, "a"), said(A, Act::Sent, 2, "c")];
    let b = [said(B, Act::Sent, 1, "b")];
    let both = Finding::Contradicting { seq: 1, difference: Difference::BothSent };
    check(&a, &b, 0, &[both, Finding::Pending { by: did(A), seq: 2 }]);
    // Crossing proposals, neither answered yet.
    let pending = [Finding::Pending { by: did(A), seq: 1 }, Finding::Pending { by: did(B), seq: 1 }];
    check(&a[..1], &b, 0, &pending);
}

#[test]
fn uses_are_paired_with_receipts() {
    let mut served = said(A, Act::Served, 1, "use");
    served.commit.insert("result".to_owned(), Digest::sha256(b"rows"));
    let provider = [said(A, Act::Decided, 1, "use"), said(A, Act::Decided, 2, "no"), served];
    let mut receipt = said(B, Act::Receipt, 1, "use");
    receipt.commit.insert("result".to_owned(), Digest::sha256(b"rows"));
    check(&provider, std::slice::from_ref(&receipt), 1, &[]);
    check(&provider, &[], 0, &[Finding::UsageUnacknowledged { by: did(A), seq: 1 }]);
    let mut other = receipt.clone();
    other.commit.insert("result".to_owned(), Digest::sha256(b"other"));
    check(&provider, &[other], 0, &[Finding::Contradicting { seq: 1, difference: Difference::Commitment }]);
    let missing = Finding::Missing { by: did(A), seq: 1, act: Act::Served };
    check(&provider[..2], std::slice::from_ref(&receipt), 0, &[missing]);
    check(&[], &[receipt], 0, &[Finding::Extra { by: did(B), seq: 1, act: Act::Receipt }]);
    // Served without a decision before it.
    let undecided = Finding::OutOfSequence { by: did(A), seq: 1, due: 1 };
    let unacknowledged = Finding::UsageUnacknowledged { by: did(A), seq: 1 };
    check(&provider[2..], &[], 0, &[undecided, unacknowledged]);
}

#[test]
fn what_happened_after_a_log_was_read_is_not_held_against_it() {
    let (mut a, mut b) = exchange();
    let late = UnixMillis(1_000_000);
    a.iter_mut().chain(&mut b).skip(1).for_each(|one| one.at = late);
    // B's log was read before anything but the first message.
    check(
        &a,
        &b[..1],
        1,
        &[2, 3].map(|seq| Finding::Pending { by: did(A), seq }).into_iter().rev().collect::<Vec<_>>(),
    );
    check(&a[..1], &b, 1, &[3, 2].map(|seq| Finding::Pending { by: did(B), seq }));
    // A hole further back is a fault at any time.
    b.remove(1);
    assert!(compared(&a, &b).1.iter().any(Finding::is_fault));
}

#[test]
fn what_concerns_others_is_passed_over() {
    let (mut a, b) = exchange();
    let mut other = said(A, Act::Sent, 9, "x");
    other.with = "did:web:c.example".parse().unwrap();
    a.push(other);
    a.push(said(A, Act::Revoked, 7, "y"));
    check(&a, &b, 3, &[]);
}

proptest! {
    /// Any run of messages, with refusals in between, honestly recorded up to any point, shows no fault; dropping or
    /// changing one record that is not the newest always does.
    #[test]
    fn honest_accounts_hold_and_a_missing_record_shows(
        turns in proptest::collection::vec((any::<bool>(), any::<bool>()), 1..20), pick in any::<prop::sample::Index>(),
        cut_last in any::<bool>(), change in any::<bool>(),
    ) {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for (n, (a_sends, refused_first)) in turns.iter().enumerate() {
            let (seq, event) = (n as u64 + 1, format!("event {n}"));
            let (from, to, sender, receiver) =
                if *a_sends { (A, B, &mut a, &mut b) } else { (B, A, &mut b, &mut a) };
            if *refused_first {
                sender.push(said(from, Act::Sent, seq, &format!("refused {n}")));
                sender.push(said(from, Act::Withdrawn, seq, &format!("refused {n}")));
            }
            sender.push(said(from, Act::Sent, seq, &event));
            if !(cut_last && n + 1 == turns.len()) {
                receiver.push(said(to, Act::Received, seq, &event));
            }
        }
        let (_, findings) = compared(&a, &b);
        prop_assert!(findings.iter().all(|found| !found.is_fault()), "{findings:?}");
        let applied: Vec<usize> = (0..a.len()).filter(|at| a[*at].act != Act::Withdrawn).collect();
        if let [older @ .., _] = applied.as_slice() && !older.is_empty() {
            let at = older[pick.index(older.len())];
            if change { a[at].event = Digest::sha256(b"forged") } else { drop(a.remove(at)) }
            let (_, findings) = compared(&a, &b);
            prop_assert!(findings.iter().any(Finding::is_fault));
        }
    }
}
