//! `shuyu api-key`: keys of the management API for programs, each with the roles it needs. Works on the node directory;
//! a running node sees the change at its next request.

use std::path::Path;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use shuyu_node::{ApiKeyError, ApiRole, add_api_key, list_api_keys, remove_api_key};

use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::print::{self, Format};

/// Commands about keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key and print it; it cannot be shown again
    #[command(after_help = "Examples:
  shuyu --dir weather api-key add dashboard --role holder --role regulator
  shuyu --dir lab api-key add notebook --role consumer

The key is sent as `X-Api-Key` to paths under /v3.")]
    Add(Add),
    /// List the keys by name
    List,
    /// Remove a key; it is refused from the next request on
    #[command(after_help = "Example:\n  shuyu --dir weather api-key remove dashboard")]
    Remove {
        /// Name of the key
        name: String,
    },
}

/// A new key.
#[derive(Debug, Args)]
pub struct Add {
    /// A name for people and logs
    name: String,
    /// What it is good for; give it several times for several roles
    #[arg(long = "role", value_enum, required = true)]
    roles: Vec<Role>,
}

/// What a key is good for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Role {
    /// Publish: assets, policies, contract definitions
    Holder,
    /// Use: catalogues, negotiations, transfers, access to data
    Consumer,
    /// Look at everything but tokens
    Regulator,
    /// Everything
    Operator,
    /// Lead flows of this node's data plane: a foreign control plane
    Control,
    /// Tell how flows stand: a foreign data plane, by whose identifier the key is named
    Dataplane,
}

impl Role {
    fn role(self) -> ApiRole {
        match self {
            Self::Holder => ApiRole::Holder,
            Self::Consumer => ApiRole::Consumer,
            Self::Regulator => ApiRole::Regulator,
            Self::Operator => ApiRole::Operator,
            Self::Control => ApiRole::Control,
            Self::Dataplane => ApiRole::Dataplane,
        }
    }
}

/// Runs a command about keys.
pub fn run(globals: &Globals, command: &Command) -> Outcome {
    let dir =
        globals.dir.as_deref().ok_or_else(|| Failure::usage("which node?").hint("give --dir DIR, or set SHUYU_DIR"))?;
    // A mistyped directory must not get a key file.
    crate::node_dir::read(dir)?;
    match command {
        Command::Add(key) => add(globals, dir, key),
        Command::List => list(globals, dir),
        Command::Remove { name } => remove_api_key(dir, name).map_err(|error| failure(&error)),
    }
}

fn add(globals: &Globals, dir: &Path, wish: &Add) -> Outcome {
    let roles: Vec<ApiRole> = wish.roles.iter().map(|role| role.role()).collect();
    let key = add_api_key(dir, &wish.name, &roles).map_err(|error| failure(&error))?;
    match globals.output {
        Format::Json => print::line(&json!({ "name": wish.name, "key": key }).to_string()),
        Format::Table => print::line(&key),
    }
}

fn list(globals: &Globals, dir: &Path) -> Outcome {
    let keys = list_api_keys(dir).map_err(|error| failure(&error))?;
    let shown = |key: &shuyu_node::ApiKey| {
        let roles: Vec<&str> = key.roles.iter().map(|role| role.name()).collect();
        json!({ "name": key.name, "roles": roles })
    };
    let items: Vec<_> = keys.iter().map(shown).collect();
    match globals.output {
        Format::Json => print::line(&json!({ "items": items, "next": null }).to_string()),
        Format::Table => print::listing(&[("NAME", "/name"), ("ROLES", "/roles")], &items),
    }
}

fn failure(error: &ApiKeyError) -> Failure {
    match error {
        ApiKeyError::Name { .. } | ApiKeyError::File { .. } => Failure::invalid(chain(error)),
        ApiKeyError::Random(_) | _ => Failure::failed(chain(error)),
    }
}
