//! Credentials: a space lets in who can show what it asks for, and nobody else.

use serde_json::{Value, json};
use shuyu_scenarios::node::run;
use shuyu_scenarios::rogue::{CONTEXT, Token, urn};
use shuyu_scenarios::space::text;
use shuyu_scenarios::{Answer, Node, Rogue, Wish, eventually};
use tempfile::TempDir;

/// Nodes of one space.
struct Space {
    issuer: Node,
    holder: Node,
    consumer: Node,
    _dir: TempDir,
}

/// The description that the operator publishes is all that a new member needs.
#[tokio::test]
async fn a_member_joins_by_the_description_of_the_space() {
    let dir = TempDir::new().expect("a directory can be made");
    let path = |name: &str| dir.path().join(name).display().to_string();
    let good = "name = 'City'\n[[require]]\ntype = 'MembershipCredential'\nissuers = ['did:web:city.example']\n";
    for (name, text, code) in [("good", good.to_owned(), 0), ("bad", good.replace("did:web:", ""), 3)] {
        std::fs::write(path(&format!("{name}.toml")), text).expect("a file can be written");
        let space = path(&format!("{name}.toml"));
        let wish = ["--name", "n", "--did", "did:web:localhost%3A7101", "--role", "holder", "--insecure-loopback"];
        let ran = run(&[&["init", &path(name), "--space", &space], wish.as_slice()].concat()).await;
        assert_eq!(ran.code, code, "{}", ran.err);
    }
    let config = std::fs::read_to_string(path("good/shuyu.toml")).expect("a node has a configuration");
    assert!(config.contains("[[spaces.require]]") && config.contains("did:web:city.example"), "{config}");
}

async fn made(dir: &TempDir, role: &str) -> Node {
    Node::init(Wish { dir: dir.path().join(role), role, plan: None }).await
}

/// Makes a node a member of a space whose members have a membership of `issuer`.
fn join(node: &Node, issuer: &str) {
    let path = node.dir.join("shuyu.toml");
    let config = std::fs::read_to_string(&path).expect("a node has a configuration");
    let space = format!(
        "{config}\n[space]\nname = \"city\"\n[[space.require]]\ntype = \"MembershipCredential\"\nissuers = [\"{issuer}\"]\n"
    );
    std::fs::write(&path, space).expect("the configuration can be written");
}

async fn started(node: &Node) {
    node.spawn();
    node.ready().await;
}

impl Space {
    async fn start() -> Self {
        let dir = TempDir::new().expect("a directory can be made");
        let (issuer, holder, consumer) =
            (made(&dir, "issuer").await, made(&dir, "holder").await, made(&dir, "consumer").await);
        for node in [&holder, &consumer] {
            join(node, &issuer.did);
        }
        for node in [&issuer, &holder, &consumer] {
            started(node).await;
        }
        Self { issuer, holder, consumer, _dir: dir }
    }

    /// What the consumer's owner sees of the holder's catalogue.
    async fn catalogue(&self) -> shuyu_scenarios::Ran {
        self.consumer.cli(&["catalog", "list", &self.holder.did]).await
    }

    /// The consumer asks for a membership, the operator issues it; its id at the issuer.
    async fn admit(&self, profile: &str) -> String {
        let wish = [
            "credential",
            "request",
            "--issuer",
            &self.issuer.did,
            "--type",
            "MembershipCredential",
            "--profile",
            profile,
        ];
        self.consumer.cli_ok(&wish).await;
        let requests = self.issuer.items("issuer/requests").await;
        let open = requests.iter().find(|row| row["state"] == "received").expect("the request arrived").clone();
        assert_eq!(text(&open["holder"]), self.consumer.did);
        self.issuer.cli_ok(&["issuer", "issue", &text(&open["id"])]).await;
        eventually("the credential is delivered", || async {
            let held = self.consumer.items("credentials").await;
            held.iter().any(|row| row["profile"] == profile).then_some(())
        })
        .await;
        let issued = self.issuer.items("issuer/credentials").await;
        text(&issued.iter().find(|row| row["request"] == open["id"]).expect("it was issued")["id"])
    }
}

/// Issue, present, revoke: in both profiles, from the command line.
#[tokio::test]
async fn a_space_lets_in_who_holds_its_credential_until_it_is_revoked() {
    let space = Space::start().await;
    space.issuer.cli_ok(&["issuer", "define", "membership", "--type", "MembershipCredential"]).await;
    let refused = space.catalogue().await;
    assert_ne!(refused.code, 0);
    assert!(
        refused.err.contains("no valid `MembershipCredential` of a trusted issuer was presented"),
        "{}",
        refused.err
    );
    let mut issued = Vec::new();
    for profile in ["vc11-sl2021/jwt", "vc20-bssl/jwt"] {
        issued.push(space.admit(profile).await);
        let seen = space.catalogue().await;
        assert_eq!(seen.code, 0, "{profile}: {}", seen.err);
    }
    let requests = space.consumer.items("credential-requests").await;
    assert!(requests.iter().all(|row| row["state"] == "issued"), "{requests:?}");
    for id in &issued {
        space.issuer.cli_ok(&["issuer", "revoke", id, "--reason", "left the space"]).await;
    }
    // What the holder remembers it forgets within minutes; a restart forgets it at once.
    space.holder.restart().await;
    let refused = space.catalogue().await;
    assert_ne!(refused.code, 0);
    assert!(refused.err.contains("`MembershipCredential` has status `revocation`"), "{}", refused.err);
    // An issuer that cannot be asked: nobody is believed.
    space.issuer.kill();
    space.holder.restart().await;
    let refused = space.catalogue().await;
    assert!(refused.code != 0 && refused.err.contains("cannot be had"), "{}", refused.err);
}

/// An offer waits for the owner; what nobody asked for is not taken.
#[tokio::test]
async fn credentials_come_only_when_they_were_asked_for() {
    let space = Space::start().await;
    space.issuer.cli_ok(&["issuer", "define", "role", "--type", "RoleCredential", "--approve", "auto"]).await;
    space.issuer.cli_ok(&["issuer", "offer", "role", "--to", &space.consumer.did]).await;
    let offers = space.consumer.items("credential-offers").await;
    assert_eq!(offers.len(), 2, "{offers:?}");
    assert_eq!(space.consumer.items("credentials").await.len(), 0);
    space.consumer.cli_ok(&["credential", "offers", "--accept", "role.vc20", "--issuer", &space.issuer.did]).await;
    let held = eventually("the credential is delivered", || async {
        let held = space.consumer.items("credentials").await;
        held.first().cloned()
    })
    .await;
    assert_eq!(held["types"], json!(["RoleCredential"]));

    let rogue = Rogue::start().await;
    let token = || rogue.token(&Token::good(&space.consumer.did));
    let own = text(&held["request"]);
    for (pid, status) in [(urn(), 404), (own, 404)] {
        let answer = deliver(&space.consumer, &token(), &pid).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    let elsewhere = rogue.token(&Token::good(&space.holder.did));
    assert_eq!(deliver(&space.consumer, &elsewhere, &urn()).await.status, 401);
    let request = text(&space.consumer.items("credential-requests").await[0]["id"]);
    space.consumer.cli_ok(&["credential", "revoke", &text(&held["id"])]).await;
    space.consumer.cli_ok(&["credential", "requests", "--close", &request]).await;
    assert_eq!(space.consumer.items("credentials").await.len(), 0);
}

/// Strangers may offer; what they offer waits within bounds, and in nobody else's name.
#[tokio::test]
async fn offers_of_strangers_fill_nothing() {
    let dir = TempDir::new().expect("a directory can be made");
    let node = made(&dir, "consumer").await;
    started(&node).await;
    let rogue = Rogue::start().await;
    let offer = async |issuer: &str, from: usize| {
        let credentials: Vec<Value> = (from..from + 20).map(|n| json!({"id": format!("c{n:03}")})).collect();
        let message = json!({
            "@context": ["https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"], "type": "CredentialOfferMessage",
            "issuer": issuer, "credentials": credentials,
        });
        let token = rogue.token(&Token::good(&node.did));
        let url = format!("{}/dcp/offers", node.public);
        Answer::of(shuyu_scenarios::node::http().post(url).bearer_auth(token).json(&message)).await
    };
    assert_eq!(offer("did:web:other.example", 0).await.status, 403);
    for from in [0, 20, 40, 60] {
        assert_eq!(offer(rogue.did.as_str(), from).await.status, 200);
    }
    let waiting = node.items("credential-offers").await;
    let ids: Vec<String> = waiting.iter().map(|offer| text(&offer["id"])).collect();
    assert_eq!(ids.len(), 32, "{ids:?}");
    assert!(ids.contains(&"c079".to_owned()) && !ids.contains(&"c000".to_owned()), "{ids:?}");
}

/// What was signed reaches the holder though its node is down and the issuer's is restarted in between.
#[tokio::test]
async fn a_delivery_outlives_both_nodes() {
    let space = Space::start().await;
    space.issuer.cli_ok(&["issuer", "define", "membership", "--type", "MembershipCredential"]).await;
    let wish = ["credential", "request", "--issuer", &space.issuer.did, "--type", "MembershipCredential"];
    space.consumer.cli_ok(&wish).await;
    let request = text(&space.issuer.items("issuer/requests").await[0]["id"]);
    space.consumer.kill();
    space.issuer.cli_ok(&["issuer", "issue", &request]).await;
    eventually("a delivery fails", || async {
        let requests = space.issuer.items("issuer/requests").await;
        (!requests[0]["delivery"]["error"].is_null()).then_some(())
    })
    .await;
    space.issuer.restart().await;
    let again = space.issuer.cli(&["issuer", "issue", &request]).await;
    assert!(again.code != 0 && again.err.contains("is decided"), "{}", again.err);
    started(&space.consumer).await;
    eventually("the credential is delivered", || async {
        (space.consumer.items("credentials").await.len() == 1).then_some(())
    })
    .await;
    eventually("the issuer knows", || async {
        (space.issuer.items("issuer/requests").await[0]["state"] == "issued").then_some(())
    })
    .await;
    assert_eq!(space.issuer.items("issuer/credentials").await.len(), 1);
}

async fn deliver(to: &Node, token: &str, pid: &str) -> Answer {
    let message = json!({
        "@context": ["https://w3id.org/dspace-dcp/v1.0/dcp.jsonld"], "type": "CredentialMessage", "issuerPid": "1",
        "holderPid": pid, "status": "ISSUED",
        "credentials": [{"credentialType": "RoleCredential", "format": "vc20-bssl/jwt", "payload": "a.b.c"}],
    });
    let url = format!("{}/dcp/credentials", to.public);
    Answer::of(shuyu_scenarios::node::http().post(url).bearer_auth(token).json(&message)).await
}

/// Whoever asks to be let in names where we fetch: no such address reaches into the network or fills the memory.
#[tokio::test]
async fn a_caller_cannot_send_the_node_where_it_wants() {
    let dir = TempDir::new().expect("a directory can be made");
    let node = made(&dir, "holder").await;
    join(&node, "did:web:issuer.example");
    started(&node).await;
    let large = serve(axum::Router::new().fallback(|| async { vec![b' '; 10 << 20] })).await;
    let away = axum::response::Redirect::temporary("http://127.0.0.1:1/");
    let redirect = serve(axum::Router::new().fallback(move || std::future::ready(away.clone()))).await;
    let catalogue = json!({ "@context": [CONTEXT], "@type": "CatalogRequestMessage", "filter": [] }).to_string();
    for (endpoint, access, status, reason) in [
        (None, None, 401, "carries no access token"),
        (None, Some("x".repeat(20_000)), 401, "longer than"),
        (None, Some("a".to_owned()), 403, "has no service of type `CredentialService`"),
        (Some("http://169.254.169.254/cs".to_owned()), Some("a".to_owned()), 403, "may not be called"),
        (Some("https://10.0.0.1/cs".to_owned()), Some("a".to_owned()), 403, "may not be called"),
        (Some(large), Some("a".to_owned()), 403, "answered with more than"),
        (Some(redirect), Some("a".to_owned()), 403, "answered 307"),
        (Some("http://localhost:{port}/cs".to_owned()), Some("a".to_owned()), 403, "answered badly"),
    ] {
        let rogue = Rogue::with_service(endpoint.as_deref()).await;
        let token = rogue.token(&Token { access: access.as_deref(), ..Token::good(&node.did) });
        let answer = rogue.send_with(&node, "/catalog/request", catalogue.clone().into_bytes(), &token).await;
        assert_eq!(answer.status, status, "{endpoint:?}: {answer:?}");
        let said = answer.body["reason"][0].as_str().unwrap_or_default();
        assert!(said.contains(reason), "{endpoint:?}: {said}");
    }
}

async fn serve(router: axum::Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("a bound socket has an address").port();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://localhost:{port}/cs")
}

/// The token endpoint: a program's secret, and nothing else, gets a token for one audience.
#[tokio::test]
async fn a_program_gets_tokens_with_its_own_secret() {
    let dir = TempDir::new().expect("a directory can be made");
    let node = made(&dir, "consumer").await;
    started(&node).await;
    let secret = node.cli_ok(&["credential", "client", "crawler"]).await;
    let scope = "org.eclipse.dspace.dcp.vc.type:MembershipCredential:read";
    let good = [
        ("grant_type", "client_credentials"),
        ("client_id", "crawler"),
        ("client_secret", secret.as_str()),
        ("audience", "did:web:v.example"),
        ("bearer_access_scope", scope),
    ];
    let ask = |form: Vec<(&str, &str)>| {
        let body: Vec<String> =
            form.iter().map(|(name, value)| format!("{name}={}", value.replace(':', "%3A"))).collect();
        let request = shuyu_scenarios::node::http().post(format!("{}/sts/token", node.management));
        Answer::of(request.header("content-type", "application/x-www-form-urlencoded").body(body.join("&")))
    };
    let token = ask(good.to_vec()).await.expect_ok();
    assert_eq!((token["token_type"].as_str(), token["expires_in"].as_u64()), (Some("Bearer"), Some(120)));
    let payload =
        shuyu_credentials::jws::peek(token["access_token"].as_str().unwrap_or_default()).expect("a JWT").payload;
    let claims: Value = serde_json::from_slice(&payload).expect("JSON");
    assert!(claims["aud"] == "did:web:v.example" && claims["token"].is_string(), "{claims}");
    for (at, value, status, error) in [
        (0, "password", 400, "unsupported_grant_type"),
        (1, "nobody", 401, "invalid_client"),
        (2, "wrong", 401, "invalid_client"),
        (3, "nobody", 400, "invalid_request"),
        (4, "everything", 400, "invalid_scope"),
    ] {
        let mut form = good.to_vec();
        form[at].1 = value;
        let answer = ask(form).await;
        assert_eq!((answer.status, answer.body["error"].as_str()), (status, Some(error)), "{answer:?}");
    }
    node.cli_ok(&["credential", "client", "crawler", "--remove"]).await;
    assert_eq!(ask(good.to_vec()).await.status, 401);
}
