//! The open batch between the sequencer and the committer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use shuyu_tlog::{Hash, Tree};

use crate::frame::{FrameHead, MAX_FRAME_BYTES, begin_frame, finish_frame, write_item};
use crate::ledger::Appended;
use crate::sequence::{Reply, Request};

/// Most entries in one batch; one `fdatasync` covers them all.
const MAX_BATCH_ENTRIES: usize = 8192;

/// A batch takes no further entry once it has this many bytes; a chunk of the largest entries still fits the frame.
const MAX_BATCH_BYTES: usize = MAX_FRAME_BYTES / 4;

/// The tree of the log and that of its twin, both over the same entries.
#[derive(Clone)]
pub(crate) struct Trees {
    pub log: Tree,
    pub twin: Option<Tree>,
}

/// What was asked and where it is.
pub(crate) struct Waiting {
    pub reply: Reply,
    pub place: Appended,
    pub since: Instant,
    pub wants_promise: bool,
}

/// Entries that become durable together.
pub(crate) struct Batch {
    first: u64,
    previous_root: Hash,
    /// After the batch.
    pub trees: Trees,
    /// The frame as far as it is known: entries behind an empty head.
    frame: Vec<u8>,
    /// Identity and process of each entry.
    pub names: Vec<([u8; 32], String)>,
    /// Leaf hash of each entry.
    pub leaves: Vec<Hash>,
    /// Those who repeated an entry too.
    pub waiting: Vec<Waiting>,
}

impl Batch {
    pub fn after(trees: &Trees) -> Self {
        let (first, previous_root) = (trees.log.size(), trees.log.root());
        Self {
            first,
            previous_root,
            trees: trees.clone(),
            frame: begin_frame(trees.twin.is_some()),
            names: Vec::new(),
            leaves: Vec::new(),
            waiting: Vec::new(),
        }
    }

    pub fn add(&mut self, request: Request, place: Appended) {
        if !place.duplicate {
            write_item(&mut self.frame, &request.item);
            self.names.push((request.item.dedup, request.item.process));
        }
        let Request { since, reply, wants_promise, .. } = request;
        self.waiting.push(Waiting { reply, place, since, wants_promise });
    }

    /// Index of its first entry.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// The bytes of the frame; `None` if everything in it repeats what was there.
    pub fn frame(&mut self) -> Option<Vec<u8>> {
        if self.names.is_empty() {
            return None;
        }
        let head = FrameHead {
            first: self.first,
            count: self.names.len(),
            previous_root: self.previous_root,
            new_root: self.trees.log.root(),
            twin_root: self.trees.twin_root(),
        };
        Some(finish_frame(&head, std::mem::take(&mut self.frame)))
    }

    fn is_full(&self) -> bool {
        MAX_BATCH_ENTRIES <= self.waiting.len() || MAX_BATCH_BYTES <= self.frame.len()
    }
}

/// The place where batches change hands.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
pub(crate) struct State {
    pub open: Option<Batch>,
    /// What is durable, after a batch could not be written, until the sequencer has gone back to it.
    rewind: Option<Trees>,
    is_closed: bool,
}

/// What the sequencer may do.
pub(crate) enum Room<'a> {
    /// Add to the open batch; the committer is told when the guard is dropped.
    Open(Filling<'a>),
    /// Go back to this state and place everything anew.
    Rewound(Trees),
}

/// The open batch, held by the sequencer.
pub(crate) struct Filling<'a> {
    state: MutexGuard<'a, State>,
    changed: &'a Condvar,
}

impl std::ops::Deref for Filling<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl std::ops::DerefMut for Filling<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        self.changed.notify_all();
    }
}

impl Queue {
    /// Waits until the open batch takes more entries.
    pub fn room(&self) -> Room<'_> {
        let mut state = self.lock();
        loop {
            if let Some(trees) = state.rewind.take() {
                return Room::Rewound(trees);
            }
            if !state.open.as_ref().is_some_and(Batch::is_full) {
                return Room::Open(Filling { state, changed: &self.changed });
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that nothing more will be added.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Waits for a batch; `None` once there will be none.
    pub fn take(&self) -> Option<Batch> {
        let mut state = self.lock();
        loop {
            if let Some(batch) = state.open.take() {
                self.changed.notify_all();
                return Some(batch);
            }
            if state.is_closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// After a batch could not be written: takes what was built on it, and sends the sequencer back to `durable`.
    pub fn rewind(&self, durable: Trees) -> Option<Batch> {
        let mut state = self.lock();
        state.rewind = Some(durable);
        self.changed.notify_all();
        state.open.take()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
