//! Figure 1: the 22 queries of TPC-H.
//!
//! A contract is over one table and a holder answers a whole query under one contract, so two ways are measured, both
//! over Flight SQL with TLS: the queries of one table (1 and 6) at the holder; and all 22 as `shuyu query` runs them
//! under several contracts, the eight governed tables joined at the consumer. The second ships columns that the first
//! would keep at the holder; it is the dearer of the two, and the figure.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use arrow::record_batch::RecordBatch;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;

use super::holder::{Space, ungoverned};
use super::rounds;
use super::tpch::{QUERIES, Tables};
use crate::Effort;
use crate::figure::{Aim, Report};
use crate::measure::{Versus, geometric_mean, versus};

/// Longest run of one query; beyond it something is stuck.
const PATIENCE: Duration = Duration::from_secs(300);

/// Queries of `lineitem` alone, by number.
const ONE_TABLE: [usize; 2] = [1, 6];

/// What the mask of the contract over `customer` changes in an answer.
const MASKED: &str = "c_phone";

/// Measures and reports.
pub async fn measure(space: &Space, tables: &Tables, effort: Effort, report: &mut Report) -> Result<()> {
    let (raw, joined) = (ungoverned(tables).await?, space.joined().await?);
    let mut found = Vec::new();
    let mut different = Vec::new();
    for (index, sql) in QUERIES.into_iter().enumerate() {
        let number = index + 1;
        let (ours, theirs) = (answer(&joined, sql).await, answer(&raw, sql).await);
        let (ours, theirs) = (ours.with_context(|| format!("query {number}"))?, theirs?);
        if comparable(&ours)? != comparable(&theirs)? {
            different.push(number);
        }
        let pair = versus(
            rounds(effort),
            async || answer(&joined, sql).await.map(drop),
            async || answer(&raw, sql).await.map(drop),
        );
        let pair = pair.await.with_context(|| format!("query {number}"))?;
        eprintln!(
            "query {number}: {:.2} x wall, {:.2} x CPU, {:.3} s over {:.3} s",
            pair.wall, pair.cpu, pair.ours_s, pair.theirs_s
        );
        found.push((number, pair));
    }
    let (walls, cpus): (Vec<f64>, Vec<f64>) = found.iter().map(|(_, pair)| (pair.wall, pair.cpu)).unzip();
    let name = "TPC-H SF1, 22 queries, eight governed tables over Flight TLS joined at the consumer / raw DataFusion";
    report.add(1, name, geometric_mean(&walls), "x wall", Aim::AtMost(1.3));
    report.add(1, "the same in CPU-seconds of both ends", geometric_mean(&cpus), "x CPU", Aim::None);
    at_the_holder(space, &raw, effort, report).await?;
    report.note(words(&found));
    report.note(format!(
        "figure 1: the policy of each contract passes every row (`key >= 0`); `customer` has the mask {MASKED}=show-first-4; \
         answers (without {MASKED}) differ in queries {different:?} of 22",
    ));
    Ok(())
}

async fn at_the_holder(space: &Space, raw: &SessionContext, effort: Effort, report: &mut Report) -> Result<()> {
    let provider = space.connect("lineitem").await?;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for number in ONE_TABLE {
        let sql = QUERIES.get(number - 1).copied().context("no such query")?;
        let ours = async || provider.query(sql).await?.collect().await.map(drop).map_err(anyhow::Error::from);
        let pair = versus(rounds(effort), ours, async || answer(raw, sql).await.map(drop)).await?;
        report.add(
            1,
            format!("query {number} answered by the holder / raw DataFusion"),
            pair.wall,
            "x wall",
            Aim::None,
        );
        walls.push(pair.wall);
        cpus.push(pair.cpu);
    }
    let name = "queries 1 and 6 answered by the holder over Flight TLS / raw DataFusion";
    report.add(1, name, geometric_mean(&walls), "x wall", Aim::AtMost(1.3));
    report.add(1, "the same in CPU-seconds of both ends", geometric_mean(&cpus), "x CPU", Aim::None);
    Ok(())
}

async fn answer(session: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    match tokio::time::timeout(PATIENCE, async { session.sql(sql).await?.collect().await }).await {
        Ok(batches) => Ok(batches?),
        Err(_) => bail!("no answer within {} s", PATIENCE.as_secs()),
    }
}

/// The rows as sorted text, whatever the layout of strings, without the masked column.
fn comparable(batches: &[RecordBatch]) -> Result<Vec<String>> {
    let mut open = Vec::new();
    for batch in batches {
        let fields = batch.schema();
        let columns = fields.fields().iter().enumerate().filter(|(_, field)| field.name() != MASKED);
        open.push(batch.project(&columns.map(|(index, _)| index).collect::<Vec<_>>())?);
    }
    let text = pretty_format_batches(&open)?.to_string();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    Ok(lines)
}

fn words(found: &[(usize, Versus)]) -> String {
    let each = found.iter().map(|(number, pair)| format!("{number}: {:.2} ({:.2} s)", pair.wall, pair.theirs_s));
    format!("figure 1, query: ratio of wall time (raw DataFusion's): {}", each.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_one_the_door_lets_in() {
        let nothing = arrow::datatypes::Schema::empty();
        for (index, sql) in QUERIES.into_iter().enumerate() {
            assert!(shuyu_data_plane::admit(sql, &nothing).is_ok(), "query {}", index + 1);
        }
    }
}
