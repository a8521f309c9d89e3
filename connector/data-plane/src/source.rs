//! The files of a table: which they are, in which order, with which columns.

use std::{path::Path, sync::Arc};

use datafusion::{
    arrow::{
        datatypes::{DataType, Field, Schema, SchemaRef},
        ipc::{reader::StreamReader, writer::StreamWriter},
    },
    catalog::Session,
    common::{DFSchema, DataFusionError, config::CsvOptions},
    datasource::{
        file_format::{FileFormat, csv::CsvFormat, json::JsonFormat, parquet::ParquetFormat},
        listing::{FileRange, ListingTableUrl, PartitionedFile},
        object_store::ObjectStoreUrl,
        physical_plan::{FileGroup, FileScanConfigBuilder},
        table_schema::TableSchema,
    },
    physical_expr::{
        PhysicalExpr,
        expressions::{Column, TryCastExpr},
    },
    physical_plan::{ExecutionPlan, projection::ProjectionExec},
};
use futures::TryStreamExt;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::gate::{Format, TableSource};

/// Most files of one table. Listing more than this is a mistake of configuration.
pub const MAX_FILES: usize = 10_000;

/// Bytes of a Parquet file that make one unit of parallel work. A row group belongs to the unit it starts in.
const UNIT_BYTES: u64 = 16 << 20;

/// Magic, an empty footer, its length, magic again.
const MIN_PARQUET_BYTES: u64 = 12;

/// Rows read to guess the columns of CSV and JSON.
const MAX_INFER_ROWS: usize = 10_000;

/// Why a table's files could not be opened. For the holder's log; consumers learn only that it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The location holds no file of the format.
    #[error("`{0}` holds no file")]
    NoFile(url::Url),
    /// More than [`MAX_FILES`].
    #[error("`{0}` holds more than {MAX_FILES} files")]
    TooManyFiles(url::Url),
    /// The location has a scheme without a registered store, or `file:` with a host.
    #[error("no store is registered for `{0}`")]
    UnknownStore(url::Url),
    /// The store or the decoder failed.
    #[error("could not read `{location}`")]
    Read {
        /// The table's location.
        location: url::Url,
        /// The cause.
        source: Box<DataFusionError>,
    },
}

/// The files of one table, listed once for one query.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    source: TableSource,
    store_url: ObjectStoreUrl,
    files: Vec<ObjectMeta>,
    /// Columns as read, with view types where that is faster.
    pub(crate) schema: SchemaRef,
}

impl Files {
    /// Lists the files in the order of their paths and settles the columns.
    pub(crate) async fn open(source: &TableSource, state: &dyn Session) -> Result<Self, SourceError> {
        let failed = |error| SourceError::Read { location: source.location.clone(), source: Box::new(error) };
        if source.location.scheme() == "file" && source.location.has_host() {
            return Err(SourceError::UnknownStore(source.location.clone()));
        }
        let url = ListingTableUrl::try_new(source.location.clone(), None).map_err(failed)?;
        let store_url = url.object_store();
        let store = state
            .runtime_env()
            .object_store(&store_url)
            .map_err(|_| SourceError::UnknownStore(source.location.clone()))?;
        let files = list(&url, store.as_ref(), source).await?;
        // Not even a footer fits: a file that was cut off, and not a table without rows.
        if source.format == Format::Parquet && files.iter().any(|file| file.size < MIN_PARQUET_BYTES) {
            return Err(SourceError::NoFile(source.location.clone()));
        }
        let schema = match &source.schema {
            Some(schema) => schema.clone(),
            None => format(source.format).infer_schema(state, &store, &files).await.map_err(failed)?,
        };
        let schema = Arc::new(reading_schema(&schema, source.format));
        Ok(Self { source: source.clone(), store_url, files, schema })
    }

    /// A plan whose n-th partition is the n-th stretch of the table, giving the columns at `columns`.
    pub(crate) async fn scan(
        &self,
        columns: &[usize],
        state: &dyn Session,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let file_schema = match self.source.format {
            Format::Csv => Arc::new(as_text(&self.schema)),
            Format::Parquet | Format::NdJson => self.schema.clone(),
        };
        let format = format(self.source.format);
        let file_source = format.file_source(TableSchema::from(file_schema));
        let config = FileScanConfigBuilder::new(self.store_url.clone(), file_source)
            .with_file_groups(self.units())
            .with_projection_indices(Some(columns.to_vec()))?
            // Otherwise a partition may take over another's files, and rows change places with the timing.
            .with_preserve_order(true)
            .build();
        let scan = format.create_physical_plan(state, config).await?;
        match self.source.format {
            Format::Csv => typed_csv(scan, &self.schema.project(columns)?),
            Format::Parquet | Format::NdJson => Ok(scan),
        }
    }

    /// Stretches in their fixed order, each a group of its own.
    fn units(&self) -> Vec<FileGroup> {
        let stretch = match self.source.format {
            Format::Parquet => UNIT_BYTES,
            Format::Csv | Format::NdJson => u64::MAX,
        };
        let mut units = Vec::new();
        for file in &self.files {
            let mut start = 0;
            while start < file.size {
                let end = start.saturating_add(stretch).min(file.size);
                let mut part = PartitionedFile::new_from_meta(file.clone());
                if stretch < file.size {
                    part.range = Some(FileRange { start: start.cast_signed(), end: end.cast_signed() });
                }
                units.push(FileGroup::new(vec![part]));
                start = end;
            }
        }
        units
    }
}

async fn list(
    url: &ListingTableUrl,
    store: &dyn ObjectStore,
    source: &TableSource,
) -> Result<Vec<ObjectMeta>, SourceError> {
    let failed = |error: object_store::Error| SourceError::Read {
        location: source.location.clone(),
        source: Box::new(error.into()),
    };
    if !url.is_collection() {
        return Ok(vec![store.head(url.prefix()).await.map_err(failed)?]);
    }
    let mut files = Vec::new();
    let mut listing = store.list(Some(url.prefix()));
    while let Some(file) = listing.try_next().await.map_err(failed)? {
        if belongs(file.location.as_ref(), source.format) && file.size > 0 {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(SourceError::TooManyFiles(source.location.clone()));
        }
    }
    if files.is_empty() {
        return Err(SourceError::NoFile(source.location.clone()));
    }
    files.sort_by(|left, right| left.location.cmp(&right.location));
    Ok(files)
}

/// Whether a file of a directory is part of the table: by its extension, and not hidden.
fn belongs(path: &str, format: Format) -> bool {
    let path = Path::new(path);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let known: &[&str] = match format {
        Format::Parquet => &["parquet"],
        Format::Csv => &["csv"],
        Format::NdJson => &["json", "ndjson", "jsonl"],
    };
    !name.starts_with(['.', '_']) && known.contains(&extension)
}

fn format(format: Format) -> Arc<dyn FileFormat> {
    match format {
        Format::Parquet => Arc::new(ParquetFormat::default()),
        Format::Csv => {
            let options =
                CsvOptions { has_header: Some(true), newlines_in_values: Some(true), ..CsvOptions::default() };
            Arc::new(
                CsvFormat::default()
                    .with_options(options)
                    .with_schema_infer_max_rec(MAX_INFER_ROWS)
                    .with_truncated_rows(true),
            )
        }
        Format::NdJson => Arc::new(JsonFormat::default().with_schema_infer_max_rec(MAX_INFER_ROWS)),
    }
}

/// Types the readers are asked for: dictionaries become their values, and Parquet's text becomes views.
fn reading_schema(schema: &Schema, format: Format) -> Schema {
    let fields = schema.fields().iter().map(|field| {
        let mut kind = field.data_type();
        while let DataType::Dictionary(_, values) = kind {
            kind = values;
        }
        let kind = match (kind, format) {
            (DataType::Utf8 | DataType::LargeUtf8, Format::Parquet) => DataType::Utf8View,
            (DataType::Binary | DataType::LargeBinary, Format::Parquet) => DataType::BinaryView,
            (kind, _) => kind.clone(),
        };
        Field::new(field.name(), kind, field.is_nullable() || format != Format::Parquet)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

fn as_text(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect::<Vec<_>>())
}

/// CSV is read as text and cast here, where a bad cell gives NULL: it must not fail queries over other rows.
fn typed_csv(scan: Arc<dyn ExecutionPlan>, schema: &Schema) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    let columns = schema.fields().iter().enumerate().map(|(index, field)| {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), index));
        let typed = match field.data_type() {
            DataType::Utf8 => column,
            kind => Arc::new(TryCastExpr::new(column, kind.clone())),
        };
        (typed, field.name().clone())
    });
    Ok(Arc::new(ProjectionExec::try_new(columns, scan)?))
}

/// The columns of a table's files, for the holder to pin when publishing.
///
/// # Errors
/// [`SourceError`] as when the table is read.
pub(crate) async fn infer(source: &TableSource, state: &dyn Session) -> Result<SchemaRef, SourceError> {
    let bare = TableSource { schema: None, ..source.clone() };
    Ok(Arc::new(crate::edge::edge_schema(&Files::open(&bare, state).await?.schema)))
}

/// A schema as bytes (Arrow IPC), to be kept beside an asset.
///
/// # Errors
/// What the IPC writer reports.
pub fn schema_to_bytes(schema: &Schema) -> Result<Vec<u8>, DataFusionError> {
    let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
    writer.finish()?;
    Ok(writer.into_inner()?)
}

/// Reads what [`schema_to_bytes`] wrote.
///
/// # Errors
/// If the bytes are no Arrow IPC stream.
pub fn schema_from_bytes(bytes: &[u8]) -> Result<SchemaRef, DataFusionError> {
    Ok(StreamReader::try_new(bytes, None)?.schema())
}

/// The schema for planning expressions over these columns, unqualified.
pub(crate) fn plain_schema(schema: &Schema) -> Result<DFSchema, DataFusionError> {
    DFSchema::try_from(schema.clone())
}
