//! A holder of a small table and a consumer, both real nodes, and the steps from an offer to its rows.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{machine, node::Node};

/// The table's, the policy's and the offer's name.
const TABLE: &str = "weather";

/// Two nodes and their directories.
pub struct Space {
    /// Offers the table to whoever asks.
    pub holder: Node,
    /// Wants it.
    pub consumer: Node,
    /// The table's file.
    pub table: PathBuf,
    _dir: TempDir,
}

/// What opens the table.
pub struct Access {
    /// The Flight endpoint, as `http://`.
    pub endpoint: url::Url,
    /// The token.
    pub bearer: String,
}

impl Space {
    /// Both nodes, running; the table is offered and granted without a person.
    pub async fn start() -> Result<Self> {
        Self::start_with(1000).await
    }

    /// The same, with so many processes open at once as one peer may have.
    pub async fn start_with(open: usize) -> Result<Self> {
        let dir = TempDir::new_in(machine::data_dir()?)?;
        let (mut holder, mut consumer) = (Node::init(dir.path(), "holder")?, Node::init(dir.path(), "consumer")?);
        for node in [&holder, &consumer] {
            node.configure("max-open-per-peer = 1000", &format!("max-open-per-peer = {open}"))?;
        }
        holder.start().await?;
        consumer.start().await?;
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/data/seattle-weather.csv");
        let table = table.canonicalize().context("examples/data/seattle-weather.csv is missing")?;
        let asset = json!({
            "id": TABLE, "title": TABLE, "table": TABLE, "location": table.display().to_string(), "format": "csv",
        });
        holder.post("assets", &asset).await?;
        holder.post("policies", &json!({ "id": TABLE, "policy": policy() })).await?;
        holder.post("offers", &json!({ "id": TABLE, "asset": TABLE, "policy": TABLE, "approve": "auto" })).await?;
        Ok(Self { holder, consumer, table, _dir: dir })
    }

    /// Begins a negotiation: its id at the consumer.
    pub async fn ask(&self) -> Result<String> {
        let wish = json!({ "provider": self.holder.did, "dataset": TABLE, "offer": TABLE });
        text(&self.consumer.post("negotiations", &wish).await?, "id")
    }

    /// Waits for a negotiation's end: the agreement's id.
    pub async fn agreed(&self, negotiation: &str) -> Result<String> {
        let wait = format!("negotiations/{negotiation}?wait=FINALIZED,TERMINATED&timeout_s=60");
        let done = self.consumer.get(&wait).await?;
        ensure!(is(&done, "FINALIZED"), "negotiation ended badly: {done}");
        text(&done, "agreement")
    }

    /// Starts a transfer and waits until the holder has: its id at the consumer.
    pub async fn transfer(&self, agreement: &str) -> Result<String> {
        let wish = json!({ "agreement": agreement, "format": "FlightSql" });
        let id = text(&self.consumer.post("transfers", &wish).await?, "id")?;
        let wait = format!("transfers/{id}?wait=STARTED,TERMINATED&timeout_s=60");
        let started = self.consumer.get(&wait).await?;
        ensure!(is(&started, "STARTED"), "transfer ended badly: {started}");
        Ok(id)
    }

    /// The key to a started transfer.
    pub async fn access(&self, transfer: &str) -> Result<Access> {
        let access = self.consumer.get(&format!("transfers/{transfer}/access")).await?;
        let endpoint = text(&access, "flight_endpoint")?.replacen("grpc", "http", 1).parse()?;
        Ok(Access { endpoint, bearer: text(&access, "bearer")? })
    }

    /// CPU-seconds of both nodes so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        Ok(self.holder.cpu_seconds()? + self.consumer.cpu_seconds()?)
    }
}

/// Anyone may use the table a thousand times.
fn policy() -> Value {
    json!({
        "@context": ["http://www.w3.org/ns/odrl.jsonld", { "shuyu": "https://w3id.org/shuyu/profile/1#" }],
        "@id": "urn:uuid:6f1a9b1e-3f0b-4d43-9a51-5a9f2f3d7c10", "@type": "Set",
        "profile": "https://w3id.org/shuyu/profile/1",
        "permission": [{
            "action": "use",
            "constraint": [{ "leftOperand": "count", "operator": "lteq", "rightOperand": 1000 }],
        }],
    })
}

fn is(process: &Value, state: &str) -> bool {
    process.get("state").and_then(Value::as_str) == Some(state)
}

/// The text of a member.
pub fn text(value: &Value, member: &str) -> Result<String> {
    let found = value.get(member).and_then(Value::as_str);
    found.map(str::to_owned).with_context(|| format!("no text `{member}` in {value}"))
}
