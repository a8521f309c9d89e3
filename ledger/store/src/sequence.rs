//! The sequencer: one thread that gives every entry its place and hashes it into the open batch.
//!
//! While the committer syncs one batch, the next one is filled here: whatever has come until the disk is free again is
//! one batch (group commit). Nobody is answered before the batch is durable.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::time::Instant;

use shuyu_tlog::{Hash, PromiseProof, Tree, leaf_hash};
use tokio::sync::{mpsc, oneshot, watch};

use crate::batch::{Batch, Queue, Room, Trees};
use crate::frame::Item;
use crate::index::SharedIndex;
use crate::ledger::{AppendError, Appended, Paths};
use crate::publish::{KIND, Published};
use crate::recover;

/// Most requests taken from the queue at a time: small enough that the open batch is seldom locked for long.
const MAX_CHUNK: usize = 512;

/// A chunk takes no further request once it has this many bytes, so that it always fits the frame behind a batch that
/// was nearly full.
const MAX_CHUNK_BYTES: usize = 4 * 1024 * 1024;

/// Where the answer to an append goes. The caller may have gone away; its entry is in the log all the same.
pub(crate) type Reply = oneshot::Sender<Result<Answer, AppendError>>;

/// Where an entry is, with the promise about it where one was wanted and the batch was its first.
pub(crate) type Answer = (Appended, Option<PromiseProof>);

/// An append on its way to the sequencer.
pub(crate) struct Request {
    pub item: Item,
    pub since: Instant,
    pub reply: Reply,
    pub wants_promise: bool,
}

pub(crate) struct Sequencer {
    pub paths: Paths,
    pub trees: Trees,
    pub index: Arc<SharedIndex>,
    pub queue: Arc<Queue>,
    pub published: Vec<watch::Receiver<Published>>,
    pub recent: Recent,
}

/// Identities that the index may not have yet.
#[derive(Default)]
pub(crate) struct Recent {
    places: HashMap<[u8; 32], u64, BuildHasherDefault<IdentityHasher>>,
    order: VecDeque<(u64, [u8; 32])>,
}

/// Takes eight bytes of an identity as they are: identities are digests already.
#[derive(Default)]
struct IdentityHasher(u64);

impl Hasher for IdentityHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk::<8>() {
            self.0 = self.0.rotate_left(5) ^ u64::from_ne_bytes(*first);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Recent {
    fn add(&mut self, dedup: [u8; 32], index: u64) {
        self.places.insert(dedup, index);
        self.order.push_back((index, dedup));
    }

    /// Forgets what the index has.
    fn forget_below(&mut self, indexed: u64) {
        while let Some((_, dedup)) = self.order.pop_front_if(|(index, _)| *index < indexed) {
            self.places.remove(&dedup);
        }
    }

    /// Forgets what never became durable.
    fn forget_from(&mut self, size: u64) {
        while let Some((_, dedup)) = self.order.pop_back_if(|(index, _)| size <= *index) {
            self.places.remove(&dedup);
        }
    }
}

impl Sequencer {
    /// Runs until the ledger is dropped and the queue is empty.
    pub fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut chunk = Vec::with_capacity(MAX_CHUNK);
        while 0 < requests.blocking_recv_many(&mut chunk, MAX_CHUNK) {
            let (mut part, mut bytes) = (Vec::with_capacity(chunk.len()), 0);
            for request in chunk.drain(..) {
                bytes += request.item.bytes.len();
                part.push(request);
                if MAX_CHUNK_BYTES <= bytes {
                    self.sequence(std::mem::take(&mut part));
                    bytes = 0;
                }
            }
            if !part.is_empty() {
                self.sequence(part);
            }
        }
        self.queue.close();
    }

    /// Adds a chunk of requests to the open batch, once there is room.
    fn sequence(&mut self, chunk: Vec<Request>) {
        loop {
            let places = match self.place(&chunk) {
                Ok(places) => places,
                Err(error) => return chunk.into_iter().for_each(|one| drop(one.reply.send(Err(error.clone())))),
            };
            let (trees, leaves) = self.grown(&chunk, &places);
            let queue = Arc::clone(&self.queue);
            match queue.room() {
                Room::Rewound(durable) => {
                    // The disk refused an earlier batch, and everything behind it was refused with it.
                    self.recent.forget_from(durable.log.size());
                    self.trees = durable;
                }
                Room::Open(mut state) => {
                    let batch = state.open.get_or_insert_with(|| Batch::after(&self.trees));
                    for (request, place) in chunk.into_iter().zip(places) {
                        if !place.duplicate {
                            self.recent.add(request.item.dedup, place.index);
                        }
                        batch.add(request, place);
                    }
                    batch.leaves.extend(leaves);
                    batch.trees = trees.clone();
                    self.trees = trees;
                    return;
                }
            }
        }
    }

    /// Gives each request its place: that of the entry it repeats, or the next free one.
    fn place(&mut self, chunk: &[Request]) -> Result<Vec<Appended>, AppendError> {
        for published in &self.published {
            if let Err(reason) = &*published.borrow() {
                return Err(AppendError::Halted { reason: reason.clone() });
            }
        }
        // An entry that is not in the index could be added twice: opened anew, it is brought up to the log.
        let failed = |detail: String| AppendError::Index { detail };
        let opened = self.index.ready(|state, durable| recover::reopen_index(&self.paths, state, durable));
        opened.map_err(|error| failed(error.to_string()))?;
        self.recent.forget_below(self.index.size());
        let mut new: HashMap<[u8; 32], u64, BuildHasherDefault<IdentityHasher>> = HashMap::default();
        let mut places = Vec::with_capacity(chunk.len());
        for request in chunk {
            let dedup = request.item.dedup;
            let known = match self.recent.places.get(&dedup).or_else(|| new.get(&dedup)) {
                Some(at) => Some(*at),
                None => self.index.peek(|index| index.find(&dedup)).map_err(failed)?,
            };
            let next = self.trees.log.size() + new.len() as u64;
            if known.is_none() {
                new.insert(dedup, next);
            }
            places.push(Appended { index: known.unwrap_or(next), duplicate: known.is_some() });
        }
        Ok(places)
    }

    /// The trees with the new entries of the chunk, and their leaf hashes.
    fn grown(&self, chunk: &[Request], places: &[Appended]) -> (Trees, Vec<Hash>) {
        let mut trees = self.trees.clone();
        let mut leaves = Vec::with_capacity(chunk.len());
        for (request, _) in chunk.iter().zip(places).filter(|(_, place)| !place.duplicate) {
            let leaf = leaf_hash(KIND, &request.item.bytes);
            trees.log.push(leaf);
            leaves.push(leaf);
            if let Some(twin) = &mut trees.twin {
                twin.push(leaf_hash(twin.kind(), &request.item.bytes));
            }
        }
        (trees, leaves)
    }
}

/// The sizes of both trees are one.
impl Trees {
    pub fn twin_root(&self) -> Option<Hash> {
        self.twin.as_ref().map(Tree::root)
    }
}
