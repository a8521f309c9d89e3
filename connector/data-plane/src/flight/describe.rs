//! Catalogue commands: what a caller can see, and nothing more.

use std::sync::LazyLock;

use arrow_flight::{
    FlightData, FlightDescriptor, FlightEndpoint, FlightInfo, Ticket as FlightTicket,
    encode::FlightDataEncoderBuilder,
    sql::{
        CommandGetCatalogs, CommandGetDbSchemas, CommandGetSqlInfo, CommandGetTableTypes, CommandGetTables,
        ProstMessageExt, SqlInfo, SqlSupportedTransaction,
        metadata::{SqlInfoData, SqlInfoDataBuilder},
    },
};
use datafusion::arrow::{
    array::RecordBatch,
    datatypes::{Schema, SchemaRef},
    error::ArrowError,
};
use futures::TryStreamExt;
use prost::Message;
use tonic::{Request, Response, Status};

use super::{FlightSql, Out, internal};
use crate::query::{CATALOG, SCHEMA};

pub(super) struct Catalogs(pub(super) CommandGetCatalogs);
pub(super) struct Schemas(pub(super) CommandGetDbSchemas);
pub(super) struct Tables(pub(super) CommandGetTables);
pub(super) struct TableTypes(pub(super) CommandGetTableTypes);
pub(super) struct Info(pub(super) CommandGetSqlInfo);

/// A command answered with one batch about the caller's only table.
pub(super) trait Describe: Send {
    fn command(&self) -> Vec<u8>;
    fn schema(&self) -> SchemaRef;
    fn answer(self, table: &str, columns: &Schema) -> Result<RecordBatch, FlightAnswerError>;
}

type FlightAnswerError = arrow_flight::error::FlightError;

impl Describe for Catalogs {
    fn command(&self) -> Vec<u8> {
        self.0.as_any().encode_to_vec()
    }

    fn schema(&self) -> SchemaRef {
        self.0.into_builder().schema()
    }

    fn answer(self, _: &str, _: &Schema) -> Result<RecordBatch, FlightAnswerError> {
        let mut builder = self.0.into_builder();
        builder.append(CATALOG);
        builder.build()
    }
}

impl Describe for Schemas {
    fn command(&self) -> Vec<u8> {
        self.0.as_any().encode_to_vec()
    }

    fn schema(&self) -> SchemaRef {
        self.0.clone().into_builder().schema()
    }

    fn answer(self, _: &str, _: &Schema) -> Result<RecordBatch, FlightAnswerError> {
        let mut builder = self.0.into_builder();
        builder.append(CATALOG, SCHEMA);
        builder.build()
    }
}

impl Describe for Tables {
    fn command(&self) -> Vec<u8> {
        self.0.as_any().encode_to_vec()
    }

    fn schema(&self) -> SchemaRef {
        self.0.clone().into_builder().schema()
    }

    fn answer(self, table: &str, columns: &Schema) -> Result<RecordBatch, FlightAnswerError> {
        let mut builder = self.0.into_builder();
        builder.append(CATALOG, SCHEMA, table, "TABLE", columns)?;
        builder.build()
    }
}

impl Describe for TableTypes {
    fn command(&self) -> Vec<u8> {
        self.0.as_any().encode_to_vec()
    }

    fn schema(&self) -> SchemaRef {
        self.0.into_builder().schema()
    }

    fn answer(self, _: &str, _: &Schema) -> Result<RecordBatch, FlightAnswerError> {
        let mut builder = self.0.into_builder();
        builder.append("TABLE");
        builder.build()
    }
}

static SERVER: LazyLock<Result<SqlInfoData, ArrowError>> = LazyLock::new(|| {
    let mut info = SqlInfoDataBuilder::new();
    info.append(SqlInfo::FlightSqlServerName, "Shuyu governed data plane");
    info.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(SqlInfo::FlightSqlServerArrowVersion, "59.3");
    info.append(SqlInfo::FlightSqlServerReadOnly, true);
    info.append(SqlInfo::FlightSqlServerSql, true);
    info.append(SqlInfo::FlightSqlServerSubstrait, false);
    info.append(SqlInfo::FlightSqlServerCancel, true);
    info.append(SqlInfo::FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    info.append(SqlInfo::SqlDdlCatalog, false);
    info.append(SqlInfo::SqlDdlSchema, false);
    info.append(SqlInfo::SqlDdlTable, false);
    info.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
});

fn server() -> Result<&'static SqlInfoData, FlightAnswerError> {
    SERVER.as_ref().map_err(|error| FlightAnswerError::protocol(error.to_string()))
}

impl Describe for Info {
    fn command(&self) -> Vec<u8> {
        self.0.as_any().encode_to_vec()
    }

    fn schema(&self) -> SchemaRef {
        std::sync::Arc::new(SqlInfoDataBuilder::schema().clone())
    }

    fn answer(self, _: &str, _: &Schema) -> Result<RecordBatch, FlightAnswerError> {
        self.0.into_builder(server()?).build()
    }
}

impl FlightSql {
    pub(super) async fn describe(
        &self,
        what: impl Describe,
        request: Request<FlightDescriptor>,
    ) -> Result<Response<FlightInfo>, Status> {
        self.caller(request.metadata()).await?;
        let ticket = FlightTicket::new(what.command());
        let info = FlightInfo::new()
            .try_with_schema(&what.schema())
            .map_err(|error| internal(&error))?
            .with_endpoint(FlightEndpoint::new().with_ticket(ticket))
            .with_descriptor(request.into_inner());
        Ok(Response::new(info))
    }

    pub(super) async fn tell(
        &self,
        what: impl Describe,
        request: Request<FlightTicket>,
    ) -> Result<Response<Out<FlightData>>, Status> {
        let caller = self.caller(request.metadata()).await?;
        let draft = self.draft(&caller, request.metadata(), String::new())?;
        let grant = self.gate.view(&caller, &Self::ask(&draft)).await.map_err(crate::door::DoorError::from)?;
        let columns = self.engine.visible_schema(&grant).await.map_err(crate::door::DoorError::from)?;
        let schema = what.schema();
        let batch = what.answer(&grant.table.name, &columns).map_err(|error| internal(&error))?;
        let stream = FlightDataEncoderBuilder::new()
            .with_schema(schema)
            .build(futures::stream::iter([Ok(batch)]))
            .map_err(Status::from);
        Ok(Response::new(Box::pin(stream)))
    }
}
