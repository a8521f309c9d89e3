//! Checking a whole ledger from its files: a directory, a copy of one, or a served ledger.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;
use shuyu_base::keys::PublicKey;
use shuyu_base::{Did, HashKind};
use shuyu_credentials::DidDocument;
use shuyu_evidence::{Bundle, NodeEvidence, Observed, Verdict};
use shuyu_ledger::{TWIN_SUFFIX, VerifyError, verify_dir};
use shuyu_node::config::FILE_NAME;
use shuyu_resolver::{DidResolver, Http, HttpOptions};
use shuyu_tlog::tile::{TILE_WIDTH, tile_bytes};
use shuyu_tlog::{Checkpoint, LogVerifier, SignedCheckpoint, Tile, Vkey, read_bundle};

use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::ledger_source::{Files, Source, peek_head, source};
use crate::ledger_suites::{self, Known, Require};
use crate::node_dir::{self, NodeKeys};
use crate::print;

/// Which ledger.
#[derive(Debug, Args)]
pub struct Verify {
    /// A ledger directory, a node directory, or the URL of a served ledger; by default the ledger of --dir
    place: Option<String>,
    /// Key of the log (a C2SP vkey) that you know from elsewhere, the Ed25519 one first; by default those the ledger shows
    #[arg(long, value_name = "VKEY", conflicts_with = "node")]
    vkey: Vec<String>,
    /// Which of the known keys must have signed
    #[arg(long, value_enum, default_value = "any", value_name = "WHICH")]
    require: Require,
    /// Check the SM3 twin too, and that both are of the same entries
    #[arg(long)]
    twin: bool,
    /// Owner of the log: its DID document is resolved, and the statements' signatures are checked too
    #[arg(long, value_name = "DID")]
    node: Option<Did>,
    /// Write what was checked as a bundle, for `shuyu audit bundle verify`
    #[arg(long, value_name = "FILE", requires = "node")]
    proof: Option<PathBuf>,
}

/// What was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Name of the log.
    pub origin: String,
    /// Entries up to the signed head.
    pub size: u64,
    /// Root of the tree over them.
    pub root: String,
    /// Whether the statements' own signatures were checked as well.
    pub has_statements: bool,
}

/// The owner of a log and the document with its keys.
struct Owner {
    did: Did,
    document: DidDocument,
}

/// Runs `shuyu ledger verify`.
pub async fn run(globals: &Globals, wish: &Verify) -> Outcome {
    let source = source(globals, wish.place.as_deref())?;
    let files = source.read(globals).await?;
    let given = wish.vkey.iter().map(|text| parse_vkey(text)).collect::<Outcome<Vec<_>>>()?;
    let owner = match &wish.node {
        Some(did) => Some(resolve(did).await?),
        None => None,
    };
    let own = if given.is_empty() && owner.is_none() { source.keys()? } else { None };
    let (known, outcome) = match (&owner, given.first(), &own) {
        (Some(owner), ..) => (Known::Document(&owner.document), judge(owner, &files, wish.proof.as_deref())),
        (None, Some(first), _) => (Known::Given(&given), source.check(first, None, &files)),
        (None, None, Some(keys)) => {
            let known = Known::Node { ledger: &keys.ledger, sm2: keys.sm2.as_ref() };
            (known, source.check_with(keys, &files))
        }
        (None, None, None) => (Known::Shown, source.check(&source.vkey(globals).await?, None, &files)),
    };
    if let (Some(proof), Err(failure)) = (&wish.proof, &outcome)
        && proof.exists()
    {
        globals.say(format_args!("wrote the proof to {}", proof.display()));
        return Err(Failure {
            hint: Some(format!("`shuyu audit bundle verify {}` shows it to anyone", proof.display())),
            ..copy(failure)
        });
    }
    let summary = outcome?;
    if wish.require == Require::All {
        let keys = known.keys(globals, &source, &summary.origin, HashKind::Sha256).await?;
        let count = ledger_suites::demand_all(&keys, &files.checkpoint)?;
        globals.say(format_args!("signed by all {count} of its known keys"));
    }
    if wish.twin {
        let bindings = twin(globals, &source, &known, &summary, &files).await?;
        globals.say(format_args!("the SM3 twin holds, bound to the log by {bindings} entries"));
    }
    if globals.is_json() {
        let all = json!({"origin": summary.origin, "size": summary.size, "root": summary.root,
            "statements": summary.has_statements, "verified": true});
        return print::line(&all.to_string());
    }
    print::line(&format!("verified: {} entries of {}", summary.size, print::clean(&summary.origin)))?;
    globals.detail(format_args!("root {}", summary.root));
    if !summary.has_statements {
        globals.say(format_args!("the statements' own signatures were not checked: add --node DID"));
    }
    Ok(())
}

/// Checks the twin by itself and against the log; returns how many entries bind it.
async fn twin(globals: &Globals, source: &Source, known: &Known<'_>, log: &Summary, files: &Files) -> Outcome<u64> {
    let place = ledger_suites::twin_of(source)?;
    let of_twin = place.read(globals).await?;
    let origin = format!("{}{TWIN_SUFFIX}", log.origin);
    let keys = known.keys(globals, &place, &origin, HashKind::Sm3).await?;
    ledger_suites::demand_all(&keys, &of_twin.checkpoint)?;
    let signed = |key: &&Vkey| SignedCheckpoint::open(&of_twin.checkpoint, key).is_ok();
    let key = keys.iter().find(signed).ok_or_else(|| does_not_hold("no key of the twin has signed it".to_owned()))?;
    check(key, None, &of_twin)?;
    ledger_suites::compare(files, &of_twin)
}

fn copy(failure: &Failure) -> Failure {
    Failure {
        kind: failure.kind,
        status: failure.status,
        message: failure.message.clone(),
        explanation: failure.explanation.clone(),
        hint: failure.hint.clone(),
    }
}

/// Checks the ledger of a node directory with the node's own keys.
///
/// # Errors
/// Exit code 2 if it does not hold, 3 if it cannot be read.
pub async fn of_node(globals: &Globals, dir: &Path, keys: &NodeKeys) -> Outcome<Summary> {
    let source = Source::Dir(dir.join("ledger"));
    source.check_with(keys, &source.read(globals).await?)
}

impl Source {
    fn check_with(&self, keys: &NodeKeys, files: &Files) -> Outcome<Summary> {
        let origin = peek_head(&files.checkpoint)?.origin;
        let vkey = Vkey::new(&origin, keys.ledger.clone())
            .map_err(|error| Failure::invalid(format_args!("the node's ledger key: {}", chain(&error))))?;
        self.check(&vkey, Some(&keys.signing), files)
    }

    /// Of a ledger directory the writer's segments are compared as well.
    fn check(&self, vkey: &Vkey, signing: Option<&PublicKey>, files: &Files) -> Outcome<Summary> {
        if let Self::Dir(dir) = self {
            verify_dir(dir, vkey).map_err(|error| match &error {
                VerifyError::DoesNotHold { .. } => does_not_hold(error.to_string()),
                VerifyError::Unreadable { .. } | _ => Failure::invalid(chain(&error)),
            })?;
        }
        check(vkey, signing, files)
    }

    /// The key that the ledger itself shows.
    async fn vkey(&self, globals: &Globals) -> Outcome<Vkey> {
        let text = self
            .file(globals, "vkey")
            .await
            .map_err(|failure| failure.hint("whose ledger is it? give --node DID, or --vkey with the key you know"))?;
        parse_vkey(String::from_utf8_lossy(&text).trim())
    }

    /// The node's own keys, where the ledger lies in its node directory.
    fn keys(&self) -> Outcome<Option<NodeKeys>> {
        let Self::Dir(dir) = self else { return Ok(None) };
        let node_dir = match dir.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return Ok(None),
        };
        if !node_dir.join(FILE_NAME).exists() || dir.file_name() != Some("ledger".as_ref()) {
            return Ok(None);
        }
        let config = node_dir::read(node_dir)?.config;
        node_dir::keys(node_dir, &config).map(Some)
    }
}

/// A document as peers would resolve it; plain http only where the DID itself names this machine.
async fn resolve(did: &Did) -> Outcome<Owner> {
    let is_here = shuyu_credentials::WebLocation::from_did(did).is_ok_and(|place| place.is_loopback());
    let http = Http::new(HttpOptions { insecure_loopback: is_here, ..HttpOptions::default() })
        .map_err(|error| Failure::failed(chain(&error)))?;
    let document = DidResolver::new(http).resolve(did).await.map_err(|error| {
        Failure::invalid(format_args!("could not resolve {did}: {}", chain(&error)))
            .hint("give --vkey with the key you know")
    })?;
    Ok(Owner { did: did.clone(), document: DidDocument::clone(&document) })
}

fn parse_vkey(text: &str) -> Outcome<Vkey> {
    text.parse().map_err(|error| Failure::invalid(format_args!("the log's key `{text}`: {}", chain(&error))))
}

/// That the files are the log whose head the key signed, and, where the owner's key is known, that each entry is a
/// statement the owner signed.
fn check(vkey: &Vkey, signing: Option<&PublicKey>, files: &Files) -> Outcome<Summary> {
    let signed = SignedCheckpoint::open(&files.checkpoint, vkey)
        .map_err(|error| does_not_hold(format!("`checkpoint`: {}", chain(&error))))?;
    let head = signed.checkpoint();
    let mut verifier =
        LogVerifier::new(vkey.kind().tree_hash(), [head]).map_err(|error| does_not_hold(error.to_string()))?;
    let mut wrong = Vec::new();
    for (path, bytes) in files.tiles.iter().filter(|(path, _)| path.tile() == Tile::Entries) {
        let entries = read_bundle(bytes, path.width()).map_err(|error| does_not_hold(format!("`{path}`: {error}")))?;
        for (entry, at) in entries.into_iter().zip(path.index() * u64::from(TILE_WIDTH)..) {
            if let Some(key) = signing
                && let Err(error) = shuyu_evidence::open(entry, |_| Some(key.clone()))
            {
                wrong.push(format!("entry {at}: {}", chain(&error)));
            }
            let pushed = verifier.push(entry, |tile, hashes| {
                if files.tiles.get(&tile).is_some_and(|stored| *stored != tile_bytes(hashes)) {
                    wrong.push(format!("`{tile}` is not the hashes of its entries"));
                }
            });
            pushed.map_err(|error| does_not_hold(error.to_string()))?;
        }
    }
    let tree = verifier.finish().map_err(|error| does_not_hold(error.to_string()))?;
    for (path, hashes) in tree.partial_tiles() {
        if files.tiles.get(&path).is_some_and(|stored| *stored != tile_bytes(hashes)) {
            wrong.push(format!("`{path}` is not the hashes of its entries"));
        }
    }
    if wrong.is_empty() {
        Ok(summary(head, signing.is_some()))
    } else {
        Err(does_not_hold(String::new()).because(wrong))
    }
}

fn does_not_hold(why: String) -> Failure {
    let reasons = if why.is_empty() { Vec::new() } else { vec![why] };
    Failure::refused("the ledger does not hold")
        .because(reasons)
        .hint("--node DID --proof FILE writes the proof to a file; keep the ledger as it is")
}

fn summary(head: &Checkpoint, has_statements: bool) -> Summary {
    Summary { origin: head.origin.clone(), size: head.size, root: head.root.to_string(), has_statements }
}

/// Everything: head, hashes, and each statement's signature and sequence, as an audit bundle of one node.
fn judge(owner: &Owner, files: &Files, proof: Option<&Path>) -> Outcome<Summary> {
    let head = peek_head(&files.checkpoint)?;
    let vkey = log_key(owner, &head, &files.checkpoint)?;
    let now = crate::clock::now_millis();
    let node = NodeEvidence::new(owner.did.clone(), owner.document.clone(), vkey);
    let observed = vec![Observed { at: now, checkpoint: files.checkpoint.clone() }];
    let node = NodeEvidence { observed, files: files.tiles.clone(), ..node };
    let bundle = Bundle { made_at: now, policy: None, heads: Vec::new(), nodes: vec![node] };
    if let Some(file) = proof {
        let text = bundle.to_json().map_err(|error| Failure::failed(chain(&error)))?;
        std::fs::write(file, text).map_err(|error| Failure::failed(format_args!("`{}`: {error}", file.display())))?;
    }
    let audit = bundle.verify().map_err(|error| Failure::invalid(chain(&error)))?;
    match audit.verdict {
        Verdict::Holds => Ok(summary(&head, true)),
        Verdict::DoesNotHold(convictions) => {
            Err(does_not_hold(String::new()).because(convictions.iter().map(ToString::to_string).collect()))
        }
    }
}

/// The key of the document that signed the head; any Ed25519 key of it if none did, so that the verdict says so.
fn log_key(owner: &Owner, head: &Checkpoint, checkpoint: &[u8]) -> Outcome<Vkey> {
    let keys: Vec<Vkey> =
        owner.document.methods().iter().filter_map(|method| Vkey::new(&head.origin, method.key.clone()).ok()).collect();
    let signed = keys.iter().find(|key| SignedCheckpoint::open(checkpoint, key).is_ok()).or(keys.first());
    signed
        .cloned()
        .ok_or_else(|| Failure::invalid(format_args!("the document of {} has no key a log can have", owner.did)))
}
