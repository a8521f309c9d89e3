//! Honest histories never convict: crashes that leave statements in the outbox, retries, witnesses that are away, whose
//! clocks differ, and that somebody else asks to cosign an old head anew.

use super::convictions::{NOW_S, cosign, found, witnesses};
use super::*;
use shuyu_tlog::Note;

/// What happens next to an honest node.
#[derive(Clone, Debug)]
enum Step {
    /// It records something.
    Record,
    /// It signs a statement, and crashes before the log takes it; the next start empties the outbox first.
    CrashWithOutbox { down_s: u64 },
    /// It publishes a head, which these witnesses cosign by their clocks.
    Publish { who: u8, skew_s: [i8; 3] },
    /// Somebody has a head cosigned anew: the last one, or one that was the last within a day and that these witnesses
    /// know no successor of, since the node was cut off from them.
    CosignAnew { who: u8, back: usize },
    /// It takes up the cosigned head of another log.
    ForeignHead,
    /// It promises an entry that it has taken.
    Promise,
    /// Time goes by.
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => Just(Step::Record),
        1 => (0_u64..80_000).prop_map(|down_s| Step::CrashWithOutbox { down_s }),
        3 => (0_u8..8, any::<[i8; 3]>()).prop_map(|(who, skew_s)| Step::Publish { who, skew_s }),
        2 => (0_u8..8, 0_usize..3).prop_map(|(who, back)| Step::CosignAnew { who, back }),
        2 => Just(Step::ForeignHead),
        1 => Just(Step::Promise),
        2 => (0_u64..300_000).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

fn chosen(who: u8) -> Vec<shuyu_tlog::WitnessSigner> {
    witnesses().into_iter().enumerate().filter(|(at, _)| who >> at & 1 == 1).map(|(_, one)| one).collect()
}

/// Everything an auditor could ever hold of it.
#[derive(Default)]
struct Told {
    notes: Vec<Vec<u8>>,
    /// Heads as published, and when.
    published: Vec<(u64, Vec<u8>)>,
    heads: Vec<Vec<u8>>,
    promises: Vec<Picked>,
}

impl Told {
    fn publish(&mut self, now_s: u64, note: Vec<u8>) {
        self.notes.push(note.clone());
        self.published.push((now_s, note));
    }
}

fn run(steps: &[Step]) -> Bundle {
    let (mut node, mut told, mut now_s) = (Node::new("a", 1), Told::default(), NOW_S);
    let mut foreign = Node::new("f", 9);
    for step in steps {
        now_s += 1;
        match step {
            Step::Record => drop(node.event_at(now_s)),
            Step::CrashWithOutbox { down_s } => {
                let signed_s = now_s;
                // While it is down, its last head may be cosigned anew.
                now_s += down_s;
                if let Some((_, last)) = told.published.last() {
                    told.notes.push(cosign(last, &witnesses(), now_s));
                }
                node.event_at(signed_s);
                node.event_at(now_s);
                told.publish(now_s, node.head(node.entries.len()).checkpoint);
            }
            Step::Publish { who, skew_s } => {
                let mut note = node.head(node.entries.len()).checkpoint;
                for (one, skew) in chosen(*who).into_iter().zip(skew_s) {
                    note = cosign(&note, &[one], now_s.saturating_add_signed(i64::from(*skew)));
                }
                told.publish(now_s, note);
            }
            Step::CosignAnew { who, back } => {
                let at = told.published.len().saturating_sub(1 + back);
                let superseded_s = told.published.get(at + 1).map_or(now_s, |(then_s, _)| *then_s);
                if let Some((_, note)) = told.published.get(at)
                    && now_s - superseded_s < ABSENCE_TOLERANCE_S
                {
                    // A witness that has signed a larger tree refuses; here none of these has.
                    let fresh = chosen(*who);
                    let note = Note::parse(note).unwrap();
                    let bare = Note::sign(note.text().to_owned(), &[]).unwrap();
                    let bare = bare.with_signatures(note.signatures().first().cloned()).unwrap();
                    let is_free = |one: &shuyu_tlog::WitnessSigner| {
                        let later = told.published.get(at + 1..).unwrap_or_default();
                        later
                            .iter()
                            .all(|(_, note)| one.key().cosignature(&Note::parse(note).unwrap()).unwrap().is_none())
                    };
                    let fresh: Vec<_> = fresh.into_iter().filter(is_free).collect();
                    told.notes.push(cosign(bare.to_string().as_bytes(), &fresh, now_s));
                }
            }
            Step::ForeignHead => {
                foreign.event_at(now_s);
                let note = cosign(&foreign.head(foreign.entries.len()).checkpoint, &witnesses()[1..], now_s + 20);
                node.takes_head(now_s, &note);
                told.heads.push(note);
            }
            Step::Promise => {
                let index = node.event_at(now_s);
                told.promises.push(node.promise_of(index, now_s + 10));
            }
            // An idle node has nothing under way: it publishes what it has before.
            Step::Wait { seconds } => {
                told.publish(now_s, cosign(&node.head(node.entries.len()).checkpoint, &witnesses(), now_s));
                now_s += seconds;
            }
        }
    }
    // The auditor saw the heads in their order; what others had cosigned came by other ways.
    let last = node.head(node.entries.len()).checkpoint;
    let seen: Vec<Vec<u8>> = told.published.into_iter().map(|(_, note)| note).chain([last]).collect();
    node.bundle_with(&seen, &[told.heads, told.notes].concat(), told.promises)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_honest_history_convicts(steps in proptest::collection::vec(step(), 0..14)) {
        prop_assert_eq!(found(&run(&steps)), []);
    }
}
