//! A small data space: a holder, a consumer, a table, and the steps to a contract.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::effects::KillPlan;
use crate::node::{Answer, Node, Wish, eventually, http};

/// Rows of the weather table.
pub const ROWS: usize = 1461;

/// A holder of the weather table and a consumer.
pub struct Pair {
    /// Has the table `weather`.
    pub holder: Node,
    /// Wants it.
    pub consumer: Node,
    /// Holds both directories.
    pub dir: TempDir,
}

/// What a consumer needs to read the data.
#[derive(Clone, Debug)]
pub struct Access {
    /// The consumer's id of the transfer.
    pub transfer: String,
    /// Flight address as a URL that a client can connect to.
    pub flight: String,
    /// Address of the files.
    pub http: String,
    /// The token.
    pub bearer: String,
}

/// The weather table of this repository.
pub fn weather_csv() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/seattle-weather.csv")
}

/// One ODRL constraint.
pub fn constraint(left: &str, operator: &str, right: impl Into<Value>) -> Value {
    json!({ "leftOperand": left, "operator": operator, "rightOperand": right.into() })
}

/// A policy that permits use under these constraints.
pub fn policy(constraints: &[Value]) -> Value {
    json!({
        "@context": ["http://www.w3.org/ns/odrl.jsonld", { "shuyu": "https://w3id.org/shuyu/profile/1#" }],
        "@id": format!("urn:uuid:{}", uuid::Uuid::new_v4()), "@type": "Set",
        "profile": "https://w3id.org/shuyu/profile/1",
        "permission": [{ "action": "use", "constraint": constraints }],
    })
}

impl Pair {
    /// Both nodes, ready; the table is an asset of the holder, not yet offered.
    pub async fn start() -> Self {
        Self::start_with(None, None).await
    }

    /// Nodes that die by a plan.
    pub async fn start_with(holder_plan: Option<Arc<KillPlan>>, consumer_plan: Option<Arc<KillPlan>>) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let wish = |name: &str, role, plan| Wish { dir: dir.path().join(name), role, plan };
        let (holder, consumer) = tokio::join!(
            Node::start(wish("holder", "holder", holder_plan)),
            Node::start(wish("consumer", "consumer", consumer_plan)),
        );
        add_weather(&holder, "weather").await.expect_ok();
        Self { holder, consumer, dir }
    }

    /// Publishes the table under a policy; the offer's id is `name`.
    pub async fn offer(&self, name: &str, approve: &str, constraints: &[Value]) {
        offer(&self.holder, name, approve, constraints).await;
    }

    /// A third node that follows and checks both ledgers.
    pub async fn regulator(&self) -> Node {
        let regulator =
            Node::start(Wish { dir: self.dir.path().join("regulator"), role: "regulator", plan: None }).await;
        for node in [&self.holder, &self.consumer] {
            regulator.post("audit/nodes", &json!({ "did": node.did })).await.expect_ok();
        }
        regulator
    }

    /// Negotiates the offer to its end; the agreement's id.
    pub async fn contract(&self, offer: &str) -> String {
        let id = self.negotiation(offer).await;
        let done = self.wait("negotiations", &id, "FINALIZED,TERMINATED").await;
        assert_eq!(done["state"], "FINALIZED", "{done}");
        text(&done["agreement"])
    }

    /// Starts a negotiation; the consumer's id of it.
    pub async fn negotiation(&self, offer: &str) -> String {
        let wish = json!({ "provider": self.holder.did, "dataset": "weather", "offer": offer });
        text(&self.consumer.post("negotiations", &wish).await.expect_ok()["id"])
    }

    /// Waits at the consumer until a process is in one of these states.
    pub async fn wait(&self, collection: &str, id: &str, states: &str) -> Value {
        self.consumer.get(&format!("{collection}/{id}?wait={states}&timeout_s=60")).await.expect_ok()
    }

    /// Opens a transfer and waits for its access.
    pub async fn access(&self, agreement: &str, format: &str) -> Access {
        let wish = json!({ "agreement": agreement, "format": format });
        let id = text(&self.consumer.post("transfers", &wish).await.expect_ok()["id"]);
        let started = self.wait("transfers", &id, "STARTED,TERMINATED").await;
        assert_eq!(started["state"], "STARTED", "{started}");
        self.access_of(&id).await
    }

    /// The access of a started transfer.
    pub async fn access_of(&self, transfer: &str) -> Access {
        let answer = self.consumer.get(&format!("transfers/{transfer}/access")).await.expect_ok();
        Access {
            transfer: transfer.to_owned(),
            flight: text(&answer["flight_endpoint"]).replacen("grpc", "http", 1),
            http: text(&answer["http_endpoint"]),
            bearer: text(&answer["bearer"]),
        }
    }

    /// The provider's process that answers the consumer's process `consumer_pid`, in this state.
    pub async fn at_holder(&self, collection: &str, consumer_pid: &str, state: &str) -> Value {
        eventually(&format!("{collection} {consumer_pid} is {state} at the holder"), || async {
            let rows = self.holder.items(collection).await;
            rows.into_iter().find(|row| row["consumer_pid"] == consumer_pid && row["state"] == state)
        })
        .await
    }
}

impl Access {
    /// Downloads over HTTP; `query` is the query string.
    pub async fn pull(&self, query: &str) -> Answer {
        Answer::of(self.request(query)).await
    }

    /// A download to be sent.
    pub fn request(&self, query: &str) -> reqwest::RequestBuilder {
        http().get(format!("{}?{query}", self.http)).bearer_auth(&self.bearer)
    }
}

/// Adds the weather table under the id and table name `name`.
pub async fn add_weather(holder: &Node, name: &str) -> Answer {
    add_asset(holder, name, &weather_csv(), "csv").await
}

/// Adds a file as an asset and table `name`.
pub async fn add_asset(holder: &Node, name: &str, file: &Path, format: &str) -> Answer {
    let file = file.canonicalize().expect("the table is there");
    let asset =
        json!({ "id": name, "title": name, "table": name, "location": file.display().to_string(), "format": format });
    holder.post("assets", &asset).await
}

/// Offers the weather table under `constraints`; `name` is the id of both policy and offer.
pub async fn offer(holder: &Node, name: &str, approve: &str, constraints: &[Value]) {
    holder.post("policies", &json!({ "id": name, "policy": policy(constraints) })).await.expect_ok();
    let offer = json!({ "id": name, "asset": "weather", "policy": name, "approve": approve });
    holder.post("offers", &offer).await.expect_ok();
}

/// The text of a JSON value.
///
/// # Panics
/// If it is no text.
#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
