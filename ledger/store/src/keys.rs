//! The keys a ledger signs its checkpoints with.

use std::sync::Arc;
use std::time::Duration;

use shuyu_base::HashKind;
use shuyu_base::keys::SecretKey;
use shuyu_tlog::{NoteSigner, ParseVkeyError, SignatureKind, Vkey};

use crate::promise::{PROMISE_DELAY, Promiser};

/// What follows the log's origin in the origin of its SM3 twin.
pub const TWIN_SUFFIX: &str = "-sm3";

/// The keys of a log and of its SM3 twin, if it has one.
#[derive(Clone, Debug)]
pub struct LedgerKeys {
    /// Invariant: at least one, the Ed25519 key first; all sign SHA-256 trees under one name.
    log: Vec<NoteSigner>,
    twin: Option<NoteSigner>,
    promise_delay: Duration,
}

impl From<NoteSigner> for LedgerKeys {
    /// One Ed25519 key, whose name is the log's origin.
    fn from(signer: NoteSigner) -> Self {
        Self { log: vec![signer], twin: None, promise_delay: PROMISE_DELAY }
    }
}

impl LedgerKeys {
    /// Adds an SM2 line to every checkpoint, under the same name.
    ///
    /// # Errors
    /// [`ParseVkeyError::Kind`] if the key is not of SM2.
    pub fn with_sm2(mut self, key: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        let name = self.origin().to_owned();
        self.log.push(NoteSigner::of_kind(&name, SignatureKind::Sm2(HashKind::Sha256), key)?);
        Ok(self)
    }

    /// Keeps a twin of the log: the same entries at the same indexes in a tree of SM3, signed with SM2 and nothing else,
    /// under the log's origin with [`TWIN_SUFFIX`] behind it.
    ///
    /// # Errors
    /// [`ParseVkeyError::Kind`] if the key is not of SM2.
    pub fn with_twin(mut self, key: Arc<SecretKey>) -> Result<Self, ParseVkeyError> {
        let name = format!("{}{TWIN_SUFFIX}", self.origin());
        self.twin = Some(NoteSigner::of_kind(&name, SignatureKind::Sm2(HashKind::Sm3), key)?);
        Ok(self)
    }

    /// Promises durable entries a checkpoint within `delay` instead of [`PROMISE_DELAY`].
    #[must_use]
    pub fn promising_within(mut self, delay: Duration) -> Self {
        self.promise_delay = delay;
        self
    }

    /// Who signs promises: the Ed25519 key.
    pub(crate) fn promiser(&self) -> Option<Promiser> {
        Some(Promiser { signer: self.log.first()?.clone(), within: self.promise_delay })
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        self.log.first().map_or("", |signer| signer.vkey().name())
    }

    pub(crate) fn log(&self) -> &[NoteSigner] {
        &self.log
    }

    pub(crate) fn twin(&self) -> Option<&NoteSigner> {
        self.twin.as_ref()
    }
}

pub(crate) fn vkeys(signers: &[NoteSigner]) -> Vec<Vkey> {
    signers.iter().map(|signer| signer.vkey().clone()).collect()
}
