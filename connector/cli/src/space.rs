//! `shuyu space`: the data spaces of a node.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::Value;

use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::{init, print};

/// Commands about spaces.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the spaces of the node: who counts in them, and what their descriptions say
    #[command(after_help = "Examples:
  shuyu space show
  shuyu space show 'City' --output json")]
    Show {
        /// Name of the space; all of them if absent
        name: Option<String>,
    },
    /// Check the description of a space, off line
    #[command(after_help = "Example:
  shuyu space check city.toml

Exit code 0 it can be joined, 3 it cannot: the message names the field.")]
    Check {
        /// The description, TOML
        file: PathBuf,
    },
}

/// Runs a command about spaces.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Show { name } => show(globals, name.as_deref()).await,
        Command::Check { file } => {
            let space = init::read_space(file)?;
            globals.say(format_args!("the description of `{}` can be used", print::clean(&space.name)));
            globals.hint(format_args!("`shuyu init DIR --space {}` makes a node that belongs to it", file.display()));
            Ok(())
        }
    }
}

async fn show(globals: &Globals, name: Option<&str>) -> Outcome {
    let answer = globals.api()?.get("v1/spaces").await?;
    let spaces: Vec<&Value> =
        answer.items().iter().filter(|space| name.is_none_or(|name| space["name"] == name)).collect();
    if let (Some(name), []) = (name, spaces.as_slice()) {
        return Err(Failure::failed(format_args!("the node is in no space `{name}`")));
    }
    if globals.is_json() {
        return print::line(&serde_json::json!({ "items": spaces, "next": null }).to_string());
    }
    if spaces.is_empty() {
        globals.say(format_args!("the node belongs to no space: whoever proves its DID may speak with it"));
    }
    for space in spaces {
        print::details(
            &[
                ("space", "/name"),
                ("requires", "/require"),
                ("accepts", "/accept"),
                ("trust roots", "/trust_roots"),
                ("witnesses", "/witnesses"),
                ("catalogue peers", "/catalogue_peers"),
                ("not used yet", "/not_used_yet"),
            ],
            space,
        )?;
    }
    Ok(())
}
