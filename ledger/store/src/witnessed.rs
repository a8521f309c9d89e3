//! The third acknowledgement: the newest checkpoint that a quorum of witnesses has cosigned.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shuyu_tlog::SignedCheckpoint;
use tokio::sync::watch;

use crate::commit::Committed;
use crate::disk;
use crate::latency::Latency;
use crate::ledger::LogPaths;

/// Most batches whose waiting for witnesses is measured; what comes more is counted with the last.
const MAX_WAITING: usize = 4096;

/// The name of the file beside `checkpoint`.
const FILE: &str = "witnessed";

/// What witnesses have cosigned of one log. The publisher and the owner share it.
pub(crate) struct Witnessed {
    file: PathBuf,
    head: watch::Sender<Option<Arc<SignedCheckpoint>>>,
    /// Whether anyone is to be waited for.
    is_expected: AtomicBool,
    waiting: Mutex<VecDeque<Committed>>,
    latency: Arc<Latency>,
}

impl Witnessed {
    /// What the last run left; `head` has been verified.
    pub fn new(paths: &LogPaths, head: Option<Arc<SignedCheckpoint>>, latency: Arc<Latency>) -> Self {
        let (file, head) = (Self::file(paths), watch::Sender::new(head));
        Self { file, head, is_expected: AtomicBool::new(false), waiting: Mutex::default(), latency }
    }

    pub fn expect(&self) {
        self.is_expected.store(true, Ordering::Relaxed);
    }

    pub fn file(paths: &LogPaths) -> PathBuf {
        paths.tlog.join(FILE)
    }

    /// This batch is durable and waits for witnesses.
    pub fn wait(&self, batch: Committed) {
        if !self.is_expected.load(Ordering::Relaxed) {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() < MAX_WAITING {
            waiting.push_back(batch);
        } else if let Some(last) = waiting.back_mut() {
            last.size = batch.size;
            last.count += batch.count;
        }
    }

    /// Keeps and shows a cosigned checkpoint; one that is not newer than the last is left alone.
    pub fn show(&self, head: Arc<SignedCheckpoint>) -> io::Result<()> {
        let size = head.checkpoint().size;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.head.borrow().as_ref().is_some_and(|known| size < known.checkpoint().size) {
            return Ok(());
        }
        disk::replace(&self.file, head.bytes())?;
        while let Some(batch) = waiting.pop_front_if(|batch| batch.size <= size) {
            self.latency.observe(batch.since.elapsed(), batch.count);
        }
        self.head.send_replace(Some(head));
        Ok(())
    }

    pub fn head(&self) -> watch::Receiver<Option<Arc<SignedCheckpoint>>> {
        self.head.subscribe()
    }
}
