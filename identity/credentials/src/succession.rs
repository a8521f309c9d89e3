//! Key succession: a key of a DID names the one that takes its place.
//!
//! A DID document says which keys are good now. It does not say that today's owner of the web address is yesterday's: who
//! takes over the address can publish a key of its own. A succession is signed by the key that leaves, so that a peer that
//! holds the old key (from an agreement, say) can tell a change of keys from a change of hands.

use serde_json::{Value, json};
use shuyu_base::{Did, PublicKey, SecretKey, UnixMillis, json as strict_json};

use crate::jws;

/// The `typ` of a succession.
pub const TYP: &str = "shuyu-succession+jws";
/// Most successions in one document: as many changes of keys as one document tells of.
pub const MAX_SUCCESSIONS: usize = 16;
/// Longest succession, in bytes; one of ours has about 600.
pub const MAX_SUCCESSION_BYTES: usize = 4096;

/// One change of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Succession {
    /// Whose keys.
    pub did: Did,
    /// The key that takes over.
    pub to: PublicKey,
    /// When, by the clock of whoever changed it; cut to whole seconds.
    pub at: UnixMillis,
}

/// Why no succession leads from one key to another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// No succession in the document is signed by the key that is held.
    #[error("no succession in the document is signed by key {held}")]
    Broken {
        /// Thumbprint of the last key that was reached.
        held: String,
    },
}

impl Succession {
    /// Signs the succession with the key that leaves, which verifiers know as `kid`.
    pub fn sign(&self, leaving: &SecretKey, kid: &str) -> String {
        let payload = json!({
            "sub": self.did.as_str(), "from": leaving.public().to_multikey(), "to": self.to.to_multikey(),
            "iat": self.at.unix_seconds(),
        });
        jws::sign(leaving, kid, TYP, payload.to_string().as_bytes())
    }

    /// What `compact` says, if it is a succession of `did` signed by `held`.
    pub fn open(compact: &str, did: &Did, held: &PublicKey) -> Option<Self> {
        if MAX_SUCCESSION_BYTES < compact.len() {
            return None;
        }
        let verified = jws::verify(compact, |_| Some(held.clone())).ok()?;
        if verified.typ.as_deref() != Some(TYP) {
            return None;
        }
        let payload = strict_json::parse(&verified.payload, MAX_SUCCESSION_BYTES).ok()?;
        let text = |name: &str| payload.get(name).and_then(Value::as_str);
        // The key that leaves is named as well, so that a signature cannot be read as that of another key.
        if text("sub")? != did.as_str() || text("from")? != held.to_multikey() {
            return None;
        }
        let to = PublicKey::from_multikey(text("to")?).ok()?;
        Some(Self { did: did.clone(), to, at: UnixMillis::from_unix_seconds(payload.get("iat")?.as_i64()?) })
    }
}

/// Checks that the owner of `held` handed over to `wanted`, in one step or several.
///
/// # Errors
/// [`SuccessionError`] says where the way ends.
pub fn leads(successions: &[String], did: &Did, held: &PublicKey, wanted: &PublicKey) -> Result<(), SuccessionError> {
    let mut left: Vec<(&str, String)> = successions
        .iter()
        .take(MAX_SUCCESSIONS)
        .filter_map(|compact| Some((compact.as_str(), leaving(compact)?)))
        .collect();
    let mut current = held.clone();
    // Each succession is checked once at most, so this ends, and a document full of them costs little.
    while current != *wanted {
        let name = current.to_multikey();
        let mut next = None;
        left.retain(|(compact, from)| {
            let is_tried = next.is_none() && *from == name;
            if is_tried {
                next = Succession::open(compact, did, &current);
            }
            !is_tried
        });
        current = next.ok_or_else(|| SuccessionError::Broken { held: current.thumbprint().to_string() })?.to;
    }
    Ok(())
}

/// The key that a succession says it is signed by, unchecked.
fn leaving(compact: &str) -> Option<String> {
    let unverified = jws::peek_within(compact, MAX_SUCCESSION_BYTES).ok()?;
    let payload = strict_json::parse(&unverified.payload, MAX_SUCCESSION_BYTES).ok()?;
    payload.get("from")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shuyu_base::Suite;

    fn key(suite: Suite, seed: u8) -> SecretKey {
        SecretKey::from_seed(suite, &[seed; 32]).unwrap()
    }

    fn did() -> Did {
        "did:web:a.example".parse().unwrap()
    }

    fn step(from: &SecretKey, to: &SecretKey) -> String {
        Succession { did: did(), to: to.public().clone(), at: UnixMillis(0) }.sign(from, "did:web:a.example#key-1")
    }

    #[test]
    fn a_way_is_followed_over_several_steps_and_suites() {
        let keys = [key(Suite::Ed25519, 1), key(Suite::P256, 2), key(Suite::Sm2, 3), key(Suite::Ed25519, 4)];
        let mut steps: Vec<String> = keys.windows(2).map(|pair| step(&pair[0], &pair[1])).collect();
        steps.reverse();
        for (at, from) in keys.iter().enumerate() {
            for (to_at, to) in keys.iter().enumerate() {
                let found = leads(&steps, &did(), from.public(), to.public());
                assert_eq!(found.is_ok(), at <= to_at, "{at} -> {to_at}: {found:?}");
            }
        }
        // One step less, and the way is broken there.
        steps.remove(1);
        let broken = leads(&steps, &did(), keys[0].public(), keys[3].public());
        assert_eq!(broken, Err(SuccessionError::Broken { held: keys[1].public().thumbprint().to_string() }));
    }

    #[test]
    fn only_the_key_that_leaves_can_name_its_successor() {
        let (old, new, stranger) = (key(Suite::Ed25519, 1), key(Suite::Ed25519, 2), key(Suite::Ed25519, 3));
        let taken_over = step(&stranger, &new);
        assert!(leads(&[taken_over], &did(), old.public(), new.public()).is_err());
        let other_did =
            Succession { did: "did:web:b.example".parse().unwrap(), to: new.public().clone(), at: UnixMillis(0) };
        let elsewhere = other_did.sign(&old, "did:web:a.example#key-1");
        assert!(leads(&[elsewhere], &did(), old.public(), new.public()).is_err());
        let payload = json!({"sub": did().as_str(), "from": old.public().to_multikey(), "to": new.public().to_multikey(), "iat": 0});
        let another_kind = jws::sign(&old, "did:web:a.example#key-1", "JWT", payload.to_string().as_bytes());
        assert!(leads(&[another_kind], &did(), old.public(), new.public()).is_err());
    }

    #[test]
    fn a_circle_ends() {
        let (a, b, c) = (key(Suite::Ed25519, 1), key(Suite::Ed25519, 2), key(Suite::Ed25519, 3));
        let circle = [step(&a, &b), step(&b, &a)];
        let held = a.public().thumbprint().to_string();
        assert_eq!(leads(&circle, &did(), a.public(), c.public()), Err(SuccessionError::Broken { held }));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}") {
            prop_assert!(Succession::open(&text, &did(), key(Suite::Ed25519, 1).public()).is_none());
        }
    }
}
