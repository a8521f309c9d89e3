//! What a node bears: ten thousand live negotiations over a restart and a silent peer, and a catalogue of ten thousand offers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};

use crate::Effort;
use crate::figure::{Aim, Report};
use crate::measure::{median, quantile};
use crate::space::{Space, text};

/// Requests of this client under way at once.
const IN_FLIGHT: usize = 64;
/// Longest wait for everything to be concluded.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often the consumer is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// How long a node with a silent peer is watched.
const WATCHED: Duration = Duration::from_secs(20);

/// Measures and reports.
pub async fn measure(effort: Effort, report: &mut Report) -> Result<()> {
    recovery(effort, report).await.context("recovery")?;
    catalogue(effort, report).await.context("catalogue")?;
    report.note(
        "scale: kill -9 and start again; a live negotiation waits for a word of a person (`approve: manual`), a message under \
         way waits for a consumer that is down; until `GET /v1/status` is answered, which is after every live process was \
         read",
    );
    Ok(())
}

async fn recovery(effort: Effort, report: &mut Report) -> Result<()> {
    let count = effort.pick(10_000, 300);
    let mut space = Space::start_with(2 * count).await?;
    let policy = space.holder.get("policies/weather").await?.get("policy").cloned().context("no policy")?;
    let offer = json!({ "id": "asked", "asset": "weather", "policy": "weather", "approve": "manual" });
    space.holder.post("offers", &offer).await?;
    let wish = json!({ "provider": space.holder.did, "dataset": "weather", "offer": "asked", "policy": policy });
    let begun = Instant::now();
    let ask = |_| async { text(&space.consumer.post("negotiations", &wish).await?, "id") };
    let asked: Vec<String> = stream::iter(0..count).map(ask).buffer_unordered(IN_FLIGHT).try_collect().await?;
    ensure!(asked.len() == count);
    wait_for(&space, "holder", "REQUESTED", count).await?;
    report.add(5, format!("{count} negotiations opened in"), begun.elapsed().as_secs_f64(), "s", Aim::None);
    report.add(14, "memory of the holder with them", space.holder.resident_mb()?, "MB", Aim::None);

    let mut starts = Vec::new();
    for _ in 0..effort.pick(7, 2) {
        space.holder.kill()?;
        starts.push(space.holder.start().await? / 1e3);
    }
    report.add(
        14,
        format!("holder killed, start to ready with {count} live negotiations"),
        median(&starts),
        "s",
        Aim::None,
    );
    report.add(14, "memory after that", space.holder.resident_mb()?, "MB", Aim::None);

    // Everything is answered while the consumer is down.
    space.consumer.kill()?;
    let begun = Instant::now();
    let waiting = all(&space, "holder").await?;
    let approve = |row: &Value| {
        let path = text(row, "id").map(|id| format!("negotiations/{id}/approve"));
        let holder = &space.holder;
        async move { holder.post(&path?, &json!({})).await }
    };
    stream::iter(&waiting).map(approve).buffer_unordered(IN_FLIGHT).try_collect::<Vec<_>>().await?;
    report.add(
        5,
        format!("{count} agreements stated, the consumer down, in"),
        begun.elapsed().as_secs_f64(),
        "s",
        Aim::None,
    );
    let mut starts = Vec::new();
    for _ in 0..effort.pick(7, 2) {
        space.holder.kill()?;
        starts.push(space.holder.start().await? / 1e3);
    }
    let name = format!("holder killed, start to ready with {count} messages under way to a silent peer");
    report.add(14, name, median(&starts), "s", Aim::None);
    let cpu = space.holder.cpu_seconds()?;
    tokio::time::sleep(WATCHED).await;
    let share = (space.holder.cpu_seconds()? - cpu) / WATCHED.as_secs_f64() * 100.0;
    report.add(14, format!("CPU of the holder in the {} s after that", WATCHED.as_secs()), share, "%", Aim::None);
    report.add(14, "memory then", space.holder.resident_mb()?, "MB", Aim::None);

    space.consumer.start().await?;
    // Whatever it says, the holder hears of it.
    space.ask().await?;
    let begun = Instant::now();
    wait_for(&space, "consumer", "FINALIZED", count).await?;
    report.add(5, "consumer back, until all are finalized", begun.elapsed().as_secs_f64(), "s", Aim::None);
    Ok(())
}

/// Every negotiation of one side that was begun for the offer that waits for a person.
async fn all(space: &Space, side: &str) -> Result<Vec<Value>> {
    let node = if side == "holder" { &space.holder } else { &space.consumer };
    let (mut rows, mut after) = (Vec::new(), String::new());
    loop {
        let page = node.get(&format!("negotiations?limit=1000{after}")).await?;
        rows.extend(page.get("items").and_then(Value::as_array).context("no items")?.iter().cloned());
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={}", next.replace(':', "%3A")),
            None => return Ok(rows),
        }
    }
}

async fn wait_for(space: &Space, side: &str, state: &str, count: usize) -> Result<()> {
    let begun = Instant::now();
    loop {
        let there = all(space, side).await?.iter().filter(|row| row.get("state").is_some_and(|is| is == state)).count();
        if count <= there {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "{there} of {count} are {state} at the {side}");
        tokio::time::sleep(ASK_EVERY).await;
    }
}

async fn catalogue(effort: Effort, report: &mut Report) -> Result<()> {
    let sizes = [100, effort.pick(10_000, 400)];
    let mut space = Space::start().await?;
    let mut made = 0;
    let mut figures = Vec::new();
    for size in sizes {
        let begun = Instant::now();
        let add = |number: usize| {
            let holder = &space.holder;
            let file = space.table.display().to_string();
            async move {
                let id = format!("t{number:05}");
                let asset = json!({
                    "id": id, "title": format!("Table {number}"), "table": id, "location": file, "format": "csv",
                    "keywords": [format!("group{}", number % 50)],
                });
                holder.post("assets", &asset).await?;
                let offer = json!({ "id": id, "asset": id, "policy": "weather", "approve": "auto" });
                holder.post("offers", &offer).await.map(|_| ())
            }
        };
        stream::iter(made..size).map(add).buffer_unordered(8).try_collect::<Vec<()>>().await?;
        report.add(10, format!("{} offers published in", size - made), begun.elapsed().as_secs_f64(), "s", Aim::None);
        made = size;
        figures.push(asks(&space, size, effort).await?);
    }
    let [small, large] = figures.as_slice() else { return Ok(()) };
    for (at, name) in ASKS.into_iter().enumerate() {
        let of = |figures: &[Vec<f64>]| figures.get(at).map(|found| (median(found), quantile(found, 0.99)));
        let (Some((small, _)), Some((p50, p99))) = (of(small), of(large)) else { continue };
        report.add(10, format!("catalogue of {made}: {name}, p50"), p50, "ms", Aim::None);
        report.add(10, format!("catalogue of {made}: {name}, p99"), p99, "ms", Aim::None);
        report.add(10, format!("{name}, beside a catalogue of {}", sizes[0]), p50 / small, "x", Aim::None);
    }
    let begun = Instant::now();
    let found = walk(&space).await?;
    ensure!(found == made + 1, "{found} datasets were listed of {}", made + 1);
    report.add(10, format!("all {found} datasets, page by page"), begun.elapsed().as_secs_f64(), "s", Aim::None);
    let mut starts = Vec::new();
    for _ in 0..effort.pick(7, 2) {
        space.holder.kill()?;
        starts.push(space.holder.start().await? / 1e3);
    }
    report.add(14, format!("start to ready with {made} offers"), median(&starts), "s", Aim::None);
    report.add(14, "memory then", space.holder.resident_mb()?, "MB", Aim::None);
    Ok(())
}

/// What is asked, in the order of [`asks`].
const ASKS: [&str; 3] = ["first page of 100", "a page of 100 from the middle", "one dataset by its id"];

/// Milliseconds of each kind of request, interleaved.
async fn asks(space: &Space, size: usize, effort: Effort) -> Result<Vec<Vec<f64>>> {
    let provider = &space.holder.did;
    let mut after = Value::Null;
    for _ in 0..size / 200 {
        let page =
            space.consumer.post("catalog", &json!({ "provider": provider, "limit": 100, "after": after })).await?;
        after = page.get("next").cloned().unwrap_or_default();
    }
    let id = format!("t{:05}", size / 2);
    let filter = json!([{ "property": "id", "operator": "=", "value": id }]);
    let bodies = [
        json!({ "provider": provider, "limit": 100 }),
        json!({ "provider": provider, "limit": 100, "after": after }),
        json!({ "provider": provider, "limit": 100, "filter": filter }),
    ];
    let mut found = vec![Vec::new(); bodies.len()];
    for _ in 0..effort.pick(200, 10) {
        for (body, found) in bodies.iter().zip(&mut found) {
            let begun = Instant::now();
            space.consumer.post("catalog", body).await?;
            found.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    Ok(found)
}

/// Reads the catalogue to its end.
async fn walk(space: &Space) -> Result<usize> {
    let (mut count, mut after) = (0, Value::Null);
    loop {
        let page = space
            .consumer
            .post("catalog", &json!({ "provider": space.holder.did, "limit": 100, "after": after }))
            .await?;
        count += page.get("items").and_then(Value::as_array).context("no items")?.len();
        match page.get("next") {
            Some(next) if !next.is_null() => after = next.clone(),
            Some(_) | None => return Ok(count),
        }
    }
}
