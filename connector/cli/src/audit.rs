//! `shuyu audit`: the regulator's work, and the check of a bundle that needs no node and no network.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::{bundle, print};

/// Commands about audits.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow the ledger of a node
    #[command(after_help = "Example:\n  shuyu audit follow did:web:localhost%3A7101")]
    Follow {
        /// DID of the node's owner
        did: String,
    },
    /// Fetch what is new in all followed ledgers and verify it
    #[command(after_help = "Example:\n  shuyu audit sync\n\nExit code 2 if a ledger does not hold.")]
    Sync,
    /// Compare what both parties of each exchange recorded
    #[command(after_help = "Example:\n  shuyu audit report --output json\n\nExit code 2 if there are findings.")]
    Report,
    /// Write or check a bundle that proves the story, or the misbehaviour, off line
    #[command(subcommand)]
    Bundle(Bundle),
}

/// Commands about bundles.
#[derive(Debug, Subcommand)]
pub enum Bundle {
    /// Write everything a third party needs to check the followed ledgers
    #[command(after_help = "Example:\n  shuyu audit bundle make --file story.bundle.json")]
    Make(Make),
    /// Check a bundle: signatures, Merkle proofs, both parties' accounts. Needs no node and no network
    #[command(after_help = "Example:\n  shuyu audit bundle verify story.bundle.json

Exit code 0 verified, 2 does not hold, 3 cannot be read.")]
    Verify(bundle::Verify),
}

/// Where to write.
#[derive(Debug, Args)]
pub struct Make {
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Runs a command about audits.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Follow { did } => {
            let answer = globals.api()?.post("v1/audit/nodes", &json!({"did": did})).await?;
            globals.done(&answer, format_args!("following the ledger of {did}"))?;
            globals.hint(format_args!("`shuyu audit sync` fetches and verifies it"));
            Ok(())
        }
        Command::Sync => sync(globals).await,
        Command::Report => report(globals).await,
        Command::Bundle(Bundle::Make(make)) => make_bundle(globals, make).await,
        Command::Bundle(Bundle::Verify(which)) => bundle::verify(globals, which),
    }
}

async fn sync(globals: &Globals) -> Outcome {
    let answer = globals.api()?.post("v1/audit/sync", &json!({})).await?;
    let nodes = members(&answer.value, &["items", "nodes"]);
    if globals.is_json() {
        print::line(&answer.text)?;
    } else {
        print::listing(&[("NODE", "/did"), ("ENTRIES", "/size"), ("VERIFIED", "/verified")], nodes)?;
    }
    let bad: Vec<String> = nodes
        .iter()
        .flat_map(|node| {
            let did = node.get("did").map(print::cell).unwrap_or_default();
            let found = findings(node);
            let is_silent = node.get("verified").and_then(Value::as_bool) != Some(true) && found.is_empty();
            let silent = is_silent.then(|| format!("{did}: not verified"));
            found.into_iter().map(move |finding| format!("{did}: {finding}")).chain(silent).collect::<Vec<_>>()
        })
        .collect();
    refuse_if_any("a followed ledger does not hold", bad)
}

async fn report(globals: &Globals) -> Outcome {
    let answer = globals.api()?.get("v1/audit/report").await?;
    if globals.is_json() {
        print::line(&answer.text)?;
    } else {
        print::listing(
            &[("NODE", "/did"), ("ENTRIES", "/entries"), ("HEAD", "/head"), ("WHOLE", "/whole")],
            members(&answer.value, &["nodes"]),
        )?;
        print::line("")?;
        print::listing(
            &[("ONE", "/a"), ("OTHER", "/b"), ("EVENTS BOTH RECORDED ALIKE", "/agreed")],
            members(&answer.value, &["comparisons"]),
        )?;
    }
    refuse_if_any("the parties' accounts do not agree", findings(&answer.value))
}

async fn make_bundle(globals: &Globals, make: &Make) -> Outcome {
    let answer = globals.api()?.post("v1/audit/bundle", &json!({})).await?;
    let Some(file) = &make.file else {
        return print::line(&answer.text);
    };
    std::fs::write(file, answer.text.as_bytes())
        .map_err(|error| Failure::failed(format_args!("could not write `{}`: {error}", file.display())))?;
    globals.say(format_args!("wrote {} bytes to {}", answer.text.len(), file.display()));
    globals.hint(format_args!("`shuyu audit bundle verify {}` checks it on any machine", file.display()));
    Ok(())
}

fn members<'a>(value: &'a Value, names: &[&str]) -> &'a [Value] {
    let found = names.iter().find_map(|name| value.get(name).and_then(Value::as_array)).or(value.as_array());
    found.map(Vec::as_slice).unwrap_or_default()
}

/// The `findings` of a node or a report, each as one line.
fn findings(value: &Value) -> Vec<String> {
    let list = value.get("findings").and_then(Value::as_array).into_iter().flatten();
    list.map(|finding| finding.get("message").map_or_else(|| print::cell(finding), print::cell)).collect()
}

fn refuse_if_any(message: &str, bad: Vec<String>) -> Outcome {
    if bad.is_empty() {
        return Ok(());
    }
    Err(Failure::refused(message)
        .because(bad)
        .hint("`shuyu audit bundle make --file proof.json` writes the proof to a file"))
}
