//! `shuyu audit bundle make`: what the regulator's node holds, with what parties handed in, whole or cut down to one proof.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use shuyu_base::Did;
use shuyu_credentials::jws;
use shuyu_evidence::bundle::MAX_BUNDLE_BYTES;
use shuyu_evidence::{Bundle, ConvictionKind, MAX_ENTRY_BYTES, NodeEvidence, Picked};
use shuyu_tlog::note::MAX_NOTE_BYTES;
use shuyu_tlog::promise::MAX_PROMISE_BYTES;
use shuyu_tlog::proof::MAX_PROOF_BYTES;
use shuyu_tlog::{InclusionProof, Note, PromiseProof};

use super::read_policy;
use crate::context::{Globals, read_file};
use crate::failure::{Failure, Outcome, chain};
use crate::print;

/// Largest receipt read, in bytes.
const MAX_RECEIPT_BYTES: u64 = 16 * 1024;

/// What to put in, and where to write.
#[derive(Debug, Args)]
pub struct Make {
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Start from this bundle instead of what the node holds; needs no node
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// Only the smallest proof of one conviction of this kind
    #[arg(long, value_name = "KIND", value_parser = parse_kind)]
    only: Option<ConvictionKind>,
    /// The witnesses and their quorum (a C2SP tlog-policy file): without it nothing is proven about times
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// A signed checkpoint that was seen elsewhere; may be repeated
    #[arg(long = "head", value_name = "FILE")]
    heads: Vec<PathBuf>,
    /// An entry and its tlog-proof, handed in by a party; may be repeated
    #[arg(long = "proof", value_name = "ENTRY=PROOF", value_parser = parse_pair)]
    proofs: Vec<(PathBuf, PathBuf)>,
    /// An entry and the log's promise to take it; may be repeated
    #[arg(long = "promise", value_name = "ENTRY=PROMISE", value_parser = parse_pair)]
    promises: Vec<(PathBuf, PathBuf)>,
    /// A provider's receipt of a use (compact JWS); may be repeated
    #[arg(long = "receipt", value_name = "FILE")]
    receipts: Vec<PathBuf>,
}

fn parse_kind(text: &str) -> Result<ConvictionKind, String> {
    let names = || ConvictionKind::ALL.map(ConvictionKind::name).join(", ");
    ConvictionKind::from_name(text).ok_or_else(|| format!("one of {}", names()))
}

fn parse_pair(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (entry, proof) = text.split_once('=').ok_or("write ENTRY=PROOF, two files")?;
    Ok((entry.into(), proof.into()))
}

/// Runs `shuyu audit bundle make`.
pub async fn make(globals: &Globals, wish: &Make) -> Outcome {
    let bytes = match &wish.from {
        Some(file) => read_file(file, MAX_BUNDLE_BYTES as u64)?,
        None => globals.api()?.post("v1/audit/bundle", &json!({})).await?.text.into_bytes(),
    };
    let mut bundle = Bundle::parse(&bytes).map_err(|error| Failure::invalid(chain(&error)))?;
    if let Some(file) = &wish.policy {
        bundle = bundle.with_policy(read_policy(file)?);
    }
    add(&mut bundle, wish)?;
    if let Some(kind) = wish.only {
        bundle = bundle.minimal(kind).map_err(|error| Failure::refused(chain(&error)))?;
    }
    let text = bundle.to_json().map_err(|error| Failure::failed(chain(&error)))?;
    let Some(file) = &wish.file else {
        return print::line(&String::from_utf8_lossy(&text));
    };
    std::fs::write(file, &text)
        .map_err(|error| Failure::failed(format_args!("could not write `{}`: {error}", file.display())))?;
    globals.say(format_args!("wrote {} bytes to {}", text.len(), file.display()));
    globals.hint(format_args!("`shuyu audit bundle verify {}` checks it on any machine", file.display()));
    Ok(())
}

/// Adds what parties handed in, each to the node that it names.
fn add(bundle: &mut Bundle, wish: &Make) -> Outcome {
    for file in &wish.heads {
        let bytes = read_file(file, MAX_NOTE_BYTES as u64)?;
        Note::parse(&bytes).map_err(|error| bad(file, &error))?;
        bundle.heads.push(bytes);
    }
    for (entry, file) in &wish.proofs {
        let proof = read_file(file, MAX_PROOF_BYTES as u64)?;
        let read = InclusionProof::parse(&proof).map_err(|error| bad(file, &error))?;
        let origin = read.checkpoint.split('\n').next().unwrap_or_default().to_owned();
        let entry = read_file(entry, MAX_ENTRY_BYTES as u64)?;
        of_log(bundle, &origin, file)?.picked.push(Picked { entry, proof });
    }
    for (entry, file) in &wish.promises {
        let proof = read_file(file, MAX_PROMISE_BYTES as u64)?;
        let read = PromiseProof::parse(&proof).map_err(|error| bad(file, &error))?;
        let origin = read.note.split('\n').nth(1).unwrap_or_default().to_owned();
        let entry = read_file(entry, MAX_ENTRY_BYTES as u64)?;
        of_log(bundle, &origin, file)?.promises.push(Picked { entry, proof });
    }
    for file in &wish.receipts {
        let bytes = read_file(file, MAX_RECEIPT_BYTES)?;
        let text = String::from_utf8(bytes).map_err(|error| bad(file, &error))?.trim().to_owned();
        let kid = jws::peek(&text).map_err(|error| bad(file, &error))?.kid;
        let signer: Option<Did> = kid.split('#').next().and_then(|did| did.parse().ok());
        let node = bundle.nodes.iter_mut().find(|node| Some(&node.did) == signer.as_ref());
        node.ok_or_else(|| unknown(file, &kid))?.receipts.push(text);
    }
    Ok(())
}

fn of_log<'a>(bundle: &'a mut Bundle, origin: &str, file: &Path) -> Outcome<&'a mut NodeEvidence> {
    let node = bundle.nodes.iter_mut().find(|node| node.vkey.name() == origin);
    node.ok_or_else(|| unknown(file, origin))
}

fn unknown(file: &Path, name: &str) -> Failure {
    Failure::invalid(format_args!("`{}` is of `{name}`, of which the bundle has no node", file.display()))
        .hint("`shuyu audit follow DID` and `shuyu audit sync` take it in")
}

fn bad(file: &Path, error: &dyn std::error::Error) -> Failure {
    Failure::invalid(format_args!("`{}`: {}", file.display(), chain(error)))
}
