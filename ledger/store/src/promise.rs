//! Promises over durable batches: signed when somebody asks for one, once for the whole batch.

use std::time::Duration;

use shuyu_tlog::{Hash, NoteSigner, Promise, SignedPromise};

use crate::clock;

/// How long after an entry became durable a checkpoint covers it at the latest: the log's maximum merge delay.
///
/// A checkpoint follows within 200 ms where the disk takes it; the rest is for an operator who makes room on a full one.
pub const PROMISE_DELAY: Duration = Duration::from_secs(3600);

/// Signs promises in the name of the log.
#[derive(Clone, Debug)]
pub(crate) struct Promiser {
    /// The log's Ed25519 key.
    pub signer: NoteSigner,
    pub within: Duration,
}

impl Promiser {
    /// Promises the entries with these leaf hashes, the first at index `first`. `None` for none.
    pub fn sign(&self, first: u64, leaves: &[Hash]) -> Option<SignedPromise> {
        Promise::sign(&self.signer, first, leaves, clock::now_s().saturating_add(self.within.as_secs())).ok()
    }
}
