//! Tickets, prepared statements, revocation, cancellation, catalogue.

use std::time::Duration;

use arrow_flight::{
    Action, CancelFlightInfoRequest, FlightClient, FlightDescriptor, FlightInfo, Ticket,
    flight_service_client::FlightServiceClient,
    sql::{
        CommandGetDbSchemas, CommandGetTables, CommandStatementQuery, ProstMessageExt, TicketStatementQuery,
        client::FlightSqlServiceClient,
    },
};
use datafusion::arrow::{
    array::{AsArray, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use shuyu_data_plane::{Format, Gate, TICKET_LIFETIME_MS, remote::RemoteError};
use tonic::{Code, Request, Status, transport::Channel};

use crate::fixture::{ALICE, EVERYTHING, Holder, MALLORY, TENANT_A, Terms, limits, now, source, world, write_parquet};

async fn holder(terms: &Terms<'_>, rows: i64) -> (tempfile::TempDir, Holder) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.parquet");
    write_parquet(&path, &world(rows, 1.0, 1), 20_000);
    let holder = Holder::start(terms, source(&path, Format::Parquet), limits()).await;
    (dir, holder)
}

struct Raw(FlightServiceClient<Channel>, &'static str);

impl Raw {
    async fn connect(holder: &Holder, token: &'static str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(holder.flight.to_string()).unwrap();
        Self(FlightServiceClient::new(endpoint.connect().await.unwrap()), token)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {}", self.1).parse().unwrap());
        request
    }

    async fn info(&self, sql: &str) -> Result<FlightInfo, Status> {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let descriptor = FlightDescriptor::new_cmd(command.as_any().encode_to_vec());
        Ok(self.0.clone().get_flight_info(self.request(descriptor)).await?.into_inner())
    }

    async fn get(&self, ticket: Ticket) -> Result<usize, Status> {
        let stream = self.0.clone().do_get(self.request(ticket)).await?.into_inner();
        Ok(stream.try_collect::<Vec<_>>().await?.len())
    }
}

fn handle(ticket: &Ticket) -> String {
    let any = arrow_flight::sql::Any::decode(&*ticket.ticket).unwrap();
    let statement: TicketStatementQuery = any.unpack().unwrap().unwrap();
    String::from_utf8(statement.statement_handle.to_vec()).unwrap()
}

fn ticket(handle: &str) -> Ticket {
    let statement = TicketStatementQuery { statement_handle: handle.to_owned().into() };
    Ticket::new(statement.as_any().encode_to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_bound_signed_and_soon_over() {
    let (_dir, holder) = holder(&TENANT_A, 100).await;
    let alice = Raw::connect(&holder, ALICE).await;
    let info = alice.info("SELECT id FROM people").await.unwrap();
    assert_eq!((info.total_records, info.total_bytes, info.endpoint.len()), (-1, -1, 1));
    let good = info.endpoint[0].ticket.clone().unwrap();
    assert!(alice.get(good.clone()).await.unwrap() >= 3);
    assert_eq!(holder.gate.uses(), 1, "only DoGet spends");

    let stolen = Raw::connect(&holder, MALLORY).await.get(good.clone()).await.unwrap_err();
    assert_eq!((stolen.code(), stolen.message()), (Code::PermissionDenied, "ticket was issued to another holder"));
    let nobody = Raw::connect(&holder, "forged").await.get(good.clone()).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);

    let text = handle(&good);
    for at in [0, 10, text.len() / 2, text.len() - 1] {
        let mut altered = text.clone().into_bytes();
        altered[at] = if altered[at] == b'a' { b'b' } else { b'a' };
        let altered = String::from_utf8(altered).unwrap();
        let refused = alice.get(ticket(&altered)).await.unwrap_err();
        assert!(matches!(refused.code(), Code::Unauthenticated | Code::InvalidArgument), "{at}: {refused}");
    }
    for junk in ["", ".", "a.b", "a"] {
        assert!(alice.get(ticket(junk)).await.is_err());
    }

    let mut old = read_ticket(&holder, &text).await;
    assert!(old.expires_at.since(now()) <= TICKET_LIFETIME_MS);
    old.expires_at = now().plus_millis(-1);
    let refused = alice.get(ticket(&old.seal(holder.gate.as_ref()))).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unauthenticated, "ticket has expired; ask for a new one"));
    assert_eq!(holder.gate.uses(), 1);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_no_ticket(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
        let table = source(std::path::Path::new("/nowhere"), Format::Parquet);
        let gate = crate::fixture::TestGate::new(&TENANT_A, table);
        let caller = futures::executor::block_on(gate.authenticate(ALICE)).unwrap();
        proptest::prop_assert!(shuyu_data_plane::Ticket::open(&bytes, gate.as_ref(), &caller, now()).is_err());
    }
}

async fn read_ticket(holder: &Holder, text: &str) -> shuyu_data_plane::Ticket {
    let caller = holder.gate.authenticate(ALICE).await.unwrap();
    shuyu_data_plane::Ticket::open(text.as_bytes(), holder.gate.as_ref(), &caller, now()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_a_running_stream() {
    let (_dir, holder) = holder(&EVERYTHING, 200_000).await;
    let provider = holder.connect(ALICE).await;
    // More than windows and buffers hold, so that the stream is still running when it is revoked.
    let mut stream = provider.query("SELECT a.*, b.* FROM people a, people b").await.unwrap();
    stream.next().await.unwrap().unwrap();
    holder.gate.revoke();
    let end = loop {
        match stream.next().await {
            Some(Ok(_)) => {}
            other => break other,
        }
    };
    match end {
        Some(Err(RemoteError::Refused { code, words })) => {
            assert_eq!(code, "revoked");
            assert!(words.contains("the holder withdrew it"), "{words}");
        }
        other => panic!("{other:?}"),
    }
    assert!(provider.receipts().is_empty());
    let again = provider.query("SELECT id FROM people").await;
    assert!(matches!(again, Err(RemoteError::Refused { code, .. }) if code == "revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_ends_a_query_that_is_still_computing() {
    let (_dir, holder) = holder(&EVERYTHING, 200_000).await;
    let provider = holder.connect(ALICE).await;
    let stream = provider.query("SELECT count(*) FROM people a, people b WHERE a.id + b.id = 1").await.unwrap();
    let gate = holder.gate.clone();
    let revoke = async move { gate.revoke() };
    let (end, ()) = tokio::join!(stream.collect(), revoke);
    assert!(matches!(end, Err(RemoteError::Refused { code, .. }) if code == "revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_time_ends_a_running_stream() {
    let until = now().plus_millis(1500);
    let (_dir, holder) = holder(&Terms { until: Some(until), ..EVERYTHING }, 200_000).await;
    let provider = holder.connect(ALICE).await;
    let stream = provider.query("SELECT count(*) FROM people a, people b WHERE a.id + b.id = 1").await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(60), stream.collect()).await.unwrap();
    assert!(matches!(end, Err(RemoteError::Refused { code, .. }) if code == "expired"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_ends_the_stream_and_counts_are_spent() {
    let (_dir, first) = holder(&Terms { max_bytes: 300_000, ..EVERYTHING }, 50_000).await;
    let provider = first.connect(ALICE).await;
    let end = provider.query("SELECT * FROM people").await.unwrap().collect().await;
    assert!(matches!(end, Err(RemoteError::Refused { code, .. }) if code == "quota-used-up"));
    let (_, outcome) = first.gate.outcomes.lock().unwrap()[0].clone();
    assert!(!outcome.complete && first.gate.used.lock().unwrap().bytes <= 300_000);

    let (_dir, second) = holder(&Terms { max_count: Some(1), ..EVERYTHING }, 10).await;
    let provider = second.connect(ALICE).await;
    provider.query("SELECT * FROM people").await.unwrap().collect().await.unwrap();
    let receipts = provider.receipts();
    assert_eq!((receipts[0].rows, receipts[0].receipt.as_str()), (10, "receipt-of-use-0"));
    assert!(second.gate.outcomes.lock().unwrap()[0].1.complete);
    assert!(provider.query("SELECT * FROM people").await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn prepared_statements_take_parameters() {
    let (_dir, holder) = holder(&TENANT_A, 1000).await;
    let channel = tonic::transport::Endpoint::from_shared(holder.flight.to_string()).unwrap().connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    client.set_token(ALICE.to_owned());
    let sql = "SELECT id, note FROM people WHERE id < $1 AND note = $2".to_owned();
    let mut prepared = client.prepare(sql, None).await.unwrap();
    assert_eq!(prepared.parameter_schema().unwrap().fields().len(), 2);
    let schema = Schema::new(vec![Field::new("$1", DataType::Int64, true), Field::new("$2", DataType::Utf8, true)]);
    let row = RecordBatch::try_new(
        schema.into(),
        vec![std::sync::Arc::new(Int64Array::from(vec![100])), std::sync::Arc::new(StringArray::from(vec!["7"]))],
    );
    prepared.set_parameters(row.unwrap()).unwrap();
    let info = prepared.execute().await.unwrap();
    let batches: Vec<RecordBatch> =
        client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap().try_collect().await.unwrap();
    let ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, [7, 17, 27, 37, 47, 57, 67, 77, 87, 97]);
    prepared.close().await.unwrap();

    let mut unbound = client.prepare("SELECT id FROM people WHERE id < $1".to_owned(), None).await.unwrap();
    let info = unbound.execute().await.unwrap();
    let refused = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await;
    let refused = match refused {
        Ok(stream) => stream.try_collect::<Vec<_>>().await.unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    assert!(refused.contains("waits for 1 parameter"), "{refused}");

    let write = client.execute_update("DELETE FROM people".to_owned(), None).await.unwrap_err();
    assert!(write.to_string().contains("read access only"), "{write}");
    let begin = client.begin_transaction().await.unwrap_err();
    assert!(begin.to_string().contains("read access only"), "{begin}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_query_can_be_cancelled_by_its_holder() {
    let (_dir, holder) = holder(&EVERYTHING, 100_000).await;
    let alice = Raw::connect(&holder, ALICE).await;
    let info = alice.info("SELECT count(*) FROM people a, people b WHERE a.id + b.id = 1").await.unwrap();
    let get = alice.get(info.endpoint[0].ticket.clone().unwrap());
    let cancel = async {
        let mut tries = 0;
        loop {
            let body = CancelFlightInfoRequest::new(info.clone()).encode_to_vec();
            let action = Action::new("CancelFlightInfo", body);
            let mut answer = alice.0.clone().do_action(alice.request(action)).await.unwrap().into_inner();
            let result =
                arrow_flight::CancelFlightInfoResult::decode(answer.next().await.unwrap().unwrap().body).unwrap();
            tries += 1;
            if result.status() == arrow_flight::CancelStatus::Cancelled || tries > 1_000_000 {
                break tries;
            }
            tokio::task::yield_now().await;
        }
    };
    let (got, _tries) = tokio::join!(get, cancel);
    assert_eq!(got.unwrap_err().code(), Code::Cancelled);
}

async fn read(client: &mut FlightSqlServiceClient<Channel>, info: FlightInfo) -> Vec<RecordBatch> {
    let ticket = info.endpoint[0].ticket.clone().unwrap();
    let batches: Vec<RecordBatch> = client.do_get(ticket).await.unwrap().try_collect().await.unwrap();
    let promised = info.try_decode_schema().unwrap();
    assert!(batches.iter().all(|batch| *batch.schema() == promised));
    batches
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_shows_the_visible_table_only() {
    let (_dir, holder) = holder(&TENANT_A, 10).await;
    let channel = tonic::transport::Endpoint::from_shared(holder.flight.to_string()).unwrap().connect().await.unwrap();
    let mut client = FlightSqlServiceClient::new(channel);
    assert!(client.get_catalogs().await.is_err(), "no token");
    client.set_token(ALICE.to_owned());
    let info =
        client.get_tables(CommandGetTables { include_schema: true, ..CommandGetTables::default() }).await.unwrap();
    let tables = read(&mut client, info).await;
    assert_eq!(tables[0].num_rows(), 1);
    assert_eq!(tables[0].column_by_name("table_name").unwrap().as_string::<i32>().value(0), "people");
    let schema = tables[0].column_by_name("table_schema").unwrap().as_binary::<i32>().value(0).to_vec();
    assert!(!String::from_utf8_lossy(&schema).contains("ssn") && String::from_utf8_lossy(&schema).contains("salary"));
    let info = client.get_catalogs().await.unwrap();
    assert_eq!(read(&mut client, info).await[0].column(0).as_string::<i32>().value(0), "shuyu");
    let info = client.get_db_schemas(CommandGetDbSchemas::default()).await.unwrap();
    assert_eq!(read(&mut client, info).await[0].num_rows(), 1);
    let info = client.get_table_types().await.unwrap();
    assert_eq!(read(&mut client, info).await[0].num_rows(), 1);
    let info = client.get_sql_info(Vec::new()).await.unwrap();
    assert!(read(&mut client, info).await[0].num_rows() > 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_has_the_schema_that_was_promised() {
    let (_dir, holder) = holder(&TENANT_A, 100).await;
    let channel = tonic::transport::Endpoint::from_shared(holder.flight.to_string()).unwrap().connect().await.unwrap();
    let mut client = FlightClient::new(channel);
    client.add_header("authorization", &format!("Bearer {ALICE}")).unwrap();
    for sql in [
        "SELECT * FROM people",
        "SELECT name, upper(note), salary / 7, CAST(note AS INT), day, count(*) OVER () FROM people",
        "SELECT note, sum(amount), avg(salary), array_agg(id ORDER BY id), max(day) FROM people GROUP BY note",
        "SELECT 'x' AS a, NULL AS b, make_array(1, 2) AS c, named_struct('k', name) AS d FROM people LIMIT 1",
    ] {
        let command = CommandStatementQuery { query: sql.to_owned(), transaction_id: None };
        let info = client.get_flight_info(FlightDescriptor::new_cmd(command.as_any().encode_to_vec())).await.unwrap();
        let promised = info.clone().try_decode_schema().unwrap();
        let mut stream = client.do_get(info.endpoint[0].ticket.clone().unwrap()).await.unwrap();
        while let Some(batch) = stream.next().await {
            assert_eq!(*batch.unwrap().schema(), promised, "{sql}");
        }
    }
}
