//! `shuyu issuer`: credentials for the members of a space.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::api::path;
use crate::context::{Globals, Page, read_json};
use crate::failure::Outcome;

/// Commands of an issuer.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Define a credential that the node issues, or change it
    #[command(after_help = "Examples:
  shuyu issuer define membership --type MembershipCredential --days 90
  shuyu issuer define role --type RoleCredential --claims role.json --approve manual

Others find it at the node's issuer service, in both profiles (Data Model 2.0 and 1.1).")]
    Define(Define),
    /// Remove a definition; what was issued stays valid
    #[command(after_help = "Example:\n  shuyu issuer undefine membership")]
    Undefine {
        /// The definition's id
        id: String,
    },
    /// List what the node issues
    Types,
    /// List requests of holders
    #[command(after_help = "Example:\n  shuyu issuer requests --output json")]
    Requests(Page),
    /// Issue what a request asks for
    #[command(after_help = "Examples:
  shuyu issuer issue 3f0c...
  shuyu issuer issue 3f0c... --claims member.json")]
    Issue {
        /// The request's id
        id: String,
        /// JSON file with claims about this holder, besides those of the definition
        #[arg(long, value_name = "FILE")]
        claims: Option<PathBuf>,
    },
    /// Refuse a request; the holder is told
    #[command(after_help = "Example:\n  shuyu issuer reject 3f0c... --reason 'not a member'")]
    Reject {
        /// The request's id
        id: String,
        /// Why; the holder reads it
        #[arg(long)]
        reason: Option<String>,
    },
    /// Deliver again what a holder's node did not take
    #[command(after_help = "Example:\n  shuyu issuer deliver 3f0c...")]
    Deliver {
        /// The request's id
        id: String,
    },
    /// Offer a credential to a holder
    #[command(after_help = "Example:
  shuyu issuer offer membership --to did:web:member.example --reason reissue")]
    Offer {
        /// The definition's id
        id: String,
        /// The holder
        #[arg(long, value_name = "DID")]
        to: String,
        /// Why, for example reissue or proof-key-revocation
        #[arg(long)]
        reason: Option<String>,
    },
    /// List what was issued
    List(Page),
    /// Take a credential back for good; verifiers learn it from the status list
    #[command(after_help = "Example:\n  shuyu issuer revoke urn:uuid:0d8e... --reason 'left the space'")]
    Revoke {
        /// The credential's id
        id: String,
        /// Why, for the operator's own records
        #[arg(long)]
        reason: Option<String>,
    },
    /// Suspend a credential until it is resumed
    #[command(after_help = "Example:\n  shuyu issuer suspend urn:uuid:0d8e... --reason 'fees are due'")]
    Suspend {
        /// The credential's id
        id: String,
        /// Why, for the operator's own records
        #[arg(long)]
        reason: Option<String>,
    },
    /// End the suspension of a credential
    #[command(after_help = "Example:\n  shuyu issuer resume urn:uuid:0d8e...")]
    Resume {
        /// The credential's id
        id: String,
    },
}

/// A definition.
#[derive(Debug, Args)]
pub struct Define {
    /// Its id
    id: String,
    /// Type of the credential
    #[arg(long = "type", value_name = "TYPE")]
    kind: String,
    /// JSON file with claims that every such credential has
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// How long it is valid, in days; the node renews it before
    #[arg(long, value_name = "N", default_value = "90", value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// How long it is valid, in seconds instead of days, for credentials of a short life
    #[arg(long, value_name = "N", conflicts_with = "days", value_parser = clap::value_parser!(u32).range(10..=86_400))]
    seconds: Option<u32>,
    /// Who decides about a request
    #[arg(long, value_enum, default_value = "manual")]
    approve: Approve,
}

/// Who decides.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Approve {
    /// The node: whoever proves its DID gets the credential
    Auto,
    /// A person
    Manual,
}

/// Runs a command of an issuer.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    let api = globals.api()?;
    match command {
        Command::Define(wish) => define(globals, wish).await,
        Command::Undefine { id } => {
            let answer = api.delete(&path("v1/issuer/types", id, "")).await?;
            globals.done(&answer, format_args!("removed {id}; what was issued stays valid"))
        }
        Command::Types => globals.listing(
            &api.get("v1/issuer/types").await?,
            &[("ID", "/id"), ("TYPE", "/type"), ("DAYS", "/validity_days"), ("APPROVE", "/approval")],
        ),
        Command::Requests(page) => globals.listing(
            &api.get_with("v1/issuer/requests", &page.query()).await?,
            &[
                ("ID", "/id"),
                ("HOLDER", "/holder"),
                ("ASKS FOR", "/objects"),
                ("STATE", "/state"),
                ("DELIVERY", "/delivery/error"),
            ],
        ),
        Command::Issue { id, claims } => {
            let claims = claims.as_deref().map(read_json).transpose()?.unwrap_or_else(|| json!({}));
            let answer = api.post(&path("v1/issuer/requests", id, "approve"), &json!({ "claims": claims })).await?;
            globals.done(&answer, format_args!("issued; the delivery to the holder has begun"))
        }
        Command::Reject { id, reason } => {
            let answer = api.post(&path("v1/issuer/requests", id, "reject"), &json!({ "reason": reason })).await?;
            globals.done(&answer, format_args!("refused; the holder is told"))
        }
        Command::Deliver { id } => {
            let answer = api.post(&path("v1/issuer/requests", id, "deliver"), &json!({})).await?;
            globals.done(&answer, format_args!("the delivery has begun again"))
        }
        Command::Offer { id, to, reason } => {
            let body = json!({"holder": to, "definition": id, "reason": reason});
            let answer = api.post("v1/issuer/offers", &body).await?;
            globals.done(&answer, format_args!("offered {id} to {to}"))
        }
        Command::List(page) => globals.listing(
            &api.get_with("v1/issuer/credentials", &page.query()).await?,
            &[
                ("ID", "/id"),
                ("TYPE", "/type"),
                ("HOLDER", "/holder"),
                ("VALID UNTIL", "/valid_until"),
                ("STATE", "/state"),
            ],
        ),
        Command::Revoke { id, reason } => {
            let answer = api.post(&path("v1/issuer/credentials", id, "revoke"), &json!({ "reason": reason })).await?;
            globals.done(&answer, format_args!("revoked; verifiers that look learn it within a minute"))
        }
        Command::Suspend { id, reason } => {
            let answer = api.post(&path("v1/issuer/credentials", id, "suspend"), &json!({ "reason": reason })).await?;
            globals.done(&answer, format_args!("suspended; verifiers that look learn it within a minute"))
        }
        Command::Resume { id } => {
            let answer = api.post(&path("v1/issuer/credentials", id, "resume"), &json!({})).await?;
            globals.done(&answer, format_args!("resumed; verifiers that look learn it within a minute"))
        }
    }
}

async fn define(globals: &Globals, wish: &Define) -> Outcome {
    let approval = match wish.approve {
        Approve::Auto => "auto",
        Approve::Manual => "manual",
    };
    let claims = wish.claims.as_deref().map(read_json).transpose()?.unwrap_or_else(|| json!({}));
    let body = json!({
        "id": wish.id, "type": wish.kind, "claims": claims, "approval": approval,
        "validity_days": if wish.seconds.is_none() { wish.days } else { 0 }, "validity_s": wish.seconds,
    });
    globals.created(&globals.api()?.post("v1/issuer/types", &body).await?)
}
