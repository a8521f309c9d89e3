//! The guarded client and the resolver against real servers on loopback.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of a test; a panic is its failure")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use futures::StreamExt as _;
use serde_json::json;
use shuyu_base::{Did, SecretKey, Suite};
use shuyu_credentials::{DidDocument, Relationship, did_jwk, did_key};
use shuyu_resolver::{DidResolver, Http, HttpError, HttpOptions, Refusal, ResolveError};
use tokio::net::TcpListener;
use url::Url;

const MAX: usize = 64 * 1024;

/// What the server was asked, by whom it pretends to be.
#[derive(Default)]
struct Seen {
    documents: AtomicUsize,
    redirected: AtomicUsize,
}

fn document(did: &Did) -> String {
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap();
    let mut document = DidDocument::new(did.clone());
    document.add_method("key-1", key.public().clone(), Relationship::ALL).unwrap();
    document.to_json().to_string()
}

/// Documents by name: each name misbehaves in its own way.
async fn did_document(State(seen): State<Arc<Seen>>, headers: HeaderMap, UrlPath(name): UrlPath<String>) -> Response {
    seen.documents.fetch_add(1, Ordering::SeqCst);
    let host = headers["host"].to_str().unwrap().replace(':', "%3A");
    let did: Did = format!("did:web:{host}:{name}").parse().unwrap();
    match name.as_str() {
        "good" => document(&did).into_response(),
        "wrong-id" => document(&"did:web:victim.example".parse().unwrap()).into_response(),
        "html" => "<html>welcome</html>".into_response(),
        "empty" => "".into_response(),
        "moved" => Redirect::temporary("/good/did.json").into_response(),
        "broken" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        "large" => format!("{}{}", document(&did), " ".repeat(MAX)).into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn app(seen: Arc<Seen>) -> Router {
    let endless = || async {
        let chunk = Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 64 * 1024]));
        Body::from_stream(futures::stream::repeat_with(move || {
            chunk.as_ref().map(Bytes::clone).map_err(|_| std::io::Error::other("never"))
        }))
    };
    let stalled = || async {
        let first = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        Body::from_stream(first.chain(futures::stream::pending()))
    };
    let echo = |headers: HeaderMap, body: String| async move {
        let token = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
        (StatusCode::CONFLICT, [("retry-after", "7")], json!({"token": token, "body": body}).to_string())
    };
    let target = |State(seen): State<Arc<Seen>>| async move {
        seen.redirected.fetch_add(1, Ordering::SeqCst);
        "{}"
    };
    Router::new()
        .route("/{name}/did.json", get(did_document))
        .route("/10mb", get(|| async { vec![b'x'; 10_000_000] }))
        .route("/endless", get(endless))
        .route("/stalled", get(stalled))
        .route("/echo", post(echo))
        .route("/redirect", get(|| async { Redirect::permanent("/target") }))
        .route("/target", get(target))
        .with_state(seen)
}

async fn serve() -> (SocketAddr, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app(seen.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (address, seen)
}

fn loopback() -> Http {
    Http::new(HttpOptions { insecure_loopback: true, ..HttpOptions::default() }).unwrap()
}

fn url(address: SocketAddr, path: &str) -> Url {
    Url::parse(&format!("http://{address}{path}")).unwrap()
}

fn did(address: SocketAddr, name: &str) -> Did {
    format!("did:web:127.0.0.1%3A{}:{name}", address.port()).parse().unwrap()
}

#[tokio::test]
async fn posts_json_with_a_token_and_returns_any_status() {
    let (address, _) = serve().await;
    let response = loopback().post_json(&url(address, "/echo"), &json!({"a": 1}), Some("abc"), MAX).await.unwrap();
    assert_eq!((response.status, response.retry_after_s), (409, Some(7)));
    let said: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(said, json!({"token": "Bearer abc", "body": "{\"a\":1}"}));
    let refused = loopback().post_json(&url(address, "/echo"), &json!({}), Some("a\r\nb"), MAX).await;
    assert!(matches!(refused, Err(HttpError::BadRequest { .. })));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let (address, seen) = serve().await;
    let error = loopback().get_json(&url(address, "/redirect"), MAX).await.unwrap_err();
    assert!(matches!(error, HttpError::Status { status: 308, .. }), "{error}");
    let error = DidResolver::new(loopback()).resolve(&did(address, "moved")).await.unwrap_err();
    assert!(matches!(&*error, ResolveError::Fetch { source: HttpError::Status { status: 307, .. }, .. }), "{error}");
    assert_eq!(seen.redirected.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn bodies_are_cut_at_the_limit() {
    let (address, _) = serve().await;
    for path in ["/10mb", "/endless"] {
        let error = loopback().get(&url(address, path), "*/*", None, MAX).await.unwrap_err();
        assert!(matches!(error, HttpError::TooLarge { max_bytes: MAX, .. }), "{path}: {error}");
    }
    let whole = loopback().get(&url(address, "/10mb"), "*/*", None, 10_000_000).await.unwrap();
    assert_eq!(whole.body.len(), 10_000_000);
}

#[tokio::test]
async fn a_body_that_never_ends_times_out() {
    let (address, _) = serve().await;
    let total_timeout = Some(Duration::from_millis(300));
    let http = Http::new(HttpOptions { insecure_loopback: true, total_timeout, ..HttpOptions::default() }).unwrap();
    let error = http.get_json(&url(address, "/stalled"), MAX).await.unwrap_err();
    assert!(matches!(error, HttpError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn nothing_listening_is_unreachable() {
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = loopback().get_json(&url(address, "/x"), MAX).await.unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { .. }), "{error}");
}

/// Without `insecure_loopback` neither a literal nor a name that resolves to loopback is reached, over any scheme.
#[tokio::test]
async fn loopback_is_refused_by_literal_and_after_resolution() {
    let (address, seen) = serve().await;
    let strict = Http::new(HttpOptions::default()).unwrap();
    let port = address.port();
    for text in
        ["https://127.0.0.1", "https://localhost", "https://[::1]", "https://2130706433", "https://[::ffff:7f00:1]"]
    {
        let url = Url::parse(&format!("{text}:{port}/target")).unwrap();
        let error = strict.get_json(&url, MAX).await.unwrap_err();
        assert!(matches!(error, HttpError::NotAllowed { reason: Refusal::Address { .. }, .. }), "{text}: {error}");
    }
    let error = strict.get_json(&url(address, "/target"), MAX).await.unwrap_err();
    assert!(matches!(error, HttpError::NotAllowed { reason: Refusal::Scheme { .. }, .. }), "{error}");
    assert_eq!(seen.redirected.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn documents_are_resolved_and_bad_ones_refused() {
    let (address, _) = serve().await;
    let resolver = DidResolver::new(loopback());
    let good = did(address, "good");
    assert_eq!(resolver.resolve(&good).await.unwrap().id(), &good);
    let by_name: Did = format!("did:web:localhost%3A{}:good", address.port()).parse().unwrap();
    assert_eq!(resolver.resolve(&by_name).await.unwrap().id(), &by_name);
    for (name, transient, expected) in [
        ("wrong-id", false, "is not acceptable"),
        ("html", false, "is not acceptable"),
        ("empty", false, "is not acceptable"),
        ("large", false, "could not be fetched"),
        ("absent", false, "could not be fetched"),
        ("broken", true, "could not be fetched"),
    ] {
        let error = resolver.resolve(&did(address, name)).await.unwrap_err();
        assert!(error.to_string().ends_with(expected), "{name}: {error}");
        assert_eq!(error.is_transient(), transient, "{name}: {error}");
    }
    let strict = DidResolver::new(Http::new(HttpOptions::default()).unwrap());
    let error = strict.resolve(&good).await.unwrap_err();
    assert!(matches!(&*error, ResolveError::Fetch { source: HttpError::NotAllowed { .. }, .. }), "{error}");
}

#[tokio::test]
async fn local_methods_need_no_network() {
    let resolver = DidResolver::new(Http::new(HttpOptions::default()).unwrap());
    let key = SecretKey::from_seed(Suite::Sm2, &[7; 32]).unwrap();
    for did in [did_key(key.public()).unwrap(), did_jwk(key.public()).unwrap()] {
        assert_eq!(&resolver.resolve(&did).await.unwrap().methods()[0].key, key.public());
    }
    let error = resolver.resolve(&"did:example:x".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.to_string(), "did method `example` is not supported");
    let error = resolver.resolve(&"did:web:10.0.0.1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(&*error, ResolveError::Location { .. }), "{error}");
}

#[tokio::test]
async fn waiters_share_one_fetch_and_failures_are_remembered() {
    let (address, seen) = serve().await;
    let resolver = DidResolver::new(loopback());
    for name in ["good", "broken"] {
        seen.documents.store(0, Ordering::SeqCst);
        let did = did(address, name);
        futures::future::join_all((0..20).map(|_| resolver.resolve(&did))).await;
        let _ = resolver.resolve(&did).await;
        let _ = resolver.refresh(&did).await;
        assert_eq!(seen.documents.load(Ordering::SeqCst), 1, "{name}");
    }
}

#[tokio::test]
async fn stale_documents_are_fetched_again() {
    let (address, seen) = serve().await;
    let resolver = DidResolver::with_times(loopback(), Duration::ZERO, Duration::ZERO);
    for _ in 0..3 {
        assert!(resolver.resolve(&did(address, "good")).await.is_ok());
        assert!(resolver.resolve(&did(address, "absent")).await.is_err());
    }
    assert_eq!(seen.documents.load(Ordering::SeqCst), 6);
}

/// A fetch that its first waiter gives up on is taken over by the next.
#[tokio::test]
async fn an_abandoned_fetch_does_not_block_the_next() {
    let (address, _) = serve().await;
    let resolver = DidResolver::new(loopback());
    let did = did(address, "good");
    let first = resolver.clone();
    let mut abandoned = Box::pin(first.resolve(&did));
    assert!(futures::poll!(&mut abandoned).is_pending());
    drop(abandoned);
    assert!(resolver.resolve(&did).await.is_ok());
}

const CERTIFICATE_CONFIG: &str = "\
[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n\
[name]\nCN = localhost\n\
[extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n\
keyUsage = critical, digitalSignature\nextendedKeyUsage = serverAuth\n";

/// Over TLS a server is reached only with a certificate that leads to a trusted root.
#[tokio::test]
async fn extra_roots_are_trusted_and_others_are_not() {
    // The test server asks rustls for the process's choice; the client under test makes its own.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("extra-roots");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config"), CERTIFICATE_CONFIG).unwrap();
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -config config -keyout key.pem -out cert.pem";
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let config =
        axum_server::tls_rustls::RustlsConfig::from_pem_file(dir.join("cert.pem"), dir.join("key.pem")).await.unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = axum_server::from_tcp_rustls(listener, config).unwrap();
    tokio::spawn(server.serve(app(Arc::default()).into_make_service()));

    let url = Url::parse(&format!("https://localhost:{port}/target")).unwrap();
    let pem = std::fs::read(dir.join("cert.pem")).unwrap();
    let with_roots = |extra_roots_pem| {
        Http::new(HttpOptions { insecure_loopback: true, extra_roots_pem, ..HttpOptions::default() }).unwrap()
    };
    assert_eq!(with_roots(vec![pem]).get_json(&url, MAX).await.unwrap(), json!({}));
    let error = with_roots(vec![]).get_json(&url, MAX).await.unwrap_err();
    assert!(matches!(error, HttpError::Unreachable { .. }), "{error}");
}
