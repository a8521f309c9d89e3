//! How many times this witness has cosigned, kept apart from its store: a store that was set back knows less.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The file.
#[derive(Debug)]
pub(super) struct HighWater {
    path: PathBuf,
}

impl HighWater {
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The number in the file, 0 where there is none.
    ///
    /// # Errors
    /// When the file cannot be read or is damaged: what is not known is not guessed.
    pub fn read(&self) -> io::Result<u64> {
        let text = match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other?,
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "it does not hold one number");
        text.strip_suffix('\n').and_then(|text| text.parse().ok()).ok_or_else(damaged)
    }

    /// Puts the number there, durable when this returns.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn write(&self, count: u64) -> io::Result<()> {
        let part = self.path.with_extension("part");
        let mut file = std::fs::File::create(&part)?;
        writeln!(file, "{count}")?;
        file.sync_all()?;
        std::fs::rename(&part, &self.path)?;
        match self.path.parent() {
            Some(dir) => std::fs::File::open(dir)?.sync_all(),
            None => Ok(()),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}
