//! HTTP pull: a governed result as a file, with ranges and resume.
//!
//! `GET /data/{transfer}?format=parquet&sql=…&purpose=…` computes once and spools; every `GET`, ranges included, asks
//! the gate again and spends its bytes before they leave. While a download is unfinished, or a `Range` is asked for,
//! the use goes on and no second count is spent; a plain `GET` after a finished download is a new use.
//! `GET /data/{transfer}/receipts/{use}` gives the signed receipt once the last byte was sent.

mod range;
mod render;

use std::{io::SeekFrom, pin::Pin, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::get,
};
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use shuyu_base::HashKind;
use shuyu_policy::terms::Action;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

use crate::{
    clock,
    door::DoorError,
    flight::{MAX_PURPOSE_BYTES, bearer},
    gate::{Ask, Caller, Form, Grant, Refused, RefusedCode, SharedGate},
    meter::{Meter, Warrant},
    query::Engine,
    spool::{Segment, Spool},
};
use range::{Asked, asked_range};

/// Bytes read from disk at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// What the pull door needs.
#[derive(Clone)]
pub struct Pull {
    /// Decides.
    pub gate: SharedGate,
    /// Computes.
    pub engine: Arc<Engine>,
    /// Keeps results.
    pub spool: Arc<Spool>,
}

/// The routes `/data/{transfer}` and `/data/{transfer}/receipts/{use_id}`.
pub fn pull_router(pull: Pull) -> Router {
    Router::new()
        .route("/data/{transfer}", get(download))
        .route("/data/{transfer}/receipts/{use_id}", get(receipt))
        .with_state(pull)
}

/// The query string.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    format: Option<String>,
    sql: Option<String>,
    purpose: Option<String>,
}

async fn download(
    State(pull): State<Pull>,
    Path(transfer): Path<String>,
    query: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let Query(wanted) = query.map_err(|error| DoorError::invalid(error.body_text()))?;
        let caller = pull.caller(&transfer, &headers).await?;
        pull.answer(&caller, wanted, &headers).await
    };
    answer.await.unwrap_or_else(DoorError::into_response)
}

async fn receipt(
    State(pull): State<Pull>,
    Path((transfer, use_id)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let answer = async {
        let caller = pull.caller(&transfer, &headers).await?;
        pull.gate.reopen(&caller, &use_id).await?;
        let missing = || Refused::new(RefusedCode::NotFound, "no receipt yet: the last byte was not sent");
        Ok(pull.spool.receipt(&use_id).ok_or_else(missing)?)
    };
    match answer.await {
        Ok(receipt) => ([(header::CONTENT_TYPE, "application/jose")], receipt).into_response(),
        Err(error) => DoorError::into_response(error),
    }
}

impl Pull {
    async fn caller(&self, transfer: &str, headers: &HeaderMap) -> Result<Caller, DoorError> {
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let words = "send the transfer's token in `Authorization: Bearer …`";
        let bearer = bearer(header).ok_or_else(|| Refused::new(RefusedCode::Unauthenticated, words))?;
        let caller = self.gate.authenticate(bearer).await?;
        if caller.transfer != transfer {
            return Err(Refused::new(RefusedCode::NotFound, "the token is not for this transfer").into());
        }
        Ok(caller)
    }

    async fn answer(&self, caller: &Caller, wanted: Wanted, headers: &HeaderMap) -> Result<Response, DoorError> {
        let form: Form = match &wanted.format {
            Some(text) => text.parse().map_err(DoorError::invalid)?,
            None => Form::Parquet,
        };
        if wanted.purpose.as_ref().is_some_and(|purpose| purpose.len() > MAX_PURPOSE_BYTES) {
            return Err(DoorError::invalid("purpose is too long"));
        }
        let sql = wanted.sql.unwrap_or_default();
        let purpose = wanted.purpose.as_deref().unwrap_or_default();
        let parts = [form.word().as_bytes(), b"\0", sql.as_bytes(), b"\0", purpose.as_bytes()];
        let ask = Ask {
            action: Action::Read,
            purpose: wanted.purpose.clone(),
            query_digest: HashKind::Sha256.digest(&parts),
            form,
        };
        let key = segment_key(caller, &ask);
        let making = self.spool.alone(&key).await;
        let (grant, segment) = self.segment(caller, &ask, &sql, &key, headers).await?;
        drop(making);
        self.serve(key, grant, segment, headers).await
    }

    /// The segment to serve: the unfinished or asked-for one, or a new use.
    async fn segment(
        &self,
        caller: &Caller,
        ask: &Ask,
        sql: &str,
        key: &str,
        headers: &HeaderMap,
    ) -> Result<(Grant, Segment), DoorError> {
        let is_resumed = headers.contains_key(header::RANGE);
        if let Some(segment) = self.spool.find(key)
            && (is_resumed || segment.receipt.is_none())
        {
            return Ok((self.gate.reopen(caller, &segment.use_id).await?, segment));
        }
        // A statement that cannot be planned spends no count.
        let view = self.gate.view(caller, ask).await?;
        let all = format!("SELECT * FROM \"{}\"", view.table.name.replace('"', "\"\""));
        let sql = if sql.is_empty() { &all } else { sql };
        self.engine.plan(&view, sql).await?;
        let grant = self.gate.open(caller, ask).await?;
        let mut meter = Meter::new(self.gate.clone(), &grant.use_id);
        match self.make(&grant, &mut meter, ask.form, sql, key).await {
            Ok(segment) => Ok((grant, segment)),
            Err(error) => {
                meter.finish(blake3::hash(b""), false).await?;
                Err(error)
            }
        }
    }

    /// Computes a result into the spool, for as long as the warrant holds, and spends its rows.
    async fn make(
        &self,
        grant: &Grant,
        meter: &mut Meter,
        form: Form,
        sql: &str,
        key: &str,
    ) -> Result<Segment, DoorError> {
        let planned = self.engine.plan(grant, sql).await?;
        let writer = self.spool.begin().map_err(|error| unavailable(&error))?;
        let limit = self.engine.compute_time();
        let work = self.engine.spawn(render::render(planned, form, writer, limit));
        let rendered = tokio::select! {
            biased;
            refused = Warrant::of(grant).end() => return Err(refused.into()),
            rendered = work => rendered,
        };
        let (writer, rows) = rendered.map_err(|error| unavailable(&error))??;
        meter.reserve(rows, 0).await?;
        let (hash, size_bytes) = writer.so_far();
        let segment = Segment {
            use_id: grant.use_id.clone(),
            form,
            hash,
            size_bytes,
            rows,
            made_at: clock::now(),
            spare_bytes: 0,
            receipt: None,
        };
        let gone = self.spool.keep(key, writer, &segment).map_err(|error| unavailable(&error))?;
        self.abandon(gone).await;
        Ok(segment)
    }

    /// Ends the uses of segments that were removed unfinished.
    async fn abandon(&self, segments: Vec<Segment>) {
        for segment in segments {
            let mut meter = Meter::new(self.gate.clone(), &segment.use_id);
            meter.inherit(segment.spare_bytes);
            if let Err(error) = meter.finish(segment.hash, false).await {
                tracing::warn!(%error, use_id = %segment.use_id, "could not end an abandoned download");
            }
        }
    }

    /// Removes segments whose time is over. The node calls this now and then.
    pub async fn sweep(&self) {
        let gone = self.spool.sweep(clock::now());
        self.abandon(gone).await;
    }

    async fn serve(
        &self,
        key: String,
        grant: Grant,
        segment: Segment,
        headers: &HeaderMap,
    ) -> Result<Response, DoorError> {
        let etag = format!("\"b3-{}\"", segment.hash.to_hex());
        let (status, start, end) = match asked_range(headers, &etag, segment.size_bytes) {
            Asked::Whole => (StatusCode::OK, 0, segment.size_bytes),
            Asked::Part { start, end } => (StatusCode::PARTIAL_CONTENT, start, end),
            Asked::Unsatisfiable => return Ok(unsatisfiable(segment.size_bytes)),
        };
        let mut file = File::open(self.spool.path(&segment)).await.map_err(|error| unavailable(&error))?;
        file.seek(SeekFrom::Start(start)).await.map_err(|error| unavailable(&error))?;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status;
        let size_bytes = segment.size_bytes;
        let out = response.headers_mut();
        let mut put = |name: header::HeaderName, value: String| {
            if let Ok(value) = HeaderValue::from_str(&value) {
                out.insert(name, value);
            }
        };
        put(header::CONTENT_TYPE, content_type(segment.form).to_owned());
        put(header::CONTENT_LENGTH, (end - start).to_string());
        put(header::ACCEPT_RANGES, "bytes".to_owned());
        put(header::ETAG, etag);
        put(header::CACHE_CONTROL, "private, no-store".to_owned());
        let name: String =
            grant.table.name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
        put(header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}.{}\"", segment.form.word()));
        put(header::HeaderName::from_static("shuyu-blake3"), segment.hash.to_hex().to_string());
        put(header::HeaderName::from_static("shuyu-use"), segment.use_id.clone());
        put(header::HeaderName::from_static("shuyu-rows"), segment.rows.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            put(header::CONTENT_RANGE, format!("bytes {start}-{}/{size_bytes}", end.saturating_sub(1)));
        }
        let mut meter = Meter::new(self.gate.clone(), &segment.use_id);
        meter.inherit(self.spool.take_spare(&key, &segment.use_id));
        let sending = Sending {
            file,
            left_bytes: end - start,
            ends_file: end == size_bytes,
            meter,
            pull: self.clone(),
            key,
            segment,
        };
        *response.body_mut() = Body::from_stream(sending.guarded(Warrant::of(&grant)));
        Ok(response)
    }
}

/// What one response still has to send.
struct Sending {
    file: File,
    left_bytes: u64,
    ends_file: bool,
    meter: Meter,
    pull: Pull,
    key: String,
    segment: Segment,
}

type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

impl Sending {
    /// The bytes, for as long as the warrant holds. HTTP has no way to say why a body ends early: it breaks.
    fn guarded(self, warrant: Warrant) -> Chunks {
        let end = Box::pin(warrant.clone().end());
        Box::pin(futures::stream::unfold(Some((self, warrant, end)), |state| async {
            let (mut sending, warrant, mut end) = state?;
            if let Some(refused) = warrant.ended() {
                return Some((Err(std::io::Error::other(refused)), None));
            }
            let chunk = tokio::select! {
                biased;
                refused = &mut end => Err(std::io::Error::other(refused)),
                chunk = sending.next() => chunk,
            };
            match chunk {
                Ok(chunk) if chunk.is_empty() => None,
                Ok(chunk) => Some((Ok(chunk), Some((sending, warrant, end)))),
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    /// The next bytes, already spent; empty at the end.
    async fn next(&mut self) -> Result<Bytes, std::io::Error> {
        if self.left_bytes == 0 {
            return Ok(Bytes::new());
        }
        let wanted = usize::try_from(self.left_bytes).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
        let mut chunk = vec![0; wanted];
        self.file.read_exact(&mut chunk).await?;
        self.meter.take(0, wanted as u64).await.map_err(std::io::Error::other)?;
        self.left_bytes -= wanted as u64;
        if self.left_bytes == 0 {
            self.end().await.map_err(std::io::Error::other)?;
        }
        Ok(Bytes::from(chunk))
    }

    /// The last byte of the file makes the receipt, before it leaves.
    async fn end(&mut self) -> Result<(), Refused> {
        if self.ends_file && self.segment.receipt.is_none() {
            self.meter.inherit(self.pull.spool.take_spare(&self.key, &self.segment.use_id));
            let receipt = self.meter.finish(self.segment.hash, true).await?;
            self.meter.bequeath();
            self.pull.spool.put_receipt(&self.key, &self.segment.use_id, receipt.0);
        }
        Ok(())
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let spare_bytes = self.meter.bequeath();
        if spare_bytes > 0 {
            self.pull.spool.add_spare(&self.key, &self.segment.use_id, spare_bytes);
        }
    }
}

fn segment_key(caller: &Caller, ask: &Ask) -> String {
    let mut key = blake3::Hasher::new();
    for part in [&caller.agreement, &caller.transfer, &caller.holder.to_string(), &ask.query_digest.to_string()] {
        key.update(&(part.len() as u64).to_be_bytes()).update(part.as_bytes());
    }
    key.finalize().to_hex().to_string()
}

fn content_type(form: Form) -> &'static str {
    match form {
        Form::Parquet => "application/vnd.apache.parquet",
        Form::Csv => "text/csv; charset=utf-8; header=present",
        Form::Arrow | Form::Flight => "application/vnd.apache.arrow.stream",
        Form::Json => "application/x-ndjson",
    }
}

fn unsatisfiable(size_bytes: u64) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{size_bytes}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn unavailable(error: &(dyn std::error::Error + 'static)) -> DoorError {
    tracing::error!(error, "pull failed");
    Refused::new(RefusedCode::Unavailable, "the result could not be kept; try again later").into()
}
