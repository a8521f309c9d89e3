//! The tables of TPC-H at scale factor 1 as Parquet files, made once a machine; and its 22 queries.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use arrow::record_batch::RecordBatchReader;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};
use tpchgen_arrow::{
    CustomerArrow, LineItemArrow, NationArrow, OrderArrow, PartArrow, PartSuppArrow, RegionArrow, SupplierArrow,
};

use crate::machine;

/// About 6,000,000 lines in `lineitem`, 260 MB of Parquet in all.
const SCALE_FACTOR: f64 = 1.0;

/// Rows of a row group: `lineitem` has 48, so that two cores share it evenly.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// The eight tables with the column that numbers their rows.
pub const TABLES: [(&str, &str); 8] = [
    ("customer", "c_custkey"),
    ("lineitem", "l_orderkey"),
    ("nation", "n_nationkey"),
    ("orders", "o_orderkey"),
    ("part", "p_partkey"),
    ("partsupp", "ps_partkey"),
    ("region", "r_regionkey"),
    ("supplier", "s_suppkey"),
];

/// The queries with the specification's validation parameters, written for this repository.
pub const QUERIES: [&str; 22] = [
    include_str!("../../queries/q01.sql"),
    include_str!("../../queries/q02.sql"),
    include_str!("../../queries/q03.sql"),
    include_str!("../../queries/q04.sql"),
    include_str!("../../queries/q05.sql"),
    include_str!("../../queries/q06.sql"),
    include_str!("../../queries/q07.sql"),
    include_str!("../../queries/q08.sql"),
    include_str!("../../queries/q09.sql"),
    include_str!("../../queries/q10.sql"),
    include_str!("../../queries/q11.sql"),
    include_str!("../../queries/q12.sql"),
    include_str!("../../queries/q13.sql"),
    include_str!("../../queries/q14.sql"),
    include_str!("../../queries/q15.sql"),
    include_str!("../../queries/q16.sql"),
    include_str!("../../queries/q17.sql"),
    include_str!("../../queries/q18.sql"),
    include_str!("../../queries/q19.sql"),
    include_str!("../../queries/q20.sql"),
    include_str!("../../queries/q21.sql"),
    include_str!("../../queries/q22.sql"),
];

/// Where the tables lie.
pub struct Tables {
    dir: PathBuf,
}

impl Tables {
    /// The file of a table.
    pub fn file(&self, table: &str) -> PathBuf {
        self.dir.join(format!("{table}.parquet"))
    }
}

/// The tables, made if they are not there. A name with the row group size keeps older files apart.
pub fn tables() -> Result<Tables> {
    let dir = machine::data_dir()?.join(format!("tpch-sf{SCALE_FACTOR}-rg{ROW_GROUP_ROWS}"));
    std::fs::create_dir_all(&dir)?;
    let tables = Tables { dir };
    for (table, _) in TABLES {
        let file = tables.file(table);
        if !file.is_file() {
            eprintln!("writing {}", file.display());
            write(table, &file).with_context(|| format!("cannot make `{}`", file.display()))?;
        }
    }
    Ok(tables)
}

fn write(table: &str, file: &Path) -> Result<()> {
    match table {
        "customer" => save(CustomerArrow::new(CustomerGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "lineitem" => save(LineItemArrow::new(LineItemGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "nation" => save(NationArrow::new(NationGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "orders" => save(OrderArrow::new(OrderGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "part" => save(PartArrow::new(PartGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "partsupp" => save(PartSuppArrow::new(PartSuppGenerator::new(SCALE_FACTOR, 1, 1)), file),
        "region" => save(RegionArrow::new(RegionGenerator::new(SCALE_FACTOR, 1, 1)), file),
        _ => save(SupplierArrow::new(SupplierGenerator::new(SCALE_FACTOR, 1, 1)), file),
    }
}

/// A file appears under its name only when it is whole. Arrow's own schema is left out, as other writers do, so that
/// each reader chooses how it holds text.
fn save(batches: impl RecordBatchReader, file: &Path) -> Result<()> {
    let part = file.with_extension("part");
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_compression(Compression::SNAPPY)
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(&part)?, batches.schema(), options)?;
    for batch in batches {
        writer.write(&batch?)?;
    }
    writer.close()?;
    Ok(std::fs::rename(part, file)?)
}
