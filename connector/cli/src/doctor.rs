//! `shuyu doctor`: what is wrong with this node, and what to do about it.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use shuyu_base::keys::PublicKey;
use shuyu_node::key_ring::KeyRing;
use shuyu_node::{Config, MANAGEMENT_KEY_FILE};
use shuyu_resolver::{DidResolver, Http, HttpOptions};

use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::node_dir::{self, NodeKeys};
use crate::{ledger_verify, print};

/// Below this the node may soon be unable to write evidence, and then it stops serving. In bytes.
const LOW_DISK_BYTES: u64 = 1 << 30;

/// A file of the node dated later than this beyond now means that the clock was set back.
const CLOCK_SLACK: Duration = Duration::from_secs(300);

/// What to look for.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  shuyu doctor --dir holder

Looks at: configuration, key files, sockets, clock, disk, DID document, ledger. Changes nothing.
Exit code 1 if something fails.")]
pub struct Doctor {}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One line of the report.
#[derive(Debug)]
struct Line {
    verdict: Verdict,
    what: &'static str,
    found: String,
    hint: Option<String>,
}

impl Line {
    fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, what, found: found.into(), hint: None }
    }

    fn warn(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, what, found: found.into(), hint: Some(hint.into()) }
    }

    fn fail(what: &'static str, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, what, found: found.into(), hint: Some(hint.into()) }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// Runs `shuyu doctor`.
pub async fn run(globals: &Globals, _doctor: &Doctor) -> Outcome {
    let dir = globals.node_dir()?;
    let lines = examine(globals, dir).await;
    if globals.is_json() {
        let list: Vec<_> = lines
            .iter()
            .map(|line| json!({"check": line.what, "verdict": line.verdict.word(), "found": line.found, "hint": line.hint}))
            .collect();
        print::line(&json!({"items": list, "next": null}).to_string())?;
    } else {
        for line in &lines {
            print::line(&format!("{:4}  {:13} {}", line.verdict.word(), line.what, print::clean(&line.found)))?;
            if let Some(hint) = &line.hint {
                print::line(&format!("      {:13} hint: {}", "", print::clean(hint)))?;
            }
        }
    }
    let failed = lines.iter().filter(|line| line.verdict == Verdict::Fail).count();
    if failed == 0 { Ok(()) } else { Err(Failure::failed(format_args!("{failed} of {} checks failed", lines.len()))) }
}

async fn examine(globals: &Globals, dir: &Path) -> Vec<Line> {
    let config = match Config::load(dir) {
        Ok(config) => config,
        Err(error) => {
            let hint = "mend the file, or make a new node directory with `shuyu init`";
            return vec![Line::fail("configuration", chain(&error), hint)];
        }
    };
    let roles: Vec<_> = config.roles.iter().map(|role| role.name()).collect();
    let mut lines = vec![Line::ok("configuration", format!("{} ({})", config.name, roles.join(", ")))];
    lines.push(private_files(dir, &config));
    let is_running = globals.api().is_ok() && is_up(globals).await;
    lines.push(sockets(&config, is_running));
    lines.push(clock(dir));
    lines.push(disk(dir));
    match node_dir::keys(dir, &config) {
        Ok(keys) => {
            lines.push(Line::ok("keys", format!("signing key {}, ledger key decrypt", keys.signing.suite().name())));
            lines.push(document(dir, &config, &keys.signing, is_running).await);
            lines.push(ledger(globals, dir, &keys).await);
        }
        Err(failure) => lines.push(Line::fail(
            "keys",
            failure.message,
            "restore the key file or its passphrase file; without it the node cannot sign",
        )),
    }
    lines
}

async fn is_up(globals: &Globals) -> bool {
    match globals.api() {
        Ok(api) => api.get("v1/status").await.is_ok(),
        Err(_) => false,
    }
}

/// Secrets must be readable by their owner only.
fn private_files(dir: &Path, config: &Config) -> Line {
    let signing = KeyRing::load(dir, config).map_or_else(|_| config.keys.signing_key.clone(), |ring| ring.file);
    let mut files = vec![
        dir.join(signing),
        dir.join(&config.keys.ledger_key),
        dir.join(&config.keys.passphrase_file),
        dir.join(MANAGEMENT_KEY_FILE),
    ];
    files.extend(config.keys.sm2_key.iter().map(|file| dir.join(file)));
    let mut open = Vec::new();
    for file in &files {
        match std::fs::metadata(file) {
            Ok(found) if found.permissions().mode() & 0o077 == 0 => {}
            Ok(found) => open.push(format!("{} has mode {:o}", file.display(), found.permissions().mode() & 0o777)),
            Err(error) => {
                let hint = "restore it from a backup, or make a new node directory with `shuyu init`";
                return Line::fail("secret files", format!("{}: {error}", file.display()), hint);
            }
        }
    }
    if open.is_empty() {
        return Line::ok("secret files", format!("{} files, readable by their owner only", files.len()));
    }
    Line::fail("secret files", open.join("; "), "chmod 600 these files; if others could read them, make new keys")
}

/// A running node holds its sockets; otherwise they must be free.
fn sockets(config: &Config, is_running: bool) -> Line {
    let all = [
        ("listen.public", config.listen.public),
        ("listen.management", config.listen.management),
        ("listen.flight", config.listen.flight),
    ];
    if is_running {
        return Line::ok("sockets", format!("the node is running; management at {}", config.listen.management));
    }
    let taken: Vec<_> = all.iter().filter_map(|(key, address)| cannot_listen(key, *address)).collect();
    if taken.is_empty() {
        return Line::warn("sockets", "free, and the node is not running", "`shuyu run --dir DIR` starts it");
    }
    Line::fail("sockets", taken.join("; "), "stop what holds the address, or change it in shuyu.toml")
}

fn cannot_listen(key: &str, address: SocketAddr) -> Option<String> {
    TcpListener::bind(address).err().map(|error| format!("{key} {address}: {error}"))
}

/// Tokens live for minutes, so a clock that is off makes peers refuse; the node's own files tell of a clock set back.
fn clock(dir: &Path) -> Line {
    let now = crate::clock::now();
    let hint = "set the clock, best by NTP; peers refuse tokens that are off by more than 30 s";
    let newest = ["shuyu.toml", "ledger/tlog/checkpoint", "db/CURRENT"]
        .iter()
        .filter_map(|name| std::fs::metadata(dir.join(name)).and_then(|found| found.modified()).ok())
        .max();
    match newest {
        Some(newest) if now + CLOCK_SLACK < newest => {
            Line::fail("clock", "it is earlier than the node's own files: it was set back", hint)
        }
        Some(_) | None => Line::ok("clock", "not behind the node's own files"),
    }
}

fn disk(dir: &Path) -> Line {
    let hint = "free some space: without it no evidence can be written, and the node stops serving";
    let told = Command::new("df").arg("-Pk").arg(dir).output();
    let free = told.ok().and_then(|told| free_bytes(&String::from_utf8_lossy(&told.stdout)));
    match free {
        None => Line::warn("disk", "could not ask `df` for the free space", "look at it yourself"),
        Some(free) if free < LOW_DISK_BYTES => Line::fail("disk", format!("{} MiB free", free >> 20), hint),
        Some(free) => Line::ok("disk", format!("{} GiB free", free >> 30)),
    }
}

/// The fourth column of the second line of `df -Pk` (POSIX), in bytes.
fn free_bytes(df: &str) -> Option<u64> {
    let available: u64 = df.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    available.checked_mul(1024)
}

/// The document must be where peers look for it, and show the key this node signs with.
async fn document(dir: &Path, config: &Config, key: &PublicKey, is_running: bool) -> Line {
    let what = "DID document";
    if !is_running {
        return Line::warn(what, "not looked at: the node, which serves it, is not running", "start the node");
    }
    let extra_roots_pem = match config.tls.as_ref().and_then(|tls| tls.extra_roots.as_ref()) {
        Some(file) => std::fs::read(dir.join(file)).into_iter().collect(),
        None => Vec::new(),
    };
    let options =
        HttpOptions { insecure_loopback: config.insecure_loopback, extra_roots_pem, ..HttpOptions::default() };
    let http = match Http::new(options) {
        Ok(http) => http,
        Err(error) => return Line::fail(what, chain(&error), "see the `tls` section of shuyu.toml"),
    };
    let hint = "peers resolve it as we just did: check public.url, the proxy and the certificate";
    let did = match config.did() {
        Ok(did) => did,
        Err(error) => return Line::fail(what, chain(&error), "see `did` in shuyu.toml"),
    };
    match DidResolver::new(http).resolve(&did).await {
        Err(error) => Line::fail(what, chain(&error), hint),
        Ok(document) if document.methods().iter().any(|method| method.key == *key) => {
            Line::ok(what, format!("{did} resolves and shows the signing key"))
        }
        Ok(_) => {
            Line::fail(what, "it does not show the key this node signs with", "is another node behind public.url?")
        }
    }
}

async fn ledger(globals: &Globals, dir: &Path, keys: &NodeKeys) -> Line {
    let ledger = dir.join("ledger");
    if !ledger.join("tlog/checkpoint").exists() {
        return Line::warn(
            "ledger",
            "empty: the node has not recorded anything yet",
            "this is normal before the first exchange",
        );
    }
    match ledger_verify::of_node(globals, dir, keys).await {
        Ok(summary) => Line::ok("ledger", format!("{} entries verified", summary.size)),
        Err(failure) => {
            let found = std::iter::once(failure.message).chain(failure.explanation).collect::<Vec<_>>().join("; ");
            Line::fail("ledger", found, "keep the directory as it is; `shuyu ledger verify` checks it alone")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn df_is_read() {
        let df =
            "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/vda 263174212 14652200 81789012 15% /\n";
        assert_eq!(free_bytes(df), Some(81_789_012 * 1024));
        assert_eq!(free_bytes("df: x: No such file"), None);
    }

    #[test]
    fn secret_files_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let options = shuyu_node::InitOptions {
            dir: dir.path().join("node"),
            name: "n".to_owned(),
            did: "did:web:localhost%3A7101".to_owned(),
            roles: vec![shuyu_node::Role::Consumer],
            listen: "127.0.0.1:7101".parse().unwrap(),
            management: "127.0.0.1:7102".parse().unwrap(),
            flight: "127.0.0.1:7103".parse().unwrap(),
            public_url: None,
            flight_url: None,
            insecure_loopback: true,
            tls: None,
            spaces: Vec::new(),
            suite: shuyu_base::keys::Suite::Ed25519,
            passphrase_file: None,
        };
        shuyu_node::init(&options).unwrap();
        let config = Config::load(&options.dir).unwrap();
        assert_eq!(private_files(&options.dir, &config).verdict, Verdict::Ok);
        let key = options.dir.join("management.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let line = private_files(&options.dir, &config);
        assert_eq!(line.verdict, Verdict::Fail);
        assert!(line.found.ends_with("management.key has mode 644"), "{}", line.found);
    }
}
