//! The command `shuyu`: every role and every command.
//!
//! stdout is data, stderr is talk. Exit codes: 0 done, 1 failed, 2 refused by policy or verification,
//! 3 invalid or unreadable input, 64 usage.

mod access;
mod api;
mod api_key;
mod asset;
mod audit;
mod bundle;
mod catalog;
mod clock;
mod context;
mod contract;
mod credential;
mod disclosure;
mod doctor;
mod failure;
mod follow;
mod init;
mod issuer;
mod key;
mod ledger;
mod ledger_restore;
mod ledger_source;
mod ledger_suites;
mod ledger_verify;
mod negotiation;
mod node_dir;
mod offer;
mod policy;
mod print;
mod promises;
mod pull;
mod query;

mod rows;
mod run;
mod space;
mod status;
mod tls;
mod transfer;
mod wait;
mod witness;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::context::Globals;
use crate::failure::{Failure, Kind, Outcome};

/// Messages and rows are many small allocations; the system's allocator took an eighth of a busy node's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A node of the data space, and everything one does with it
#[derive(Debug, Parser)]
#[command(
    name = "shuyu",
    version,
    max_term_width = 120,
    arg_required_else_help = true,
    after_help = "\
The first exchange, from the consumer's side:
  export SHUYU_DIR=consumer
  shuyu catalog list DID                                    what does DID offer?
  id=$(shuyu negotiation start --provider DID --dataset ID) ask for a contract
  contract=$(shuyu negotiation wait $id)                    wait for it
  shuyu query 'SELECT ...' --contract $contract --purpose P use it

stdout is data, stderr is talk. Exit codes: 0 done, 1 failed, 2 refused by policy or verification,
3 invalid or unreadable input, 64 usage."
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a node directory
    Init(Box<init::Init>),
    /// Run a node in the foreground
    Run(run::Run),
    /// Is the node there, and who is it
    Status(status::Status),
    /// Look for what is wrong with a node
    Doctor(doctor::Doctor),
    /// Tables a holder's node knows
    #[command(subcommand)]
    Asset(asset::Command),
    /// Policies, in words and checked
    #[command(subcommand)]
    Policy(policy::Command),
    /// Assets published under policies
    #[command(subcommand)]
    Offer(offer::Command),
    /// What another node offers
    #[command(subcommand)]
    Catalog(catalog::Command),
    /// From an offer to a contract
    #[command(subcommand)]
    Negotiation(negotiation::Command),
    /// Contracts, their use and their end
    #[command(subcommand)]
    Contract(contract::Command),
    /// What the node's owner can prove about itself
    #[command(subcommand)]
    Credential(credential::Command),
    /// Credentials for the members of a space
    #[command(subcommand)]
    Issuer(issuer::Command),
    /// The data spaces the node belongs to
    #[command(subcommand)]
    Space(space::Command),
    /// Access to the data of a contract
    #[command(subcommand)]
    Transfer(transfer::Command),
    /// Ask for data in SQL, of one contract or of several together
    Query(query::Query),
    /// Download the governed data of a transfer; goes on where it was interrupted
    Pull(pull::Pull),
    /// The signing keys of a node, and their change
    #[command(subcommand)]
    Key(key::Command),
    /// Keys of the management API for programs
    #[command(subcommand)]
    ApiKey(api_key::Command),
    /// The node's evidence
    #[command(subcommand)]
    Ledger(ledger::Command),
    /// What this node cosigns of other nodes' ledgers
    #[command(subcommand)]
    Witness(witness::Command),
    /// A regulator's work, and bundles that verify off line
    #[command(subcommand)]
    Audit(audit::Command),
    /// Completions for a shell
    #[command(after_help = "Example:\n  shuyu completions bash > ~/.local/share/bash-completion/completions/shuyu")]
    Completions {
        /// The shell
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

fn main() -> ExitCode {
    shuyu_node::choose_crypto();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_error = error.use_stderr();
            let _ = error.print();
            return if is_error { ExitCode::from(Kind::Usage.code()) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format_args!("could not start the run time: {error}")))
        .and_then(|runtime| runtime.block_on(dispatch(&cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn dispatch(cli: &Cli) -> Outcome {
    let globals = &cli.globals;
    match &cli.command {
        Command::Init(wish) => init::run(globals, wish),
        Command::Run(wish) => run::run(globals, wish).await,
        Command::Status(wish) => status::run(globals, wish).await,
        Command::Doctor(wish) => doctor::run(globals, wish).await,
        Command::Asset(command) => asset::run(globals, command).await,
        Command::Policy(command) => policy::run(globals, command).await,
        Command::Offer(command) => offer::run(globals, command).await,
        Command::Catalog(command) => catalog::run(globals, command).await,
        Command::Negotiation(command) => negotiation::run(globals, command).await,
        Command::Contract(command) => contract::run(globals, command).await,
        Command::Credential(command) => credential::run(globals, command).await,
        Command::Issuer(command) => issuer::run(globals, command).await,
        Command::Space(command) => space::run(globals, command).await,
        Command::Transfer(command) => transfer::run(globals, command).await,
        Command::Query(wish) => query::run(globals, wish).await,
        Command::Pull(wish) => pull::run(globals, wish).await,
        Command::Key(command) => key::run(globals, command),
        Command::ApiKey(command) => api_key::run(globals, command),
        Command::Ledger(command) => ledger::run(globals, command).await,
        Command::Witness(command) => witness::run(globals, command).await,
        Command::Audit(command) => audit::run(globals, command).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "shuyu", &mut script);
            print::bytes(&script)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
