//! Writes entries into a ledger as fast as callers can, or at a given rate, and prints one line of JSON: what
//! `./x bench ledger` runs, in a process of its own.
//!
//! `ledger_load DIR ENTRIES CALLERS [--rate PER_SECOND] [--twin] [--print]`; entries have 300 bytes. With `--print` each
//! acknowledged index is printed with its number, so that a test can kill the process and look for them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shuyu_base::Digest;
use shuyu_base::keys::{SecretKey, Suite};
use shuyu_ledger::{Append, Ledger, LedgerKeys};
use shuyu_tlog::NoteSigner;

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Wish {
    dir: String,
    entries: u64,
    callers: u64,
    rate: Option<f64>,
    is_twin: bool,
    is_printing: bool,
}

fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let mut next = || args.next().ok_or("usage: ledger_load DIR ENTRIES CALLERS [--rate N] [--twin] [--print]");
    let mut wish = Wish {
        dir: next()?,
        entries: next()?.parse()?,
        callers: next()?.parse()?,
        rate: None,
        is_twin: false,
        is_printing: false,
    };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rate" => wish.rate = Some(args.next().ok_or("--rate needs a number")?.parse()?),
            "--twin" => wish.is_twin = true,
            "--print" => wish.is_printing = true,
            other => return Err(format!("`{other}` is not understood").into()),
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    runtime.block_on(run(wish))
}

fn open(dir: &Path, is_twin: bool) -> Result<Ledger, Failure> {
    let key = |suite| SecretKey::from_seed(suite, &[7; 32]).map(Arc::new);
    let mut keys = LedgerKeys::from(NoteSigner::new("bench.example/ledger", key(Suite::Ed25519)?)?);
    if is_twin {
        keys = keys.with_sm2(key(Suite::Sm2)?)?.with_twin(key(Suite::Sm2)?)?;
    }
    Ok(Ledger::open(dir, keys)?)
}

/// Entry number `n`: 300 bytes that do not compress.
fn entry(n: u64) -> Append {
    let dedup = *Digest::sha256(&n.to_be_bytes()).bytes();
    let mut bytes = n.to_be_bytes().to_vec();
    while bytes.len() < 300 {
        bytes.extend_from_slice(&dedup);
    }
    bytes.truncate(300);
    Append { dedup, process: None, bytes }
}

async fn run(wish: Wish) -> Result<(), Failure> {
    let ledger = Arc::new(open(Path::new(&wish.dir), wish.is_twin)?);
    let start = ledger.checkpoint()?.checkpoint().size;
    let next = Arc::new(AtomicU64::new(0));
    let wish = Arc::new(wish);
    // At a rate, all callers are there before the first entry is due.
    let begun = Instant::now() + if wish.rate.is_some() { Duration::from_millis(300) } else { Duration::ZERO };
    let mut callers = Vec::new();
    for caller in 0..wish.callers {
        let (ledger, next, wish) = (Arc::clone(&ledger), Arc::clone(&next), Arc::clone(&wish));
        callers.push(tokio::spawn(async move { call(caller, start, begun, &ledger, &next, &wish).await }));
    }
    let mut waits_us: Vec<u64> = Vec::new();
    for caller in callers {
        waits_us.extend(caller.await??);
    }
    let durable_s = begun.elapsed().as_secs_f64();
    ledger.included(start + wish.entries - 1).await?;
    if let Some(twin) = ledger.twin() {
        twin.included(start + wish.entries - 1).await?;
    }
    let included_s = begun.elapsed().as_secs_f64();
    waits_us.sort_unstable();
    let at = |share: usize| {
        waits_us.get(waits_us.len() * share / 1000).map_or(0.0, |us| Duration::from_micros(*us).as_secs_f64() * 1e3)
    };
    println!(
        "{{\"entries\": {}, \"durable_s\": {durable_s:.4}, \"included_s\": {included_s:.4}, \"p50_ms\": {:.3}, \"p99_ms\": {:.3}}}",
        waits_us.len(),
        at(500),
        at(990)
    );
    Ok(())
}

/// Appends one entry after another; at a rate, each caller's share of it, and waits are counted from when the entry was
/// due.
async fn call(
    caller: u64,
    start: u64,
    begun: Instant,
    ledger: &Ledger,
    next: &AtomicU64,
    wish: &Wish,
) -> Result<Vec<u64>, Failure> {
    let mut waits_us = Vec::new();
    for round in 0_u32.. {
        let n = next.fetch_add(1, Ordering::Relaxed);
        if wish.entries <= n {
            break;
        }
        let mut due = Instant::now();
        if let Some(rate) = wish.rate {
            let period_s = wish.callers as f64 / rate;
            due = begun + Duration::from_secs_f64(period_s * (f64::from(round) + caller as f64 / wish.callers as f64));
            tokio::time::sleep_until(due.into()).await;
        }
        let index = ledger.append(entry(start + n)).await?.index;
        waits_us.push(u64::try_from(due.elapsed().as_micros())?);
        if wish.is_printing {
            println!("ack {} {index}", start + n);
        }
    }
    Ok(waits_us)
}
