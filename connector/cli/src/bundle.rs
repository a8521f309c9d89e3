//! `shuyu audit bundle verify`: the judgement over a bundle, with nothing but the file.

mod make;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use shuyu_base::Did;
use shuyu_evidence::bundle::MAX_BUNDLE_BYTES;
use shuyu_evidence::{Accused, Audit, Bundle, Conviction, Verdict};
use shuyu_tlog::quorum::MAX_POLICY_BYTES;
use shuyu_tlog::{Vkey, WitnessPolicy};

use crate::context::{Globals, read_file};
use crate::failure::{Failure, Outcome, chain};
use crate::print;

pub use make::{Make, make};

/// Which bundle.
#[derive(Debug, Args)]
pub struct Verify {
    /// The bundle; `-` reads stdin
    file: PathBuf,
    /// A log's key you know from elsewhere, as DID=VKEY; may be repeated. Without it the bundle's own keys are believed
    #[arg(long = "pin", value_name = "DID=VKEY")]
    pins: Vec<String>,
    /// The witnesses you trust and their quorum (a C2SP tlog-policy file), instead of those the bundle brings
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Runs `shuyu audit bundle verify`.
pub fn verify(globals: &Globals, wish: &Verify) -> Outcome {
    let pins = wish.pins.iter().map(|pin| parse_pin(pin)).collect::<Outcome<BTreeMap<_, _>>>()?;
    let unreadable = |why: String| Failure::invalid(format_args!("`{}`: {why}", wish.file.display()));
    let bytes = read_file(&wish.file, MAX_BUNDLE_BYTES as u64)?;
    let mut bundle = Bundle::parse(&bytes).map_err(|error| unreadable(chain(&error)))?;
    if let Some(file) = &wish.policy {
        bundle = bundle.with_policy(read_policy(file)?);
    }
    bundle.check_pins(&pins).map_err(|error| Failure::refused(chain(&error)))?;
    let audit = bundle.verify().map_err(|error| unreadable(chain(&error)))?;
    if globals.is_json() {
        print::line(&as_json(&audit).to_string())?;
    } else {
        as_table(&audit)?;
    }
    match &audit.verdict {
        Verdict::Holds => {
            globals.say(format_args!("verified: everything in the bundle of {} fits together", bundle.made_at));
            if pins.is_empty() {
                globals.hint(format_args!(
                    "the keys are those the bundle brings; --pin DID=VKEY holds them against yours"
                ));
            }
            Ok(())
        }
        Verdict::DoesNotHold(convictions) => {
            let failure = Failure::refused("the bundle proves that something does not hold")
                .because(convictions.iter().map(ToString::to_string).collect());
            Err(if convictions.iter().any(|one| one.basis.convicts()) {
                let trusted =
                    [(pins.is_empty(), "--pin"), (wish.policy.is_none() && bundle.policy.is_some(), "--policy")];
                let missing: Vec<&str> = trusted.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
                if missing.is_empty() { failure } else { failure.hint(trust_hint(&missing)) }
            } else {
                failure.hint("none of this convicts by itself: it rests on the word of the auditor or of one party")
            })
        }
    }
}

fn trust_hint(missing: &[&str]) -> String {
    format!("keys and witnesses are those the bundle brings; {} holds them against yours", missing.join(" and "))
}

/// Reads a witness policy.
fn read_policy(file: &std::path::Path) -> Outcome<WitnessPolicy> {
    let bytes = read_file(file, MAX_POLICY_BYTES as u64)?;
    WitnessPolicy::parse(&bytes).map_err(|error| Failure::invalid(format_args!("`{}`: {error}", file.display())))
}

/// A log's key, as `--pin` takes it.
///
/// # Errors
/// Usage, naming what is wrong.
pub fn parse_pin(text: &str) -> Outcome<(Did, Vkey)> {
    let bad = |why: &dyn std::fmt::Display| Failure::usage(format_args!("--pin `{text}`: {why}"));
    let (did, vkey) = text.split_once('=').ok_or_else(|| bad(&"write DID=VKEY"))?;
    Ok((did.parse().map_err(|error| bad(&error))?, vkey.parse().map_err(|error| bad(&error))?))
}

fn as_table(audit: &Audit) -> Outcome {
    let rows: Vec<Vec<String>> = audit
        .nodes
        .iter()
        .map(|node| {
            let head = node.head.as_ref().map(|head| head.size.to_string()).unwrap_or_default();
            vec![node.did.to_string(), node.entry_count.to_string(), head, yes(node.is_whole), node.vkey.to_string()]
        })
        .collect();
    print::grid(["NODE", "ENTRIES", "HEAD", "WHOLE", "KEY"].map(str::to_owned).to_vec(), rows)?;
    if audit.pairs.is_empty() {
        return Ok(());
    }
    let rows: Vec<Vec<String>> = audit
        .pairs
        .iter()
        .map(|pair| {
            let processes = pair.report.processes.len().to_string();
            vec![pair.a.to_string(), pair.b.to_string(), processes, pair.report.agreed().to_string()]
        })
        .collect();
    print::line("")?;
    print::grid(["ONE", "OTHER", "PROCESSES", "AGREED"].map(str::to_owned).to_vec(), rows)
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

fn as_json(audit: &Audit) -> Value {
    let nodes: Vec<Value> = audit
        .nodes
        .iter()
        .map(|node| {
            json!({"did": node.did.as_str(), "vkey": node.vkey.to_string(), "entries": node.entry_count,
                "head": node.head.as_ref().map(|head| head.size), "whole": node.is_whole})
        })
        .collect();
    let pairs: Vec<Value> = audit
        .pairs
        .iter()
        .map(|pair| {
            json!({"a": pair.a.as_str(), "b": pair.b.as_str(), "processes": pair.report.processes.len(),
                "agreed": pair.report.agreed()})
        })
        .collect();
    let findings: Vec<String> = match &audit.verdict {
        Verdict::Holds => Vec::new(),
        Verdict::DoesNotHold(convictions) => convictions.iter().map(ToString::to_string).collect(),
    };
    let convictions: Vec<Value> = match &audit.verdict {
        Verdict::Holds => Vec::new(),
        Verdict::DoesNotHold(convictions) => convictions.iter().map(conviction_json).collect(),
    };
    json!({"holds": findings.is_empty(), "nodes": nodes, "comparisons": pairs, "findings": findings,
        "convictions": convictions})
}

fn conviction_json(one: &Conviction) -> Value {
    let who: Vec<String> = one
        .who
        .iter()
        .map(|who| match who {
            Accused::Node(did) => did.to_string(),
            Accused::Witness(key) => key.clone(),
        })
        .collect();
    json!({"kind": one.kind.name(), "basis": one.basis.name(), "convicts": one.basis.convicts(), "who": who,
        "detail": one.detail})
}
