//! The types that leave the node: plain Arrow, which every client reads.
//!
//! View and dictionary layouts are DataFusion's own business; a view array would also drag along the buffers of
//! rows that were filtered out.

use std::sync::Arc;

use datafusion::arrow::{
    array::{RecordBatch, RecordBatchOptions},
    compute::cast,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
};

/// The schema as clients see it.
pub(crate) fn edge_schema(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| edge_field(field)).collect::<Vec<_>>())
}

fn edge_field(field: &Field) -> Field {
    Field::new(field.name(), edge_type(field.data_type()), field.is_nullable())
}

fn edge_type(kind: &DataType) -> DataType {
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => edge_type(values),
        DataType::List(item) | DataType::ListView(item) => DataType::List(Arc::new(edge_field(item))),
        DataType::LargeList(item) | DataType::LargeListView(item) => DataType::LargeList(Arc::new(edge_field(item))),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(Arc::new(edge_field(item)), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| edge_field(field)).collect()),
        other => other.clone(),
    }
}

/// The batch with the types of `schema`.
pub(crate) fn to_edge(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(values, field)| {
        if values.data_type() == field.data_type() { Ok(values.clone()) } else { cast(values, field.data_type()) }
    });
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(schema.clone(), columns.collect::<Result<_, _>>()?, &options)
}
