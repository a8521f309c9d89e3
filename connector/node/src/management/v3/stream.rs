//! What happens, as server-sent events: `/v3/events`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::routing::get;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::watch;

use super::V3;
use super::jsonld::invalid;
use super::operation::{Answer, LOOK, Operation, Route, Verb, route};
use crate::event_log::EventLog;
use crate::problem::Problem;

/// Events read at a time: all that a slow listener holds in memory.
const PAGE: usize = 64;

pub fn routes() -> Vec<Route> {
    let events = Operation::new(
        Verb::Get,
        "/events",
        "streamEvents",
        "CloudEvents as they happen; `Last-Event-ID` or `after` goes on where a stream broke off",
    );
    vec![route(events.by(LOOK).gives(Answer::Stream), get(events_of))]
}

struct Listener {
    log: EventLog,
    settled: watch::Receiver<u64>,
    position: u64,
    source: String,
    kind: String,
}

async fn events_of(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    headers: HeaderMap,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let log = v3.events.log().clone();
    let settled = log.settled();
    let mut position = settled.borrow().saturating_sub(1);
    let mut kind = String::new();
    let number =
        |name: &str, text: &str| text.parse::<u64>().map_err(|_| invalid(name, "must be the number of an event"));
    if let Some(last) = headers.get("last-event-id") {
        position = number("Last-Event-ID", last.to_str().unwrap_or_default())?;
    }
    for (name, value) in url::form_urlencoded::parse(parameters.unwrap_or_default().as_bytes()) {
        match name.as_ref() {
            "after" => position = number("after", &value)?,
            "type" => kind = value.into_owned(),
            _ => return Err(invalid(&name, "is no parameter here")),
        }
    }
    let listener = Listener { log, settled, position, source: v3.did.to_string(), kind };
    let stopping = v3.stopping.clone();
    let told = stream::unfold(listener, |listener| async move { listener.next().await })
        .flat_map(stream::iter)
        .map(Ok)
        .take_until(stopping.cancelled_owned());
    Ok(Sse::new(told).keep_alive(KeepAlive::default()))
}

impl Listener {
    /// The next events; waits until there are some. Ends when the log cannot be read.
    async fn next(mut self) -> Option<(Vec<Event>, Self)> {
        loop {
            let settled = *self.settled.borrow_and_update();
            let mut told = Vec::new();
            let lost = self.log.first().saturating_sub(self.position.saturating_add(1));
            if 0 < lost {
                self.position = self.position.saturating_add(lost);
                told.push(Event::default().event("events.missed").data(lost.to_string()));
            }
            let page = self.log.page(self.position, PAGE).ok()?;
            let is_full = page.len() == PAGE;
            for event in page {
                self.position = event.seq;
                if event.kind.starts_with(&self.kind) {
                    let data = event.to_cloud_event(&self.source).to_string();
                    told.push(Event::default().id(event.seq.to_string()).event(event.kind).data(data));
                }
            }
            if !told.is_empty() {
                return Some((told, self));
            }
            if is_full {
                continue;
            }
            // A number whose batch failed is never told.
            self.position = self.position.max(settled.saturating_sub(1));
            self.settled.changed().await.ok()?;
        }
    }
}
