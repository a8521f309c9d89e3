//! A peer that is down for long, and many messages that wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use axum::http::StatusCode;
use serde_json::json;
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Pair, Rogue, constraint, eventually};

use crate::hostile::{holder, still_serves};

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
    let since = Instant::now();
    pair.negotiation("asked").await;
    let done = eventually("all are concluded", || async {
        let rows = pair.consumer.items("negotiations").await;
        let done = rows.iter().filter(|row| row["state"] == "FINALIZED").count();
        (done == WAITING).then_some(())
    });
    done.await;
    println!("{WAITING} waiting messages went out and were concluded within {:?}", since.elapsed());
    let contracts = pair.holder.items("contracts").await;
    assert_eq!(contracts.len(), WAITING, "each once");
}

/// A party whose server answers each delivery as told: the path's last part, and how often it was asked before.
async fn answering(answer: impl Fn(usize) -> Reply + Clone + Send + Sync + 'static) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let root = format!("http://localhost:{}", listener.local_addr().expect("a bound socket has an address").port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let router = axum::Router::new().fallback(move || {
        let reply = answer(count.fetch_add(1, Ordering::SeqCst));
        async move {
            match reply {
                Reply::Never => std::future::pending().await,
                Reply::Now(status, body) => (StatusCode::from_u16(status).expect("a status"), body),
            }
        }
    });
    tokio::spawn(async move { axum::serve(listener, router).await });
    (root, asked)
}

#[derive(Clone, Copy)]
enum Reply {
    Never,
    Now(u16, &'static str),
}

#[tokio::test]
async fn peers_that_hang_fail_or_talk_nonsense_stop_nobody_else() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let open = |root: String| {
        let (rogue, node) = (&rogue, &node);
        async move {
            let message = rogue.request_message(node, "weather", "open", &root).await;
            text(&rogue.send(node, "/negotiations/request", &message).await.expect(201)["providerPid"])
        }
    };
    let (hangs, asked) = answering(|_| Reply::Never).await;
    let hanging = open(hangs).await;
    eventually("the hanging peer is asked", || async { (0 < asked.load(Ordering::SeqCst)).then_some(()) }).await;
    let (fails, _) =
        answering(|n| if n < 2 { Reply::Now(500, "oops") } else { Reply::Now(200, "<html>fine</html>") }).await;
    let failing = open(fails).await;
    // Not of the protocol, and so no verdict: somebody in between may have said it.
    let (denies, _) = answering(|n| if n < 2 { Reply::Now(404, "<html>no</html>") } else { Reply::Now(200, "") }).await;
    let denying = open(denies).await;
    // A 200 says that it arrived, whatever else is said (HTTPS binding: "The response body is not specified").
    for pid in [&failing, &denying] {
        let agreed = eventually("the message arrives in the end", || async {
            let row = node.get(&format!("negotiations/{pid}")).await.expect_ok();
            (row["state"] == "AGREED").then_some(row)
        });
        assert_eq!(agreed.await["waiting_for"], "peer");
    }
    let row = node.get(&format!("negotiations/{hanging}")).await.expect_ok();
    assert_eq!((&row["state"], &row["waiting_for"]), (&json!("REQUESTED"), &json!("peer")), "{row}");
    // It is not held up by any of them, nor is its end.
    still_serves(&node, &rogue).await;
    node.post(&format!("negotiations/{failing}/refuse"), &json!({ "reason": "enough" })).await.expect_ok();
    node.restart().await;
    still_serves(&node, &rogue).await;
}
