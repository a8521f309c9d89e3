//! `shuyu ledger`: the node's evidence.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::{disclosure, ledger_restore, ledger_verify, print, promises};

/// Commands about the ledger.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the latest entries
    #[command(after_help = "Examples:
  shuyu ledger tail
  shuyu ledger tail --limit 100 --process urn:uuid:...
  shuyu ledger tail --from 0 --limit 1000 --output json")]
    Tail(Tail),
    /// Prove that an entry is in the log, as a C2SP tlog-proof or a COSE receipt; both check off line
    #[command(after_help = "Examples:
  shuyu ledger prove 17 --file entry-17.tlog-proof
  shuyu ledger prove 17 --format cose --file entry-17.cose     a receipt for SCITT tools (RFC 9942)

A receipt is of the SHA-256 tree; there is none of the SM3 twin.")]
    Prove(Prove),
    /// Show fields of what an entry is about, provably, and nothing else of it
    #[command(
        after_help = "An entry commits to what it is about without saying it. This writes a file with the entry, the proof of its
place and the fields you name; whoever gets it needs no node and no network to check it.

Examples:
  shuyu ledger disclose 17                                       the names of the fields
  shuyu ledger disclose 17 --field rows --field to --file entry-17.disclosure.json
  shuyu ledger disclose 4 --field /agreement/permission          everything below that place

A field is named by its place in the message (a JSON pointer). What was erased cannot be shown."
    )]
    Disclose(disclosure::Disclose),
    /// Check a disclosure that somebody handed you. Needs no node and no network
    #[command(after_help = "Examples:
  shuyu ledger verify-disclosure entry-17.disclosure.json
  shuyu ledger verify-disclosure entry-17.disclosure.json --pin 'did:web:localhost%3A7101=localhost...'

Exit code 0 verified, 2 does not hold, 3 cannot be read.")]
    VerifyDisclosure(disclosure::Verify),
    /// Forget what entries are about; the entries and every proof of them stay
    #[command(
        after_help = "Deletes the values and their salts from this node's vault, so that nobody can find out any more what the
entries commit to, and states in the ledger that and why something was erased. What the node needs to work on, such as
contracts in force or credentials it issued, is not in the vault and stays; so does what others were sent.

Examples:
  shuyu ledger erase 17 --reason 'request of 22 November'
  shuyu ledger erase 17 --field purpose --reason 'not needed'
  shuyu ledger erase --process use/urn:uuid:... --reason 'contract ended'
  shuyu ledger erase --subject did:web:person.example --reason 'right to erasure'"
    )]
    Erase(disclosure::Erase),
    /// List what other nodes' ledgers promised us, and save it for a regulator
    #[command(
        after_help = "With the acknowledgement of a message comes the other node's entry about it and its ledger's signed promise that a
checkpoint covers that entry by a deadline. If the entry is not there then, the promise convicts that node.

Examples:
  shuyu ledger promises
  shuyu ledger promises --process negotiation/... --save promises/
  shuyu audit bundle make --promise promises/1.entry=promises/1.promise --only dropped --file proof.json"
    )]
    Promises(promises::Promises),
    /// List where this ledger's checkpoints were anchored, and with which receipts
    #[command(
        after_help = "Anchors stand in shuyu.toml, as another node's ledger or as any address that takes a checkpoint:

  [[anchors]]
  name = 'city'
  node = 'did:web:city.example'        # whose node has take-anchors = true under [ledger]
  [[anchors]]
  name = 'chain'
  url = 'https://gateway.example/anchor'
  token-file = 'chain.token'
  every-s = 3600

Examples:
  shuyu ledger anchors
  shuyu ledger anchors --now                      anchor what is new first
  shuyu ledger anchors --output json              with checkpoints and receipts (base64)"
    )]
    Anchors {
        /// Anchor what is new first
        #[arg(long)]
        now: bool,
    },
    /// Check a whole ledger: every hash, every signature, nothing missing
    #[command(after_help = "Examples:
  shuyu ledger verify                            the ledger of --dir, off line
  shuyu ledger verify holder/ledger              a ledger directory or a copy of one, off line
  shuyu ledger verify http://127.0.0.1:7101/ledger
  shuyu ledger verify copy-of-ledger --node did:web:localhost%3A7101 --proof proof.json

Exit code 0 verified, 2 does not hold, 3 cannot be read.")]
    Verify(ledger_verify::Verify),
    /// Restore the ledger of a node whose disk was lost, from a mirror or another copy
    #[command(after_help = "Examples:
  shuyu ledger restore --from http://regulator.example/mirrors/holder --dir holder
  shuyu ledger restore --from /backup/holder/ledger --checkpoint cosigned.txt --dir holder

The node must be stopped. The copy is refused if it is shorter than a checkpoint that the node is known to have
signed: its own, the one on another disk (`ledger.high-water`), or one given with --checkpoint. If it is broken
off, the same command goes on where it stopped. The next start of the node writes the tiles anew.

Exit code 0 restored, 2 the copy is refused, 3 something cannot be read.")]
    Restore(ledger_restore::Restore),
}

/// Which entries.
#[derive(Debug, Args)]
pub struct Tail {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Start at this index instead of at the end
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Only entries of this negotiation, transfer or use
    #[arg(long, value_name = "PID")]
    process: Option<String>,
}

/// Which entry.
#[derive(Debug, Args)]
pub struct Prove {
    /// Index of the entry, counted from 0
    index: u64,
    /// Form of the proof
    #[arg(long, value_enum, default_value = "tlog-proof")]
    format: ProofForm,
    /// Write to this file instead of stdout; a receipt is binary and always needs one
    #[arg(long, value_name = "FILE", required_if_eq("format", "cose"))]
    file: Option<PathBuf>,
}

/// Forms of a proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ProofForm {
    /// C2SP tlog-proof
    TlogProof,
    /// COSE receipt, RFC 9942
    Cose,
}

/// Runs a command about the ledger.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Anchors { now } => {
            let api = globals.api()?;
            if *now {
                api.post("v1/ledger/anchors", &serde_json::json!({})).await?;
            }
            let answer = api.get("v1/ledger/anchors").await?;
            globals.listing(&answer, &[("ANCHOR", "/anchor"), ("AT", "/at"), ("ENTRIES", "/size")])
        }
        Command::Promises(wish) => promises::run(globals, wish).await,
        Command::Tail(which) => tail(globals, which).await,
        Command::Prove(which) => prove(globals, which).await,
        Command::Disclose(which) => disclosure::disclose(globals, which).await,
        Command::VerifyDisclosure(which) => disclosure::verify(globals, which),
        Command::Erase(which) => disclosure::erase(globals, which).await,
        Command::Verify(which) => ledger_verify::run(globals, which).await,
        Command::Restore(which) => ledger_restore::run(globals, which).await,
    }
}

async fn tail(globals: &Globals, which: &Tail) -> Outcome {
    let api = globals.api()?;
    let from = match which.from {
        Some(from) => from,
        None if which.process.is_some() => 0,
        None => {
            let size = api.get("v1/ledger").await?.value.get("size").and_then(Value::as_u64).unwrap_or_default();
            size.saturating_sub(which.limit)
        }
    };
    let mut query = vec![("from", from.to_string()), ("limit", which.limit.to_string())];
    query.extend(which.process.clone().map(|process| ("process", process)));
    let answer = api.get_with("v1/ledger/entries", &query).await?;
    globals.listing(
        &answer,
        &[
            ("INDEX", "/index"),
            ("AT", "/statement/at"),
            ("ACT", "/statement/act"),
            ("KIND", "/statement/kind"),
            ("SEQ", "/statement/seq"),
            ("WITH", "/statement/with"),
            ("PROCESS", "/statement/process"),
        ],
    )
}

async fn prove(globals: &Globals, which: &Prove) -> Outcome {
    let api = globals.api()?;
    let bytes = match which.format {
        ProofForm::TlogProof => api.get(&format!("v1/ledger/proof/{}", which.index)).await?.text.into_bytes(),
        ProofForm::Cose => {
            let answer = api.get(&format!("v1/ledger/receipt/{}", which.index)).await?;
            let text = answer.text_at("/receipt")?;
            STANDARD
                .decode(text)
                .map_err(|_| Failure::failed("the node answered with something else than a receipt"))?
        }
    };
    let Some(file) = &which.file else {
        return print::line(&String::from_utf8_lossy(&bytes));
    };
    std::fs::write(file, bytes)
        .map_err(|error| Failure::failed(format_args!("could not write `{}`: {error}", file.display())))?;
    globals.say(format_args!("wrote the proof of entry {} to {}", which.index, file.display()));
    Ok(())
}
