//! Rows of an answer, written as they come.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;

use crate::failure::{Failure, Outcome};
use crate::print;

/// Rows shown as a table; more are counted, and other forms show them all.
const MAX_TABLE_ROWS: usize = 1000;

/// Forms of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// Columns for people, the first 1000 rows
    Table,
    /// A JSON array of objects
    Json,
    /// CSV with a header line
    Csv,
    /// An Arrow IPC file
    Arrow,
}

/// Writes batches in one form to a file or to stdout.
pub struct RowWriter {
    writer: Writer,
    /// Rows written so far.
    pub rows: u64,
}

enum Writer {
    Table { schema: SchemaRef, shown: Vec<Vec<String>>, target: Box<dyn Write + Send> },
    Json(arrow::json::ArrayWriter<Box<dyn Write + Send>>),
    Csv(arrow::csv::Writer<Box<dyn Write + Send>>),
    Arrow(arrow::ipc::writer::FileWriter<Box<dyn Write + Send>>),
}

impl RowWriter {
    /// Opens `file`, or stdout if there is none.
    ///
    /// # Errors
    /// Exit code 1 if the file cannot be written, 64 for Arrow on a terminal.
    pub fn open(form: Form, file: Option<&Path>, schema: &SchemaRef) -> Outcome<Self> {
        let target: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(io::BufWriter::new(create(path)?)),
            None if form == Form::Arrow && io::IsTerminal::is_terminal(&io::stdout()) => {
                return Err(Failure::usage("an Arrow file would garble the terminal").hint("add --file FILE"));
            }
            None => Box::new(io::BufWriter::new(io::stdout())),
        };
        let writer = match form {
            Form::Table => Writer::Table { schema: SchemaRef::clone(schema), shown: Vec::new(), target },
            Form::Json => Writer::Json(arrow::json::ArrayWriter::new(target)),
            Form::Csv => {
                let mut writer = arrow::csv::WriterBuilder::new().with_header(true).build(target);
                // An answer without rows has columns too.
                writer.write(&RecordBatch::new_empty(SchemaRef::clone(schema))).map_err(failed)?;
                Writer::Csv(writer)
            }
            Form::Arrow => Writer::Arrow(arrow::ipc::writer::FileWriter::try_new(target, schema).map_err(failed)?),
        };
        Ok(Self { writer, rows: 0 })
    }

    /// Writes one batch.
    ///
    /// # Errors
    /// Exit code 1 if it cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Outcome {
        self.rows += batch.num_rows() as u64;
        match &mut self.writer {
            Writer::Table { shown, .. } => show(batch, shown),
            Writer::Json(writer) => writer.write(batch),
            Writer::Csv(writer) => writer.write(batch),
            Writer::Arrow(writer) => writer.write(batch),
        }
        .map_err(failed)
    }

    /// Writes what ends the form. Without it a table shows nothing, and a file is visibly cut off.
    ///
    /// # Errors
    /// Exit code 1 if it cannot be written.
    pub fn finish(self) -> Outcome {
        let flushed = match self.writer {
            Writer::Table { schema, shown, mut target } => {
                let heads = schema.fields().iter().map(|field| print::clean(field.name())).collect();
                let hidden = self.rows.saturating_sub(shown.len() as u64);
                let text = print::grid_text(heads, shown);
                if 0 < hidden {
                    print::talk(format_args!("{hidden} more rows; --format csv shows them all"));
                }
                target.write_all(text.as_bytes()).and_then(|()| target.write_all(b"\n")).and_then(|()| target.flush())
            }
            Writer::Json(mut writer) => {
                writer.finish().map_err(failed)?;
                let mut target = writer.into_inner();
                target.write_all(b"\n").and_then(|()| target.flush())
            }
            Writer::Csv(writer) => writer.into_inner().flush(),
            Writer::Arrow(mut writer) => {
                writer.finish().map_err(failed)?;
                writer.get_mut().flush()
            }
        };
        flushed.map_err(|error| failed(ArrowError::from(error)))
    }
}

fn create(path: &Path) -> Outcome<std::fs::File> {
    std::fs::File::create(path)
        .map_err(|error| Failure::failed(format_args!("could not write `{}`: {error}", path.display())))
}

/// A reader that went away (`| head`) ends the process quietly, as other tools do.
fn failed(error: ArrowError) -> Failure {
    let is_closed = if let ArrowError::IoError(_, cause) = &error {
        cause.kind() == io::ErrorKind::BrokenPipe
    } else {
        matches!(&error, ArrowError::CsvError(text) if text.contains("Broken pipe"))
    };
    if is_closed {
        std::process::exit(0);
    }
    Failure::failed(format_args!("could not write the rows: {error}"))
}

fn show(batch: &RecordBatch, shown: &mut Vec<Vec<String>>) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let columns = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &options))
        .collect::<Result<Vec<_>, _>>()?;
    let room = MAX_TABLE_ROWS.saturating_sub(shown.len()).min(batch.num_rows());
    for row in 0..room {
        let cells = columns.iter().map(|column| column.value(row).try_to_string().map(|text| print::clean(&text)));
        shown.push(cells.collect::<Result<_, _>>()?);
    }
    Ok(())
}

/// Where rows go: the options of the commands that write them.
#[derive(Debug, Clone, clap::Args)]
pub struct Target {
    /// Form of the rows; by default that of --output
    #[arg(long, value_enum)]
    pub format: Option<Form>,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn written(form: Form, batches: usize) -> String {
        let schema = Arc::new(Schema::new(vec![
            Field::new("n", DataType::Int64, true),
            Field::new("word", DataType::Utf8, true),
        ]));
        let batch = RecordBatch::try_new(
            Arc::clone(&schema),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("a\u{1b}[2J"), Some("数域")])),
            ],
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out");
        let mut writer = RowWriter::open(form, Some(&file), &schema).unwrap();
        (0..batches).for_each(|_| writer.write(&batch).unwrap());
        writer.finish().unwrap();
        std::fs::read_to_string(&file).unwrap()
    }

    #[test]
    fn each_form_is_complete() {
        assert_eq!(written(Form::Table, 1), "n  word\n1  a\u{fffd}[2J\n   数域\n");
        assert_eq!(written(Form::Csv, 1), "n,word\n1,a\u{1b}[2J\n,数域\n");
        assert_eq!(written(Form::Csv, 0), "n,word\n");
        assert_eq!(written(Form::Json, 0), "[]\n");
        assert_eq!(written(Form::Json, 1), "[{\"n\":1,\"word\":\"a\\u001b[2J\"},{\"word\":\"数域\"}]\n");
    }
}
