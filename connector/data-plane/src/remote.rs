//! The consumer's side: read a provider's governed table over Flight SQL, alone or joined with another holder's.

mod table;

use std::sync::{Arc, Mutex, PoisonError};

use arrow_flight::{
    FlightDescriptor, FlightInfo,
    decode::{DecodedPayload, FlightDataDecoder},
    error::FlightError,
    flight_service_client::FlightServiceClient,
    sql::{CommandStatementQuery, ProstMessageExt},
};
use datafusion::{
    arrow::{array::RecordBatch, datatypes::SchemaRef},
    common::DataFusionError,
    prelude::SessionContext,
};
use futures::{Stream, StreamExt, TryStreamExt, stream::BoxStream};
use prost::Message;
use tonic::{
    Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, ClientTlsConfig, Endpoint},
};
use url::Url;

pub use table::RemoteTable;

use crate::{
    deliver::{BatchMark, EndMark},
    door::CODE_HEADER,
    flight::PURPOSE_HEADER,
};

/// HTTP/2 window of a stream and of a connection. A stream moves at most this much per round trip.
const WINDOW_BYTES: u32 = 32 << 20;

/// Largest HTTP/2 frame asked for.
const FRAME_BYTES: u32 = 1 << 20;

/// Largest message taken from a provider.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Why a remote table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// The endpoint is no `http(s)` URL, or its TLS settings are wrong, or nobody answers.
    #[error("could not reach `{endpoint}`")]
    Connect {
        /// The endpoint.
        endpoint: Url,
        /// The cause.
        source: tonic::transport::Error,
    },
    /// The token or purpose cannot be sent as a header.
    #[error("token or purpose holds characters a header cannot carry")]
    BadHeader,
    /// The provider refused or failed; `code` is its word for programs, such as `revoked`.
    #[error("{words}")]
    Refused {
        /// The provider's code, or the gRPC status.
        code: String,
        /// Its explanation.
        words: String,
    },
    /// What came does not match its hashes, its numbering, or Arrow.
    #[error("provider's stream is broken: {0}")]
    Broken(String),
}

impl From<Status> for RemoteError {
    fn from(status: Status) -> Self {
        let code = status.metadata().get(CODE_HEADER).and_then(|value| value.to_str().ok());
        let code = code.map_or_else(|| format!("{:?}", status.code()), str::to_owned);
        Self::Refused { code, words: status.message().to_owned() }
    }
}

impl From<FlightError> for RemoteError {
    fn from(error: FlightError) -> Self {
        match error {
            FlightError::Tonic(status) => Self::from(*status),
            other => Self::Broken(other.to_string()),
        }
    }
}

impl From<RemoteError> for DataFusionError {
    fn from(error: RemoteError) -> Self {
        Self::External(Box::new(error))
    }
}

/// A provider's table door and the right to use it.
#[derive(Clone)]
pub struct Provider {
    client: FlightServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
    purpose: Option<MetadataValue<Ascii>>,
    receipts: Arc<Mutex<Vec<EndMark>>>,
}

impl std::fmt::Debug for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Provider")
    }
}

impl Provider {
    /// Connects to a Flight SQL endpoint (`https://host:port`, or `http:` on a loopback) with a transfer's token.
    ///
    /// # Errors
    /// [`RemoteError::Connect`], [`RemoteError::BadHeader`].
    pub async fn connect(
        endpoint: &Url,
        bearer: &str,
        purpose: Option<&str>,
        tls: Option<ClientTlsConfig>,
    ) -> Result<Self, RemoteError> {
        let failed = |source| RemoteError::Connect { endpoint: endpoint.clone(), source };
        let mut settings = Endpoint::from_shared(endpoint.to_string())
            .map_err(failed)?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .tcp_nodelay(true);
        if let Some(tls) = tls {
            settings = settings.tls_config(tls).map_err(failed)?;
        }
        let channel = settings.connect().await.map_err(failed)?;
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let mut authorization: MetadataValue<Ascii> =
            format!("Bearer {bearer}").parse().map_err(|_| RemoteError::BadHeader)?;
        authorization.set_sensitive(true);
        let purpose = purpose.map(str::parse).transpose().map_err(|_| RemoteError::BadHeader)?;
        Ok(Self { client, authorization, purpose, receipts: Arc::default() })
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        if let Some(purpose) = &self.purpose {
            request.metadata_mut().insert(PURPOSE_HEADER, purpose.clone());
        }
        request
    }

    /// Asks for a ticket; spends nothing.
    async fn info(&self, sql: &str) -> Result<(FlightInfo, SchemaRef), RemoteError> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        let info = self.client.clone().get_flight_info(self.request(descriptor)).await?.into_inner();
        let schema = info.clone().try_decode_schema().map_err(|error| RemoteError::Broken(error.to_string()))?;
        Ok((info, Arc::new(schema)))
    }

    /// The columns of a statement's answer. Spends nothing.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn columns(&self, sql: &str) -> Result<SchemaRef, RemoteError> {
        Ok(self.info(sql).await?.1)
    }

    /// Runs a statement: one use under the contract. Every batch is checked against its BLAKE3 and its number.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn query(&self, sql: &str) -> Result<RemoteStream, RemoteError> {
        let (info, schema) = self.info(sql).await?;
        let mut endpoints = info.endpoint.into_iter();
        let ticket = endpoints.next().and_then(|endpoint| endpoint.ticket);
        let (Some(ticket), None) = (ticket, endpoints.next()) else {
            return Err(RemoteError::Broken("expected one endpoint with a ticket".to_owned()));
        };
        let data = self.client.clone().do_get(self.request(ticket)).await?.into_inner();
        let decoder = FlightDataDecoder::new(data.map_err(|status| FlightError::Tonic(Box::new(status))));
        let check =
            Check { seq: 0, rows: 0, digest: blake3::Hasher::new(), receipts: self.receipts.clone(), ended: false };
        let batches = futures::stream::try_unfold((decoder, check), |(mut decoder, mut check)| async move {
            while let Some(data) = decoder.next().await {
                if let Some(batch) = check.admit(data?)? {
                    return Ok(Some((batch, (decoder, check))));
                }
            }
            if check.ended { Ok(None) } else { Err(RemoteError::Broken("it ended without a receipt".to_owned())) }
        });
        Ok(RemoteStream { schema, batches: batches.boxed() })
    }

    /// The receipts of the queries that ended so far.
    pub fn receipts(&self) -> Vec<EndMark> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Checks a stream against the marks in its `app_metadata`.
struct Check {
    seq: u64,
    rows: u64,
    digest: blake3::Hasher,
    receipts: Arc<Mutex<Vec<EndMark>>>,
    ended: bool,
}

impl Check {
    fn admit(&mut self, data: arrow_flight::decode::DecodedFlightData) -> Result<Option<RecordBatch>, RemoteError> {
        let broken = |words: &str| RemoteError::Broken(words.to_owned());
        let DecodedPayload::RecordBatch(batch) = data.payload else { return Ok(None) };
        let mark = &data.inner.app_metadata;
        if let Ok(end) = serde_json::from_slice::<EndMark>(mark) {
            let is_whole = batch.num_rows() == 0 && end.seq == self.seq && end.rows == self.rows;
            if !is_whole || end.blake3 != self.digest.finalize().to_hex().as_str() {
                return Err(broken("the receipt is not about what came"));
            }
            self.ended = true;
            self.receipts.lock().unwrap_or_else(PoisonError::into_inner).push(end);
            return Ok(None);
        }
        let mark: BatchMark = serde_json::from_slice(mark).map_err(|_| broken("a batch has no mark"))?;
        let hash = blake3::Hasher::new().update(&data.inner.data_header).update(&data.inner.data_body).finalize();
        if mark.seq != self.seq || mark.row != self.rows || mark.blake3 != hash.to_hex().as_str() {
            return Err(broken("a batch is not the one its mark is about"));
        }
        self.seq += 1;
        self.rows += batch.num_rows() as u64;
        self.digest.update(hash.as_bytes());
        Ok(Some(batch))
    }
}

/// The batches of an answer.
pub struct RemoteStream {
    schema: SchemaRef,
    batches: BoxStream<'static, Result<RecordBatch, RemoteError>>,
}

impl RemoteStream {
    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Everything at once.
    ///
    /// # Errors
    /// [`RemoteError`].
    pub async fn collect(self) -> Result<Vec<RecordBatch>, RemoteError> {
        self.batches.try_collect().await
    }
}

impl Stream for RemoteStream {
    type Item = Result<RecordBatch, RemoteError>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(context)
    }
}

/// Connects, runs one statement, and gives the stream and the provider whose receipts will hold its receipt.
///
/// # Errors
/// [`RemoteError`].
pub async fn query_stream(
    endpoint: &Url,
    bearer: &str,
    sql: &str,
    purpose: Option<&str>,
    tls: Option<ClientTlsConfig>,
) -> Result<(RemoteStream, Provider), RemoteError> {
    let provider = Provider::connect(endpoint, bearer, purpose, tls).await?;
    Ok((provider.query(sql).await?, provider))
}

/// A local session in which tables of several holders can be joined. Each table read is a use under its own contract.
///
/// # Errors
/// If two tables have one name.
pub fn join_session(tables: Vec<RemoteTable>) -> Result<SessionContext, DataFusionError> {
    let session = SessionContext::new();
    for table in tables {
        let name = table.name().to_owned();
        if session.register_table(name.as_str(), Arc::new(table))?.is_some() {
            return Err(DataFusionError::Plan(format!("two tables are named `{name}`")));
        }
    }
    Ok(session)
}
