//! Messages that are malformed, out of turn, repeated or about somebody else's business. After each the node still serves.

use serde_json::{Value, json};
use shuyu_scenarios::node::http;
use shuyu_scenarios::rogue::{CONTEXT, urn};
use shuyu_scenarios::space::{add_weather, offer, text};
use shuyu_scenarios::{Answer, Node, Rogue, Wish, constraint, eventually};
use tempfile::TempDir;

/// A holder that offers the table twice: `open` to whoever asks for research, `asked` after a person's word.
pub async fn holder() -> (TempDir, Node) {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(Wish { dir: dir.path().join("holder"), role: "holder", plan: None }).await;
    add_weather(&node, "weather").await.expect_ok();
    for (name, approve) in [("open", "auto"), ("asked", "manual")] {
        offer(&node, name, approve, &[constraint("purpose", "isA", "research")]).await;
    }
    (dir, node)
}

/// The node answers an ordinary request as ever.
pub async fn still_serves(node: &Node, honest: &Rogue) {
    let request = json!({ "@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": [] });
    let catalog = honest.send(node, "/catalog/request", &request).await.expect_ok();
    assert_eq!(catalog["dataset"][0]["@id"], "weather", "{catalog}");
}

/// An error of the protocol: this status, this type, and a reason that names what is wrong.
#[track_caller]
fn is_error(answer: &Answer, status: u16, kind: &str, about: &str) {
    assert_eq!(answer.status, status, "{about}: {}", answer.text);
    assert_eq!(answer.body["@type"], kind, "{about}: {}", answer.text);
    assert!(answer.text.to_uppercase().contains(&about.to_uppercase()), "the reason names `{about}`: {}", answer.text);
}

const ERROR: &str = "ContractNegotiationError";

#[tokio::test]
async fn what_is_no_message_is_refused_and_changes_nothing() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let good = rogue.request_message(&node, "weather", "open", &rogue.root).await;
    let deep = format!("{{\"@context\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let twice = good.to_string().replacen('{', &format!("{{\"consumerPid\":\"{}\",", urn()), 1);
    let raw: [(&str, Vec<u8>); 6] = [
        ("not JSON", b"{\"@context\": oops".to_vec()),
        ("empty", Vec::new()),
        ("not UTF-8", b"{\"a\":\"\xff\xfe\"}".to_vec()),
        ("an array", b"[]".to_vec()),
        ("nested 50,000 deep", deep.into_bytes()),
        ("a name twice", twice.into_bytes()),
    ];
    for (what, bytes) in raw {
        let answer = rogue.send_bytes(&node, "/negotiations/request", bytes).await;
        assert_eq!(answer.status, 400, "{what}: {}", answer.text);
        assert_eq!(answer.body["@type"], ERROR, "{what}: {}", answer.text);
        still_serves(&node, &rogue).await;
    }
    // Too large to be read at all, so it is of no protocol yet.
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(2 << 20)).into_bytes();
    let answer = rogue.send_bytes(&node, "/negotiations/request", large).await;
    assert_eq!((answer.status, answer.body["status"].as_u64()), (413, Some(413)), "{}", answer.text);
    assert!(answer.text.contains("1 MiB"), "{}", answer.text);
    still_serves(&node, &rogue).await;
    let wrong: [(&str, &str, Value); 8] = [
        ("@context", "@context", json!(["https://example.org/other.jsonld"])),
        ("@type", "@type", json!("ContractAgreementMessage")),
        ("@type", "@type", json!("NoSuchMessage")),
        ("consumerPid", "consumerPid", json!(42)),
        ("consumerPid", "consumerPid", json!("x".repeat(100_000))),
        ("callbackAddress", "callbackAddress", Value::Null),
        ("offer", "offer", json!("open")),
        (
            "teleport",
            "offer",
            json!({ "@id": "open", "@type": "Offer", "target": "weather", "permission": [{ "action": "teleport" }] }),
        ),
    ];
    for (about, member, value) in wrong {
        let mut message = good.clone();
        message[member] = value;
        let answer = rogue.send(&node, "/negotiations/request", &message).await;
        is_error(&answer, 400, ERROR, about);
    }
    still_serves(&node, &rogue).await;
    assert_eq!(node.items("negotiations").await.len(), 0, "nothing was begun");
    assert_eq!(node.statements().await.len(), 0, "and nothing recorded");
    rogue.send(&node, "/negotiations/request", &good).await.expect(201);
}

#[tokio::test]
async fn messages_out_of_turn_are_refused_and_repeats_are_done_once() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let asked = rogue.request(&node, "weather", "asked").await.expect(201);
    let (ours, theirs) = (text(&asked["consumerPid"]), text(&asked["providerPid"]));
    let verification = Rogue::message("ContractAgreementVerificationMessage", &ours, &theirs);
    let mut accepted = Rogue::message("ContractNegotiationEventMessage", &ours, &theirs);
    accepted["eventType"] = "ACCEPTED".into();
    let mut finalized = accepted.clone();
    finalized["eventType"] = "FINALIZED".into();
    let path = |end: &str| format!("/negotiations/{theirs}/{end}");
    for (end, message) in [("agreement/verification", &verification), ("events", &accepted), ("events", &finalized)] {
        let answer = rogue.send(&node, &path(end), message).await;
        is_error(&answer, 400, ERROR, "REQUESTED");
    }
    // A message at the path of another kind of message.
    let answer = rogue.send(&node, &path("termination"), &verification).await;
    assert_eq!(answer.status, 400, "{answer:?}");
    // A message whose identifiers are not those of the path.
    let mut other = Rogue::message("ContractNegotiationTerminationMessage", &urn(), &theirs);
    other["reason"] = json!(["not mine"]);
    let answer = rogue.send(&node, &path("termination"), &other).await;
    assert!([400, 404].contains(&answer.status), "{answer:?}");
    assert_eq!(rogue.ask(&node, &format!("/negotiations/{theirs}")).await.expect_ok()["state"], "REQUESTED");

    node.cli_ok(&["negotiation", "approve", &theirs]).await;
    rogue.hears("/agreement").await;
    for _ in 0..3 {
        rogue.send(&node, &path("agreement/verification"), &verification).await.expect(200);
    }
    rogue.hears("/events").await;
    eventually("finalized", || async {
        (node.get(&format!("negotiations/{theirs}")).await.body["state"] == "FINALIZED").then_some(())
    })
    .await;
    rogue.send(&node, &path("agreement/verification"), &verification).await.expect(200);
    let answer = rogue
        .send(&node, &path("termination"), &Rogue::message("ContractNegotiationTerminationMessage", &ours, &theirs))
        .await;
    is_error(&answer, 400, ERROR, "FINALIZED");
    // Entries are listed once a checkpoint covers them, a moment after they are durable.
    let statements = eventually("four messages are in the ledger", || async {
        let statements = node.statements().await;
        (4 <= statements.len()).then_some(statements)
    })
    .await;
    let sequence: Vec<u64> = statements.iter().filter_map(|statement| statement["seq"].as_u64()).collect();
    assert_eq!(sequence, [1, 2, 3, 4], "refused messages leave no gap, a repeat is not done again: {statements:#?}");
    assert_eq!(node.items("contracts").await.len(), 1);
    still_serves(&node, &rogue).await;
}

#[tokio::test]
async fn the_same_request_twice_begins_one_negotiation() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let message = rogue.request_message(&node, "weather", "asked", &rogue.root).await;
    let first = rogue.send(&node, "/negotiations/request", &message).await.expect(201);
    let again = rogue.send(&node, "/negotiations/request", &message).await.expect_ok();
    assert_eq!(again["providerPid"], first["providerPid"]);
    assert_eq!(node.items("negotiations").await.len(), 1);
}

#[tokio::test]
async fn a_third_party_learns_nothing_and_changes_nothing() {
    let (_dir, node) = holder().await;
    let (owner, stranger) = (Rogue::start().await, Rogue::start().await);
    let asked = owner.request(&node, "weather", "asked").await.expect(201);
    let (theirs, unknown) = (text(&asked["providerPid"]), urn());
    let mut seen = Vec::new();
    for pid in [&theirs, &unknown] {
        let message = Rogue::message("ContractNegotiationTerminationMessage", &text(&asked["consumerPid"]), pid);
        let sent = stranger.send(&node, &format!("/negotiations/{pid}/termination"), &message).await;
        let asked = stranger.ask(&node, &format!("/negotiations/{pid}")).await;
        let transfer = stranger.ask(&node, &format!("/transfers/{pid}")).await;
        let blank = |answer: Answer| (answer.status, answer.text.replace(pid.as_str(), "PID"));
        seen.push([blank(sent), blank(asked), blank(transfer)]);
    }
    assert_eq!(seen[0], seen[1], "another's negotiation looks like none");
    assert!(seen[0].iter().all(|(status, _)| *status == 404), "{seen:?}");
    assert_eq!(owner.ask(&node, &format!("/negotiations/{theirs}")).await.expect_ok()["state"], "REQUESTED");
    // A contract of somebody else, or none at all, gives no transfer.
    for agreement in [urn(), "../../etc".to_owned()] {
        let message = json!({
            "@context": [CONTEXT], "@type": "TransferRequestMessage", "@id": urn(), "consumerPid": urn(),
            "agreementId": agreement, "format": "HttpData-PULL", "callbackAddress": stranger.root,
        });
        let answer = stranger.send(&node, "/transfers/request", &message).await;
        assert!([400, 404].contains(&answer.status), "{answer:?}");
    }
    assert_eq!(node.items("transfers").await.len(), 0);
    still_serves(&node, &stranger).await;
}

#[tokio::test]
async fn callbacks_to_forbidden_places_are_refused() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let port = rogue.root.rsplit(':').next().expect("a port").to_owned();
    let places = [
        "http://169.254.169.254/latest".to_owned(),
        "https://169.254.169.254/latest".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://[fe80::1]/".to_owned(),
        "https://[::ffff:10.0.0.1]/".to_owned(),
        "https://0x0a000001/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "gopher://localhost/".to_owned(),
        format!("http://user:secret@localhost:{port}"),
        format!("http://localhost:{port}/?x=1"),
        "/relative".to_owned(),
        String::new(),
    ];
    for place in &places {
        let message = rogue.request_message(&node, "weather", "open", place).await;
        let answer = rogue.send(&node, "/negotiations/request", &message).await;
        is_error(&answer, 400, ERROR, "callback");
    }
    assert_eq!(node.items("negotiations").await.len(), 0);
    // Loopback without TLS is what this node was told to permit; nobody listens there, and nobody else is held up.
    let message = rogue.request_message(&node, "weather", "open", "http://[::1]:9/").await;
    let answer = rogue.send(&node, "/negotiations/request", &message).await;
    assert!([201, 400].contains(&answer.status), "{answer:?}");
    still_serves(&node, &rogue).await;
    rogue.request(&node, "weather", "open").await.expect(201);
    rogue.hears("/agreement").await;
}

#[tokio::test]
async fn paths_lead_nowhere_but_to_what_is_served() {
    let (dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let address = node.public.trim_start_matches("http://").to_owned();
    let secret = std::fs::read_to_string(node.dir.join("management.key")).expect("the key is there");
    for path in [
        "/ledger/tile/../../management.key",
        "/ledger/tile/..%2f..%2fmanagement.key",
        "/ledger/tile/%2e%2e/%2e%2e/management.key",
        "/ledger/tile/0/../../../management.key",
        "/ledger/tile/0/x001/../../../../management.key",
        "/ledger/tile//etc/passwd",
        "/ledger/tile/entries/000%00",
        "/ledger/../management.key",
        "/management.key",
        "/v1/status",
        "/data/..%2f..%2fmanagement.key",
    ] {
        let (status, body) = raw_get(&address, path).await;
        assert!([400, 401, 404].contains(&status), "{path}: {status} {body}");
        assert!(!body.contains(secret.trim()), "{path}");
    }
    for path in ["/negotiations/no-such", "/transfers/no-such", "/catalog/datasets/no-such"] {
        let answer = rogue.ask(&node, path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text);
        let kind = text(&answer.body["@type"]);
        assert!(kind.ends_with("Error"), "{path}: {}", answer.text);
    }
    let management = Answer::of(http().get(format!("{}/v1/status", node.management))).await;
    assert_eq!((management.status, management.body["status"].as_u64()), (401, Some(401)), "{management:?}");
    assert_eq!(node.get("negotiations/no-such").await.expect(404)["title"], "Not Found");
    still_serves(&node, &rogue).await;
    drop(dir);
}

/// A GET whose path no client library has tidied up.
async fn raw_get(address: &str, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the node listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the node reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the node answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[tokio::test]
async fn a_connection_that_says_nothing_stops_nobody() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let address = node.public.trim_start_matches("http://").to_owned();
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(tokio::net::TcpStream::connect(&address).await.expect("the node listens"));
    }
    still_serves(&node, &rogue).await;
    assert_eq!(silent.len(), 200);
}

#[tokio::test]
async fn a_peer_that_opens_negotiations_without_end_is_told_to_wait() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::init(Wish { dir: dir.path().join("holder"), role: "holder", plan: None }).await;
    let file = node.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("init makes a configuration");
    let few = made.replacen("max-open-per-peer = 1000", "max-open-per-peer = 3", 1);
    assert_ne!(few, made, "the limit is in the configuration");
    std::fs::write(&file, few).expect("the configuration can be written");
    node.spawn();
    node.ready().await;
    add_weather(&node, "weather").await.expect_ok();
    offer(&node, "asked", "manual", &[]).await;
    let (greedy, modest) = (Rogue::start().await, Rogue::start().await);
    let first = greedy.request_message(&node, "weather", "asked", &greedy.root).await;
    let opened = greedy.send(&node, "/negotiations/request", &first).await.expect(201);
    for _ in 0..2 {
        greedy.request(&node, "weather", "asked").await.expect(201);
    }
    // Before and after a restart: what is open is known again.
    for _ in 0..2 {
        let answer = greedy.request(&node, "weather", "asked").await;
        is_error(&answer, 429, ERROR, "most this node allows");
        greedy.send(&node, "/negotiations/request", &first).await.expect(201);
        modest.request(&node, "weather", "asked").await.expect(201);
        node.restart().await;
    }
    let (ours, theirs) = (text(&opened["consumerPid"]), text(&opened["providerPid"]));
    let end = Rogue::message("ContractNegotiationTerminationMessage", &ours, &theirs);
    greedy.send(&node, &format!("/negotiations/{theirs}/termination"), &end).await.expect(200);
    greedy.request(&node, "weather", "asked").await.expect(201);
}

/// "The response body is not specified" (HTTPS binding): a 200 is an acknowledgement whatever comes with it.
#[tokio::test]
async fn the_body_of_an_acknowledgement_does_not_matter() {
    let (_dir, node) = holder().await;
    for body in [
        "thank you",
        "{\"@type\":\"ContractNegotiation\",\"providerPid\":\"urn:uuid:1\",\"consumerPid\":\"urn:uuid:2\",\"state\":\"OFFERED\"}",
        "[1,",
    ] {
        let rogue = Rogue::start_answering(body).await;
        let asked = rogue.request(&node, "weather", "open").await.expect(201);
        let (ours, theirs) = (text(&asked["consumerPid"]), text(&asked["providerPid"]));
        rogue.hears("/agreement").await;
        node.get(&format!("negotiations/{theirs}?wait=AGREED&timeout_s=30")).await.expect_ok();
        let verification = Rogue::message("ContractAgreementVerificationMessage", &ours, &theirs);
        rogue.send(&node, &format!("/negotiations/{theirs}/agreement/verification"), &verification).await.expect(200);
        let done = node.get(&format!("negotiations/{theirs}?wait=FINALIZED&timeout_s=30")).await.expect_ok();
        assert_eq!(done["state"], "FINALIZED", "{body}: {done}");
    }
}
