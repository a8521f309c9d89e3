//! A web server whose pages a test writes: DID documents, presentations, lists and schemas, good and bad.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::{StatusCode, Uri, header};
use axum::response::IntoResponse;
use shuyu_base::{Did, Digest, SecretKey, Suite};
use shuyu_credentials::{DidDocument, Relationship};

/// What a path answers.
#[derive(Clone, Debug)]
pub enum Page {
    /// 200 with this body.
    Body(Vec<u8>),
    /// A redirect to this address.
    Moved(String),
}

type Pages = Arc<Mutex<HashMap<String, Page>>>;

/// The server; stopped when dropped.
pub struct WebServer {
    port: u16,
    pages: Pages,
    server: tokio::task::JoinHandle<()>,
}

impl WebServer {
    /// A server without pages on a free port of loopback.
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let pages = Pages::default();
        let kept = Arc::clone(&pages);
        let router = Router::new().fallback(move |uri: Uri| {
            let page = kept.lock().unwrap_or_else(PoisonError::into_inner).get(uri.path()).cloned();
            std::future::ready(match page {
                Some(Page::Body(bytes)) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
                Some(Page::Moved(to)) => axum::response::Redirect::temporary(&to).into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            })
        });
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { port, pages, server }
    }

    /// Writes a page, or writes it anew.
    pub fn put(&self, path: &str, page: Page) {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), page);
    }

    /// Writes a page with a body.
    pub fn put_body(&self, path: &str, body: impl Into<Vec<u8>>) {
        self.put(path, Page::Body(body.into()));
    }

    /// The address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}{path}", self.port)
    }

    /// The participant of this name here.
    pub fn did(&self, name: &str) -> Did {
        format!("did:web:localhost%3A{}:{name}", self.port).parse().expect("a well-formed DID")
    }

    /// The id of its key.
    pub fn kid(&self, name: &str) -> String {
        format!("{}#key-1", self.did(name))
    }

    /// Serves its document, with a credential service, its key being good for these uses.
    pub fn put_document(&self, name: &str, uses: &[Relationship]) {
        self.put_body(&format!("/{name}/did.json"), self.document(name, uses).to_json().to_string());
    }

    /// Its document.
    pub fn document(&self, name: &str, uses: &[Relationship]) -> DidDocument {
        let mut document = DidDocument::new(self.did(name));
        document.add_method("key-1", key(name).public().clone(), uses.iter().copied()).expect("room for a key");
        let service = self.url(&format!("/{name}/cs")).parse().expect("an address");
        document.add_service("cs", "CredentialService", service).expect("room for a service");
        document
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The key of the participant of this name.
pub fn key(name: &str) -> SecretKey {
    SecretKey::from_seed(Suite::Ed25519, Digest::sha256(name.as_bytes()).bytes()).expect("every seed is a key")
}
