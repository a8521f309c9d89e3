//! kill -9 right before every effect of an exchange, of the provider and of the consumer in turn. After a restart both
//! converge to the same end, and at last a regulator finds the evidence of both complete.
//!
//! `SHUYU_SWEEP=all` tries every effect; without it about thirty, spread evenly, for each party.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Answer, KillPlan, Node, Pair, constraint, eventually};

use crate::exchange::regulator_is_content;

/// How many points are tried of each party when not all are.
const SAMPLE: u64 = 30;

/// One exchange after the other between the same two nodes, one of which dies.
struct Sweep {
    pair: Pair,
    plan: Arc<KillPlan>,
    victim_is_holder: bool,
    deaths: AtomicU64,
    /// Effects of the last round.
    counted: AtomicU64,
    /// The consumer's processes of earlier rounds.
    known: Mutex<HashSet<String>>,
}

/// What an exchange left behind.
struct Round {
    negotiation: String,
    transfer: String,
    is_killed: bool,
}

impl Sweep {
    async fn start(victim_is_holder: bool, dir: &std::path::Path) -> Self {
        let plan = Arc::new(KillPlan::new(dir));
        let (holder, consumer) = if victim_is_holder { (Some(plan.clone()), None) } else { (None, Some(plan.clone())) };
        let pair = Pair::start_with(holder, consumer).await;
        pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
        Self {
            pair,
            plan,
            victim_is_holder,
            deaths: AtomicU64::new(0),
            counted: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    fn victim(&self) -> &Node {
        if self.victim_is_holder { &self.pair.holder } else { &self.pair.consumer }
    }

    /// Starts the victim again if it has died, without a plan to die once more.
    async fn revive(&self) {
        if self.victim().is_down() {
            self.deaths.fetch_add(1, Ordering::Relaxed);
            self.plan.kill_at(0);
            self.victim().spawn();
            self.victim().ready().await;
        }
    }

    /// The consumer's newest process, begun with `wish` if there is none: what a person would do who got no answer.
    async fn begun(&self, collection: &str, wish: &Value) -> String {
        let id = eventually(&format!("the consumer begins one of {collection}"), || async {
            self.revive().await;
            let listed = self.pair.consumer.get(&format!("{collection}?limit=1000")).await;
            let rows = listed.is_ok().then(|| listed.body["items"].as_array().cloned()).flatten()?;
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some(row) = rows.iter().find(|row| !known.contains(row["id"].as_str().unwrap_or_default())) {
                return Some(text(&row["id"]));
            }
            let answer = self.pair.consumer.post(collection, wish).await;
            answer.is_ok().then(|| text(&answer.body["id"]))
        })
        .await;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone());
        id
    }

    /// What one party holds of the consumer's process `id`, if it is in `state`.
    async fn held(&self, at_holder: bool, collection: &str, id: &str, state: &str) -> Option<Value> {
        let row = if at_holder {
            self.pair.holder.items(collection).await.into_iter().find(|row| row["consumer_pid"] == id)?
        } else {
            self.pair.consumer.get(&format!("{collection}/{id}?wait={state},TERMINATED&timeout_s=1")).await.body
        };
        assert_ne!(row["state"], "TERMINATED", "{row}");
        (row["state"] == state).then_some(row)
    }

    /// Waits until both parties hold the process `id` of the consumer in `state`. The one that is to die is asked last,
    /// so that our own questions are few of its effects.
    async fn both(&self, collection: &str, id: &str, state: &str) -> Value {
        eventually(&format!("{collection} {id} is {state} on both sides"), || async {
            self.revive().await;
            self.held(!self.victim_is_holder, collection, id, state).await?;
            self.held(self.victim_is_holder, collection, id, state).await
        })
        .await
    }

    async fn exchange(&self, kill_at: u64) -> Round {
        let deaths = self.deaths.load(Ordering::Relaxed);
        self.plan.kill_at(kill_at);
        let pair = &self.pair;
        let wish = json!({ "provider": pair.holder.did, "dataset": "weather", "offer": "open" });
        let negotiation = self.begun("negotiations", &wish).await;
        let contract = text(&self.both("negotiations", &negotiation, "FINALIZED").await["agreement"]);
        for party in [&pair.holder, &pair.consumer] {
            eventually("both hold the contract", || async {
                self.revive().await;
                (party.get(&format!("contracts/{contract}")).await.body["state"] == "active").then_some(())
            })
            .await;
        }
        let wish = json!({ "agreement": contract, "format": "HttpData-PULL" });
        let transfer = self.begun("transfers", &wish).await;
        self.both("transfers", &transfer, "STARTED").await;
        let receipt = eventually("the download ends", || async {
            self.revive().await;
            self.download(&transfer).await
        })
        .await;
        eventually("the receipt is kept", || async {
            self.revive().await;
            pair.consumer.post("receipts", &json!({ "receipt": receipt })).await.is_ok().then_some(())
        })
        .await;
        eventually("the transfer ends", || async {
            self.revive().await;
            pair.consumer.post(&format!("transfers/{transfer}/complete"), &json!({})).await;
            let state = pair.consumer.get(&format!("transfers/{transfer}")).await.body["state"].clone();
            (state == "COMPLETED").then_some(())
        })
        .await;
        self.both("transfers", &transfer, "COMPLETED").await;
        self.counted.store(self.plan.effects(), Ordering::Relaxed);
        self.plan.kill_at(0);
        self.revive().await;
        Round { negotiation, transfer, is_killed: deaths < self.deaths.load(Ordering::Relaxed) }
    }

    /// Downloads the table; the receipt.
    async fn download(&self, transfer: &str) -> Option<String> {
        let access = self.pair.consumer.get(&format!("transfers/{transfer}/access")).await;
        let (at, bearer) = (access.body["http_endpoint"].as_str()?, access.body["bearer"].as_str()?);
        let client = shuyu_scenarios::node::http();
        let query = "format=csv&purpose=research&sql=SELECT+count(*)+AS+n+FROM+weather";
        let response = client.get(format!("{at}?{query}")).bearer_auth(bearer).send().await.ok()?;
        let use_id = response.headers().get("shuyu-use")?.to_str().ok()?.to_owned();
        assert_eq!(response.text().await.ok()?, "n\n1461\n");
        let receipt = Answer::of(client.get(format!("{at}/receipts/{use_id}")).bearer_auth(bearer)).await;
        receipt.is_ok().then_some(receipt.text)
    }

    async fn run(&self) {
        let start = Instant::now();
        self.exchange(0).await;
        let mut effects = 0;
        for _ in 0..2 {
            self.exchange(0).await;
            effects = effects.max(self.counted.load(Ordering::Relaxed));
        }
        let is_whole = std::env::var_os("SHUYU_SWEEP").is_some_and(|value| value == "all");
        let stride = if is_whole { 1 } else { (effects / SAMPLE).max(1) };
        let (mut killed, mut point, mut rounds) = (0_u64, 1, Vec::new());
        loop {
            let round = self.exchange(point).await;
            killed += u64::from(round.is_killed);
            let is_past_the_end = !round.is_killed && effects < point;
            rounds.push((point, round));
            if is_past_the_end || effects * 2 < point {
                break;
            }
            point += stride;
        }
        let who = if self.victim_is_holder { "provider" } else { "consumer" };
        println!(
            "{who}: {effects} effects an exchange, killed before {killed} of them in {} rounds, {:?}",
            rounds.len(),
            start.elapsed()
        );
        assert!(effects / stride / 2 < killed, "most points were reached");
        self.evidence_is_complete(&rounds).await;
    }

    async fn evidence_is_complete(&self, rounds: &[(u64, Round)]) {
        let regulator = self.pair.regulator().await;
        let report = regulator_is_content(&self.pair, &regulator).await;
        let processes = report["comparisons"][0]["processes"].as_array().expect("the parties are compared");
        for (point, round) in rounds {
            for (pid, least) in [(&round.negotiation, 4), (&round.transfer, 3)] {
                let process = processes
                    .iter()
                    .find(|process| process["process"].as_str().is_some_and(|name| name.ends_with(pid.as_str())));
                let process = process.unwrap_or_else(|| panic!("point {point}: no evidence of {pid}"));
                assert_eq!(process["findings"], json!([]), "point {point}: {process:#}");
                assert!(least <= process["agreed"].as_u64().unwrap_or(0), "point {point}: {process:#}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_killed_at_any_effect_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    Sweep::start(true, dir.path()).await.run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_killed_at_any_effect_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    Sweep::start(false, dir.path()).await.run().await;
}
