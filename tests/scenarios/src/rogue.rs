//! A participant of our own: it has a did:web that we serve, and says whatever a test wants.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Value, json};
use shuyu_base::{Did, SecretKey, Suite};
use shuyu_credentials::{DidDocument, Relationship, Succession, token};

use crate::clock;
use crate::node::{Answer, Node, eventually, http};

/// The context that every message names.
pub const CONTEXT: &str = "https://w3id.org/dspace/2025/1/context.jsonld";

/// What a node sent us: path and body.
type Heard = Arc<Mutex<Vec<(String, Value)>>>;

/// A participant whose requests are made by hand.
pub struct Rogue {
    /// Its DID.
    pub did: Did,
    /// The root of its own server; every POST there is answered 200 and kept.
    pub root: String,
    key: SecretKey,
    /// Fragment of the key in the document.
    fragment: String,
    document: Arc<Mutex<DidDocument>>,
    http: reqwest::Client,
    heard: Heard,
    server: tokio::task::JoinHandle<()>,
}

/// A token that may be wrong in any way.
pub struct Token<'a> {
    /// Who shall believe it.
    pub audience: &'a str,
    /// The key it is signed with, if not our own.
    pub key: Option<&'a SecretKey>,
    /// Its identifier.
    pub jti: String,
    /// Time of issue relative to now, in milliseconds.
    pub issued_in_ms: i64,
    /// Its access token (DCP 1.0, section 4.3.1).
    pub access: Option<&'a str>,
}

impl<'a> Token<'a> {
    /// A good token for `audience`.
    pub fn good(audience: &'a str) -> Self {
        Self { audience, key: None, jti: uuid::Uuid::new_v4().to_string(), issued_in_ms: 0, access: None }
    }
}

/// A fresh Ed25519 key.
pub fn fresh_key() -> SecretKey {
    let half = || uuid::Uuid::new_v4().into_bytes();
    let seed: [u8; 32] = [half(), half()].concat().try_into().expect("two halves are 32 bytes");
    SecretKey::from_seed(Suite::Ed25519, &seed).expect("every seed is an Ed25519 key")
}

impl Rogue {
    /// Serves a fresh did:web on loopback.
    pub async fn start() -> Self {
        Self::start_as("", None).await
    }

    /// The same, with `answer` as the body of every 200.
    pub async fn start_answering(answer: &'static str) -> Self {
        Self::start_as(answer, None).await
    }

    /// As [`Rogue::start`]; its document names a credential service at this address, if one is given.
    pub async fn with_service(endpoint: Option<&str>) -> Self {
        Self::start_as("", endpoint).await
    }

    async fn start_as(answer: &'static str, endpoint: Option<&str>) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let did: Did = format!("did:web:localhost%3A{port}").parse().expect("a well-formed DID");
        let key = fresh_key();
        let mut document = DidDocument::new(did.clone());
        document.add_method("key-1", key.public().clone(), Relationship::ALL).expect("room for a key");
        if let Some(endpoint) = endpoint {
            let endpoint = endpoint.replace("{port}", &port.to_string()).parse().expect("an address");
            document.add_service("cs", "CredentialService", endpoint).expect("room for a service");
        }
        let document = Arc::new(Mutex::new(document));
        let served = Arc::clone(&document);
        let heard = Heard::default();
        let keep = Arc::clone(&heard);
        let router = Router::new()
            .route(
                "/.well-known/did.json",
                axum::routing::get(move || {
                    let document = served.lock().unwrap_or_else(PoisonError::into_inner).to_json();
                    std::future::ready(axum::Json(document))
                }),
            )
            .fallback(move |request: Request| {
                let keep = Arc::clone(&keep);
                async move {
                    let path = request.uri().path().to_owned();
                    let bytes =
                        axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_else(|_| Bytes::new());
                    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                    keep.lock().unwrap_or_else(PoisonError::into_inner).push((path, body));
                    (StatusCode::OK, answer).into_response()
                }
            });
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        let (root, fragment) = (format!("http://localhost:{port}"), "key-1".to_owned());
        Self { did, root, key, fragment, document, http: http(), heard, server }
    }

    /// Serves another document from now on, with a fresh key alone; if `handed_over`, the old key says that it follows.
    pub fn change_key(&mut self, fragment: &str, handed_over: bool) {
        let key = fresh_key();
        let mut changed = DidDocument::new(self.did.clone());
        changed.add_method(fragment, key.public().clone(), Relationship::ALL).expect("room for a key");
        if handed_over {
            let succession = Succession { did: self.did.clone(), to: key.public().clone(), at: clock::now() };
            let signed = succession.sign(&self.key, &format!("{}#{}", self.did, self.fragment));
            changed.add_succession(&signed).expect("room for a succession");
        }
        *self.document.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        (self.key, self.fragment) = (key, fragment.to_owned());
    }

    /// Signs a token.
    pub fn token(&self, wish: &Token<'_>) -> String {
        let audience: Did = wish.audience.parse().expect("a well-formed DID");
        let kid = format!("{}#{}", self.did, self.fragment);
        let draft = token::Draft {
            issuer: &self.did,
            audience: &audience,
            jti: &wish.jti,
            now: clock::now().plus_millis(wish.issued_in_ms),
            lifetime_ms: 120_000,
            extra: wish.access.map(|access| ("token".to_owned(), access.into())).into_iter().collect(),
        };
        token::issue(wish.key.unwrap_or(&self.key), &kid, &draft).expect("the token is within its bounds")
    }

    /// Sends JSON to `path` below the node's protocol root with a fresh token.
    pub async fn send(&self, to: &Node, path: &str, message: &Value) -> Answer {
        self.send_bytes(to, path, message.to_string().into_bytes()).await
    }

    /// Sends any bytes as JSON.
    pub async fn send_bytes(&self, to: &Node, path: &str, bytes: Vec<u8>) -> Answer {
        self.send_with(to, path, bytes, &self.token(&Token::good(&to.did))).await
    }

    /// Sends any bytes with any token.
    pub async fn send_with(&self, to: &Node, path: &str, bytes: Vec<u8>, token: &str) -> Answer {
        let request = self.http.post(format!("{}{path}", dsp_root(to))).bearer_auth(token);
        Answer::of(request.header("content-type", "application/json").body(bytes)).await
    }

    /// Asks for `path` below the node's protocol root.
    pub async fn ask(&self, to: &Node, path: &str) -> Answer {
        let token = self.token(&Token::good(&to.did));
        Answer::of(self.http.get(format!("{}{path}", dsp_root(to))).bearer_auth(token)).await
    }

    /// The first message of ours heard at a path that ends so.
    pub async fn hears(&self, path_end: &str) -> Value {
        eventually(&format!("the node sends to …{path_end}"), || async {
            let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.iter().find(|(path, _)| path.ends_with(path_end)).map(|(_, body)| body.clone())
        })
        .await
    }

    /// Asks the node for a contract on its only dataset under `offer`, as a well-behaved consumer would.
    pub async fn request(&self, to: &Node, dataset: &str, offer: &str) -> Answer {
        let message = self.request_message(to, dataset, offer, &self.root).await;
        self.send(to, "/negotiations/request", &message).await
    }

    /// The message of [`Rogue::request`], with any callback address.
    pub async fn request_message(&self, to: &Node, dataset: &str, offer: &str, callback: &str) -> Value {
        let found = self.ask(to, &format!("/catalog/datasets/{dataset}")).await.expect_ok();
        let policies = found["hasPolicy"].as_array().expect("a dataset has offers");
        let mut terms = policies.iter().find(|policy| policy["@id"] == offer).expect("the offer is there").clone();
        terms["@type"] = "Offer".into();
        terms["target"] = dataset.into();
        terms["assigner"] = to.did.clone().into();
        json!({
            "@context": [CONTEXT], "@type": "ContractRequestMessage", "@id": urn(), "consumerPid": urn(),
            "offer": terms, "callbackAddress": callback,
        })
    }

    /// A message about a negotiation of ours.
    pub fn message(kind: &str, consumer_pid: &str, provider_pid: &str) -> Value {
        json!({
            "@context": [CONTEXT], "@type": kind, "@id": urn(), "consumerPid": consumer_pid, "providerPid": provider_pid,
        })
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A fresh random identifier.
pub fn urn() -> String {
    format!("urn:uuid:{}", uuid::Uuid::new_v4())
}

/// The root of a node's protocol binding.
pub fn dsp_root(node: &Node) -> String {
    format!("{}/dsp/2025-1", node.public)
}
