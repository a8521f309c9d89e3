//! A regulator's node as witness, monitor and mirror at once; promises; anchors.

use serde_json::{Value, json};
use shuyu_base::Digest;
use shuyu_scenarios::{Answer, Node, Pair, Receiver, Wish, constraint, eventually};
use shuyu_tlog::{PromiseProof, Vkey};

use crate::witness::{configure, hex_of, line, public};

/// A node that follows, cosigns and mirrors.
async fn overseer(pair: &Pair) -> Node {
    let dir = pair.dir.path().join("overseer");
    let node = Node::init(Wish { dir, role: "regulator", plan: None }).await;
    let file = node.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("a node has a configuration");
    std::fs::write(&file, made.replace("[\"regulator\"]", "[\"regulator\", \"witness\"]")).expect("it can be changed");
    configure(&node, "audit", "every-s = 1\nserve-mirrors = true");
    node.spawn();
    node.ready().await;
    node
}

async fn size_of(node: &Node) -> u64 {
    node.get("ledger").await.expect_ok()["size"].as_u64().expect("a size")
}

async fn standing(overseer: &Node, of: &Node) -> Value {
    let all = overseer.get("audit/standing").await.expect_ok();
    all["items"]
        .as_array()
        .expect("a listing")
        .iter()
        .find(|one| one["did"] == of.did.as_str())
        .cloned()
        .unwrap_or_default()
}

/// Waits until everything that the node has published is verified at the overseer.
async fn verified(overseer: &Node, of: &Node) {
    let size = size_of(of).await;
    eventually("everything is verified", || async {
        let standing = standing(overseer, of).await;
        (standing["holds"] == true && size <= standing["verified_entries"].as_u64()?).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_is_followed_is_mirrored_verified_cosigned_and_compared_over_every_break() {
    let pair = Pair::start().await;
    let overseer = overseer(&pair).await;
    for node in [&pair.holder, &pair.consumer] {
        overseer.cli_ok(&["audit", "follow", &node.did]).await;
    }
    // Followed, so cosigned.
    let policy = format!("{}\nquorum o\n", line(&overseer, "o").await);
    std::fs::write(pair.holder.dir.join("witness.policy"), policy).expect("it can be written");
    configure(&pair.holder, "ledger", "witness-policy = 'witness.policy'");
    pair.holder.restart().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    verified(&overseer, &pair.holder).await;
    verified(&overseer, &pair.consumer).await;
    eventually("the holder's ledger is cosigned", || async { public(&pair.holder, "/ledger/witnessed").await }).await;

    // The overseer is killed in the middle of a pass; it goes on where it was.
    pair.contract("open").await;
    overseer.kill();
    pair.contract("open").await;
    overseer.spawn();
    overseer.ready().await;
    verified(&overseer, &pair.holder).await;
    verified(&overseer, &pair.consumer).await;
    let once = overseer.cli(&["audit", "follow", "--once"]).await;
    assert_eq!(once.code, 0, "{}\n{}", once.out, once.err);
    assert!(once.out.contains("verified"), "{}", once.out);
    assert_eq!(overseer.cli(&["audit", "alarms"]).await.code, 0);

    // The mirror is a log of its own accord: it verifies without the node it is of.
    let origin = pair.consumer.get("ledger").await.expect_ok()["origin"].as_str().expect("a name").to_owned();
    pair.consumer.kill();
    let mirror = format!("{}/mirror/{}", overseer.public, hex_of(&origin));
    let document = pair.dir.path().join("consumer.vkey");
    let vkey = overseer.get("audit/nodes").await.expect_ok()["items"]
        .as_array()
        .expect("a listing")
        .iter()
        .find(|node| node["did"] == pair.consumer.did.as_str())
        .and_then(|node| node["vkey"].as_str().map(str::to_owned))
        .expect("it is followed");
    std::fs::write(&document, &vkey).expect("it can be written");
    let ran = overseer.cli(&["ledger", "verify", &mirror, "--vkey", &vkey]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    // A node that is away is not a node that lies.
    eventually("it is said to be away", || async {
        standing(&overseer, &pair.consumer).await["unreached"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(overseer.cli(&["audit", "alarms"]).await.code, 0);
}

#[tokio::test]
async fn a_ledger_that_is_rewritten_raises_an_alarm_once() {
    let pair = Pair::start().await;
    let overseer = overseer(&pair).await;
    overseer.cli_ok(&["audit", "follow", &pair.holder.did]).await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    verified(&overseer, &pair.holder).await;
    // The holder throws its ledger away and starts another under the same key.
    pair.holder.kill();
    std::fs::remove_dir_all(pair.holder.dir.join("ledger")).expect("it can be removed");
    pair.holder.spawn();
    pair.holder.ready().await;
    let alarms = eventually("an alarm is raised", || async {
        let alarms = overseer.items("audit/alarms").await;
        (!alarms.is_empty()).then_some(alarms)
    })
    .await;
    let text = alarms[0].to_string();
    assert!(text.contains(&pair.holder.did), "{text}");
    let listed = overseer.cli(&["audit", "alarms"]).await;
    assert_eq!(listed.code, 2, "{}", listed.out);
    // Once each, whatever the number of passes.
    overseer.post("audit/pass", &json!({})).await.expect_ok();
    let messages: Vec<Value> =
        overseer.items("audit/alarms").await.into_iter().map(|alarm| alarm["message"].clone()).collect();
    let distinct: std::collections::BTreeSet<String> = messages.iter().map(Value::to_string).collect();
    assert_eq!(messages.len(), distinct.len(), "{messages:?}");
    let once = overseer.cli(&["audit", "follow", "--once"]).await;
    assert_eq!(once.code, 2, "{}", once.out);
}

#[tokio::test]
async fn an_acknowledgement_comes_with_the_entry_and_a_promise_that_is_kept() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    let promises = eventually("promises have come", || async {
        let promises = pair.consumer.items("ledger/promises").await;
        (2 <= promises.len()).then_some(promises)
    })
    .await;
    let vkey: Vkey = pair.holder.get("ledger").await.expect_ok()["vkey"].as_str().expect("a key").parse().expect("one");
    for promise in &promises {
        assert_eq!(promise["fault"], Value::Null, "{promise}");
        assert_eq!(promise["peer"], pair.holder.did.as_str());
        let entry = promise["entry"].as_str().expect("an entry");
        let proof = PromiseProof::parse(promise["promise"].as_str().expect("a promise").as_bytes()).expect("one");
        let promised = proof.verify(entry.as_bytes(), &vkey).expect("it holds");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
        assert!((now..=now + 3600).contains(&promised.deadline_s), "{promised:?}");
        // And the entry is there.
        let kept = eventually("a checkpoint covers it", || async {
            let kept = pair.holder.get(&format!("ledger/proof/{}", proof.index)).await;
            kept.is_ok().then_some(kept.text)
        })
        .await;
        let kept: shuyu_tlog::InclusionProof = kept.trim_matches('"').parse().unwrap_or_else(|_| panic!("{kept}"));
        kept.verify(entry.as_bytes(), &vkey).expect("the promise was kept");
    }
    let dir = pair.dir.path().join("promises");
    pair.consumer.cli_ok(&["ledger", "promises", "--save", &dir.display().to_string()]).await;
    assert_eq!(
        std::fs::read_to_string(dir.join("1.entry")).expect("it is written"),
        promises[0]["entry"].as_str().expect("text")
    );
}

#[tokio::test]
async fn a_ledger_is_anchored_in_another_ledger_and_at_any_address() {
    let pair = Pair::start().await;
    let gateway = Receiver::start(|_| 200).await;
    configure(&pair.consumer, "ledger", "take-anchors = true");
    pair.consumer.restart().await;
    let file = pair.holder.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("a node has a configuration");
    let anchors = format!(
        "\n[[anchors]]\nname = 'peer'\nnode = '{}'\nevery-s = 1\n\n[[anchors]]\nname = 'chain'\nurl = '{}'\nevery-s = 1\n",
        pair.consumer.did, gateway.url,
    );
    std::fs::write(&file, made + &anchors).expect("it can be changed");
    pair.holder.restart().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;

    let anchored = eventually("both anchors hold a checkpoint", || async {
        let anchored = pair.holder.items("ledger/anchors").await;
        let has = |name: &str| anchored.iter().any(|one| one["anchor"] == name);
        (has("peer") && has("chain")).then_some(anchored)
    })
    .await;
    let of_peer = anchored.iter().find(|one| one["anchor"] == "peer").expect("it is there");
    // The receipt of a node is its entry about our checkpoint, with its promise.
    let receipt = base64_of(of_peer["receipt"].as_str().expect("text"));
    let receipt: Value = serde_json::from_slice(&receipt).expect("JSON");
    let checkpoint = of_peer["checkpoint"].as_str().expect("text");
    let event = Digest::sha256(checkpoint.as_bytes()).to_string();
    let vkey: Vkey =
        pair.consumer.get("ledger").await.expect_ok()["vkey"].as_str().expect("a key").parse().expect("one");
    let proof = PromiseProof::parse(receipt["promise"].as_str().expect("text").as_bytes()).expect("a promise");
    proof.verify(receipt["entry"].as_str().expect("text").as_bytes(), &vkey).expect("it holds");
    let stated = eventually("the peer's ledger states it", || async {
        let statements = pair.consumer.statements().await;
        statements.into_iter().find(|one| one["kind"] == "ledger.foreign-head" && one["event"] == event.as_str())
    })
    .await;
    assert_eq!(stated["with"], pair.holder.did.as_str());
    // The gateway got the signed checkpoint, and what it answered is evidenced.
    eventually("our own ledger states both", || async {
        let statements = pair.holder.statements().await;
        (2 <= statements.iter().filter(|one| one["kind"] == "ledger.anchored").count()).then_some(())
    })
    .await;
    let origin = pair.holder.get("ledger").await.expect_ok()["origin"].as_str().expect("a name").to_owned();
    assert!(checkpoint.starts_with(&origin));
    // Whoever signs no checkpoint of its own gets nothing.
    let forged = Answer::of(
        shuyu_scenarios::node::http()
            .post(format!("{}/ledger/anchor", pair.consumer.public))
            .body(checkpoint.to_owned()),
    )
    .await;
    assert_eq!(forged.status, 401, "{}", forged.text);
    assert!(pair.holder.cli_ok(&["ledger", "anchors"]).await.contains("chain"));
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}
