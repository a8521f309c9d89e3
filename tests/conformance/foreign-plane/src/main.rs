//! A foreign data plane: the state machine, messages and callbacks are those of `dataplane-sdk`, unmodified; here is only
//! what its users write: the HTTP binding, and a handler that hands out one text a flow.
//!
//! Reads one line of JSON, `{"callback": URL, "key": KEY}`, and writes one, `{"endpoint": URL}`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use dataplane_sdk::core::db::control_plane::ControlPlaneRepo as _;
use dataplane_sdk::core::db::control_plane::memory::MemoryControlPlaneRepo;
use dataplane_sdk::core::db::data_flow::memory::MemoryDataFlowRepo;
use dataplane_sdk::core::db::memory::{MemoryContext, MemoryTransaction};
use dataplane_sdk::core::db::tx::TransactionalContext as _;
use dataplane_sdk::core::error::HandlerResult;
use dataplane_sdk::core::handler::DataFlowHandler;
use dataplane_sdk::core::model::control_plane::ControlPlane;
use dataplane_sdk::core::model::data_address::{DataAddress, EndpointProperty};
use dataplane_sdk::core::model::data_flow::{DataFlow, DataFlowState};
use dataplane_sdk::core::model::messages::DataFlowStatusMessage;
use dataplane_sdk::error::SdkError;
use dataplane_sdk::sdk::DataPlaneSdk;
use serde_json::{Value, json};
use tokio::io::AsyncBufReadExt as _;

const OWNER: &str = "owner";
const CONTROL_PLANE: &str = "shuyu";

type Sdk = DataPlaneSdk<MemoryContext>;

struct Plane {
    sdk: Sdk,
    root: String,
}

/// Hands out an address; with `slow` in the metadata it takes its time.
struct Handler {
    root: String,
}

fn token(flow: &str) -> String {
    format!("token-of-{flow}")
}

fn address(root: &str, flow: &str) -> DataAddress {
    let property = |name: &str, value: String| EndpointProperty::builder().name(name).value(value).build();
    DataAddress::builder()
        .endpoint_type("https://w3id.org/dspace-sig/profile/http-pull")
        .endpoint(format!("{root}/data/{flow}"))
        .endpoint_properties(vec![property("authorization", token(flow)), property("authType", "bearer".to_owned())])
        .build()
}

#[async_trait::async_trait]
impl DataFlowHandler for Handler {
    type Transaction = MemoryTransaction;

    async fn can_handle(&self, flow: &DataFlow) -> HandlerResult<bool> {
        Ok(flow.profile == "https://w3id.org/dspace-sig/profile/http-pull")
    }

    async fn on_start(&self, _: &mut MemoryTransaction, flow: &DataFlow) -> HandlerResult<DataFlowStatusMessage> {
        let is_slow = flow.metadata.get("slow").is_some();
        let state = if is_slow { DataFlowState::Starting } else { DataFlowState::Started };
        let address = (!is_slow).then(|| address(&self.root, &flow.id));
        let status = DataFlowStatusMessage::builder().data_flow_id(flow.id.clone()).state(state);
        Ok(status.maybe_data_address(address).build())
    }

    async fn on_prepare(&self, _: &mut MemoryTransaction, flow: &DataFlow) -> HandlerResult<DataFlowStatusMessage> {
        Ok(DataFlowStatusMessage::builder().data_flow_id(flow.id.clone()).state(DataFlowState::Prepared).build())
    }

    async fn on_terminate(&self, _: &mut MemoryTransaction, _: &DataFlow) -> HandlerResult<()> {
        Ok(())
    }

    async fn on_started(&self, _: &mut MemoryTransaction, _: &DataFlow) -> HandlerResult<()> {
        Ok(())
    }

    async fn on_suspend(&self, _: &mut MemoryTransaction, _: &DataFlow) -> HandlerResult<()> {
        Ok(())
    }
}

fn refused(error: &SdkError) -> Response {
    let status = match error {
        SdkError::Repo(dataplane_sdk::core::error::DbError::NotFound(_)) => StatusCode::NOT_FOUND,
        SdkError::Repo(dataplane_sdk::core::error::DbError::AlreadyExists(_)) | SdkError::Transition(_) => {
            StatusCode::CONFLICT
        }
        SdkError::Handler(_) => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, error.to_string()).into_response()
}

fn told(status: DataFlowStatusMessage) -> Response {
    let code = match status.state {
        DataFlowState::Starting | DataFlowState::Preparing => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    (code, Json(status)).into_response()
}

/// A message about a flow; every signal of the binding but `start` and `prepare`.
async fn signal(
    State(plane): State<Arc<Plane>>,
    Path((flow, word)): Path<(String, String)>,
    Json(body): Json<Value>,
) -> Response {
    let sdk = &plane.sdk;
    let reason = || body["reason"].as_str().map(str::to_owned);
    let done = match word.as_str() {
        "suspend" => sdk.suspend(OWNER, &flow, reason()).await,
        "terminate" => sdk.terminate(OWNER, &flow, reason()).await,
        "completed" => sdk.completed(OWNER, &flow).await,
        "started" => match serde_json::from_value(body.clone()) {
            Ok(message) => sdk.started(OWNER, &flow, message).await,
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        },
        "resume" => match serde_json::from_value(body.clone()) {
            Ok(message) => return sdk.resume(OWNER, &flow, message).await.map_or_else(|error| refused(&error), told),
            Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
        },
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    done.map_or_else(|error| refused(&error), |()| StatusCode::OK.into_response())
}

async fn start(State(plane): State<Arc<Plane>>, Json(body): Json<Value>) -> Response {
    let message = match serde_json::from_value(body) {
        Ok(message) => message,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}")).into_response(),
    };
    let status = match plane.sdk.start(OWNER, CONTROL_PLANE, message).await {
        Ok(status) => status,
        Err(error) => return refused(&error),
    };
    if status.state == DataFlowState::Starting {
        let (plane, flow) = (Arc::clone(&plane), status.data_flow_id.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let address = address(&plane.root, &flow);
            if let Err(error) = plane.sdk.notify_started(OWNER, &flow, Some(address)).await {
                eprintln!("the control plane does not take the callback: {error}");
            }
        });
    }
    told(status)
}

async fn prepare(State(plane): State<Arc<Plane>>, Json(body): Json<Value>) -> Response {
    match serde_json::from_value(body) {
        Ok(message) => {
            let prepared = plane.sdk.prepare(OWNER, CONTROL_PLANE, message).await;
            prepared.map_or_else(|error| refused(&error), told)
        }
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}

async fn status(State(plane): State<Arc<Plane>>, Path(flow): Path<String>) -> Response {
    let status = plane.sdk.status(OWNER, &flow).await;
    status.map_or_else(|error| refused(&error), |status| Json(status).into_response())
}

/// The data itself: while the flow is started, for whoever has its token.
async fn data(State(plane): State<Arc<Plane>>, Path(flow): Path<String>, headers: HeaderMap) -> Response {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    if given != Some(&format!("Bearer {}", token(&flow))) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    match plane.sdk.status(OWNER, &flow).await {
        Ok(status) if status.state == DataFlowState::Started => "forty-two\n".into_response(),
        Ok(_) => StatusCode::GONE.into_response(),
        Err(error) => refused(&error),
    }
}

/// The data plane says by itself that a flow has run to its end.
async fn finish(State(plane): State<Arc<Plane>>, Path(flow): Path<String>) -> Response {
    let done = plane.sdk.notify_completed(OWNER, &flow).await;
    done.map_or_else(|error| refused(&error), |()| StatusCode::OK.into_response())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut line = String::new();
    tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut line).await?;
    let wish: Value = serde_json::from_str(&line)?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let root = format!("http://localhost:{}", listener.local_addr()?.port());
    let control_planes = MemoryControlPlaneRepo::default();
    let callback = wish["callback"].as_str().unwrap_or_default();
    let control_plane = ControlPlane::builder().id(CONTROL_PLANE).url(callback).build();
    let transaction = &mut MemoryContext.begin().await?;
    control_planes.create(transaction, &control_plane).await?;
    let mut headers = reqwest::header::HeaderMap::new();
    let bearer = format!("Bearer {}", wish["key"].as_str().unwrap_or_default());
    headers.insert("authorization", bearer.parse()?);
    let sdk = DataPlaneSdk::builder(MemoryContext)
        .with_repo(MemoryDataFlowRepo::default())
        .with_control_plane_repo(control_planes)
        .with_handler(Handler { root: root.clone() })
        .with_client(reqwest::Client::builder().default_headers(headers).no_proxy().build()?)
        .build()
        .map_err(anyhow::Error::msg)?;
    let router = Router::new()
        .route("/signaling/dataflows/start", post(start))
        .route("/signaling/dataflows/prepare", post(prepare))
        .route("/signaling/dataflows/{flow}/status", get(status))
        .route("/signaling/dataflows/{flow}/{word}", post(signal))
        .route("/data/{flow}", get(data))
        .route("/finish/{flow}", post(finish))
        .with_state(Arc::new(Plane { sdk, root: root.clone() }));
    println!("{}", json!({ "endpoint": format!("{root}/signaling"), "root": root }));
    axum::serve(listener, router).await?;
    Ok(())
}
