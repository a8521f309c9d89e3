//! The sequencer: one thread that gives every entry its place, makes batches durable, and only then answers.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};

use shuyu_tlog::{Tree, leaf_hash};
use tokio::sync::{mpsc, oneshot, watch};

use crate::frame::{Frame, Item, MAX_FRAME_BYTES, write_frame};
use crate::index::Index;
use crate::ledger::{AppendError, Appended, Paths};
use crate::publish::{KIND, Published};
use crate::recover;
use crate::segment::Writer;

/// Most entries in one batch; one `fdatasync` covers them all.
const MAX_BATCH_ENTRIES: usize = 4096;

/// A batch takes no further entry once it has this many bytes.
const MAX_BATCH_BYTES: usize = MAX_FRAME_BYTES / 4;

/// An append on its way to the sequencer.
pub(crate) struct Request {
    pub item: Item,
    pub reply: oneshot::Sender<Result<Appended, AppendError>>,
}

/// The index, or nothing while it cannot be opened (a full disk); readers hold the lock while they read.
pub(crate) type SharedIndex = Arc<RwLock<Option<Index>>>;

pub(crate) struct Sequencer {
    pub paths: Paths,
    pub writer: Writer,
    pub tree: Tree,
    /// The SM3 twin's tree, as large as `tree`.
    pub twin: Option<Tree>,
    pub index: SharedIndex,
    /// To the publisher of each log.
    pub committed: Vec<Sender<u64>>,
    pub published: Vec<watch::Receiver<Published>>,
}

impl Sequencer {
    /// Runs until the ledger is dropped and the queue is empty.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.item.bytes.len();
            let mut batch = vec![first];
            while batch.len() < MAX_BATCH_ENTRIES && bytes < MAX_BATCH_BYTES {
                let Ok(next) = requests.try_recv() else { break };
                bytes += next.item.bytes.len();
                batch.push(next);
            }
            self.commit(batch);
        }
    }

    /// Commits a batch and answers every request in it.
    fn commit(&mut self, batch: Vec<Request>) {
        let (mut items, mut places, mut replies) = (Vec::new(), Vec::new(), Vec::new());
        match self.place(&batch) {
            Err(error) => return batch.into_iter().for_each(|one| answer(one.reply, Err(error.clone()))),
            Ok(found) => places.extend(found),
        }
        for (request, place) in batch.into_iter().zip(&places) {
            if !place.duplicate {
                items.push(request.item);
            }
            replies.push(request.reply);
        }
        let outcome = if items.is_empty() { Ok(()) } else { self.write(items) };
        for (reply, place) in replies.into_iter().zip(places) {
            // A repeat of an entry that was durable before does not depend on this batch.
            let is_old = place.duplicate && place.index < self.tree.size();
            answer(reply, if is_old { Ok(place) } else { outcome.clone().map(|()| place) });
        }
    }

    /// Gives each request its place: that of the entry it repeats, or the next free one.
    fn place(&self, batch: &[Request]) -> Result<Vec<Appended>, AppendError> {
        for published in &self.published {
            if let Err(reason) = &*published.borrow() {
                return Err(AppendError::Halted { reason: reason.clone() });
            }
        }
        self.ready_index()?;
        let guard = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let index = guard.as_ref().ok_or_else(|| AppendError::Index { detail: "not open".to_owned() })?;
        let mut new: HashMap<[u8; 32], u64> = HashMap::new();
        let mut places = Vec::with_capacity(batch.len());
        for request in batch {
            let dedup = request.item.dedup;
            let known = match new.get(&dedup) {
                Some(at) => Some(*at),
                None => index.find(&dedup).map_err(|error| AppendError::Index { detail: error.to_string() })?,
            };
            let next = self.tree.size() + new.len() as u64;
            if known.is_none() {
                new.insert(dedup, next);
            }
            places.push(Appended { index: known.unwrap_or(next), duplicate: known.is_some() });
        }
        Ok(places)
    }

    /// Opens the index again after a failure, and brings it up to the log: an entry that is not in it could be added
    /// twice.
    fn ready_index(&self) -> Result<(), AppendError> {
        let is_ready = self.index.read().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_ready {
            return Ok(());
        }
        let opened = recover::open_index(&self.paths, self.tree.size());
        let index = opened.map_err(|error| AppendError::Index { detail: error.to_string() })?;
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Some(index);
        Ok(())
    }

    /// Makes the entries durable, then indexes them.
    fn write(&mut self, items: Vec<Item>) -> Result<(), AppendError> {
        let mut tree = self.tree.clone();
        items.iter().for_each(|item| tree.push(leaf_hash(KIND, &item.bytes)));
        let mut twin = self.twin.clone();
        if let Some(twin) = &mut twin {
            items.iter().for_each(|item| twin.push(leaf_hash(twin.kind(), &item.bytes)));
        }
        let (first, twin_root) = (self.tree.size(), twin.as_ref().map(Tree::root));
        let frame = Frame { first, previous_root: self.tree.root(), new_root: tree.root(), twin_root, items };
        let written = self.writer.append(first, &write_frame(&frame));
        let place = written.map_err(|source| AppendError::Write { source: Arc::new(source) })?;
        (self.tree, self.twin) = (tree, twin);
        // From here on the entries are durable: whatever fails below must not fail the append.
        let mut guard = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = guard.as_ref().map(|index| index.add(&frame, place)) {
            tracing::warn!(%error, "index not written; it will be rebuilt from the segments");
            *guard = None;
        }
        drop(guard);
        // Without a publisher there is nobody to tell; the next append reports why it has halted.
        for committed in &self.committed {
            let _ = committed.send(self.tree.size());
        }
        Ok(())
    }
}

/// The caller may have gone away; its entry is in the log all the same.
fn answer(reply: oneshot::Sender<Result<Appended, AppendError>>, outcome: Result<Appended, AppendError>) {
    let _ = reply.send(outcome);
}
