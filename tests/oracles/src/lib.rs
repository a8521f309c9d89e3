//! Asks programs of other hands for their opinion: the system's openssl, and `foreign`, which holds sm-crypto and ssi.
//!
//! The tests say what is compared. Nothing here uses the network, but building `foreign` needs its crates.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// What `foreign` said.
#[derive(Clone, Debug, PartialEq)]
pub enum Opinion {
    /// It has an answer.
    Answer(Value),
    /// It refused, for this reason.
    Refused(String),
}

impl Opinion {
    /// The answer.
    ///
    /// # Errors
    /// The reason, if it refused.
    pub fn answer(self) -> anyhow::Result<Value> {
        match self {
            Self::Answer(answer) => Ok(answer),
            Self::Refused(why) => bail!("refused: {why}"),
        }
    }
}

/// The program with the foreign libraries.
pub struct Foreign(PathBuf);

impl Foreign {
    /// Builds the program under `scratch`, once a test binary; pass `CARGO_TARGET_TMPDIR`.
    ///
    /// # Errors
    /// What cargo said.
    pub fn build(scratch: &Path) -> anyhow::Result<&'static Self> {
        static BUILT: OnceLock<Result<Foreign, String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build_foreign(scratch).map_err(|error| format!("{error:#}")));
        built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Asks one question; the program's own documentation lists them.
    ///
    /// # Errors
    /// When the program did not run or did not understand.
    pub fn ask(&self, ask: &str, mut members: Value) -> anyhow::Result<Opinion> {
        members.as_object_mut().context("a question has members")?.insert("ask".to_owned(), ask.into());
        let said = run(Command::new(&self.0), members.to_string().as_bytes())?;
        let mut said: Value = serde_json::from_slice(&said)?;
        if let Some(answer) = said.get_mut("answer") {
            return Ok(Opinion::Answer(answer.take()));
        }
        let why = said.get("refused").and_then(Value::as_str).context("neither an answer nor a refusal")?;
        Ok(Opinion::Refused(why.to_owned()))
    }

    /// Asks a question without members that are not text.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_texts(&self, ask: &str, members: &[(&str, &str)]) -> anyhow::Result<Opinion> {
        let mut question = json!({});
        for (member, text) in members {
            question.as_object_mut().context("an object")?.insert((*member).to_owned(), (*text).into());
        }
        self.ask(ask, question)
    }
}

fn build_foreign(scratch: &Path) -> anyhow::Result<Foreign> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("foreign");
    let target = scratch.join("foreign");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--locked", "--quiet", "--manifest-path"]).arg(project.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target).current_dir(&project);
    run(cargo, b"").context("building tests/oracles/foreign")?;
    Ok(Foreign(target.join("debug/foreign")))
}

/// Runs openssl in `dir`, which `./x` installs, and returns what it printed.
///
/// # Errors
/// What it printed to its error stream, when it failed.
pub fn openssl(dir: &Path, arguments: &[&str], input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(dir);
    run(command, input)
}

fn run(mut command: Command, input: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    // A program that needs no input may end before it is written.
    let _ = child.stdin.take().context("no stdin")?.write_all(input);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}
