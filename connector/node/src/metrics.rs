//! Figures for Prometheus, in the OpenMetrics text format.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shuyu_ledger::Ledger;

/// Labels of a protocol message.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct MessageLabels {
    kind: String,
    outcome: String,
}

/// The node's figures; clones share them.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    messages: Family<MessageLabels, Counter>,
    ledger_size: Gauge,
    ledger: Arc<Ledger>,
}

impl Metrics {
    /// All at zero.
    pub fn new(ledger: Arc<Ledger>) -> Self {
        let mut registry = Registry::with_prefix("shuyu");
        let messages = Family::<MessageLabels, Counter>::default();
        registry.register("protocol_messages", "Messages of other nodes, by kind and outcome", messages.clone());
        let ledger_size = Gauge::default();
        registry.register("ledger_entries", "Entries that the ledger's last checkpoint covers", ledger_size.clone());
        Self { registry: Arc::new(registry), messages, ledger_size, ledger }
    }

    /// Counts a message of another node.
    pub fn message(&self, kind: &str, outcome: &str) {
        self.messages.get_or_create(&MessageLabels { kind: kind.to_owned(), outcome: outcome.to_owned() }).inc();
    }

    /// `GET /metrics`.
    pub fn router(&self) -> Router {
        Router::new().route("/metrics", get(serve)).with_state(self.clone())
    }
}

async fn serve(State(metrics): State<Metrics>) -> Response {
    if let Ok(head) = metrics.ledger.checkpoint() {
        metrics.ledger_size.set(i64::try_from(head.checkpoint().size).unwrap_or(i64::MAX));
    }
    let mut body = String::new();
    match text::encode(&mut body, &metrics.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], body)
            .into_response(),
        Err(_) => axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
