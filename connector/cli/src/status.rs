//! `shuyu status`: is the node there, and who is it.

use std::time::{Duration, Instant};

use clap::Args;

use crate::api::Answer;
use crate::context::Globals;
use crate::failure::{Failure, Kind, Outcome};

/// Time between two looks at a node that does not listen yet; there is nothing to be told by before it does.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What to ask.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  shuyu status
  shuyu run --dir holder & shuyu status --dir holder --wait 30")]
pub struct Status {
    /// Wait up to this many seconds until the node is ready
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// Runs `shuyu status`.
pub async fn run(globals: &Globals, status: &Status) -> Outcome {
    let answer = ready(globals, Duration::from_secs(status.wait)).await?;
    globals.details(
        &answer,
        &[
            ("did", "/did"),
            ("name", "/name"),
            ("roles", "/roles"),
            ("spaces", "/spaces"),
            ("version", "/version"),
            ("protocol", "/protocol_url"),
            ("flight", "/flight_url"),
            ("management", "/management_url"),
            ("ledger", "/ledger/origin"),
            ("entries", "/ledger/size"),
            ("ledger key", "/ledger/vkey"),
        ],
    )
}

/// The status of a ready node, waiting up to `patience` for it.
async fn ready(globals: &Globals, patience: Duration) -> Outcome<Answer> {
    let api = globals.api()?;
    let deadline = Instant::now() + patience;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let failure = match api.get("v1/status").await {
            Ok(answer) if answer.value.get("ready").and_then(serde_json::Value::as_bool) == Some(true) => {
                return Ok(answer);
            }
            Ok(_) => Failure::failed(format_args!("the node at {} is not ready", api.base())),
            Err(failure) => failure,
        };
        if failure.kind != Kind::Failed || deadline <= Instant::now() {
            return Err(failure);
        }
    }
}
