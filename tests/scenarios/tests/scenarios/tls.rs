//! As in production: TLS on every public socket, plain text refused, strangers' certificates not believed.

use std::path::Path;
use std::process::Command;

use serde_json::json;
use shuyu_scenarios::node::http;
use shuyu_scenarios::space::{ROWS, add_weather, offer};
use shuyu_scenarios::{Answer, Certificates, Node, Wish};

fn openssl(at: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(at).output().expect("openssl is installed");
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A root of our own and a certificate of it for `localhost`.
fn certificates(at: &Path) -> Certificates {
    std::fs::create_dir_all(at).expect("a directory can be made");
    let new_key = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let root = ["-x509", "-days", "2", "-subj", "/CN=Test root", "-keyout", "root.key", "-out", "root.pem"];
    openssl(at, &[&new_key[..], &root].concat());
    openssl(at, &[&new_key[..], &["-subj", "/CN=localhost", "-keyout", "leaf.key", "-out", "leaf.csr"]].concat());
    std::fs::write(at.join("leaf.cnf"), "subjectAltName=DNS:localhost\n").expect("a file can be written");
    let sign = ["-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2", "-extfile", "leaf.cnf"];
    openssl(at, &[&["x509", "-req", "-in", "leaf.csr", "-out", "leaf.pem"][..], &sign].concat());
    Certificates { chain: at.join("leaf.pem"), key: at.join("leaf.key"), root: at.join("root.pem") }
}

async fn node(at: &Path, name: &str, tls: &Certificates) -> Node {
    let role = if name == "holder" { "holder" } else { "consumer" };
    let node = Node::init_as(Wish { dir: at.join(name), role, plan: None }, Some(tls)).await;
    node.spawn();
    node.ready().await;
    node
}

#[tokio::test]
async fn an_exchange_over_tls() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let tls = certificates(&dir.path().join("ours"));
    let (holder, consumer) = tokio::join!(node(dir.path(), "holder", &tls), node(dir.path(), "consumer", &tls));
    add_weather(&holder, "weather").await.expect_ok();
    offer(&holder, "open", "auto", &[]).await;

    let start = ["negotiation", "start", "--provider", &holder.did, "--dataset", "weather"];
    let id = consumer.cli_ok(&start).await;
    let contract = consumer.cli_ok(&["negotiation", "wait", &id]).await;
    let sql = "SELECT count(*) AS n FROM weather";
    let answer = consumer.cli_ok(&["query", sql, "--contract", &contract]).await;
    assert!(answer.contains(&ROWS.to_string()), "{answer}");
    let transfer = consumer.cli_ok(&["transfer", "start", "--contract", &contract, "--format", "http-pull"]).await;
    let file = dir.path().join("weather.csv").display().to_string();
    consumer.cli_ok(&["pull", &transfer, "-o", &file, "--format", "csv"]).await;
    let lines = std::fs::read_to_string(&file).expect("the file is there").lines().count();
    assert_eq!(lines, ROWS + 1);

    let plain = Answer::of(http().get(holder.public.replacen("https", "http", 1) + "/health")).await;
    assert!(!plain.is_ok(), "plain text is not served: {plain:?}");
    let stranger = Answer::of(http().get(format!("{}/health", holder.public))).await;
    assert_eq!(stranger.status, 0, "whoever does not know the root does not trust the node: {stranger:?}");

    // A node that trusts another root does not talk to the holder, and says why.
    let other = certificates(&dir.path().join("other"));
    let distrusting = node(dir.path(), "distrusting", &other).await;
    let wish = json!({ "provider": holder.did, "dataset": "weather", "offer": "open" });
    let refused = distrusting.post("negotiations", &wish).await;
    assert_eq!(refused.status, 502, "{refused:?}");
    assert!(refused.text.to_lowercase().contains("certificate"), "{refused:?}");
}
