//! Access that was stolen, altered or is over.

use arrow_flight::Ticket;
use serde_json::json;
use shuyu_scenarios::space::Access;
use shuyu_scenarios::{Answer, Node, Pair, Wish, constraint};

use crate::sql;

const COUNT: &str = "SELECT count(*) AS n FROM weather";

async fn second_consumer(pair: &Pair) -> Pair2 {
    let node = Node::start(Wish { dir: pair.dir.path().join("second"), role: "consumer", plan: None }).await;
    let wish = json!({ "provider": pair.holder.did, "dataset": "weather", "offer": "open" });
    let started = node.post("negotiations", &wish).await.expect_ok();
    let id = shuyu_scenarios::space::text(&started["id"]);
    let done = node.get(&format!("negotiations/{id}?wait=FINALIZED,TERMINATED&timeout_s=60")).await.expect_ok();
    let wish = json!({ "agreement": done["agreement"], "format": "FlightSql" });
    let id = shuyu_scenarios::space::text(&node.post("transfers", &wish).await.expect_ok()["id"]);
    node.get(&format!("transfers/{id}?wait=STARTED&timeout_s=60")).await.expect_ok();
    let access = node.get(&format!("transfers/{id}/access")).await.expect_ok();
    let text = |name: &str| shuyu_scenarios::space::text(&access[name]);
    let access = Access {
        transfer: id,
        flight: text("flight_endpoint").replacen("grpc", "http", 1),
        http: text("http_endpoint"),
        bearer: text("bearer"),
    };
    Pair2 { access, _node: node }
}

struct Pair2 {
    access: Access,
    _node: Node,
}

#[tokio::test]
async fn a_ticket_serves_nobody_but_its_holder() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "FlightSql").await;
    let thief = second_consumer(&pair).await;
    let mut ours = sql::connect(&access, Some("research")).await;
    let info = ours.execute(COUNT.to_owned(), None).await.expect("the contract allows it");
    let ticket = sql::ticket(&info);

    let mut theirs = sql::connect(&thief.access, Some("research")).await;
    let refused = sql::redeem(&mut theirs, ticket.clone()).await.expect_err("a stolen ticket");
    assert!(refused.contains("another holder"), "{refused}");

    let mut bytes = ticket.ticket.to_vec();
    for at in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 2] {
        bytes[at] ^= 1;
        let refused = sql::redeem(&mut ours, Ticket::new(bytes.clone())).await;
        assert!(refused.is_err(), "an altered ticket (byte {at})");
        bytes[at] ^= 1;
    }
    for bytes in [Vec::new(), b"x".to_vec(), vec![0xff; 1 << 20]] {
        assert!(sql::redeem(&mut ours, Ticket::new(bytes)).await.is_err(), "no ticket");
    }
    let without = Access { bearer: "abc".to_owned(), ..access.clone() };
    assert!(sql::query(&without, Some("research"), COUNT).await.is_err(), "a bearer that is none");

    // The token of one transfer opens no other's files.
    let pull = pair.access(&contract, "HttpData-PULL").await;
    let stolen = Access { bearer: thief.access.bearer.clone(), ..pull.clone() };
    let answer: Answer = stolen.pull("format=csv&purpose=research").await;
    assert_eq!(answer.status, 404, "{answer:?}");
    let mut altered = pull.bearer.clone();
    altered.replace_range(20..21, if altered.get(20..21) == Some("A") { "B" } else { "A" });
    let answer = Access { bearer: altered, ..pull.clone() }.pull("format=csv&purpose=research").await;
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(answer.body["code"], "unauthenticated", "{answer:?}");

    // The rightful holder was not disturbed.
    assert_eq!(sql::rows(&sql::redeem(&mut ours, ticket).await.expect("the ticket is good")), 1);
    assert_eq!(pull.pull("format=csv&purpose=research").await.status, 200);
}

#[tokio::test]
async fn access_ends_with_the_contract() {
    let pair = Pair::start().await;
    let end = shuyu_scenarios::clock::now().plus_millis(8_000).to_string();
    pair.offer("short", "auto", &[constraint("dateTime", "lteq", end.as_str())]).await;
    let contract = pair.contract("short").await;
    let access = pair.access(&contract, "FlightSql").await;
    let mut client = sql::connect(&access, None).await;
    let info = client.execute(COUNT.to_owned(), None).await.expect("the contract is in force");
    let ticket = sql::ticket(&info);
    sql::redeem(&mut client, ticket.clone()).await.expect("the contract is in force");
    let refused = shuyu_scenarios::eventually("the contract expires", || async {
        let mut client = sql::connect(&access, None).await;
        sql::redeem(&mut client, ticket.clone()).await.err()
    })
    .await;
    assert!(refused.contains("dateTime") || refused.contains("expired") || refused.contains("over"), "{refused}");
    let state = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok();
    assert_eq!(state["state"], "expired", "{state}");
}
