//! A full disk: an append fails with a clear error, nothing acknowledged is lost, and it works again when there is room.
//!
//! On a tmpfs of its own where mounting is allowed (ENOSPC), and everywhere under a file size limit (EFBIG), which a child
//! process sets through the shell and lifts with `prlimit`.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, AppendError, Ledger, verify_dir};
use shuyu_tlog::NoteSigner;

fn signer() -> NoteSigner {
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap());
    NoteSigner::new("ledger.example/full", key).unwrap()
}

fn entry(n: u64) -> Append {
    let bytes = format!("{n} {}", "x".repeat(20_000)).into_bytes();
    Append { dedup: *Digest::sha256(&bytes).bytes(), process: None, bytes }
}

/// Appends until the disk is full, makes room, and goes on.
fn story(dir: &Path, fill_the_disk: impl FnOnce(), make_room: impl FnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(dir, signer()).unwrap();
        let mut acknowledged = Vec::new();
        for n in 0..20 {
            acknowledged.push((n, ledger.append(entry(n)).await.unwrap().index));
        }
        fill_the_disk();
        let mut refused = None;
        for n in 20..2000 {
            match ledger.append(entry(n)).await {
                Ok(appended) => acknowledged.push((n, appended.index)),
                Err(error) => {
                    refused = Some((n, error));
                    break;
                }
            }
        }
        let (n, error) = refused.expect("the disk never filled");
        assert!(matches!(error, AppendError::Write { .. } | AppendError::Index { .. }), "{error}");
        assert!(ledger.append(entry(n)).await.is_err());
        // What was acknowledged can be read all the while.
        assert_eq!(ledger.entry(7).unwrap(), entry(7).bytes);
        make_room();
        let again = ledger.append(entry(n)).await.unwrap();
        assert!(!again.duplicate);
        acknowledged.push((n, again.index));
        ledger.included(again.index).await.unwrap();
        drop(ledger);
        let ledger = Ledger::open(dir, signer()).unwrap();
        for (n, index) in &acknowledged {
            assert_eq!(ledger.entry(*index).unwrap(), entry(*n).bytes);
            assert!(ledger.append(entry(*n)).await.unwrap().duplicate);
        }
        drop(ledger);
        let report = verify_dir(dir, signer().vkey()).unwrap();
        assert_eq!(report.head.size, acknowledged.len() as u64);
    });
}

/// A mounted tmpfs, gone when dropped.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then(|| Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Environment variable that makes the test its own child under a file size limit.
const LIMITED: &str = "SHUYU_LEDGER_TEST_LIMITED";

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mounted) = Tmpfs::mount(dir.path()) else { return };
    let filler = dir.path().join("filler");
    let fill = || {
        let mut file = fs::File::create(&filler).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    };
    story(&dir.path().join("ledger"), fill, || fs::remove_file(&filler).unwrap());
    drop(mounted);
}

#[test]
fn a_file_size_limit_refuses_and_recovers() {
    if std::env::var_os(LIMITED).is_some() {
        let dir = tempfile::tempdir().unwrap();
        let limit = |value: &str| {
            let pid = std::process::id().to_string();
            let set = Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={value}:")]).status().unwrap();
            assert!(set.success(), "prlimit (Debian package util-linux) could not set the limit");
        };
        return story(dir.path(), || limit("3000000"), || limit("unlimited"));
    }
    // The shell makes the limit an error instead of a signal (SIGXFSZ), and children inherit that.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "a_file_size_limit_refuses_and_recovers", "--nocapture"])
        .env(LIMITED, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
}
