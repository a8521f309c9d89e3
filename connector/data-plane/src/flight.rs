//! Arrow Flight SQL over a [`Gate`]: signed tickets, live permits, receipts.

mod describe;
mod serve;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightData, FlightDescriptor,
    FlightEndpoint, FlightInfo, HandshakeRequest, HandshakeResponse, IpcMessage, SchemaAsIpc, Ticket as FlightTicket,
    decode::FlightRecordBatchStream,
    error::FlightError,
    flight_service_server::FlightService,
    sql::{
        ActionBeginSavepointRequest, ActionBeginSavepointResult, ActionBeginTransactionRequest,
        ActionBeginTransactionResult, ActionCancelQueryRequest, ActionCancelQueryResult,
        ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult,
        ActionEndSavepointRequest, ActionEndTransactionRequest, CommandGetCatalogs, CommandGetDbSchemas,
        CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables, CommandPreparedStatementQuery,
        CommandPreparedStatementUpdate, CommandStatementIngest, CommandStatementQuery, CommandStatementSubstraitPlan,
        CommandStatementUpdate, DoPutPreparedStatementResult, ProstMessageExt, SqlInfo, TicketStatementQuery,
        server::{FlightSqlService, PeekableFlightDataStream},
    },
};
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
    ipc::{
        reader::StreamReader,
        writer::{IpcWriteOptions, StreamWriter},
    },
};
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use shuyu_base::HashKind;
use shuyu_policy::terms::Action as PolicyAction;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};

pub use serve::{ServeError, flight_service, serve_flight};

use crate::{
    clock,
    deliver::{Part, Parts, deliver},
    door::DoorError,
    gate::{Ask, Caller, Form, Refused, RefusedCode, SharedGate},
    meter::Warrant,
    query::{Engine, Planned, QueryError},
    ticket::{MAX_PARAMETER_BYTES, TICKET_LIFETIME_MS, Ticket, holder_text},
};

/// gRPC metadata in which a client states its purpose.
pub const PURPOSE_HEADER: &str = "shuyu-purpose";

/// Longest purpose, in bytes.
pub(crate) const MAX_PURPOSE_BYTES: usize = 1024;

/// What updates, transactions and uploads are told.
const READ_ONLY: &str = "contracts give read access only: send a query, there is nothing to write or commit";

/// The Flight SQL service of one node.
#[derive(Clone)]
pub struct FlightSql {
    gate: SharedGate,
    engine: Arc<Engine>,
    running: Arc<Mutex<HashMap<String, CancellationToken>>>,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FlightSql {
    /// A service that asks `gate` and computes on `engine`.
    pub fn new(gate: SharedGate, engine: Arc<Engine>) -> Self {
        Self { gate, engine, running: Arc::default() }
    }

    async fn caller(&self, metadata: &MetadataMap) -> Result<Caller, Status> {
        let header = metadata.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let bearer = bearer(header).ok_or_else(|| {
            let words = "send the transfer's token in `authorization: Bearer …`";
            DoorError::from(Refused::new(RefusedCode::Unauthenticated, words))
        })?;
        Ok(self.gate.authenticate(bearer).await.map_err(DoorError::from)?)
    }

    /// A ticket-to-be for a statement of this caller.
    fn draft(&self, caller: &Caller, metadata: &MetadataMap, sql: String) -> Result<Ticket, DoorError> {
        let purpose = metadata.get(PURPOSE_HEADER).map(|value| value.to_str().unwrap_or_default().to_owned());
        if purpose.as_ref().is_some_and(|purpose| purpose.len() > MAX_PURPOSE_BYTES) {
            return Err(DoorError::invalid("purpose is too long"));
        }
        Ok(Ticket {
            sql,
            parameters: Vec::new(),
            purpose,
            transfer: caller.transfer.clone(),
            agreement: caller.agreement.clone(),
            holder: holder_text(&caller.holder),
            columns: String::new(),
            nonce: uuid::Uuid::new_v4().simple().to_string(),
            expires_at: clock::now().plus_millis(TICKET_LIFETIME_MS),
            prepared: false,
        })
    }

    fn ask(ticket: &Ticket) -> Ask {
        let parts: [&[u8]; 4] = [b"flight\0", ticket.sql.as_bytes(), b"\0", &ticket.parameters];
        Ask {
            action: PolicyAction::Read,
            purpose: ticket.purpose.clone(),
            query_digest: HashKind::Sha256.digest(&parts),
            form: Form::Flight,
        }
    }

    /// Plans without spending, to describe the answer.
    async fn preview(&self, caller: &Caller, ticket: &Ticket) -> Result<Planned, DoorError> {
        let grant = self.gate.view(caller, &Self::ask(ticket)).await?;
        bound(self.engine.plan(&grant, &ticket.sql).await?, ticket)
    }

    fn info(&self, mut ticket: Ticket, schema: &Schema, asked: FlightDescriptor) -> Result<FlightInfo, Status> {
        ticket.columns = columns_digest(schema);
        ticket.prepared = false;
        let statement = TicketStatementQuery { statement_handle: ticket.seal(self.gate.as_ref()).into() };
        let ticket = FlightTicket::new(statement.as_any().encode_to_vec());
        Ok(FlightInfo::new()
            .try_with_schema(schema)
            .map_err(|error| internal(&error))?
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            .with_total_records(-1)
            .with_total_bytes(-1)
            .with_ordered(true)
            .with_descriptor(asked))
    }

    fn read_ticket(&self, bytes: &[u8], caller: &Caller) -> Result<Ticket, DoorError> {
        let ticket = Ticket::open(bytes, self.gate.as_ref(), caller, clock::now());
        Ok(ticket.map_err(Refused::from)?)
    }

    fn prepared(&self, bytes: &[u8], caller: &Caller) -> Result<Ticket, DoorError> {
        let ticket = self.read_ticket(bytes, caller)?;
        if ticket.prepared { Ok(ticket) } else { Err(DoorError::invalid("this is not a prepared statement")) }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, CancellationToken>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn stream(&self, caller: &Caller, ticket: Ticket) -> Result<Out<FlightData>, DoorError> {
        let grant = self.gate.open(caller, &Self::ask(&ticket)).await?;
        let warrant = Warrant::of(&grant);
        let planned = bound(self.engine.plan(&grant, &ticket.sql).await?, &ticket)?;
        if columns_digest(&planned.schema()) != ticket.columns {
            let words = "the table's columns changed since the ticket was issued; ask for a new one";
            return Err(Refused::new(RefusedCode::Invalid, words).into());
        }
        let cancelled = CancellationToken::new();
        self.running().insert(ticket.nonce.clone(), cancelled.clone());
        let registered = Registered { service: self.clone(), nonce: ticket.nonce };
        let parts = deliver(&self.engine, self.gate.clone(), grant, planned, cancelled.clone());
        Ok(guarded(parts, warrant, cancelled, registered))
    }
}

/// Takes a stream off the list of running ones when it ends, however it ends.
struct Registered {
    service: FlightSql,
    nonce: String,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.service.running().remove(&self.nonce);
    }
}

/// The messages, for as long as the warrant holds. The warrant is looked at before every message, and while waiting.
fn guarded(parts: Parts, warrant: Warrant, cancelled: CancellationToken, registered: Registered) -> Out<FlightData> {
    let end = Box::pin(warrant.clone().end());
    let state = Some((parts, warrant, end, cancelled, registered));
    Box::pin(futures::stream::unfold(state, |state| async {
        let (mut parts, warrant, mut end, cancelled, registered) = state?;
        if let Some(refused) = warrant.ended() {
            return Some((Err(DoorError::from(refused).into()), None));
        }
        let part = tokio::select! {
            biased;
            refused = &mut end => return Some((Err(DoorError::from(refused).into()), None)),
            () = cancelled.cancelled() => return Some((Err(Status::cancelled("the query was cancelled")), None)),
            part = parts.recv() => part,
        };
        match part {
            Some(Ok(Part::Message(data))) => Some((Ok(data), Some((parts, warrant, end, cancelled, registered)))),
            Some(Ok(Part::End)) => None,
            Some(Err(error)) => Some((Err(error.into()), None)),
            None => Some((Err(Status::internal("the query ended early")), None)),
        }
    }))
}

/// The token of an `Authorization` header.
pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn columns_digest(schema: &Schema) -> String {
    blake3::hash(schema.to_string().as_bytes()).to_hex().to_string()
}

fn internal(error: &dyn std::fmt::Display) -> Status {
    tracing::error!(%error, "flight answer could not be built");
    Status::internal("the answer could not be built")
}

fn bound(planned: Planned, ticket: &Ticket) -> Result<Planned, DoorError> {
    if ticket.parameters.is_empty() {
        return Ok(planned);
    }
    let unreadable = |_| QueryError::Invalid("parameters are not an Arrow stream".to_owned());
    let mut reader = StreamReader::try_new(ticket.parameters.as_slice(), None).map_err(unreadable)?;
    let row = reader.next().transpose().map_err(unreadable)?;
    let row = row.ok_or_else(|| DoorError::invalid("parameters are missing"))?;
    Ok(planned.bind(&row)?)
}

fn ipc_schema(schema: &SchemaRef) -> Result<prost::bytes::Bytes, Status> {
    let message = IpcMessage::try_from(SchemaAsIpc::new(schema, &IpcWriteOptions::default()));
    Ok(message.map_err(|error| internal(&error))?.0)
}

fn refuse_write<T>() -> Result<T, Status> {
    Err(DoorError::from(Refused::new(RefusedCode::Forbidden, READ_ONLY)).into())
}

fn one<T: Send + 'static>(item: T) -> Response<Out<T>> {
    Response::new(Box::pin(futures::stream::iter([Ok(item)])))
}

#[tonic::async_trait]
impl FlightSqlService for FlightSql {
    type FlightService = Self;

    async fn do_handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Result<Response<Out<HandshakeResponse>>, Status> {
        self.caller(request.metadata()).await?;
        let mut response = one(HandshakeResponse::default());
        if let Some(token) = request.metadata().get("authorization") {
            response.metadata_mut().insert("authorization", token.clone());
        }
        Ok(response)
    }

    async fn get_flight_info_statement(
        &self,
        query: CommandStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let ticket = self.draft(&caller, request.metadata(), query.query)?;
        let planned = self.preview(&caller, &ticket).await?;
        Ok(Response::new(self.info(ticket, &planned.schema(), request.into_inner())?))
    }

    async fn get_flight_info_prepared_statement(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let prepared = self.prepared(&query.prepared_statement_handle, &caller)?;
        let fresh = self.draft(&caller, request.metadata(), prepared.sql)?;
        let purpose = fresh.purpose.or(prepared.purpose);
        let ticket = Ticket { parameters: prepared.parameters, purpose, sql: fresh.sql, ..fresh };
        let planned = self.preview(&caller, &ticket).await?;
        Ok(Response::new(self.info(ticket, &planned.schema(), request.into_inner())?))
    }

    async fn do_get_statement(
        &self,
        ticket: TicketStatementQuery,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let ticket = self.read_ticket(&ticket.statement_handle, &caller)?;
        if ticket.prepared {
            return Err(DoorError::invalid("ask GetFlightInfo for a ticket first").into());
        }
        Ok(Response::new(self.stream(&caller, ticket).await?))
    }

    async fn do_action_create_prepared_statement(
        &self,
        query: ActionCreatePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<ActionCreatePreparedStatementResult, Status> {
        if query.transaction_id.is_some() {
            return refuse_write();
        }
        let caller = self.caller(request.metadata()).await?;
        let ticket = Ticket { prepared: true, ..self.draft(&caller, request.metadata(), query.query)? };
        let planned = self.preview(&caller, &ticket).await?;
        Ok(ActionCreatePreparedStatementResult {
            prepared_statement_handle: ticket.seal(self.gate.as_ref()).into(),
            dataset_schema: ipc_schema(&planned.schema())?,
            parameter_schema: ipc_schema(planned.parameters())?,
        })
    }

    async fn do_put_prepared_statement_query(
        &self,
        query: CommandPreparedStatementQuery,
        request: Request<PeekableFlightDataStream>,
    ) -> Result<DoPutPreparedStatementResult, Status> {
        let caller = self.caller(request.metadata()).await?;
        let ticket = self.prepared(&query.prepared_statement_handle, &caller)?;
        let data = request.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        let mut rows = FlightRecordBatchStream::new_from_flight_data(data);
        let mut bound: Option<RecordBatch> = None;
        while let Some(batch) = rows.next().await {
            let batch = batch.map_err(|error| DoorError::invalid(format!("parameters: {error}")))?;
            if bound.is_some() || batch.num_rows() != 1 || batch.get_array_memory_size() > MAX_PARAMETER_BYTES {
                return Err(DoorError::invalid("parameters must be one row of at most 64 KiB").into());
            }
            bound = Some(batch);
        }
        let parameters = bound.map_or(Ok(Vec::new()), |row| {
            let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
            writer.write(&row)?;
            writer.into_inner()
        });
        let parameters = parameters.map_err(|error| DoorError::invalid(format!("parameters: {error}")))?;
        if parameters.len() > MAX_PARAMETER_BYTES {
            return Err(DoorError::invalid("parameters must be one row of at most 64 KiB").into());
        }
        let ticket = Ticket { parameters, ..ticket };
        Ok(DoPutPreparedStatementResult { prepared_statement_handle: Some(ticket.seal(self.gate.as_ref()).into()) })
    }

    async fn do_action_close_prepared_statement(
        &self,
        _: ActionClosePreparedStatementRequest,
        request: Request<Action>,
    ) -> Result<(), Status> {
        // A handle holds its statement itself; there is nothing to free.
        self.caller(request.metadata()).await.map(drop)
    }

    async fn list_custom_actions(&self) -> Option<Vec<Result<ActionType, Status>>> {
        let description = "Ends the stream of a FlightInfo's ticket.".to_owned();
        Some(vec![Ok(ActionType { r#type: "CancelFlightInfo".to_owned(), description })])
    }

    async fn do_action_fallback(
        &self,
        request: Request<Action>,
    ) -> Result<Response<<Self as FlightService>::DoActionStream>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let action = request.into_inner();
        if action.r#type != "CancelFlightInfo" {
            return Err(Status::unimplemented("no such action"));
        }
        let asked = CancelFlightInfoRequest::decode(action.body)
            .map_err(|_| DoorError::invalid("CancelFlightInfo needs a FlightInfo"))?;
        let mut status = CancelStatus::NotCancellable;
        for endpoint in asked.info.iter().flat_map(|info| &info.endpoint) {
            let ticket = endpoint.ticket.as_ref().map(|ticket| statement_handle(&ticket.ticket)).transpose()?;
            let ticket = self.read_ticket(&ticket.unwrap_or_default(), &caller)?;
            if let Some(running) = self.running().get(&ticket.nonce) {
                running.cancel();
                status = CancelStatus::Cancelled;
            }
        }
        let mut result = CancelFlightInfoResult::default();
        result.set_status(status);
        Ok(one(arrow_flight::Result { body: result.encode_to_vec().into() }))
    }

    async fn do_action_cancel_query(
        &self,
        _: ActionCancelQueryRequest,
        request: Request<Action>,
    ) -> Result<ActionCancelQueryResult, Status> {
        self.caller(request.metadata()).await?;
        Err(Status::unimplemented("use CancelFlightInfo"))
    }

    async fn get_flight_info_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.describe(describe::Catalogs(query), request).await
    }

    async fn get_flight_info_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.describe(describe::Schemas(query), request).await
    }

    async fn get_flight_info_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.describe(describe::Tables(query), request).await
    }

    async fn get_flight_info_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.describe(describe::TableTypes(query), request).await
    }

    async fn get_flight_info_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.describe(describe::Info(query), request).await
    }

    async fn do_get_catalogs(
        &self,
        query: CommandGetCatalogs,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.tell(describe::Catalogs(query), request).await
    }

    async fn do_get_schemas(
        &self,
        query: CommandGetDbSchemas,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.tell(describe::Schemas(query), request).await
    }

    async fn do_get_tables(
        &self,
        query: CommandGetTables,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.tell(describe::Tables(query), request).await
    }

    async fn do_get_table_types(
        &self,
        query: CommandGetTableTypes,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.tell(describe::TableTypes(query), request).await
    }

    async fn do_get_sql_info(
        &self,
        query: CommandGetSqlInfo,
        request: Request<FlightTicket>,
    ) -> Result<Response<<Self as FlightService>::DoGetStream>, Status> {
        self.tell(describe::Info(query), request).await
    }

    async fn do_put_statement_update(
        &self,
        _: CommandStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_write()
    }

    async fn do_put_statement_ingest(
        &self,
        _: CommandStatementIngest,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_write()
    }

    async fn do_put_prepared_statement_update(
        &self,
        _: CommandPreparedStatementUpdate,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_write()
    }

    async fn do_put_substrait_plan(
        &self,
        _: CommandStatementSubstraitPlan,
        _: Request<PeekableFlightDataStream>,
    ) -> Result<i64, Status> {
        refuse_write()
    }

    async fn do_action_begin_transaction(
        &self,
        _: ActionBeginTransactionRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginTransactionResult, Status> {
        refuse_write()
    }

    async fn do_action_end_transaction(
        &self,
        _: ActionEndTransactionRequest,
        _: Request<Action>,
    ) -> Result<(), Status> {
        refuse_write()
    }

    async fn do_action_begin_savepoint(
        &self,
        _: ActionBeginSavepointRequest,
        _: Request<Action>,
    ) -> Result<ActionBeginSavepointResult, Status> {
        refuse_write()
    }

    async fn do_action_end_savepoint(&self, _: ActionEndSavepointRequest, _: Request<Action>) -> Result<(), Status> {
        refuse_write()
    }

    async fn register_sql_info(&self, _: i32, _: &SqlInfo) {}
}

/// The statement handle inside a Flight ticket.
fn statement_handle(ticket: &[u8]) -> Result<Vec<u8>, DoorError> {
    let malformed = || DoorError::invalid("ticket is malformed");
    let any = arrow_flight::sql::Any::decode(ticket).map_err(|_| malformed())?;
    let statement: Option<TicketStatementQuery> = any.unpack().map_err(|_| malformed())?;
    Ok(statement.ok_or_else(malformed)?.statement_handle.to_vec())
}
