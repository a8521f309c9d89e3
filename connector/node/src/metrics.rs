//! Figures for Prometheus, in the OpenMetrics text format.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use shuyu_ledger::{LATENCY_BOUNDS_MS, Ledger};

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
        registry.register_collector(Box::new(Acknowledgements(Arc::clone(&ledger))));
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

/// How long appends to the ledger waited, by the level of their acknowledgement.
#[derive(Debug)]
struct Acknowledgements(Arc<Ledger>);

impl Collector for Acknowledgements {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let latencies = self.0.latencies();
        let levels = [
            ("ledger_durable", "From append to durable", &latencies.durable),
            ("ledger_included", "From append to a signed checkpoint over it", &latencies.included),
            ("ledger_witnessed", "From append to a checkpoint over it that a quorum cosigned", &latencies.witnessed),
        ];
        for (name, help, latency) in levels {
            let counts = latency.counts();
            let bounds = LATENCY_BOUNDS_MS.iter().map(|ms| *ms as f64 / 1e3).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(counts.iter().copied()).collect();
            let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            metric.encode_histogram::<NoLabelSet>(latency.sum_s(), counts.iter().sum(), &buckets, None)?;
        }
        Ok(())
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
