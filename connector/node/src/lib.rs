//! A node: configuration, stores, drivers and servers.
//!
//! In scope: everything that a running node is made of, put together from the crates below: the protocol machines
//! and their drivers, evidence before effect, the gate to the data plane, the management API, a regulator's mirrors.
//! Out of scope: the rules themselves. Policies, moves, proofs and tables live in their own crates.
//!
//! `docs/ARCHITECTURE.md` draws how a message travels through these modules.

pub mod config;
pub mod init;
pub mod key_ring;

mod access;
mod agreements;
mod anchor;
mod api_keys;
mod audit;
mod catalogue;
mod claims;
mod clock;
mod counterparty;
mod dsp_server;
mod edr;
mod event_log;
mod events;
mod evidence;
mod exchange;
mod finder;
mod gate;
mod holdings;
mod hooks;
mod identity;
mod keeper;
mod locks;
mod management;
mod metrics;
mod peers;
mod problem;
mod promises;
mod public;
mod reach;
mod readers;
mod receipts;
mod run;
mod signaling;
mod store;
mod twin;
mod vault;
mod whole;
mod witness;

pub use api_keys::{ApiKey, ApiKeyError, ApiRole, add_api_key, list_api_keys, remove_api_key};
pub use config::{Config, ConfigError, Role, Space, Tls};
pub use init::{InitError, InitOptions, MANAGEMENT_KEY_FILE, init};
pub use run::{RunError, choose_crypto, origin, run};
