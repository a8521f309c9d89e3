//! What a node signs its ledger with, who must cosign it, and the ledgers it cosigns itself.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use shuyu_ledger::LedgerKeys;
use shuyu_tlog::{NoteSigner, ParseVkeyError, WitnessPolicy, WitnessSigner};

use super::{RunError, read};
use crate::config::{Config, ConfigError, Role};
use crate::identity::Identity;
use crate::management;
use crate::store::Store;
use crate::witness::{Quorums, WitnessDesk};

/// What the ledger signs with: its own key, and the node's SM2 key where there is one.
pub(super) fn ledger_keys(origin: &str, identity: &Identity, config: &Config) -> Result<LedgerKeys, RunError> {
    let bad = |error: ParseVkeyError| RunError::Recover(format!("`{origin}` cannot name a ledger: {error}"));
    let mut keys = LedgerKeys::from(NoteSigner::new(origin, Arc::clone(&identity.ledger_key)).map_err(bad)?);
    if let Some(promise_s) = config.ledger.promise_s {
        keys = keys.promising_within(Duration::from_secs(promise_s.into()));
    }
    if let Some(sm2) = identity.sm2_key() {
        keys = keys.with_sm2(Arc::clone(sm2)).map_err(bad)?;
    }
    match identity.sm2_key() {
        Some(sm2) if config.ledger.sm3_twin => keys.with_twin(Arc::clone(sm2)).map_err(bad),
        None if config.ledger.sm3_twin => {
            Err(RunError::Recover("`ledger.sm3-twin` needs an SM2 key; set `keys.sm2-key`".to_owned()))
        }
        Some(_) | None => Ok(keys),
    }
}

/// Who must cosign the ledger: the witnesses of every space, and those of the node's own policy.
pub(super) fn quorums(dir: &Path, config: &Config) -> Result<Quorums, RunError> {
    let mut policies = Vec::new();
    for space in config.all_spaces() {
        let bad = |source| ConfigError::Space { at: space.name.clone(), source };
        policies.extend(space.witness_policy().map_err(bad)?);
    }
    if let Some(file) = &config.ledger.witness_policy {
        let bad = |reason: String| ConfigError::Value { key: "ledger.witness-policy", reason };
        let text = read(&dir.join(file))?;
        policies.push(WitnessPolicy::parse(text.as_bytes()).map_err(|error| bad(error.to_string()))?);
    }
    Ok(Quorums::new(policies)?)
}

/// The witness, where the node is one. It signs with the ledger's key, under a name of its own.
pub(super) fn witness_desk(
    dir: &Path,
    config: &Config,
    identity: &Identity,
    store: &Store,
) -> Result<Option<Arc<WitnessDesk>>, RunError> {
    if !config.has(Role::Witness) {
        return Ok(None);
    }
    let name = format!("{}/witness", bare_url(config));
    let bad = |error: ParseVkeyError| RunError::Recover(format!("`{name}` cannot name a witness: {error}"));
    let signer = WitnessSigner::new(&name, Arc::clone(&identity.ledger_key)).map_err(bad)?;
    let high_water = config.witness.high_water.clone().unwrap_or_else(|| "witness-high-water".into());
    let desk = WitnessDesk::open(signer, store.clone(), dir.join(high_water));
    let desk = desk.map_err(|error| RunError::Recover(management::chain(&error)))?;
    config.witness.keys()?.into_iter().for_each(|key| desk.know_key(key));
    Ok(Some(Arc::new(desk)))
}

/// The ledger's origin: the public address without its scheme (C2SP tlog-checkpoint asks for a schema-less URL).
pub fn origin(config: &Config) -> String {
    format!("{}/ledger", bare_url(config))
}

/// The public address without its scheme.
fn bare_url(config: &Config) -> &str {
    let url = config.public.url.trim_end_matches('/');
    url.split_once("://").map_or(url, |(_, rest)| rest)
}
