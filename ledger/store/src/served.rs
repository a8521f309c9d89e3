//! A served log: its last checkpoint, its tiles, and proofs from them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use shuyu_base::HashKind;
use shuyu_tlog::tile::TILE_WIDTH;
use shuyu_tlog::{
    Hash, InclusionProof, Note, OpenCheckpointError, SignedCheckpoint, TileHashes, TilePath, Vkey, prove_consistency,
    prove_inclusion,
};
use tokio::sync::watch;

use crate::disk;
use crate::ledger::ReadError;
use crate::publish::Published;
use crate::witnessed::Witnessed;

/// A log as it is served: the ledger's own, or its SM3 twin.
pub struct Served {
    kind: HashKind,
    tlog: PathBuf,
    /// Invariant: at least one.
    keys: Vec<Vkey>,
    published: watch::Receiver<Published>,
    shown: Shown,
}

/// What the served checkpoint is exchanged with when cosignatures come.
pub(crate) struct Shown {
    pub news: watch::Sender<Published>,
    pub serving: Arc<Mutex<()>>,
    /// `None` for a log that nobody witnesses.
    pub witnessed: Option<Arc<Witnessed>>,
}

/// Why a cosigned checkpoint was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShowError {
    /// It is not a checkpoint of this log.
    #[error("cosigned checkpoint is not one of this log")]
    Checkpoint(#[from] OpenCheckpointError),
    /// The file could not be written.
    #[error("cosigned checkpoint could not be written")]
    Io(#[from] io::Error),
}

impl Served {
    pub(crate) fn new(
        kind: HashKind,
        tlog: PathBuf,
        keys: Vec<Vkey>,
        published: watch::Receiver<Published>,
        shown: Shown,
    ) -> Self {
        Self { kind, tlog, keys, published, shown }
    }

    /// The last published checkpoint. It follows an append within 200 ms, or as soon as the disk allows.
    ///
    /// # Errors
    /// [`ReadError::Halted`].
    pub fn checkpoint(&self) -> Result<Arc<SignedCheckpoint>, ReadError> {
        let published = self.published.borrow();
        published.as_ref().map(Arc::clone).map_err(|reason| ReadError::Halted { reason: reason.clone() })
    }

    /// Waits for a checkpoint that covers entry `index`, and returns it.
    ///
    /// # Errors
    /// [`ReadError::Halted`] when there will be none.
    pub async fn included(&self, index: u64) -> Result<Arc<SignedCheckpoint>, ReadError> {
        let mut published = self.published.clone();
        let covers = |published: &Published| published.as_ref().map_or(true, |head| index < head.checkpoint().size);
        let seen = published.wait_for(covers).await;
        let closed = |_| ReadError::Halted { reason: "ledger is closed".to_owned() };
        seen.map_err(closed)?.clone().map_err(|reason| ReadError::Halted { reason })
    }

    /// From now on, how long entries wait for witnesses is measured.
    pub fn expect_witnesses(&self) {
        if let Some(witnessed) = &self.shown.witnessed {
            witnessed.expect();
        }
    }

    /// Keeps and serves a checkpoint of this log with the cosignatures of a quorum: as `witnessed`, and as `checkpoint`
    /// too if that is still the newest. The caller has verified the cosignatures. Writes the disk.
    ///
    /// # Errors
    /// [`ShowError`].
    pub fn show_witnessed(&self, cosigned: &Note) -> Result<(), ShowError> {
        let bytes = cosigned.to_string().into_bytes();
        let head = Arc::new(SignedCheckpoint::open(&bytes, self.vkey())?);
        let _serving = self.shown.serving.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(witnessed) = &self.shown.witnessed {
            witnessed.show(Arc::clone(&head))?;
        }
        let newest = self.checkpoint().ok();
        if newest.is_some_and(|newest| newest.bytes().starts_with(cosigned.text().as_bytes())) {
            disk::replace(&self.tlog.join("checkpoint"), &bytes)?;
            drop(self.shown.news.send_replace(Ok(head)));
        }
        Ok(())
    }

    /// The newest checkpoint that a quorum of witnesses has cosigned, if there is one.
    pub fn witnessed_head(&self) -> Option<Arc<SignedCheckpoint>> {
        self.shown.witnessed.as_ref().and_then(|witnessed| witnessed.head().borrow().clone())
    }

    /// Waits for a checkpoint that covers entry `index` and that a quorum of witnesses has cosigned. Where there are no
    /// witnesses it waits for ever.
    ///
    /// # Errors
    /// [`ReadError::Halted`] when the ledger is closed, or when the log has no witnesses by its kind.
    pub async fn witnessed(&self, index: u64) -> Result<Arc<SignedCheckpoint>, ReadError> {
        let closed = || ReadError::Halted { reason: "ledger is closed".to_owned() };
        let mut heads = self.shown.witnessed.as_ref().ok_or_else(closed)?.head();
        let covers =
            |head: &Option<Arc<SignedCheckpoint>>| head.as_ref().is_some_and(|head| index < head.checkpoint().size);
        let seen = heads.wait_for(covers).await.map_err(|_| closed())?;
        seen.clone().ok_or_else(closed)
    }

    /// The proof file for entry `index` under the last published checkpoint. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Outside`] for an entry that no checkpoint covers yet (see [`Self::included`]).
    pub fn prove(&self, index: u64) -> Result<InclusionProof, ReadError> {
        self.prove_under(&*self.checkpoint()?, index)
    }

    /// The proof file for entry `index` under a checkpoint of this log, such as [`Self::witnessed_head`]. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Outside`] for an entry that the checkpoint does not cover.
    pub fn prove_under(&self, signed: &SignedCheckpoint, index: u64) -> Result<InclusionProof, ReadError> {
        let size = signed.checkpoint().size;
        if size <= index {
            return Err(ReadError::Outside { index, size });
        }
        let source = TileHashes::new(self.kind, size, |path: &TilePath| self.tile(path));
        let path = prove_inclusion(self.kind, index, size, &source);
        let path = path.map_err(|error| ReadError::Tiles { detail: error.to_string() })?;
        let checkpoint = String::from_utf8_lossy(signed.bytes()).into_owned();
        Ok(InclusionProof { extra: None, index, path, checkpoint })
    }

    /// The proof that the log of `old` entries is a prefix of the published one. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Outside`] when the published log is smaller.
    pub fn prove_consistency(&self, old: u64) -> Result<(Vec<Hash>, Arc<SignedCheckpoint>), ReadError> {
        let signed = self.checkpoint()?;
        Ok((self.prove_continues(old, signed.checkpoint().size)?, signed))
    }

    /// The proof that the log of `old` entries is a prefix of the one of `size`, which was published once. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Outside`] when `size` is smaller.
    pub fn prove_continues(&self, old: u64, size: u64) -> Result<Vec<Hash>, ReadError> {
        if size < old {
            return Err(ReadError::Outside { index: old, size });
        }
        let source = TileHashes::new(self.kind, size, |path: &TilePath| self.tile(path));
        let path = prove_consistency(self.kind, old, size, &source);
        path.map_err(|error| ReadError::Tiles { detail: error.to_string() })
    }

    fn tile(&self, path: &TilePath) -> io::Result<Vec<u8>> {
        let file = self.tlog.join(path.to_string());
        match fs::read(&file) {
            // A partial tile may have been outgrown between the checkpoint and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.width() < 256 => {
                let mut bytes = self.outgrown(path)?;
                bytes.truncate(usize::from(path.width()) * 32);
                Ok(bytes)
            }
            other => other,
        }
    }

    /// The wider tile that has taken the place of a partial one: the full one, or the partial one of today.
    fn outgrown(&self, path: &TilePath) -> io::Result<Vec<u8>> {
        match fs::read(self.tlog.join(path.full().to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let size = self.checkpoint().map(|head| head.checkpoint().size).unwrap_or_default();
                let first = path.index().saturating_mul(u64::from(TILE_WIDTH));
                let today =
                    TilePath::containing(path.tile(), first, size).filter(|today| path.width() <= today.width());
                fs::read(self.tlog.join(today.ok_or(error)?.to_string()))
            }
            other => other,
        }
    }

    /// The directory to serve: `checkpoint` and `tile/...` (tlog-tiles). Other files in it are being written.
    pub fn path(&self) -> &Path {
        &self.tlog
    }

    /// The first of its keys: of the log itself the Ed25519 key, of the twin the SM2 key.
    #[expect(clippy::indexing_slicing, reason = "there is at least one by the invariant")]
    pub fn vkey(&self) -> &Vkey {
        &self.keys[0]
    }

    pub(crate) fn news(&self) -> watch::Receiver<Published> {
        self.published.clone()
    }

    /// The keys that sign its checkpoints, at least one.
    pub fn keys(&self) -> &[Vkey] {
        &self.keys
    }

    /// The function that hashes its tree.
    pub fn tree_hash(&self) -> HashKind {
        self.kind
    }
}
