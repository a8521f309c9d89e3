//! Which peers answer at the moment. One that gave no answer several times is asked again only now and then, by one
//! message at a time, however many wait for it; the others wait until it is heard of.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shuyu_base::UnixMillis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};

/// Messages under way to one peer at once.
const MAX_UNDER_WAY: usize = 64;
/// Unanswered messages in a row after which a peer counts as silent.
const SILENT_AFTER: u32 = 3;
/// First and longest pause before a silent peer is asked again, in milliseconds.
const PAUSE_MS: (i64, i64) = (1_000, 30_000);
/// How long the one message that finds out may take, in milliseconds: longer than a request does.
const PROBE_MS: i64 = 35_000;
/// A peer that comes and goes wakes what waits for it no more often than this, in milliseconds.
const WAKE_EVERY_MS: i64 = 5_000;
/// Most peers remembered; beyond that, those with nothing under way are forgotten.
const MAX_PEERS: usize = 10_000;
/// Peers heard of again that a slow listener may fall behind; it then waits for its own timers.
const MAX_HEARD: usize = 256;

/// Who answers.
pub struct Reach {
    peers: Mutex<HashMap<String, Peer>>,
    heard: broadcast::Sender<String>,
}

struct Peer {
    under_way: Arc<Semaphore>,
    unanswered: u32,
    /// The last time it was heard of, or a failure was counted: what began before says nothing new.
    known_at: UnixMillis,
    woken_at: UnixMillis,
    /// Set while it is silent: when it may be asked again.
    ask_again_at: Option<UnixMillis>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { peers: Mutex::default(), heard: broadcast::channel(MAX_HEARD).0 }
    }
}

impl Reach {
    fn peers(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Peers that were silent and are heard of again.
    pub fn subscribe(&self) -> broadcast::Receiver<String> {
        self.heard.subscribe()
    }

    /// Waits for a place among the messages under way to this peer.
    pub async fn place(&self, peer: &str) -> Option<OwnedSemaphorePermit> {
        let under_way = {
            let mut peers = self.peers();
            if MAX_PEERS <= peers.len() && !peers.contains_key(peer) {
                peers.retain(|_, known| 1 < Arc::strong_count(&known.under_way));
            }
            let new = || Peer {
                under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
                unanswered: 0,
                known_at: UnixMillis(i64::MIN),
                woken_at: UnixMillis(i64::MIN),
                ask_again_at: None,
            };
            Arc::clone(&peers.entry(peer.to_owned()).or_insert_with(new).under_way)
        };
        under_way.acquire_owned().await.ok()
    }

    /// Whether the peer may be asked now. Of a silent one only one message finds out.
    pub fn may_ask(&self, peer: &str, now: UnixMillis) -> bool {
        let mut peers = self.peers();
        let Some(known) = peers.get_mut(peer) else { return true };
        match known.ask_again_at {
            None => true,
            Some(at) if now < at => false,
            Some(_) => {
                known.ask_again_at = Some(now.plus_millis(PROBE_MS));
                true
            }
        }
    }

    /// A message that was begun at `began` got no answer.
    pub fn unanswered(&self, peer: &str, began: UnixMillis, now: UnixMillis) {
        if let Some(known) = self.peers().get_mut(peer)
            && known.known_at <= began
        {
            known.known_at = now;
            known.unanswered = known.unanswered.saturating_add(1);
            if SILENT_AFTER <= known.unanswered {
                known.ask_again_at = Some(now.plus_millis(pause_ms(known.unanswered)));
            }
        }
    }

    /// The peer answered, or sent something itself.
    pub fn heard_of(&self, peer: &str, now: UnixMillis) {
        let is_news = self.peers().get_mut(peer).is_some_and(|known| {
            known.unanswered = 0;
            known.known_at = now;
            let was_silent = known.ask_again_at.take().is_some();
            let is_news = was_silent && known.woken_at <= now.plus_millis(-WAKE_EVERY_MS);
            if is_news {
                known.woken_at = now;
            }
            is_news
        });
        if is_news {
            // Nobody may be listening.
            let _ = self.heard.send(peer.to_owned());
        }
    }
}

fn pause_ms(unanswered: u32) -> i64 {
    let (first, longest) = PAUSE_MS;
    let doublings = unanswered.saturating_sub(SILENT_AFTER).min(16);
    (first << doublings).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> UnixMillis {
        UnixMillis(ms)
    }

    #[tokio::test]
    async fn a_silent_peer_is_asked_by_one_message_at_a_time() {
        let reach = Reach::default();
        let mut heard = reach.subscribe();
        let _place = reach.place("a").await.unwrap();
        // Many at once that fail together are one failure.
        for _ in 0..64 {
            assert!(reach.may_ask("a", at(0)));
        }
        for _ in 0..64 {
            reach.unanswered("a", at(0), at(10));
        }
        for n in [20, 30] {
            assert!(reach.may_ask("a", at(n)));
            reach.unanswered("a", at(n), at(n));
        }
        assert!(!reach.may_ask("a", at(1_029)));
        assert!(reach.may_ask("a", at(1_030)), "one finds out");
        assert!(!reach.may_ask("a", at(30_000)), "the others wait as long as it may take");
        reach.unanswered("a", at(1_030), at(31_000));
        assert!(!reach.may_ask("a", at(32_999)), "longer each time");
        assert!(reach.may_ask("a", at(33_000)));
        for n in 0..100 {
            reach.unanswered("a", at(40_000 + n), at(40_000 + n));
        }
        assert!(reach.may_ask("a", at(40_099 + 30_000)), "but not without end");
        assert!(reach.may_ask("b", at(0)), "others are asked as ever");
        reach.heard_of("b", at(80_000));
        reach.heard_of("a", at(80_000));
        assert_eq!(heard.try_recv().as_deref(), Ok("a"));
        assert!(heard.try_recv().is_err(), "b was never silent");
        assert!(reach.may_ask("a", at(80_000)));
        // What began before it was heard of says nothing.
        for _ in 0..3 {
            reach.unanswered("a", at(79_999), at(80_001));
        }
        assert!(reach.may_ask("a", at(80_002)));
        // One that comes and goes wakes nobody all the time.
        for n in [80_010, 80_020, 80_030] {
            reach.unanswered("a", at(n), at(n));
        }
        reach.heard_of("a", at(80_040));
        assert!(heard.try_recv().is_err());
        assert!(reach.may_ask("a", at(80_041)), "it is asked all the same");
    }

    #[tokio::test]
    async fn so_many_are_under_way_and_no_more() {
        let reach = Reach::default();
        let mut places = Vec::new();
        for _ in 0..MAX_UNDER_WAY {
            places.push(reach.place("a").await.unwrap());
        }
        let waits = tokio::time::timeout(std::time::Duration::from_millis(1), reach.place("a")).await;
        assert!(waits.is_err());
        drop(reach.place("b").await.unwrap());
        places.pop();
        drop(reach.place("a").await.unwrap());
    }
}
