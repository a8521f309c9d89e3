//! Every attack of the table in the ledger's reference: a hostile node mounts it, a regulator who follows it makes a
//! bundle, and the bundle convicts at `shuyu audit bundle verify` and at the Go oracle; with one byte of the proof
//! changed it does not.

mod court;
mod double;

use shuyu_base::Digest;
use shuyu_evidence::Act;
use shuyu_scenarios::node::{http, run};
use shuyu_scenarios::{Answer, Node, Pair, constraint};
use shuyu_tlog::{Hash, Vkey, WitnessKey};

use court::{Court, convicts, file, oracle, policy, regulator, witnesses};
use double::{Double, cosign, now_s, secret};

const HOUR_S: u64 = 3600;
const DAY_S: u64 = 86_400;
const SIGNED: &str = "signed-by-accused";
const COSIGNED: &str = "cosigned-by-quorum";
const SERVED: &str = "served-to-auditor";

#[tokio::test]
async fn an_honest_node_is_not_convicted() {
    let mut court = Court::sits().await;
    court.double.records(now_s());
    let note = cosign(&court.double.head(court.double.size()), &witnesses(), now_s());
    let stated = Digest::sha256(&note);
    let hex = stated.to_string().replace("sha256:", "");
    court.double.put(&format!("/ledger/heads/{hex}"), note.clone());
    court.double.says(now_s(), "ledger.witnessed-head", Act::Observed, stated);
    court.double.records(now_s());
    court.double.publish();
    court.regulator.cli_ok(&["audit", "sync"]).await;
    let (bundle, policy) = (court.path().join("whole.json").display().to_string(), policy(court.path()));
    let again = file(court.path(), "again", &cosign(&note, &witnesses()[..1], now_s() + 9));
    let make = ["audit", "bundle", "make", "--file", &bundle, "--policy", &policy, "--head", &again];
    court.regulator.cli_ok(&make).await;
    let text = std::fs::read_to_string(&bundle).expect("it was made");
    let told: serde_json::Value = serde_json::from_str(&text).expect("a bundle is JSON");
    assert_eq!(told["heads"].as_array().map(Vec::len), Some(2), "the stated head was copied, the other handed in");
    let judged = run(&["audit", "bundle", "verify", &bundle]).await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    let (code, lines) = oracle(&bundle);
    assert_eq!((code, lines.as_str()), (Some(0), "holds\n"));
    let none = run(&["audit", "bundle", "make", "--from", &bundle, "--only", "fork"]).await;
    assert_eq!(none.code, 2, "{}", none.err);
}

#[tokio::test]
async fn an_altered_entry() {
    let mut court = Court::sits().await;
    court.double.records(now_s());
    // One byte of what is served is not what was signed.
    let mut served = court.double.entries.clone();
    served[0][40] ^= 1;
    court.double.serves(&court.double.head(court.double.size()), &served);
    court.convicts(&[], "altered", SERVED).await;
    // The history is written anew around another entry, and signed.
    let mut court = Court::sits().await;
    let place = court.double.records(now_s());
    court.double.entries.swap(0, place);
    court.double.records(now_s());
    court.double.publish();
    court.convicts(&[], "inconsistent", SIGNED).await;
    let (proof, entry) = &court.proof;
    let [entry, proof] =
        [("entry", entry), ("entry.proof", proof)].map(|(name, bytes)| file(court.path(), name, bytes));
    court.convicts(&["--proof", &format!("{entry}={proof}")], "altered", SIGNED).await;
}

#[tokio::test]
async fn a_truncated_log() {
    let mut court = Court::sits().await;
    court.double.records(now_s());
    court.double.publish();
    court.regulator.cli_ok(&["audit", "sync"]).await;
    court.double.entries.pop();
    court.double.publish();
    court.convicts(&[], "rollback", SERVED).await;
    // It goes on from there as if nothing had been.
    court.double.records(now_s());
    court.double.records(now_s());
    court.double.publish();
    court.convicts(&[], "inconsistent", SIGNED).await;
}

#[tokio::test]
async fn a_forked_log() {
    let mut court = Court::sits().await;
    court.double.records(now_s());
    court.double.publish();
    let size = court.double.size();
    let heard = |size| court.double.head_with(size, Hash([7; 32]));
    let [equal, smaller] =
        [("equal", size), ("smaller", size - 1)].map(|(name, size)| file(court.path(), name, &heard(size)));
    court.convicts(&["--head", &equal], "fork", SIGNED).await;
    court.convicts(&["--head", &smaller], "inconsistent", SIGNED).await;
}

#[tokio::test]
async fn a_back_dated_entry() {
    // Behind a head that the log itself stated, and that did not exist before.
    let mut court = Court::sits().await;
    let note = cosign(&court.double.head(court.double.size()), &witnesses(), now_s());
    let stated = Digest::sha256(&note);
    let hex = stated.to_string().replace("sha256:", "");
    court.double.put(&format!("/ledger/heads/{hex}"), note);
    court.double.says(now_s(), "ledger.witnessed-head", Act::Observed, stated);
    court.double.records(now_s() - 2 * HOUR_S);
    court.double.publish();
    court.convicts(&[], "back-dated", COSIGNED).await;
}

#[tokio::test]
async fn an_entry_that_witnesses_would_have_seen() {
    let mut court = Court::sits().await;
    let without = court.double.head(court.double.size());
    let without = court.cosigned("without", &without, now_s() + 3 * DAY_S);
    court.double.records(now_s());
    court.double.publish();
    court.convicts(&["--head", &without], "back-dated", COSIGNED).await;
}

#[tokio::test]
async fn a_pre_made_entry() {
    let mut court = Court::sits().await;
    court.double.records(now_s() + 2 * DAY_S);
    let head = cosign(&court.double.head(court.double.size()), &witnesses(), now_s());
    court.double.serves(&head, &court.double.entries.clone());
    court.convicts(&[], "pre-made", COSIGNED).await;
    // Who trusts other witnesses than those of the bundle is shown nothing about times; nor by a log of another key.
    let small = court.path().join("small.json").display().to_string();
    let stranger = WitnessKey::new("w.example/9", court.double.public_key()).expect("a name");
    let other = file(court.path(), "other.policy", format!("witness x {stranger}\nquorum x\n").as_bytes());
    let judged = run(&["audit", "bundle", "verify", &small, "--policy", &other]).await;
    assert_eq!(judged.code, 0, "{}", judged.err);
    let pin = format!("{}={}", court.double.did, Vkey::new("x", court.double.public_key()).expect("a name"));
    let judged = run(&["audit", "bundle", "verify", &small, "--pin", &pin]).await;
    assert!(judged.code == 2 && judged.err.contains("not the one known to you"), "{}", judged.err);
}

#[tokio::test]
async fn an_entry_dropped_after_it_was_promised() {
    let mut court = Court::sits().await;
    let before = court.double.head(court.double.size());
    court.double.records(now_s());
    let entry = court.double.entries.pop().expect("it was made");
    let promise = court.double.promise(&entry, now_s() + 60);
    let [entry, promise] =
        [("entry", &entry), ("promise", &promise)].map(|(name, bytes)| file(court.path(), name, bytes));
    let pair = format!("{entry}={promise}");
    // Long after the deadline the witnesses still know nothing newer than what was there before.
    let late = court.cosigned("late", &before, now_s() + 3 * DAY_S);
    court.convicts(&["--promise", &pair, "--head", &late], "dropped", COSIGNED).await;
    // Another entry has the place.
    court.double.records(now_s());
    court.double.publish();
    court.convicts(&["--promise", &pair], "dropped", SIGNED).await;
}

#[tokio::test]
async fn a_replayed_entry() {
    let mut court = Court::sits().await;
    court.double.entries.push(court.double.entries[0].clone());
    court.double.publish();
    court.convicts(&[], "replayed", SIGNED).await;
}

#[tokio::test]
async fn a_key_used_after_it_was_given_up() {
    let old = std::sync::Mutex::new(None);
    let mut court = Court::sits_after(async |node: &Node| {
        *old.lock().expect("one thread") = Some(secret(&node.dir, "node.pem"));
        let before = node.statements().await.len();
        node.kill();
        node.cli_ok(&["key", "rotate", "--compromised"]).await;
        node.spawn();
        node.ready().await;
        shuyu_scenarios::eventually("the succession is in the ledger", || async {
            (before < node.statements().await.len()).then_some(())
        })
        .await;
    })
    .await;
    court.regulator.cli_ok(&["audit", "sync"]).await;
    // The double signs with the first key, which whoever stole it has too.
    court.double.records(now_s());
    court.double.publish();
    court.convicts(&[], "revoked-key", SIGNED).await;
}

#[tokio::test]
async fn a_witness_that_lies() {
    let mut court = Court::sits().await;
    let now = now_s();
    court.double.records(now);
    let size = court.double.size();
    let (one, path) = (&witnesses()[..1], court.path());
    let large = cosign(&court.double.head(size), one, now);
    court.double.serves(&large, &court.double.entries.clone());
    let lie = |name: &str, head: &[u8], at| file(path, name, &cosign(head, one, at));
    let fork = lie("fork", &court.double.head_with(size, Hash([7; 32])), now);
    court.convicts(&["--head", &fork], "lying-witness", SIGNED).await;
    let other = lie("other", &court.double.head_with(size - 1, Hash([7; 32])), now);
    court.convicts(&["--head", &other], "lying-witness", SIGNED).await;
    let later = lie("later", &court.double.head(size - 1), now + HOUR_S);
    court.convicts(&["--head", &later], "lying-witness", SIGNED).await;
}

/// The consumer reads the table once and keeps the receipt in its own ledger; the receipt.
async fn use_once(pair: &Pair) -> String {
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let answer = access.request("format=csv&purpose=research").send().await.expect("the holder answers");
    let use_id = answer.headers()["shuyu-use"].to_str().expect("an id").to_owned();
    answer.bytes().await.expect("the whole file");
    let url = format!("{}/receipts/{use_id}", access.http.trim_end_matches('/'));
    let receipt = Answer::of(http().get(url).bearer_auth(&access.bearer)).await;
    assert!(receipt.is_ok(), "{}", receipt.text);
    let kept = serde_json::json!({ "receipt": receipt.text.trim() });
    pair.consumer.post("receipts", &kept).await.expect_ok();
    // Entries are listed once a checkpoint covers them.
    for (node, act) in [(&pair.consumer, "receipt"), (&pair.holder, "served")] {
        shuyu_scenarios::eventually("the use is in both ledgers", || async {
            node.statements().await.iter().any(|one| one["act"] == act).then_some(())
        })
        .await;
    }
    receipt.text.trim().to_owned()
}

#[tokio::test]
async fn what_one_party_never_logged() {
    let pair = Pair::start().await;
    let receipt = use_once(&pair).await;
    let mut double = Double::of(&pair.holder).await;
    let act = |entry: &Vec<u8>| shuyu_evidence::peek(entry).expect("a statement").act;
    // The use that it signed a receipt of never was; nor was one message of the negotiation.
    double.entries.retain(|entry| act(entry) != Act::Served);
    let sent = double.entries.iter().position(|entry| act(entry) == Act::Sent).expect("it sent something");
    double.entries.remove(sent);
    double.serves(&cosign(&double.head(double.size()), &witnesses(), now_s() + 3 * DAY_S), &double.entries.clone());
    let dir = pair.dir.path();
    let regulator = regulator(dir, &[&pair.holder.did, &pair.consumer.did]).await;
    regulator.post("audit/sync", &serde_json::json!({})).await.expect_ok();
    // Witnesses cosign the consumer's head as it is.
    let theirs = Answer::of(http().get(format!("{}/ledger/checkpoint", pair.consumer.public))).await;
    let theirs = file(dir, "theirs", &cosign(theirs.text.as_bytes(), &witnesses(), now_s()));
    let receipt = file(dir, "receipt", receipt.as_bytes());
    convicts(&regulator, dir, &["--receipt", &receipt, "--head", &theirs], "omitted", COSIGNED).await;
    // The gap in the numbers convicts by the log alone; the message itself is one word against another.
    convicts(&regulator, dir, &[], "out-of-sequence", SIGNED).await;
    let whole = dir.join("whole.json").display().to_string();
    let judged = run(&["audit", "bundle", "verify", &whole]).await;
    assert!(judged.err.contains("disagreement (parties-disagree)"), "{}", judged.err);
}
