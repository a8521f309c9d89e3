//! `shuyu pull` that is killed in the middle goes on where it stopped, as one use, and gets its receipt.

use std::path::Path;
use std::process::{Command, Stdio};

use shuyu_scenarios::node::shuyu;
use shuyu_scenarios::space::add_asset;
use shuyu_scenarios::{Pair, constraint, eventually};

/// A table whose CSV has some tens of megabytes, so that a download takes a while.
fn large_table(at: &Path) {
    let mut text = String::from("id,words\n");
    for n in 0..400_000_u32 {
        text.push_str(&format!("{n},{:064x}\n", u64::from(n).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    }
    std::fs::write(at, text).expect("the table can be written");
}

/// The lines in order: a table has none.
fn sorted_lines(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).expect("the file is there");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test]
async fn a_killed_download_goes_on_where_it_stopped() {
    let pair = Pair::start().await;
    let table = pair.dir.path().join("large.csv");
    large_table(&table);
    add_asset(&pair.holder, "large", &table, "csv").await.expect_ok();
    let terms = [constraint("count", "lteq", 1)];
    pair.offer("once", "auto", &terms).await;
    let offered = serde_json::json!({ "id": "large", "asset": "large", "policy": "once", "approve": "auto" });
    pair.holder.post("offers", &offered).await.expect_ok();
    let start = ["negotiation", "start", "--provider", &pair.holder.did, "--dataset", "large", "--offer", "large"];
    let id = pair.consumer.cli_ok(&start).await;
    let contract = pair.consumer.cli_ok(&["negotiation", "wait", &id]).await;
    let transfer = pair.consumer.cli_ok(&["transfer", "start", "--contract", &contract, "--format", "http-pull"]).await;

    let file = pair.dir.path().join("out.csv");
    let part = pair.dir.path().join("out.csv.part");
    let name = file.display().to_string();
    let pull = ["pull", &transfer, "-o", &name, "--format", "csv"];
    let mut child = Command::new(shuyu())
        .arg("--dir")
        .arg(&pair.consumer.dir)
        .args(pull)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("shuyu can be started");
    eventually("some of the file is here", || async {
        std::fs::metadata(&part).is_ok_and(|found| 0 < found.len()).then_some(())
    })
    .await;
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let had = std::fs::metadata(&part).expect("the part stays").len();
    let whole = std::fs::metadata(&table).expect("the table is there").len();
    assert!(had < whole && !file.exists(), "killed in the middle: {had} of {whole} bytes");
    // The node goes down as well; the result waits in its spool.
    pair.holder.restart().await;

    let ran = pair.consumer.cli(&pull).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(sorted_lines(&file), sorted_lines(&table));
    assert!(!part.exists());
    let used = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok()["used"].clone();
    assert_eq!(used["count"], 1, "one use: {used}");
    let bytes = used["bytes"].as_u64().expect("a number");
    assert!(whole <= bytes && bytes < whole + had + (17 << 20), "what was sent twice is small: {used}");
    eventually("the receipt is in our ledger", || async {
        pair.consumer.statements().await.iter().any(|statement| statement["kind"] == "use.served").then_some(())
    })
    .await;
    let ours = pair.consumer.get(&format!("contracts/{contract}")).await.expect_ok()["used"].clone();
    assert_eq!((&ours["count"], &ours["rows"]), (&used["count"], &used["rows"]), "both sides count alike: {ours}");
    let refused = pair.consumer.cli(&["pull", &transfer, "-o", &format!("{name}.2"), "--format", "csv"]).await;
    assert_eq!(refused.code, 2, "the only use is spent: {}", refused.err);
}
