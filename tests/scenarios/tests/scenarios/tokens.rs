//! Who is believed: tokens that are forged, expired, too early, replayed or for somebody else.

use serde_json::json;
use shuyu_scenarios::rogue::{CONTEXT, Token, dsp_root, fresh_key, urn};
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Answer, Node, Rogue};

use crate::hostile::{holder, still_serves};

async fn ask_with(rogue: &Rogue, node: &Node, token: &str) -> Answer {
    let request = json!({ "@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": [] });
    rogue.send_with(node, "/catalog/request", request.to_string().into_bytes(), token).await
}

#[tokio::test]
async fn tokens_that_prove_nothing_are_refused() {
    let (_dir, node) = holder().await;
    let (rogue, other) = (Rogue::start().await, Rogue::start().await);
    let good = || Token::good(&node.did);
    let foreign_key = fresh_key();
    let good_token = rogue.token(&good());
    let parts: Vec<&str> = good_token.split('.').collect();
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", parts[1]);
    let altered = format!("{}.{}A.{}", parts[0], parts[1], parts[2]);
    let wrong = [
        ("signed with another key", rogue.token(&Token { key: Some(&foreign_key), ..good() })),
        ("expired", rogue.token(&Token { issued_in_ms: -600_000, ..good() })),
        ("not valid yet", rogue.token(&Token { issued_in_ms: 600_000, ..good() })),
        ("for another audience", rogue.token(&Token::good(other.did.as_str()))),
        ("without a signature", unsigned),
        ("altered", altered),
        ("no token", "abc".to_owned()),
        ("empty", String::new()),
        ("long", "x".repeat(60_000)),
    ];
    for (what, token) in wrong {
        let answer = ask_with(&rogue, &node, &token).await;
        assert!([400, 401, 431].contains(&answer.status), "{what}: {answer:?}");
        let kind = text(&answer.body["@type"]);
        assert!(kind.ends_with("Error") && !answer.body["reason"].is_null(), "{what}: {answer:?}");
        still_serves(&node, &rogue).await;
    }
    let none =
        Answer::of(shuyu_scenarios::node::http().post(format!("{}/catalog/request", dsp_root(&node))).body("{}")).await;
    assert_eq!(none.status, 401, "{none:?}");
}

/// A whole message in the name of another participant.
#[tokio::test]
async fn a_message_in_the_name_of_another_is_refused() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let forged = rogue.token(&Token { key: Some(&fresh_key()), ..Token::good(&node.did) });
    let message = rogue.request_message(&node, "weather", "open", &rogue.root).await.to_string().into_bytes();
    rogue.send_with(&node, "/negotiations/request", message, &forged).await.expect(401);
    assert_eq!(node.items("negotiations").await.len(), 0);
    assert_eq!(node.statements().await.len(), 0);
}

#[tokio::test]
async fn a_token_is_good_once_also_after_a_crash() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let token = rogue.token(&Token { jti: urn(), ..Token::good(&node.did) });
    assert_eq!(ask_with(&rogue, &node, &token).await.status, 200);
    let again = ask_with(&rogue, &node, &token).await;
    assert_eq!(again.status, 401, "{again:?}");
    assert!(again.text.contains("jti"), "the reason names it: {again:?}");
    node.restart().await;
    assert_eq!(ask_with(&rogue, &node, &token).await.status, 401, "kill -9 does not make a token good again");
    still_serves(&node, &rogue).await;
}

/// Of many requests with one token at once, one is served.
#[tokio::test]
async fn a_token_used_by_many_at_once_is_good_once() {
    let (_dir, node) = holder().await;
    let rogue = Rogue::start().await;
    let token = rogue.token(&Token::good(&node.did));
    let tries = (0..32).map(|_| ask_with(&rogue, &node, &token));
    let answers = futures::future::join_all(tries).await;
    let served = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(served, 1, "{:?}", answers.iter().map(|answer| answer.status).collect::<Vec<_>>());
}
