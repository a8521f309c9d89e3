//! A Flight SQL client as a consumer's program would hold it.

use arrow::record_batch::RecordBatch;
use arrow_flight::error::FlightError;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::{FlightInfo, Ticket};
use futures::TryStreamExt;
use shuyu_scenarios::space::Access;
use tonic::transport::{Channel, Endpoint};

/// A connection that presents this access.
pub async fn connect(access: &Access, purpose: Option<&str>) -> FlightSqlServiceClient<Channel> {
    let channel =
        Endpoint::from_shared(access.flight.clone()).expect("an address").connect().await.expect("Flight answers");
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_token(access.bearer.clone());
    if let Some(purpose) = purpose {
        client.set_header("shuyu-purpose", purpose);
    }
    client
}

/// The only ticket of an answer.
pub fn ticket(info: &FlightInfo) -> Ticket {
    info.endpoint.first().and_then(|endpoint| endpoint.ticket.clone()).expect("an endpoint with a ticket")
}

/// Runs a query to its end.
pub async fn query(access: &Access, purpose: Option<&str>, sql: &str) -> Result<Vec<RecordBatch>, String> {
    let mut client = connect(access, purpose).await;
    let info = client.execute(sql.to_owned(), None).await.map_err(|error| error.to_string())?;
    redeem(&mut client, ticket(&info)).await
}

/// Reads what a ticket gives.
pub async fn redeem(client: &mut FlightSqlServiceClient<Channel>, ticket: Ticket) -> Result<Vec<RecordBatch>, String> {
    let stream = client.do_get(ticket).await.map_err(|error| error.to_string())?;
    stream.try_collect().await.map_err(|error: FlightError| error.to_string())
}

/// Rows of all batches.
pub fn rows(batches: &[RecordBatch]) -> usize {
    batches.iter().map(RecordBatch::num_rows).sum()
}
