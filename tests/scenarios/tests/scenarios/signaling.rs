//! Data Plane Signaling: our data plane under a foreign control plane, and foreign data planes under ours.

use std::path::Path;
use std::process::Stdio;

use futures::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use shuyu_scenarios::node::http;
use shuyu_scenarios::rogue::urn;
use shuyu_scenarios::space::{Access, add_weather, policy, text};
use shuyu_scenarios::{Answer, Mood, Node, Plane, Rogue, Wish, constraint, eventually};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};

use crate::management::{key, operate, v3};
use crate::sql;

const HTTP_PULL: &str = "https://w3id.org/dspace-sig/profile/http-pull";
/// More rows than anybody reads in a test.
const ENDLESS: &str = "SELECT a.* FROM weather a CROSS JOIN weather b CROSS JOIN weather c";

async fn signaling(node: &Node, key: &str, method: Method, path: &str, body: &Value) -> Answer {
    let mut request = http().request(method, format!("{}/signaling/{path}", node.management)).bearer_auth(key);
    if !body.is_null() {
        request = request.json(body);
    }
    Answer::of(request).await
}

/// A foreign control plane: its key, and the consumer that it has an agreement with.
struct ControlPlane<'a> {
    node: &'a Node,
    key: String,
    consumer: String,
}

impl ControlPlane<'_> {
    fn start_message(&self, agreement: &str, profile: &str) -> Value {
        json!({
            "messageId": urn(), "participantId": self.node.did, "counterPartyId": self.consumer,
            "dataspaceContext": "city", "processId": urn(), "agreementId": agreement, "datasetId": "weather",
            "profile": profile, "claims": {},
        })
    }

    async fn send(&self, path: &str, body: &Value) -> Answer {
        signaling(self.node, &self.key, Method::POST, &format!("dataflows/{path}"), body).await
    }

    /// Starts a flow: its id, and what a consumer gets.
    async fn start(&self, agreement: &str, profile: &str) -> (String, Access) {
        let status = self.send("start", &self.start_message(agreement, profile)).await.expect(200);
        assert_eq!(status["state"], "STARTED");
        (text(&status["dataFlowId"]), access(&status))
    }

    async fn signal(&self, flow: &str, word: &str) -> Answer {
        self.send(&format!("{flow}/{word}"), &json!({ "messageId": urn(), "reason": "maintenance" })).await
    }

    async fn state(&self, flow: &str) -> String {
        let path = format!("dataflows/{flow}/status");
        text(&signaling(self.node, &self.key, Method::GET, &path, &Value::Null).await.expect(200)["state"])
    }

    async fn register(&self, id: &str, terms: &Value) -> Answer {
        let body = json!({ "@id": id, "assetId": "weather", "consumerId": self.consumer, "policy": terms });
        v3(self.node, &self.key, Method::POST, "contractagreements", &body).await
    }
}

/// What a data address says.
fn access(status: &Value) -> Access {
    let address = &status["dataAddress"];
    let properties = address["endpointProperties"].as_array().expect("an address has properties");
    let property = |name: &str| {
        let found = properties.iter().find(|property| property["name"] == name);
        text(&found.expect("the address has the property")["value"])
    };
    Access {
        transfer: text(&status["dataFlowId"]),
        flight: property("flightEndpoint").replacen("grpc", "http", 1),
        http: property("httpEndpoint"),
        bearer: property("authorization"),
    }
}

async fn download(access: &Access, purpose: &str) -> Answer {
    let request = http().get(format!("{}?format=csv&purpose={purpose}", access.http));
    Answer::of(request.bearer_auth(&access.bearer)).await
}

#[tokio::test]
async fn a_foreign_control_plane_leads_our_data_plane() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start_signaling(Wish { dir: dir.path().join("n"), role: "holder", plan: None }).await;
    add_weather(&node, "weather").await.expect_ok();
    let consumer = Rogue::start().await;
    let plane =
        ControlPlane { node: &node, key: key(&node, "cp", &["control"]).await, consumer: consumer.did.to_string() };
    what_is_not_agreed_on_does_not_start(&plane).await;
    let terms = policy(&[constraint("purpose", "isA", "research")]);
    plane.register("urn:agreement:1", &terms).await.expect(200);
    plane.register("urn:agreement:1", &terms).await.expect(409);
    wrong_messages_are_refused(&plane).await;

    let (flow, pull) = plane.start("urn:agreement:1", HTTP_PULL).await;
    let got = download(&pull, "research").await;
    assert_eq!((got.status, got.text.lines().count()), (200, 1462), "a heading and every row");
    assert_eq!(download(&pull, "marketing").await.status, 403, "the policy of the agreement decides");
    node.restart().await;
    assert_eq!(plane.state(&flow).await, "STARTED");
    assert_eq!(download(&pull, "research").await.status, 200, "a flow outlives a restart");
    renewal(&plane, &consumer, &flow, &pull).await;

    let (flight, access) = plane.start("urn:agreement:1", "FlightSql").await;
    let found = sql::query(&access, Some("research"), "SELECT * FROM weather").await.expect("the agreement allows it");
    assert_eq!(sql::rows(&found), 1461);
    let resumed = suspended_and_resumed(&plane, &flight, &access).await;
    plane.signal(&flight, "terminate").await.expect(200);
    plane.signal(&flight, "terminate").await.expect(200);
    assert_eq!(plane.state(&flight).await, "TERMINATED");
    plane.signal(&flight, "resume").await.expect(409);
    sql::query(&resumed, Some("research"), "SELECT 1 FROM weather").await.expect_err("the flow is terminated");

    let (done, pull) = plane.start("urn:agreement:1", HTTP_PULL).await;
    // As the specification has it, without a body.
    signaling(&node, &plane.key, Method::POST, &format!("dataflows/{done}/completed"), &Value::Null).await.expect(200);
    assert_eq!(plane.state(&done).await, "COMPLETED");
    assert!(matches!(download(&pull, "research").await.status, 401 | 410));

    let (last, pull) = plane.start("urn:agreement:1", HTTP_PULL).await;
    node.cli_ok(&["contract", "revoke", "urn:agreement:1", "--reason", "licence withdrawn"]).await;
    assert!(matches!(download(&pull, "research").await.status, 401 | 410));
    assert_eq!(plane.state(&last).await, "TERMINATED");
    let late = plane.send("start", &plane.start_message("urn:agreement:1", HTTP_PULL)).await.expect(400);
    assert!(late.to_string().contains("has ended"), "{late}");
    let wanted = [
        "contract.registered",
        "flow.started",
        "use.permitted",
        "use.served",
        "use.refused",
        "flow.suspended",
        "flow.terminated",
        "flow.completed",
        "contract.revoked",
    ];
    eventually("everything is evident", || async {
        let statements = node.statements().await;
        wanted.iter().all(|kind| statements.iter().any(|statement| statement["kind"] == *kind)).then_some(())
    })
    .await;
}

async fn what_is_not_agreed_on_does_not_start(plane: &ControlPlane<'_>) {
    let refused = plane.send("start", &plane.start_message("urn:agreement:1", HTTP_PULL)).await.expect(400);
    assert!(refused.to_string().contains("agreementId"), "{refused}");
    let strange = json!({
        "@context": "http://www.w3.org/ns/odrl.jsonld", "@id": urn(), "@type": "Set",
        "profile": "https://w3id.org/shuyu/profile/1",
        "permission": [{ "action": "use", "constraint": [constraint("moonPhase", "eq", "full")] }],
    });
    let refused = plane.register("urn:agreement:2", &strange).await.expect(400);
    assert!(refused.to_string().contains("moonPhase"), "{refused}");
    for (key, status) in
        [("shuyu_00000000000000000000000000000000", 401), (&key(plane.node, "u", &["consumer"]).await, 403)]
    {
        signaling(plane.node, key, Method::POST, "dataflows/start", &json!({})).await.expect(status);
        signaling(plane.node, key, Method::POST, "transfers/x/dataflow/started", &json!({})).await.expect(status);
    }
}

async fn wrong_messages_are_refused(plane: &ControlPlane<'_>) {
    let good = plane.start_message("urn:agreement:1", HTTP_PULL);
    let check = async |change: &dyn Fn(&mut Value), field: &str| {
        let mut message = good.clone();
        change(&mut message);
        let refused = plane.send("start", &message).await.expect(400);
        assert!(refused["detail"].as_str().unwrap_or_default().contains(field), "{field}: {refused}");
    };
    check(&|message| message["counterPartyId"] = "did:web:else.example".into(), "counterPartyId").await;
    check(&|message| message["participantId"] = "did:web:else.example".into(), "participantId").await;
    check(&|message| message["datasetId"] = "rain".into(), "datasetId").await;
    check(&|message| message["profile"] = "Kafka".into(), "profile").await;
    check(&|message| message["messageId"] = Value::Null, "messageId").await;
    check(&|message| message["dataAddress"] = json!({ "endpointType": "x", "endpoint": "y" }), "dataAddress").await;
    check(&|message| message["agreementId"] = "x".repeat(600).into(), "agreementId").await;
    let (flow, _) = plane.start("urn:agreement:1", HTTP_PULL).await;
    // Another control plane knows neither the agreement nor the flow.
    let other = key(plane.node, "other", &["control"]).await;
    signaling(plane.node, &other, Method::POST, "dataflows/start", &good).await.expect(400);
    signaling(plane.node, &other, Method::POST, &format!("dataflows/{flow}/terminate"), &json!({})).await.expect(404);
    let mut again = good.clone();
    again["processId"] = "p-1".into();
    plane.send("start", &again).await.expect(200);
    plane.send("start", &again).await.expect(409);
    plane.signal("flow-none", "suspend").await.expect(404);
    plane.signal(&flow, "dance").await.expect(404);
    plane.signal(&flow, "started").await.expect(200);
    plane.signal(&flow, "resume").await.expect(200);
}

/// A consumer renews its token with its own key; nobody else can.
async fn renewal(plane: &ControlPlane<'_>, consumer: &Rogue, flow: &str, pull: &Access) {
    let renew = async |who: &Rogue| {
        let token = who.token(&shuyu_scenarios::rogue::Token::good(&plane.node.did));
        let request = http().post(format!("{}/access/{flow}", plane.node.public)).bearer_auth(token).json(&json!({}));
        Answer::of(request).await
    };
    assert_eq!(renew(&Rogue::start().await).await.status, 404);
    let renewed = renew(consumer).await.expect(200);
    let newer = Access { bearer: text(&renewed["bearer"]), ..pull.clone() };
    assert_eq!(download(&newer, "research").await.status, 200);
    assert_eq!(download(pull, "research").await.status, 401, "the use of a newer token ends the older one");
}

/// A running stream ends, the token is dead, and a resumed flow has another.
async fn suspended_and_resumed(plane: &ControlPlane<'_>, flow: &str, access: &Access) -> Access {
    let mut client = sql::connect(access, Some("research")).await;
    let info = client.execute(ENDLESS.to_owned(), None).await.expect("the agreement allows it");
    let mut stream = client.do_get(sql::ticket(&info)).await.expect("the agreement allows it");
    for _ in 0..5 {
        stream.next().await.expect("it has no end").expect("the flow is started");
    }
    plane.signal(flow, "suspend").await.expect(200);
    let reason = loop {
        match stream.next().await.expect("it does not end as if all were sent") {
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(reason.contains("maintenance"), "{reason}");
    assert_eq!(plane.state(flow).await, "SUSPENDED");
    sql::query(access, Some("research"), "SELECT 1 FROM weather").await.expect_err("the flow is suspended");
    let resumed = self::access(&plane.signal(flow, "resume").await.expect(200));
    sql::query(access, Some("research"), "SELECT 1 FROM weather").await.expect_err("the old token is dead");
    sql::query(&resumed, Some("research"), "SELECT 1 FROM weather").await.expect("the flow goes on");
    resumed
}

#[tokio::test]
async fn signaling_is_off_unless_it_is_wanted() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start(Wish { dir: dir.path().join("n"), role: "holder", plan: None }).await;
    let operator = std::fs::read_to_string(node.dir.join("management.key")).expect("init makes a key");
    signaling(&node, operator.trim(), Method::POST, "dataflows/start", &json!({})).await.expect(404);
    let body = json!({ "dataplaneId": "p", "endpoint": "http://localhost:1", "profiles": [HTTP_PULL] });
    operate(&node, Method::PUT, "dataplanes", &body).await.expect(409);
}

#[tokio::test]
async fn a_consumers_data_plane_is_ours_too() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let node = Node::start_signaling(Wish { dir: dir.path().join("n"), role: "consumer", plan: None }).await;
    let plane = ControlPlane {
        node: &node,
        key: key(&node, "cp", &["control"]).await,
        consumer: "did:web:provider.example".to_owned(),
    };
    let prepared = plane.send("prepare", &plane.start_message("urn:agreement:1", HTTP_PULL)).await.expect(200);
    assert_eq!((&prepared["state"], &prepared["dataAddress"]), (&json!("PREPARED"), &Value::Null));
    let flow = text(&prepared["dataFlowId"]);
    let path = format!("dataflows/{flow}/dataaddress");
    operate(&node, Method::GET, &path, &Value::Null).await.expect(409);
    let address = json!({
        "endpointType": HTTP_PULL, "endpoint": "https://provider.example/data",
        "endpointProperties": [{ "name": "authorization", "value": "t" }],
    });
    let started = json!({ "messageId": urn(), "dataAddress": address });
    plane.send(&format!("{flow}/started"), &started).await.expect(200);
    let given = operate(&node, Method::GET, &path, &Value::Null).await.expect(200);
    assert_eq!(given["endpoint"], "https://provider.example/data");
    plane.signal(&flow, "suspend").await.expect(200);
    operate(&node, Method::GET, &path, &Value::Null).await.expect(409);
    plane.signal(&flow, "resume").await.expect(200);
    plane.signal(&flow, "terminate").await.expect(200);
    assert_eq!(plane.state(&flow).await, "TERMINATED");
}

/// A data plane of `dataplane-sdk`, as a process; killed when dropped.
struct Foreign {
    endpoint: String,
    root: String,
    _process: tokio::process::Child,
}

impl Foreign {
    async fn start(callback: &str, key: &str) -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../conformance/foreign-plane");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("foreign-plane");
        let built = tokio::process::Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--manifest-path"])
            .arg(project.join("Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .output()
            .await
            .expect("cargo can be started");
        assert!(built.status.success(), "it cannot be built: {}", String::from_utf8_lossy(&built.stderr));
        let mut process = tokio::process::Command::new(target.join("debug/foreign-plane"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the data plane can be started");
        let mut stdin = process.stdin.take().expect("it has an input");
        let wish = json!({ "callback": callback, "key": key });
        stdin.write_all(format!("{wish}\n").as_bytes()).await.expect("it reads");
        let mut lines = tokio::io::BufReader::new(process.stdout.take().expect("it has an output")).lines();
        let line = lines.next_line().await.expect("it writes").expect("a line");
        let said: Value = serde_json::from_str(&line).expect("a line of JSON");
        Self { endpoint: text(&said["endpoint"]), root: text(&said["root"]), _process: process }
    }

    async fn state(&self, flow: &str) -> String {
        let answer = Answer::of(http().get(format!("{}/dataflows/{flow}/status", self.endpoint))).await;
        answer.body["state"].as_str().unwrap_or_default().to_owned()
    }
}

/// A holder whose assets a foreign data plane serves, and a consumer.
struct Pair {
    holder: Node,
    consumer: Node,
    _dir: tempfile::TempDir,
}

impl Pair {
    async fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let wish = |role| Wish { dir: dir.path().join(role), role, plan: None };
        let (holder, consumer) =
            tokio::join!(Node::start_signaling(wish("holder")), Node::start_signaling(wish("consumer")));
        let terms = json!({ "@id": "open", "policy": policy(&[]) });
        operate(&holder, Method::POST, "policydefinitions", &terms).await.expect(200);
        Self { holder, consumer, _dir: dir }
    }

    async fn register(node: &Node, id: &str, endpoint: &str) {
        let body = json!({ "dataplaneId": id, "endpoint": endpoint, "profiles": [HTTP_PULL] });
        operate(node, Method::PUT, "dataplanes", &body).await.expect(200);
    }

    /// Publishes an asset that `plane` serves, and negotiates it; the agreement.
    async fn agreed(&self, asset: &str, plane: &str, metadata: &Value) -> String {
        let address = json!({ "type": "DataPlane", "dataplaneId": plane, "metadata": metadata });
        let body = json!({ "@id": asset, "properties": { "name": asset }, "dataAddress": address });
        operate(&self.holder, Method::POST, "assets", &body).await.expect(200);
        let selector =
            json!([{ "operandLeft": "https://w3id.org/edc/v0.0.1/ns/id", "operator": "=", "operandRight": asset }]);
        let definition = json!({
            "@id": format!("offer-{asset}"), "accessPolicyId": "open", "contractPolicyId": "open",
            "assetsSelector": selector,
        });
        operate(&self.holder, Method::POST, "contractdefinitions", &definition).await.expect(200);
        let wish = json!({ "provider": self.holder.did, "dataset": asset, "offer": format!("offer-{asset}") });
        let id = text(&self.consumer.post("negotiations", &wish).await.expect_ok()["id"]);
        text(&self.wait("negotiations", &id, "FINALIZED,TERMINATED").await["agreement"])
    }

    async fn wait(&self, collection: &str, id: &str, states: &str) -> Value {
        let found = self.consumer.get(&format!("{collection}/{id}?wait={states}&timeout_s=50")).await.expect_ok();
        assert!(states.split(',').any(|state| found["state"] == state), "{found}");
        found
    }

    async fn request(&self, agreement: &str) -> String {
        let wish = json!({ "agreement": agreement, "format": HTTP_PULL });
        text(&self.consumer.post("transfers", &wish).await.expect_ok()["id"])
    }

    /// The holder's process of the consumer's transfer.
    async fn at_holder(&self, transfer: &str) -> String {
        eventually("the holder has the transfer", || async {
            let rows = self.holder.items("transfers").await;
            rows.into_iter().find(|row| row["consumer_pid"] == transfer).map(|row| text(&row["id"]))
        })
        .await
    }

    /// Where the data is to be had, and with which token.
    async fn address(&self, transfer: &str) -> (String, String) {
        let edr = operate(&self.consumer, Method::GET, &format!("edrs/{transfer}/dataaddress"), &Value::Null).await;
        let edr = edr.expect(200);
        assert_eq!(edr["endpointType"], HTTP_PULL);
        (text(&edr["endpoint"]), text(&edr["authorization"]))
    }

    async fn flow(node: &Node, transfer: &str) -> Value {
        operate(node, Method::GET, &format!("transferprocesses/{transfer}/dataflow"), &Value::Null).await.expect(200)
    }

    /// Waits until the data plane has acknowledged that the flow is so.
    async fn acknowledged(node: &Node, transfer: &str, state: &str) {
        eventually(&format!("the data plane acknowledges {state}"), || async {
            let flow = Self::flow(node, transfer).await;
            (flow["state"] == state && flow["acknowledged"] == true).then_some(())
        })
        .await;
    }
}

async fn fetch((endpoint, token): &(String, String)) -> u16 {
    Answer::of(http().get(endpoint).bearer_auth(token)).await.status
}

#[tokio::test]
async fn an_unmodified_data_plane_serves_under_our_contracts() {
    let pair = Pair::start().await;
    let callback = format!("{}/signaling", pair.holder.management);
    let its_key = key(&pair.holder, "sdk", &["dataplane"]).await;
    let foreign = Foreign::start(&callback, &its_key).await;
    Pair::register(&pair.holder, "sdk", &foreign.endpoint).await;
    let agreement = pair.agreed("sensors", "sdk", &json!({ "table": "t" })).await;
    let found = pair.consumer.cli_ok(&["catalog", "search", &pair.holder.did, "sensors", "--output", "json"]).await;
    assert!(found.contains("sensors"), "{found}");
    let refused = json!({ "agreement": agreement, "format": "FlightSql" });
    let refused = text(&pair.consumer.post("transfers", &refused).await.expect_ok()["id"]);

    let transfer = pair.request(&agreement).await;
    pair.wait("transfers", &transfer, "STARTED").await;
    let address = pair.address(&transfer).await;
    assert_eq!(fetch(&address).await, 200);
    let wrong = operate(&pair.consumer, Method::GET, &format!("transferprocesses/{refused}/state"), &Value::Null).await;
    assert_ne!(wrong.expect(200)["state"], "STARTED", "only what the data plane serves is handed over");

    let own = pair.at_holder(&transfer).await;
    let say = async |word: &str| {
        operate(&pair.holder, Method::POST, &format!("transferprocesses/{own}/{word}"), &json!({})).await.expect(204);
    };
    say("suspend").await;
    Pair::acknowledged(&pair.holder, &own, "SUSPENDED").await;
    assert_eq!(fetch(&address).await, 410);
    pair.wait("transfers", &transfer, "SUSPENDED").await;
    say("resume").await;
    pair.wait("transfers", &transfer, "STARTED").await;
    assert_eq!(fetch(&address).await, 200);
    let theirs = agreement_of(&pair.holder, &its_key, &own).await;
    assert!(theirs.contains(&agreement), "{theirs}");
    pair.holder.cli_ok(&["contract", "revoke", &agreement, "--reason", "licence withdrawn"]).await;
    Pair::acknowledged(&pair.holder, &own, "TERMINATED").await;
    assert_eq!(fetch(&address).await, 410);
    pair.wait("transfers", &transfer, "TERMINATED").await;
    eventually("what became of the flow is evident", || async {
        let said = pair.holder.statements().await;
        let of_flow = said.iter().filter(|statement| statement["process"] == format!("flow/{own}"));
        let kinds: Vec<String> = of_flow.map(|statement| text(&statement["kind"])).collect();
        (kinds == ["flow.started", "flow.suspended", "flow.started", "flow.terminated"]).then_some(())
    })
    .await;

    // A data plane that takes its time, and that ends a flow by itself.
    let agreement = pair.agreed("slow", "sdk", &json!({ "slow": true })).await;
    let transfer = pair.request(&agreement).await;
    pair.wait("transfers", &transfer, "STARTED").await;
    assert_eq!(fetch(&pair.address(&transfer).await).await, 200);
    let own = pair.at_holder(&transfer).await;
    Answer::of(http().post(format!("{}/finish/{own}", foreign.root))).await.expect(200);
    pair.wait("transfers", &transfer, "COMPLETED").await;
}

/// What a data plane reads of the agreement of a transfer that it serves; another one reads and says nothing.
async fn agreement_of(holder: &Node, its_key: &str, transfer: &str) -> String {
    let stranger = key(holder, "stranger", &["dataplane"]).await;
    let path = format!("transfers/{transfer}/agreement");
    signaling(holder, &stranger, Method::GET, &path, &Value::Null).await.expect(404);
    let told = json!({ "dataFlowId": transfer, "state": "COMPLETED" });
    let place = format!("transfers/{transfer}/dataflow/completed");
    signaling(holder, &stranger, Method::POST, &place, &told).await.expect(404);
    signaling(holder, its_key, Method::GET, &path, &Value::Null).await.expect(200).to_string()
}

#[tokio::test]
async fn a_consumers_transfer_is_taken_by_a_foreign_data_plane() {
    let pair = Pair::start().await;
    let callback = format!("{}/signaling", pair.consumer.management);
    let taking = Foreign::start(&callback, &key(&pair.consumer, "taker", &["dataplane"]).await).await;
    let giving = Plane::start(Mood::Good).await;
    Pair::register(&pair.consumer, "taker", &taking.endpoint).await;
    Pair::register(&pair.holder, "giver", &giving.endpoint).await;
    let agreement = pair.agreed("sensors", "giver", &json!({})).await;
    let wish = json!({
        "contractId": agreement, "transferType": HTTP_PULL, "dataplaneId": "taker", "counterPartyId": pair.holder.did,
    });
    let begun = operate(&pair.consumer, Method::POST, "transferprocesses", &wish).await.expect(200);
    let transfer = text(&begun["@id"]);
    Pair::acknowledged(&pair.consumer, &transfer, "STARTED").await;
    assert_eq!(taking.state(&transfer).await, "STARTED");
    assert_eq!(pair.address(&transfer).await, ("https://plane.example/x".to_owned(), "secret".to_owned()));
    pair.holder.cli_ok(&["contract", "revoke", &agreement, "--reason", "licence withdrawn"]).await;
    Pair::acknowledged(&pair.consumer, &transfer, "TERMINATED").await;
    assert_eq!(taking.state(&transfer).await, "TERMINATED");
    giving.hears("/terminate").await;
}

#[tokio::test]
async fn a_bad_data_plane_is_set_aside_and_stops_nobody() {
    let pair = Pair::start().await;
    let good = Plane::start(Mood::Good).await;
    Pair::register(&pair.holder, "good", &good.endpoint).await;
    let moods = [Mood::Broken, Mood::Garbage, Mood::Refusing, Mood::Silent, Mood::Promising];
    let mut bad = Vec::new();
    for mood in moods {
        let plane = Plane::start(mood).await;
        let id = format!("{mood:?}").to_lowercase();
        Pair::register(&pair.holder, &id, &plane.endpoint).await;
        let agreement = pair.agreed(&id, &id, &json!({})).await;
        bad.push((plane, agreement.clone(), pair.request(&agreement).await));
    }
    let agreement = pair.agreed("good", "good", &json!({})).await;
    let transfer = pair.request(&agreement).await;
    pair.wait("transfers", &transfer, "STARTED").await;
    for (plane, _, transfer) in &bad {
        plane.hears("/start").await;
        let own = pair.at_holder(transfer).await;
        let seen = eventually("the error is visible", || async {
            let flow = Pair::flow(&pair.holder, &own).await;
            (!flow["errorDetail"].is_null() || flow["state"] == "STARTING").then_some(flow)
        })
        .await;
        assert_ne!(seen["state"], "STARTED", "{seen}");
    }
    // What is refused is set aside at once; a person lets it be tried again.
    let (plane, _, refused) = &bad[2];
    let own = pair.at_holder(refused).await;
    let aside = Pair::flow(&pair.holder, &own).await;
    assert!(aside["setAside"] == true && aside["errorDetail"].to_string().contains("not today"), "{aside}");
    plane.becomes(Mood::Good);
    let retry = format!("transferprocesses/{own}/dataflow/retry");
    operate(&pair.holder, Method::POST, &retry, &json!({})).await.expect(200);
    pair.wait("transfers", refused, "STARTED").await;
    // The others recover by themselves, or with a nudge where they were given up meanwhile.
    for (plane, _, transfer) in bad.iter().take(2) {
        plane.becomes(Mood::Good);
        let own = pair.at_holder(transfer).await;
        let retry = format!("transferprocesses/{own}/dataflow/retry");
        operate(&pair.holder, Method::POST, &retry, &json!({})).await.expect(200);
        pair.wait("transfers", transfer, "STARTED").await;
    }
    end_of_a_contract_reaches_a_plane_that_was_down(&pair, &good, &agreement, &transfer).await;
}

/// The end of a contract does not wait for the data plane, and the data plane hears of it, after a restart too.
async fn end_of_a_contract_reaches_a_plane_that_was_down(pair: &Pair, plane: &Plane, agreement: &str, transfer: &str) {
    let own = pair.at_holder(transfer).await;
    plane.becomes(Mood::Broken);
    pair.holder.cli_ok(&["contract", "revoke", agreement, "--reason", "licence withdrawn"]).await;
    pair.wait("transfers", transfer, "TERMINATED").await;
    let waiting = eventually("the data plane has been told in vain", || async {
        let flow = Pair::flow(&pair.holder, &own).await;
        (!flow["errorDetail"].is_null()).then_some(flow)
    })
    .await;
    assert_eq!((&waiting["wantedState"], &waiting["acknowledged"]), (&json!("TERMINATED"), &json!(false)));
    operate(&pair.holder, Method::DELETE, "dataplanes/good", &Value::Null).await.expect(409);
    pair.holder.restart().await;
    plane.becomes(Mood::Good);
    Pair::acknowledged(&pair.holder, &own, "TERMINATED").await;
    operate(&pair.holder, Method::DELETE, "dataplanes/good", &Value::Null).await.expect(204);
}
