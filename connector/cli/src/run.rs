//! `shuyu run`: the node itself, in the foreground.

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};

/// How to run.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  shuyu run --dir holder
  SHUYU_LOG=shuyu_node=debug shuyu run --dir holder --log json 2> holder.log

Stops gracefully at SIGINT and SIGTERM. Logs go to stderr.")]
pub struct Run {
    /// Form of the logs
    #[arg(long, value_enum, default_value = "text")]
    log: LogForm,
    /// What is logged, in the syntax of tracing's EnvFilter
    #[arg(long, env = "SHUYU_LOG", value_name = "FILTER", default_value = "info")]
    log_filter: String,
}

/// Forms of logs.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogForm {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// Runs `shuyu run` until the node stops.
pub async fn run(globals: &Globals, run: &Run) -> Outcome {
    let dir = globals.node_dir()?;
    crate::node_dir::read(dir)?;
    let filter = EnvFilter::try_new(&run.log_filter).map_err(|error| {
        Failure::usage(format_args!("--log-filter `{}`: {error}", run.log_filter)).hint("try info, or shuyu_node=debug")
    })?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match run.log {
        LogForm::Text => logs.with_ansi(crate::print::is_watched()).try_init(),
        LogForm::Json => logs.json().try_init(),
    };
    started.map_err(|error| Failure::failed(format_args!("could not start logging: {error}")))?;
    let stop = CancellationToken::new();
    stop_on_signal(stop.clone())?;
    shuyu_node::run(dir, stop).await.map_err(|error| {
        Failure::failed(chain(&error)).hint(format_args!("`shuyu doctor --dir {}` looks for the cause", dir.display()))
    })
}

/// Asks the node to stop at SIGINT and SIGTERM; it finishes what it has begun.
fn stop_on_signal(stop: CancellationToken) -> Outcome {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::failed(format_args!("could not listen to signals: {error}")));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    });
    Ok(())
}
