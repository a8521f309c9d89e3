//! `shuyu transfer`: access to the data of a contract.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::api::path;
use crate::context::{Globals, Page};
use crate::failure::Outcome;
use crate::{negotiation, print, wait};

/// Commands about transfers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the provider to open access under a contract
    #[command(after_help = "Examples:
  shuyu transfer start --contract urn:uuid:...
  shuyu transfer start --contract urn:uuid:... --format HttpData-PULL

Prints the transfer's id, once the provider has opened it or --timeout is over.")]
    Start(Start),
    /// List the transfers of the node
    List(Page),
    /// Show one transfer with its messages
    Show(Id),
    /// Wait until a transfer reaches a state
    #[command(after_help = "Example:\n  shuyu transfer wait 5a1e... --for terminated --timeout 5")]
    Wait(wait::Wait),
    /// Open the access a consumer asked for, under a contract offered with --approve each-step
    #[command(after_help = "Example:\n  shuyu transfer approve 5a1e...")]
    Approve(Id),
    /// Pause access; either side may
    Suspend(Reason),
    /// Open paused access again
    Resume(Id),
    /// Close access: all was done
    Complete(Id),
    /// Close access: it went wrong
    Terminate(Reason),
}

/// Which transfer.
#[derive(Debug, Args)]
pub struct Id {
    /// The transfer's id
    id: String,
}

/// Which transfer, and why.
#[derive(Debug, Args)]
pub struct Reason {
    /// The transfer's id
    id: String,
    /// Told to the other side
    #[arg(long, default_value = "asked by the operator")]
    reason: String,
}

/// A new transfer.
#[derive(Debug, Args)]
pub struct Start {
    /// The contract's id
    #[arg(long, value_name = "ID")]
    contract: String,
    /// Way of access
    #[arg(long, value_enum, default_value = "flight-sql")]
    format: Access,
    /// Seconds to wait until it is open; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    timeout: u64,
}

/// Ways of access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Access {
    /// SQL over Arrow Flight
    #[value(name = "flight-sql", alias = "FlightSql")]
    FlightSql,
    /// Download over HTTP
    #[value(name = "http-pull", alias = "HttpData-PULL")]
    HttpPull,
}

impl Access {
    /// The name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::FlightSql => "FlightSql",
            Self::HttpPull => "HttpData-PULL",
        }
    }
}

/// Path of the collection.
pub const COLLECTION: &str = "v1/transfers";

/// States after which nothing follows.
const ENDS: [&str; 2] = ["COMPLETED", "TERMINATED"];

/// Runs a command about transfers.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Start(start) => {
            let id = open(globals, &start.contract, start.format, start.timeout).await?;
            match start.format {
                Access::FlightSql => {
                    globals.hint(format_args!("`shuyu query 'SELECT ...' --transfer {id}` asks for data"))
                }
                Access::HttpPull => globals.hint(format_args!("`shuyu pull {id} -o FILE` downloads")),
            }
            if globals.is_json() {
                return print::line(&globals.api()?.get(&path(COLLECTION, &id, "")).await?.text);
            }
            print::line(&id)
        }
        Command::List(page) => {
            let answer = globals.api()?.get_with(COLLECTION, &page.query()).await?;
            globals.listing(
                &answer,
                &[
                    ("ID", "/id"),
                    ("ROLE", "/role"),
                    ("STATE", "/state"),
                    ("WAITS FOR", "/waiting_for"),
                    ("FORMAT", "/format"),
                    ("PEER", "/peer"),
                    ("CONTRACT", "/agreement"),
                ],
            )
        }
        Command::Show(Id { id }) => show(globals, id).await,
        Command::Wait(which) => {
            let answer = wait::until(globals, COLLECTION, which, &["STARTED"], &ENDS).await?;
            if globals.is_json() { print::line(&answer.text) } else { print::line(answer.text_at("/state")?) }
        }
        Command::Approve(Id { id }) => act(globals, id, "start", "").await,
        Command::Suspend(Reason { id, reason }) => act(globals, id, "suspend", reason).await,
        Command::Resume(Id { id }) => act(globals, id, "resume", "").await,
        Command::Complete(Id { id }) => act(globals, id, "complete", "").await,
        Command::Terminate(Reason { id, reason }) => act(globals, id, "terminate", reason).await,
    }
}

/// Starts a transfer and waits until it is open; gives its id.
///
/// # Errors
/// Exit code 2 if the provider refuses, 1 if it is not open in time.
pub async fn open(globals: &Globals, contract: &str, access: Access, timeout_s: u64) -> Outcome<String> {
    let body = json!({"agreement": contract, "format": access.name()});
    let answer = globals.api()?.post(COLLECTION, &body).await?;
    let id = answer.text_at("/id")?.to_owned();
    if 0 < timeout_s {
        let which = wait::Wait { id: id.clone(), states: Vec::new(), timeout: timeout_s };
        wait::until(globals, COLLECTION, &which, &["STARTED"], &ENDS).await?;
    }
    Ok(id)
}

async fn show(globals: &Globals, id: &str) -> Outcome {
    let answer = globals.api()?.get(&path(COLLECTION, id, "")).await?;
    globals.details(
        &answer,
        &[
            ("id", "/id"),
            ("role", "/role"),
            ("state", "/state"),
            ("waits for", "/waiting_for"),
            ("format", "/format"),
            ("peer", "/peer"),
            ("contract", "/agreement"),
            ("error", "/error"),
            ("consumer pid", "/consumer_pid"),
            ("provider pid", "/provider_pid"),
        ],
    )?;
    if globals.is_json() { Ok(()) } else { negotiation::print_history(&answer) }
}

async fn act(globals: &Globals, id: &str, verb: &str, reason: &str) -> Outcome {
    let body = if reason.is_empty() { json!({}) } else { json!({"reason": reason}) };
    let answer = globals.api()?.post(&path(COLLECTION, id, verb), &body).await?;
    let state = answer.value.get("state").map(print::cell).unwrap_or_default();
    globals.done(&answer, format_args!("{verb}: transfer {id} is now {state}"))
}
