//! The house of `docs/ARCHITECTURE.md`, checked from `cargo metadata` and from the files themselves.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failure of a helper is the failure of its test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates on floors 0 to 2 know no run time, socket, disk or random source.
const FORBIDDEN_BELOW_THE_LINE: [&str; 13] = [
    "axum",
    "datafusion",
    "getrandom",
    "hyper",
    "libp2p",
    "object_store",
    "rand",
    "reqwest",
    "rocksdb",
    "tokio",
    "tonic",
    "uuid",
    "tracing",
];
/// Production part of a file, in lines.
const MAX_FILE_LINES: usize = 600;

struct Crate {
    name: String,
    floor: u64,
    dir: PathBuf,
    dependencies: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn crates() -> Vec<Crate> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| Crate {
            name: text(&package["name"]),
            floor: package["metadata"]["shuyu"]["floor"]
                .as_u64()
                .unwrap_or_else(|| panic!("{} names no floor in [package.metadata.shuyu]", package["name"])),
            dir: Path::new(&text(&package["manifest_path"])).parent().unwrap().to_owned(),
            dependencies: package["dependencies"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| text(&dependency["name"]))
                .collect(),
        })
        .collect()
}

#[test]
fn imports_go_strictly_down() {
    let crates = crates();
    let floors: BTreeMap<&str, u64> = crates.iter().map(|c| (c.name.as_str(), c.floor)).collect();
    let mut wrong = Vec::new();
    for c in &crates {
        for dependency in &c.dependencies {
            if let Some(floor) = floors.get(dependency.as_str())
                && c.floor <= *floor
                && c.floor < 5
            {
                wrong.push(format!("{} (floor {}) imports {dependency} (floor {floor})", c.name, c.floor));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(10 < crates.len(), "the workspace was not read");
}

#[test]
fn below_the_line_nothing_knows_time_disk_or_network() {
    let mut wrong = Vec::new();
    // The wire crate stands on the machines it translates for, and is as pure as they are.
    for c in crates().iter().filter(|c| c.floor <= 2 || c.name == "shuyu-wire") {
        for dependency in c.dependencies.iter().filter(|name| FORBIDDEN_BELOW_THE_LINE.contains(&name.as_str())) {
            wrong.push(format!("{} depends on {dependency}", c.name));
        }
        for file in rust_files(&c.dir.join("src")) {
            for needle in ["SystemTime::now", "Instant::now", "std::fs::", "std::net::Tcp", "std::net::Udp", "async fn"]
            {
                if production_part(&file).contains(needle) {
                    wrong.push(format!("{} uses {needle}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_named_for_their_subject_and_introduced() {
    let mut wrong = Vec::new();
    for c in crates() {
        for file in rust_files(&c.dir.join("src")) {
            let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
            if ["mod", "utils", "util", "helpers", "common", "misc", "types"].contains(&stem.as_str()) {
                wrong.push(format!("{}: name a file for its subject", file.display()));
            }
            let lines = production_part(&file).lines().count();
            if MAX_FILE_LINES < lines {
                wrong.push(format!("{} has {lines} lines", file.display()));
            }
            if stem != "tests" && !std::fs::read_to_string(&file).unwrap().starts_with("//!") {
                wrong.push(format!("{} has no //! header", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_clock_is_read_in_one_file_a_crate() {
    let mut wrong = Vec::new();
    for c in crates() {
        for file in rust_files(&c.dir.join("src")) {
            if file.ends_with("clock.rs") {
                continue;
            }
            if production_part(&file).contains("SystemTime::now") {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "read the clock in clock.rs:\n{}", wrong.join("\n"));
}

/// The doors to data take a [`Permit`](../policy/src/permit.rs) and nothing else builds one.
#[test]
fn only_the_policy_builds_permits() {
    let mut wrong = Vec::new();
    for c in crates().iter().filter(|c| c.name != "shuyu-policy") {
        for file in rust_files(&c.dir.join("src")) {
            if production_part(&file).contains("Permit {") {
                wrong.push(file.display().to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nothing_names_a_machine_or_a_registry_host() {
    // Split, so that this file does not find itself.
    let needles = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["index.crates", ".io"].concat(),
        ["registry.npm", "js.org"].concat(),
    ];
    let mut wrong = Vec::new();
    let files = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().unwrap();
    assert!(files.status.success());
    for name in files.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        if name.ends_with(".lock") {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(root().join(&name)) else { continue };
        for needle in &needles {
            if text.contains(needle.as_str()) {
                wrong.push(format!("{name} contains {needle}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What a compatibility kit wants of the system under test is done from outside, by `tests/conformance`: no crate of the
/// product knows that it is being tested.
#[test]
fn no_product_crate_names_a_compatibility_kit() {
    let needles = ["tck", "conformance kit", "compatibility kit", "acn0", "acnc0", "atp0", "atpc0", "cat010", "cd123:"];
    let mut wrong = Vec::new();
    let mut seen = 0;
    for c in crates().iter().filter(|c| !c.dir.starts_with(root().join("tests"))) {
        let files = Command::new("git").args(["ls-files", "-z", "."]).current_dir(&c.dir).output().unwrap();
        assert!(files.status.success());
        for name in files.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let path = c.dir.join(String::from_utf8_lossy(name).as_ref());
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            seen += 1;
            let text = text.to_lowercase();
            for needle in needles.iter().filter(|needle| text.contains(**needle)) {
                wrong.push(format!("{} contains {needle}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(100 < seen, "the product was not read");
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let Ok(entries) = std::fs::read_dir(dir) else { return files };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// A file without its tests; a file of tests alone is empty.
fn production_part(file: &Path) -> String {
    if file.file_name().is_some_and(|name| name == "tests.rs")
        || file.components().any(|part| part.as_os_str() == "tests")
    {
        return String::new();
    }
    let text = std::fs::read_to_string(file).unwrap();
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].to_owned()
}
