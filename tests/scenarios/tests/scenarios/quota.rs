//! A count of five is five, whoever asks how often, and whatever dies meanwhile.

use futures::future::join_all;
use serde_json::Value;
use shuyu_scenarios::space::{Access, ROWS};
use shuyu_scenarios::{Answer, Pair, constraint, eventually};

use crate::sql;

const CLIENTS: usize = 64;
const COUNT: u64 = 5;

/// Each client asks for something else, so that each download is a use of its own.
async fn storm(access: &Access, first: usize) -> Vec<Answer> {
    let ask =
        |n: usize| async move { access.pull(&format!("format=csv&sql=SELECT+{n}+AS+n+FROM+weather+LIMIT+1")).await };
    join_all((first..first + CLIENTS).map(ask)).await
}

fn served(answers: &[Answer]) -> u64 {
    let served: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 200).collect();
    assert!(served.iter().all(|answer| answer.text.starts_with('n')), "{served:?}");
    served.len() as u64
}

#[tokio::test]
async fn a_count_holds_against_many_clients_at_once() {
    let pair = Pair::start().await;
    pair.offer("five", "auto", &[constraint("count", "lteq", COUNT)]).await;
    let contract = pair.contract("five").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let answers = storm(&access, 0).await;
    assert_eq!(served(&answers), COUNT);
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert_eq!(refused.len(), CLIENTS - 5);
    for answer in refused {
        assert!([403, 429].contains(&answer.status), "{answer:?}");
        assert!(answer.text.contains("at most 5 uses"), "the reason names the limit: {answer:?}");
    }
    let used = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok();
    assert_eq!(used["used"]["count"], COUNT, "{used}");
}

#[tokio::test]
async fn a_count_holds_across_a_crash() {
    let pair = Pair::start().await;
    pair.offer("five", "auto", &[constraint("count", "lteq", COUNT)]).await;
    let contract = pair.contract("five").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let counted = async {
        eventually("two uses were counted", || async {
            let shown = pair.holder.get(&format!("contracts/{contract}")).await;
            (shown.body["used"]["count"].as_u64() >= Some(2)).then_some(())
        })
        .await;
        pair.holder.kill();
    };
    let (before, ()) = tokio::join!(storm(&access, 0), counted);
    pair.holder.spawn();
    pair.holder.ready().await;
    let used = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok()["used"]["count"].as_u64();
    let before = served(&before);
    assert!(Some(before) <= used, "what was served had been counted: {before} served, {used:?} counted");
    let after = served(&storm(&access, CLIENTS).await);
    println!("served {before} before the crash and {after} after it; counted {used:?} at restart");
    assert!(before + after <= COUNT, "{before} + {after}");
    assert_eq!(after, COUNT - used.unwrap_or(COUNT), "what was counted and not served stays spent; the rest is served");
}

#[tokio::test]
async fn a_use_that_a_crash_cut_off_is_ended_at_the_next_start() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "FlightSql").await;
    let endless = "SELECT count(*) FROM weather a, weather b, weather c WHERE a.wind + b.wind = c.wind";
    let crash = async {
        eventually("the use was counted", || async {
            let shown = pair.holder.get(&format!("contracts/{contract}")).await;
            (shown.body["used"]["count"] == 1).then_some(())
        })
        .await;
        pair.holder.kill();
    };
    let (answer, ()) = tokio::join!(sql::query(&access, None, endless), crash);
    answer.expect_err("the holder is gone");
    pair.holder.restart().await;
    // What is durable is published a moment later.
    let accounted = eventually("what was permitted is accounted for", || async {
        let statements = pair.holder.statements().await;
        let of_kind =
            |kind| statements.iter().filter(|one| one["kind"] == kind).map(|one| one["seq"].clone()).collect();
        let (permitted, served): (Vec<Value>, Vec<Value>) = (of_kind("use.permitted"), of_kind("use.served"));
        (permitted == served).then_some(permitted)
    });
    assert_eq!(accounted.await.len(), 1);
    let rows = sql::query(&access, None, "SELECT * FROM weather").await.expect("the contract goes on");
    assert_eq!(sql::rows(&rows), ROWS);
}
