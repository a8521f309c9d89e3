//! A small program that the fault tests (`tests/faults`) run under strace, cut off, or let loose on damaged files.
//!
//! `ledger_fault write DIR FROM TO [--group N] [--twin]` appends the entries FROM..TO in groups of N (40) and prints
//! `ack N INDEX.` for each.
//! `ledger_fault check DIR [--twin]` opens the ledger, reads such lines from stdin, looks for the entry of each, appends one
//! entry more, and verifies every file; it prints `holds SIZE`.
//! `ledger_fault flips BASE SCRATCH STEP PHASE` flips one bit of every STEP-th byte of every file of the ledger BASE, from byte
//! PHASE on, and says what came of it.
//! `ledger_fault vkey` prints the log's key.
//!
//! Exit status: 0 it holds, 1 an append or a check failed, 2 the ledger was not opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, Ledger, LedgerKeys, LedgerOptions, verify_dir, verify_twin_dir};
use shuyu_tlog::NoteSigner;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).init();
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let ran = match args.as_slice() {
        ["write", dir, from, to, "--group", group, rest @ ..] => {
            write(Path::new(dir), [from, to, group], Twin::of(rest))
        }
        ["write", dir, from, to, rest @ ..] => write(Path::new(dir), [from, to, "40"], Twin::of(rest)),
        ["check", dir, rest @ ..] => check(Path::new(dir), Twin::of(rest)),
        ["flips", base, scratch, step, phase] => flips(Path::new(base), Path::new(scratch), step, phase),
        ["vkey"] => signer().map(|signer| println!("{}", signer.vkey())),
        _ => Err("usage: ledger_fault write|check|flips|vkey ...".into()),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(error.as_ref()));
            ExitCode::from(if error.is::<shuyu_ledger::OpenError>() { 2 } else { 1 })
        }
    }
}

#[derive(Clone, Copy)]
enum Twin {
    Kept,
    None,
}

impl Twin {
    fn of(rest: &[&str]) -> Self {
        if rest.contains(&"--twin") { Self::Kept } else { Self::None }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |source| source.source());
    sources.fold(error.to_string(), |text, source| format!("{text}: {source}"))
}

fn signer() -> Result<NoteSigner, Failure> {
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32])?;
    Ok(NoteSigner::new("faults.example/ledger", Arc::new(key))?)
}

/// Opens the ledger; where `DIR.apart` is there, it keeps its second high-water mark.
fn open(dir: &Path, twin: Twin) -> Result<Ledger, Failure> {
    let mut keys = LedgerKeys::from(signer()?);
    if matches!(twin, Twin::Kept) {
        let sm2 = Arc::new(SecretKey::from_seed(Suite::Sm2, &[7; 32])?);
        keys = keys.with_sm2(Arc::clone(&sm2))?.with_twin(sm2)?;
    }
    let apart = dir.with_extension("apart");
    let high_water = apart.is_dir().then(|| apart.join("high-water"));
    Ok(Ledger::open_with(dir, keys, &LedgerOptions { high_water })?)
}

fn entry(n: u64) -> Append {
    let bytes = format!("entry {n}").into_bytes();
    let process = n.is_multiple_of(3).then(|| format!("process {}", n % 7));
    Append { dedup: *Digest::sha256(&bytes).bytes(), process, bytes }
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?)
}

fn write(dir: &Path, [from, to, group]: [&str; 3], twin: Twin) -> Result<(), Failure> {
    let (from, to, size): (u64, u64, u64) = (from.parse()?, to.parse()?, group.parse()?);
    let ledger = Arc::new(open(dir, twin)?);
    runtime()?.block_on(async {
        let mut last = 0;
        let mut next = from;
        while next < to {
            let group = next..to.min(next + size);
            next = group.end;
            let tasks: Vec<_> = group
                .map(|n| {
                    let ledger = Arc::clone(&ledger);
                    tokio::spawn(async move { (n, ledger.append(entry(n)).await) })
                })
                .collect();
            let mut acks = String::new();
            let mut failed = None;
            for task in tasks {
                match task.await? {
                    (n, Ok(appended)) => {
                        acks.push_str(&format!("ack {n} {}.\n", appended.index));
                        last = last.max(appended.index);
                    }
                    (_, Err(error)) => failed = Some(error),
                }
            }
            std::io::stdout().write_all(acks.as_bytes())?;
            if let Some(error) = failed {
                return Err(error.into());
            }
            // One publication a group, so that two runs make the same calls.
            ledger.included(last).await?;
        }
        Ok(())
    })
}

fn check(dir: &Path, twin: Twin) -> Result<(), Failure> {
    let mut acks = BTreeMap::new();
    for line in std::io::stdin().lock().lines() {
        // A line that was cut off is no acknowledgement.
        let line = line?;
        let pair = line.strip_prefix("ack ").and_then(|rest| rest.strip_suffix('.')?.split_once(' '));
        if let Some((n, index)) = pair {
            acks.insert(n.parse()?, index.parse()?);
        }
    }
    println!("holds {}", holds(dir, &acks, twin)?);
    Ok(())
}

/// That every acknowledged entry is there, that the ledger goes on, and that all of its files hold.
fn holds(dir: &Path, acks: &BTreeMap<u64, u64>, twin: Twin) -> Result<u64, Failure> {
    let ledger = open(dir, twin)?;
    for (n, index) in acks {
        if ledger.entry(*index)? != entry(*n).bytes || ledger.find(&entry(*n).dedup)? != Some(*index) {
            return Err(format!("entry {n} was acknowledged at {index} and is not there").into());
        }
    }
    let size = ledger.checkpoint()?.checkpoint().size;
    let more = entry(1_000_000 + size);
    let twin_key = ledger.twin().map(|twin| twin.vkey().clone());
    runtime()?.block_on(async {
        let appended = ledger.append(more).await?;
        ledger.included(appended.index).await?;
        Ok::<_, Failure>(())
    })?;
    drop(ledger);
    if let Some(key) = twin_key {
        verify_twin_dir(dir, &key)?;
    }
    Ok(verify_dir(dir, signer()?.vkey())?.head.size)
}

/// What came of one flipped bit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Fate {
    Harmless,
    RefusedAtStart,
    FoundByVerify,
    NotFound,
}

fn flips(base: &Path, scratch: &Path, step: &str, phase: &str) -> Result<(), Failure> {
    let (step, phase): (usize, usize) = (step.parse()?, phase.parse()?);
    copy(base, scratch)?;
    let ledger = open(scratch, Twin::None)?;
    let mut acks = BTreeMap::new();
    for n in 0..ledger.checkpoint()?.checkpoint().size {
        acks.extend(ledger.find(&entry(n).dedup)?.map(|index| (n, index)));
    }
    drop(ledger);
    let mut fates: BTreeMap<(String, Fate), u64> = BTreeMap::new();
    let mut wrong = 0;
    for name in files(base, Path::new(""))?.iter().filter(|name| !name.ends_with("LOCK")) {
        let bytes = fs::read(base.join(name))?;
        for at in (phase.min(bytes.len().saturating_sub(1))..bytes.len()).step_by(step) {
            copy(base, scratch)?;
            let mut bad = bytes.clone();
            bad.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (at % 8));
            fs::write(scratch.join(name), bad)?;
            let (fate, words) = judge(scratch, &acks, name);
            if fate == Fate::NotFound {
                wrong += 1;
                println!("{} byte {at}: {words}", name.display());
            }
            let place = name.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
            *fates.entry((place.unwrap_or_default(), fate)).or_default() += 1;
        }
    }
    for ((place, fate), count) in &fates {
        println!("{place}: {count} {fate:?}");
    }
    if wrong == 0 {
        Ok(())
    } else {
        Err(format!("{wrong} flipped bits were neither found by name nor harmless").into())
    }
}

/// Harmless means: every entry is there, and everything that is served holds, after a start like any other.
fn judge(dir: &Path, acks: &BTreeMap<u64, u64>, name: &Path) -> (Fate, String) {
    let found = match signer().map(|signer| verify_dir(dir, signer.vkey())) {
        Ok(Err(error)) => Some(chain(&error)),
        Ok(Ok(_)) | Err(_) => None,
    };
    let names_it =
        |words: &str| words.contains(&name.display().to_string()) || named(name).is_some_and(|n| words.contains(&n));
    match (holds(dir, acks, Twin::None), found) {
        (Ok(_), _) => (Fate::Harmless, String::new()),
        (Err(error), _) if error.is::<shuyu_ledger::OpenError>() && names_it(&chain(error.as_ref())) => {
            (Fate::RefusedAtStart, String::new())
        }
        (Err(_), Some(words)) if names_it(&words) => (Fate::FoundByVerify, String::new()),
        (Err(error), found) => (Fate::NotFound, format!("{}; verify: {found:?}", chain(error.as_ref()))),
    }
}

/// Files that are spoken of by a name of their own: tiles without their directory, segments as a whole.
fn named(name: &Path) -> Option<String> {
    let text = name.to_str()?;
    text.strip_prefix("tlog/")
        .map(str::to_owned)
        .or_else(|| text.starts_with("segments/").then(|| "segments".to_owned()))
}

fn files(root: &Path, below: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for one in fs::read_dir(root.join(below))? {
        let one = one?;
        let name = below.join(one.file_name());
        if one.file_type()?.is_dir() { found.extend(files(root, &name)?) } else { found.push(name) }
    }
    found.sort();
    Ok(found)
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    for name in files(from, Path::new(""))? {
        let file = to.join(&name);
        file.parent().map(fs::create_dir_all).transpose()?;
        fs::copy(from.join(&name), file)?;
    }
    Ok(())
}
