//! `shuyu policy`: policies in words, checked before anyone agrees to them.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use shuyu_policy::{Finding, Lang, Policy, Severity};

use crate::api::path;
use crate::context::{Globals, Page, read_json};
use crate::failure::{Failure, Outcome, chain};
use crate::print;

/// Commands about policies.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Explain an ODRL policy in words and say what is wrong with it; needs no node
    #[command(after_help = "Examples:
  shuyu policy check research.json
  shuyu policy check research.json --lang zh
  jq .offer negotiation.json | shuyu policy check -

Exit code 0 if it can be used, 2 if it has errors, 3 if it cannot be read.")]
    Check(Check),
    /// Give the node a policy
    #[command(after_help = "Example:\n  shuyu policy add research --file research.json")]
    Add(Add),
    /// List the policies of the node
    List(Page),
    /// Show a policy in words
    #[command(after_help = "Example:\n  shuyu policy show research --lang zh")]
    Show(Show),
    /// Forget a policy; refused while an offer names it
    Remove {
        /// The policy's id
        id: String,
    },
}

/// A file to check.
#[derive(Debug, Args)]
pub struct Check {
    /// ODRL 2.2 JSON-LD; `-` reads stdin
    file: PathBuf,
    /// Language of the words
    #[arg(long, value_enum, default_value = "en")]
    lang: Language,
}

/// A policy for the node.
#[derive(Debug, Args)]
pub struct Add {
    /// Id by which offers name it
    id: String,
    /// ODRL 2.2 JSON-LD; `-` reads stdin
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
}

/// Which policy, in which language.
#[derive(Debug, Args)]
pub struct Show {
    /// The policy's id
    id: String,
    /// Language of the words
    #[arg(long, value_enum, default_value = "en")]
    lang: Language,
}

/// Languages policies are explained in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    /// English
    En,
    /// Chinese
    Zh,
}

impl From<Language> for Lang {
    fn from(language: Language) -> Self {
        match language {
            Language::En => Self::En,
            Language::Zh => Self::Zh,
        }
    }
}

const COLLECTION: &str = "v1/policies";

/// Runs a command about policies.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Check(file) => check(globals, file),
        Command::Add(add) => {
            let body = json!({"id": add.id, "policy": read_json(&add.file)?});
            let answer = globals.api()?.post(COLLECTION, &body).await?;
            globals.created(&answer)?;
            for finding in answer.value.get("findings").and_then(Value::as_array).into_iter().flatten() {
                globals.say(format_args!("note: {}", print::cell(finding)));
            }
            globals.hint(format_args!(
                "publish an asset under it with `shuyu offer add --asset ASSET --policy {}`",
                add.id
            ));
            Ok(())
        }
        Command::List(page) => {
            let answer = globals.api()?.get_with(COLLECTION, &page.query()).await?;
            globals.listing(&answer, &[("ID", "/id"), ("NOTES", "/findings")])
        }
        Command::Show(which) => {
            let answer = globals.api()?.get(&path(COLLECTION, &which.id, "")).await?;
            if globals.is_json() {
                return print::line(&answer.text);
            }
            print_words(answer.value.get("policy").unwrap_or(&answer.value), which.lang)
        }
        Command::Remove { id } => {
            let answer = globals.api()?.delete(&path(COLLECTION, id, "")).await?;
            globals.done(&answer, format_args!("removed policy {id}"))
        }
    }
}

fn check(globals: &Globals, which: &Check) -> Outcome {
    let policy = parse(&read_json(&which.file)?).map_err(|failure| Failure {
        message: format!("`{}`: {}", which.file.display(), failure.message),
        ..failure
    })?;
    let findings = shuyu_policy::check(&policy);
    let errors: Vec<_> = findings.iter().filter(|finding| finding.severity == Severity::Error).map(said).collect();
    if globals.is_json() {
        let list: Vec<_> = findings
            .iter()
            .map(|finding| json!({"severity": word(finding.severity), "message": said(finding)}))
            .collect();
        let words = shuyu_policy::words(&policy, which.lang.into());
        print::line(&json!({"words": words, "findings": list, "usable": errors.is_empty()}).to_string())?;
    } else {
        write_words(&policy, which.lang)?;
        for finding in findings.iter().filter(|finding| finding.severity != Severity::Error) {
            globals.say(format_args!("{}: {}", word(finding.severity), print::clean(&said(finding))));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::refused("the policy cannot be used")
        .because(errors)
        .hint("docs/profile lists the terms and operators"))
}

fn said(finding: &Finding) -> String {
    format!("{}: {} ({})", finding.path, finding.what, finding.hint)
}

fn word(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

fn parse(json: &Value) -> Outcome<Policy> {
    shuyu_wire::odrl::from_json(json).map_err(|error| {
        Failure::invalid(format_args!("not a policy this profile can read: {}", chain(&error)))
            .hint("docs/profile lists the terms and operators")
    })
}

fn write_words(policy: &Policy, lang: Language) -> Outcome {
    print::line(&print::clean_lines(&shuyu_policy::words(policy, lang.into())))
}

/// Writes a policy in words, or its JSON when it has terms this version does not know (a peer may speak newer ones).
pub fn print_words(policy: &Value, lang: Language) -> Outcome {
    match parse(policy) {
        Ok(policy) => write_words(&policy, lang),
        Err(failure) => {
            print::talk(format_args!("note: {}", print::clean(&failure.message)));
            print::line(&print::clean(&policy.to_string()))
        }
    }
}
