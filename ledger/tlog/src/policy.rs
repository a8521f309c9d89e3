//! Which signatures make a checkpoint of a log believed.

use shuyu_base::HashKind;

use crate::note::{Note, OpenNoteError, Vkey};

/// How many of a log's keys must have signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// One of them is enough. Whoever passes the note on can take the other lines away unseen.
    Any,
    /// Every one: a checkpoint whose SM2 line was stripped fails.
    All,
}

/// The keys of one log and what is demanded of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// Invariant: at least one, all with one name and one tree hash, no two equal.
    keys: Vec<Vkey>,
    tree_hash: HashKind,
    demand: Demand,
}

/// Why keys do not make a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogPolicyError {
    /// There is no key.
    #[error("policy of a log names no key")]
    Empty,
    /// A key stands there twice.
    #[error("key `{key}` stands twice in the policy of a log")]
    Repeated {
        /// The key.
        key: String,
    },
    /// The keys belong to different logs.
    #[error("keys of logs `{one}` and `{other}` stand in one policy")]
    Names {
        /// Name of the first key.
        one: String,
        /// Name of another.
        other: String,
    },
    /// The keys sign trees hashed with different functions, which are different logs.
    #[error("keys for trees of `{one}` and of `{other}` stand in one policy")]
    TreeHash {
        /// Function of the first key's tree.
        one: &'static str,
        /// Function of another's.
        other: &'static str,
    },
}

impl LogPolicy {
    /// A policy over the keys of one log.
    ///
    /// # Errors
    /// [`LogPolicyError`] if they are not that.
    pub fn new(keys: Vec<Vkey>, demand: Demand) -> Result<Self, LogPolicyError> {
        let Some(first) = keys.first() else { return Err(LogPolicyError::Empty) };
        let (name, tree_hash) = (first.name().to_owned(), first.kind().tree_hash());
        for (at, key) in keys.iter().enumerate() {
            if key.name() != name {
                return Err(LogPolicyError::Names { one: name, other: key.name().to_owned() });
            }
            let other = key.kind().tree_hash();
            if other != tree_hash {
                return Err(LogPolicyError::TreeHash { one: tree_hash.name(), other: other.name() });
            }
            if keys.iter().take(at).any(|before| before == key) {
                return Err(LogPolicyError::Repeated { key: key.to_string() });
            }
        }
        Ok(Self { keys, tree_hash, demand })
    }

    /// The policy that one key makes: it must have signed.
    pub fn of(key: Vkey) -> Self {
        Self { tree_hash: key.kind().tree_hash(), keys: vec![key], demand: Demand::All }
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.keys.first().map_or("", Vkey::name)
    }

    /// The function that hashes the log's tree.
    pub fn tree_hash(&self) -> HashKind {
        self.tree_hash
    }

    /// The keys, at least one.
    pub fn keys(&self) -> &[Vkey] {
        &self.keys
    }

    /// Whether `note` carries what is demanded.
    ///
    /// # Errors
    /// [`OpenNoteError`]; a line of a known key that does not verify refuses the note under either demand.
    pub fn check(&self, note: &Note) -> Result<(), OpenNoteError> {
        match self.demand {
            Demand::Any => note.verify(&self.keys).map(drop),
            Demand::All => note.verify_all(&self.keys),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::SignatureKind;
    use shuyu_base::keys::SecretKey;

    #[test]
    fn keys_of_different_logs_make_no_policy() {
        let key = |name: &str, kind: SignatureKind, seed: u8| {
            let secret = SecretKey::from_seed(kind.suite(), &[seed; 32]).unwrap();
            Vkey::of_kind(name, kind, secret.public().clone()).unwrap()
        };
        let (ed, sm2) = (SignatureKind::Ed25519, SignatureKind::Sm2(HashKind::Sha256));
        let policy = LogPolicy::new(vec![key("a", ed, 1), key("a", sm2, 1)], Demand::All).unwrap();
        assert_eq!((policy.origin(), policy.tree_hash()), ("a", HashKind::Sha256));
        let refused = |keys: Vec<Vkey>| LogPolicy::new(keys, Demand::Any).unwrap_err();
        assert_eq!(refused(vec![]), LogPolicyError::Empty);
        assert!(matches!(refused(vec![key("a", ed, 1), key("b", sm2, 1)]), LogPolicyError::Names { .. }));
        assert!(matches!(refused(vec![key("a", ed, 1), key("a", ed, 1)]), LogPolicyError::Repeated { .. }));
        let twin = key("a", SignatureKind::Sm2(HashKind::Sm3), 1);
        assert!(matches!(refused(vec![key("a", ed, 1), twin.clone()]), LogPolicyError::TreeHash { .. }));
        assert_eq!(LogPolicy::of(twin).tree_hash(), HashKind::Sm3);
    }
}
