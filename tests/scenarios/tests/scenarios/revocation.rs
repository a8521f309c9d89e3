//! Revocation reaches a running stream.

use std::time::{Duration, Instant};

use futures::StreamExt;
use shuyu_scenarios::{Pair, constraint};

use crate::sql;

/// More rows than anybody reads in a test.
const ENDLESS: &str = "SELECT a.* FROM weather a CROSS JOIN weather b CROSS JOIN weather c";
/// The aim is one second; a loaded machine may take longer, a stream that is not told at all lasts for minutes.
const BOUND: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_running_stream_ends_and_says_why() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "FlightSql").await;
    let mut client = sql::connect(&access, Some("research")).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.expect("the contract allows it");
    let mut stream = client.do_get(sql::ticket(&info)).await.expect("the contract allows it");
    for _ in 0..20 {
        stream.next().await.expect("it has no end").expect("the contract is in force");
    }
    let revoked = async {
        pair.holder.cli_ok(&["contract", "revoke", &contract, "--reason", "licence withdrawn"]).await;
        Instant::now()
    };
    let ended = async {
        loop {
            match stream.next().await.expect("it does not end as if all were sent") {
                Ok(_) => {}
                Err(error) => return (Instant::now(), error.to_string()),
            }
        }
    };
    let (revoked_at, (ended_at, reason)) = tokio::join!(revoked, ended);
    let took = ended_at.saturating_duration_since(revoked_at);
    println!("the stream ended {took:?} after `contract revoke` had returned: {reason}");
    assert!(reason.contains("licence withdrawn") || reason.contains("revoked"), "{reason}");
    assert!(took < BOUND, "{took:?}");
}

#[tokio::test]
async fn a_slow_reader_is_cut_off_too() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "FlightSql").await;
    let mut client = sql::connect(&access, Some("research")).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.expect("the contract allows it");
    let mut stream = client.do_get(sql::ticket(&info)).await.expect("the contract allows it");
    stream.next().await.expect("it has no end").expect("the contract is in force");
    // Nobody reads while the contract is revoked; what is on its way already is bounded by the window.
    pair.holder.cli_ok(&["contract", "revoke", &contract, "--reason", "licence withdrawn"]).await;
    let (start, mut rows) = (Instant::now(), 0);
    let reason = loop {
        match stream.next().await.expect("it does not end as if all were sent") {
            Ok(batch) => rows += batch.num_rows(),
            Err(error) => break error.to_string(),
        }
    };
    println!("{rows} rows were on their way; the end came {:?} after reading went on: {reason}", start.elapsed());
    assert!(reason.contains("licence withdrawn") || reason.contains("revoked"), "{reason}");
    assert!(start.elapsed() < BOUND, "{:?}", start.elapsed());
}
