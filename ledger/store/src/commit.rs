//! The committer makes batches durable, one after another; while the next one is on its way to the disk, the finisher
//! answers and the indexer indexes.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender};
use std::time::Instant;

use shuyu_tlog::Hash;

use crate::batch::{Batch, Queue, Trees, Waiting};
use crate::index::SharedIndex;
use crate::latency::Latency;
use crate::ledger::AppendError;
use crate::promise::Promiser;
use crate::segment::{Place, Writer};

/// Most durable batches that wait for the finisher, and for the indexer; then the disk waits, and with it the callers.
pub(crate) const MAX_UNFINISHED: usize = 8;

/// News for a publisher: the log is durable up to `size`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committed {
    pub size: u64,
    /// When the oldest of the batch's appends was made.
    pub since: Instant,
    /// How many appends were waiting for it.
    pub count: u64,
}

/// What the index is told of a batch that was written.
pub(crate) struct Written {
    first: u64,
    place: Place,
    names: Vec<([u8; 32], String)>,
}

/// A batch whose fate is known.
pub(crate) struct Finished {
    waiting: Vec<Waiting>,
    written: Option<Written>,
    /// Index of the first entry, and the leaf hash of each.
    first: u64,
    leaves: Vec<Hash>,
    /// Entries that are durable now.
    durable: u64,
    error: Option<Arc<io::Error>>,
}

pub(crate) struct Committer {
    pub writer: Writer,
    /// What is durable.
    pub trees: Trees,
    pub queue: Arc<Queue>,
    pub index: Arc<SharedIndex>,
    /// To the publisher of each log.
    pub committed: Vec<Sender<Committed>>,
    pub finished: SyncSender<Finished>,
}

impl Committer {
    /// Runs until the sequencer is gone and everything is durable.
    pub fn run(mut self) {
        while let Some(batch) = self.queue.take() {
            self.commit(batch);
        }
    }

    fn commit(&mut self, mut batch: Batch) {
        let Some(frame) = batch.frame() else { return self.finish(batch, None, None) };
        match self.writer.append(batch.first(), &frame) {
            Ok(place) => {
                self.trees = batch.trees.clone();
                self.finish(batch, Some(place), None);
            }
            Err(error) => {
                let error = Arc::new(error);
                let behind = self.queue.rewind(self.trees.clone());
                self.finish(batch, None, Some(Arc::clone(&error)));
                if let Some(behind) = behind {
                    self.finish(behind, None, Some(error));
                }
            }
        }
    }

    fn finish(&mut self, batch: Batch, place: Option<Place>, error: Option<Arc<io::Error>>) {
        let durable = self.trees.log.size();
        self.index.set_durable(durable);
        let (first, names, leaves) = (batch.first(), batch.names, batch.leaves);
        let written = place.map(|place| Written { first, place, names });
        if written.is_some() {
            let since = batch.waiting.iter().map(|one| one.since).min().unwrap_or_else(Instant::now);
            let news = Committed { size: durable, since, count: batch.waiting.len() as u64 };
            // Without a publisher there is nobody to tell; the next append reports why it has halted.
            for publisher in &self.committed {
                let _ = publisher.send(news);
            }
        }
        // The finisher lives as long as this end of its queue.
        let _ = self.finished.send(Finished { waiting: batch.waiting, written, first, leaves, durable, error });
    }
}

pub(crate) struct Finisher {
    pub latency: Arc<Latency>,
    pub promiser: Arc<Promiser>,
    pub written: SyncSender<Written>,
}

/// Adds batches to the index until the finisher is gone.
pub(crate) fn run_indexer(index: &SharedIndex, written: &Receiver<Written>) {
    for Written { first, place, names } in written {
        // The entries are durable: whatever fails here must not fail an append.
        index.add(first, &names, place);
    }
}

impl Finisher {
    /// Runs until the committer is gone.
    pub fn run(self, batches: &Receiver<Finished>) {
        for batch in batches {
            self.finish(batch);
        }
    }

    fn finish(&self, batch: Finished) {
        let now = Instant::now();
        // What is durable may be promised; one signature covers the batch.
        let is_wanted = batch.written.is_some() && batch.waiting.iter().any(|one| one.wants_promise);
        let promise = is_wanted.then(|| self.promiser.sign(batch.first, &batch.leaves)).flatten();
        for Waiting { reply, place, since, wants_promise } in batch.waiting {
            // A repeat of an entry that was durable before does not depend on this batch.
            let outcome = match &batch.error {
                Some(source) if batch.durable <= place.index => Err(AppendError::Write { source: Arc::clone(source) }),
                Some(_) | None => {
                    let promise = promise.as_ref().filter(|_| wants_promise);
                    Ok((place, promise.and_then(|promise| promise.proof(place.index))))
                }
            };
            if outcome.is_ok() {
                self.latency.observe(now.saturating_duration_since(since), 1);
            }
            drop(reply.send(outcome));
        }
        if let Some(written) = batch.written {
            let _ = self.written.send(written);
        }
    }
}
