//! The gRPC server around the service.

use arrow_flight::flight_service_server::FlightServiceServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, ServerTlsConfig, server::TcpIncoming};

use super::FlightSql;
use crate::ticket::MAX_TICKET_BYTES;

/// What a client may have under way towards us; it uploads at most parameters. The window of a download is the
/// client's to set: ours asks for 32 MiB.
const UPLOAD_WINDOW_BYTES: u32 = 1 << 20;

/// Largest message from a client.
const MAX_MESSAGE_BYTES: usize = 2 * MAX_TICKET_BYTES;

/// Most calls at once on one connection.
const MAX_STREAMS: u32 = 64;

/// Why the Flight server ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The TLS identity was refused, or the listener failed.
    #[error("flight server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// The service as a tower service, to be added to a tonic or axum router.
pub fn flight_service(service: FlightSql) -> FlightServiceServer<FlightSql> {
    FlightServiceServer::new(service).max_decoding_message_size(MAX_MESSAGE_BYTES).max_encoding_message_size(usize::MAX)
}

/// Serves Flight SQL until `stop` is cancelled; running streams are then given their end by the gate's standing.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_flight(
    service: FlightSql,
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let mut server = Server::builder()
        .initial_stream_window_size(UPLOAD_WINDOW_BYTES)
        .initial_connection_window_size(4 * UPLOAD_WINDOW_BYTES)
        .max_concurrent_streams(MAX_STREAMS);
    if let Some(tls) = tls {
        server = server.tls_config(tls)?;
    }
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let router = server.add_service(flight_service(service));
    Ok(router.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()).await?)
}
