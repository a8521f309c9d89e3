//! Following without end: what is new at every followed node is copied, verified and compared, again and again, and
//! whatever does not fit is an alarm.
//!
//! A pass that is cut off anywhere is taken up where it was: files copied are not copied again, and a checkpoint is
//! remembered only when what it covers is on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_evidence::ConvictionKind;
use shuyu_evidence::compare::{Finding, Party, compare};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::progress::{Mirrored, Verified};
use super::{Auditor, FollowedRow, held_document};
use crate::clock;
use crate::events::Events;
use crate::problem::Problem;
use crate::store::{Batch, StoreError, Table};

/// Longest time for copying from one node in one pass; the next pass goes on with what is left.
const COPY_TIME: Duration = Duration::from_secs(60);
/// Most findings of one node, or of one pair, that one pass turns into alarms; the report has them all.
const MAX_FINDINGS: usize = 100;
/// Most processes compared again because a counterpart was missing.
const MAX_OPEN: usize = 10_000;
/// Most alarms of one listing.
const MAX_ALARMS: usize = 1000;

/// Something that does not fit.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AlarmRow {
    at: String,
    /// The nodes concerned.
    nodes: Vec<String>,
    /// In words.
    message: String,
}

/// How one node fares.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Entries verified.
    size: u64,
    /// When it was last reached, if it was since the start.
    reached: Option<UnixMillis>,
    /// What does not hold.
    findings: Vec<String>,
    /// Why it was not reached.
    unreached: Option<String>,
}

/// Follows every node that the auditor follows.
pub struct Follower {
    auditor: Arc<Auditor>,
    events: Events,
    every: Duration,
    state: Mutex<State>,
    standing: StdMutex<BTreeMap<Did, Standing>>,
}

#[derive(Default)]
struct State {
    verified: HashMap<Did, Verified>,
    /// What was judged as a whole last, by the digest of all that was held then.
    judged: HashMap<Did, (Digest, Vec<String>)>,
    /// Processes whose last message has no counterpart yet: to be compared again.
    open: BTreeSet<(Did, Did, String)>,
}

impl Follower {
    /// A pass every `every`.
    pub fn new(auditor: Arc<Auditor>, events: Events, every: Duration) -> Self {
        Self { auditor, events, every, state: Mutex::default(), standing: StdMutex::default() }
    }

    /// Follows until told to stop.
    pub async fn run(self: Arc<Self>, stopping: CancellationToken) {
        let mut passes = tokio::time::interval(self.every);
        passes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stopping.run_until_cancelled(passes.tick()).await.is_some() {
            match stopping.run_until_cancelled(self.pass()).await {
                Some(Err(problem)) => {
                    tracing::warn!(reason = %problem.detail, "a pass over the followed ledgers failed")
                }
                Some(Ok(())) => {}
                None => return,
            }
        }
    }

    /// Looks at every node once.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pass(&self) -> Result<(), Problem> {
        let rows = self.auditor.rows()?;
        let mut state = self.state.lock().await;
        let mut touched: BTreeMap<Did, BTreeSet<String>> = BTreeMap::new();
        for row in &rows {
            let Ok(did) = row.did.parse::<Did>() else { continue };
            let mut standing = self.standing().get(&did).cloned().unwrap_or_default();
            // What goes wrong with one node is no reason to pass over the others.
            let processes = match self.look(&did, &mut state, &mut standing).await {
                Ok(processes) => processes,
                Err(problem) => {
                    standing.unreached = Some(problem.detail);
                    BTreeSet::new()
                }
            };
            for finding in standing.findings.iter().take(MAX_FINDINGS) {
                self.alarm(&[&did], finding).await?;
            }
            self.standing().insert(did.clone(), standing);
            touched.insert(did, processes);
        }
        self.compare(&mut state, &touched).await
    }

    /// Copies and verifies what is new at one node; the processes that it concerns.
    async fn look(&self, did: &Did, state: &mut State, standing: &mut Standing) -> Result<BTreeSet<String>, Problem> {
        let slow = || Problem::peer("it takes long to copy; going on with the others, and then with the rest");
        let copied = tokio::time::timeout(COPY_TIME, self.auditor.refresh(did)).await;
        let untraced = copied.map_err(|_| slow()).and_then(|copied| copied)?;
        let now = clock::now();
        let Some(row) = self.auditor.row(did)? else { return Ok(BTreeSet::new()) };
        let held = Digest::sha256(&serde_json::to_vec(&row).unwrap_or_default());
        let mut verified = state.verified.remove(did).unwrap_or_else(Verified::nothing);
        let (auditor, of) = (Arc::clone(&self.auditor), did.clone());
        let grown = tokio::task::spawn_blocking(move || {
            let growth = grow(&auditor, &of, &row, &mut verified, now);
            (growth, verified)
        });
        let (growth, verified) = grown.await.map_err(|error| Problem::conflict(error.to_string()))?;
        standing.size = verified.size();
        standing.reached = Some(now);
        standing.unreached = None;
        state.verified.insert(did.clone(), verified);
        let stranger = |kid: &String| format!("no key held of this node handed over to `{kid}`; it is not taken");
        standing.findings = untraced.iter().map(stranger).collect();
        let processes = match growth? {
            Some(growth) => {
                if let Some(head) = growth.head {
                    self.auditor.serve_head(did, &head).await?;
                }
                growth.touched
            }
            // Something does not fit: the whole log is judged, which says what.
            None => {
                let known = state.judged.get(did).filter(|(what, _)| *what == held).map(|(_, known)| known.clone());
                let findings = match known {
                    Some(findings) => findings,
                    None => self.auditor.judged(did).await?,
                };
                standing.findings.extend(findings.iter().cloned());
                state.judged.insert(did.clone(), (held, findings));
                BTreeSet::new()
            }
        };
        Ok(processes)
    }

    /// Compares the accounts of every two nodes over the processes that are new or still open.
    async fn compare(&self, state: &mut State, touched: &BTreeMap<Did, BTreeSet<String>>) -> Result<(), Problem> {
        let mut found: Vec<(Did, Did, String)> = Vec::new();
        let mut open = BTreeSet::new();
        let dids: Vec<&Did> = touched.keys().collect();
        for (at, a) in dids.iter().enumerate() {
            for b in dids.iter().skip(at + 1) {
                let (Some(a_has), Some(b_has)) = (state.verified.get(*a), state.verified.get(*b)) else { continue };
                let again = state.open.iter().filter(|(x, y, _)| x == *a && y == *b).map(|(_, _, process)| process);
                let new = [a, b].into_iter().filter_map(|did| touched.get(*did)).flatten();
                let processes: BTreeSet<&String> = again.chain(new).collect();
                if processes.is_empty() {
                    continue;
                }
                let (a_says, b_says) =
                    (a_has.statements(processes.iter().copied()), b_has.statements(processes.iter().copied()));
                let report = compare(
                    Party { did: a, statements: &a_says, seen_at: a_has.seen_at },
                    Party { did: b, statements: &b_says, seen_at: b_has.seen_at },
                );
                for process in &report.processes {
                    if open.len() < MAX_OPEN
                        && process.findings.iter().any(|finding| matches!(finding, Finding::Pending { .. }))
                    {
                        open.insert(((*a).clone(), (*b).clone(), process.process.clone()));
                    }
                }
                let faults = report.faults().take(MAX_FINDINGS);
                found.extend(
                    faults.map(|(process, finding)| {
                        ((*a).clone(), (*b).clone(), format!("process `{process}`: {finding}"))
                    }),
                );
            }
        }
        state.open = open;
        for (a, b, message) in found {
            self.alarm(&[&a, &b], &message).await?;
        }
        Ok(())
    }

    /// Raises an alarm, once for each thing that is wrong.
    async fn alarm(&self, nodes: &[&Did], message: &str) -> Result<(), Problem> {
        let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let what = Digest::sha256(format!("{} {}", nodes.join(" "), matter(message)).as_bytes()).to_string();
        let store = &self.auditor.store;
        if store.get::<u64>(Table::AlarmsRaised, &what)?.is_some() {
            return Ok(());
        }
        let last = store.last_key(Table::Alarms)?.and_then(|key| key.parse::<u64>().ok());
        let number = last.map_or(1, |last| last.saturating_add(1));
        tracing::error!(nodes = nodes.join(" "), message, "alarm");
        let mut batch = Batch::default();
        batch.put(Table::AlarmsRaised, &what, &number)?;
        let data = json!({ "number": number, "nodes": nodes, "message": message });
        let subject = nodes.first().cloned().unwrap_or_default();
        let row = AlarmRow { at: clock::now().to_string(), nodes, message: message.to_owned() };
        batch.put(Table::Alarms, &format!("{number:020}"), &row)?;
        let _told = self.events.record(&mut batch, "audit.alarm", &subject, data)?;
        Ok(store.commit(batch).await?)
    }

    /// The alarms after number `after`, oldest first.
    ///
    /// # Errors
    /// When the store fails.
    pub fn alarms(&self, after: u64) -> Result<Vec<Value>, StoreError> {
        let from = format!("{after:020}");
        let rows = self.auditor.store.list::<AlarmRow>(Table::Alarms, Some(&from), MAX_ALARMS)?;
        let shown = |(key, row): (String, AlarmRow)| json!({ "number": key.parse::<u64>().ok(), "at": row.at, "nodes": row.nodes, "message": row.message });
        Ok(rows.into_iter().map(shown).collect())
    }

    /// How each followed node fares.
    pub fn standings(&self) -> Vec<Value> {
        let shown = |(did, standing): (&Did, &Standing)| {
            json!({
                "did": did.as_str(), "verified_entries": standing.size, "holds": standing.findings.is_empty(),
                "reached": standing.reached.map(|at| at.to_string()), "unreached": standing.unreached,
                "findings": standing.findings,
            })
        };
        self.standing().iter().map(shown).collect()
    }

    fn standing(&self) -> MutexGuard<'_, BTreeMap<Did, Standing>> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an alarm is about. That a log has two histories is one matter, however long they grow.
fn matter(message: &str) -> &str {
    let of_log =
        [ConvictionKind::Fork, ConvictionKind::Inconsistent, ConvictionKind::Rollback, ConvictionKind::Altered];
    match message.split_once(": ") {
        Some((head, _)) if of_log.iter().any(|kind| head.starts_with(kind.name())) => head,
        Some(_) | None => message,
    }
}

fn grow(
    auditor: &Auditor,
    did: &Did,
    row: &FollowedRow,
    verified: &mut Verified,
    now: UnixMillis,
) -> Result<Option<super::progress::Growth>, Problem> {
    let damaged = |what: &str| Problem::conflict(format!("what is stored about `{did}` is damaged: {what}"));
    let (document, vkey) = (held_document(row)?, row.vkey.parse().map_err(|_| damaged("vkey"))?);
    let dir = auditor.mirror(did);
    let observed = row.observed.iter().map(|seen| seen.checkpoint.as_str()).collect();
    let log = Mirrored { did, document: &document, vkey: &vkey, dir: &dir, observed };
    Ok(verified.grow(&log, now))
}
