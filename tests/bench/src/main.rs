//! `shuyu-bench [exchange|governed|scale|ledger] [--quick] [--json FILE]`: measures figures of the design and says whether
//! they hold.
//!
//! Ratios are taken interleaved in one run, as medians; CPU-seconds stand beside wall time where both ends are ours.
//! Whatever else the machine does while this runs makes the figures worse, so the load is printed before and after.

mod clock;
mod exchange;
mod figure;
mod governed;
mod ledger;
mod machine;
mod measure;
mod node;
mod scale;
mod space;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::figure::Report;

/// Measures what the design promises.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Wish {
    /// What to measure; everything if not given
    name: Option<Name>,
    /// Write the figures as a JSON array to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fewer rounds: to see that it works, not to be quoted
    #[arg(long)]
    quick: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Name {
    /// Negotiations, first byte, start and memory of real nodes: figures 5, 6, 14
    Exchange,
    /// Governed queries and streams, policy decisions: figures 1, 2, 3, 7
    Governed,
    /// Ten thousand live negotiations over a restart, ten thousand offers: figures 5, 10, 14
    Scale,
    /// Durable entries and acknowledgements of the ledger, beside Tessera: figures 8, 9
    Ledger,
}

/// How much of everything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Enough for the medians to be quoted.
    Full,
    /// Enough to see that it works.
    Quick,
}

impl Effort {
    /// One of two amounts.
    pub fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let wish = Wish::parse();
    // Another crate of the graph brings a second provider, so rustls does not choose by itself.
    let _installed_already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let effort = if wish.quick { Effort::Quick } else { Effort::Full };
    let mut report = Report::default();
    let before = machine::load_average()?;
    eprintln!("load average before: {before}; {} cores", machine::cores());
    let measured = measure_all(&wish, effort, &mut report).await;
    report.print();
    println!("load average: {before} before, {} after; {} cores", machine::load_average()?, machine::cores());
    println!("profile: one for tests, demo and benchmarks; crates of this workspace opt-level 1, dependencies 2");
    if effort == Effort::Quick {
        println!("--quick: too few rounds for these figures to be quoted");
    }
    if let Some(path) = &wish.json {
        let json = serde_json::to_string_pretty(&report.to_json())?;
        std::fs::write(path, json + "\n").with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    measured
}

/// What was measured before a failure stays in the report.
async fn measure_all(wish: &Wish, effort: Effort, report: &mut Report) -> Result<()> {
    let is_wanted = |name: &str| wish.name.is_none_or(|wanted| format!("{wanted:?}") == name);
    if is_wanted("Exchange") {
        exchange::measure(effort, report).await.context("exchange")?;
    }
    if is_wanted("Governed") {
        governed::measure(effort, report).await.context("governed")?;
    }
    if is_wanted("Scale") {
        scale::measure(effort, report).await.context("scale")?;
    }
    if is_wanted("Ledger") {
        ledger::measure(effort, report).context("ledger")?;
    }
    Ok(())
}
