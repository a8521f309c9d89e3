//! The command without a node: exit codes, what goes to stdout and what to stderr.
#![expect(clippy::unwrap_used, reason = "a failure of a helper is the failure of its test")]

use std::path::Path;
use std::process::{Command, Output};

fn shuyu(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shuyu"))
        .args(args)
        .env_remove("SHUYU_DIR")
        .env_remove("SHUYU_URL")
        .env_remove("SHUYU_KEY_FILE")
        .output()
        .unwrap()
}

#[track_caller]
fn check(args: &[&str], code: i32, stdout: &str, stderr: &str) {
    let output = shuyu(args);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}\n{out}\n{err}");
    assert!(out.contains(stdout), "{args:?}: stdout lacks `{stdout}`:\n{out}");
    assert!(err.contains(stderr), "{args:?}: stderr lacks `{stderr}`:\n{err}");
}

fn policy(name: &str) -> String {
    format!("{}/../../examples/first-exchange/policies/{name}.json", env!("CARGO_MANIFEST_DIR"))
}

fn init(dir: &Path) -> Output {
    let dir = dir.to_str().unwrap();
    let did = "did:web:localhost%3A7101";
    shuyu(&["init", dir, "--name", "N", "--did", did, "--role", "holder", "--insecure-loopback"])
}

#[test]
fn nonsense_on_the_command_line_is_64() {
    check(&[], 64, "", "Usage: shuyu");
    check(&["no-such-command"], 64, "", "unrecognized subcommand");
    check(&["asset", "add"], 64, "", "Usage: shuyu asset add");
    check(&["status"], 64, "", "hint: `shuyu init");
    check(&["query", "SELECT 1"], 64, "", "--contract");
    check(&["--help"], 0, "Exit codes", "");
    check(&["--version"], 0, "shuyu ", "");
}

#[test]
fn every_command_teaches_itself() {
    for noun in ["asset", "policy", "offer", "catalog", "negotiation", "contract", "transfer", "ledger", "audit"] {
        check(&[noun, "--help"], 0, "Commands:", "");
    }
    for command in [&["init"][..], &["query"], &["pull"], &["negotiation", "start"], &["audit", "bundle", "verify"]] {
        check(&[command, &["--help"]].concat(), 0, "Example", "");
    }
}

#[test]
fn policies_are_explained_in_two_languages() {
    for name in ["flights", "flights-counter", "flights-wish", "flights-bulk", "weather"] {
        check(&["policy", "check", &policy(name)], 0, "It permits:", "");
    }
    check(&["policy", "check", &policy("flights"), "--lang", "zh"], 0, "其余一律拒绝", "");
    check(&["policy", "check", &policy("flights"), "--output", "json"], 0, "\"usable\":true", "");
}

#[test]
fn policies_that_cannot_be_read_or_used_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    check(&["policy", "check", "no-such-file"], 3, "", "could not read `no-such-file`");
    check(&["policy", "check", &write("half", "{")], 3, "", "half");
    check(&["policy", "check", &write("twice", r#"{"a":1,"a":2}"#)], 3, "", "appears twice");
    let known = std::fs::read_to_string(policy("flights")).unwrap();
    let unknown = write("unknown", &known.replace("\"purpose\"", "\"moonPhase\""));
    check(&["policy", "check", &unknown], 3, "", "moonPhase");
    let impossible = write("impossible", &known.replace("origin IN ('SEA', 'PDX')", "origin IN (("));
    let output = shuyu(&["policy", "check", &impossible]);
    assert!(matches!(output.status.code(), Some(2 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_node_directory_is_made_once_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("node");
    let made = init(&dir);
    assert_eq!(String::from_utf8_lossy(&made.stdout), format!("{}\n", dir.display()));
    for file in ["shuyu.toml", "management.key", "keys/node.pem", "keys/node.pass"] {
        let mode = std::fs::metadata(dir.join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let before = std::fs::read(dir.join("keys/node.pem")).unwrap();
    let again = init(&dir);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("hint: "));
    assert_eq!(std::fs::read(dir.join("keys/node.pem")).unwrap(), before);
}

#[test]
fn a_node_that_is_not_there_is_a_failure_with_a_hint() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("node");
    init(&dir);
    let dir_text = dir.to_str().unwrap();
    // Nobody listens on port 1.
    let config = std::fs::read_to_string(dir.join("shuyu.toml")).unwrap();
    std::fs::write(dir.join("shuyu.toml"), config.replace("127.0.0.1:7102", "127.0.0.1:1")).unwrap();
    check(&["--dir", dir_text, "status"], 1, "", "hint: start it with `shuyu run");
    check(&["--dir", dir_text, "asset", "list"], 1, "", "no node answers");
    // Whether its sockets are free depends on the machine; the rest does not.
    let told = String::from_utf8(shuyu(&["--dir", dir_text, "doctor"]).stdout).unwrap();
    for line in ["ok    configuration", "ok    secret files", "ok    keys", "warn  ledger"] {
        assert!(told.contains(line), "{told}");
    }
    std::fs::write(dir.join("shuyu.toml"), format!("no-such-key = 1\n{config}")).unwrap();
    check(&["--dir", dir_text, "status"], 3, "", "no-such-key");
    check(&["--dir", dir_text, "doctor"], 1, "fail  configuration", "");
}

#[test]
fn what_is_not_a_bundle_or_a_ledger_is_unreadable() {
    check(&["audit", "bundle", "verify", "no-such-file"], 3, "", "no-such-file");
    check(&["audit", "bundle", "verify", &policy("flights")], 3, "", "bundle");
    check(&["audit", "bundle", "verify", &policy("flights"), "--pin", "x"], 64, "", "DID=VKEY");
    check(&["ledger", "verify", "no-such-directory"], 3, "", "no-such-directory");
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        check(&["completions", shell], 0, "shuyu", "");
    }
}
