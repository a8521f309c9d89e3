//! Witnesses: ledgers are cosigned by a quorum, and nobody gets a second history past it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shuyu_base::HashKind;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_scenarios::{Answer, Node, Pair, Wish, constraint, eventually};
use shuyu_tlog::{
    AddCheckpoint, Hash, HashSource, Note, NoteSigner, SignedCheckpoint, Tree, WitnessKey, WitnessPolicy, leaf_hash,
    prove_consistency, read_signatures,
};
use tokio::net::TcpListener;

const KIND: HashKind = HashKind::Sha256;

/// Sets keys of a table in a node's configuration, in place of what stands there.
pub fn configure(node: &Node, table: &str, lines: &str) {
    let file = node.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("a node has a configuration");
    let key = |line: &str| line.split('=').next().unwrap_or_default().trim().to_owned();
    let set: Vec<String> = lines.lines().map(key).collect();
    let head = format!("[{table}]");
    let mut changed = String::new();
    let mut is_inside = false;
    for line in made.lines() {
        if line.starts_with('[') {
            is_inside = line == head;
        }
        if !is_inside || !set.contains(&key(line)) {
            changed += &format!("{line}\n");
        }
        if line == head {
            changed += &format!("{lines}\n");
        }
    }
    assert!(changed.contains(&head), "{made}");
    std::fs::write(&file, changed).expect("it can be changed");
}

async fn witness(dir: &Path, name: &str) -> Node {
    let node = Node::init(Wish { dir: dir.join(name), role: "witness", plan: None }).await;
    node.spawn();
    node.ready().await;
    node
}

/// Has the witness cosign the log of this key.
async fn cosigns(witness: &Node, vkey: &str) {
    configure(witness, "witness", &format!("logs = ['{vkey}']"));
    witness.restart().await;
}

/// The policy line of a witness.
pub async fn line(witness: &Node, name: &str) -> String {
    let shown = witness.get("witness").await.expect_ok();
    shown["policy_line"].as_str().expect("it has one").replace("NAME", name)
}

async fn use_policy(node: &Node, policy: &str) {
    std::fs::write(node.dir.join("witness.policy"), policy).expect("it can be written");
    configure(node, "ledger", "witness-policy = 'witness.policy'\nheads-every-s = 1");
    node.restart().await;
}

pub async fn public(node: &Node, path: &str) -> Option<String> {
    let answer = Answer::of(shuyu_scenarios::node::http().get(format!("{}{path}", node.public))).await;
    answer.is_ok().then_some(answer.text)
}

/// The newest head that this policy's quorum has cosigned, once it covers `size` entries.
async fn witnessed(node: &Node, policy: &WitnessPolicy, size: u64) -> Note {
    eventually("a quorum has cosigned", || async {
        let note = Note::parse(public(node, "/ledger/witnessed").await?.as_bytes()).expect("a note is served");
        let head: shuyu_tlog::Checkpoint = note.text().parse().expect("of a checkpoint");
        (size <= head.size).then_some(note)
    })
    .await
    .checked(policy)
}

trait Checked {
    fn checked(self, policy: &WitnessPolicy) -> Self;
}

impl Checked for Note {
    fn checked(self, policy: &WitnessPolicy) -> Self {
        assert_eq!(policy.is_met(&self), Ok(true), "{self}");
        self
    }
}

async fn size_of(node: &Node) -> u64 {
    node.get("ledger").await.expect_ok()["size"].as_u64().expect("a size")
}

#[tokio::test]
async fn a_ledger_is_cosigned_by_its_quorum_whatever_single_witnesses_do() {
    let pair = Pair::start().await;
    let vkey = pair.holder.get("ledger").await.expect_ok()["vkey"].as_str().expect("a key").to_owned();
    let (one, two) = tokio::join!(witness(pair.dir.path(), "one"), witness(pair.dir.path(), "two"));
    for node in [&one, &two] {
        cosigns(node, &vkey).await;
    }
    // And one that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_url = format!("http://localhost:{}/witness", silent.local_addr().expect("bound").port());
    let stranger = SecretKey::from_seed(Suite::Ed25519, &[77; 32]).expect("a key");
    let stranger = WitnessKey::new("silent.example", stranger.public().clone()).expect("a name");
    let text = format!(
        "{}\n{}\nwitness silent {stranger} {silent_url}\ngroup peers any two silent\ngroup q all one peers\nquorum q\n",
        line(&one, "one").await,
        line(&two, "two").await,
    );
    use_policy(&pair.holder, &text).await;
    let policy = WitnessPolicy::parse(text.as_bytes()).expect("a policy");

    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    let size = size_of(&pair.holder).await;
    let note = witnessed(&pair.holder, &policy, size).await;
    let (by, at) = (policy.existed_by(&note).expect("it holds"), policy.newest_at(&note).expect("it holds"));
    assert!(by.is_some() && at.is_some());
    eventually("the waiting for witnesses is counted", || async {
        let metrics = public(&pair.holder, "/metrics").await.expect("figures are served");
        let mut counts = metrics.lines().filter(|line| line.starts_with("shuyu_ledger_witnessed_seconds_count"));
        let count = counts.next().expect("a figure").to_owned();
        (!count.ends_with(" 0")).then_some(())
    })
    .await;

    // The cosigned head is stated in the ledger, and stands beside it under its digest.
    let stated = eventually("a cosigned head is stated", || async {
        pair.holder.statements().await.into_iter().find(|statement| statement["kind"] == "ledger.witnessed-head")
    })
    .await;
    let digest = stated["event"].as_str().expect("a digest").rsplit(':').next().expect("a name").to_owned();
    let head = public(&pair.holder, &format!("/ledger/heads/{digest}")).await.expect("it is served");
    assert_eq!(hex_of(&head), digest);
    assert_eq!(policy.is_met(&Note::parse(head.as_bytes()).expect("a note")), Ok(true));

    // The witness serves what it cosigned to monitors.
    let origin = vkey.split('+').next().expect("a name");
    let shown = public(&one, &format!("/witness/{}/checkpoint", hex_of(origin))).await;
    assert!(shown.expect("it is served").starts_with(origin));

    // One more down, and the quorum is not met; it is as soon as the witness is back, with nothing lost.
    two.kill();
    pair.contract("open").await;
    let size = size_of(&pair.holder).await;
    eventually("the log says that no quorum has cosigned", || async {
        pair.holder.log().contains("no quorum of witnesses has cosigned").then_some(())
    })
    .await;
    two.restart().await;
    witnessed(&pair.holder, &policy, size).await;
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hex of a text's SHA-256.
pub fn hex_of(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// A log of our own, of any number of histories.
struct Log {
    signer: NoteSigner,
}

struct Leaves<'a>(&'a [Hash]);

impl HashSource for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let of = |at: u64| usize::try_from(at << level).expect("small");
        let mut tree = Tree::new(KIND);
        self.0[of(index)..of(index + 1)].iter().for_each(|leaf| tree.push(*leaf));
        Ok(tree.root())
    }
}

impl Log {
    fn new(seed: u8) -> Self {
        let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[seed; 32]).expect("a key"));
        Self { signer: NoteSigner::new("rogue.example/ledger", key).expect("a name") }
    }

    fn leaves(size: u64, salt: u8) -> Vec<Hash> {
        (0..size).map(|n| leaf_hash(KIND, &[&n.to_be_bytes()[..], &[salt]].concat())).collect()
    }

    fn note(&self, size: u64, salt: u8) -> Note {
        let mut tree = Tree::new(KIND);
        Self::leaves(size, salt).into_iter().for_each(|leaf| tree.push(leaf));
        let signed = SignedCheckpoint::sign(&self.signer, size, tree.root()).expect("it can be signed");
        Note::parse(signed.bytes()).expect("a note")
    }

    fn request(&self, old_size: u64, size: u64, salt: u8) -> AddCheckpoint {
        let leaves = Self::leaves(size, salt);
        let proof = if old_size == 0 || size < old_size {
            Vec::new()
        } else {
            prove_consistency(KIND, old_size, size, &Leaves(&leaves)).expect("it can be proven")
        };
        AddCheckpoint { old_size, proof, note: self.note(size, salt) }
    }
}

async fn submit(witness: &Node, request: &AddCheckpoint) -> Answer {
    submit_bytes(witness, request.to_string().into_bytes()).await
}

async fn submit_bytes(witness: &Node, bytes: Vec<u8>) -> Answer {
    Answer::of(shuyu_scenarios::node::http().post(format!("{}/witness/add-checkpoint", witness.public)).body(bytes))
        .await
}

#[tokio::test]
async fn a_witness_answers_as_the_specification_says_and_keeps_what_convicts() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = witness(dir.path(), "w").await;
    let log = Log::new(1);
    assert_eq!(submit(&node, &log.request(0, 3, 0)).await.status, 404, "not known");
    cosigns(&node, &log.signer.vkey().to_string()).await;
    let key: WitnessKey = node.get("witness").await.expect_ok()["key"].as_str().expect("a key").parse().expect("one");

    let first = submit(&node, &log.request(0, 3, 0)).await;
    assert_eq!(first.status, 200, "{}", first.text);
    let cosigned =
        log.note(3, 0).with_signatures(read_signatures(first.text.as_bytes()).expect("lines")).expect("fits");
    assert!(key.cosignature(&cosigned).expect("it holds").is_some());

    let stale = submit(&node, &log.request(0, 9, 0)).await;
    assert_eq!((stale.status, stale.text.as_str()), (409, "3\n"));
    assert_eq!(submit(&node, &log.request(3, 9, 0)).await.status, 200);
    assert_eq!(submit(&node, &log.request(9, 3, 0)).await.status, 400, "smaller than the old size");
    assert_eq!(submit(&node, &log.request(9, 9, 1)).await.status, 422, "a fork of the same size");
    assert_eq!(submit(&node, &log.request(9, 12, 1)).await.status, 422, "a fork that goes on");
    assert_eq!(submit(&node, &Log::new(2).request(9, 12, 0)).await.status, 403, "another key");
    assert_eq!(submit_bytes(&node, b"old 9\n\nwords".to_vec()).await.status, 400);
    assert_eq!(submit_bytes(&node, vec![b'x'; 2 << 20]).await.status, 413);
    let shown = node.get("witness").await.expect_ok();
    assert_eq!((&shown["items"][0]["size"], &shown["items"][0]["refused"]), (&json!(9), &json!(1)), "{shown}");
    assert_eq!(shown["cosigned"], 2);
    assert!(node.cli_ok(&["witness", "show"]).await.contains("rogue.example/ledger"));

    // kill -9: what was answered is known.
    node.restart().await;
    assert_eq!(submit(&node, &log.request(3, 20, 0)).await.text, "9\n");
}

/// The race that the specification names: of two growths from one state, one is cosigned.
#[tokio::test]
async fn of_submissions_that_race_one_wins() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = witness(dir.path(), "w").await;
    let log = Log::new(1);
    cosigns(&node, &log.signer.vkey().to_string()).await;
    assert_eq!(submit(&node, &log.request(0, 1, 0)).await.status, 200);
    let mut known = 1;
    for round in 0..6 {
        let requests: Vec<AddCheckpoint> = (1..=8).map(|step| log.request(known, known + step, 0)).collect();
        let answers = futures::future::join_all(requests.iter().map(|request| submit(&node, request))).await;
        let won: Vec<u64> =
            answers.iter().zip(1..).filter(|(answer, _)| answer.status == 200).map(|(_, step)| step).collect();
        let [step] = won.as_slice() else { panic!("round {round}: {won:?} were all cosigned") };
        assert!(answers.iter().filter(|answer| answer.status != 200).all(|answer| answer.status == 409));
        known += step;
    }
    assert_eq!(node.get("witness").await.expect_ok()["items"][0]["size"], json!(known));
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("it can be read").flatten() {
        std::fs::copy(entry.path(), to.join(entry.file_name())).expect("it can be copied");
    }
}

fn set_back(node: &Node, kept: &Path) {
    let db = node.dir.join("db");
    std::fs::remove_dir_all(&db).expect("it can be removed");
    copy(kept, &db);
}

#[tokio::test]
async fn a_witness_that_was_set_back_signs_no_more() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = Log::new(1);
    // First with the file apart as it is, then with a backup of both, where only its own signature can tell.
    for with_file in [true, false] {
        let node = witness(dir.path(), if with_file { "apart" } else { "both" }).await;
        cosigns(&node, &log.signer.vkey().to_string()).await;
        assert_eq!(submit(&node, &log.request(0, 3, 0)).await.status, 200);
        node.kill();
        let (kept, file) = (dir.path().join(format!("backup-{with_file}")), node.dir.join("witness-high-water"));
        copy(&node.dir.join("db"), &kept);
        let count = std::fs::read(&file).expect("it is there");
        node.restart().await;
        let second = submit(&node, &log.request(3, 9, 0)).await;
        assert_eq!(second.status, 200);
        node.kill();
        set_back(&node, &kept);
        if !with_file {
            std::fs::write(&file, count).expect("it can be set back");
        }
        node.spawn();
        node.ready().await;
        if !with_file {
            // It would cosign another history now; but the log shows it its own signature first.
            let lines = read_signatures(second.text.as_bytes()).expect("lines");
            let note = log.note(9, 0).with_signatures(lines).expect("fits");
            let shown = AddCheckpoint { old_size: 0, proof: Vec::new(), note };
            assert_eq!(submit(&node, &shown).await.status, 503);
        }
        let refused = submit(&node, &log.request(3, 8, 1)).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(refused.text.contains("set back") || refused.text.contains("rolled back"), "{}", refused.text);
        // Nor after a restart.
        node.restart().await;
        assert_eq!(submit(&node, &log.request(3, 9, 0)).await.status, 503);
        assert_ne!(node.get("witness").await.expect_ok()["retired"], Value::Null);
    }
}
