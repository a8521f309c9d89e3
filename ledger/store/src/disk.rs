//! Files written so that a power cut leaves the old one or the new one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

/// Ends the process after a failed `fsync`.
///
/// The kernel reports such a failure once and may then treat the lost pages as clean, so neither trying again nor going
/// on tells the truth. The next start reads what is really on the disk.
pub(crate) fn die_of_failed_sync(path: &Path, error: &io::Error) -> ! {
    tracing::error!(path = %path.display(), %error, "fsync failed; ending the process, since the disk's state is unknown");
    std::process::abort()
}

/// Makes the data of `file` durable, or ends the process.
pub(crate) fn sync_data(file: &File, path: &Path) {
    if let Err(error) = file.sync_data() {
        die_of_failed_sync(path, &error);
    }
}

/// Makes the names in `dir` durable, or ends the process.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    let file = File::open(dir)?;
    if let Err(error) = file.sync_all() {
        die_of_failed_sync(dir, &error);
    }
    Ok(())
}

/// Makes a file durable that was written through another handle.
pub(crate) fn sync_file(path: &Path) -> io::Result<()> {
    sync_data(&File::open(path)?, path);
    Ok(())
}

/// Makes everything on the file system of `dir` durable, names included. The kernel reports a lost page here too (since
/// Linux 5.8).
pub(crate) fn sync_file_system(dir: &Path) -> io::Result<()> {
    let file = File::open(dir)?;
    if let Err(error) = rustix::fs::syncfs(&file) {
        die_of_failed_sync(dir, &error.into());
    }
    Ok(())
}

/// Puts `bytes` at `path` under a temporary name first; the caller makes the name durable with [`sync_dir`].
pub(crate) fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place_with(path, bytes, sync_data)
}

/// As [`place`], but the bytes too are still to be made durable. A file that was not there gets its name at once: the
/// caller has told nobody of it yet.
pub(crate) fn place_unsynced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match File::create_new(path) {
        Ok(mut file) => file.write_all(bytes).inspect_err(|_| {
            let _ = fs::remove_file(path);
        }),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => place_with(path, bytes, |_, _| ()),
        Err(error) => Err(error),
    }
}

fn place_with(path: &Path, bytes: &[u8], finish: impl Fn(&File, &Path)) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let written = (|| {
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        finish(&file, &temporary);
        drop(file);
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // A full disk: free what the attempt took. Failing at that changes nothing.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Puts `bytes` at `path`, durable with its name when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    place(path, bytes)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// Creates `dir` and the missing ones above it, up to and not including `root`, with durable names.
pub(crate) fn create_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    if dir == root || dir.is_dir() {
        return Ok(());
    }
    if let Some(parent) = dir.parent() {
        create_dirs(root, parent)?;
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        sync_dir(parent)?;
    }
    Ok(())
}

/// The whole file, or `None` where there is none.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
