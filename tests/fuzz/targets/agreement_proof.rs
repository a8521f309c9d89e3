//! Proofs of agreements: any bytes, and a good proof with one member replaced by any JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use shuyu_base::{SecretKey, Suite, json};
use shuyu_contract_engine::signature::{Signature, Subject};
use shuyu_contract_engine::{Party, proof};

/// What an attacker may replace.
const PLACES: [&str; 9] = [
    "/agreement", "/provider", "/consumer", "/renews", "/digest", "/signatures", "/signatures/0/kid",
    "/signatures/0/key", "/signatures/0/jws",
];

fn good() -> Value {
    let (provider, consumer) =
        ("did:web:a.example".parse().expect("a DID"), "did:web:b.example".parse().expect("a DID"));
    let agreement = serde_json::json!({"@id": "urn:uuid:1"});
    let canonical = json::canonical(&agreement).expect("canonical");
    let subject =
        Subject { id: "urn:uuid:1", canonical: &canonical, provider: &provider, consumer: &consumer, renews: None };
    let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32]).expect("a seed");
    let kid = format!("{provider}#key-1");
    let signature = Signature { compact: subject.sign(&key, &kid), key: key.public().clone(), kid };
    proof::write(&subject, &agreement, [(Party::Provider, &signature)])
}

fuzz_target!(|bytes: &[u8]| {
    let Some((place, rest)) = bytes.split_first() else { return };
    let Ok(value) = json::parse(rest, json::MAX_MESSAGE_BYTES) else { return };
    let _ = proof::check(&value);
    let mut changed = good();
    let place = PLACES[usize::from(*place) % PLACES.len()];
    if let Some(member) = changed.pointer_mut(place) {
        let is_same = *member == value;
        *member = value;
        let is_nothing = place == "/signatures" && changed["signatures"] == Value::Array(Vec::new());
        assert!(is_same || is_nothing || proof::check(&changed).is_err(), "{place} was replaced");
    }
});
