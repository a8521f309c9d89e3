//! `shuyu contract`: agreements, what was used of them, and their end.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::api::path;
use crate::context::{Globals, Page};
use crate::failure::{Failure, Outcome};
use crate::{policy, print};

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
