//! The description of a data space, as its operator publishes it: TOML, read by `shuyu init --space FILE` and kept in
//! `shuyu.toml`. Every error names the field.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use shuyu_base::Did;
use shuyu_base::keys::PublicKey;
use shuyu_credentials::verdict::{Demand, Requirement};
use shuyu_credentials::{CredentialType, DidDocument};
use shuyu_tlog::WitnessPolicy;

use super::{ConfigError, MAX_REGULATORS};

/// Most types that a space requires, and most that it accepts besides.
pub const MAX_TYPES: usize = 16;
/// Most issuers of one type.
pub const MAX_ISSUERS: usize = 64;
/// Most issuers whose keys are named, and most keys of one.
pub const MAX_ROOTS: usize = 64;
const MAX_KEYS: usize = 8;
/// Most catalogue peers of a space.
pub const MAX_PEERS: usize = 64;
/// Longest name of a space, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A data space: what its members must show each other, and where they meet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Space {
    /// Its name, by which offers name it; 1 to 128 bytes, no two spaces of a node alike.
    pub name: String,
    /// DIDs of nodes through which the catalogue of the space is found; at most 64. Kept for the peer network, which this
    /// version does not have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub catalogue_peers: Vec<String>,
    /// DIDs of those who may read the whole ledger of a member that does not let everybody read it; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub regulators: Vec<String>,
    /// What a caller must present, all of it; 1 to 16 entries. This node presents the same types to others.
    pub require: Vec<Require>,
    /// What counts besides if a caller presents it, for policies that speak of it; at most 16 entries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<Require>,
    /// Keys of issuers; at most 64 entries. What an issuer named here signs counts under these keys only, whatever its
    /// DID document says at the time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trust_roots: Vec<TrustRoot>,
    /// Who cosigns the ledgers of the members. This node has its own cosigned by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witnesses: Option<Witnesses>,
}

/// A credential that members of a space have.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Require {
    /// Its type, for example `MembershipCredential`.
    pub r#type: String,
    /// DIDs of those who may issue it; 1 to 64.
    pub issuers: Vec<String>,
}

/// The keys of an issuer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TrustRoot {
    /// The issuer's DID; one that `require` or `accept` names.
    pub did: String,
    /// Its public keys as Multikeys (`z6Mk...`); 1 to 8.
    pub keys: Vec<String>,
}

/// The witnesses of a space.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Witnesses {
    /// Who they are, where they are reached, and how many must cosign: the text of a C2SP tlog-policy with
    /// `witness <name> <vkey> <url>`, `group` and `quorum` lines. `log` lines have no meaning here.
    pub policy: String,
}

/// A field of a description that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {reason}")]
pub struct FieldError {
    /// The field, for example `require[0].issuers[1]`.
    pub field: String,
    /// Why.
    pub reason: String,
}

/// A description whose values were checked.
#[derive(Clone, Debug)]
pub struct SpaceTerms {
    /// Its name.
    pub name: String,
    /// What is required and what is accepted.
    pub requirements: Vec<Requirement>,
    /// The only keys that count, of issuers that have such.
    pub roots: BTreeMap<Did, Vec<PublicKey>>,
}

impl SpaceTerms {
    /// The types that must be presented.
    pub fn required(&self) -> BTreeSet<CredentialType> {
        self.types(Demand::Required)
    }

    /// The types that count besides.
    pub fn accepted(&self) -> BTreeSet<CredentialType> {
        self.types(Demand::Accepted)
    }

    fn types(&self, demand: Demand) -> BTreeSet<CredentialType> {
        let of = self.requirements.iter().filter(|requirement| requirement.demand == demand);
        of.map(|requirement| requirement.kind.clone()).collect()
    }

    /// Everyone whose credentials count.
    pub fn issuers(&self) -> impl Iterator<Item = &Did> {
        self.requirements.iter().flat_map(|requirement| &requirement.issuers)
    }

    /// The document of an issuer as far as this space trusts it.
    pub fn trusted(&self, document: DidDocument) -> DidDocument {
        match self.roots.get(document.id()) {
            Some(keys) => document.with_keys(keys),
            None => document,
        }
    }
}

impl Space {
    /// Largest description of a space, in bytes.
    pub const MAX_FILE_BYTES: u64 = 64 * 1024;

    /// Reads the published description of a space. `path` is for messages.
    ///
    /// # Errors
    /// [`ConfigError`] names the file, and the line or the field.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let space: Self = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        space.terms().map_err(|source| ConfigError::Space { at: path.display().to_string(), source })?;
        Ok(space)
    }

    /// The description as values.
    ///
    /// # Errors
    /// [`FieldError`] for the first field that cannot be used.
    pub fn terms(&self) -> Result<SpaceTerms, FieldError> {
        if self.name.is_empty() || MAX_NAME_BYTES < self.name.len() || self.name.chars().any(char::is_control) {
            return bad("name", format!("must be 1 to {MAX_NAME_BYTES} bytes without control characters"));
        }
        if !(1..=MAX_TYPES).contains(&self.require.len()) {
            return bad("require", format!("must have 1 to {MAX_TYPES} entries"));
        }
        at_most("accept", self.accept.len(), MAX_TYPES)?;
        let mut requirements = Vec::new();
        for (list, of, demand) in
            [("require", &self.require, Demand::Required), ("accept", &self.accept, Demand::Accepted)]
        {
            for (at, one) in of.iter().enumerate() {
                let requirement = requirement(&format!("{list}[{at}]"), one, demand)?;
                if requirements.iter().any(|known: &Requirement| known.kind == requirement.kind) {
                    return bad(&format!("{list}[{at}].type"), format!("`{}` is there already", requirement.kind));
                }
                requirements.push(requirement);
            }
        }
        let terms = SpaceTerms { name: self.name.clone(), roots: self.roots(&requirements)?, requirements };
        self.witness_policy()?;
        at_most("regulators", self.regulators.len(), MAX_REGULATORS)?;
        for (at, regulator) in self.regulators.iter().enumerate() {
            did(&format!("regulators[{at}]"), regulator)?;
        }
        at_most("catalogue-peers", self.catalogue_peers.len(), MAX_PEERS)?;
        for (at, peer) in self.catalogue_peers.iter().enumerate() {
            did(&format!("catalogue-peers[{at}]"), peer)?;
        }
        Ok(terms)
    }

    fn roots(&self, requirements: &[Requirement]) -> Result<BTreeMap<Did, Vec<PublicKey>>, FieldError> {
        at_most("trust-roots", self.trust_roots.len(), MAX_ROOTS)?;
        let mut roots = BTreeMap::new();
        for (at, root) in self.trust_roots.iter().enumerate() {
            let field = |name: &str| format!("trust-roots[{at}].{name}");
            let issuer = did(&field("did"), &root.did)?;
            if !requirements.iter().any(|requirement| requirement.issuers.contains(&issuer)) {
                return bad(&field("did"), "is no issuer of this space".to_owned());
            }
            if !(1..=MAX_KEYS).contains(&root.keys.len()) {
                return bad(&field("keys"), format!("must have 1 to {MAX_KEYS} entries"));
            }
            let mut keys = Vec::new();
            for (number, text) in root.keys.iter().enumerate() {
                let key = PublicKey::from_multikey(text);
                keys.push(key.or_else(|error| bad(&field(&format!("keys[{number}]")), error.to_string()))?);
            }
            if roots.insert(issuer, keys).is_some() {
                return bad(&field("did"), "is there already".to_owned());
            }
        }
        Ok(roots)
    }

    /// The witness policy as a value, if the space has one.
    ///
    /// # Errors
    /// [`FieldError`] for `witnesses.policy`.
    pub fn witness_policy(&self) -> Result<Option<WitnessPolicy>, FieldError> {
        let parse = |witnesses: &Witnesses| {
            let policy = WitnessPolicy::parse(witnesses.policy.as_bytes());
            policy.or_else(|error| bad("witnesses.policy", error.to_string()))
        };
        self.witnesses.as_ref().map(parse).transpose()
    }
}

fn requirement(path: &str, one: &Require, demand: Demand) -> Result<Requirement, FieldError> {
    let kind =
        one.r#type.parse().or_else(|error| bad(&format!("{path}.type"), format!("`{}`: {error}", one.r#type)))?;
    if !(1..=MAX_ISSUERS).contains(&one.issuers.len()) {
        return bad(&format!("{path}.issuers"), format!("must have 1 to {MAX_ISSUERS} entries"));
    }
    let issuers = one.issuers.iter().enumerate().map(|(at, text)| did(&format!("{path}.issuers[{at}]"), text));
    Ok(Requirement { kind, issuers: issuers.collect::<Result<_, _>>()?, demand })
}

fn did(field: &str, text: &str) -> Result<Did, FieldError> {
    text.parse().or_else(|error| bad(field, format!("`{text}`: {error}")))
}

fn at_most(field: &str, found: usize, most: usize) -> Result<(), FieldError> {
    if most < found { bad(field, format!("must have at most {most} entries")) } else { Ok(()) }
}

fn bad<T>(field: &str, reason: String) -> Result<T, FieldError> {
    Err(FieldError { field: field.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = 'City'
catalogue-peers = ['did:web:hub.example']
[[require]]
type = 'MembershipCredential'
issuers = ['did:web:city.example']
[[accept]]
type = 'AuditorCredential'
issuers = ['did:web:city.example', 'did:web:court.example']
[[trust-roots]]
did = 'did:web:city.example'
keys = ['KEY']
[witnesses]
policy = '''
witness w VKEY https://witness.example
quorum w
'''
";

    fn good() -> String {
        let key = shuyu_base::SecretKey::from_seed(shuyu_base::Suite::Ed25519, &[7; 32]).unwrap();
        let vkey = shuyu_tlog::WitnessKey::new("witness.example", key.public().clone()).unwrap();
        GOOD.replace("VKEY", &vkey.to_string()).replace("KEY", &key.public().to_multikey())
    }

    fn parse(text: &str) -> Result<Space, String> {
        Space::parse(text, Path::new("city.toml")).map_err(|error| crate::management::chain(&error))
    }

    #[test]
    fn a_description_says_who_counts_and_under_which_keys() {
        let terms = parse(&good()).unwrap().terms().unwrap();
        assert_eq!(terms.required().len(), 1);
        assert_eq!(terms.accepted().iter().map(|kind| kind.as_str()).collect::<Vec<_>>(), ["AuditorCredential"]);
        let city: Did = "did:web:city.example".parse().unwrap();
        assert_eq!(terms.roots[&city].len(), 1);
        // Of its document only that key is left.
        let mut document = DidDocument::new(city);
        let other = shuyu_base::SecretKey::from_seed(shuyu_base::Suite::Ed25519, &[8; 32]).unwrap();
        document.add_method("swapped", other.public().clone(), shuyu_credentials::Relationship::ALL).unwrap();
        assert!(terms.trusted(document).methods().is_empty());
    }

    #[test]
    fn what_is_wrong_is_named_by_field() {
        let good = good();
        let second = "[[require]]\ntype = 'MembershipCredential'\nissuers = ['did:web:a.example']\n[[accept]]";
        for (text, said) in [
            (good.replace("'City'", "''"), "`name`"),
            ("name = 'City'\nrequire = []\n".to_owned(), "`require`: must have 1 to 16 entries"),
            (good.replace("'MembershipCredential'", "'a b'"), "`require[0].type`: `a b`"),
            (good.replace("[[accept]]", second), "`require[1].type`: `MembershipCredential` is there already"),
            (good.replacen("['did:web:city.example']", "[]", 1), "`require[0].issuers`: must have 1 to 64 entries"),
            (good.replace("did:web:court.example", "court"), "`accept[0].issuers[1]`: `court`"),
            (good.replacen("did = 'did:web:city", "did = 'did:web:other", 1), "`trust-roots[0].did`: is no issuer"),
            (good.replace("keys = ['z", "keys = ['x"), "`trust-roots[0].keys[0]`"),
            (good.replace("quorum w", "quorum x"), "`witnesses.policy`: line 2: `x` is not defined"),
            (good.replace("witness.example+", "witness.example"), "`witnesses.policy`: line 1: the key"),
            (good.replace("did:web:hub.example", "hub"), "`catalogue-peers[0]`: `hub`"),
            (good.replace("[witnesses]", "[witnesses]\nmood = 'good'"), "mood"),
        ] {
            let reason = parse(&text).unwrap_err();
            assert!(reason.contains(said) && reason.contains("city.toml"), "{reason}");
        }
    }

    proptest::proptest! {
        /// A description is somebody else's text.
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC{0,200}", at in 0usize..500, cut in 0usize..40) {
            let _ = parse(&text);
            let good = good();
            let changed: String = good.chars().take(at).chain(text.chars()).chain(good.chars().skip(at + cut)).collect();
            let _ = parse(&changed);
        }
    }
}
