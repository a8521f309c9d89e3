//! `shuyu ledger promises`: what other nodes' ledgers promised this one.

use std::path::PathBuf;

use clap::Args;
use serde_json::Value;

use crate::context::Globals;
use crate::failure::{Failure, Outcome};

/// Which promises.
#[derive(Debug, Args)]
pub struct Promises {
    /// Only about this process, as `shuyu ledger tail` names it
    #[arg(long, value_name = "PROCESS")]
    process: Option<String>,
    /// Write each as N.entry and N.promise into this directory
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// Runs `shuyu ledger promises`.
pub async fn run(globals: &Globals, wish: &Promises) -> Outcome {
    let query: Vec<(&str, String)> = wish.process.iter().map(|process| ("process", process.clone())).collect();
    let answer = globals.api()?.get_with("v1/ledger/promises", &query).await?;
    globals.listing(
        &answer,
        &[
            ("AT", "/at"),
            ("FROM", "/peer"),
            ("LEDGER", "/origin"),
            ("INDEX", "/index"),
            ("DEADLINE", "/deadline"),
            ("FAULT", "/fault"),
            ("PROCESS", "/process"),
        ],
    )?;
    let Some(dir) = &wish.save else { return Ok(()) };
    let failed = |error: std::io::Error| Failure::failed(format_args!("cannot write to `{}`: {error}", dir.display()));
    std::fs::create_dir_all(dir).map_err(failed)?;
    for (item, number) in answer.items().iter().zip(1..) {
        for part in ["entry", "promise"] {
            let text = item.get(part).and_then(Value::as_str).unwrap_or_default();
            std::fs::write(dir.join(format!("{number}.{part}")), text).map_err(failed)?;
        }
    }
    globals.say(format_args!("{} promises written to {}", answer.items().len(), dir.display()));
    Ok(())
}
