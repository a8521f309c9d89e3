//! Figures 1, 2, 3 and 7: what governing costs, against the same work without it.

mod decision;
mod gate;
mod holder;
mod open_flight;
mod queries;
mod rows;
mod streams;
mod tpch;

use anyhow::Result;

use crate::Effort;
use crate::figure::Report;

/// Rounds of every pair.
fn rounds(effort: Effort) -> usize {
    effort.pick(7, 1)
}

/// Measures and reports.
pub async fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    decision::measure(effort, report)?;
    let tables = tpch::tables()?;
    let space = holder::Space::start(&tables).await?;
    streams::measure(&space, &tables, effort, report).await?;
    rows::measure(&space, &tables, effort, report).await?;
    queries::measure(&space, &tables, effort, report).await?;
    report.note(
        "governed: the holder's engine, gate and Flight SQL server and the consumer run in this process and speak TLS \
         over loopback; permits come from the compiled policy, receipts and tickets are signed (Ed25519), counters are \
         kept in memory (what durable ones cost is in figures 5 and 6)",
    );
    Ok(())
}
