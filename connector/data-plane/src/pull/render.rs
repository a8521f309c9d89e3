//! Query results as files.

use std::{io::Write, time::Duration};

use datafusion::arrow::{
    array::RecordBatch, csv, datatypes::SchemaRef, ipc::writer::StreamWriter, json::LineDelimitedWriter,
};
use parquet::{arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties};

use crate::{
    door::DoorError,
    gate::{Form, Refused, RefusedCode},
    query::Planned,
    spool::Writer,
};

/// Runs a query into a file; gives back the file and its number of rows.
pub(super) async fn render(
    planned: Planned,
    form: Form,
    writer: Writer,
    limit: Duration,
) -> Result<(Writer, u64), DoorError> {
    let mut running = planned.start().await?;
    let mut file = Rendering::begin(form, &running.schema, writer)?;
    let (mut time_left, mut rows) = (limit, 0);
    while let Some(batch) = running.next(&mut time_left, limit).await {
        let batch = batch?;
        rows += batch.num_rows() as u64;
        file.add(&batch)?;
    }
    Ok((file.end()?, rows))
}

enum Rendering {
    Parquet(Box<ArrowWriter<Writer>>),
    Csv(Box<csv::Writer<Writer>>),
    Arrow(Box<StreamWriter<Writer>>),
    Json(Box<LineDelimitedWriter<Writer>>),
}

impl Rendering {
    fn begin(form: Form, schema: &SchemaRef, writer: Writer) -> Result<Self, DoorError> {
        Ok(match form {
            Form::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::LZ4_RAW)
                    .set_created_by("shuyu".to_owned())
                    .build();
                let writer = ArrowWriter::try_new(writer, schema.clone(), Some(properties));
                Self::Parquet(Box::new(writer.map_err(|error| cannot(&error))?))
            }
            Form::Csv => {
                let mut writer = csv::Writer::new(writer);
                // An answer without rows still has a header line.
                writer.write(&RecordBatch::new_empty(schema.clone())).map_err(|error| cannot(&error))?;
                Self::Csv(Box::new(writer))
            }
            Form::Arrow | Form::Flight => {
                let writer = StreamWriter::try_new(writer, schema).map_err(|error| cannot(&error))?;
                Self::Arrow(Box::new(writer))
            }
            Form::Json => Self::Json(Box::new(LineDelimitedWriter::new(writer))),
        })
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), DoorError> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(|error| match error {
                ParquetError::NYI(words) => DoorError::invalid(words),
                _ => cannot(&error),
            }),
            Self::Csv(writer) => writer.write(batch).map_err(|error| cannot(&error)),
            Self::Arrow(writer) => writer.write(batch).map_err(|error| cannot(&error)),
            Self::Json(writer) => writer.write(batch).map_err(|error| cannot(&error)),
        }
    }

    fn end(self) -> Result<Writer, DoorError> {
        let mut writer = match self {
            Self::Parquet(writer) => writer.into_inner().map_err(|error| cannot(&error))?,
            Self::Csv(writer) => writer.into_inner(),
            Self::Arrow(mut writer) => {
                writer.finish().map_err(|error| cannot(&error))?;
                writer.into_inner().map_err(|error| cannot(&error))?
            }
            Self::Json(mut writer) => {
                writer.finish().map_err(|error| cannot(&error))?;
                writer.into_inner()
            }
        };
        writer.flush().map_err(|error| cannot(&error))?;
        match writer.overrun() {
            Some(error) => Err(DoorError::invalid(error)),
            None => Ok(writer),
        }
    }
}

fn cannot(error: &(dyn std::error::Error + 'static)) -> DoorError {
    tracing::warn!(error, "result could not be written as a file");
    let words =
        "the result cannot be written in this format: a type it does not have, or too large, or the disk is full";
    Refused::new(RefusedCode::Invalid, words).into()
}
