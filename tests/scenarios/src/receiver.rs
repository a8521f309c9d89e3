//! A receiver of web hooks that answers as it is told.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

/// One delivery.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Headers.
    pub headers: HeaderMap,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The bytes as JSON.
    pub event: Value,
    /// What was answered.
    pub status: u16,
}

/// A server that keeps what it is sent.
pub struct Receiver {
    /// Where it is.
    pub url: String,
    kept: Arc<Mutex<Vec<Delivery>>>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    /// Serves on a free port; `answer` gets the number of the delivery, from 0, and gives the status.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(answer: impl Fn(usize) -> u16 + Clone + Send + Sync + 'static) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let kept = Arc::<Mutex<Vec<Delivery>>>::default();
        let keep = Arc::clone(&kept);
        let router = Router::new().fallback(move |request: Request| {
            let (keep, answer) = (Arc::clone(&keep), answer.clone());
            async move {
                let headers = request.headers().clone();
                let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default().to_vec();
                let event = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
                let mut keep = keep.lock().unwrap_or_else(PoisonError::into_inner);
                let status = answer(keep.len());
                keep.push(Delivery { headers, bytes, event, status });
                StatusCode::from_u16(status).unwrap_or(StatusCode::OK)
            }
        });
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { url: format!("http://localhost:{port}/hook"), kept, server }
    }

    /// Everything so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was taken, in order: the type and subject of each event.
    pub fn taken(&self) -> Vec<(String, String)> {
        let word = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let taken = self.deliveries().into_iter().filter(|delivery| delivery.status < 300);
        taken.map(|delivery| (word(&delivery.event, "type"), word(&delivery.event, "subject"))).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}
