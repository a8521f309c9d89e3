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
/// Most peers remembered; beyond that, those that answer are forgotten.
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
                peers.retain(|_, known| known.ask_again_at.is_some() || 1 < Arc::strong_count(&known.under_way));
            }
            let new = || Peer { under_way: Arc::new(Semaphore::new(MAX_UNDER_WAY)), unanswered: 0, ask_again_at: None };
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
                known.ask_again_at = Some(now.plus_millis(pause_ms(known.unanswered)));
                true
            }
        }
    }

    /// A message got no answer.
    pub fn unanswered(&self, peer: &str, now: UnixMillis) {
        if let Some(known) = self.peers().get_mut(peer) {
            known.unanswered = known.unanswered.saturating_add(1);
            if SILENT_AFTER <= known.unanswered {
                known.ask_again_at = Some(now.plus_millis(pause_ms(known.unanswered)));
            }
        }
    }

    /// The peer answered, or sent something itself.
    pub fn heard_of(&self, peer: &str) {
        let was_silent = self.peers().get_mut(peer).is_some_and(|known| {
            known.unanswered = 0;
            known.ask_again_at.take().is_some()
        });
        if was_silent {
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

    #[tokio::test]
    async fn a_silent_peer_is_asked_by_one_message_at_a_time() {
        let reach = Reach::default();
        let mut heard = reach.subscribe();
        let _place = reach.place("a").await.unwrap();
        for at in 0..3 {
            assert!(reach.may_ask("a", UnixMillis(at)));
            reach.unanswered("a", UnixMillis(at));
        }
        assert!(!reach.may_ask("a", UnixMillis(1_001)));
        assert!(reach.may_ask("a", UnixMillis(1_002)), "one finds out");
        assert!(!reach.may_ask("a", UnixMillis(1_003)), "the others wait");
        reach.unanswered("a", UnixMillis(1_100));
        assert!(!reach.may_ask("a", UnixMillis(3_099)), "longer each time");
        assert!(reach.may_ask("a", UnixMillis(3_100)));
        for at in 0..100 {
            reach.unanswered("a", UnixMillis(at));
        }
        assert!(reach.may_ask("a", UnixMillis(99 + 30_000)), "but not without end");
        assert!(reach.may_ask("b", UnixMillis(0)), "others are asked as ever");
        reach.heard_of("b");
        reach.heard_of("a");
        assert_eq!(heard.try_recv().as_deref(), Ok("a"));
        assert!(heard.try_recv().is_err(), "b was never silent");
        assert!(reach.may_ask("a", UnixMillis(0)));
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
        reach.place("b").await.unwrap();
        places.pop();
        reach.place("a").await.unwrap();
    }
}
