//! The witness itself (C2SP tlog-witness v1.0.0).
//!
//! It cosigns a checkpoint only after the proof that it continues the last one cosigned, and answers only after that is
//! durable. Check and write are one step. A count of all cosignatures is kept in a file apart from the store
//! (`witness.high-water`): a witness whose store was set back, or that is shown its own signature over a state it does
//! not know, signs nothing any more. Such a witness is retired, not repaired: nobody can tell what it once signed.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::Digest;
use shuyu_tlog::witness::MAX_ADD_CHECKPOINT_BYTES;
use shuyu_tlog::{AddCheckpoint, Hash, LogPolicy, Note, NoteSignature, Seen, Vkey, WitnessRefusal, WitnessSigner};
use tokio::sync::Mutex;

use super::high_water::HighWater;
use crate::clock;
use crate::config::MAX_WITNESSED_LOGS;
use crate::store::{Batch, Store, StoreError, Table};

/// The row that counts; it stands before those of the logs.
const STANDING: &str = "a-standing";
/// Most refused checkpoints kept of one log; each is signed by the log and may convict it.
const MAX_REFUSED: usize = 16;

/// What was cosigned last of a log.
#[derive(Serialize, Deserialize)]
struct LogRow {
    origin: String,
    size: u64,
    root: String,
    /// The note with our cosignature.
    note: String,
    time_s: u64,
    /// Checkpoints that the log signed, of a size for which another root was cosigned.
    refused: Vec<String>,
}

/// The witness's own state.
#[derive(Default, Serialize, Deserialize)]
struct StandingRow {
    /// Cosignatures given.
    count: u64,
    /// Why it signs no more.
    retired: Option<String>,
}

/// Why a checkpoint was not cosigned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The log is not one that this witness knows.
    #[error("log `{origin}` is not known here; its operator asks the witness's operator to add its key")]
    UnknownLog {
        /// The origin.
        origin: String,
    },
    /// The checkpoint does not hold, or does not continue what was cosigned.
    #[error(transparent)]
    Refused(#[from] WitnessRefusal),
    /// This witness signs no more.
    #[error("this witness has been retired: {reason}")]
    Retired {
        /// Why.
        reason: String,
    },
    /// The state could not be kept, so nothing was signed.
    #[error("the witness cannot keep its state")]
    Store(#[from] StoreError),
    /// The file apart could not be read or written, so nothing was signed.
    #[error("`{path}` cannot be read or written")]
    HighWater {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Cosigns the checkpoints of known logs.
pub struct WitnessDesk {
    signer: WitnessSigner,
    store: Store,
    high_water: HighWater,
    logs: RwLock<HashMap<String, LogPolicy>>,
    /// Held from reading a log's state until the new one is durable.
    standing: Mutex<StandingRow>,
}

impl WitnessDesk {
    /// A witness with what the store and the file apart know of it.
    ///
    /// # Errors
    /// [`WitnessError`] if they cannot be read. A store that knows less than the file is no error: the witness is
    /// retired, and says so.
    pub fn open(signer: WitnessSigner, store: Store, high_water: PathBuf) -> Result<Self, WitnessError> {
        let mut standing: StandingRow = store.get(Table::Witness, STANDING)?.unwrap_or_default();
        let high_water = HighWater::at(high_water);
        let apart = high_water.read().map_err(|source| at_file(&high_water, source))?;
        if standing.count < apart && standing.retired.is_none() {
            let known = standing.count;
            standing.retired =
                Some(format!("its store knows {known} cosignatures, {apart} were given: the store was set back"));
        }
        if let Some(reason) = &standing.retired {
            tracing::error!(%reason, "the witness signs no more");
        }
        let (logs, standing) = (RwLock::default(), Mutex::new(standing));
        Ok(Self { signer, store, high_water, logs, standing })
    }

    /// The witness's signing key, as others verify it.
    pub fn key(&self) -> &shuyu_tlog::WitnessKey {
        self.signer.key()
    }

    /// Cosigns the log of these keys from now on; a log known already is left as it is.
    pub fn know(&self, policy: LogPolicy) {
        let mut logs = self.logs.write().unwrap_or_else(PoisonError::into_inner);
        logs.entry(policy.origin().to_owned()).or_insert(policy);
    }

    /// Cosigns the log of this key from now on.
    pub fn know_key(&self, key: Vkey) {
        self.know(LogPolicy::of(key));
    }

    /// Decides about a request; returns the signature lines.
    ///
    /// # Errors
    /// [`WitnessError`].
    pub async fn add_checkpoint(&self, request: &AddCheckpoint) -> Result<String, WitnessError> {
        let origin = request.origin();
        let known = self.logs.read().unwrap_or_else(PoisonError::into_inner).get(origin).cloned();
        let policy = known.ok_or_else(|| WitnessError::UnknownLog { origin: origin.to_owned() })?;
        let mut standing = self.standing.lock().await;
        if let Some(reason) = &standing.retired {
            return Err(WitnessError::Retired { reason: reason.clone() });
        }
        let row: Option<LogRow> = self.store.get(Table::Witness, &place(origin))?;
        let seen = row.as_ref().and_then(seen);
        match request.decide(&policy, self.signer.key(), seen.as_ref()) {
            Ok(next) => self.cosign((request, &policy), next, row, &mut standing).await,
            Err(refusal) => {
                self.remember((request, &policy), &refusal, row, &mut standing).await?;
                Err(refusal.into())
            }
        }
    }

    async fn cosign(
        &self,
        (request, policy): (&AddCheckpoint, &LogPolicy),
        next: Seen,
        row: Option<LogRow>,
        standing: &mut StandingRow,
    ) -> Result<String, WitnessError> {
        let origin = request.origin();
        // The clock may be set back; what this witness says does not go back.
        let now_s = u64::try_from(clock::now().0 / 1000).unwrap_or_default();
        let time_s = row.as_ref().map_or(now_s, |row| now_s.max(row.time_s));
        let line = self.signer.cosign(&request.note, time_s);
        let line = line.map_err(|error| WitnessError::Retired { reason: error.to_string() })?;
        // Served to monitors: the log's own lines that were verified, and ours.
        let note = verified(&request.note, policy).with_signatures([line.clone()]);
        let row = LogRow {
            origin: origin.to_owned(),
            size: next.size,
            root: next.root.to_string(),
            note: note.as_ref().map_or_else(|_| request.note.to_string(), ToString::to_string),
            time_s,
            refused: row.map(|row| row.refused).unwrap_or_default(),
        };
        let count = standing.count + 1;
        let mut batch = Batch::default();
        batch.put(Table::Witness, &place(origin), &row)?;
        batch.put(Table::Witness, STANDING, &StandingRow { count, retired: None })?;
        self.store.commit(batch).await?;
        standing.count = count;
        self.high_water.write(count).map_err(|source| at_file(&self.high_water, source))?;
        Ok(format!("{line}\n"))
    }

    /// Keeps what convicts somebody: the log that forked, or this witness.
    async fn remember(
        &self,
        (request, policy): (&AddCheckpoint, &LogPolicy),
        refusal: &WitnessRefusal,
        row: Option<LogRow>,
        standing: &mut StandingRow,
    ) -> Result<(), WitnessError> {
        let mut batch = Batch::default();
        match refusal {
            WitnessRefusal::RolledBack { .. } => {
                standing.retired = Some(refusal.to_string());
                tracing::error!(%refusal, "the witness signs no more");
                batch.put(Table::Witness, STANDING, &*standing)?;
            }
            // Two roots for one size convict the log whoever submits them. A proof that does not hold convicts nobody: anyone
            // can send a checkpoint with a bad one.
            WitnessRefusal::Fork { .. } => {
                tracing::warn!(origin = request.origin(), %refusal, "a log has two histories");
                let Some(mut row) = row else { return Ok(()) };
                let note = verified(&request.note, policy).to_string();
                if MAX_REFUSED <= row.refused.len() || row.refused.contains(&note) {
                    return Ok(());
                }
                row.refused.push(note);
                batch.put(Table::Witness, &place(request.origin()), &row)?;
            }
            WitnessRefusal::Signature(_)
            | WitnessRefusal::Order { .. }
            | WitnessRefusal::Stale { .. }
            | WitnessRefusal::Proof { .. }
            | WitnessRefusal::Empty
            | _ => return Ok(()),
        }
        Ok(self.store.commit(batch).await?)
    }

    /// How many cosignatures were given, and why no more are.
    pub async fn standing(&self) -> (u64, Option<String>) {
        let standing = self.standing.lock().await;
        (standing.count, standing.retired.clone())
    }

    /// What was cosigned last of each log, at most [`MAX_WITNESSED_LOGS`] of them.
    ///
    /// # Errors
    /// When the store fails.
    pub fn logs(&self) -> Result<Vec<Value>, StoreError> {
        let rows = self.store.list::<LogRow>(Table::Witness, Some("log/"), MAX_WITNESSED_LOGS)?;
        let shown = |row: LogRow| {
            json!({ "origin": row.origin, "size": row.size, "root": row.root, "time": row.time_s,
                "refused": row.refused.len() })
        };
        Ok(rows.into_iter().map(|(_, row)| shown(row)).collect())
    }

    /// Checkpoints that the log of this origin signed, of a size for which another root was cosigned.
    ///
    /// # Errors
    /// When the store fails.
    pub fn refused(&self, origin: &str) -> Result<Vec<String>, StoreError> {
        let row: Option<LogRow> = self.store.get(Table::Witness, &place(origin))?;
        Ok(row.map(|row| row.refused).unwrap_or_default())
    }

    /// The newest checkpoint cosigned of the log whose origin has this hash.
    fn newest(&self, hash: &str) -> Result<Option<String>, StoreError> {
        let row: Option<LogRow> = self.store.get(Table::Witness, &format!("log/{hash}"))?;
        Ok(row.map(|row| row.note))
    }
}

fn at_file(file: &HighWater, source: std::io::Error) -> WitnessError {
    WitnessError::HighWater { path: file.path().to_owned(), source }
}

/// The note with the lines of the log's known keys alone, which were verified; what else a submitter put there is dropped.
fn verified(note: &Note, policy: &LogPolicy) -> Note {
    let is_known =
        |line: &&NoteSignature| policy.keys().iter().any(|key| key.name() == line.name && key.key_id() == line.key_id);
    let lines = note.signatures().iter().filter(is_known).cloned();
    // The text was a note's, so it can be one again; the fallback keeps more lines than needed.
    let bare = Note::sign(note.text().to_owned(), &[]).and_then(|bare| bare.with_signatures(lines));
    bare.unwrap_or_else(|_| note.clone())
}

/// Where a log's row is: the hex SHA-256 of its origin, as in the monitoring address.
fn place(origin: &str) -> String {
    format!("log/{}", origin_hash(origin))
}

/// SHA-256 of an origin in lower-case hex (tlog-witness, "Monitor Retrieval Mechanism").
pub fn origin_hash(origin: &str) -> String {
    let digest = Digest::sha256(origin.as_bytes()).to_string();
    digest.rsplit(':').next().unwrap_or_default().to_owned()
}

fn seen(row: &LogRow) -> Option<Seen> {
    use base64::Engine as _;
    let root = base64::engine::general_purpose::STANDARD.decode(&row.root).ok()?;
    Some(Seen { size: row.size, root: Hash(root.try_into().ok()?) })
}

/// Routes below the witness's prefix.
pub fn router(desk: Arc<WitnessDesk>) -> Router {
    Router::new()
        .route("/witness/add-checkpoint", post(add_checkpoint))
        .route("/witness/{origin}/checkpoint", get(newest))
        .layer(DefaultBodyLimit::max(MAX_ADD_CHECKPOINT_BYTES))
        .with_state(desk)
}

const TEXT: (header::HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; charset=utf-8");

async fn add_checkpoint(State(desk): State<Arc<WitnessDesk>>, body: Bytes) -> Response {
    let request = match AddCheckpoint::parse(&body) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST, [TEXT], format!("{error}\n")).into_response(),
    };
    let error = match desk.add_checkpoint(&request).await {
        Ok(lines) => return ([TEXT], lines).into_response(),
        Err(error) => error,
    };
    let status = match &error {
        WitnessError::UnknownLog { .. } => StatusCode::NOT_FOUND,
        WitnessError::Refused(WitnessRefusal::Stale { size }) => {
            let kind = (header::CONTENT_TYPE, "text/x.tlog.size");
            return (StatusCode::CONFLICT, [kind], format!("{size}\n")).into_response();
        }
        WitnessError::Refused(WitnessRefusal::Signature(_)) => StatusCode::FORBIDDEN,
        WitnessError::Refused(WitnessRefusal::Order { .. }) => StatusCode::BAD_REQUEST,
        WitnessError::Refused(WitnessRefusal::RolledBack { .. }) | WitnessError::Retired { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        WitnessError::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
        WitnessError::Store(_) | WitnessError::HighWater { .. } => {
            tracing::error!(%error, "checkpoint not cosigned");
            return (StatusCode::INTERNAL_SERVER_ERROR, [TEXT], "the witness cannot keep its state\n").into_response();
        }
    };
    (status, [TEXT], format!("{error}\n")).into_response()
}

async fn newest(State(desk): State<Arc<WitnessDesk>>, Path(hash): Path<String>) -> Response {
    match desk.newest(&hash) {
        Ok(Some(note)) => ([TEXT], note).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
