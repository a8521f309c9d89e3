//! Turns a running query into Flight messages: counted before they leave, hashed, and ended with a receipt.

use std::{sync::Arc, time::Duration};

use arrow_flight::{FlightData, SchemaAsIpc};
use datafusion::arrow::{
    array::{Array, RecordBatch},
    error::ArrowError,
    ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions},
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{
    door::DoorError,
    gate::{Grant, SharedGate},
    meter::Meter,
    query::{Engine, Planned, QueryError, Running},
};

/// Size at which a batch is cut into several messages; many clients take no more than 4 MiB.
const MESSAGE_BYTES: usize = 2 << 20;

/// `app_metadata` of a batch, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchMark {
    /// Number of the message, from 0.
    pub seq: u64,
    /// Rows before this message.
    pub row: u64,
    /// BLAKE3 of the message: its IPC header, then its body; hexadecimal.
    pub blake3: String,
}

/// `app_metadata` of the last message, an empty batch, JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndMark {
    /// Messages before this one.
    pub seq: u64,
    /// Rows in all.
    pub rows: u64,
    /// Bytes in all, encoded.
    pub bytes: u64,
    /// BLAKE3 of the messages' digests (32 bytes each) in order; hexadecimal.
    pub blake3: String,
    /// The use, as in the holder's evidence.
    #[serde(rename = "use")]
    pub use_id: String,
    /// The holder's signed receipt.
    pub receipt: String,
}

/// A message, or the end of the stream. A stream without an end broke.
pub(crate) enum Part {
    Message(FlightData),
    End,
}

pub(crate) type Parts = mpsc::Receiver<Result<Part, DoorError>>;

/// Starts a query for a grant; its messages come out of the receiver. Dropping the receiver ends the query, and what
/// has left by then is recorded.
pub(crate) fn deliver(
    engine: &Arc<Engine>,
    gate: SharedGate,
    grant: Grant,
    planned: Planned,
    cancelled: CancellationToken,
) -> Parts {
    let (out, parts) = mpsc::channel(2);
    let limit = engine.compute_time();
    let work = engine.spawn(async move {
        let delivery = Delivery {
            meter: Meter::new(gate, &grant.use_id),
            digest: blake3::Hasher::new(),
            seq: 0,
            encoder: Encoder::default(),
            use_id: grant.use_id,
        };
        delivery.run(planned, out, limit, cancelled).await;
    });
    drop(work.detach());
    parts
}

struct Delivery {
    meter: Meter,
    digest: blake3::Hasher,
    seq: u64,
    encoder: Encoder,
    use_id: String,
}

type Out = mpsc::Sender<Result<Part, DoorError>>;

impl Delivery {
    async fn run(mut self, planned: Planned, out: Out, limit: Duration, cancelled: CancellationToken) {
        let schema = planned.schema();
        let sent = tokio::select! {
            sent = self.send_all(planned, &out, limit) => sent,
            () = out.closed() => Ok(false),
            () = cancelled.cancelled() => Ok(false),
        };
        let complete = matches!(sent, Ok(true));
        let receipt = self.meter.finish(self.digest.finalize(), complete).await;
        let last = match (sent, receipt) {
            (Err(error), _) => Err(error),
            (Ok(_), Err(refused)) => Err(DoorError::from(refused)),
            (Ok(true), Ok(receipt)) => {
                let mark = EndMark {
                    seq: self.seq,
                    rows: self.meter.rows(),
                    bytes: self.meter.bytes(),
                    blake3: self.digest.finalize().to_hex().to_string(),
                    use_id: self.use_id.clone(),
                    receipt: receipt.0,
                };
                self.encoder
                    .batch(&RecordBatch::new_empty(schema))
                    .map(|data| Part::Message(data.with_app_metadata(json(&mark))))
                    .map_err(|error| self.broken(&error))
            }
            (Ok(false), Ok(_)) => return,
        };
        let is_whole = last.is_ok();
        if out.send(last).await.is_ok() && is_whole {
            let _closed = out.send(Ok(Part::End)).await;
        }
    }

    /// True when everything was handed over.
    async fn send_all(&mut self, planned: Planned, out: &Out, limit: Duration) -> Result<bool, DoorError> {
        let mut running: Running = planned.start().await?;
        let schema: FlightData = SchemaAsIpc::new(&running.schema, &self.encoder.options).into();
        if out.send(Ok(Part::Message(schema))).await.is_err() {
            return Ok(false);
        }
        let mut time_left = limit;
        while let Some(batch) = running.next(&mut time_left, limit).await {
            let batch = batch?;
            for piece in pieces(&batch) {
                if !self.send(&piece, out).await? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    async fn send(&mut self, piece: &RecordBatch, out: &Out) -> Result<bool, DoorError> {
        let data = self.encoder.batch(piece).map_err(|error| self.broken(&error))?;
        let hash = blake3::Hasher::new().update(&data.data_header).update(&data.data_body).finalize();
        let row = self.meter.rows();
        let bytes = data.data_header.len() + data.data_body.len();
        self.meter.take(piece.num_rows() as u64, bytes as u64).await?;
        self.digest.update(hash.as_bytes());
        let mark = BatchMark { seq: self.seq, row, blake3: hash.to_hex().to_string() };
        self.seq += 1;
        Ok(out.send(Ok(Part::Message(data.with_app_metadata(json(&mark))))).await.is_ok())
    }

    fn broken(&self, error: &ArrowError) -> DoorError {
        tracing::error!(use_id = %self.use_id, %error, "could not encode a batch");
        DoorError::Query(QueryError::Failed { query: self.use_id.clone() })
    }
}

fn json(mark: &impl Serialize) -> Vec<u8> {
    // A struct of strings and numbers always has a JSON form.
    serde_json::to_vec(mark).unwrap_or_default()
}

/// Slices of at most [`MESSAGE_BYTES`], about.
fn pieces(batch: &RecordBatch) -> Vec<RecordBatch> {
    let rows = batch.num_rows();
    // By content, not by capacity, so that where a batch is cut says nothing about how it was read.
    let size: usize = batch.columns().iter().filter_map(|values| values.to_data().get_slice_memory_size().ok()).sum();
    let parts = size.div_ceil(MESSAGE_BYTES).max(1);
    let step = rows.div_ceil(parts).max(1);
    (0..rows).step_by(step).map(|start| batch.slice(start, step.min(rows - start))).collect()
}

/// Arrow IPC without dictionaries, which [`crate::edge`] has dissolved.
struct Encoder {
    generator: IpcDataGenerator,
    tracker: DictionaryTracker,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            tracker: DictionaryTracker::new(false),
            options: IpcWriteOptions::default(),
            context: IpcWriteContext::default(),
        }
    }
}

impl Encoder {
    fn batch(&mut self, batch: &RecordBatch) -> Result<FlightData, ArrowError> {
        let (_none, data) = self.generator.encode(batch, &mut self.tracker, &self.options, &mut self.context)?;
        Ok(data.into())
    }
}
