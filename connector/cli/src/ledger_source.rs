//! Where a ledger's files come from: a directory, a copy of one, or a served ledger.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shuyu_node::config::FILE_NAME;
use shuyu_tlog::{Checkpoint, Note, TilePath, tiles_of};
use url::Url;

use crate::access;
use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};

/// Most entries of a ledger checked in memory: beyond it, use a regulator's node, which keeps a mirror on disk.
const MAX_ENTRIES: u64 = 1 << 24;

/// Most bytes of a ledger checked in memory.
const MAX_LEDGER_BYTES: usize = 1 << 30;

/// Largest single file: a full bundle of the largest entries.
const MAX_FILE_BYTES: usize = shuyu_tlog::bundle::MAX_BUNDLE_BYTES;

/// Longest silence of a served ledger.
const SILENCE: Duration = Duration::from_secs(30);

/// A ledger's files.
pub struct Files {
    /// The signed head, as it was read.
    pub checkpoint: Vec<u8>,
    /// Every tile and bundle that it calls for.
    pub tiles: BTreeMap<TilePath, Vec<u8>>,
}

/// Where a ledger's files come from.
pub enum Source {
    /// A ledger directory, or one that is served.
    Dir(PathBuf),
    /// The root of a served log.
    Web(Url),
}

/// The place that a person named; by default the ledger of --dir.
pub fn source(globals: &Globals, place: Option<&str>) -> Outcome<Source> {
    let Some(place) = place else { return Ok(Source::Dir(globals.node_dir()?.join("ledger"))) };
    if place.starts_with("http://") || place.starts_with("https://") {
        let base = if place.ends_with('/') { place.to_owned() } else { format!("{place}/") };
        let url = base.parse().map_err(|error| Failure::usage(format_args!("`{place}`: {error}")))?;
        return Ok(Source::Web(url));
    }
    let dir = PathBuf::from(place);
    let is_node_dir = dir.join(FILE_NAME).exists();
    Ok(Source::Dir(if is_node_dir { dir.join("ledger") } else { dir }))
}

impl Source {
    /// Reads a whole log into memory.
    pub async fn read(&self, globals: &Globals) -> Outcome<Files> {
        let checkpoint = self.file(globals, "checkpoint").await?;
        let head = peek_head(&checkpoint)?;
        if MAX_ENTRIES < head.size {
            let failure = Failure::invalid(format_args!(
                "the ledger has {} entries, at most {MAX_ENTRIES} are checked here",
                head.size
            ));
            return Err(failure.hint("follow it with a regulator's node: `shuyu audit follow DID`"));
        }
        let mut tiles = BTreeMap::new();
        let mut total = 0;
        for path in tiles_of(head.size) {
            let bytes = self.file(globals, &path.to_string()).await?;
            total += bytes.len();
            if MAX_LEDGER_BYTES < total {
                return Err(Failure::invalid(format_args!("the ledger is over {MAX_LEDGER_BYTES} bytes")));
            }
            tiles.insert(path, bytes);
        }
        Ok(Files { checkpoint, tiles })
    }

    /// Reads one of its files.
    pub async fn file(&self, globals: &Globals, name: &str) -> Outcome<Vec<u8>> {
        match self {
            Self::Dir(dir) => crate::context::read_file(&served(dir).join(name), MAX_FILE_BYTES as u64),
            Self::Web(base) => fetch(globals, base, name).await,
        }
    }
}

/// Where the served files lie: a ledger keeps them apart from its own.
pub fn served(dir: &Path) -> PathBuf {
    let tlog = dir.join("tlog");
    if tlog.is_dir() { tlog } else { dir.to_owned() }
}

async fn fetch(globals: &Globals, base: &Url, name: &str) -> Outcome<Vec<u8>> {
    let url = base.join(name).map_err(|error| Failure::invalid(format_args!("`{name}`: {error}")))?;
    let unreadable = |why: String| Failure::invalid(format_args!("could not read {url}: {why}"));
    let request = access::http(globals, SILENCE)?.get(url.clone()).send().await;
    let mut answer = request.map_err(|error| unreadable(chain(&error)))?;
    if !answer.status().is_success() {
        return Err(unreadable(answer.status().to_string()));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreadable(chain(&error)))? {
        if MAX_FILE_BYTES < bytes.len() + chunk.len() {
            return Err(unreadable(format!("over {MAX_FILE_BYTES} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// The head as written, before any signature is checked.
pub fn peek_head(checkpoint: &[u8]) -> Outcome<Checkpoint> {
    let note =
        Note::parse(checkpoint).map_err(|error| Failure::invalid(format_args!("`checkpoint`: {}", chain(&error))))?;
    note.text().parse().map_err(|error| Failure::invalid(format_args!("`checkpoint`: {}", chain(&error))))
}
