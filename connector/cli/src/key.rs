//! `shuyu key`: the signing keys of a node over time. Works on the node directory.

use std::path::Path;

use clap::{Args, Subcommand};
use serde_json::json;
use shuyu_node::key_ring::{self, KeyRing};

use crate::clock;
use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::init::SuiteName;
use crate::print::{self, Format};

/// Commands about signing keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the signing key in use and those before it
    List,
    /// Replace the signing key; the one that leaves signs that the new one takes over
    #[command(after_help = "Examples:
  shuyu --dir weather key rotate
  shuyu --dir weather key rotate --compromised

A running node goes on with the old key until it is started again. Contracts stay in force: the DID document
carries the succession, by which the other party tells a change of keys from a change of hands. What the old
key signed can still be checked. --compromised: nothing the old key signs from now on is taken by this node.")]
    Rotate(Rotate),
}

/// A change of keys.
#[derive(Debug, Args)]
pub struct Rotate {
    /// Suite of the new key
    #[arg(long, value_enum, default_value = "ed25519")]
    suite: SuiteName,
    /// Others may have the old key
    #[arg(long)]
    compromised: bool,
}

/// Runs a command about signing keys.
pub fn run(globals: &Globals, command: &Command) -> Outcome {
    let dir =
        globals.dir.as_deref().ok_or_else(|| Failure::usage("which node?").hint("give --dir DIR, or set SHUYU_DIR"))?;
    match command {
        Command::List => list(globals, dir),
        Command::Rotate(wish) => rotate(globals, dir, wish),
    }
}

fn list(globals: &Globals, dir: &Path) -> Outcome {
    let config = crate::node_dir::read(dir)?.config;
    let ring = KeyRing::load(dir, &config).map_err(|error| Failure::invalid(chain(&error)))?;
    let key = crate::node_dir::keys(dir, &config)?.signing;
    let past = ring.past.iter().map(|past| {
        json!({ "key": past.fragment, "multikey": past.key, "until": past.until, "compromised": past.compromised })
    });
    let current = json!({ "key": ring.fragment, "multikey": key.to_multikey(), "until": null, "compromised": false });
    let items: Vec<_> = past.chain([current]).collect();
    match globals.output {
        Format::Json => print::line(&json!({ "items": items, "next": null }).to_string()),
        Format::Table => print::listing(
            &[("KEY", "/key"), ("MULTIKEY", "/multikey"), ("UNTIL", "/until"), ("COMPROMISED", "/compromised")],
            &items,
        ),
    }
}

fn rotate(globals: &Globals, dir: &Path, wish: &Rotate) -> Outcome {
    let rotated = key_ring::rotate(dir, wish.suite.into(), wish.compromised, clock::now_millis())
        .map_err(|error| Failure::invalid(chain(&error)))?;
    match globals.output {
        Format::Json => print::line(&json!({ "kid": rotated.kid, "multikey": rotated.key.to_multikey() }).to_string())?,
        Format::Table => print::line(&rotated.kid)?,
    }
    globals.hint(format_args!("start the node again to use it"));
    Ok(())
}
