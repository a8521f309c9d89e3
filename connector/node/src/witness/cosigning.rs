//! Having our own ledger cosigned: the client of tlog-witness, and the quorums that our policies ask for.

use std::sync::Arc;
use std::time::Duration;

use shuyu_base::{Digest, UnixMillis};
use shuyu_evidence::{Act, Statement, WITNESSED_HEAD};
use shuyu_ledger::{Ledger, Served};
use shuyu_resolver::Http;
use shuyu_tlog::note::MAX_NOTE_BYTES;
use shuyu_tlog::{
    AddCheckpoint, Note, NoteSignature, PolicyWitness, SignedCheckpoint, WitnessKey, WitnessPolicy, read_signatures,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::clock;
use crate::config::ConfigError;
use crate::evidence::{Evidence, EvidenceError};
use crate::identity::Identity;
use crate::management::chain;
use crate::store::Batch;

/// Shortest time between two rounds: under load one round covers what came in it.
const ROUND: Duration = Duration::from_secs(1);
/// Longest time between two rounds while witnesses do not answer.
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How long one witness may take in a round.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Whose cosignatures make our checkpoints believed, in each of our policies.
#[derive(Clone, Debug, Default)]
pub struct Quorums(Vec<WitnessPolicy>);

impl Quorums {
    /// All of these policies must be met.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for a witness without an address, or one that no https address is of.
    pub fn new(policies: Vec<WitnessPolicy>) -> Result<Self, ConfigError> {
        for witness in policies.iter().flat_map(WitnessPolicy::witnesses) {
            let reason = match witness.url.as_deref().map(Url::parse) {
                Some(Ok(_)) => continue,
                Some(Err(error)) => format!("address of witness `{}`: {error}", witness.name),
                None => format!("witness `{}` has no address, so it cannot be asked", witness.name),
            };
            return Err(ConfigError::Value { key: "witnesses", reason });
        }
        Ok(Self(policies))
    }

    /// Whether anybody must cosign.
    pub fn need_witnesses(&self) -> bool {
        self.0.iter().any(WitnessPolicy::needs_witnesses)
    }

    /// Every witness once.
    fn witnesses(&self) -> Vec<PolicyWitness> {
        let mut all: Vec<PolicyWitness> = Vec::new();
        for witness in self.0.iter().flat_map(WitnessPolicy::witnesses) {
            if !all.iter().any(|known| known.key == witness.key) {
                all.push(witness.clone());
            }
        }
        all
    }

    /// Whether the note carries what all policies ask for.
    fn are_met(&self, note: &Note) -> bool {
        self.0.iter().all(|policy| policy.is_met(note).unwrap_or(false))
    }
}

/// One witness and what it said last.
struct Target {
    key: WitnessKey,
    /// Submission prefix.
    url: String,
    /// Size of what it cosigned last, as far as we know.
    size: u64,
    /// That checkpoint with its line: if the witness does not know it any more, it was set back.
    last: Option<Note>,
}

/// What came of asking a witness.
enum Asked {
    Cosigned(NoteSignature),
    /// It knows a larger log than we have.
    Ahead(u64),
    Failed(String),
}

/// Has every new checkpoint of the ledger cosigned.
pub struct Cosigning {
    ledger: Arc<Ledger>,
    evidence: Evidence,
    identity: Arc<Identity>,
    http: Http,
    quorums: Quorums,
    targets: Vec<Target>,
    /// How often a cosigned head is stated in the ledger.
    head_epoch_ms: i64,
    /// Size of the head stated last.
    stated_to: u64,
}

impl Cosigning {
    /// For the node's ledger. A cosigned head is stated in it at most every `head_epoch`.
    pub fn new(
        ledger: Arc<Ledger>,
        evidence: Evidence,
        identity: Arc<Identity>,
        http: Http,
        quorums: Quorums,
        head_epoch: Duration,
    ) -> Self {
        let kept = ledger.served().witnessed_head().and_then(|head| Note::parse(head.bytes()).ok());
        let target = |witness: PolicyWitness| {
            let last = kept.clone().filter(|note| witness.key.cosignature(note).is_ok_and(|line| line.is_some()));
            let url = witness.url.unwrap_or_default().trim_end_matches('/').to_owned();
            Target { key: witness.key, url, size: last.as_ref().map_or(0, size_of), last }
        };
        let targets = quorums.witnesses().into_iter().map(target).collect();
        if quorums.need_witnesses() {
            ledger.served().expect_witnesses();
        }
        let head_epoch_ms = i64::try_from(head_epoch.as_millis()).unwrap_or(i64::MAX);
        Self { ledger, evidence, identity, http, quorums, targets, head_epoch_ms, stated_to: 0 }
    }

    /// Asks until told to stop. Returns at once where no policy needs a witness.
    ///
    /// Each witness is asked by a task of its own, so that a slow one holds up none but itself: a round ends when its
    /// quorums are met. All are asked about the same checkpoint, the newest when the round began.
    pub async fn run(mut self, stopping: CancellationToken) {
        if !self.quorums.need_witnesses() {
            return;
        }
        let (rounds, _) = watch::channel(None);
        let (answers, mut incoming) = mpsc::channel(64);
        let mut asking = JoinSet::new();
        for target in self.targets.drain(..) {
            let (log, http) = (Arc::clone(&self.ledger), self.http.clone());
            asking.spawn(ask_each_round(log, http, target, rounds.subscribe(), answers.clone()));
        }
        let mut pause = ROUND;
        // The text of what was cosigned last: the same checkpoint is not submitted again.
        let mut done: Option<String> = None;
        let mut stated_at = UnixMillis(0);
        while let Some(head) = self.newest(done.as_deref(), &stopping).await {
            let Ok(note) = Note::parse(head.bytes()) else { return };
            let mut round = Round { note, is_met: false };
            rounds.send_replace(Some(Arc::clone(&head)));
            let enough = self.collect(&mut round, &mut incoming, true);
            let _ = stopping.run_until_cancelled(tokio::time::timeout(ANSWER_TIMEOUT, enough)).await;
            if round.is_met {
                (pause, done) = (ROUND, Some(text_of(&head)));
                stated_at = self.state_head(stated_at).await;
            } else {
                pause = (pause * 2).min(MAX_PAUSE);
                tracing::warn!(pause_s = pause.as_secs(), "no quorum of witnesses has cosigned; asking again");
            }
            // Lines that come late are shown too.
            let late = self.collect(&mut round, &mut incoming, false);
            if stopping.run_until_cancelled(tokio::time::timeout(pause, late)).await.is_none() {
                return;
            }
        }
    }

    /// Takes answers of the round, until the quorums are met if that is what is waited for.
    async fn collect(&self, round: &mut Round, answers: &mut mpsc::Receiver<Answer>, until_met: bool) {
        while let Some(Answer { witness, head, asked }) = answers.recv().await {
            match asked {
                Asked::Cosigned(line) if head == round.note.text() => {
                    if let Ok(note) = round.note.clone().with_signatures([line]) {
                        round.note = note;
                    }
                    round.is_met = self.quorums.are_met(&round.note);
                    if round.is_met {
                        self.show(round.note.clone()).await;
                    }
                    if round.is_met && until_met {
                        return;
                    }
                }
                // Of a round before: it had its quorum without this one, or was given up.
                Asked::Cosigned(_) => {}
                Asked::Ahead(size) => tracing::error!(
                    witness,
                    size,
                    "a witness has cosigned a larger ledger than this one: entries were lost, or another has its key"
                ),
                Asked::Failed(reason) => tracing::warn!(witness, %reason, "a witness did not cosign"),
            }
        }
    }

    /// The newest checkpoint, once it is another than `done`.
    async fn newest(&self, done: Option<&str>, stopping: &CancellationToken) -> Option<Arc<SignedCheckpoint>> {
        let head = self.ledger.checkpoint().ok()?;
        if done != Some(text_of(&head).as_str()) {
            return Some(head);
        }
        let next = head.checkpoint().size;
        stopping.run_until_cancelled(self.ledger.included(next)).await?.ok()
    }

    async fn show(&self, note: Note) {
        let ledger = Arc::clone(&self.ledger);
        let shown = tokio::task::spawn_blocking(move || ledger.served().show_witnessed(&note)).await;
        if let Ok(Err(error)) = shown {
            tracing::warn!(error = %chain(&error), "a cosigned checkpoint could not be kept");
        }
    }

    /// States the newest cosigned head in the ledger, unless that was done lately or nothing came since: nobody could
    /// know these signatures before they were given, so what stands behind the statement was written later.
    async fn state_head(&mut self, stated_at: UnixMillis) -> UnixMillis {
        let now = clock::now();
        // A clock that was set back makes it due, too.
        let is_due = !(0..self.head_epoch_ms).contains(&now.0.saturating_sub(stated_at.0));
        let Some(head) = self.ledger.served().witnessed_head().filter(|_| is_due) else { return stated_at };
        match self.state(&head).await {
            Ok(()) => {
                self.stated_to = head.checkpoint().size;
                now
            }
            Err(error) => {
                tracing::warn!(%error, "a cosigned head was not stated; trying again");
                stated_at
            }
        }
    }

    async fn state(&self, head: &SignedCheckpoint) -> Result<(), EvidenceError> {
        let size = head.checkpoint().size;
        if is_bookkeeping(&self.ledger, self.stated_to, size) {
            return Ok(());
        }
        // What stands behind the statement must not be older than it: whatever was kept from the ledger goes first.
        self.evidence.flush().await?;
        let did = &self.identity.did;
        let event = Digest::sha256(head.bytes());
        keep_head(self.ledger.served(), &event, head.bytes())
            .map_err(|error| EvidenceError::Statement(format!("the head could not be kept: {error}")))?;
        let statement = Statement {
            kind: WITNESSED_HEAD.to_owned(),
            act: Act::Observed,
            process: format!("{did}#ledger-heads/{size}"),
            seq: 1,
            by: did.clone(),
            with: did.clone(),
            at: clock::now(),
            event,
            agreement: None,
            commit: [("root".to_owned(), Digest::new(shuyu_base::HashKind::Sha256, head.checkpoint().root.0))]
                .into_iter()
                .collect(),
        };
        let mut batch = Batch::default();
        let saved = self.evidence.save(&mut batch, &statement.into())?;
        self.evidence.store(batch).await?;
        self.evidence.make_durable(&[saved]).await
    }
}

/// Keeps a head that the ledger states beside it, under the hex of its SHA-256, for whoever dates entries by it.
///
/// # Errors
/// When the disk does not take it.
pub(crate) fn keep_head(log: &Served, event: &Digest, bytes: &[u8]) -> std::io::Result<()> {
    let dir = log.path().join("heads");
    std::fs::create_dir_all(&dir)?;
    let name = event.to_string();
    let file = dir.join(name.rsplit(':').next().unwrap_or_default());
    let part = file.with_extension("part");
    std::fs::write(&part, bytes)?;
    std::fs::File::open(&part)?.sync_all()?;
    std::fs::rename(part, file)?;
    std::fs::File::open(&dir)?.sync_all()
}

/// Most entries looked at to find one that says more than how the ledger is kept.
const MAX_LOOKED_AT: u64 = 16;

/// Whether entries `from..to` say nothing but how ledgers are kept: heads and anchors about themselves need no further head.
pub(crate) fn is_bookkeeping(ledger: &Ledger, from: u64, to: u64) -> bool {
    const KINDS: [&str; 4] = [WITNESSED_HEAD, "ledger.sm3-head", "ledger.anchored", "ledger.foreign-head"];
    let is_of = |index: u64| {
        let entry = ledger.entry(index);
        entry.is_ok_and(|entry| shuyu_evidence::peek(&entry).is_ok_and(|known| KINDS.contains(&known.kind.as_str())))
    };
    to.saturating_sub(from) <= MAX_LOOKED_AT && (from..to).all(is_of)
}

/// What is being cosigned.
struct Round {
    note: Note,
    is_met: bool,
}

/// What a witness answered about the checkpoint of this text.
struct Answer {
    witness: String,
    head: String,
    asked: Asked,
}

/// Asks one witness about the newest round, again and again until the rounds end.
async fn ask_each_round(
    ledger: Arc<Ledger>,
    http: Http,
    mut target: Target,
    mut rounds: watch::Receiver<Option<Arc<SignedCheckpoint>>>,
    answers: mpsc::Sender<Answer>,
) {
    while rounds.changed().await.is_ok() {
        let Some(head) = rounds.borrow_and_update().clone() else { continue };
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, submit(Arc::clone(&ledger), &http, &mut target, &head)).await;
        let asked = asked.unwrap_or_else(|_| Asked::Failed("it took too long".to_owned()));
        let (witness, head) = (target.key.name().to_owned(), text_of(&head));
        if answers.send(Answer { witness, head, asked }).await.is_err() {
            return;
        }
    }
}

/// Submits with a proof from the size that the witness is believed to know, and once more from the one it says.
async fn submit(ledger: Arc<Ledger>, http: &Http, target: &mut Target, head: &SignedCheckpoint) -> Asked {
    let failed = |reason: &dyn std::fmt::Display| Asked::Failed(reason.to_string());
    let note = match Note::parse(head.bytes()) {
        Ok(note) => note,
        Err(error) => return failed(&error),
    };
    let size = head.checkpoint().size;
    let mut old_size = target.size.min(size);
    for _ in 0..2 {
        let (log, from) = (Arc::clone(&ledger), old_size);
        let proof = tokio::task::spawn_blocking(move || match from {
            0 => Ok(Vec::new()),
            from => log.served().prove_continues(from, size),
        });
        let proof = match proof.await {
            Ok(Ok(proof)) => proof,
            Ok(Err(error)) => return failed(&chain(&error)),
            Err(error) => return failed(&error),
        };
        let request = AddCheckpoint { old_size, proof, note: note.clone() };
        let answer = match post(http, &target.url, &request).await {
            Ok(answer) => answer,
            Err(reason) => return Asked::Failed(reason),
        };
        match (answer.status, known_size(&answer.body)) {
            (200, _) => return cosigned(target, &note, &answer.body),
            (409, Some(known)) if size < known => {
                // Anybody may submit a newer checkpoint of ours before we do.
                let newest = ledger.checkpoint().map_or(0, |newest| newest.checkpoint().size);
                let is_ours = known <= newest;
                return if is_ours { failed(&format!("it knows size {known} already")) } else { Asked::Ahead(known) };
            }
            (409, Some(known)) if known < target.size => {
                let told = convict(http, target).await;
                let (name, sized) = (target.key.name(), target.size);
                return failed(&format!("it knows size {known}, but cosigned {sized}: `{name}` was set back; {told}"));
            }
            (409, Some(known)) if known != old_size => {
                // It may know more than we remember: another run of ours had it cosigned.
                target.size = known;
                old_size = known;
            }
            (status, _) => return failed(&format!("it answered {status}: {}", words(&answer.body))),
        }
    }
    failed(&"it named two sizes")
}

/// Shows a witness its own signature, so that it sees what it has forgotten and signs no more.
async fn convict(http: &Http, target: &Target) -> String {
    let Some(last) = &target.last else { return "nothing of its own is left to show it".to_owned() };
    let request = AddCheckpoint { old_size: 0, proof: Vec::new(), note: last.clone() };
    match post(http, &target.url, &request).await {
        Ok(answer) => format!("shown its own signature, it answered {}", answer.status),
        Err(reason) => reason,
    }
}

/// The line of this witness in its answer, verified.
fn cosigned(target: &mut Target, note: &Note, body: &[u8]) -> Asked {
    let lines = match read_signatures(body) {
        Ok(lines) => lines,
        Err(error) => return Asked::Failed(format!("its answer is {error}")),
    };
    // Lines of other keys are ignored, as the specification says; ours must hold.
    for line in lines.into_iter().filter(|line| line.name == target.key.name()) {
        let Ok(with) = note.clone().with_signatures([line.clone()]) else { continue };
        if target.key.cosignature(&with).is_ok_and(|known| known.is_some()) {
            target.size = size_of(note);
            target.last = Some(with);
            return Asked::Cosigned(line);
        }
    }
    Asked::Failed("its answer has no signature of its key that holds".to_owned())
}

async fn post(http: &Http, prefix: &str, request: &AddCheckpoint) -> Result<shuyu_resolver::Response, String> {
    let url = Url::parse(&format!("{prefix}/add-checkpoint")).map_err(|error| error.to_string())?;
    let headers = [("content-type", "text/plain")];
    let sent = http.post_bytes(&url, &headers, request.to_string().into_bytes(), MAX_NOTE_BYTES).await;
    sent.map_err(|error| chain(&error))
}

fn known_size(body: &[u8]) -> Option<u64> {
    std::str::from_utf8(body).ok()?.trim_end().parse().ok()
}

fn words(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(300).collect()
}

fn text_of(head: &SignedCheckpoint) -> String {
    head.checkpoint().to_string()
}

fn size_of(note: &Note) -> u64 {
    note.text().parse::<shuyu_tlog::Checkpoint>().map_or(0, |head| head.size)
}
