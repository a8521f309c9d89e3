//! What the ledger does not say: nothing of the contents is in it, and what it commits to can be shown or forgotten.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use shuyu_scenarios::node::run;
use shuyu_scenarios::space::{ROWS, text, weather_csv};
use shuyu_scenarios::{Node, Pair, Rogue, Wish, constraint, eventually, policy};

use crate::exchange::regulator_is_content;
use crate::sql;

/// Every word that was said somewhere, each marked so that it is found wherever it comes up.
#[derive(Default)]
struct Said(BTreeMap<String, ()>);

impl Said {
    fn word(&mut self, word: &str) -> String {
        let marked = format!("kanarie-{word}");
        self.0.insert(marked.clone(), ());
        marked
    }
}

/// The contents of every file below a directory.
fn files(dir: &Path) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir).expect("a directory can be listed") {
        let path = item.expect("an item").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(std::fs::read(&path).expect("a file can be read"));
        }
    }
    found
}

fn holds(bytes: &[u8], word: &[u8]) -> bool {
    bytes.windows(word.len()).any(|part| part == word)
}

/// What is in the entry bundles of a log: every header and payload, decoded.
fn decoded(ledger: &Path) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    for bundle in files(&ledger.join("tlog/tile/entries")) {
        let mut rest = bundle.as_slice();
        while let Some((length, more)) = rest.split_first_chunk::<2>() {
            let (entry, more) = more.split_at(usize::from(u16::from_be_bytes(*length)));
            rest = more;
            let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).expect("an entry is a compact JWS");
            parts.extend(entry.split(|byte| *byte == b'.').map(decode));
        }
    }
    parts
}

/// The forms in which a word or its digest could be read.
fn forms(word: &[u8]) -> Vec<Vec<u8>> {
    let digest = Sha256::digest(word);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    vec![
        hex.into_bytes(),
        STANDARD.encode(digest).into_bytes(),
        URL_SAFE_NO_PAD.encode(digest).into_bytes(),
        digest.to_vec(),
    ]
}

/// Nothing in a node's ledger says one of these words, or is the digest of one, or of a value that can be guessed.
fn says_nothing(node: &Node, said: &Said, guesses: &[Value]) {
    let ledger = node.dir.join("ledger");
    let (raw, decoded) = (files(&ledger), decoded(&ledger));
    assert!(decoded.len() > 20, "there are entries to look at");
    let all = || raw.iter().chain(&decoded);
    for word in said.0.keys() {
        assert!(!all().any(|bytes| holds(bytes, word.as_bytes())), "{} says {word}", node.did);
    }
    for address in ["127.0.0.1", "::1"] {
        assert!(!decoded.iter().any(|bytes| holds(bytes, address.as_bytes())), "{} says {address}", node.did);
    }
    let words = said.0.keys().map(|word| word.clone().into_bytes());
    let values = guesses.iter().flat_map(|value| {
        let canonical = shuyu_base::json::canonical(value).expect("a value has a canonical form");
        let plain = value.as_str().map(|text| text.as_bytes().to_vec());
        std::iter::once(canonical).chain(plain)
    });
    for guess in words.chain(values) {
        for form in forms(&guess) {
            let found = all().any(|bytes| holds(bytes, &form));
            assert!(!found, "{} holds the digest of {}", node.did, String::from_utf8_lossy(&guess));
        }
    }
}

/// A table, its offers and everything around them, all of it marked.
async fn published(pair: &Pair, said: &mut Said) -> (String, Value) {
    let file = pair.dir.path().join(format!("{}.csv", said.word("file")));
    std::fs::copy(weather_csv(), &file).expect("the table can be copied");
    let dataset = said.word("dataset");
    let asset = json!({ "id": dataset, "title": said.word("title"), "description": said.word("description"),
        "keywords": [said.word("keyword")], "table": "weather2", "location": file.display().to_string(), "format": "csv" });
    pair.holder.post("assets", &asset).await.expect_ok();
    let terms = policy(&[constraint("purpose", "isAnyOf", json!([said.word("purpose"), "research"]))]);
    for (name, approve) in [(said.word("offer"), "auto"), (said.word("manual"), "manual")] {
        pair.holder.post("policies", &json!({ "id": name, "policy": terms })).await.expect_ok();
        let offer = json!({ "id": name, "asset": dataset, "policy": name, "approve": approve });
        pair.holder.post("offers", &offer).await.expect_ok();
    }
    (dataset, terms)
}

async fn negotiation(pair: &Pair, dataset: &str, offer: &str) -> String {
    let wish = json!({ "provider": pair.holder.did, "dataset": dataset, "offer": offer });
    text(&pair.consumer.post("negotiations", &wish).await.expect_ok()["id"])
}

/// Uses, permitted and refused, and ends with words; the contract and what was asked.
async fn used(pair: &Pair, said: &mut Said, dataset: &str) -> (String, String) {
    let id = negotiation(pair, dataset, "kanarie-offer").await;
    let contract = text(&pair.wait("negotiations", &id, "FINALIZED,TERMINATED").await["agreement"]);
    let access = pair.access(&contract, "FlightSql").await;
    let query = format!("SELECT count(*) FROM weather2 WHERE weather <> '{}'", said.word("query"));
    sql::query(&access, Some("kanarie-purpose"), &query).await.expect("the contract allows it");
    let refused = sql::query(&access, Some(&said.word("refused")), &query).await.expect_err("another purpose");
    assert!(refused.contains("purpose"), "{refused}");
    let file = pair.dir.path().join("pulled.csv").display().to_string();
    let pull = pair.access(&contract, "HttpData-PULL").await.transfer;
    pair.consumer.cli_ok(&["pull", &pull, "-o", &file, "--format", "csv", "--purpose", "research"]).await;
    let end = json!({ "reason": said.word("stopped") });
    pair.consumer.post(&format!("transfers/{}/terminate", access.transfer), &end).await.expect_ok();
    pair.at_holder("transfers", &access.transfer, "TERMINATED").await;

    let other = negotiation(pair, dataset, "kanarie-manual").await;
    let theirs = text(&pair.at_holder("negotiations", &other, "REQUESTED").await["id"]);
    let no = json!({ "reason": said.word("refusal") });
    pair.holder.post(&format!("negotiations/{theirs}/refuse"), &no).await.expect_ok();
    pair.wait("negotiations", &other, "TERMINATED").await;
    pair.holder.cli_ok(&["contract", "revoke", &contract, "--reason", &said.word("revoked")]).await;
    (contract, query)
}

/// A connector of another make, which names things as it likes and salts nothing.
async fn spoken_to_by_a_stranger(pair: &Pair, said: &mut Said, dataset: &str) {
    let rogue = Rogue::start().await;
    let mut message = rogue.request_message(&pair.holder, dataset, "kanarie-manual", &rogue.root).await;
    message["consumerPid"] = said.word("stranger").into();
    message["@id"] = "1".into();
    let opened = rogue.send(&pair.holder, "/negotiations/request", &message).await.expect(201);
    let mut end =
        Rogue::message("ContractNegotiationTerminationMessage", "kanarie-stranger", &text(&opened["providerPid"]));
    end["reason"] = json!([said.word("strange-reason")]);
    let path = format!("/negotiations/{}/termination", text(&opened["providerPid"]));
    rogue.send(&pair.holder, &path, &end).await.expect(200);
}

/// A credential with personal data in it, issued and revoked.
async fn credential(pair: &Pair, said: &mut Said) -> Node {
    let issuer = Node::start(Wish { dir: pair.dir.path().join("issuer"), role: "issuer", plan: None }).await;
    let claims = json!({ "name": said.word("person"), "born": "1990-01-01" });
    let define = ["issuer", "define", "role", "--type", "RoleCredential", "--approve", "auto", "--claims"];
    let file = pair.dir.path().join("claims.json");
    std::fs::write(&file, claims.to_string()).expect("a file can be written");
    issuer.cli_ok(&[&define[..], &[&file.display().to_string()]].concat()).await;
    issuer.cli_ok(&["issuer", "offer", "role", "--to", &pair.consumer.did]).await;
    pair.consumer.cli_ok(&["credential", "offers", "--accept", "role.vc20", "--issuer", &issuer.did]).await;
    let issued = eventually("a credential is issued", || async {
        issuer.items("issuer/credentials").await.first().map(|row| text(&row["id"]))
    });
    issuer.cli_ok(&["issuer", "revoke", &issued.await, "--reason", &said.word("withdrawn")]).await;
    issuer
}

#[tokio::test]
async fn nothing_that_anybody_said_reaches_a_log() {
    let pair = Pair::start().await;
    let mut said = Said::default();
    let (dataset, terms) = published(&pair, &mut said).await;
    let (contract, query) = used(&pair, &mut said, &dataset).await;
    spoken_to_by_a_stranger(&pair, &mut said, &dataset).await;
    let issuer = credential(&pair, &mut said).await;
    let regulator = pair.regulator().await;
    regulator_is_content(&pair, &regulator).await;

    let agreement = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok()["policy"].clone();
    let mut guesses = vec![agreement, terms, query.into(), ROWS.into(), "research".into(), "1990-01-01".into()];
    guesses.extend([&pair.holder, &pair.consumer, &issuer].map(|node| json!(node.did)));
    guesses.extend((0..2000).map(Value::from));
    // What was done last is in the tiles, and so is everything before it.
    for (node, kind, act) in [
        (&pair.holder, "contract.revoked", "revoked"),
        (&pair.holder, "negotiation.terminate", "received"),
        (&pair.consumer, "negotiation.terminate", "received"),
        (&issuer, "credential.revoked", "revoked"),
    ] {
        last(node, kind, act).await;
    }
    for node in [&pair.holder, &pair.consumer] {
        says_nothing(node, &said, &guesses);
    }
    let (raw, parts) = (files(&issuer.dir.join("ledger")), decoded(&issuer.dir.join("ledger")));
    for word in ["kanarie", "1990", pair.consumer.did.as_str()] {
        assert!(!raw.iter().chain(&parts).any(|bytes| holds(bytes, word.as_bytes())), "the issuer says {word}");
    }
    for form in forms(pair.consumer.did.as_bytes()) {
        assert!(!raw.iter().chain(&parts).any(|bytes| holds(bytes, &form)), "the issuer holds the holder's digest");
    }
    // The words were there to be told: each is in the state of some node.
    let state: Vec<Vec<u8>> =
        [&pair.holder, &pair.consumer, &issuer].iter().flat_map(|n| files(&n.dir.join("db"))).collect();
    for word in said.0.keys().filter(|word| !word.ends_with("query")) {
        assert!(state.iter().any(|bytes| holds(bytes, word.as_bytes())), "{word} was never said");
    }
    assert!(holds(&std::fs::read(issuer.dir.join("shuyu.toml")).expect("a file"), b"issuer"));
}

/// The index and the statement of the last entry of this kind and act.
async fn last(node: &Node, kind: &str, act: &str) -> (String, Value) {
    eventually(&format!("{kind} {act}"), || async {
        let all = node.statements().await;
        let at = all.iter().rposition(|one| one["kind"] == kind && one["act"] == act)?;
        Some((at.to_string(), all[at].clone()))
    })
    .await
}

/// A contract, a use with a receipt, and a use that was refused for its purpose.
async fn exchanged() -> (Pair, String) {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let file = pair.dir.path().join("weather.csv").display().to_string();
    pair.consumer.cli_ok(&["pull", &access.transfer, "-o", &file, "--format", "csv", "--purpose", "research"]).await;
    assert_eq!(access.pull("purpose=kanarie-marketing&format=csv").await.status, 403);
    (pair, contract)
}

#[tokio::test]
async fn fields_are_shown_one_by_one_to_anyone_off_line() {
    let (pair, contract) = exchanged().await;
    // Both parties commit to the same, message by message and use by use.
    for (kind, one, other) in [
        ("negotiation.request", "received", "sent"),
        ("negotiation.agree", "sent", "received"),
        ("negotiation.finalize", "sent", "received"),
        ("transfer.start", "sent", "received"),
        ("use.served", "served", "receipt"),
    ] {
        let (here, there) = (last(&pair.holder, kind, one).await.1, last(&pair.consumer, kind, other).await.1);
        assert_eq!(
            (&here["commit"]["fields"], &here["event"]),
            (&there["commit"]["fields"], &there["event"]),
            "{kind}"
        );
        assert!(here["commit"]["fields"].is_string(), "{here}");
    }
    let (index, _) = last(&pair.holder, "use.served", "served").await;
    let names = pair.holder.cli_ok(&["ledger", "disclose", &index]).await;
    assert!(names.lines().any(|name| name == "/rows") && !names.contains("salt"), "{names}");
    let file = pair.dir.path().join("shown.json").display().to_string();
    let show = ["ledger", "disclose", &index, "--field", "rows", "--field", "/to", "--file", &file];
    pair.holder.cli_ok(&show).await;
    let checked = run(&["ledger", "verify-disclosure", &file, "--output", "json"]).await;
    assert_eq!(checked.code, 0, "{}", checked.err);
    let shown: Value = serde_json::from_str(&checked.out).expect("JSON");
    assert_eq!(shown["fields"], json!({ "/rows": ROWS, "/to": pair.consumer.did }), "{shown}");
    let made = std::fs::read_to_string(&file).expect("the disclosure");
    assert!(!made.contains("blake3") && !made.contains("\"/query\""), "nothing else is shown: {made}");
    // Another number, or another log's key, is not what was committed to.
    std::fs::write(&file, made.replace(&format!("\"value\": {ROWS}"), "\"value\": 1")).expect("it can be changed");
    let forged = run(&["ledger", "verify-disclosure", &file]).await;
    assert_eq!(
        (forged.code, forged.err.contains("does not commit to this value of `/rows`")),
        (2, true),
        "{}",
        forged.err
    );
    std::fs::write(&file, &made).expect("it can be changed");
    let other = pair.consumer.get("ledger").await.expect_ok();
    let pin = format!("{}={}", pair.holder.did, text(&other["vkey"]));
    assert_eq!(run(&["ledger", "verify-disclosure", &file, "--pin", &pin]).await.code, 2);
    let none = pair.holder.cli(&["ledger", "disclose", &index, "--field", "nothing"]).await;
    assert!(none.code != 0 && none.err.contains("has no field `nothing`"), "{}", none.err);

    // The contract is found by its digest, though the ledger does not say it.
    let digest = pair.holder.get(&format!("contracts/{contract}")).await.expect_ok()["digest"].clone();
    for (node, act) in [(&pair.holder, "sent"), (&pair.consumer, "received")] {
        let (index, _) = last(node, "negotiation.finalize", act).await;
        let shown = node.cli_ok(&["ledger", "disclose", &index, "--field", "agreementDigest"]).await;
        let shown: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(shown["fields"][0]["value"], digest);
    }
}

/// Whether a file of the node's store holds a signed receipt: its type, at any place of the encoded header.
fn has_receipt(node: &Node) -> bool {
    let state = files(&node.dir.join("db"));
    let encoded = |shift: usize| URL_SAFE_NO_PAD.encode(["x".repeat(shift).as_str(), "shuyu-receipt+jws"].concat());
    let found = |part: &str| state.iter().any(|bytes| holds(bytes, part.as_bytes()));
    (0..3).any(|shift| encoded(shift).get(4..20).is_some_and(found))
}

#[tokio::test]
async fn what_is_erased_is_gone_and_every_proof_stands() {
    let (pair, contract) = exchanged().await;
    let regulator = pair.regulator().await;
    let (index, statement) = last(&pair.holder, "use.refused", "decided").await;
    let (served, _) = last(&pair.holder, "use.served", "served").await;
    let db = pair.holder.dir.join("db");
    let is_there = |word: &str| files(&db).iter().any(|bytes| holds(bytes, word.as_bytes()));
    assert!(is_there("kanarie-marketing"), "the refused purpose is in the vault");
    let file = pair.dir.path().join("before.json").display().to_string();
    pair.holder.cli_ok(&["ledger", "disclose", &index, "--field", "purpose", "--field", "code", "--file", &file]).await;

    pair.holder
        .cli_ok(&["ledger", "erase", &index, "--field", "purpose", "--field", "reason", "--reason", "kanarie-why"])
        .await;
    assert!(!is_there("kanarie-marketing"), "no file of the store holds the erased value");
    let gone = pair.holder.cli(&["ledger", "disclose", &index, "--field", "purpose"]).await;
    assert!(gone.code != 0 && gone.err.contains("has no field `purpose`"), "{}", gone.err);
    let left = pair.holder.cli_ok(&["ledger", "disclose", &index, "--field", "code"]).await;
    let after = pair.dir.path().join("after.json").display().to_string();
    std::fs::write(&after, left).expect("it can be written");
    for file in [&file, &after] {
        let checked = run(&["ledger", "verify-disclosure", file]).await;
        assert_eq!(checked.code, 0, "what was handed out before holds, and so does what is left: {}", checked.err);
    }
    let (erasure, said) = last(&pair.holder, "ledger.erased", "revoked").await;
    let shown = pair.holder.cli_ok(&["ledger", "disclose", &erasure, "--field", "entries", "--field", "fields"]).await;
    assert!(shown.contains(&index) && !said.to_string().contains("kanarie"), "{shown}");
    assert_eq!(last(&pair.holder, "use.refused", "decided").await.1, statement, "the entry is as it was");

    // All of a process; the receipts with the same salts go too, with both parties.
    for node in [&pair.holder, &pair.consumer] {
        let process = format!("use/{contract}");
        assert!(has_receipt(node), "{} has one to forget", node.did);
        node.cli_ok(&["ledger", "erase", "--process", &process, "--reason", "the contract has ended"]).await;
        assert!(!has_receipt(node), "{} keeps a receipt", node.did);
    }
    assert_eq!(pair.holder.get(&format!("ledger/fields/{served}")).await.status, 410);
    // All that names somebody.
    let wish = ["ledger", "erase", "--subject", &pair.consumer.did, "--reason", "right to erasure", "--output", "json"];
    let erased: Value = serde_json::from_str(&pair.holder.cli_ok(&wish).await).expect("JSON");
    assert!(erased["erased"].as_array().is_some_and(|entries| !entries.is_empty()), "{erased}");
    let again = pair.holder.cli(&wish).await;
    assert!(again.code != 0 && again.err.contains("there is no known content"), "{}", again.err);
    let without = pair.holder.cli(&["ledger", "erase", "0", "--reason", " "]).await;
    assert!(without.code != 0 && without.err.contains("`reason`"), "{}", without.err);

    pair.holder.restart().await;
    assert!(!is_there("kanarie-marketing"), "nor does a restart bring it back");
    regulator_is_content(&pair, &regulator).await;
}

#[tokio::test]
async fn what_is_kept_for_a_time_is_forgotten_then() {
    let (pair, _contract) = exchanged().await;
    let (index, _) = last(&pair.holder, "use.refused", "decided").await;
    let (request, _) = last(&pair.holder, "negotiation.request", "received").await;
    assert_eq!(pair.holder.get(&format!("ledger/fields/{index}")).await.status, 200);
    let file = pair.holder.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("a node has a configuration");
    std::fs::write(&file, format!("{made}\n[ledger.retention]\nuse = \"1s\"\nnegotiation = \"180d\"\n"))
        .expect("it can be changed");
    pair.holder.restart().await;
    eventually("the time is over", || async {
        let answer = pair.holder.get(&format!("ledger/fields/{index}")).await;
        (answer.status == 410).then_some(())
    })
    .await;
    let (erasure, _) = last(&pair.holder, "ledger.erased", "revoked").await;
    let shown = pair.holder.cli_ok(&["ledger", "disclose", &erasure, "--field", "by", "--field", "entries"]).await;
    assert!(shown.contains("\"retention\"") && shown.contains(&index), "{shown}");
    assert_eq!(pair.holder.get(&format!("ledger/fields/{request}")).await.status, 200, "other kinds are kept");
    std::fs::write(&file, format!("{made}\n[ledger.retention]\nuse = \"soon\"\n")).expect("it can be changed");
    pair.holder.kill();
    pair.holder.spawn();
    eventually("a bad time is refused", || async { pair.holder.is_down().then_some(()) }).await;
    assert!(pair.holder.log().contains("ledger.retention"), "{}", pair.holder.log());
}

/// Adds a line to the table `[ledger]` of a node's configuration.
async fn configured(node: &Node, lines: &str) {
    let file = node.dir.join("shuyu.toml");
    let made = std::fs::read_to_string(&file).expect("a node has a configuration");
    assert!(made.contains("read = \"public\""), "it is public unless it is closed: {made}");
    std::fs::write(&file, made.replace("read = \"public\"", lines)).expect("it can be changed");
    node.restart().await;
}

#[tokio::test]
async fn a_private_log_is_read_by_regulators_and_by_the_parties_of_an_entry() {
    let pair = Pair::start().await;
    let regulator = pair.regulator().await;
    crate::witness::configure(&regulator, "audit", "every-s = 1\nserve-mirrors = true");
    regulator.restart().await;
    configured(&pair.holder, &format!("read = \"parties\"\nregulators = [\"{}\"]", regulator.did)).await;
    pair.offer("open", "auto", &[constraint("purpose", "isA", "research")]).await;
    pair.contract("open").await;
    let http = shuyu_scenarios::node::http();
    let root = format!("{}/ledger", pair.holder.public);
    let ask = |url: String, token: Option<String>| {
        let request = http.get(url);
        shuyu_scenarios::Answer::of(match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    };
    // How large it is and who signs it is for everybody: witnesses need no more.
    for path in ["checkpoint", "vkey", "vkeys"] {
        assert_eq!(ask(format!("{root}/{path}"), None).await.status, 200, "{path}");
    }
    let (index, _) = last(&pair.holder, "negotiation.finalize", "sent").await;
    let size: u64 =
        ask(format!("{root}/checkpoint"), None).await.text.lines().nth(1).expect("a size").parse().expect("a number");
    let bundle = format!("{root}/tile/entries/000.p/{size}");
    let entry = format!("{root}/entry/{index}");
    for url in [bundle.clone(), format!("{root}/tile/0/000.p/{size}"), entry.clone()] {
        let refused = ask(url.clone(), None).await;
        assert_eq!(
            (refused.status, refused.text.contains("self-issued token")),
            (401, true),
            "{url}: {}",
            refused.text
        );
    }
    let rogue = Rogue::start().await;
    let token = || Some(rogue.token(&shuyu_scenarios::rogue::Token::good(&pair.holder.did)));
    let refused = ask(bundle.clone(), token()).await;
    assert_eq!((refused.status, refused.text.contains("ledger.regulators")), (403, true), "{}", refused.text);
    assert_eq!(ask(entry.clone(), token()).await.status, 404, "somebody else's entry looks like none");
    // An entry that names the stranger is for it; its proof holds.
    let opened = rogue.request(&pair.holder, "weather", "open").await.expect(201);
    assert!(opened["providerPid"].is_string());
    let index = shuyu_scenarios::eventually("the stranger was answered", || async {
        let (index, statement) = last(&pair.holder, "negotiation.agree", "sent").await;
        (statement["with"] == rogue.did.as_str()).then_some(index)
    })
    .await;
    let own = ask(format!("{root}/entry/{index}"), token()).await.expect_ok();
    let proof: shuyu_tlog::InclusionProof = text(&own["proof"]).parse().expect("a proof");
    let vkey: shuyu_tlog::Vkey = ask(format!("{root}/vkey"), None).await.text.trim().parse().expect("a key");
    assert!(proof.verify(text(&own["entry"]).as_bytes(), &vkey).is_ok());
    // The regulator mirrors all of it; one that is not named is told what to do.
    let synced = regulator.post("audit/sync", &json!({})).await.expect_ok();
    assert!(synced["items"].as_array().expect("a listing").iter().all(|node| node["verified"] == true), "{synced}");
    // What was read in confidence is not handed on by the mirror; what anybody may read is.
    for (node, status) in [(&pair.holder, 404), (&pair.consumer, 200)] {
        let origin = format!("{}/ledger", node.public.trim_start_matches("http://"));
        let name: String = Sha256::digest(origin.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        shuyu_scenarios::eventually(&format!("the mirror of {} answers {status}", node.did), || async {
            let mirrored = ask(format!("{}/mirror/{name}/checkpoint", regulator.public), None).await;
            (mirrored.status == status).then_some(())
        })
        .await;
    }
    pair.consumer.post("audit/nodes", &json!({ "did": pair.holder.did })).await.expect_ok();
    let synced = pair.consumer.post("audit/sync", &json!({})).await.expect_ok();
    assert!(synced["items"][0]["verified"] == false && synced.to_string().contains("ledger.regulators"), "{synced}");
}
