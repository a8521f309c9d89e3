//! A served log: its last checkpoint, its tiles, and proofs from them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shuyu_base::HashKind;
use shuyu_tlog::{
    Hash, InclusionProof, SignedCheckpoint, TileHashes, TilePath, Vkey, prove_consistency, prove_inclusion,
};
use tokio::sync::watch;

use crate::ledger::ReadError;
use crate::publish::Published;

/// A log as it is served: the ledger's own, or its SM3 twin.
pub struct Served {
    kind: HashKind,
    tlog: PathBuf,
    /// Invariant: at least one.
    keys: Vec<Vkey>,
    published: watch::Receiver<Published>,
}

impl Served {
    pub(crate) fn new(kind: HashKind, tlog: PathBuf, keys: Vec<Vkey>, published: watch::Receiver<Published>) -> Self {
        Self { kind, tlog, keys, published }
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

    /// The proof file for entry `index` under the last published checkpoint. Reads the disk.
    ///
    /// # Errors
    /// [`ReadError::Outside`] for an entry that no checkpoint covers yet (see [`Self::included`]).
    pub fn prove(&self, index: u64) -> Result<InclusionProof, ReadError> {
        let signed = self.checkpoint()?;
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
        let size = signed.checkpoint().size;
        if size < old {
            return Err(ReadError::Outside { index: old, size });
        }
        let source = TileHashes::new(self.kind, size, |path: &TilePath| self.tile(path));
        let path = prove_consistency(self.kind, old, size, &source);
        Ok((path.map_err(|error| ReadError::Tiles { detail: error.to_string() })?, signed))
    }

    fn tile(&self, path: &TilePath) -> io::Result<Vec<u8>> {
        let file = self.tlog.join(path.to_string());
        match fs::read(&file) {
            // A partial tile may have been outgrown between the checkpoint and now.
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.width() < 256 => {
                let mut bytes = fs::read(self.tlog.join(path.full().to_string()))?;
                bytes.truncate(usize::from(path.width()) * 32);
                Ok(bytes)
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
