//! A foreign data plane that answers as it is told, and keeps what it heard.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::node::eventually;

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As the specification says.
    Good,
    /// 500.
    Broken,
    /// 200, and a body that is no message.
    Garbage,
    /// 400.
    Refusing,
    /// Never.
    Silent,
    /// 202 to `start`, and nothing after that.
    Promising,
}

struct Told {
    mood: Mood,
    heard: Vec<(String, Value)>,
}

/// The data plane.
pub struct Plane {
    /// Root of its signaling endpoint.
    pub endpoint: String,
    told: Arc<Mutex<Told>>,
    server: tokio::task::JoinHandle<()>,
}

impl Plane {
    /// Serves on a free port.
    pub async fn start(mood: Mood) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let told = Arc::new(Mutex::new(Told { mood, heard: Vec::new() }));
        let shared = Arc::clone(&told);
        let router = Router::new().fallback(move |request: Request| answer(Arc::clone(&shared), request));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Self { endpoint: format!("http://localhost:{port}/signaling"), told, server }
    }

    /// How it answers from now on.
    pub fn becomes(&self, mood: Mood) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).mood = mood;
    }

    /// The paths it heard that end so, with their messages.
    pub fn heard(&self, end: &str) -> Vec<(String, Value)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.heard.iter().filter(|(path, _)| path.ends_with(end)).cloned().collect()
    }

    /// Waits until it has heard something at a path that ends so; the first such message.
    pub async fn hears(&self, end: &str) -> Value {
        eventually(&format!("the data plane hears …{end}"), || async {
            self.heard(end).into_iter().next().map(|(_, message)| message)
        })
        .await
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(told: Arc<Mutex<Told>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let bytes = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap_or_default();
    let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    let mood = {
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        told.heard.push((path.clone(), body.clone()));
        told.mood
    };
    let word = path.rsplit('/').next().unwrap_or_default();
    let flow = body["processId"].as_str().unwrap_or_default();
    match mood {
        Mood::Broken => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mood::Garbage => "<html>welcome</html>".into_response(),
        Mood::Refusing => (StatusCode::BAD_REQUEST, "not today").into_response(),
        Mood::Silent => std::future::pending().await,
        Mood::Promising if word == "start" => {
            let status = json!({ "messageId": "1", "dataFlowId": flow, "state": "STARTING" });
            (StatusCode::ACCEPTED, axum::Json(status)).into_response()
        }
        Mood::Promising if word == "status" => {
            axum::Json(json!({ "dataFlowId": path.rsplit('/').nth(1), "state": "STARTING" })).into_response()
        }
        Mood::Good | Mood::Promising if word == "start" => {
            let address = json!({
                "endpointType": "https://w3id.org/dspace-sig/profile/http-pull", "endpoint": "https://plane.example/x",
                "endpointProperties": [
                    { "name": "authorization", "value": "secret" }, { "name": "authType", "value": "bearer" },
                ],
            });
            let status = json!({ "messageId": "1", "dataFlowId": flow, "state": "STARTED", "dataAddress": address });
            axum::Json(status).into_response()
        }
        Mood::Good | Mood::Promising => StatusCode::OK.into_response(),
    }
}
