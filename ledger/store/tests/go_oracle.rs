//! A second opinion on what the ledger writes: Go's `golang.org/x/mod/sumdb` packages (tests/oracles/go-tlog).

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, Ledger, LedgerKeys};
use shuyu_tlog::{Hash, NoteSigner, SignedCheckpoint};

fn build(into: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/oracles/go-tlog");
    let oracle = into.join("go-tlog");
    let built = Command::new("go").arg("build").arg("-o").arg(&oracle).arg(".").current_dir(source).output();
    let built = built.expect("`go` is not on PATH; hint: `./x setup` installs Debian's golang");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "go build failed (it fetches golang.org/x/mod once): {said}");
    oracle
}

fn run(oracle: &Path, dir: &Path, key: &NoteSigner, older: &Path) -> Output {
    Command::new(oracle).arg(dir).arg(key.vkey().to_string()).arg(older).output().unwrap()
}

#[tokio::test]
async fn gos_checksum_database_code_accepts_the_log_and_sees_one_flipped_bit() {
    let dir = tempfile::tempdir().unwrap();
    let oracle = build(dir.path());
    let key = Arc::new(SecretKey::from_seed(Suite::Ed25519, &[7; 32]).unwrap());
    let signer = NoteSigner::new("ledger.example/a", key).unwrap();
    // Readers who do not know SM2 pass its line over.
    let sm2 = Arc::new(SecretKey::from_seed(Suite::Sm2, &[8; 32]).unwrap());
    let keys = LedgerKeys::from(signer.clone()).with_sm2(sm2).unwrap();
    let ledger = Ledger::open(&dir.path().join("ledger"), keys).unwrap();
    let older = dir.path().join("older");
    for n in 0..1000_u64 {
        let bytes = format!("entry {n}").repeat(usize::try_from(n % 7).unwrap()).into_bytes();
        let append = Append { dedup: *Digest::sha256(&n.to_be_bytes()).bytes(), process: None, bytes };
        let index = ledger.append(append).await.unwrap().index;
        if n == 300 {
            fs::write(&older, ledger.included(index).await.unwrap().bytes()).unwrap();
        }
    }
    ledger.included(999).await.unwrap();
    let served = ledger.path().to_owned();
    drop(ledger);

    let good = run(&oracle, &served, &signer, &older);
    let line = String::from_utf8_lossy(&good.stdout).into_owned();
    assert!(good.status.success(), "{line}{}", String::from_utf8_lossy(&good.stderr));
    assert!(line.starts_with("holds: 1000 entries") && line.contains("consistent with size"), "{line}");

    for file in
        ["checkpoint", "tile/entries/001", "tile/entries/003.p/232", "tile/0/000", "tile/0/003.p/232", "tile/1/000.p/3"]
    {
        let path = served.join(file);
        let bytes = fs::read(&path).unwrap();
        let mut bad = bytes.clone();
        bad[bytes.len() / 2] ^= 1;
        fs::write(&path, &bad).unwrap();
        let judged = run(&oracle, &served, &signer, &older);
        assert_eq!(judged.status.code(), Some(1), "{file}: {}", String::from_utf8_lossy(&judged.stdout));
        fs::write(&path, &bytes).unwrap();
    }
    let forged = SignedCheckpoint::sign(&signer, 300, Hash([7; 32])).unwrap();
    fs::write(&older, forged.bytes()).unwrap();
    let judged = run(&oracle, &served, &signer, &older);
    assert_eq!(judged.status.code(), Some(1), "{}", String::from_utf8_lossy(&judged.stdout));
}
