//! A peer that is down for long, and many messages that wait for it.

use serde_json::json;
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Pair, constraint, eventually};

/// Negotiations that wait at once.
const WAITING: usize = 200;

#[tokio::test]
async fn what_waits_for_a_silent_peer_goes_out_once_it_is_heard_of() {
    let pair = Pair::start().await;
    pair.offer("asked", "manual", &[constraint("purpose", "isA", "research")]).await;
    let mut asked = Vec::new();
    for _ in 0..WAITING {
        asked.push(pair.negotiation("asked").await);
    }
    let open = eventually("the provider has all of them", || async {
        let rows = pair.holder.items("negotiations").await;
        let here = rows.iter().filter(|row| row["state"] == "REQUESTED").count();
        (here == WAITING).then_some(rows)
    });
    let open = open.await;
    pair.consumer.kill();
    for row in &open {
        pair.holder.post(&format!("negotiations/{}/approve", text(&row["id"])), &json!({})).await.expect_ok();
    }
    // Everything waits for the consumer; the provider goes down too, and comes back to them.
    pair.holder.restart().await;
    let status = pair.holder.get("status").await.expect_ok();
    assert_eq!(status["ready"], true, "{status}");
    assert!(pair.holder.items("negotiations").await.iter().all(|row| row["waiting_for"] == "peer"));
    pair.consumer.spawn();
    pair.consumer.ready().await;
    // The consumer has nothing to send by itself; a new wish of its owner is what the provider hears of it.
    pair.negotiation("asked").await;
    let done = eventually("all are concluded", || async {
        let rows = pair.consumer.items("negotiations").await;
        let done = rows.iter().filter(|row| row["state"] == "FINALIZED").count();
        (done == WAITING).then_some(())
    });
    done.await;
    let contracts = pair.holder.items("contracts").await;
    assert_eq!(contracts.len(), WAITING, "each once");
}
