//! What logs submit to a witness.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{SecretKey, Suite};
use shuyu_tlog::{AddCheckpoint, Hash, LogPolicy, Seen, Vkey, WitnessKey};

fuzz_target!(|bytes: &[u8]| {
    let Ok(request) = AddCheckpoint::parse(bytes) else { return };
    assert_eq!(AddCheckpoint::parse(request.to_string().as_bytes()).as_ref(), Ok(&request));
    let key = SecretKey::from_seed(Suite::Ed25519, &[9; 32]).expect("a seed");
    let Ok(log) = Vkey::new(request.origin(), key.public().clone()) else { return };
    let own = WitnessKey::new("w", key.public().clone()).expect("a name");
    let seen = Seen { size: 5, root: Hash([5; 32]) };
    for seen in [None, Some(&seen)] {
        assert!(request.decide(&LogPolicy::of(log.clone()), &own, seen).is_err(), "nobody signed this");
    }
});
