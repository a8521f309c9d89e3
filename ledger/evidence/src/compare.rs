//! What two parties recorded about their common processes, held against each other.
//!
//! A disagreement says that one of two signed accounts is false or incomplete. It does not say which: the message
//! itself is not in either log. [`Finding::OutOfSequence`] and [`Finding::Replayed`] are different: one log alone,
//! signed by its own node, shows them.
//!
//! `seen_at` is the auditor's word: read later than stated, a log seems to lack what it could not have yet.
//!
//! The accounts must be whole logs up to their signed heads, in log order: absence is read from them.

use std::collections::{BTreeMap, BTreeSet};

use shuyu_base::{Did, Digest, UnixMillis};

use crate::statement::{Act, Statement};

/// How far two honest clocks may differ, in milliseconds: the same bound that tokens between nodes have.
pub const MAX_CLOCK_SKEW_MS: i64 = 30_000;

/// One party and its whole account, in log order.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Who.
    pub did: &'a Did,
    /// Everything in its log, also about others; what does not concern the peer is passed over.
    pub statements: &'a [Statement],
    /// When the auditor read the log. What the peer dates later cannot be expected in it.
    pub seen_at: UnixMillis,
}

/// What the comparison of two parties found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every process that either party recorded with the other, by name.
    pub processes: Vec<ProcessReport>,
}

/// What was found in one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessReport {
    /// The process.
    pub process: String,
    /// How many events both parties recorded alike.
    pub agreed: u64,
    /// Everything else.
    pub findings: Vec<Finding>,
}

/// One thing on which the accounts differ, or that one account shows against itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// The peer went on after its message `seq`, so it was acknowledged; `by` has no record of it.
    Missing {
        /// Who lacks the record.
        by: Did,
        /// Place in the process.
        seq: u64,
        /// The act that is missing.
        act: Act,
    },
    /// `by` recorded something as coming from a peer that has no record of it.
    Extra {
        /// Who holds the record.
        by: Did,
        /// Place in the process.
        seq: u64,
        /// The act that the peer does not know.
        act: Act,
    },
    /// Both recorded place `seq`, but not the same event.
    Contradicting {
        /// Place in the process.
        seq: u64,
        /// What differs.
        difference: Difference,
    },
    /// The log of `by` does not count 1, 2, 3 ... in this process.
    OutOfSequence {
        /// Whose log.
        by: Did,
        /// The number found.
        seq: u64,
        /// The number that was due.
        due: u64,
    },
    /// The log of `by` has the same event twice, at `seq` again.
    Replayed {
        /// Whose log.
        by: Did,
        /// Place of the second record.
        seq: u64,
    },
    /// The last record of `by` has no counterpart yet: a message on its way, or made after the other log was read.
    /// Not a fault.
    Pending {
        /// Who recorded it.
        by: Did,
        /// Place in the process.
        seq: u64,
    },
    /// `by` served a use and holds no news of a receipt: the client may not have returned one. Not a fault.
    UsageUnacknowledged {
        /// The provider.
        by: Did,
        /// Place in the process.
        seq: u64,
    },
}

/// How two records of one place contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Difference {
    /// Two different events.
    Event,
    /// One event, called two kinds of thing.
    Kind,
    /// One event, under two agreements.
    Agreement,
    /// One event, with different commitments of one name.
    Commitment,
    /// Each says that it sent the message of this place.
    BothSent,
    /// One withdrew it as refused, the other recorded it as received.
    Withdrawn,
}

impl Difference {
    fn words(self) -> &'static str {
        match self {
            Self::Event => "different events",
            Self::Kind => "different kinds of event",
            Self::Agreement => "different agreements",
            Self::Commitment => "different commitments",
            Self::BothSent => "both sent the message of this place",
            Self::Withdrawn => "withdrawn as refused by one, received by the other",
        }
    }
}

impl Finding {
    /// Whether somebody must be at fault for this to be so.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Missing { .. }
            | Self::Extra { .. }
            | Self::Contradicting { .. }
            | Self::OutOfSequence { .. }
            | Self::Replayed { .. } => true,
            Self::Pending { .. } | Self::UsageUnacknowledged { .. } => false,
        }
    }

    /// The one whose own signed log shows the fault, where it is not one word against another.
    pub fn self_convicted(&self) -> Option<&Did> {
        match self {
            Self::OutOfSequence { by, .. } | Self::Replayed { by, .. } => Some(by),
            Self::Missing { .. }
            | Self::Extra { .. }
            | Self::Contradicting { .. }
            | Self::Pending { .. }
            | Self::UsageUnacknowledged { .. } => None,
        }
    }

    /// Whether it also stands on part of a log: it is read from two records of one event, which no record that was
    /// left out (a withdrawal, say) can explain.
    pub fn stands_on_part(&self) -> bool {
        match self {
            Self::Contradicting { difference, .. } => match difference {
                Difference::Kind | Difference::Agreement | Difference::Commitment => true,
                Difference::Event | Difference::BothSent | Difference::Withdrawn => false,
            },
            Self::Missing { .. }
            | Self::Extra { .. }
            | Self::OutOfSequence { .. }
            | Self::Replayed { .. }
            | Self::Pending { .. }
            | Self::UsageUnacknowledged { .. } => false,
        }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { by, seq, act } => write!(f, "`{by}` has no `{}` for event {seq}", act.name()),
            Self::Extra { by, seq, act } => {
                write!(f, "`{by}` has `{}` for event {seq}, of which the peer has no record", act.name())
            }
            Self::Contradicting { seq, difference } => {
                write!(f, "the parties contradict each other at event {seq}: {}", difference.words())
            }
            Self::OutOfSequence { by, seq, due } => write!(f, "`{by}` recorded event {seq} where {due} was due"),
            Self::Replayed { by, seq } => write!(f, "`{by}` recorded the same event again at {seq}"),
            Self::Pending { by, seq } => write!(f, "event {seq}, recorded by `{by}`, has no counterpart yet"),
            Self::UsageUnacknowledged { by, seq } => write!(f, "use {seq}, served by `{by}`, has no receipt"),
        }
    }
}

impl Report {
    /// Every fault with the process it was found in.
    pub fn faults(&self) -> impl Iterator<Item = (&str, &Finding)> {
        let all = self.processes.iter().flat_map(|one| one.findings.iter().map(|found| (one.process.as_str(), found)));
        all.filter(|(_, found)| found.is_fault())
    }

    /// How many events both parties recorded alike, over all processes.
    pub fn agreed(&self) -> u64 {
        self.processes.iter().map(|one| one.agreed).sum()
    }
}

/// Compares the accounts of two parties about each other. The order of the parties does not matter but for the order
/// of findings.
pub fn compare(a: Party<'_>, b: Party<'_>) -> Report {
    let (a_by_process, b_by_process) = (by_process(a, b.did), by_process(b, a.did));
    let names: BTreeSet<&str> = a_by_process.keys().chain(b_by_process.keys()).copied().collect();
    let empty = Vec::new();
    let processes = names.into_iter().map(|name| {
        let (a_has, b_has) = (a_by_process.get(name).unwrap_or(&empty), b_by_process.get(name).unwrap_or(&empty));
        compare_process(name, Account::of(a, a_has), Account::of(b, b_has))
    });
    Report { processes: processes.collect() }
}

/// What a whole log shows against itself: in each process with another party, numbers that are not 1, 2, 3 ..., and events
/// recorded twice. In the order of peers and processes.
pub fn own_faults(party: Party<'_>) -> Vec<(String, Finding)> {
    let mut peers: BTreeMap<&Did, Vec<Statement>> = BTreeMap::new();
    for statement in party.statements.iter().filter(|one| one.with != *party.did) {
        peers.entry(&statement.with).or_default().push(statement.clone());
    }
    let mut found = Vec::new();
    for (peer, statements) in &peers {
        let with_peer = Party { statements, ..party };
        for (process, statements) in by_process(with_peer, peer) {
            let faults = Account::of(with_peer, &statements).faults;
            found.extend(faults.into_iter().map(|fault| (process.to_owned(), fault)));
        }
    }
    found
}

fn by_process<'a>(party: Party<'a>, with: &Did) -> BTreeMap<&'a str, Vec<&'a Statement>> {
    let mut found: BTreeMap<&str, Vec<&Statement>> = BTreeMap::new();
    for statement in party.statements.iter().filter(|one| one.by == *party.did && one.with == *with) {
        let paired = match statement.act {
            Act::Sent | Act::Received | Act::Withdrawn | Act::Decided | Act::Served | Act::Receipt => true,
            Act::Revoked | Act::Published | Act::Observed => false,
        };
        if paired {
            found.entry(statement.process.as_str()).or_default().push(statement);
        }
    }
    found
}

/// One party's records of one process, sorted by act and place.
struct Account<'a> {
    did: &'a Did,
    seen_at: UnixMillis,
    sent: BTreeMap<u64, &'a Statement>,
    withdrawn: Vec<&'a Statement>,
    received: BTreeMap<u64, &'a Statement>,
    decided: BTreeMap<u64, &'a Statement>,
    served: BTreeMap<u64, &'a Statement>,
    receipts: BTreeMap<u64, &'a Statement>,
    /// The highest place of any applied message.
    last_seq: u64,
    faults: Vec<Finding>,
}

impl<'a> Account<'a> {
    fn of(party: Party<'a>, statements: &[&'a Statement]) -> Self {
        let did = party.did;
        let mut account = Self {
            did,
            seen_at: party.seen_at,
            sent: BTreeMap::new(),
            withdrawn: Vec::new(),
            received: BTreeMap::new(),
            decided: BTreeMap::new(),
            served: BTreeMap::new(),
            receipts: BTreeMap::new(),
            last_seq: 0,
            faults: Vec::new(),
        };
        let (mut last_message, mut last_use) = (0, 0);
        let mut seen: BTreeSet<(Act, Digest)> = BTreeSet::new();
        for statement in statements {
            // A second record of one event in one direction is a replay, at whatever place.
            if !seen.insert((statement.act, statement.event)) {
                account.faults.push(Finding::Replayed { by: did.clone(), seq: statement.seq });
                continue;
            }
            match statement.act {
                Act::Sent => {
                    account.next(&mut last_message, statement.seq);
                    // What is sent again may be withdrawn again.
                    seen.remove(&(Act::Withdrawn, statement.event));
                }
                Act::Received => account.next(&mut last_message, statement.seq),
                Act::Decided => account.next(&mut last_use, statement.seq),
                Act::Withdrawn => {
                    account.withdraw(&mut last_message, statement);
                    // The peer never took it, so it may be sent again, at whatever place is free then.
                    seen.remove(&(Act::Sent, statement.event));
                }
                Act::Served | Act::Receipt | Act::Revoked | Act::Published | Act::Observed => {}
            }
            account.keep(statement);
        }
        account.last_seq = last_message;
        let undecided = account.served.keys().filter(|seq| !account.decided.contains_key(seq));
        let undecided: Vec<u64> = undecided.copied().collect();
        for seq in undecided {
            account.faults.push(Finding::OutOfSequence { by: did.clone(), seq, due: last_use + 1 });
        }
        account
    }

    /// Whether this log was read too early to hold the counterpart of what the peer states.
    fn read_before(&self, stated: &Statement) -> bool {
        self.seen_at.plus_millis(-MAX_CLOCK_SKEW_MS) < stated.at
    }

    /// Counts a place; on a gap it reports once and goes on from what was found.
    fn next(&mut self, last: &mut u64, seq: u64) {
        let due = last.saturating_add(1);
        if seq != due {
            self.faults.push(Finding::OutOfSequence { by: self.did.clone(), seq, due });
        }
        *last = seq.max(*last);
    }

    /// A withdrawal takes back the last message, which must be the one it names.
    fn withdraw(&mut self, last: &mut u64, statement: &'a Statement) {
        let names_last =
            *last == statement.seq && self.sent.get(last).is_some_and(|sent| sent.event == statement.event);
        if names_last {
            self.sent.remove(last);
            *last = last.saturating_sub(1);
        } else {
            let due = last.saturating_add(1);
            self.faults.push(Finding::OutOfSequence { by: self.did.clone(), seq: statement.seq, due });
        }
    }

    fn keep(&mut self, statement: &'a Statement) {
        let kept = match statement.act {
            Act::Sent => &mut self.sent,
            Act::Received => &mut self.received,
            Act::Decided => &mut self.decided,
            Act::Served => &mut self.served,
            Act::Receipt => &mut self.receipts,
            Act::Withdrawn => return self.withdrawn.push(statement),
            Act::Revoked | Act::Published | Act::Observed => return,
        };
        kept.insert(statement.seq, statement);
    }
}

fn compare_process(process: &str, mut a: Account<'_>, mut b: Account<'_>) -> ProcessReport {
    let mut report = ProcessReport { process: process.to_owned(), agreed: 0, findings: Vec::new() };
    report.findings.append(&mut a.faults);
    report.findings.append(&mut b.faults);
    for (from, to) in [(&a, &b), (&b, &a)] {
        match_messages(&mut report, from, to);
        match_uses(&mut report, from, to);
    }
    report
}

/// What `from` sent against what `to` received.
fn match_messages(report: &mut ProcessReport, from: &Account<'_>, to: &Account<'_>) {
    for (seq, sent) in &from.sent {
        let seq = *seq;
        match to.received.get(&seq) {
            Some(received) => match difference(sent, received) {
                None => report.agreed += 1,
                Some(difference) => report.findings.push(Finding::Contradicting { seq, difference }),
            },
            // Nothing after it on either side: it may still be on its way, perhaps crossing one of the peer's.
            None if seq == from.last_seq
                && (to.last_seq < seq || (to.last_seq == seq && to.sent.contains_key(&seq))) =>
            {
                report.findings.push(Finding::Pending { by: from.did.clone(), seq });
            }
            None if to.sent.contains_key(&seq) => {
                // Both say that they sent the message of this place; said once, for both directions.
                let finding = Finding::Contradicting { seq, difference: Difference::BothSent };
                if !report.findings.contains(&finding) {
                    report.findings.push(finding);
                }
            }
            None if to.last_seq < seq && to.read_before(sent) => {
                report.findings.push(Finding::Pending { by: from.did.clone(), seq });
            }
            None => report.findings.push(Finding::Missing { by: to.did.clone(), seq, act: Act::Received }),
        }
    }
    for (seq, received) in to.received.iter().filter(|(seq, _)| !from.sent.contains_key(seq)) {
        let withdrawn = from.withdrawn.iter().any(|one| one.seq == *seq && one.event == received.event);
        report.findings.push(if withdrawn {
            Finding::Contradicting { seq: *seq, difference: Difference::Withdrawn }
        } else if from.last_seq < *seq && from.read_before(received) {
            Finding::Pending { by: to.did.clone(), seq: *seq }
        } else {
            Finding::Extra { by: to.did.clone(), seq: *seq, act: Act::Received }
        });
    }
}

/// What `provider` decided and served against the receipts of `consumer`.
fn match_uses(report: &mut ProcessReport, provider: &Account<'_>, consumer: &Account<'_>) {
    for (seq, served) in &provider.served {
        match consumer.receipts.get(seq) {
            Some(receipt) => match difference(served, receipt) {
                None => report.agreed += 1,
                Some(difference) => report.findings.push(Finding::Contradicting { seq: *seq, difference }),
            },
            None => report.findings.push(Finding::UsageUnacknowledged { by: provider.did.clone(), seq: *seq }),
        }
    }
    for (seq, receipt) in consumer.receipts.iter().filter(|(seq, _)| !provider.served.contains_key(seq)) {
        report.findings.push(if provider.read_before(receipt) {
            Finding::Pending { by: consumer.did.clone(), seq: *seq }
        } else if provider.decided.contains_key(seq) {
            Finding::Missing { by: provider.did.clone(), seq: *seq, act: Act::Served }
        } else {
            Finding::Extra { by: consumer.did.clone(), seq: *seq, act: Act::Receipt }
        });
    }
}

/// What two records of one event disagree on. Commitments are compared where both made them.
fn difference(one: &Statement, other: &Statement) -> Option<Difference> {
    if one.event != other.event {
        return Some(Difference::Event);
    }
    let paired_usage = matches!(one.act, Act::Served);
    if one.kind != other.kind && !paired_usage {
        return Some(Difference::Kind);
    }
    if let (Some(ours), Some(theirs)) = (&one.agreement, &other.agreement)
        && ours != theirs
    {
        return Some(Difference::Agreement);
    }
    let clash = one.commit.iter().any(|(name, digest)| other.commit.get(name).is_some_and(|found| found != digest));
    clash.then_some(Difference::Commitment)
}

#[cfg(test)]
mod tests;
