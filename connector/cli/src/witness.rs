//! `shuyu witness`: what this node cosigns of other nodes' ledgers.

use clap::Subcommand;

use crate::context::Globals;
use crate::failure::Outcome;
use crate::print;

/// Commands about witnessing.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the witness's key, its address, and the ledgers it cosigned
    #[command(after_help = "Example:
  shuyu witness show

A witness cosigns a checkpoint only after a proof that it continues the last one it cosigned (C2SP tlog-witness). The
line `policy line` goes into the witness policy of a space or of a node (`[ledger] witness-policy`), with a name in place
of NAME. Ledgers are added with `[witness] logs = [\"VKEY\"]` in shuyu.toml; a regulator that is a witness too cosigns what
it follows. Give the file of `[witness] high-water` a place on another disk than the node's store: it shows a store that was set back, and
such a witness signs nothing more.")]
    Show,
}

/// Runs a command about witnessing.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Show => {
            let answer = globals.api()?.get("v1/witness").await?;
            if globals.is_json() {
                return print::line(&answer.text);
            }
            print::details(
                &[
                    ("witness", "/name"),
                    ("key", "/key"),
                    ("address", "/url"),
                    ("policy line", "/policy_line"),
                    ("cosigned", "/cosigned"),
                    ("retired", "/retired"),
                ],
                &answer.value,
            )?;
            print::line("")?;
            print::listing(
                &[("LEDGER", "/origin"), ("ENTRIES", "/size"), ("AT", "/time"), ("REFUSED", "/refused")],
                answer.items(),
            )
        }
    }
}
