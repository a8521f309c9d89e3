//! Both suites of a ledger: that every key which should have signed has, and that the SM3 twin is of the same entries.

use std::collections::BTreeMap;

use clap::ValueEnum;
use shuyu_base::HashKind;
use shuyu_base::keys::{PublicKey, Suite};
use shuyu_credentials::DidDocument;
use shuyu_ledger::TWIN_SUFFIX;
use shuyu_tlog::{Demand, Hash, LogPolicy, SignatureKind, SignedCheckpoint, Tile, Tree, Vkey, leaf_hash, read_bundle};
use url::Url;

use crate::context::Globals;
use crate::failure::{Failure, Outcome, chain};
use crate::ledger_source::{Files, Source};

/// The kind of the statements that bind heads of the twin to the log.
const BINDING: &str = "ledger.sm3-head";

/// How many of the known keys must have signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Require {
    /// The Ed25519 key; other lines are passed over
    Any,
    /// Every key: a checkpoint whose SM2 line was taken away does not hold
    All,
}

/// What is known of a log's keys.
pub enum Known<'a> {
    /// Named by the person.
    Given(&'a [Vkey]),
    /// In the owner's DID document.
    Document(&'a DidDocument),
    /// Of the node directory, where the ledger lies in one.
    Node { ledger: &'a PublicKey, sm2: Option<&'a PublicKey> },
    /// Nothing but what the ledger shows of itself.
    Shown,
}

impl Known<'_> {
    /// The keys that should have signed the head of the log `origin`, hashed with `tree`.
    pub async fn keys(&self, globals: &Globals, source: &Source, origin: &str, tree: HashKind) -> Outcome<Vec<Vkey>> {
        let sm2 = |key: &PublicKey| Vkey::of_kind(origin, SignatureKind::Sm2(tree), key.clone());
        let bad = |error| Failure::invalid(format_args!("a key of the ledger: {}", chain(&error)));
        let all: Vec<Vkey> = match self {
            Self::Given(keys) => keys.to_vec(),
            Self::Node { ledger, sm2: own } => {
                let ed25519 = (tree == HashKind::Sha256).then(|| Vkey::new(origin, (*ledger).clone()));
                ed25519.into_iter().chain(own.map(sm2)).collect::<Result<_, _>>().map_err(bad)?
            }
            Self::Document(document) => {
                let of = |suite| document.methods().iter().filter(move |method| method.key.suite() == suite);
                let ed25519 = of(Suite::Ed25519).filter(|_| tree == HashKind::Sha256);
                let ed25519 = ed25519.map(|method| Vkey::new(origin, method.key.clone()));
                ed25519.chain(of(Suite::Sm2).map(|method| sm2(&method.key))).collect::<Result<_, _>>().map_err(bad)?
            }
            Self::Shown => {
                let text = source.file(globals, "vkeys").await?;
                let text = String::from_utf8_lossy(&text).into_owned();
                let parsed = text.lines().map(|line| line.trim().parse::<Vkey>().map_err(bad));
                parsed.collect::<Outcome<_>>()?
            }
        };
        Ok(all.into_iter().filter(|key| key.name() == origin && key.kind().tree_hash() == tree).collect())
    }
}

/// That a key of each kind among `keys` has signed the head. A document may hold keys that were handed over since: of each
/// kind one is enough.
///
/// # Errors
/// Exit code 2 naming the line that is missing.
pub fn demand_all(keys: &[Vkey], checkpoint: &[u8]) -> Outcome<usize> {
    let mut of_kind: BTreeMap<String, Vec<&Vkey>> = BTreeMap::new();
    for key in keys {
        of_kind.entry(key.kind().to_string()).or_default().push(key);
    }
    let open = |key: &Vkey| SignedCheckpoint::open(checkpoint, key);
    let chosen = of_kind.values().filter_map(|some| some.iter().find(|key| open(key).is_ok()).or(some.first()));
    let chosen: Vec<Vkey> = chosen.map(|key| (*key).clone()).collect();
    let count = chosen.len();
    let policy = LogPolicy::new(chosen, Demand::All)
        .map_err(|error| Failure::invalid(chain(&error)).hint("which keys should have signed? give --vkey for each"))?;
    SignedCheckpoint::open_with(checkpoint, &policy).map_err(|error| {
        Failure::refused("the ledger does not hold").because(vec![format!("`checkpoint`: {}", chain(&error))])
    })?;
    Ok(count)
}

/// Where the twin of a ledger is.
pub fn twin_of(source: &Source) -> Outcome<Source> {
    match source {
        Source::Dir(dir) if dir.join("tlog-sm3").is_dir() => Ok(Source::Dir(dir.join("tlog-sm3"))),
        Source::Dir(dir) => {
            let mut beside = dir.clone().into_os_string();
            beside.push(TWIN_SUFFIX);
            Ok(Source::Dir(beside.into()))
        }
        Source::Web(base) => {
            let text = format!("{}{TWIN_SUFFIX}/", base.as_str().trim_end_matches('/'));
            let url: Url = text.parse().map_err(|error| Failure::usage(format_args!("`{text}`: {error}")))?;
            Ok(Source::Web(url))
        }
    }
}

/// That log and twin are of the same entries, and that every binding names a head which these entries give; returns how many
/// bindings there are.
///
/// # Errors
/// Exit code 2 naming the entry.
pub fn compare(log: &Files, twin: &Files) -> Outcome<u64> {
    let (own, others) = (entries(log)?, entries(twin)?);
    if let Some((at, _)) = (0..).zip(own.iter().zip(&others)).find(|(_, (one, other))| one != other) {
        return Err(wrong(format!("entry {at} of the SM3 twin is another than the log's")));
    }
    let bindings: Vec<_> = (0_u64..).zip(&own).filter_map(|(at, entry)| binding(at, entry)).collect();
    let mut roots: BTreeMap<u64, Hash> = bindings.iter().map(|(_, size, _)| (*size, Hash([0; 32]))).collect();
    let mut tree = Tree::new(HashKind::Sm3);
    for entry in &own {
        if let Some(root) = roots.get_mut(&tree.size()) {
            *root = tree.root();
        }
        tree.push(leaf_hash(HashKind::Sm3, entry));
    }
    for (at, size, root) in &bindings {
        if root.is_none_or(|root| size > at || roots.get(size) != Some(&root)) {
            return Err(wrong(format!(
                "entry {at} binds a head of the SM3 twin at size {size} that its entries do not give"
            )));
        }
    }
    Ok(bindings.len() as u64)
}

fn entries(files: &Files) -> Outcome<Vec<&[u8]>> {
    let mut all = Vec::new();
    // The order of paths is the order of their indexes; a full bundle stands where a partial one grew into it.
    for (path, bytes) in files.tiles.iter().filter(|(path, _)| path.tile() == Tile::Entries) {
        all.extend(read_bundle(bytes, path.width()).map_err(|error| wrong(format!("`{path}`: {error}")))?);
    }
    Ok(all)
}

/// Index, size and root of a binding; without a root where the statement has none of SM3.
fn binding(at: u64, entry: &[u8]) -> Option<(u64, u64, Option<Hash>)> {
    let statement = shuyu_evidence::peek(entry).ok().filter(|statement| statement.kind == BINDING)?;
    let size = statement.process.rsplit('/').next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
    let root = statement.commit.get("root").filter(|root| root.kind() == HashKind::Sm3);
    Some((at, size, root.map(|root| Hash(*root.bytes()))))
}

fn wrong(why: String) -> Failure {
    Failure::refused("the ledger does not hold").because(vec![why])
}
