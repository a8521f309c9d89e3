//! Figure 2: a policy that shows a tenth of the rows, against the same condition written by hand.

use anyhow::Result;
use datafusion::prelude::SessionContext;
use shuyu_data_plane::remote::Provider;

use super::holder::{CLUSTERED, CLUSTERED_ROWS, SCATTERED, SCATTERED_ROWS, Space, ungoverned};
use super::rounds;
use super::tpch::Tables;
use crate::Effort;
use crate::figure::{Aim, Report};
use crate::measure::versus;

/// Measures and reports.
pub async fn measure(space: &Space, tables: &Tables, effort: Effort, report: &mut Report) -> Result<()> {
    let raw = ungoverned(tables).await?;
    let open = space.connect("lineitem").await?;
    let cases = [(SCATTERED, SCATTERED_ROWS, "scattered over the file"), (CLUSTERED, CLUSTERED_ROWS, "lying together")];
    for (contract, condition, place) in cases {
        let governed = space.connect(contract).await?;
        let (bare, by_hand) = (sql(""), sql(&format!("WHERE {condition}")));
        let name = format!("policy showing 10 % of rows, {place}, over Flight TLS / WHERE in raw DataFusion");
        let pair =
            versus(rounds(effort), async || ask(&governed, &bare).await, async || run(&raw, &by_hand).await).await?;
        report.add(2, name, pair.wall, "x wall", Aim::AtMost(1.15));
        report.add(2, "the same in CPU-seconds of both ends", pair.cpu, "x CPU", Aim::None);
        let pair =
            versus(rounds(effort), async || ask(&governed, &bare).await, async || ask(&open, &by_hand).await).await?;
        let name = format!("the same policy / the consumer's own WHERE under an open contract, {place}");
        report.add(2, name, pair.wall, "x wall", Aim::None);
    }
    report.note(format!(
        "figure 2: sums by return flag and status over lineitem; policies `{SCATTERED_ROWS}` and `{CLUSTERED_ROWS}`; \
         the holder's plan has one partition (answers repeat to the last bit), raw DataFusion one a core",
    ));
    Ok(())
}

fn sql(condition: &str) -> String {
    format!(
        "SELECT l_returnflag, l_linestatus, sum(l_quantity) AS quantity, sum(l_extendedprice) AS price, count(*) AS n \
         FROM lineitem {condition} GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus"
    )
}

async fn ask(provider: &Provider, sql: &str) -> Result<()> {
    provider.query(sql).await?.collect().await?;
    Ok(())
}

async fn run(session: &SessionContext, sql: &str) -> Result<()> {
    session.sql(sql).await?.collect().await?;
    Ok(())
}
