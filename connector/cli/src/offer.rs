//! `shuyu offer`: an asset under a policy, published in the catalogue.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use crate::api::path;
use crate::context::{Globals, Page};
use crate::failure::Outcome;

/// Commands about offers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish an asset under a policy
    #[command(after_help = "Examples:
  shuyu offer add --asset flights --policy research
  shuyu offer add --asset weather --policy open --approve manual
  shuyu offer add --asset patients --policy research --access hospitals-only --space Health

With --approve manual each request waits for `shuyu negotiation approve|counter|refuse`. With --approve each-step
every message of ours waits: `shuyu negotiation approve` also finalizes, and `shuyu transfer approve` opens access.

An offer is shown to members of its spaces. Among them, --access names the policy that decides who sees it, by
credentials, recipient and time; without it the contract's policy decides by what it says of these. To everyone else
the offer does not exist.")]
    Add(Add),
    /// List what the node publishes
    List(Page),
    /// Withdraw an offer; contracts made from it stay
    #[command(after_help = "Example:\n  shuyu offer remove flights-research")]
    Remove {
        /// The offer's id
        id: String,
    },
}

/// A new offer.
#[derive(Debug, Args)]
pub struct Add {
    /// The asset
    #[arg(long)]
    asset: String,
    /// The policy
    #[arg(long)]
    policy: String,
    /// The policy that decides who sees the offer
    #[arg(long, value_name = "POLICY")]
    access: Option<String>,
    /// A space whose members may see it; may be repeated, and must be given on a node of several spaces
    #[arg(long = "space", value_name = "NAME")]
    spaces: Vec<String>,
    /// Id of the offer; by default one is made
    #[arg(long)]
    id: Option<String>,
    /// Who agrees to a request
    #[arg(long, value_enum, default_value = "auto")]
    approve: Approve,
}

/// Who agrees to a request.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Approve {
    /// The node, within the policy
    Auto,
    /// A person decides on the terms
    Manual,
    /// A person says every word, also what follows from the first yes
    EachStep,
}

/// Runs a command about offers.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Add(offer) => add(globals, offer).await,
        Command::List(page) => {
            let answer = globals.api()?.get_with("v1/offers", &page.query()).await?;
            globals.listing(
                &answer,
                &[
                    ("ID", "/id"),
                    ("ASSET", "/asset"),
                    ("POLICY", "/policy"),
                    ("ACCESS", "/access"),
                    ("SPACES", "/spaces"),
                    ("APPROVE", "/approve"),
                ],
            )
        }
        Command::Remove { id } => {
            let answer = globals.api()?.delete(&path("v1/offers", id, "")).await?;
            globals.done(&answer, format_args!("withdrew offer {id}; contracts made from it stay"))
        }
    }
}

async fn add(globals: &Globals, offer: &Add) -> Outcome {
    let approve = match offer.approve {
        Approve::Auto => "auto",
        Approve::Manual => "manual",
        Approve::EachStep => "each-step",
    };
    let mut body = json!({
        "asset": offer.asset, "policy": offer.policy, "approve": approve, "access": offer.access, "spaces": offer.spaces,
    });
    if let (Some(id), Some(members)) = (&offer.id, body.as_object_mut()) {
        members.insert("id".to_owned(), id.clone().into());
    }
    let api = globals.api()?;
    let answer = api.post("v1/offers", &body).await?;
    globals.created(&answer)?;
    globals.hint(format_args!("others see it with `shuyu catalog list DID`, DID being the one of `shuyu status`"));
    Ok(())
}
