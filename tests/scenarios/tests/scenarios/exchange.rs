//! The whole path: publish, find, negotiate, use, revoke, and what a regulator sees of it.

use serde_json::{Value, json};
use shuyu_scenarios::node::run;
use shuyu_scenarios::space::{ROWS, text};
use shuyu_scenarios::{Node, Pair, constraint, policy};

use crate::sql;

fn terms(count: u64) -> Vec<Value> {
    vec![
        constraint("purpose", "isA", "research"),
        constraint("count", "lteq", count),
        constraint("shuyu:columnDeny", "eq", "wind"),
    ]
}

/// The consumer asks for more than is offered; the holder's rule answers with its own terms, and the consumer's accepts.
async fn negotiated_by_rules(pair: &Pair) -> String {
    pair.offer("by-rule", "auto", &terms(50)).await;
    let wish = json!({ "provider": pair.holder.did, "dataset": "weather", "offer": "by-rule", "policy": policy(&terms(1000)) });
    let id = text(&pair.consumer.post("negotiations", &wish).await.expect_ok()["id"]);
    let done = pair.wait("negotiations", &id, "FINALIZED,TERMINATED").await;
    assert_eq!(done["state"], "FINALIZED", "{done}");
    let verbs: Vec<String> =
        done["history"].as_array().expect("a history").iter().map(|step| text(&step["verb"])).collect();
    assert_eq!(verbs, ["request", "offer", "accept", "agree", "verify", "finalize"]);
    text(&done["agreement"])
}

/// The same by two persons at two terminals.
async fn negotiated_by_people(pair: &Pair) -> String {
    pair.offer("by-hand", "manual", &terms(8)).await;
    let file = |name: &str, terms: &[Value]| {
        let path = pair.dir.path().join(name);
        std::fs::write(&path, policy(terms).to_string()).expect("the policy can be written");
        path.display().to_string()
    };
    let (wish, counter) = (file("wish.json", &terms(100)), file("counter.json", &terms(20)));
    let start = ["negotiation", "start", "--provider", &pair.holder.did, "--dataset", "weather", "--offer", "by-hand"];
    let id = pair.consumer.cli_ok(&[&start[..], &["--policy", &wish, "--accept", "manual"]].concat()).await;
    let theirs = text(&pair.at_holder("negotiations", &id, "REQUESTED").await["id"]);
    pair.holder.cli_ok(&["negotiation", "counter", &theirs, "--policy", &counter]).await;
    pair.consumer.cli_ok(&["negotiation", "wait", &id, "--for", "offered"]).await;
    pair.consumer.cli_ok(&["negotiation", "approve", &id]).await;
    let contract = pair.consumer.cli_ok(&["negotiation", "wait", &id]).await;
    let shown = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok();
    assert_eq!(shown["limits"]["count"], 20, "the counter-offer is the contract: {shown}");
    contract
}

async fn read_in_every_way(pair: &Pair, contract: &str) {
    let access = pair.access(contract, "FlightSql").await;
    let batches =
        sql::query(&access, Some("research/climate"), "SELECT * FROM weather").await.expect("the contract allows it");
    assert_eq!(sql::rows(&batches), ROWS);
    assert!(batches[0].schema().field_with_name("wind").is_err(), "a denied column is not there");
    let refused = sql::query(&access, Some("marketing"), "SELECT * FROM weather").await.expect_err("another purpose");
    assert!(refused.contains("purpose"), "{refused}");

    let access = pair.access(contract, "HttpData-PULL").await;
    for (format, start) in
        [("parquet", &b"PAR1"[..]), ("csv", b"date,"), ("arrow", b"\xff\xff\xff\xff"), ("json", b"{\"")]
    {
        let query = format!("format={format}&purpose=research");
        let whole = access.request(&query).send().await.expect("the holder answers");
        assert_eq!(whole.status(), 200);
        let etag = whole.headers()["etag"].clone();
        let whole = whole.bytes().await.expect("the whole file");
        assert!(whole.starts_with(start), "{format}: {:?}", whole.get(..16));
        let part = access.request(&query).header("range", "bytes=100-299").header("if-range", etag).send().await;
        let part = part.expect("the holder answers");
        assert_eq!(part.status(), 206);
        assert_eq!(
            part.headers()["content-range"].to_str().ok(),
            Some(format!("bytes 100-299/{}", whole.len()).as_str())
        );
        assert_eq!(part.bytes().await.expect("a part"), whole.slice(100..300), "{format}");
    }
    let beyond = access.request("format=csv&purpose=research").header("range", "bytes=99999999-").send().await;
    assert_eq!(beyond.expect("the holder answers").status(), 416);
}

async fn revoked_everywhere(pair: &Pair, contract: &str) {
    let flight = pair.access(contract, "FlightSql").await;
    let pull = pair.access(contract, "HttpData-PULL").await;
    pair.holder.cli_ok(&["contract", "revoke", contract, "--reason", "licence withdrawn"]).await;
    let refused = sql::query(&flight, Some("research"), "SELECT 1 FROM weather").await.expect_err("revoked");
    assert!(refused.contains("licence withdrawn"), "{refused}");
    let refused = pull.pull("format=csv&purpose=research").await;
    assert!([403, 410].contains(&refused.status), "{refused:?}");
    assert!(refused.text.contains("licence withdrawn"), "{refused:?}");
    for transfer in [&flight.transfer, &pull.transfer] {
        let ended = pair.wait("transfers", transfer, "TERMINATED").await;
        assert_eq!(ended["state"], "TERMINATED", "{ended}");
        pair.at_holder("transfers", transfer, "TERMINATED").await;
    }
    let again = pair.consumer.cli(&["transfer", "start", "--contract", contract]).await;
    assert_ne!(again.code, 0, "no new access under a revoked contract");
}

/// The regulator's view of all of it: everything holds, and the bundle proves it without any node.
pub async fn regulator_is_content(pair: &Pair, regulator: &Node) -> Value {
    let synced = regulator.post("audit/sync", &json!({})).await.expect_ok();
    for node in synced["items"].as_array().expect("a listing") {
        assert_eq!(node["verified"], true, "{node}");
    }
    let report = regulator.get("audit/report").await.expect_ok();
    assert_eq!(report["holds"], true, "{:#}", report["findings"]);
    let bundle = pair.dir.path().join("story.bundle.json").display().to_string();
    regulator.cli_ok(&["audit", "bundle", "make", "--file", &bundle]).await;
    let verified = run(&["audit", "bundle", "verify", &bundle]).await;
    assert_eq!(verified.code, 0, "{}", verified.err);
    report
}

#[tokio::test]
async fn an_exchange_from_offer_to_audit() {
    let pair = Pair::start().await;
    let contract = negotiated_by_people(&pair).await;
    let by_rule = negotiated_by_rules(&pair).await;
    read_in_every_way(&pair, &contract).await;
    let found = pair.consumer.cli_ok(&["catalog", "search", &pair.holder.did, "weather", "--output", "json"]).await;
    assert!(found.contains("by-hand") && found.contains("by-rule"), "{found}");
    let rows = [
        "query",
        "SELECT count(*) AS n FROM weather",
        "--contract",
        &by_rule,
        "--purpose",
        "research",
        "--format",
        "json",
    ];
    let counted = pair.consumer.cli_ok(&rows).await;
    assert!(counted.contains(&ROWS.to_string()), "{counted}");
    let used = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok();
    assert_eq!(used["used"]["count"], 5, "one query and four files; ranges and refusals are not uses: {used}");
    revoked_everywhere(&pair, &contract).await;
    let regulator = pair.regulator().await;
    let report = regulator_is_content(&pair, &regulator).await;
    assert!(
        0 < report["comparisons"][0]["agreed"].as_u64().unwrap_or(0),
        "the parties have something in common: {report}"
    );
}

#[tokio::test]
async fn a_provider_may_begin_and_either_side_may_end() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &terms(5)).await;
    pair.offer("asked", "manual", &terms(5)).await;
    let offered =
        pair.holder.post("negotiations", &json!({ "consumer": pair.consumer.did, "offer": "open" })).await.expect_ok();
    let theirs = text(&offered["id"]);
    let done = pair
        .holder
        .get(&format!("negotiations/{theirs}?wait=FINALIZED,TERMINATED,OFFERED&timeout_s=30"))
        .await
        .expect_ok();
    let ours = text(&done["consumer_pid"]);
    if pair.consumer.get(&format!("negotiations/{ours}")).await.expect_ok()["waiting_for"] == "us" {
        pair.consumer.cli_ok(&["negotiation", "approve", &ours]).await;
    }
    pair.at_holder("negotiations", &ours, "FINALIZED").await;

    let id = pair.negotiation("asked").await;
    pair.at_holder("negotiations", &id, "REQUESTED").await;
    pair.consumer.cli_ok(&["negotiation", "refuse", &id, "--reason", "no longer needed"]).await;
    pair.at_holder("negotiations", &id, "TERMINATED").await;

    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "FlightSql").await;
    let query = || sql::query(&access, Some("research"), "SELECT count(*) FROM weather");
    assert!(query().await.is_ok());
    pair.consumer.cli_ok(&["transfer", "suspend", &access.transfer, "--reason", "a pause"]).await;
    pair.at_holder("transfers", &access.transfer, "SUSPENDED").await;
    assert!(query().await.is_err(), "no data while suspended");
    pair.consumer.cli_ok(&["transfer", "resume", &access.transfer]).await;
    pair.at_holder("transfers", &access.transfer, "STARTED").await;
    // The holder moves when the message comes, the consumer when its answer does.
    pair.consumer.get(&format!("transfers/{}?wait=STARTED&timeout_s=30", access.transfer)).await.expect_ok();
    let access = pair.access_of(&access.transfer).await;
    assert!(sql::query(&access, Some("research"), "SELECT count(*) FROM weather").await.is_ok());
    pair.consumer.cli_ok(&["transfer", "complete", &access.transfer]).await;
    pair.at_holder("transfers", &access.transfer, "COMPLETED").await;
    assert!(
        sql::query(&access, Some("research"), "SELECT count(*) FROM weather").await.is_err(),
        "no data after the end"
    );
    let regulator = pair.regulator().await;
    regulator_is_content(&pair, &regulator).await;
}

/// With `each-step` nothing is said by rule on either side, not after a yes, not after a restart, not for a transfer.
#[tokio::test]
async fn every_word_may_wait_for_a_person() {
    let pair = Pair::start().await;
    pair.offer("worded", "each-step", &terms(5)).await;
    let start = ["negotiation", "start", "--provider", &pair.holder.did, "--dataset", "weather", "--offer", "worded"];
    let id = pair.consumer.cli_ok(&[&start[..], &["--accept", "each-step"]].concat()).await;
    let theirs = text(&pair.at_holder("negotiations", &id, "REQUESTED").await["id"]);
    let waits_for_us = |row: Value, state: &str| {
        assert_eq!((&row["state"], &row["waiting_for"]), (&json!(state), &json!("us")), "{row}");
    };
    let holder = &pair.holder;
    let holder_has = |state: &'static str| {
        let path = format!("negotiations/{theirs}?wait={state}&timeout_s=30");
        async move { holder.get(&path).await.expect_ok() }
    };
    waits_for_us(holder_has("REQUESTED").await, "REQUESTED");
    pair.holder.cli_ok(&["negotiation", "approve", &theirs]).await;
    waits_for_us(pair.wait("negotiations", &id, "AGREED").await, "AGREED");
    pair.consumer.cli_ok(&["negotiation", "wait", &id, "--for", "us"]).await;
    pair.consumer.cli_ok(&["negotiation", "approve", &id]).await;
    waits_for_us(holder_has("VERIFIED").await, "VERIFIED");
    // A start shows every live process to the rules again.
    pair.holder.restart().await;
    waits_for_us(holder_has("VERIFIED").await, "VERIFIED");
    assert_eq!(pair.holder.items("contracts").await.len(), 0, "there is no contract before the last word");
    pair.holder.cli_ok(&["negotiation", "approve", &theirs]).await;
    let contract = pair.consumer.cli_ok(&["negotiation", "wait", &id]).await;
    let again = pair.holder.cli(&["negotiation", "approve", &theirs]).await;
    assert_ne!(again.code, 0, "nothing waits any more");

    let wish = json!({ "agreement": contract, "format": "FlightSql" });
    let transfer = text(&pair.consumer.post("transfers", &wish).await.expect_ok()["id"]);
    let asked = pair.at_holder("transfers", &transfer, "REQUESTED").await;
    assert_eq!(asked["waiting_for"], "us", "{asked}");
    let refused = pair.consumer.post(&format!("transfers/{transfer}/start"), &json!({})).await;
    assert_eq!(refused.status, 409, "only the provider opens access: {}", refused.text);
    pair.holder.cli_ok(&["transfer", "approve", &text(&asked["id"])]).await;
    pair.wait("transfers", &transfer, "STARTED").await;
    let access = pair.access_of(&transfer).await;
    assert!(sql::query(&access, Some("research"), "SELECT count(*) FROM weather").await.is_ok());

    let late = text(&pair.consumer.post("transfers", &wish).await.expect_ok()["id"]);
    let asked = pair.at_holder("transfers", &late, "REQUESTED").await;
    pair.holder.cli_ok(&["contract", "revoke", &contract, "--reason", "licence withdrawn"]).await;
    pair.at_holder("transfers", &late, "TERMINATED").await;
    let refused = pair.holder.post(&format!("transfers/{}/start", text(&asked["id"])), &json!({})).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let regulator = pair.regulator().await;
    regulator_is_content(&pair, &regulator).await;
}
