//! Restoring a node's ledger from a copy of it.

use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use shuyu_ledger::{Item, LedgerOptions, OpenError, RestoreError, Restorer};
use shuyu_tlog::tile::TILE_WIDTH;
use shuyu_tlog::{SignedCheckpoint, Tile, TilePath, Vkey, read_bundle};

use crate::context::{Globals, read_file};
use crate::failure::{Failure, Outcome, chain};
use crate::ledger_source::{Source, source};
use crate::{node_dir, print};

/// From where.
#[derive(Debug, Args)]
pub struct Restore {
    /// The copy: URL of a served log or mirror, or a directory with `checkpoint` and `tile/`
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// A checkpoint that the ledger is known to have signed, such as one with the lines of witnesses; may be repeated.
    /// Where the copy has no `checkpoint`, the largest of these is restored
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

/// What is needed of the node that is restored.
struct Node {
    ledger: PathBuf,
    key: Vkey,
    options: LedgerOptions,
}

/// Runs `shuyu ledger restore`.
pub async fn run(globals: &Globals, wish: &Restore) -> Outcome {
    let node = node(globals.node_dir()?)?;
    let from = source(globals, Some(&wish.from))?;
    let seen = wish.checkpoint.iter().map(|file| given(file, &node.key)).collect::<Outcome<Vec<_>>>()?;
    let copy = copy(globals, &from, &node.key, &seen).await?;
    let size = copy.checkpoint().size;
    if seen.is_empty() && !node.ledger.join("high-water").exists() && node.options.high_water.is_none() {
        globals.say(format_args!(
            "nothing but the copy says how long this ledger was: ask its witnesses, and give --checkpoint"
        ));
    }
    let mut restorer = Restorer::open(&node.ledger, &node.key, &node.options, &copy, &seen).map_err(refused)?;
    let begun = restorer.next_index();
    let bar = bar(globals, size);
    bar.set_position(begun);
    while restorer.next_index() < size {
        let first = restorer.next_index();
        for entry in bundle(globals, &from, first, size).await? {
            restorer.add(entry).map_err(refused)?;
        }
        if restorer.next_index() == first {
            return Err(Failure::refused(format_args!("the copy has no entry {first}")));
        }
        bar.set_position(restorer.next_index());
    }
    let size = restorer.finish().map_err(refused)?;
    bar.finish_and_clear();
    if globals.is_json() {
        let all = json!({"origin": node.key.name(), "size": size, "restored": size - begun});
        return print::line(&all.to_string());
    }
    print::line(&format!("restored: {} entries of {}, {size} in all", size - begun, print::clean(node.key.name())))?;
    globals.hint(format_args!("start the node: it writes the tiles anew; then `shuyu ledger verify`"));
    Ok(())
}

fn node(dir: &Path) -> Outcome<Node> {
    let config = node_dir::read(dir)?.config;
    let keys = node_dir::keys(dir, &config)?;
    let key = Vkey::new(&shuyu_node::origin(&config), keys.ledger)
        .map_err(|error| Failure::invalid(format_args!("the node's ledger key: {}", chain(&error))))?;
    Ok(Node { ledger: dir.join("ledger"), key, options: config.ledger.of_node(dir) })
}

fn given(file: &Path, key: &Vkey) -> Outcome<SignedCheckpoint> {
    let bytes = read_file(file, shuyu_tlog::note::MAX_NOTE_BYTES as u64)?;
    opened(&bytes, key, &file.display().to_string())
}

fn opened(bytes: &[u8], key: &Vkey, name: &str) -> Outcome<SignedCheckpoint> {
    SignedCheckpoint::open(bytes, key)
        .map_err(|error| Failure::refused(format_args!("`{name}` is not signed by this node: {}", chain(&error))))
}

/// The head of the copy. A mirror that keeps none is as long as the largest checkpoint given.
async fn copy(globals: &Globals, from: &Source, key: &Vkey, seen: &[SignedCheckpoint]) -> Outcome<SignedCheckpoint> {
    let largest = seen.iter().max_by_key(|one| one.checkpoint().size);
    match (from.file(globals, "checkpoint").await, largest) {
        (Ok(bytes), _) => opened(&bytes, key, "checkpoint"),
        (Err(_), Some(largest)) => Ok(largest.clone()),
        (Err(failure), None) => Err(failure.hint("a copy without `checkpoint` needs --checkpoint FILE")),
    }
}

/// The entries of the bundle that has entry `first`, from it on.
async fn bundle(globals: &Globals, from: &Source, first: u64, size: u64) -> Outcome<Vec<Item>> {
    let path = TilePath::containing(Tile::Entries, first, size);
    let path = path.ok_or_else(|| Failure::failed(format_args!("no bundle has entry {first}")))?;
    // A partial bundle may have been outgrown by now.
    let (path, bytes) = match from.file(globals, &path.to_string()).await {
        Ok(bytes) => (path, bytes),
        Err(failure) if path.width() == TILE_WIDTH => return Err(failure),
        Err(_) => (path.full(), from.file(globals, &path.full().to_string()).await?),
    };
    let entries = read_bundle(&bytes, path.width())
        .map_err(|error| Failure::refused(format_args!("`{path}` of the copy: {error}")))?;
    let wanted = (path.index() * u64::from(TILE_WIDTH)..size).zip(entries).filter(|(at, _)| first <= *at);
    wanted.map(|(at, entry)| item(at, entry)).collect()
}

/// An entry with what the ledger's index knows about it.
fn item(at: u64, entry: &[u8]) -> Outcome<Item> {
    let statement = shuyu_evidence::peek(entry)
        .map_err(|error| Failure::refused(format_args!("entry {at} of the copy is no statement: {}", chain(&error))))?;
    Ok(Item { dedup: statement.dedup_id(), process: statement.process, bytes: entry.to_vec() })
}

fn refused(error: RestoreError) -> Failure {
    let words = chain(&error);
    match error {
        RestoreError::Shorter { .. } => Failure::refused(words).hint(
            "restore from the mirror or witness that holds the newest checkpoint; a shorter log would contradict it",
        ),
        RestoreError::Root { .. } | RestoreError::Cut { .. } => Failure::refused(words)
            .hint("try another copy; if what is here came from this one, move `segments/` aside first"),
        RestoreError::Directory(OpenError::Locked { .. }) => Failure::failed(words).hint("stop the node first"),
        RestoreError::NotNeeded { .. } | RestoreError::Here(_) | RestoreError::Directory(_) => Failure::invalid(words),
        RestoreError::Io { .. } | _ => Failure::failed(words),
    }
}

fn bar(globals: &Globals, size: u64) -> ProgressBar {
    let bar = if globals.quiet || !print::is_watched() {
        ProgressBar::with_draw_target(Some(size), ProgressDrawTarget::hidden())
    } else {
        ProgressBar::new(size)
    };
    match ProgressStyle::with_template("{bar:30} {pos} of {len} entries  {per_sec}  {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
