//! A node as a process: made by `shuyu init`, run by `shuyu run`, asked over its management API.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::Value;
use shuyu_node::MANAGEMENT_KEY_FILE;

use crate::machine;

/// Longest time until a node is ready, and until an answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a starting node is asked whether it is ready; bounds the error of the time it took.
const ASK_EVERY: Duration = Duration::from_millis(1);

/// A node; killed when dropped.
pub struct Node {
    /// The owner's DID.
    pub did: String,
    dir: PathBuf,
    management: String,
    key: String,
    http: reqwest::Client,
    child: Option<Child>,
}

/// The command: `SHUYU_BIN`, else beside this program.
fn shuyu() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("SHUYU_BIN") {
        return Ok(path.into());
    }
    let beside = std::env::current_exe()?.with_file_name("shuyu");
    ensure!(beside.is_file(), "no command `shuyu`: run `./x build`, or set SHUYU_BIN");
    Ok(beside)
}

impl Node {
    /// Makes a node directory `parent/role` on free ports of the loopback, plain http.
    pub fn init(parent: &Path, role: &str) -> Result<Self> {
        let dir = parent.join(role);
        let ports = [free_port()?, free_port()?, free_port()?];
        let [public, management, flight] = ports.map(|port| format!("127.0.0.1:{port}"));
        let did = format!("did:web:localhost%3A{}", ports[0]);
        let made = Command::new(shuyu()?)
            .arg("init")
            .arg(&dir)
            .args(["--name", role, "--did", &did, "--role", role, "--insecure-loopback", "--listen", &public])
            .args(["--management", &management, "--flight", &flight])
            .stdin(Stdio::null())
            .output()
            .context("cannot start `shuyu init`")?;
        ensure!(made.status.success(), "shuyu init: {}", String::from_utf8_lossy(&made.stderr));
        let key = std::fs::read_to_string(dir.join(MANAGEMENT_KEY_FILE))?.trim().to_owned();
        let http = reqwest::Client::builder().no_proxy().timeout(2 * PATIENCE).build()?;
        Ok(Self { did, dir, management: format!("http://{management}"), key, http, child: None })
    }

    /// Starts the process and waits until it says that it is ready: milliseconds from one to the other.
    pub async fn start(&mut self) -> Result<f64> {
        let log = File::options().create(true).append(true).open(self.log_path())?;
        let begun = Instant::now();
        let mut command = Command::new(shuyu()?);
        command.arg("run").arg("--dir").arg(&self.dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = self.child.insert(command.spawn().context("cannot start `shuyu run`")?);
        let mut asks = tokio::time::interval(ASK_EVERY);
        asks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            asks.tick().await;
            let status = self.http.get(format!("{}/v1/status", self.management)).bearer_auth(&self.key).send().await;
            if status.is_ok_and(|status| status.status().is_success()) {
                return Ok(begun.elapsed().as_secs_f64() * 1e3);
            }
            if child.try_wait()?.is_some() || begun.elapsed() > PATIENCE {
                bail!("node did not start:\n{}", self.log_end());
            }
        }
    }

    /// Changes the configuration of a node that does not run.
    pub fn configure(&self, from: &str, to: &str) -> Result<()> {
        let file = self.dir.join("shuyu.toml");
        let made = std::fs::read_to_string(&file)?;
        ensure!(made.contains(from), "`{from}` is not in the configuration");
        Ok(std::fs::write(&file, made.replace(from, to))?)
    }

    /// kill -9, and waits until the process is gone.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Asks the process to stop, and waits for it.
    pub fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // The shell's own `kill` is there on machines without procps.
        let asked = Command::new("sh").args(["-c", "kill -TERM \"$1\"", "sh", &child.id().to_string()]).status();
        if !asked.is_ok_and(|status| status.success()) {
            child.kill()?;
        }
        child.wait()?;
        Ok(())
    }

    /// CPU-seconds used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        machine::cpu_seconds(self.process()?)
    }

    /// Memory in RAM, in MB.
    pub fn resident_mb(&self) -> Result<f64> {
        machine::resident_mb(self.process()?)
    }

    fn process(&self) -> Result<u32> {
        Ok(self.child.as_ref().context("node is not running")?.id())
    }

    /// `GET /v1/{path}`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, None).await
    }

    /// `POST /v1/{path}`.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.management)).bearer_auth(&self.key);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.with_context(|| format!("no answer to `{path}`\n{}", self.log_end()))?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status.is_success(), "`{path}` was answered {status}: {text}");
        serde_json::from_str(&text).with_context(|| format!("`{path}` was answered by no JSON: {text}"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// The last lines of the log.
    fn log_end(&self) -> String {
        let log = std::fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended_already = child.kill();
            let _ended_already = child.wait();
        }
    }
}

/// A free port below the range from which the system takes ports for outgoing connections, so that a node can be
/// started on it again; each is given once.
fn free_port() -> Result<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 900)? * 20;
    for _ in 0..10_000 {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between 12000 and 32000")
}
