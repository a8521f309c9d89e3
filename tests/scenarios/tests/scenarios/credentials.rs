//! Credentials meet contracts: who sees an offer, who may use it, and for how long.

use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::{Value, json};
use shuyu_scenarios::space::{Access, add_weather, policy, text};
use shuyu_scenarios::{Node, Wish, constraint, eventually};
use tempfile::TempDir;

use crate::sql;

/// More rows than anybody reads in a test.
const ENDLESS: &str = "SELECT a.* FROM weather a CROSS JOIN weather b CROSS JOIN weather c";
/// Verdicts are believed for a second here; a loaded machine may take longer to look again.
const BOUND: Duration = Duration::from_secs(20);
const MEMBERSHIP: &str = "MembershipCredential";
const AUDITOR: &str = "AuditorCredential";

/// A space of the configuration: its name, and issuers of memberships and of auditors.
fn space(name: &str, issuer: &str) -> String {
    format!(
        "\n[[spaces]]\nname = \"{name}\"\n[[spaces.require]]\ntype = \"{MEMBERSHIP}\"\nissuers = [\"{issuer}\"]\n\
         [[spaces.accept]]\ntype = \"{AUDITOR}\"\nissuers = [\"{issuer}\"]\n"
    )
}

async fn made(dir: &TempDir, name: &str, role: &str) -> Node {
    Node::init(Wish { dir: dir.path().join(name), role, plan: None }).await
}

/// Starts a node that belongs to these spaces and believes credentials for a second.
async fn started(node: &Node, spaces: &[String]) {
    let path = node.dir.join("shuyu.toml");
    let config = std::fs::read_to_string(&path).expect("a node has a configuration");
    let quick = config.replace("credentials-ttl-s = 60", "credentials-ttl-s = 1");
    assert_ne!(quick, config);
    std::fs::write(&path, quick + &spaces.concat()).expect("the configuration can be written");
    node.spawn();
    node.ready().await;
}

/// The issuer gives `holder` a credential of this type that says this; its id at the issuer.
async fn grant(issuer: &Node, holder: &Node, kind: &str, claims: &Value) -> String {
    let held = holder.items("credentials").await.len();
    holder.cli_ok(&["credential", "request", "--issuer", &issuer.did, "--type", kind]).await;
    let open = eventually("the request arrived", || async {
        let requests = issuer.items("issuer/requests").await;
        requests.into_iter().find(|row| row["state"] == "received" && row["holder"] == holder.did.as_str())
    })
    .await;
    let approved = json!({ "claims": claims });
    issuer.post(&format!("issuer/requests/{}/approve", text(&open["id"])), &approved).await.expect_ok();
    eventually("the credential is delivered", || async {
        (held < holder.items("credentials").await.len()).then_some(())
    })
    .await;
    let issued = issuer.items("issuer/credentials").await;
    text(&issued.iter().find(|row| row["request"] == open["id"]).expect("it was issued")["id"])
}

async fn define(issuer: &Node) {
    for (id, kind) in [("membership", MEMBERSHIP), ("auditor", AUDITOR)] {
        issuer.cli_ok(&["issuer", "define", id, "--type", kind]).await;
    }
}

async fn add_policy(holder: &Node, id: &str, constraints: &[Value]) {
    holder.post("policies", &json!({ "id": id, "policy": policy(constraints) })).await.expect_ok();
}

fn shows(kind: &str) -> Value {
    constraint("shuyu:credentialType", "eq", kind)
}

/// The offers that `consumer` sees, in order.
async fn seen(consumer: &Node, holder: &Node) -> Vec<String> {
    let listed = consumer.cli_ok(&["catalog", "list", &holder.did, "--output", "json"]).await;
    let listed: Value = serde_json::from_str(&listed).expect("a catalogue is JSON");
    let mut offers = Vec::new();
    collect_offers(&listed, &mut offers);
    offers.sort();
    offers
}

/// The identifiers of policies, wherever they are in a catalogue.
fn collect_offers(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect_offers(item, found)),
        Value::Object(members) => {
            for (name, member) in members {
                match (name.as_str(), member) {
                    ("hasPolicy", Value::Array(policies)) => {
                        found.extend(policies.iter().filter_map(|policy| Some(policy["@id"].as_str()?.to_owned())));
                    }
                    ("offers", Value::Array(offers)) => found.extend(offers.iter().filter_map(|offer| {
                        offer
                            .as_str()
                            .or_else(|| offer["id"].as_str())
                            .or_else(|| offer["@id"].as_str())
                            .map(str::to_owned)
                    })),
                    _ => collect_offers(member, found),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Negotiates to the end; the negotiation at the consumer.
async fn negotiated(consumer: &Node, holder: &Node, dataset: &str, offer: &str) -> Value {
    let wish = json!({ "provider": holder.did, "dataset": dataset, "offer": offer });
    let id = text(&consumer.post("negotiations", &wish).await.expect_ok()["id"]);
    consumer.get(&format!("negotiations/{id}?wait=FINALIZED,TERMINATED&timeout_s=60")).await.expect_ok()
}

/// Opens access to a contract.
async fn access(consumer: &Node, contract: &str, format: &str) -> Access {
    let wish = json!({ "agreement": contract, "format": format });
    let id = text(&consumer.post("transfers", &wish).await.expect_ok()["id"]);
    let started = consumer.get(&format!("transfers/{id}?wait=STARTED,TERMINATED&timeout_s=60")).await.expect_ok();
    assert_eq!(started["state"], "STARTED", "{started}");
    let answer = consumer.get(&format!("transfers/{id}/access")).await.expect_ok();
    Access {
        transfer: id,
        flight: text(&answer["flight_endpoint"]).replacen("grpc", "http", 1),
        http: text(&answer["http_endpoint"]),
        bearer: text(&answer["bearer"]),
    }
}

/// A city: an issuer, a holder with the weather, and members.
struct City {
    issuer: Node,
    holder: Node,
    gold: Node,
    plain: Node,
    _dir: TempDir,
}

impl City {
    async fn start() -> Self {
        let dir = TempDir::new().expect("a directory can be made");
        let (issuer, holder, gold, plain) = tokio::join!(
            made(&dir, "issuer", "issuer"),
            made(&dir, "holder", "holder"),
            made(&dir, "gold", "consumer"),
            made(&dir, "plain", "consumer"),
        );
        let city = [space("City", &issuer.did)];
        tokio::join!(started(&issuer, &[]), started(&holder, &city), started(&gold, &city), started(&plain, &city));
        define(&issuer).await;
        for (member, level) in [(&holder, "silver"), (&gold, "gold"), (&plain, "silver")] {
            grant(&issuer, member, MEMBERSHIP, &json!({ "membership": { "level": level } })).await;
        }
        add_weather(&holder, "weather").await.expect_ok();
        Self { issuer, holder, gold, plain, _dir: dir }
    }
}

/// What a caller may not see does not exist for it: in the list, by id, and when it is asked for.
#[tokio::test]
async fn offers_are_shown_to_those_whose_credentials_satisfy() {
    let city = City::start().await;
    let holder = &city.holder;
    add_weather(holder, "secret").await.expect_ok();
    add_policy(holder, "research", &[constraint("purpose", "isA", "research")]).await;
    let gold = constraint("shuyu:credentialClaim", "eq", "MembershipCredential#membership.level=gold");
    add_policy(holder, "gold", &[gold]).await;
    for (id, asset, access) in
        [("everyone", "weather", None), ("gold-only", "weather", Some("gold")), ("hidden", "secret", Some("gold"))]
    {
        let offer = json!({ "id": id, "asset": asset, "policy": "research", "access": access });
        let made = holder.post("offers", &offer).await.expect_ok();
        assert_eq!(made["spaces"], json!(["City"]), "an offer belongs to the only space");
    }
    assert_eq!(seen(&city.gold, holder).await, ["everyone", "gold-only", "hidden"]);
    assert_eq!(seen(&city.plain, holder).await, ["everyone"]);

    // By its identifier, the hidden dataset is answered as one that there is not.
    let show = async |node: &Node, id: &str| node.cli(&["catalog", "show", &holder.did, id]).await;
    assert_eq!(show(&city.gold, "secret").await.code, 0);
    let (hidden, none) = (show(&city.plain, "secret").await, show(&city.plain, "absent").await);
    assert_ne!(hidden.code, 0);
    assert_eq!((hidden.code, hidden.err.replace("secret", "absent")), (none.code, none.err));

    // So is a request for an offer that the caller cannot see.
    let wish = |dataset: &str, offer: &str| {
        let terms = policy(&[constraint("purpose", "isA", "research")]);
        json!({ "provider": holder.did, "dataset": dataset, "offer": offer, "policy": terms })
    };
    let mut answers = Vec::new();
    for (dataset, offer) in
        [("weather", "gold-only"), ("secret", "hidden"), ("weather", "absent"), ("absent", "absent")]
    {
        let answer = city.plain.post("negotiations", &wish(dataset, offer)).await;
        let pid = answer.body["id"].as_str().map(str::to_owned).unwrap_or_default();
        let error = eventually("the request is answered", || async {
            let row = city.plain.get(&format!("negotiations/{pid}")).await;
            row.body["error"].as_str().map(str::to_owned)
        })
        .await;
        answers.push((answer.status, error));
    }
    assert!(answers[0].1.contains("there is no such offer"), "{answers:?}");
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    let done = negotiated(&city.gold, holder, "weather", "gold-only").await;
    assert_eq!(done["state"], "FINALIZED", "{done}");
}

/// Terms that nobody could meet, or that an access policy cannot have, are refused when they are written.
#[tokio::test]
async fn terms_over_credentials_are_closed() {
    let dir = TempDir::new().expect("a directory can be made");
    let (issuer, holder) = (made(&dir, "issuer", "issuer").await, made(&dir, "holder", "holder").await);
    started(&holder, &[space("City", &issuer.did)]).await;
    add_weather(&holder, "weather").await.expect_ok();
    for (constraint, said) in [
        (shows("DiplomaCredential"), "credential type `DiplomaCredential` is required and accepted by no space"),
        (shows("not a type"), "`not a type` is not a credential type"),
        (constraint("shuyu:credentialClaim", "eq", "MembershipCredential.level=gold"), "`Type#member=value`"),
        (constraint("shuyu:credentialType", "isNoneOf", json!([MEMBERSHIP])), "cannot be used with `credentialType`"),
        (constraint("shuyu:credentialMood", "eq", "good"), "credentialMood"),
        (json!({ "xone": [shows(MEMBERSHIP), shows(AUDITOR)] }), "`xone` depends on credentials"),
    ] {
        let answer = holder.post("policies", &json!({ "id": "p", "policy": policy(&[constraint]) })).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        assert!(answer.text.contains(said), "{said}: {}", answer.text);
    }
    add_policy(&holder, "research", &[constraint("purpose", "isA", "research")]).await;
    add_policy(&holder, "members", &[shows(MEMBERSHIP)]).await;
    let offer = |access: &str| json!({ "id": "o", "asset": "weather", "policy": "members", "access": access });
    let refused = holder.post("offers", &offer("research")).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("`purpose` is not known when a catalogue is read"), "{}", refused.text);
    assert_eq!(holder.post("offers", &offer("absent")).await.status, 400);
    let elsewhere = json!({ "id": "o", "asset": "weather", "policy": "members", "spaces": ["Village"] });
    let refused = holder.post("offers", &elsewhere).await;
    assert!(refused.status == 400 && refused.text.contains("`spaces`"), "{}", refused.text);
}

/// A contract that demands a credential stops when the credential does: the next use, and the stream that runs.
#[tokio::test]
async fn use_stops_with_the_credential_it_needs() {
    let city = City::start().await;
    let (holder, consumer) = (&city.holder, &city.plain);
    add_policy(holder, "audited", &[constraint("purpose", "isA", "research"), shows(AUDITOR)]).await;
    add_policy(holder, "anyone", &[]).await;
    let offer = json!({ "id": "audited", "asset": "weather", "policy": "audited", "access": "anyone" });
    holder.post("offers", &offer).await.expect_ok();
    let refused = negotiated(consumer, holder, "weather", "audited").await;
    assert_eq!(refused["state"], "TERMINATED", "{refused}");
    assert!(refused["error"].as_str().is_some_and(|why| why.contains(AUDITOR)), "{refused}");

    let auditor = grant(&city.issuer, consumer, AUDITOR, &json!({})).await;
    // What was shown before is believed for a second.
    let contract = eventually("the contract is made", || async {
        let done = negotiated(consumer, holder, "weather", "audited").await;
        (done["state"] == "FINALIZED").then(|| text(&done["agreement"]))
    })
    .await;
    let flight = access(consumer, &contract, "FlightSql").await;
    let mut client = sql::connect(&flight, Some("research")).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.expect("the contract allows it");
    let mut stream = client.do_get(sql::ticket(&info)).await.expect("the contract allows it");
    stream.next().await.expect("it has no end").expect("the contract is in force");
    city.issuer.cli_ok(&["issuer", "suspend", &auditor, "--reason", "fees are due"]).await;
    let suspended_at = Instant::now();
    let reason = loop {
        match stream.next().await.expect("it does not end as if all were sent") {
            Ok(_) => assert!(suspended_at.elapsed() < BOUND, "the stream goes on"),
            Err(error) => break error.to_string(),
        }
    };
    println!("the stream ended {:?} after the suspension: {reason}", suspended_at.elapsed());
    assert!(reason.contains(AUDITOR) && reason.contains("suspension"), "{reason}");

    let pull = access(consumer, &contract, "HttpData-PULL").await;
    let query = "sql=SELECT%20count(*)%20FROM%20weather&format=json&purpose=research";
    let refused = pull.pull(query).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.text.contains(AUDITOR) && refused.text.contains("suspension"), "{}", refused.text);
    eventually("the refusal is in the ledger", || async {
        let statements = holder.statements().await;
        statements.into_iter().find(|one| one["kind"] == "use.refused" && one["agreement"] == contract.as_str())
    })
    .await;

    city.issuer.cli_ok(&["issuer", "resume", &auditor]).await;
    eventually("the contract can be used again", || async { pull.pull(query).await.is_ok().then_some(()) }).await;
    // What the space itself demands is behind every contract.
    let memberships = city.issuer.items("issuer/credentials").await;
    let own = |row: &&Value| row["holder"] == consumer.did.as_str() && row["type"] == MEMBERSHIP;
    let membership = text(&memberships.iter().find(own).expect("it was issued")["id"]);
    city.issuer.cli_ok(&["issuer", "revoke", &membership]).await;
    // One that is under way when the verdict changes is cut off, which is no answer at all.
    let refused = eventually("the use is refused", || async {
        let answer = pull.pull(query).await;
        (answer.status == 403).then_some(answer)
    })
    .await;
    assert!(refused.text.contains(MEMBERSHIP) && refused.text.contains("revocation"), "{}", refused.text);
    // A restart forgets nothing of it.
    holder.restart().await;
    let refused = pull.pull(query).await;
    assert!(refused.status == 403 && refused.text.contains(MEMBERSHIP), "{}", refused.text);
}

/// Two spaces on one node do not see each other.
#[tokio::test]
async fn spaces_on_one_node_are_apart() {
    let dir = TempDir::new().expect("a directory can be made");
    let (north, south, holder, one, both) = tokio::join!(
        made(&dir, "north", "issuer"),
        made(&dir, "south", "issuer"),
        made(&dir, "holder", "holder"),
        made(&dir, "one", "consumer"),
        made(&dir, "both", "consumer"),
    );
    let (in_north, in_south) = (space("North", &north.did), space("South", &south.did));
    let two = [in_north.clone(), in_south];
    let only = [in_north];
    tokio::join!(
        started(&north, &[]),
        started(&south, &[]),
        started(&holder, &two),
        started(&one, &only),
        started(&both, &two)
    );
    define(&north).await;
    define(&south).await;
    for member in [&holder, &one] {
        grant(&north, member, MEMBERSHIP, &json!({})).await;
    }
    grant(&south, &holder, MEMBERSHIP, &json!({})).await;
    grant(&north, &both, MEMBERSHIP, &json!({})).await;
    let membership = grant(&south, &both, MEMBERSHIP, &json!({})).await;
    // An auditor by the north's word only.
    grant(&north, &both, AUDITOR, &json!({})).await;
    add_weather(&holder, "weather").await.expect_ok();
    add_policy(&holder, "research", &[constraint("purpose", "isA", "research")]).await;
    add_policy(&holder, "auditors", &[shows(AUDITOR)]).await;
    let offer = |id: &str, spaces: Value, access: Option<&str>| json!({ "id": id, "asset": "weather", "policy": "research", "spaces": spaces, "access": access });
    let refused = holder.post("offers", &offer("nowhere", json!([]), None)).await;
    assert!(refused.status == 400 && refused.text.contains("say which spaces"), "{}", refused.text);
    for (id, spaces, access) in [
        ("north", json!(["North"]), None),
        ("south", json!(["South"]), None),
        ("shared", json!(["North", "South"]), None),
        ("north-audit", json!(["North"]), Some("auditors")),
        ("south-audit", json!(["South"]), Some("auditors")),
    ] {
        holder.post("offers", &offer(id, spaces, access)).await.expect_ok();
    }
    assert_eq!(seen(&one, &holder).await, ["north", "shared"]);
    // The north's word about auditors does not count in the south.
    assert_eq!(seen(&both, &holder).await, ["north", "north-audit", "shared", "south"]);
    let done = negotiated(&both, &holder, "weather", "south").await;
    assert_eq!(done["state"], "FINALIZED", "{done}");
    let contract = text(&done["agreement"]);
    let pull = access(&both, &contract, "HttpData-PULL").await;
    let query = "sql=SELECT%20count(*)%20FROM%20weather&format=json&purpose=research";
    assert!(pull.pull(query).await.is_ok());
    // Out of the south, and still in the north: the contract of the south ends with it.
    south.cli_ok(&["issuer", "revoke", &membership]).await;
    // One that is under way when the verdict changes is cut off, which is no answer at all.
    let refused = eventually("the use is refused", || async {
        let answer = pull.pull(query).await;
        (answer.status == 403).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert_eq!(seen(&both, &holder).await, ["north", "north-audit", "shared"]);
    let told = holder.cli_ok(&["space", "show", "South"]).await;
    assert!(told.contains(&south.did) && !told.contains(&north.did), "{told}");
}

/// A credential is renewed before it ends; one that is not renewed ends, and what depends on it. Each deed is evidence.
#[tokio::test]
async fn credentials_are_renewed_and_expire() {
    let dir = TempDir::new().expect("a directory can be made");
    let (issuer, holder, consumer) = tokio::join!(
        made(&dir, "issuer", "issuer"),
        made(&dir, "holder", "holder"),
        made(&dir, "consumer", "consumer"),
    );
    let city = [space("City", &issuer.did)];
    tokio::join!(started(&issuer, &[]), started(&holder, &city), started(&consumer, &city));
    issuer.cli_ok(&["issuer", "define", "membership", "--type", MEMBERSHIP, "--seconds", "12"]).await;
    let first = grant(&issuer, &consumer, MEMBERSHIP, &json!({ "level": "gold" })).await;
    let ends = async || text(&consumer.items("credentials").await[0]["valid_until"]);
    let first_end = ends().await;
    eventually("the credential is renewed", || async { (ends().await != first_end).then_some(()) }).await;
    let issued = issuer.items("issuer/credentials").await;
    assert_eq!(issued.len(), 2, "{issued:?}");
    assert!(issued.iter().any(|row| row["id"] == first.as_str() && row["state"] == "renewed"), "{issued:?}");
    issuer.cli_ok(&["issuer", "undefine", "membership"]).await;
    assert_eq!(seen(&consumer, &holder).await, [] as [String; 0]);
    // Clocks may be half a minute apart, so it counts for so much longer.
    let refused = eventually("the membership has ended", || async {
        let ran = consumer.cli(&["catalog", "list", &holder.did]).await;
        (ran.code != 0).then_some(ran.err)
    })
    .await;
    assert!(refused.contains(MEMBERSHIP), "{refused}");
    let live = issuer.items("issuer/credentials").await;
    let newest = live.iter().find(|row| row["id"] != first.as_str()).expect("there are two");
    issuer.cli_ok(&["issuer", "revoke", &text(&newest["id"])]).await;
    let statements = eventually("every deed is in the ledger", || async {
        let statements = issuer.statements().await;
        (2 < statements.len()).then_some(statements)
    })
    .await;
    let kinds: Vec<&str> = statements.iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["credential.issued", "credential.issued", "credential.revoked"]);
    let ledger = json!(statements).to_string();
    assert!(!ledger.contains(&consumer.did) && !ledger.contains("gold"), "{ledger}");
    assert_eq!(statements[2]["seq"], 2);
    issuer.cli_ok(&["ledger", "verify"]).await;
}
