//! Bare arrow-flight: one stream for whoever asks, and a client that reads it. What the governed door is compared with.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Result;
use arrow::record_batch::RecordBatch;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo, HandshakeRequest, HandshakeResponse,
    PollInfo, PutResult, SchemaResult, Ticket,
    decode::FlightRecordBatchStream,
    encode::FlightDataEncoderBuilder,
    error::FlightError,
    flight_service_client::FlightServiceClient,
    flight_service_server::{FlightService, FlightServiceServer},
};
use datafusion::prelude::SessionContext;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::holder::Tls;

/// The windows and frames that our own client asks for.
const WINDOW_BYTES: u32 = 32 << 20;
const FRAME_BYTES: u32 = 1 << 20;
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// Where the batches come from.
pub enum Source {
    /// A query, run for every stream.
    Table(SessionContext, String),
    /// Memory.
    Batches(Arc<Vec<RecordBatch>>),
}

/// The server, for as long as it is not dropped, and a client of it.
pub struct OpenFlight {
    client: FlightServiceClient<Channel>,
    _stop: DropGuard,
}

impl OpenFlight {
    /// Serves on a free port of the loopback.
    pub async fn start(source: Source, tls: &Tls) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let server = Server::builder()
            .tls_config(tls.server())?
            .add_service(FlightServiceServer::new(Service { source }).max_encoding_message_size(usize::MAX));
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(server.serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned()));
        let channel = Endpoint::from_shared(format!("https://{address}"))?
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(2 * WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .tcp_nodelay(true)
            .tls_config(tls.client())?
            .connect()
            .await?;
        let client = FlightServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Ok(Self { client, _stop: stop.drop_guard() })
    }

    /// Reads the stream to its end: its rows.
    pub async fn read(&self) -> Result<usize> {
        let data = self.client.clone().do_get(Ticket::new("")).await?.into_inner();
        let data = data.map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut batches = FlightRecordBatchStream::new_from_flight_data(data);
        let mut rows = 0;
        while let Some(batch) = batches.try_next().await? {
            rows += batch.num_rows();
        }
        Ok(rows)
    }
}

struct Service {
    source: Source,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn refuse<T>() -> Result<T, Status> {
    Err(Status::unimplemented("this server only sends"))
}

fn failed(error: impl std::fmt::Display) -> Status {
    Status::internal(error.to_string())
}

#[tonic::async_trait]
impl FlightService for Service {
    type HandshakeStream = Out<HandshakeResponse>;
    type ListFlightsStream = Out<FlightInfo>;
    type DoGetStream = Out<FlightData>;
    type DoPutStream = Out<PutResult>;
    type DoExchangeStream = Out<FlightData>;
    type DoActionStream = Out<arrow_flight::Result>;
    type ListActionsStream = Out<ActionType>;

    async fn do_get(&self, _: Request<Ticket>) -> Result<Response<Self::DoGetStream>, Status> {
        let batches: Pin<Box<dyn Stream<Item = Result<RecordBatch, FlightError>> + Send>> = match &self.source {
            Source::Table(session, sql) => {
                let frame = session.sql(sql).await.map_err(failed)?;
                let batches = frame.execute_stream().await.map_err(failed)?;
                batches.map_err(|error| FlightError::ExternalError(Box::new(error))).boxed()
            }
            Source::Batches(batches) => {
                let batches = Arc::clone(batches);
                stream::iter(0..batches.len())
                    .map(move |index| Ok(batches.get(index).cloned()))
                    .try_filter_map(|batch| async { Ok(batch) })
                    .boxed()
            }
        };
        let data = FlightDataEncoderBuilder::new().build(batches).map_err(failed);
        Ok(Response::new(Box::pin(data)))
    }

    async fn handshake(
        &self,
        _: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Self::HandshakeStream>, Status> {
        refuse()
    }

    async fn list_flights(&self, _: Request<Criteria>) -> Result<Response<Self::ListFlightsStream>, Status> {
        refuse()
    }

    async fn get_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<FlightInfo>, Status> {
        refuse()
    }

    async fn poll_flight_info(&self, _: Request<FlightDescriptor>) -> Result<Response<PollInfo>, Status> {
        refuse()
    }

    async fn get_schema(&self, _: Request<FlightDescriptor>) -> Result<Response<SchemaResult>, Status> {
        refuse()
    }

    async fn do_put(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoPutStream>, Status> {
        refuse()
    }

    async fn do_exchange(&self, _: Request<Streaming<FlightData>>) -> Result<Response<Self::DoExchangeStream>, Status> {
        refuse()
    }

    async fn do_action(&self, _: Request<Action>) -> Result<Response<Self::DoActionStream>, Status> {
        refuse()
    }

    async fn list_actions(&self, _: Request<Empty>) -> Result<Response<Self::ListActionsStream>, Status> {
        refuse()
    }
}
