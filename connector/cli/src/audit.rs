//! `shuyu audit`: the regulator's work, and the check of a bundle that needs no node and no network.

use clap::Subcommand;
use serde_json::{Value, json};

use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::{bundle, follow, print};

/// Commands about audits.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Follow ledgers: copy what is new, verify every byte of it, compare the parties' accounts, raise alarms
    #[command(after_help = "Examples:
  shuyu audit follow did:web:localhost%3A7101        follow this node from now on, and show what is found
  shuyu audit follow                                 show what is found at all followed nodes, until interrupted
  shuyu audit follow --once                          look once; exit code 2 if anything does not hold

The node follows by itself, every `[audit] every-s` seconds (10); this command only shows it, and asks it to look now. After
a break it goes on where it was: what was copied is not copied again, and after a start everything copied is verified again.
Alarms are kept: `shuyu audit alarms` lists them, and web hooks hear of each as `audit.alarm`.")]
    Follow(follow::Follow),
    /// List the alarms that were raised
    #[command(after_help = "Example:\n  shuyu audit alarms --after 12\n\nExit code 2 if there are any.")]
    Alarms {
        /// Only those after this number
        #[arg(long, value_name = "NUMBER", default_value_t = 0)]
        after: u64,
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
    /// Write everything a third party needs to check the followed ledgers, or the smallest proof of one misdeed
    #[command(after_help = "Examples:
  shuyu audit bundle make --file story.bundle.json
  shuyu audit bundle make --policy city.policy --only back-dated --file proof.json
  shuyu audit bundle make --receipt receipt.jws --policy city.policy --only omitted --file proof.json
  shuyu audit bundle make --promise entry.bin=entry.promise --only dropped --file proof.json
  shuyu audit bundle make --proof entry.bin=entry.tlog-proof --only altered --file proof.json
  shuyu audit bundle make --head heard.checkpoint --only fork --file proof.json
  shuyu audit bundle make --from story.bundle.json --only fork --file proof.json     without a node

Kinds for --only: fork, inconsistent, rollback, altered, bad-signature, bad-statement, replayed,
out-of-sequence, back-dated, pre-made, dropped, omitted, revoked-key, lying-witness, disagreement.
What is added goes to the node that it names: the log by its origin, the receipt by its key.")]
    Make(bundle::Make),
    /// Check a bundle: signatures, Merkle proofs, times, both parties' accounts. Needs no node and no network
    #[command(after_help = "Examples:
  shuyu audit bundle verify story.bundle.json
  shuyu audit bundle verify proof.json --policy city.policy --pin 'did:web:localhost%3A7101=localhost:7101/ledger+1f3c...'

Each finding says what it rests on: `signed-by-accused` and `cosigned-by-quorum` convict, if you trust the
keys (--pin) and the witnesses (--policy); `served-to-auditor` and `parties-disagree` are a reason to look again.

Exit code 0 verified, 2 does not hold, 3 cannot be read.")]
    Verify(bundle::Verify),
}

/// Runs a command about audits.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Follow(wish) => follow::run(globals, wish).await,
        Command::Alarms { after } => follow::alarms(globals, *after).await,
        Command::Sync => sync(globals).await,
        Command::Report => report(globals).await,
        Command::Bundle(Bundle::Make(make)) => bundle::make(globals, make).await,
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
