//! One hook's way through the event log.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use shuyu_credentials::jws;
use url::Url;

use super::{Hook, Hooks, Progress};
use crate::clock;
use crate::event_log::Logged;
use crate::problem::Problem;

/// Events read at a time: all that a hook that is behind holds in memory.
const PAGE: usize = 64;
/// First pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Attempts after which an event that the receiver refuses is given up.
const MAX_REFUSALS: u32 = 5;
/// Most bytes of an answer; nobody reads them.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// `typ` of the signature of an event.
pub const EVENT_TYP: &str = "shuyu-event+jws";

/// How an attempt ended.
enum Sent {
    Done,
    /// The receiver understood and does not want it.
    Refused(u16),
    /// The receiver is gone for good.
    Gone,
    Failed(String, Option<u64>),
}

/// Delivers until the hook is gone; its caller ends it otherwise.
pub(super) async fn follow(hooks: &Hooks, hook: &Hook) {
    loop {
        match follow_on(hooks, hook).await {
            Ok(()) => return,
            Err(problem) => {
                tracing::error!(hook = %hook.id, detail = %problem.detail, "a web hook pauses: the store failed");
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
        }
    }
}

async fn follow_on(hooks: &Hooks, hook: &Hook) -> Result<(), Problem> {
    let mut settled = hooks.log.settled();
    let mut progress = hooks.progress(&hook.id)?;
    while !progress.gone {
        settled.borrow_and_update();
        let lost = hooks.log.first().saturating_sub(progress.position + 1);
        if 0 < lost {
            progress.position += lost;
            progress.missed += lost;
            let told = missed(progress.position, lost);
            deliver(hooks, hook, &mut progress, &told).await?;
        }
        let page = hooks.log.page(progress.position, PAGE)?;
        if page.is_empty() {
            hooks.remember(&hook.id, &progress)?;
            if settled.changed().await.is_err() {
                return Ok(());
            }
        }
        for event in page {
            if hook.wants(&event.kind) && !progress.gone {
                deliver(hooks, hook, &mut progress, &event).await?;
            }
            progress.position = event.seq;
        }
        hooks.remember(&hook.id, &progress)?;
    }
    Ok(())
}

/// Tells that events were forgotten before they could be delivered.
fn missed(seq: u64, lost: u64) -> Logged {
    let (at, kind) = (clock::now().to_string(), "events.missed".to_owned());
    Logged { seq, at, kind, subject: String::new(), data: json!({ "missed": lost }) }
}

/// Tries until the event is delivered, given up, or the receiver is gone.
async fn deliver(hooks: &Hooks, hook: &Hook, progress: &mut Progress, event: &Logged) -> Result<(), Problem> {
    let mut refusals = 0;
    loop {
        let (error, wait_s) = match send(hooks, hook, event).await {
            Sent::Done => {
                progress.delivered += 1;
                (progress.failures, progress.error) = (0, None);
                progress.position = event.seq;
                return hooks.remember(&hook.id, progress);
            }
            Sent::Gone => {
                progress.gone = true;
                progress.error = Some("the receiver answered 410, it is gone".to_owned());
                return hooks.remember(&hook.id, progress);
            }
            Sent::Refused(status) => {
                refusals += 1;
                if MAX_REFUSALS <= refusals {
                    progress.refused += 1;
                    progress.failures = 0;
                    progress.error = Some(format!("event {} was refused with {status} and given up", event.seq));
                    return hooks.remember(&hook.id, progress);
                }
                (format!("the receiver answered {status}"), None)
            }
            Sent::Failed(error, wait_s) => (error, wait_s),
        };
        progress.failures = progress.failures.saturating_add(1);
        tracing::info!(hook = %hook.id, seq = event.seq, failures = progress.failures, error, "event not delivered");
        progress.error = Some(error);
        hooks.remember(&hook.id, progress)?;
        tokio::time::sleep(pause(progress.failures, wait_s)).await;
    }
}

/// Twice as long each time, and a little more or less so that hooks do not come all at once.
fn pause(failures: u32, asked_s: Option<u64>) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let wanted = asked_s.map_or(doubled, |seconds| doubled.max(Duration::from_secs(seconds))).min(LONGEST_PAUSE);
    let mut spread = [0; 1];
    // Not a secret; without randomness everyone waits alike.
    let _ = getrandom::fill(&mut spread);
    let [spread] = spread;
    wanted.mul_f64(0.8 + 0.4 * f64::from(spread) / 255.0)
}

async fn send(hooks: &Hooks, hook: &Hook, event: &Logged) -> Sent {
    let Ok(url) = Url::parse(&hook.url) else { return Sent::Failed("the address is not a URL".to_owned(), None) };
    let body = event.to_cloud_event(hooks.own.did.as_str()).to_string().into_bytes();
    let id = format!("{}/{}", hook.id, event.seq);
    let timestamp = clock::now().unix_seconds().to_string();
    let signature = match &hook.secret {
        Some(secret) => shared(secret, &id, &timestamp, &body),
        None => signed(hooks, &body),
    };
    let name = if hook.secret.is_some() { "webhook-signature" } else { "shuyu-signature" };
    let headers = [
        ("content-type", "application/cloudevents+json; charset=utf-8"),
        ("webhook-id", id.as_str()),
        ("webhook-timestamp", timestamp.as_str()),
        (name, signature.as_str()),
    ];
    match hooks.http.post_bytes(&url, &headers, body, MAX_ANSWER_BYTES).await {
        Ok(answer) => match answer.status {
            200..=299 => Sent::Done,
            410 => Sent::Gone,
            408 | 425 | 429 => Sent::Failed(format!("the receiver answered {}", answer.status), answer.retry_after_s),
            status @ 400..=499 => Sent::Refused(status),
            status => Sent::Failed(format!("the receiver answered {status}"), answer.retry_after_s),
        },
        Err(error) => Sent::Failed(crate::management::chain(&error), None),
    }
}

/// `v1,` and HMAC-SHA-256 over id, time and body, as the Standard Webhooks specification has it.
fn shared(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    // HMAC takes keys of every length; the error is of other constructions of the trait.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return String::new() };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// A JWS of this node over the body, without the body (RFC 7515, appendix F).
fn signed(hooks: &Hooks, body: &[u8]) -> String {
    let whole = jws::sign(&hooks.own.key, &hooks.own.kid, EVENT_TYP, body);
    let mut parts = whole.split('.');
    let (header, signature) = (parts.next().unwrap_or_default(), parts.nth(1).unwrap_or_default());
    format!("{header}..{signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, time and body are all under the signature.
    #[test]
    fn a_shared_secret_covers_id_time_and_body() {
        let secret = String::from_utf8_lossy(&[0x41; 24]).into_owned();
        let one = shared(&secret, "msg_1", "1614265330", b"{}");
        assert!(one.starts_with("v1,") && one.len() == 3 + 44);
        assert_ne!(one, shared(&secret, "msg_1", "1614265331", b"{}"));
        assert_ne!(one, shared(&secret, "msg_1", "1614265330", b"{ }"));
    }

    #[test]
    fn pauses_grow_and_are_bounded() {
        assert!(pause(1, None) <= Duration::from_millis(1200));
        assert!(Duration::from_millis(3200) <= pause(3, None));
        assert!(pause(40, None) <= Duration::from_secs(360));
        assert!(Duration::from_secs(24) <= pause(1, Some(30)));
    }

    #[test]
    fn names_of_events_cover_what_is_below_them() {
        let hook = |events: &[&str]| Hook {
            id: String::new(),
            url: String::new(),
            events: events.iter().map(|name| (*name).to_owned()).collect(),
            secret: None,
            created: String::new(),
        };
        assert!(hook(&[]).wants("asset.created"));
        assert!(hook(&["contract.negotiation"]).wants("contract.negotiation.finalized"));
        assert!(!hook(&["contract.neg"]).wants("contract.negotiation.finalized"));
        assert!(!hook(&["transfer.process"]).wants("contract.negotiation.finalized"));
    }
}
