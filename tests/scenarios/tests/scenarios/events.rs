//! What happens, told to web hooks and event streams: each event at least once, in order, whoever else is down.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures::StreamExt as _;
use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::Sha256;
use shuyu_credentials::{DidDocument, jws};
use shuyu_scenarios::node::http;
use shuyu_scenarios::receiver::Delivery;
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Pair, Receiver, eventually};

use crate::management::operate;

const SECRET: &str = "a secret of more than twenty-four bytes";

fn header<'a>(delivery: &'a Delivery, name: &str) -> &'a str {
    delivery.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

#[tokio::test]
async fn hooks_get_every_event_also_after_a_crash_and_a_dead_one_stops_nothing() {
    let pair = Pair::start().await;
    // The first delivery fails, the second attempt is taken.
    let flaky = Receiver::start(|n| if n == 0 { 503 } else { 200 }).await;
    let shared = Receiver::start(|_| 204).await;
    let refusing = Receiver::start(|_| 400).await;
    let gone = Receiver::start(|_| 410).await;
    let hook = |uri: &str, events: Value, secret: Value| json!({ "uri": uri, "events": events, "secret": secret });
    let add = |body: Value| {
        let holder = &pair.holder;
        async move { text(&operate(holder, Method::POST, "webhooks", &body).await.expect_ok()["@id"]) }
    };
    let names = json!(["contract.negotiation", "policy.definition", "contract.definition"]);
    let of_flaky = add(hook(&flaky.url, names.clone(), Value::Null)).await;
    let of_shared = add(hook(&shared.url, json!("contract.negotiation"), json!(SECRET))).await;
    let of_dead = add(hook("http://localhost:1/dead", json!([]), Value::Null)).await;
    add(hook(&refusing.url, json!([]), Value::Null)).await;
    let of_gone = add(hook(&gone.url, json!([]), Value::Null)).await;

    pair.offer("open", "auto", &[]).await;
    let first = pair.contract("open").await;
    let finalized = |receiver: &Receiver| {
        receiver.taken().iter().filter(|(kind, _)| kind == "contract.negotiation.finalized").count()
    };
    eventually("both hear of the first contract", || async {
        (finalized(&flaky) == 1 && finalized(&shared) == 1).then_some(())
    })
    .await;
    let kinds: Vec<String> = flaky.taken().into_iter().map(|(kind, _)| kind).collect();
    let wanted = [
        "policy.definition.created",
        "contract.definition.created",
        "contract.negotiation.requested",
        "contract.negotiation.agreed",
        "contract.negotiation.verified",
        "contract.negotiation.finalized",
    ];
    assert_eq!(kinds, wanted, "in order, once each");
    let tries = flaky.deliveries();
    assert_eq!(tries[0].event["id"], tries[1].event["id"], "an event keeps its id when it is sent again");
    assert_eq!(tries[0].event["specversion"], "1.0");
    assert_eq!(tries[0].event["source"], pair.holder.did);
    assert_eq!(header(&tries[0], "content-type"), "application/cloudevents+json; charset=utf-8");

    check_signature(&pair, &tries[0]).await;
    check_secret(&shared.deliveries()[0]);
    let seen = operate(&pair.holder, Method::GET, &format!("webhooks/{of_shared}"), &Value::Null).await.expect_ok();
    assert!(seen["hasSecret"] == true && !seen.to_string().contains("twenty-four"), "{seen}");
    eventually("the dead one is seen to fail, and the gone one to be gone", || async {
        let of = |id: &str| {
            let path = format!("webhooks/{id}");
            let holder = &pair.holder;
            async move { operate(holder, Method::GET, &path, &Value::Null).await.expect_ok() }
        };
        let (dead, gone) = (of(&of_dead).await, of(&of_gone).await);
        (dead["failures"].as_u64() >= Some(1) && dead["delivered"] == 0 && gone["gone"] == true).then_some(())
    })
    .await;
    assert_eq!(gone.deliveries().len(), 1, "what is gone is not asked again");

    pair.holder.kill();
    let before = shared.taken().len();
    pair.holder.restart().await;
    let second = pair.contract("open").await;
    assert_ne!(first, second);
    eventually("both hear of the second contract", || async {
        (finalized(&flaky) == 2 && finalized(&shared) == 2).then_some(())
    })
    .await;
    let repeated = shared.taken().len() - before;
    assert!((4..=5).contains(&repeated), "at most the last one is told again: {:?}", shared.taken());
    operate(&pair.holder, Method::DELETE, &format!("webhooks/{of_flaky}"), &Value::Null).await.expect(204);
    assert_eq!(operate(&pair.holder, Method::GET, &format!("webhooks/{of_flaky}"), &Value::Null).await.status, 404);
}

/// The signature of the node, which anyone can check with its DID document.
async fn check_signature(pair: &Pair, delivery: &Delivery) {
    let did_json = http().get(format!("{}/.well-known/did.json", pair.holder.public)).send().await;
    let document = did_json.expect("an answer").bytes().await.expect("a body");
    let did = pair.holder.did.parse().expect("a DID");
    let document = DidDocument::parse(&document, &did).expect("a DID document");
    let detached = header(delivery, "shuyu-signature");
    let whole = detached.replace("..", &format!(".{}.", URL_SAFE_NO_PAD.encode(&delivery.bytes)));
    let verified = jws::verify(&whole, |kid| document.method(kid).map(|method| method.key.clone()));
    let verified = verified.expect("the signature holds");
    assert_eq!(verified.typ.as_deref(), Some("shuyu-event+jws"));
    assert_eq!(verified.payload, delivery.bytes);
}

fn check_secret(delivery: &Delivery) {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("every key will do");
    for part in [header(delivery, "webhook-id"), ".", header(delivery, "webhook-timestamp"), "."] {
        mac.update(part.as_bytes());
    }
    mac.update(&delivery.bytes);
    let wanted = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header(delivery, "webhook-signature"), wanted);
    assert!(header(delivery, "shuyu-signature").is_empty());
}

#[tokio::test]
async fn a_stream_of_events_goes_on_where_it_broke_off() {
    let pair = Pair::start().await;
    let key = std::fs::read_to_string(pair.holder.dir.join("management.key")).expect("init makes a key");
    let open = |last: Option<String>| {
        let request = http().get(format!("{}/v3/events?type=contract", pair.holder.management));
        let request = request.header("x-api-key", key.trim());
        match last {
            Some(last) => request.header("last-event-id", last),
            None => request,
        }
    };
    let until = async |request: reqwest::RequestBuilder, wanted: &str| -> Vec<Value> {
        let mut bytes = request.send().await.expect("an answer").bytes_stream();
        let (mut text, mut events) = (String::new(), Vec::new());
        while let Some(chunk) = bytes.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.expect("the stream goes on")));
            while let Some((block, rest)) = text.clone().split_once("\n\n") {
                text = rest.to_owned();
                let data = block.lines().find_map(|line| line.strip_prefix("data: "));
                events.extend(data.map(|data| serde_json::from_str::<Value>(data).expect("a CloudEvent")));
                if events.last().is_some_and(|event| event["type"] == wanted) {
                    return events;
                }
            }
        }
        panic!("the stream ended without {wanted}: {events:?}");
    };
    let listening = open(Some("0".to_owned()));
    let (_, heard) = tokio::join!(
        async {
            pair.offer("open", "auto", &[]).await;
            pair.contract("open").await
        },
        until(listening, "contract.negotiation.agreed"),
    );
    let last = text(&heard.last().expect("an event")["sequence"]);
    let rest = until(open(Some(last.clone())), "contract.negotiation.finalized").await;
    let kinds: Vec<&str> = rest.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds, ["contract.negotiation.verified", "contract.negotiation.finalized"]);
    let contract = text(&pair.consumer.items("contracts").await[0]["id"]);
    let access = pair.access(&contract, "HttpData-PULL").await;
    assert_eq!(access.pull("format=csv").await.status, 200);
    let uses = until(open(Some(last)), "contract.use.served").await;
    assert!(uses.iter().any(|event| event["type"] == "contract.use.permitted"), "{uses:?}");
    assert!(!json!(uses).to_string().contains(&access.bearer), "no token is told");
}
