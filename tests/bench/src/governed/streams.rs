//! Figure 3: a whole table as a stream, governed and with receipt, against a Flight server that does nothing but send.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::record_batch::RecordBatch;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext};
use futures::TryStreamExt;
use shuyu_data_plane::remote::Provider;

use super::holder::{Space, path};
use super::open_flight::{OpenFlight, Source};
use super::rounds;
use super::tpch::Tables;
use crate::Effort;
use crate::figure::{Aim, Report};
use crate::machine;
use crate::measure::versus;

/// 1,500,000 rows of numbers, dates and text.
const TABLE: &str = "orders";

/// Measures and reports.
pub async fn measure(space: &Space, tables: &Tables, effort: Effort, report: &mut Report) -> Result<()> {
    let governed = space.connect(TABLE).await?;
    let batches = governed.query(&sql()).await?.collect().await?;
    let megabytes = sent_mb(&governed).context("no receipt came")?;
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    let batches = Arc::new(batches);

    let file = OpenFlight::start(Source::Table(plain(tables).await?, sql()), &space.tls).await?;
    let memory = OpenFlight::start(Source::Batches(batches), &space.tls).await?;
    ensure!(file.read().await? == rows && memory.read().await? == rows, "the servers send different rows");

    let ours = async || drain(&governed, rows).await;
    let pair = versus(rounds(effort), ours, async || file.read().await.map(drop)).await?;
    let name = "governed DoGet with hash and receipt / bare arrow-flight, both from Parquet over TLS";
    report.add(3, name, 1.0 / pair.wall, "x MB/s", Aim::AtLeast(0.8));
    report.add(3, "the same in CPU-seconds of both ends, ours by theirs", pair.cpu, "x CPU", Aim::None);
    report.add(3, "governed DoGet from Parquet", megabytes / pair.ours_s, "MB/s", Aim::None);
    report.add(3, "bare arrow-flight from Parquet", megabytes / pair.theirs_s, "MB/s", Aim::None);

    let pair = versus(rounds(effort), ours, async || memory.read().await.map(drop)).await?;
    let name = "governed DoGet from Parquet / bare arrow-flight from memory, both over TLS";
    report.add(3, name, 1.0 / pair.wall, "x MB/s", Aim::None);
    report.add(3, "the same in CPU-seconds of both ends, ours by theirs", pair.cpu, "x CPU", Aim::None);
    report.add(3, "bare arrow-flight from memory", megabytes / pair.theirs_s, "MB/s", Aim::None);
    report.note(format!(
        "figure 3: `SELECT * FROM {TABLE}`, {rows} rows, {megabytes:.0} MB of Arrow IPC; batches are decoded by the \
         client, ours are hashed (BLAKE3) at both ends; same HTTP/2 windows, same certificate; the bare server has no \
         policy, ticket, count, hash or receipt",
    ));
    Ok(())
}

fn sql() -> String {
    format!("SELECT * FROM {TABLE}")
}

fn sent_mb(provider: &Provider) -> Option<f64> {
    provider.receipts().last().map(|end| end.bytes as f64 / 1e6)
}

async fn drain(provider: &Provider, rows: usize) -> Result<()> {
    let mut stream = provider.query(&sql()).await?;
    let mut seen = 0;
    while let Some(batch) = stream.try_next().await? {
        seen += batch.num_rows();
    }
    ensure!(seen == rows, "{seen} rows came instead of {rows}");
    Ok(())
}

/// The table as a bare server's author would read it: text as plain strings, which is what travels.
async fn plain(tables: &Tables) -> Result<SessionContext> {
    let mut config = SessionConfig::new().with_target_partitions(machine::cores());
    config.options_mut().execution.parquet.schema_force_view_types = false;
    let session = SessionContext::new_with_config(config);
    session.register_parquet(TABLE, path(&tables.file(TABLE))?, ParquetReadOptions::default()).await?;
    Ok(session)
}
