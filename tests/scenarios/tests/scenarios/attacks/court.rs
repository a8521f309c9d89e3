//! A regulator who follows a node, and what becomes of its bundles at `shuyu audit bundle verify` and at the Go oracle.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use serde_json::{Value, json};
use shuyu_base::{SecretKey, Suite};
use shuyu_scenarios::node::run;
use shuyu_scenarios::{Node, Rogue, Wish, eventually};
use shuyu_tlog::WitnessSigner;
use tempfile::TempDir;

use super::double::{Double, cosign};
use crate::hostile;

/// A regulator and the node that it follows, now in hostile hands.
pub struct Court {
    pub double: Double,
    pub regulator: Node,
    pub dir: TempDir,
    /// The tlog-proof of entry 0, as the node gave it while it was honest, and the entry.
    pub proof: (Vec<u8>, Vec<u8>),
    /// Keeps the directory of the node.
    _home: TempDir,
}

/// Two witnesses, both of whom must have cosigned.
pub fn witnesses() -> [WitnessSigner; 2] {
    [("w.example/1", 101), ("w.example/2", 102)].map(|(name, seed)| {
        let key = SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).expect("every seed is a key");
        WitnessSigner::new(name, Arc::new(key)).expect("a name")
    })
}

/// Writes the policy that both witnesses must have cosigned.
pub fn policy(dir: &Path) -> String {
    let [one, two] = witnesses();
    let text = format!("witness a {}\nwitness b {}\ngroup both all a b\nquorum both\n", one.key(), two.key());
    file(dir, "city.policy", text.as_bytes())
}

/// Writes a file; its path.
pub fn file(dir: &Path, name: &str, bytes: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, bytes).expect("a file can be written");
    path.display().to_string()
}

/// A regulator that follows these nodes.
pub async fn regulator(dir: &Path, nodes: &[&str]) -> Node {
    let regulator = Node::start(Wish { dir: dir.join("regulator"), role: "regulator", plan: None }).await;
    for did in nodes {
        regulator.post("audit/nodes", &json!({ "did": did })).await.expect_ok();
    }
    regulator
}

impl Court {
    /// A holder with a few entries, followed while it was honest.
    pub async fn sits() -> Self {
        Self::sits_after(async |_| ()).await
    }

    /// The same; `before` is done to the honest node once it is followed.
    pub async fn sits_after(before: impl AsyncFnOnce(&Node)) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let (home, holder) = hostile::holder().await;
        let rogue = Rogue::start().await;
        rogue.request(&holder, "weather", "asked").await.expect(201);
        let proof = eventually("an entry is published", || async {
            let answer = holder.get("ledger/proof/0").await;
            answer.is_ok().then_some(answer.text.into_bytes())
        })
        .await;
        let regulator = regulator(dir.path(), &[&holder.did]).await;
        regulator.cli_ok(&["audit", "sync"]).await;
        before(&holder).await;
        let double = Double::of(&holder).await;
        let proof = (proof, double.entries[0].clone());
        Self { double, regulator, dir, proof, _home: home }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the head with both cosignatures.
    pub fn cosigned(&self, name: &str, head: &[u8], time_s: u64) -> String {
        file(self.path(), name, &cosign(head, &witnesses(), time_s))
    }

    /// The regulator looks again, and its bundle convicts.
    pub async fn convicts(&self, extra: &[&str], kind: &str, basis: &str) {
        // What is found is told in the listing; here the bundle is asked.
        self.regulator.post("audit/sync", &json!({})).await.expect_ok();
        convicts(&self.regulator, self.path(), extra, kind, basis).await;
    }
}

/// The regulator's bundle names the misdeed, whole and cut down; Go agrees; and with one byte of the proof changed,
/// neither says so any more.
pub async fn convicts(regulator: &Node, dir: &Path, extra: &[&str], kind: &str, basis: &str) {
    let (whole, small) = (dir.join("whole.json").display().to_string(), dir.join("small.json").display().to_string());
    let policy = policy(dir);
    let make = ["audit", "bundle", "make", "--file", &whole, "--policy", &policy];
    regulator.cli_ok(&[&make, extra].concat()).await;
    names(&whole, kind, basis).await;
    let made = run(&["audit", "bundle", "make", "--from", &whole, "--only", kind, "--file", &small]).await;
    assert_eq!(made.code, 0, "{}", made.err);
    names(&small, kind, basis).await;
    let size = |path: &str| std::fs::metadata(path).expect("it was made").len();
    assert!(size(&small) <= size(&whole), "{} and {}", size(&small), size(&whole));
    let text = std::fs::read(&small).expect("it was made");
    let bundle: Value = serde_json::from_slice(&text).expect("a bundle is JSON");
    let changed = flips(&bundle, kind);
    assert!(!changed.is_empty(), "{bundle:#}");
    for (at, one) in changed {
        let bad = file(dir, "flipped.json", one.to_string().as_bytes());
        let judged = run(&["audit", "bundle", "verify", &bad]).await;
        assert!(!judged.err.contains(&format!("{kind} ({basis})")), "{at}: {}", judged.err);
        let (_, lines) = oracle(&bad);
        assert!(!lines.contains(&format!("{kind} {basis}")), "{at}: {lines}");
    }
}

/// Both judges name it.
pub async fn names(bundle: &str, kind: &str, basis: &str) {
    let judged = run(&["audit", "bundle", "verify", bundle]).await;
    assert_eq!(judged.code, 2, "{kind}: {}{}", judged.out, judged.err);
    assert!(judged.err.contains(&format!("{kind} ({basis})")), "{kind}: {}", judged.err);
    let (code, lines) = oracle(bundle);
    assert_eq!(code, Some(1), "{kind}: {lines}");
    assert!(lines.contains(&format!("{kind} {basis}")), "{kind}: {lines}");
}

/// What the Go oracle says: its exit code, and its lines.
pub fn oracle(bundle: &str) -> (Option<i32>, String) {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let into = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-tlog");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../oracles/go-tlog");
        let mut go = std::process::Command::new("go");
        let built = go.arg("build").arg("-o").arg(&into).arg(".").current_dir(source).output();
        let built = built.expect("`go` is on PATH; hint: `./x setup` installs it");
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        into
    });
    let judged = std::process::Command::new(built).args(["bundle", bundle]).output().expect("it was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (judged.status.code(), text(&judged.stdout) + &text(&judged.stderr))
}

/// The bundle with one character of one signature changed, for every note, proof and receipt that it brings.
fn flips(bundle: &Value, kind: &str) -> Vec<(String, Value)> {
    let count = |pointer: &str| bundle.pointer(pointer).and_then(Value::as_array).map_or(0, Vec::len);
    let mut places: Vec<String> = (0..count("/heads")).map(|at| format!("/heads/{at}")).collect();
    let mut has_log = false;
    for node in 0..count("/nodes") {
        let node = format!("/nodes/{node}");
        has_log |= bundle.pointer(&format!("{node}/files")).is_some_and(|files| files != &json!({}));
        let members = [
            ("observed", "/checkpoint"),
            ("picked", "/proof"),
            ("promises", "/proof"),
            ("prefixes", "/head"),
            ("receipts", ""),
        ];
        for (member, inner) in members {
            let list = format!("{node}/{member}");
            places.extend((0..count(&list)).map(|at| format!("{list}/{at}{inner}")));
        }
    }
    // What a whole log brings more than once proves the same without one copy: there the receipt is changed, or every head.
    let is_alone = places.iter().any(|place| place.contains("/receipts/"));
    places.retain(|place| !has_log || !is_alone || place.contains("/receipts/"));
    let flipped = |place: String| {
        let mut changed = bundle.clone();
        let slot = changed.pointer_mut(&place).expect("it is there");
        let text = slot.as_str().expect("a text").to_owned();
        // A witness is convicted by its own line, the last; everybody else by the first, the log's.
        let at = match text.find("\n\u{2014} ") {
            Some(first) if kind != "lying-witness" || place.contains("/prefixes/") => {
                let line = first + "\n\u{2014} ".len();
                line + text[line..].find(' ').expect("a line has a name") + 30
            }
            Some(_) | None => text.len() - 20,
        };
        let other = if &text[at..=at] == "A" { "B" } else { "A" };
        *slot = format!("{}{other}{}", &text[..at], &text[at + 1..]).into();
        (place, changed)
    };
    places.into_iter().map(flipped).collect()
}
