//! `shuyu contract`: agreements, what was used of them, and their end.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use shuyu_contract_engine::signature::Signature;
use shuyu_contract_engine::{Party, proof};

use crate::api::path;
use crate::context::{Globals, Page, read_json};
use crate::failure::{Failure, Outcome};
use crate::{negotiation, policy, print};

/// Commands about contracts.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the contracts of the node
    List(Page),
    /// Show one contract: terms in words, and what was used of it
    #[command(after_help = "Example:\n  shuyu contract show urn:uuid:... --lang zh")]
    Show(Show),
    /// End a contract at once, running streams included (either party may)
    #[command(after_help = "Example:\n  shuyu contract revoke urn:uuid:... --reason 'licence withdrawn'")]
    Revoke(Revoke),
    /// Close a contract to new transfers; those it has go on (either party may)
    #[command(after_help = "Example:\n  shuyu contract retire urn:uuid:... --reason 'replaced by the new licence'")]
    Retire(Revoke),
    /// Ask the provider for a contract that takes the place of this one; prints the negotiation's id
    #[command(after_help = "Examples:
  shuyu contract renew urn:uuid:...
  next=$(shuyu negotiation wait \"$(shuyu contract renew urn:uuid:...)\")

The terms are those of the provider's offer now, or those of --policy. Once the new contract is concluded, the old
one takes no new transfers; those it has go on until they or the contract end.")]
    Renew(Renew),
    /// Write the agreement with both parties' signatures, for whoever checks it off line
    #[command(after_help = "Example:\n  shuyu contract export urn:uuid:... > contract.json")]
    Export(Which),
    /// Check an exported agreement: its digest and both parties' signatures. Needs no node
    #[command(after_help = "Example:
  shuyu contract verify contract.json

It shows that both parties agreed. Whether the contract was concluded, renewed or ended since is in their ledgers.
Exit code 2 if a signature does not hold or a party has not signed. The keys are printed: whose they are is for
you to find out, from the parties' DID documents or from the regulator.")]
    Verify {
        /// File written by `shuyu contract export`
        file: PathBuf,
    },
    /// Vouch for a key of the other party that its lost key could not hand over to
    #[command(after_help = "Example:
  shuyu contract trust-key urn:uuid:... z6Mk...

Ask the other party in person first. It is written into the evidence ledger.")]
    TrustKey(TrustKey),
    /// Would this use be permitted now? Nothing is used or counted
    #[command(after_help = "Example:
  shuyu contract explain urn:uuid:... --action use --purpose research

Exit code 0 if it would be permitted, 2 if not; the reasons are printed either way.")]
    Explain(Explain),
}

/// Which contract, in which language.
#[derive(Debug, Args)]
pub struct Show {
    /// The contract's id
    id: String,
    /// Language of the terms' words
    #[arg(long, value_enum, default_value = "en")]
    lang: policy::Language,
}

/// The end of a contract.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The contract's id
    id: String,
    /// Told to the other party and kept in the evidence
    #[arg(long)]
    reason: String,
}

/// Which contract.
#[derive(Debug, Args)]
pub struct Which {
    /// The contract's id
    id: String,
}

/// A renewal.
#[derive(Debug, Args)]
pub struct Renew {
    /// The contract's id
    id: String,
    /// Offer of the dataset; needed only if there are several
    #[arg(long, value_name = "ID")]
    offer: Option<String>,
    /// ODRL policy with the terms wished for, instead of the offer's
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Who answers a counter-offer
    #[arg(long, value_enum, default_value = "auto")]
    accept: negotiation::Accept,
}

/// A key to be trusted.
#[derive(Debug, Args)]
pub struct TrustKey {
    /// The contract's id
    id: String,
    /// The key, as a multikey (`z6Mk...`)
    key: String,
}

/// A use to try in thought.
#[derive(Debug, Args)]
pub struct Explain {
    /// The contract's id
    id: String,
    /// ODRL action
    #[arg(long, default_value = "use")]
    action: String,
    /// Purpose of the use
    #[arg(long)]
    purpose: Option<String>,
}

const COLLECTION: &str = "v1/contracts";

/// Runs a command about contracts.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::List(page) => {
            let answer = globals.api()?.get_with(COLLECTION, &page.query()).await?;
            globals.listing(
                &answer,
                &[
                    ("ID", "/id"),
                    ("ROLE", "/role"),
                    ("STATE", "/state"),
                    ("ASSET", "/asset"),
                    ("PEER", "/peer"),
                    ("USES", "/used/count"),
                    ("ROWS", "/used/rows"),
                    ("SIGNED", "/signed_at"),
                ],
            )
        }
        Command::Show(which) => show(globals, which).await,
        Command::Revoke(revoke) => {
            let body = json!({"reason": revoke.reason});
            let answer = globals.api()?.post(&path(COLLECTION, &revoke.id, "revoke"), &body).await?;
            globals.done(&answer, format_args!("revoked contract {}; running streams end within a second", revoke.id))
        }
        Command::Retire(retire) => {
            let body = json!({"reason": retire.reason});
            let answer = globals.api()?.post(&path(COLLECTION, &retire.id, "retire"), &body).await?;
            globals.done(&answer, format_args!("retired contract {}; it takes no new transfers", retire.id))
        }
        Command::Renew(wish) => renew(globals, wish).await,
        Command::Export(which) => {
            let answer = globals.api()?.get(&path(COLLECTION, &which.id, "proof")).await?;
            print::line(&answer.text)
        }
        Command::Verify { file } => verify(globals, file),
        Command::TrustKey(wish) => {
            let body = json!({"key": wish.key});
            let answer = globals.api()?.post(&path(COLLECTION, &wish.id, "trust-key"), &body).await?;
            globals.done(&answer, format_args!("key {} may act under contract {}", wish.key, wish.id))
        }
        Command::Explain(wish) => explain(globals, wish).await,
    }
}

async fn show(globals: &Globals, which: &Show) -> Outcome {
    let answer = globals.api()?.get(&path(COLLECTION, &which.id, "")).await?;
    globals.details(
        &answer,
        &[
            ("id", "/id"),
            ("role", "/role"),
            ("state", "/state"),
            ("asset", "/asset"),
            ("peer", "/peer"),
            ("signed", "/signed_at"),
            ("signed by", "/signed"),
            ("digest", "/digest"),
            ("renews", "/renews"),
            ("renewed by", "/renewed_by"),
            ("uses", "/used/count"),
            ("rows", "/used/rows"),
            ("bytes", "/used/bytes"),
            ("limits", "/limits"),
        ],
    )?;
    if globals.is_json() {
        return Ok(());
    }
    print::line("\nterms")?;
    policy::print_words(answer.value.get("policy").unwrap_or(&Value::Null), which.lang)
}

async fn renew(globals: &Globals, wish: &Renew) -> Outcome {
    let contract = globals.api()?.get(&path(COLLECTION, &wish.id, "")).await?;
    if contract.text_at("/role")? != "consumer" {
        return Err(Failure::usage("this node is the provider of the contract; its consumer renews it"));
    }
    let asked = negotiation::Asked {
        provider: contract.text_at("/peer")?,
        dataset: contract.text_at("/asset")?,
        offer: wish.offer.as_deref(),
        terms: wish.policy.as_deref().map(read_json).transpose()?,
        accept: wish.accept,
        renews: Some(&wish.id),
    };
    negotiation::begin(globals, asked).await
}

fn verify(globals: &Globals, file: &Path) -> Outcome {
    let content = read_json(file)?;
    let refused = |why: String| Failure::refused(format_args!("`{}`: {why}", file.display()));
    let signatures = proof::check(&content).map_err(|error| refused(error.to_string()))?;
    let shown =
        |(by, one): &(Party, Signature)| json!({ "by": by.to_string(), "kid": one.kid, "key": one.key.to_multikey() });
    let items: Vec<Value> = signatures.iter().map(shown).collect();
    if globals.is_json() {
        print::line(&json!({ "digest": content.get("digest"), "signatures": items }).to_string())?;
    } else {
        print::line(content.get("digest").and_then(Value::as_str).unwrap_or_default())?;
        print::listing(&[("BY", "/by"), ("KEY ID", "/kid"), ("KEY", "/key")], &items)?;
    }
    for party in [Party::Provider, Party::Consumer] {
        if !signatures.iter().any(|(by, _)| *by == party) {
            return Err(refused(format!("the {party} has not signed")));
        }
    }
    Ok(())
}

async fn explain(globals: &Globals, wish: &Explain) -> Outcome {
    let mut body = json!({"action": wish.action});
    if let (Some(purpose), Some(members)) = (&wish.purpose, body.as_object_mut()) {
        members.insert("purpose".to_owned(), purpose.clone().into());
    }
    let answer = globals.api()?.post(&path(COLLECTION, &wish.id, "explain"), &body).await?;
    let verdict = answer.text_at("/verdict")?;
    let reasons: Vec<String> =
        answer.value.get("explanation").and_then(Value::as_array).into_iter().flatten().map(print::cell).collect();
    let is_permitted = verdict.eq_ignore_ascii_case("permitted") || verdict.eq_ignore_ascii_case("permit");
    if globals.is_json() {
        print::line(&answer.text)?;
    } else if is_permitted {
        print::line(verdict)?;
        reasons.iter().try_for_each(|reason| print::line(&format!("  - {reason}")))?;
    }
    if is_permitted {
        Ok(())
    } else {
        Err(Failure::refused(format_args!("{verdict}: action `{}`", wish.action)).because(reasons))
    }
}
