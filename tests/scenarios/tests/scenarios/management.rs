//! The management API in the shape of the EDC's: driven by the field's own client, and by hand where that client does
//! not go: roles, selectors, refusals, and the renewal of access.

use std::path::Path;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};
use shuyu_scenarios::node::http;
use shuyu_scenarios::space::{add_weather, policy, text, weather_csv};
use shuyu_scenarios::{Answer, Node, Pair, Wish, constraint, eventually};
use tokio::io::AsyncWriteExt as _;

/// A key of the node for these roles.
pub async fn key(node: &Node, name: &str, roles: &[&str]) -> String {
    let mut arguments = vec!["api-key", "add", name];
    roles.iter().for_each(|role| arguments.extend(["--role", role]));
    node.cli_ok(&arguments).await
}

/// `{method} /v3/{path}` with a key.
pub async fn v3(node: &Node, key: &str, method: Method, path: &str, body: &Value) -> Answer {
    let mut request = http().request(method, format!("{}/v3/{path}", node.management)).header("x-api-key", key);
    if !body.is_null() {
        request = request.json(body);
    }
    Answer::of(request).await
}

/// As [`v3`], with the key that is good for everything.
pub async fn operate(node: &Node, method: Method, path: &str, body: &Value) -> Answer {
    let key = std::fs::read_to_string(node.dir.join("management.key")).expect("init makes a key");
    v3(node, key.trim(), method, path, body).await
}

async fn post(node: &Node, path: &str, body: &Value) -> Answer {
    operate(node, Method::POST, path, body).await
}

async fn get(node: &Node, path: &str) -> Answer {
    operate(node, Method::GET, path, &Value::Null).await
}

/// The unmodified `edc-connector-client`, from asset to data. It is built in a workspace of its own.
#[tokio::test]
async fn the_client_that_the_field_has_drives_two_nodes() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let wish = |role| Wish { dir: dir.path().join(role), role, plan: None };
    let (holder, consumer) = tokio::join!(Node::start(wish("holder")), Node::start(wish("consumer")));
    let (of_holder, of_consumer) =
        (key(&holder, "client", &["holder"]).await, key(&consumer, "client", &["consumer"]).await);
    let party = |node: &Node, key: &str| {
        json!({
            "url": node.management, "key": key, "did": node.did,
            "protocol": format!("{}/dsp/2025-1", node.public),
        })
    };
    // `management` is the root to which the client adds `/v3`.
    let places = json!({
        "holder": party(&holder, &of_holder), "consumer": party(&consumer, &of_consumer),
        "table": weather_csv().canonicalize().expect("the table is there").display().to_string(),
    });
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/edc-client");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("edc-client");
    let built = tokio::process::Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .output()
        .await
        .expect("cargo can be started");
    assert!(built.status.success(), "the client cannot be built: {}", String::from_utf8_lossy(&built.stderr));
    let mut client = tokio::process::Command::new(target.join("debug/edc-client"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client can be started");
    let mut stdin = client.stdin.take().expect("it has an input");
    stdin.write_all(places.to_string().as_bytes()).await.expect("it reads");
    drop(stdin);
    let ran = client.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{said}{}", String::from_utf8_lossy(&ran.stderr));
    let steps: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    let names: Vec<&str> = steps.iter().filter_map(|step| step["step"].as_str()).collect();
    let wanted = [
        "asset",
        "policy",
        "contract definition",
        "catalogue",
        "agreement",
        "transfer",
        "data",
        "end of transfer",
        "updates",
        "refusals",
    ];
    assert_eq!(names, wanted);
    let lines = steps.iter().find(|step| step["step"] == "data").map(|step| step["seen"]["lines"].clone());
    assert_eq!(lines, Some(json!(1462)), "a heading and every row");
}

#[tokio::test]
async fn a_key_is_good_for_its_roles_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(Wish { dir: dir.path().join("n"), role: "holder", plan: None }).await;
    let looks = [
        ("POST", "assets/request"),
        ("POST", "contractnegotiations/request"),
        ("POST", "contractagreements/request"),
        ("POST", "transferprocesses/request"),
        ("POST", "edrs/request"),
    ];
    let publishes = [("POST", "assets"), ("PUT", "assets"), ("POST", "policydefinitions"), ("DELETE", "assets/x")];
    let uses = [("POST", "catalog/request"), ("POST", "contractnegotiations"), ("GET", "edrs/x/dataaddress")];
    let operates = [("POST", "webhooks"), ("GET", "webhooks"), ("DELETE", "webhooks/x")];
    for (role, may) in [
        ("holder", [true, true, false, false]),
        ("consumer", [true, false, true, false]),
        ("regulator", [true, false, false, false]),
        ("operator", [true, true, true, true]),
    ] {
        let key = key(&node, role, &[role]).await;
        for (paths, may) in [&looks[..], &publishes, &uses, &operates].into_iter().zip(may) {
            for (method, path) in paths {
                let method: Method = method.parse().expect("a method");
                let body = if method == Method::POST || method == Method::PUT { json!({}) } else { Value::Null };
                let answer = v3(&node, &key, method.clone(), path, &body).await;
                assert_eq!(answer.status != 403, may, "{role}: {method} {path}: {answer:?}");
                assert_ne!(answer.status, 401, "{role}: {method} {path}");
                assert!(answer.status < 500, "{role}: {method} {path}: {answer:?}");
            }
        }
        // `/v1` is for operators.
        let status = http().get(format!("{}/v1/status", node.management)).bearer_auth(&key);
        assert_eq!(Answer::of(status).await.status == 200, role == "operator", "{role}");
    }
    let of_regulator = node.cli_ok(&["--output", "json", "api-key", "list"]).await;
    assert!(of_regulator.contains("\"regulator\""), "{of_regulator}");
    let gone = key(&node, "gone", &["operator"]).await;
    assert_eq!(v3(&node, &gone, Method::GET, "webhooks", &Value::Null).await.status, 200);
    node.cli_ok(&["api-key", "remove", "gone"]).await;
    assert_eq!(v3(&node, &gone, Method::GET, "webhooks", &Value::Null).await.status, 401, "at once, without a restart");
    let file = std::fs::read_to_string(node.dir.join("api-keys.toml")).expect("the file is there");
    assert!(!file.contains(&gone[10..]), "no key is in the file");
    // The description is for everyone.
    let document = Answer::of(http().get(format!("{}/v3/openapi.json", node.management))).await.expect_ok();
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn refusals_name_the_field_and_the_request() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(Wish { dir: dir.path().join("n"), role: "holder", plan: None }).await;
    let bad = json!({ "accessPolicyId": "p", "contractPolicyId": "p", "assetSelector": [] });
    let array = post(&node, "contractdefinitions", &bad).await.expect(400);
    assert_eq!(array[0]["type"], "ValidationFailure", "{array}");
    assert_eq!(array[0]["path"], "assetsSelector", "{array}");
    let key = std::fs::read_to_string(node.dir.join("management.key")).expect("init makes a key");
    let response = http()
        .post(format!("{}/v3/contractdefinitions", node.management))
        .header("x-api-key", key.trim())
        .header("accept", "application/problem+json")
        .json(&bad)
        .send()
        .await
        .expect("an answer");
    assert_eq!(response.status(), 400);
    let correlation = response.headers()["x-correlation-id"].to_str().expect("text").to_owned();
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!((&problem["status"], &problem["correlation"]), (&json!(400), &json!(correlation)));
    assert!(node.log().contains(&correlation), "the log knows the request by the same name");
    for (method, path, body, status, wanted) in [
        (Method::POST, "assets", json!({ "@id": "a", "properties": {} }), 400, "dataAddress"),
        (Method::POST, "assets", json!([]), 400, "object"),
        (Method::POST, "policydefinitions", json!({ "policy": { "permission": "x" } }), 400, "permission"),
        (Method::POST, "policydefinitions", json!({ "policy": 7 }), 400, "`policy`"),
        (Method::POST, "assets/request", json!({ "limit": 5000 }), 400, "`limit`"),
        (Method::POST, "assets/request?x=1", json!({}), 400, "`x`"),
        (Method::POST, "catalog/request", json!({ "counterPartyId": "no did" }), 400, "`counterPartyId`"),
        (Method::POST, "transferprocesses", json!({ "contractId": "c", "transferType": "Push" }), 400, "Push"),
        (Method::POST, "webhooks", json!({ "uri": "ftp://x" }), 400, "`uri`"),
        (Method::POST, "webhooks", json!({ "uri": "http://10.0.0.1/x" }), 400, "`uri`"),
        (Method::GET, "events?after=x", Value::Null, 400, "`after`"),
        (Method::GET, "nothing/here", Value::Null, 404, "path"),
        (Method::PUT, "edrs/request", Value::Null, 405, "method not allowed"),
    ] {
        let answer = operate(&node, method.clone(), path, &body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let message = text(&answer.body[0]["message"]);
        assert!(message.contains(wanted), "{method} {path}: {message}");
    }
}

#[tokio::test]
async fn a_definition_of_every_asset_offers_those_added_later() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let wish = |role| Wish { dir: dir.path().join(role), role, plan: None };
    let (holder, consumer) = tokio::join!(Node::start(wish("holder")), Node::start(wish("consumer")));
    add_weather(&holder, "before").await.expect_ok();
    for (id, constraints) in [("open", vec![]), ("narrow", vec![constraint("count", "lteq", 1)])] {
        let body = json!({ "@id": id, "policy": policy(&constraints) });
        post(&holder, "policydefinitions", &body).await.expect_ok();
    }
    let define = |access: &str, contract: &str, selector: Value| json!({ "@id": "all", "accessPolicyId": access, "contractPolicyId": contract, "assetsSelector": selector });
    // Who sees an offer is decided by its contract's policy: another one with conditions would not be kept.
    let refused = post(&holder, "contractdefinitions", &define("narrow", "open", json!([]))).await.expect(400);
    assert_eq!(refused[0]["path"], "accessPolicyId", "{refused}");
    post(&holder, "contractdefinitions", &define("open", "narrow", json!([]))).await.expect_ok();
    let widened = json!({ "@id": "open", "policy": policy(&[constraint("count", "lteq", 5)]) });
    let answer = operate(&holder, Method::PUT, "policydefinitions/open", &widened).await;
    assert_eq!(answer.status, 409, "it is the access policy of `all`: {answer:?}");
    add_weather(&holder, "later").await.expect_ok();
    let offered = || async {
        let request = json!({ "counterPartyId": holder.did, "querySpec": { "limit": 1000 } });
        let catalog = post(&consumer, "catalog/request", &request).await.expect_ok();
        let datasets = catalog["dataset"].as_array().expect("a list").clone();
        datasets.iter().map(|dataset| text(&dataset["@id"])).collect::<Vec<String>>()
    };
    assert_eq!(offered().await, ["before", "later"]);
    operate(&holder, Method::DELETE, "assets/before", &Value::Null).await.expect(204);
    assert_eq!(offered().await, ["later"]);
    let in_list = json!([{ "operandLeft": "id", "operator": "in", "operandRight": ["later", "gone"] }]);
    let answer = operate(&holder, Method::PUT, "contractdefinitions", &define("open", "narrow", in_list)).await;
    assert!(answer.text.contains("no asset `gone`"), "{answer:?}");
    add_weather(&holder, "third").await.expect_ok();
    let in_list = json!([{ "operandLeft": "id", "operator": "in", "operandRight": ["later"] }]);
    let narrowed = define("narrow", "narrow", in_list);
    operate(&holder, Method::PUT, "contractdefinitions", &narrowed).await.expect(204);
    assert_eq!(offered().await, ["later"]);
    let of_v1 = json!({ "id": "mine", "asset": "third", "policy": "open" });
    holder.post("offers", &of_v1).await.expect_ok();
    let seen = get(&holder, "contractdefinitions/mine").await.expect_ok();
    assert_eq!(seen["assetsSelector"][0]["operandRight"], "third", "an offer of /v1 is a definition here: {seen}");
    assert_eq!(operate(&holder, Method::DELETE, "policydefinitions/narrow", &Value::Null).await.status, 409);
    for id in ["all", "mine"] {
        operate(&holder, Method::DELETE, &format!("contractdefinitions/{id}"), &Value::Null).await.expect(204);
    }
    assert_eq!(offered().await, Vec::<String>::new());
    assert_eq!(holder.items("offers").await, Vec::<Value>::new());
}

#[tokio::test]
async fn pages_by_key_read_everything_once() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[]).await;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(pair.negotiation("open").await);
    }
    for id in &ids {
        pair.wait("negotiations", id, "FINALIZED").await;
    }
    ids.sort();
    let mut seen = Vec::new();
    let mut path = "contractnegotiations/request".to_owned();
    loop {
        let key = std::fs::read_to_string(pair.consumer.dir.join("management.key")).expect("init makes a key");
        let url = format!("{}/v3/{path}", pair.consumer.management);
        let query = json!({ "limit": 3, "filterExpression": [
            { "operandLeft": "state", "operator": "=", "operandRight": "FINALIZED" },
        ] });
        let request = http().post(url).header("x-api-key", key.trim()).json(&query);
        let response = request.send().await.expect("an answer");
        let link = response.headers().get("link").map(|link| link.to_str().expect("text").to_owned());
        let page: Vec<Value> = response.json().await.expect("a list");
        seen.extend(page.iter().map(|item| text(&item["@id"])));
        match link {
            Some(link) => path = link.trim_start_matches("</v3/").split('>').next().expect("a URL").to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, ids);
    let down = json!({ "sortField": "createdAt", "sortOrder": "DESC", "offset": 5, "limit": 5 });
    let last = post(&pair.consumer, "contractnegotiations/request", &down).await.expect_ok();
    assert_eq!(last.as_array().map(Vec::len), Some(2));
}

/// The old token is good until the new one is used, whoever asks at the same time; both end with the contract.
#[tokio::test]
async fn access_is_renewed_without_a_race_and_ends_with_the_contract() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[]).await;
    let contract = pair.contract("open").await;
    let access = pair.access(&contract, "HttpData-PULL").await;
    let edr = format!("edrs/{}", access.transfer);
    let address = get(&pair.consumer, &format!("{edr}/dataaddress")).await.expect_ok();
    let (endpoint, first) = (text(&address["endpoint"]), text(&address["authorization"]));
    assert_eq!(first, access.bearer, "a token that is far from its end is not renewed");
    let read = |token: String| {
        let endpoint = endpoint.clone();
        async move { Answer::of(http().get(format!("{endpoint}?format=csv")).bearer_auth(token)).await.status }
    };
    let refresh_path = format!("{edr}/refresh");
    let renewals = (0..16).map(|_| post(&pair.consumer, &refresh_path, &Value::Null));
    let renewed: Vec<String> = futures::future::join_all(renewals)
        .await
        .into_iter()
        .map(|answer| text(&answer.expect_ok()["authorization"]))
        .collect();
    let now = text(&get(&pair.consumer, &format!("{edr}/dataaddress")).await.expect_ok()["authorization"]);
    assert!(renewed.contains(&now), "what is kept is one of those given");
    assert_eq!(read(first.clone()).await, 200, "the old token is good while no later one was used");
    assert_eq!(read(now.clone()).await, 200);
    assert_eq!(read(first.clone()).await, 401, "and not any more");
    pair.holder.restart().await;
    assert_eq!(read(first).await, 401, "a restart does not bring it back");
    assert_eq!(read(now.clone()).await, 200);
    pair.holder.post(&format!("contracts/{contract}/revoke"), &json!({ "reason": "over" })).await.expect_ok();
    assert_ne!(read(now).await, 200, "the contract has ended");
    eventually("the consumer has heard", || async {
        (get(&pair.consumer, &format!("{edr}/dataaddress")).await.status == 409).then_some(())
    })
    .await;
    assert_eq!(post(&pair.consumer, &refresh_path, &Value::Null).await.status, 409);
    assert_eq!(post(&pair.consumer, "edrs/request", &json!({})).await.expect_ok(), json!([]));
}

/// An asset that takes the id of one that is gone is another table.
#[tokio::test]
async fn an_asset_under_the_id_of_an_earlier_one_has_its_own_data() {
    let pair = Pair::start().await;
    pair.offer("open", "auto", &[]).await;
    let contract = pair.contract("open").await;
    let first = pair.access(&contract, "HttpData-PULL").await;
    assert_eq!(first.pull("format=csv").await.text.lines().count(), 1462);
    let delete = |path: &'static str| operate(&pair.holder, Method::DELETE, path, &Value::Null);
    delete("contractdefinitions/open").await.expect(204);
    assert_eq!(delete("assets/weather").await.status, 409, "a contract is about it");
    pair.holder.post(&format!("contracts/{contract}/revoke"), &json!({ "reason": "over" })).await.expect_ok();
    delete("assets/weather").await.expect(204);

    let table = pair.dir.path().join("other.csv");
    std::fs::write(&table, "day,rain\n1,2\n").expect("the table can be written");
    let address = json!({ "type": "File", "location": table.display().to_string(), "tableName": "other" });
    let asset = json!({ "@id": "weather", "properties": { "name": "Other" }, "dataAddress": address });
    post(&pair.holder, "assets", &asset).await.expect_ok();
    let all = json!({ "@id": "again", "accessPolicyId": "open", "contractPolicyId": "open", "assetsSelector": [] });
    post(&pair.holder, "contractdefinitions", &all).await.expect_ok();
    let contract = pair.contract("again:weather").await;
    let second = pair.access(&contract, "HttpData-PULL").await;
    assert_eq!(second.pull("format=csv").await.text, "day,rain\n1,2\n");
    assert_ne!(first.pull("format=csv").await.status, 200);
}
