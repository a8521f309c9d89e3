//! Contracts over time: signed by both, renewed, retired, and alive when a party's keys change.

use serde_json::{Value, json};
use shuyu_base::Digest;
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Node, Pair, Rogue, constraint, eventually};

use crate::hostile::holder;

fn research() -> [Value; 1] {
    [constraint("purpose", "isA", "research")]
}

/// What the first statement of `kind` and `act` commits to as `name`, once there is one: a digest in the statement itself, or
/// a field that is shown.
async fn committed(node: &Node, kind: &str, act: &str, name: &str) -> String {
    eventually(&format!("{kind} {act} is in the ledger"), || async {
        let statements = node.statements().await;
        let index = statements.iter().position(|one| one["kind"] == kind && one["act"] == act)?;
        if let Some(digest) = statements[index]["commit"][name].as_str() {
            return Some(digest.to_owned());
        }
        let shown = node.post("ledger/disclose", &json!({ "index": index, "fields": [name] })).await.expect_ok();
        Some(text(&shown["fields"][0]["value"]))
    })
    .await
}

#[tokio::test]
async fn both_parties_sign_and_both_ledgers_carry_the_digest() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let contract = pair.contract("open").await;
    let (here, there) = (
        pair.consumer.get(&format!("contracts/{contract}")).await.expect_ok(),
        pair.holder.get(&format!("contracts/{contract}")).await.expect_ok(),
    );
    assert_eq!((&here["signed"], &there["signed"]), (&json!("both"), &json!("both")));
    assert_eq!(here["signatures"], there["signatures"], "the same signatures on both sides");
    let keys: Vec<String> = here["signatures"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| format!("{} {}", text(&one["by"]), text(&one["kid"]).rsplit_once('#').expect("a fragment").1))
        .collect();
    assert_eq!(keys, ["provider key-1", "provider sm2-1", "consumer key-1", "consumer sm2-1"]);
    let canonical = shuyu_base::json::canonical(&here["policy"]).expect("an agreement has a canonical form");
    let digest = Digest::sha256(&canonical).to_string();
    assert_eq!((text(&here["digest"]), text(&there["digest"])), (digest.clone(), digest.clone()));
    for (node, act) in [(&pair.holder, "sent"), (&pair.consumer, "received")] {
        assert_eq!(committed(node, "negotiation.agree", act, "agreementDigest").await, digest);
        assert_eq!(committed(node, "negotiation.finalize", act, "agreementDigest").await, digest);
    }

    // Off line, with the file alone.
    let file = pair.dir.path().join("contract.json");
    let proof = pair.consumer.cli_ok(&["contract", "export", &contract]).await;
    std::fs::write(&file, &proof).expect("the file can be written");
    let verify = || async { shuyu_scenarios::node::run(&["contract", "verify", &file.display().to_string()]).await };
    let checked = verify().await;
    assert_eq!((checked.code, checked.out.contains(&digest)), (0, true), "{} {}", checked.out, checked.err);
    let proof: Value = serde_json::from_str(&proof).expect("it is JSON");
    let changes: [(&str, Value, &str); 5] = [
        ("/agreement/permission/0/constraint/0/rightOperand", json!("marketing"), "digest"),
        ("/renews", json!("urn:uuid:0"), "does not hold"),
        ("/signatures/0/key", proof["signatures"][2]["key"].clone(), "does not hold"),
        ("/signatures", json!([proof["signatures"][0]]), "consumer has not signed"),
        ("/signatures/2/by", json!("provider"), "not a key of the party"),
    ];
    for (place, value, said) in changes {
        let mut changed = proof.clone();
        *changed.pointer_mut(place).unwrap_or_else(|| panic!("{place} is in {proof}")) = value;
        std::fs::write(&file, changed.to_string()).expect("the file can be written");
        let refused = verify().await;
        assert_eq!((refused.code, refused.err.contains(said)), (2, true), "{place}: {}", refused.err);
    }
}

#[tokio::test]
async fn a_party_without_signatures_is_taken_or_not_as_configured() {
    let (_dir, node) = holder().await;
    for (required, status) in [(false, 200), (true, 400)] {
        if required {
            let file = node.dir.join("shuyu.toml");
            let made = std::fs::read_to_string(&file).expect("a node has a configuration");
            let changed = made.replace("require-signed-agreements = false", "require-signed-agreements = true");
            assert_ne!(made, changed);
            std::fs::write(&file, changed).expect("it can be changed");
            node.restart().await;
        }
        let rogue = Rogue::start().await;
        let opened = rogue.request(&node, "weather", "open").await.expect(201);
        let (provider, consumer) = (text(&opened["providerPid"]), text(&opened["consumerPid"]));
        let agreement = rogue.hears("/agreement").await;
        let signatures = agreement["https://w3id.org/shuyu/profile/1#signatures"].as_array().map(Vec::len);
        assert_eq!(signatures, Some(2), "the provider signs whoever the consumer is: {agreement}");
        let verification = Rogue::message("ContractAgreementVerificationMessage", &consumer, &provider);
        let path = format!("/negotiations/{provider}/agreement/verification");
        let mut forged = verification.clone();
        forged["https://w3id.org/shuyu/profile/1#signatures"] =
            agreement["https://w3id.org/shuyu/profile/1#signatures"].clone();
        let answer = rogue.send(&node, &path, &forged).await;
        assert_eq!((answer.status, answer.text.contains("signatures")), (400, true), "{}", answer.text);
        let answer = rogue.send(&node, &path, &verification).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        if required {
            assert!(answer.text.contains("the agreement is not signed"), "{}", answer.text);
        } else {
            let id = text(&agreement["agreement"]["@id"]);
            let contract = eventually("the contract is in force", || async {
                let answer = node.get(&format!("contracts/{id}")).await;
                answer.is_ok().then_some(answer.body)
            });
            assert_eq!(contract.await["signed"], "provider");
        }
    }
}

#[tokio::test]
async fn a_did_document_that_changes_during_a_negotiation_is_no_proof_of_who_speaks() {
    let (_dir, node) = holder().await;
    let mut rogue = Rogue::start().await;
    let message = rogue.request_message(&node, "weather", "asked", &rogue.root).await;
    let opened = rogue.send(&node, "/negotiations/request", &message).await.expect(201);
    let (provider, consumer) = (text(&opened["providerPid"]), text(&opened["consumerPid"]));
    let end = Rogue::message("ContractNegotiationTerminationMessage", &consumer, &provider);
    let path = format!("/negotiations/{provider}/termination");
    // Somebody else has the web address now, and with it the document.
    rogue.change_key("key-2", false);
    // A resolver does not ask again at once for a document it has just had; until then the key is merely unknown.
    let known = eventually("the node sees the new document", || async {
        let answer = rogue.send(&node, &path, &end).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
        (!answer.text.contains("is unknown")).then_some(())
    });
    known.await;
    for (path, message) in [(path.as_str(), &end), ("/negotiations/request", &message)] {
        let answer = rogue.send(&node, path, message).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
        assert_eq!(answer.body["@type"], "ContractNegotiationError");
        assert_eq!(answer.body["code"], "shuyu:key-changed");
        assert!(answer.text.contains("has not handed over"), "{}", answer.text);
    }
    assert_eq!(node.items("negotiations").await[0]["state"], "REQUESTED", "nothing changed");
    // Under the same name as before it is no better, once the node sees that it is another key.
    rogue.change_key("key-1", false);
    let seen = eventually("the node sees the third document", || async {
        let answer = rogue.send(&node, &path, &end).await;
        assert_eq!(answer.status, 401, "{}", answer.text);
        (answer.body["code"] == "shuyu:key-changed").then_some(())
    });
    seen.await;

    // One that the key in use hands over to is another matter.
    let mut honest = Rogue::start().await;
    let opened = honest.request(&node, "weather", "asked").await.expect(201);
    let (provider, consumer) = (text(&opened["providerPid"]), text(&opened["consumerPid"]));
    honest.change_key("key-2", true);
    let end = Rogue::message("ContractNegotiationTerminationMessage", &consumer, &provider);
    let taken = eventually("the node sees the succession", || async {
        let answer = honest.send(&node, &format!("/negotiations/{provider}/termination"), &end).await;
        (answer.status == 200).then_some(())
    });
    taken.await;
}

#[tokio::test]
async fn contracts_outlive_the_keys_of_both_parties() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let query = "purpose=research&format=csv";
    assert_eq!(access.pull(query).await.status, 200);
    let regulator = pair.regulator().await;
    let holds = || async {
        let synced = regulator.post("audit/sync", &json!({})).await.expect_ok();
        let verified = synced["items"].as_array().expect("a list").iter().filter(|node| node["verified"] == true);
        assert_eq!(verified.count(), 2, "{synced}");
    };
    holds().await;
    for node in [&pair.consumer, &pair.holder] {
        let kid = node.cli_ok(&["key", "rotate", "--suite", "p256"]).await;
        assert_eq!(kid, format!("{}#key-2", node.did));
        node.restart().await;
        let keys = node.cli_ok(&["--output", "json", "key", "list"]).await;
        let keys: Value = serde_json::from_str(&keys).expect("it is JSON");
        let names: Vec<&Value> = keys["items"].as_array().expect("a list").iter().map(|key| &key["key"]).collect();
        assert_eq!(names, ["key-1", "key-2"]);
        let thumbprint = committed(node, "key.succession", "published", "to").await;
        let from = committed(node, "key.succession", "published", "from").await;
        assert_ne!(thumbprint, from);
        let other = if node.did == pair.consumer.did { &pair.holder } else { &pair.consumer };
        // The token given out under the old key is good, and so is one that is asked for now.
        assert_eq!(access.pull(query).await.status, 200, "after {}", node.did);
        let later = pair.access(&contract, "HttpData-PULL").await;
        assert_eq!(later.pull(query).await.status, 200, "after {}", node.did);
        // From then on the new key is the pinned one, so that the old one can hand over to nobody else.
        assert_eq!(committed(other, "contract.key-followed", "decided", "key").await, thumbprint);
    }
    let next = pair.contract("open").await;
    let signed = pair.holder.get(&format!("contracts/{next}")).await.expect_ok();
    assert_eq!((&signed["signed"], text(&signed["signatures"][0]["kid"]).ends_with("#key-2")), (&json!("both"), true));
    // The regulator held the old keys; the evidence of both is still whole, signed by two keys each.
    holds().await;
    let report = regulator.get("audit/report").await.expect_ok();
    assert_eq!(report["findings"], json!([]), "{report}");
    // And what was signed under the old keys can still be shown.
    let file = pair.dir.path().join("contract.json");
    let proof = pair.consumer.cli_ok(&["contract", "export", &contract]).await;
    std::fs::write(&file, proof).expect("the file can be written");
    pair.consumer.cli_ok(&["contract", "verify", &file.display().to_string()]).await;
}

#[tokio::test]
async fn a_key_that_nobody_handed_over_to_acts_only_once_a_person_vouches_for_it() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let contract = pair.contract("open").await;
    pair.consumer.cli_ok(&["key", "rotate"]).await;
    forget_successions(&pair.consumer);
    pair.consumer.restart().await;
    let wish = json!({ "agreement": contract, "format": "FlightSql" });
    let asked = || async { text(&pair.consumer.post("transfers", &wish).await.expect_ok()["id"]) };
    let id = asked().await;
    let refused = eventually("the provider refuses", || async {
        let row = pair.consumer.get(&format!("transfers/{id}")).await.expect_ok();
        row["error"].as_str().map(str::to_owned)
    });
    assert!(refused.await.contains("has not handed over"), "the reason reaches the consumer");
    assert_eq!(pair.holder.items("transfers").await.len(), 0);
    let keys: Value =
        serde_json::from_str(&pair.consumer.cli_ok(&["--output", "json", "key", "list"]).await).expect("it is JSON");
    let key = text(&keys["items"][1]["multikey"]);
    pair.holder.cli_ok(&["contract", "trust-key", &contract, &key]).await;
    assert!(committed(&pair.holder, "contract.key-trusted", "decided", "key").await.starts_with("sha256:"));
    let access = pair.access(&contract, "HttpData-PULL").await;
    assert_eq!(access.pull("purpose=research&format=csv").await.status, 200);
}

#[tokio::test]
async fn a_retired_contract_takes_no_new_transfers_and_keeps_those_it_has() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let query = "purpose=research&format=csv";
    pair.holder.cli_ok(&["contract", "retire", &contract, "--reason", "replaced"]).await;
    assert_eq!(pair.holder.get(&format!("contracts/{contract}")).await.expect_ok()["state"], "retired");
    assert_eq!(access.pull(query).await.status, 200, "what runs goes on");
    let wish = json!({ "agreement": contract, "format": "FlightSql" });
    let id = text(&pair.consumer.post("transfers", &wish).await.expect_ok()["id"]);
    let refused = eventually("the provider refuses", || async {
        let row = pair.consumer.get(&format!("transfers/{id}")).await.expect_ok();
        row["error"].as_str().map(str::to_owned)
    });
    assert!(refused.await.contains("retired"));
    // It can still be ended, which ends what runs.
    pair.holder.cli_ok(&["contract", "revoke", &contract, "--reason", "over"]).await;
    assert_eq!(access.pull(query).await.status, 410);
    let again = pair.holder.cli(&["contract", "retire", &contract, "--reason", "replaced"]).await;
    assert!(again.err.contains("has ended"), "{}", again.err);
    let stated = eventually("the retirement is in the ledger", || async {
        let statements = pair.holder.statements().await;
        statements.iter().any(|one| one["kind"] == "contract.retired").then_some(())
    });
    stated.await;
}

#[tokio::test]
async fn a_renewed_contract_hands_over_to_the_next() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let first = pair.contract("open").await;
    let access = pair.access(&first, "HttpData-PULL").await;
    let renew = |id: String| {
        let pair = &pair;
        async move {
            let negotiation = pair.consumer.cli_ok(&["contract", "renew", &id]).await;
            let done = pair.wait("negotiations", &negotiation, "FINALIZED,TERMINATED").await;
            assert_eq!(done["state"], "FINALIZED", "{done}");
            text(&done["agreement"])
        }
    };
    let second = renew(first.clone()).await;
    for node in [&pair.holder, &pair.consumer] {
        let (old, new) = (
            node.get(&format!("contracts/{first}")).await.expect_ok(),
            node.get(&format!("contracts/{second}")).await.expect_ok(),
        );
        assert_eq!((&old["state"], text(&old["renewed_by"])), (&json!("retired"), second.clone()));
        assert_eq!((&new["state"], text(&new["renews"])), (&json!("active"), first.clone()));
    }
    assert_eq!(
        committed(&pair.holder, "negotiation.agree", "sent", "agreementDigest").await,
        text(&pair.holder.get(&format!("contracts/{first}")).await.expect_ok()["digest"])
    );
    for node in [&pair.consumer, &pair.holder] {
        let stated = eventually("agreed, verified and finalized as a renewal", || async {
            let mut renewals = 0;
            for index in 0..node.statements().await.len() {
                let known = node.get(&format!("ledger/fields/{index}")).await;
                let names = known.body["fields"].as_array().cloned().unwrap_or_default();
                let is_about = |kind: &str| known.body["kind"] == kind;
                let agreed = ["negotiation.agree", "negotiation.verify", "negotiation.finalize"]
                    .iter()
                    .any(|kind| is_about(kind));
                renewals += usize::from(agreed && names.contains(&json!("/renews")));
            }
            (renewals == 3).then_some(())
        });
        stated.await;
    }
    // The old one serves what it serves and takes nothing new; the new one does.
    assert_eq!(access.pull("purpose=research&format=csv").await.status, 200);
    let wish = json!({ "agreement": first, "format": "FlightSql" });
    let refused = pair.consumer.post("transfers", &wish).await;
    assert_eq!((refused.status, refused.text.contains(&second)), (409, true), "{}", refused.text);
    let next = pair.access(&second, "HttpData-PULL").await;
    assert_eq!(next.pull("purpose=research&format=csv").await.status, 200);
    // Once only, and not by others or for what is not there.
    let twice = pair.consumer.cli(&["contract", "renew", &first]).await;
    assert!(twice.err.contains("renewed before"), "{}", twice.err);
    let rogue = Rogue::start().await;
    let mut theirs = rogue.request_message(&pair.holder, "weather", "open", &rogue.root).await;
    for id in [second.as_str(), "urn:uuid:nothing"] {
        theirs["https://w3id.org/shuyu/profile/1#renews"] = id.into();
        let answer = rogue.send(&pair.holder, "/negotiations/request", &theirs).await;
        assert_eq!((answer.status, answer.text.contains("there is no contract")), (400, true), "{}", answer.text);
    }
}

#[tokio::test]
async fn two_renewals_at_once_leave_one_contract_and_a_stranger_renews_none() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &research()).await;
    let second = pair.contract("open").await;
    // Two at once: one is concluded, the other ends and says why.
    let (a, b) = tokio::join!(pair_renewal(&pair, &second), pair_renewal(&pair, &second));
    let ended: Vec<&Value> = [&a, &b].into_iter().filter(|row| row["state"] == "TERMINATED").collect();
    assert_eq!(ended.len(), 1, "{a} {b}");
    assert!(ended[0].to_string().contains("renewed before"), "{}", ended[0]);
    let third = text(&pair.holder.get(&format!("contracts/{second}")).await.expect_ok()["renewed_by"]);
    // A chain goes on.
    let fourth = text(&pair_renewal(&pair, &third).await["agreement"]);
    assert_eq!(pair.holder.get(&format!("contracts/{fourth}")).await.expect_ok()["state"], "active");
    // Not by whoever has taken over the name: without the old key, nobody speaks for its contracts.
    pair.consumer.cli_ok(&["key", "rotate"]).await;
    forget_successions(&pair.consumer);
    pair.consumer.restart().await;
    let wish = json!({ "provider": pair.holder.did, "dataset": "weather", "offer": "open", "renews": fourth });
    let begun = eventually("the provider sees the new document", || async {
        let answer = pair.consumer.post("negotiations", &wish).await;
        answer.is_ok().then(|| text(&answer.body["id"]))
    });
    let id = begun.await;
    let refused = eventually("the provider refuses", || async {
        let row = pair.consumer.get(&format!("negotiations/{id}")).await.expect_ok();
        row["error"].as_str().map(str::to_owned)
    });
    assert!(refused.await.contains("has not handed over"));
    assert_eq!(pair.holder.get(&format!("contracts/{fourth}")).await.expect_ok()["state"], "active");
}

/// Begins a renewal and waits for its end.
async fn pair_renewal(pair: &Pair, contract: &str) -> Value {
    let wish = json!({ "provider": pair.holder.did, "dataset": "weather", "offer": "open", "renews": contract });
    let id = text(&pair.consumer.post("negotiations", &wish).await.expect_ok()["id"]);
    pair.wait("negotiations", &id, "FINALIZED,TERMINATED").await
}

/// As if the old key were lost: nothing says that the new one follows.
fn forget_successions(node: &Node) {
    let ring = node.dir.join("keys/ring.json");
    let mut changed: Value = serde_json::from_slice(&std::fs::read(&ring).expect("a ring")).expect("it is JSON");
    changed["successions"] = json!([]);
    std::fs::write(&ring, changed.to_string()).expect("it can be written");
}
