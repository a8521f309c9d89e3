//! `shuyu credential`: what the node's owner can prove about itself.

use clap::{Args, Subcommand};
use serde_json::json;

use crate::api::path;
use crate::context::Globals;
use crate::failure::Outcome;
use crate::print;

/// Commands about the owner's credentials.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask an issuer for credentials; it delivers when it has decided
    #[command(after_help = "Examples:
  shuyu credential request --issuer did:web:space.example --type MembershipCredential
  shuyu credential request --issuer did:web:space.example --profile vc11-sl2021/jwt
  shuyu credential request --issuer did:web:space.example --type RoleCredential --arranged 2026-0042

Without --type it asks for everything the issuer has. With --arranged nothing is sent: the issuer was told in another
way, and will deliver under that id.")]
    Request(Request),
    /// List what the node holds
    #[command(after_help = "Examples:
  shuyu credential list
  shuyu credential list --output json")]
    List,
    /// Show one credential
    #[command(after_help = "Example:\n  shuyu credential show 5c1d0b7a93e2f684")]
    Show {
        /// The credential's id
        id: String,
    },
    /// Give a credential back: it is forgotten and presented to nobody any more
    #[command(after_help = "Example:\n  shuyu credential revoke 5c1d0b7a93e2f684

The issuer is not told. An issuer takes back what it issued with `shuyu issuer revoke`.")]
    Revoke {
        /// The credential's id
        id: String,
    },
    /// Requests, open and closed
    #[command(after_help = "Examples:
  shuyu credential requests
  shuyu credential requests --close urn:uuid:0d8e...")]
    Requests {
        /// Close this one: its issuer can deliver nothing more for it
        #[arg(long, value_name = "ID")]
        close: Option<String>,
    },
    /// Offers of issuers that wait for a decision
    #[command(after_help = "Examples:
  shuyu credential offers
  shuyu credential offers --accept membership.vc20 --issuer did:web:space.example")]
    Offers {
        /// Accept this one: ask its issuer for it
        #[arg(long, value_name = "ID", requires = "issuer")]
        accept: Option<String>,
        /// Its issuer
        #[arg(long, value_name = "DID")]
        issuer: Option<String>,
    },
    /// Programs that may fetch tokens of the owner from the node's token endpoint
    #[command(after_help = "Examples:
  shuyu credential client crawler              prints its secret, once
  shuyu credential client crawler --remove
  shuyu credential client

A program posts grant_type=client_credentials, client_id, client_secret, audience (a DID) and bearer_access_scope to
/sts/token on the management address, and gets a token for that audience.")]
    Client {
        /// Its id; without it, the programs are listed
        id: Option<String>,
        /// Remove it
        #[arg(long, requires = "id")]
        remove: bool,
    },
}

/// A request.
#[derive(Debug, Args)]
pub struct Request {
    /// Who shall issue
    #[arg(long, value_name = "DID")]
    issuer: String,
    /// Type of credential; may be repeated
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<String>,
    /// How it shall be written: vc20-bssl/jwt or vc11-sl2021/jwt; by default the newest that the issuer has
    #[arg(long)]
    profile: Option<String>,
    /// Id under which the issuer will deliver; nothing is sent
    #[arg(long, value_name = "ID", requires = "types")]
    arranged: Option<String>,
}

/// Runs a command about the owner's credentials.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    let api = globals.api()?;
    match command {
        Command::Request(wish) => {
            let body = json!({
                "issuer": wish.issuer, "types": wish.types, "profile": wish.profile, "arranged": wish.arranged,
            });
            let answer = api.post("v1/credential-requests", &body).await?;
            globals.created(&answer)?;
            globals.hint(format_args!("see what was delivered with `shuyu credential list`"));
            Ok(())
        }
        Command::List => globals.listing(
            &api.get("v1/credentials").await?,
            &[
                ("ID", "/id"),
                ("TYPES", "/types"),
                ("ISSUER", "/issuer"),
                ("VALID UNTIL", "/valid_until"),
                ("STATE", "/state"),
            ],
        ),
        Command::Show { id } => globals.details(
            &api.get(&path("v1/credentials", id, "")).await?,
            &[
                ("id", "/id"),
                ("types", "/types"),
                ("issuer", "/issuer"),
                ("profile", "/profile"),
                ("claims", "/claims"),
                ("valid from", "/valid_from"),
                ("valid until", "/valid_until"),
                ("state", "/state"),
                ("request", "/request"),
            ],
        ),
        Command::Revoke { id } => {
            let answer = api.delete(&path("v1/credentials", id, "")).await?;
            globals.done(&answer, format_args!("forgot credential {id}"))
        }
        Command::Requests { close: Some(id) } => {
            let answer = api.delete(&path("v1/credential-requests", id, "")).await?;
            globals.done(&answer, format_args!("closed request {id}; its credentials stay"))
        }
        Command::Requests { close: None } => globals.listing(
            &api.get("v1/credential-requests").await?,
            &[("ID", "/id"), ("TYPES", "/types"), ("ISSUER", "/issuer"), ("STATE", "/state"), ("REASON", "/reason")],
        ),
        Command::Offers { accept: Some(id), issuer: Some(issuer) } => {
            let answer = api.post("v1/credential-offers/accept", &json!({"issuer": issuer, "id": id})).await?;
            globals.created(&answer)
        }
        Command::Offers { .. } => globals.listing(
            &api.get("v1/credential-offers").await?,
            &[("ID", "/id"), ("TYPE", "/type"), ("PROFILE", "/profile"), ("ISSUER", "/issuer"), ("REASON", "/reason")],
        ),
        Command::Client { id: None, .. } => {
            globals.listing(&api.get("v1/token-clients").await?, &[("ID", "/id"), ("CREATED", "/created")])
        }
        Command::Client { id: Some(id), remove: true } => remove_client(globals, id).await,
        Command::Client { id: Some(id), remove: false } => add_client(globals, id).await,
    }
}

async fn add_client(globals: &Globals, id: &str) -> Outcome {
    let answer = globals.api()?.post("v1/token-clients", &json!({ "id": id })).await?;
    let secret = print::clean(answer.text_at("/secret")?);
    if globals.is_json() { print::line(&answer.text) } else { print::line(&secret) }
}

async fn remove_client(globals: &Globals, id: &str) -> Outcome {
    let answer = globals.api()?.delete(&path("v1/token-clients", id, "")).await?;
    globals.done(&answer, format_args!("removed client {id}; its tokens end within minutes"))
}
