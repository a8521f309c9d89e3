//! Figures 5, 6 and 14: two real nodes on the loopback of this machine, durable on both ends, plain http.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use shuyu_data_plane::remote::Provider;
use tempfile::TempDir;

use crate::Effort;
use crate::figure::{Aim, Report};
use crate::machine;
use crate::measure::{median, quantile};
use crate::node::Node;
use crate::space::Space;

/// Negotiations under way at once, in the two kinds of rounds.
const IN_FLIGHT: [usize; 2] = [16, 64];

/// Measures and reports.
pub async fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    start_and_memory(effort, report).await?;
    let space = Space::start().await?;
    for _ in 0..effort.pick(20, 5) {
        negotiate(&space).await.context("warm-up")?;
    }
    one_at_a_time(&space, effort, report).await?;
    let agreements = many_at_once(&space, effort, report).await?;
    first_byte(&space, &agreements, effort, report).await?;
    report.add(14, "memory of the holder after all of it", space.holder.resident_mb()?, "MB", Aim::None);
    report.add(14, "memory of the consumer after all of it", space.consumer.resident_mb()?, "MB", Aim::None);
    let syncs = machine::sync_ms(&machine::data_dir()?, effort.pick(200, 30))?;
    report.add(5, "for comparison: 300 bytes made durable here, p50", median(&syncs), "ms", Aim::None);
    report.add(5, "for comparison: 300 bytes made durable here, p99", quantile(&syncs, 0.99), "ms", Aim::None);
    report.note(
        "exchange: `shuyu run` twice on loopback over plain http; a negotiation is POST /v1/negotiations (the consumer \
         reads the offer from the catalogue, then request, agree, verify, finalize) to the answer `FINALIZED` of the \
         consumer's management API; the client is a third process",
    );
    Ok(())
}

async fn start_and_memory(effort: Effort, report: &mut Report) -> Result<()> {
    let dir = TempDir::new_in(machine::data_dir()?)?;
    let mut node = Node::init(dir.path(), "holder")?;
    let (mut starts, mut memories) = (Vec::new(), Vec::new());
    for _ in 0..effort.pick(9, 3) {
        starts.push(node.start().await? / 1e3);
        memories.push(node.resident_mb()?);
        node.stop()?;
    }
    report.add(14, "node start to ready", median(&starts), "s", Aim::AtMost(0.5));
    report.add(14, "idle memory of a fresh node", median(&memories), "MB", Aim::AtMost(80.0));
    Ok(())
}

/// One negotiation: what it took to be accepted by our own node, and in all, in ms; and the agreement.
async fn negotiate(space: &Space) -> Result<([f64; 2], String)> {
    let begun = Instant::now();
    let id = space.ask().await?;
    let asked_ms = begun.elapsed().as_secs_f64() * 1e3;
    let agreement = space.agreed(&id).await?;
    Ok(([asked_ms, begun.elapsed().as_secs_f64() * 1e3], agreement))
}

async fn one_at_a_time(space: &Space, effort: Effort, report: &mut Report) -> Result<()> {
    let (mut asked, mut whole) = (Vec::new(), Vec::new());
    let count = effort.pick(100, 15);
    let cpu = space.cpu_seconds()?;
    for _ in 0..count {
        let ([asked_ms, whole_ms], _) = negotiate(space).await?;
        asked.push(asked_ms);
        whole.push(whole_ms);
    }
    let cpu_ms = (space.cpu_seconds()? - cpu) * 1e3 / f64::from(count);
    report.add(5, "negotiation, one at a time, p50", median(&whole), "ms", Aim::AtMost(50.0));
    report.add(5, "negotiation, one at a time, p99", quantile(&whole, 0.99), "ms", Aim::None);
    report.add(5, "of which until POST is answered, p50", median(&asked), "ms", Aim::None);
    report.add(5, "CPU of both nodes per negotiation, one at a time", cpu_ms, "ms", Aim::None);
    Ok(())
}

/// Rounds of 16 and of 64 in flight in turns; the agreements.
async fn many_at_once(space: &Space, effort: Effort, report: &mut Report) -> Result<Vec<String>> {
    let mut agreements = Vec::new();
    let mut found = IN_FLIGHT.map(|_| (Vec::new(), Vec::new(), Vec::new()));
    for _ in 0..effort.pick(7, 3) {
        for (in_flight, (rates, latencies, cpus)) in IN_FLIGHT.into_iter().zip(&mut found) {
            let count = in_flight * effort.pick(4, 1);
            let (begun, cpu) = (Instant::now(), space.cpu_seconds()?);
            let done: Vec<_> = stream::iter(0..count)
                .map(|_| negotiate(space))
                .buffer_unordered(in_flight)
                .try_collect()
                .await
                .with_context(|| format!("{in_flight} in flight"))?;
            rates.push(count as f64 / begun.elapsed().as_secs_f64());
            cpus.push((space.cpu_seconds()? - cpu) * 1e3 / count as f64);
            for ([_, whole_ms], agreement) in done {
                latencies.push(whole_ms);
                agreements.push(agreement);
            }
        }
    }
    for (in_flight, (rates, latencies, cpus)) in IN_FLIGHT.into_iter().zip(&found) {
        // With 64 under way, 200 a second means 320 ms each: there the rate is the figure.
        let aim = if in_flight == 16 { Aim::AtMost(50.0) } else { Aim::None };
        report.add(5, format!("negotiation, {in_flight} in flight, p50"), median(latencies), "ms", aim);
        report.add(5, format!("negotiation, {in_flight} in flight, p99"), quantile(latencies, 0.99), "ms", Aim::None);
        report.add(5, format!("negotiations, {in_flight} in flight"), median(rates), "/s", Aim::AtLeast(200.0));
        report.add(
            5,
            format!("CPU of both nodes per negotiation, {in_flight} in flight"),
            median(cpus),
            "ms",
            Aim::None,
        );
    }
    Ok(agreements)
}

/// From a contract to the first batch of its table, step by step.
async fn first_byte(space: &Space, agreements: &[String], effort: Effort, report: &mut Report) -> Result<()> {
    let mut steps: [Vec<f64>; 5] = Default::default();
    for agreement in agreements.iter().take(effort.pick(200, 20)) {
        let begun = Instant::now();
        let transfer = space.transfer(agreement).await?;
        let started = begun.elapsed();
        let access = space.access(&transfer).await?;
        let opened = begun.elapsed();
        let provider = Provider::connect(&access.endpoint, &access.bearer, None, None).await?;
        let connected = begun.elapsed();
        let mut rows = provider.query("SELECT * FROM weather").await?;
        rows.next().await.context("the table is empty")??;
        let read = begun.elapsed();
        let parts = [read, started, opened - started, connected - opened, read - connected];
        steps.iter_mut().zip(parts).for_each(|(step, part)| step.push(part.as_secs_f64() * 1e3));
    }
    let [whole, started, opened, connected, read] = &steps;
    report.add(6, "contract to first byte, p99", quantile(whole, 0.99), "ms", Aim::AtMost(100.0));
    report.add(6, "contract to first byte, p50", median(whole), "ms", Aim::None);
    report.add(6, "of which transfer asked for and started, p50", median(started), "ms", Aim::None);
    report.add(6, "of which access, p50", median(opened), "ms", Aim::None);
    report.add(6, "of which connecting, p50", median(connected), "ms", Aim::None);
    report.add(6, "of which ticket, query and first batch, p50", median(read), "ms", Aim::None);
    Ok(())
}
