//! What an operator can do wrong, and what a disk can do to a node.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use shuyu_scenarios::node::{http, run};
use shuyu_scenarios::space::{ROWS, add_asset, add_weather, offer, text};
use shuyu_scenarios::{Node, Pair, Rogue, Wish, eventually};

use crate::{hostile, sql};

#[tokio::test]
async fn a_second_node_on_a_directory_ends_and_the_first_goes_on() {
    let (_dir, node) = hostile::holder().await;
    let rogue = Rogue::start().await;
    let second = node.cli(&["run"]).await;
    assert_eq!(second.code, 1, "{}", second.err);
    assert!(second.err.contains("another process uses this node directory"), "{}", second.err);
    hostile::still_serves(&node, &rogue).await;
    rogue.request(&node, "weather", "open").await.expect(201);
    rogue.hears("/agreement").await;
}

#[tokio::test]
async fn a_configuration_with_an_unknown_key_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::init(Wish { dir: dir.path().join("node"), role: "holder", plan: None }).await;
    let file = node.dir.join("shuyu.toml");
    let good = std::fs::read_to_string(&file).expect("init makes a configuration");
    std::fs::write(&file, format!("no-such-key = 1\n{good}")).expect("the configuration can be written");
    let ran = node.cli(&["run"]).await;
    assert!([1, 3].contains(&ran.code), "exit code {}: {}", ran.code, ran.err);
    assert!(ran.err.contains("no-such-key") && ran.err.contains("shuyu.toml"), "{}", ran.err);
    assert!(!node.dir.join("db").exists(), "nothing was made");

    std::fs::write(&file, good.replace("[listen]", "[listen")).expect("the configuration can be written");
    let ran = node.cli(&["run"]).await;
    assert!([1, 3].contains(&ran.code), "exit code {}: {}", ran.code, ran.err);
    assert!(ran.err.contains("shuyu.toml"), "{}", ran.err);
    std::fs::remove_file(&file).expect("the configuration can be removed");
    assert!([1, 3].contains(&node.cli(&["run"]).await.code));
    let again =
        run(&["init", &node.dir.display().to_string(), "--name", "x", "--did", "no did", "--role", "holder"]).await;
    assert_ne!(again.code, 0, "a DID that is none");
    assert!(again.err.contains("did"), "{}", again.err);
}

/// Whoever listens to events or waits for a state is sent home when the node is told to stop.
#[tokio::test]
async fn listeners_do_not_hold_up_a_stop() {
    let (_dir, node) = hostile::holder().await;
    let rogue = Rogue::start().await;
    let asked = rogue.request(&node, "weather", "asked").await.expect(201);
    let key = std::fs::read_to_string(node.dir.join("management.key")).expect("init makes a key");
    let events = http().get(format!("{}/v1/events", node.management)).bearer_auth(key.trim()).send().await;
    let events = events.expect("the node answers");
    assert_eq!(events.status(), 200);
    let path = format!("negotiations/{}?wait=FINALIZED&timeout_s=60", text(&asked["providerPid"]));
    let began = Instant::now();
    let stop = async {
        let pid = node.pid().expect("the node runs").to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run").success());
        eventually("the node has stopped", || async { node.is_down().then_some(()) }).await;
    };
    tokio::join!(node.get(&path), stop);
    assert!(began.elapsed() < Duration::from_secs(5), "stopping took {:?}", began.elapsed());
}

/// Cut in the middle, and sound when it was added but cut later.
#[tokio::test]
async fn a_truncated_parquet_file_is_an_error_and_nothing_else() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[]).await;
    let access = pair.access(&pair.contract("open").await, "HttpData-PULL").await;
    let parquet =
        access.request("format=parquet").send().await.expect("the holder answers").bytes().await.expect("a file");
    assert!(parquet.starts_with(b"PAR1"));
    let file = pair.dir.path().join("cut.parquet");
    std::fs::write(&file, &parquet[..parquet.len() / 2]).expect("the file can be written");
    let refused = add_asset(&pair.holder, "cut", &file, "parquet").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text.contains("location"), "{refused:?}");

    std::fs::write(&file, &parquet).expect("the file can be written");
    add_asset(&pair.holder, "cut", &file, "parquet").await.expect(201);
    let offered = json!({ "id": "cut", "asset": "cut", "policy": "open", "approve": "auto" });
    pair.holder.post("offers", &offered).await.expect_ok();
    let wish = json!({ "provider": pair.holder.did, "dataset": "cut", "offer": "cut" });
    let id = text(&pair.consumer.post("negotiations", &wish).await.expect_ok()["id"]);
    let contract = text(&pair.wait("negotiations", &id, "FINALIZED").await["agreement"]);
    let flight = pair.access(&contract, "FlightSql").await;
    assert_eq!(sql::rows(&sql::query(&flight, None, "SELECT * FROM cut").await.expect("the file is whole")), ROWS);
    for damaged in [&parquet[..parquet.len() / 2], &parquet[parquet.len() / 2..], b"", b"PAR1PAR1"] {
        std::fs::write(&file, damaged).expect("the file can be written");
        let refused = sql::query(&flight, None, "SELECT * FROM cut").await.expect_err("the file is damaged");
        assert!(!refused.contains(&*file.to_string_lossy()), "the consumer does not see the holder's paths: {refused}");
        let refused = pair.access(&contract, "HttpData-PULL").await.pull("format=csv").await;
        assert!([422, 500].contains(&refused.status), "{refused:?}");
    }
    assert!(!pair.holder.is_down());
    std::fs::write(&file, &parquet).expect("the file can be written");
    assert_eq!(sql::rows(&sql::query(&flight, None, "SELECT * FROM cut").await.expect("the file is whole")), ROWS);
}

/// A small file system of its own.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    /// Nothing without the right to mount.
    fn mount(at: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("the mount point can be made");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.0.join("ballast"))
            .expect("the ballast can be begun");
        while file.write_all(&[0; 4096]).is_ok() {}
        while file.write_all(&[0]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).expect("the ballast is there");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let at = dir.path().join("disk");
    let Some(disk) = SmallDisk::mount(&at, "64m") else {
        println!("not run: mounting a small file system needs root");
        return;
    };
    let node = Node::start(Wish { dir: at.join("holder"), role: "holder", plan: None }).await;
    add_weather(&node, "weather").await.expect_ok();
    offer(&node, "asked", "manual", &[]).await;
    let rogue = Rogue::start().await;
    let before = rogue.request(&node, "weather", "asked").await.expect(201);
    let mut acknowledged = vec![text(&before["providerPid"])];
    let message = rogue.request_message(&node, "weather", "asked", &rogue.root).await;

    disk.fill();
    // What was preallocated may still take a few; from then on every answer is an error.
    let mut refusals = 0;
    for _ in 0..500 {
        let mut message = message.clone();
        message["@id"] = shuyu_scenarios::rogue::urn().into();
        message["consumerPid"] = shuyu_scenarios::rogue::urn().into();
        let answer = rogue.send(&node, "/negotiations/request", &message).await;
        match answer.status {
            201 => {
                acknowledged.push(text(&answer.body["providerPid"]));
                // The store gives space back when it is opened again.
                disk.fill();
            }
            // A failed flush ends the process: what it wrote is not known to be there.
            0 | 500..=599 => refusals += 1,
            status => assert!([500, 503].contains(&status), "{answer:?}"),
        }
        if 10 <= refusals {
            break;
        }
    }
    assert!(10 <= refusals, "a full disk shows");
    println!(
        "{} acknowledged, then refused; the node {}",
        acknowledged.len(),
        if node.is_down() { "ended" } else { "lives" }
    );

    disk.free();
    let after = shuyu_scenarios::eventually("the node works again", || async {
        let mut message = message.clone();
        message["@id"] = shuyu_scenarios::rogue::urn().into();
        message["consumerPid"] = shuyu_scenarios::rogue::urn().into();
        let answer = rogue.send(&node, "/negotiations/request", &message).await;
        (answer.status == 201).then(|| text(&answer.body["providerPid"]))
    })
    .await;
    acknowledged.push(after);
    for restarted in [false, true] {
        if restarted {
            node.restart().await;
        }
        for pid in &acknowledged {
            assert_eq!(node.get(&format!("negotiations/{pid}")).await.expect_ok()["state"], "REQUESTED");
        }
    }
    let events = node.statements().await.iter().filter(|one| one["kind"] == "negotiation.request").count();
    assert!(acknowledged.len() <= events, "{events} statements for {} acknowledgements", acknowledged.len());
    node.kill();
    let ledger = node.dir.join("ledger").display().to_string();
    let verified = run(&["ledger", "verify", &ledger]).await;
    assert_eq!(verified.code, 0, "{}", verified.err);
    drop(node);
    drop(disk);
}
