//! Which processes are open with whom, so that no peer opens them without end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use crate::problem::Problem;

/// Open processes by peer. The store is the truth; this follows it from the start of the node on.
#[derive(Debug)]
pub struct OpenProcesses {
    /// Most processes open with one peer for it to open another.
    max_per_peer: usize,
    by_peer: Mutex<HashMap<String, HashSet<String>>>,
}

impl OpenProcesses {
    /// None so far.
    pub fn new(max_per_peer: usize) -> Self {
        Self { max_per_peer, by_peer: Mutex::default() }
    }

    fn by_peer(&self) -> MutexGuard<'_, HashMap<String, HashSet<String>>> {
        self.by_peer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this peer may open another.
    ///
    /// # Errors
    /// 429.
    pub fn check_room(&self, peer: &str) -> Result<(), Problem> {
        let open = self.by_peer().get(peer).map_or(0, HashSet::len);
        if open < self.max_per_peer {
            return Ok(());
        }
        let words = format!("{open} processes are open between us, the most this node allows; end some first");
        Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, words))
    }

    /// The processes open with this peer.
    pub fn with(&self, peer: &str) -> Vec<String> {
        self.by_peer().get(peer).into_iter().flatten().cloned().collect()
    }

    /// Notes how a process stands now.
    pub fn note(&self, peer: &str, pid: &str, is_over: bool) {
        let mut by_peer = self.by_peer();
        if !is_over {
            by_peer.entry(peer.to_owned()).or_default().insert(pid.to_owned());
            return;
        }
        if let Some(open) = by_peer.get_mut(peer) {
            open.remove(pid);
            if open.is_empty() {
                by_peer.remove(peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_fills_its_own_room_only() {
        let open = OpenProcesses::new(2);
        for pid in ["a", "b"] {
            open.check_room("did:web:x.example").unwrap();
            open.note("did:web:x.example", pid, false);
            open.note("did:web:x.example", "a", false);
        }
        let full = open.check_room("did:web:x.example").unwrap_err();
        assert_eq!(full.status, StatusCode::TOO_MANY_REQUESTS);
        open.check_room("did:web:y.example").unwrap();
        open.note("did:web:x.example", "b", true);
        open.note("did:web:x.example", "never seen", true);
        open.check_room("did:web:x.example").unwrap();
    }
}
