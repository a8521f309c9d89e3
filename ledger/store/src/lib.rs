//! The durable evidence log of one node: segments, tiles, index, group commit.
//!
//! In scope: one writer a directory; an append returns when its entry would survive a power cut; each entry is taken
//! once by its identity; tiles and a signed checkpoint follow within 200 ms in a directory that any web server can
//! serve as a C2SP tlog-tiles log, signed with Ed25519 and, where the node has the key, with SM2; on wish a twin of it
//! in a tree of SM3; a full re-verification of such a directory.
//! Out of scope: what the entries mean (`shuyu-evidence`), and serving them.
//!
//! ## On disk
//!
//! ```text
//! LOCK                       held by the one writer
//! segments/<first index>     batches, each framed with CRC32C and the roots before and after it: the truth
//! high-water                 the last checkpoint that was signed, kept apart from the served one; on wish a second one
//!                            on another disk
//! tlog/checkpoint, tlog/tile the served log (tlog-tiles)
//! tlog/witnessed             the newest checkpoint with the cosignatures of a quorum, if there are witnesses
//! tlog-sm3/, high-water-sm3  the same for the SM3 twin, if there is one
//! index/                     RocksDB: identities, processes, places of batches; rebuilt when lost or behind
//! ```
//!
//! ## When the disk fails
//!
//! A write that fails (a full disk) fails the appends of its batch, is cut away, and the log goes on: nothing that was
//! acknowledged is lost. A failed `fsync` ends the process: the kernel may have dropped the pages, so what is in memory
//! no longer says what is on disk; the next start reads the truth. A torn last batch is cut away at start, since it was
//! never acknowledged. Damage further back, or a log shorter than its last signed checkpoint, is never repaired by
//! forgetting: the ledger refuses to open and says what to do. [`Restorer`] fills an empty directory from a copy.

mod batch;
mod clock;
mod commit;
mod disk;
mod frame;
mod index;
mod keys;
mod latency;
mod ledger;
mod promise;
mod publish;
mod recheck;
mod recover;
mod restore;
mod segment;
mod sequence;
mod served;
mod verify;
mod witnessed;

pub use frame::{Frame, FrameError, Item, MAX_FRAME_BYTES, MAX_PROCESS_BYTES, read_frame};
pub use keys::{LedgerKeys, TWIN_SUFFIX};
pub use latency::{LATENCY_BOUNDS_MS, Latencies, Latency};
pub use ledger::{
    Append, AppendError, Appended, Ledger, LedgerOptions, MAX_QUEUED, MAX_READ_ENTRIES, PublishError, ReadError,
};
pub use promise::PROMISE_DELAY;
pub use recover::OpenError;
pub use restore::{RestoreError, Restorer};
pub use served::{Served, ShowError};
pub use shuyu_tlog::MAX_ENTRY_BYTES;
pub use verify::{LogReport, VerifyError, verify_dir, verify_twin_dir};
