//! What an entry says without telling: a salted commitment to every field of the contents it is about.
//!
//! ## The tree
//!
//! The contents, a JSON object, are taken apart into fields. A field is a value that is no object and no list of
//! objects, named by its JSON pointer (RFC 6901), such as `/agreement/permission/0/action`. Each field is a leaf of a
//! Merkle tree of RFC 6962 (SHA-256), whose data is the canonical JSON (RFC 8785) of
//!
//! ```json
//! ["shuyu/field/v1", "<schema>", "<name>", "<salt, base64url>", <value>]
//! ```
//!
//! with the statement's kind as the schema, so that no leaf of one kind can be shown as one of another. Leaves that
//! stand for nothing fill the tree up to a power of two, at least [`MIN_LEAVES`], and all are in the order of their
//! hashes: neither the root nor the place of a leaf tells which fields there are. The root is the commitment
//! [`FIELDS`] of the statement.
//!
//! ## The salts
//!
//! The salt of a field is derived from one secret of 256 bits, the [`Seed`], which the contents carry in the member
//! [`SALT`]. Whoever sends a message chooses it and hands it over inside the message; thus both parties know the same
//! salts and state the same root, and the `event` digest over the message cannot be guessed either. The seed is no field
//! and is never disclosed: a disclosed field shows its own salt only. To forget a field is to forget the seed, the
//! field's salt and its value; its leaf stays, and every proof with it.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use shuyu_base::{Digest, HashKind, json as base_json};
use shuyu_tlog::{Hash, HashSource, Tree, leaf_hash, node_hash, prove_inclusion, verify_inclusion};

/// The name of the commitment in a statement.
pub const FIELDS: &str = "fields";

/// The member of a message, or of other contents, that carries the seed.
pub const SALT: &str = "https://w3id.org/shuyu/profile/1#salt";

/// Fewest leaves of a tree.
pub const MIN_LEAVES: usize = 16;

/// Most leaves of a tree, and so most fields. Contents with more are taken apart less far.
pub const MAX_LEAVES: usize = 1024;

/// Longest name of a field, in bytes, in what others hand us: names of nested members, deep as JSON may be.
pub const MAX_NAME_BYTES: usize = 4096;

const KIND: HashKind = HashKind::Sha256;
const FIELD_TAG: &str = "shuyu/field/v1";
const SALT_TAG: &[u8] = b"shuyu/field-salt/v1\0";
const DECOY_TAG: &[u8] = b"shuyu/field-decoy/v1\0";

/// Why contents have no commitment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A number has no canonical form.
    #[error("the contents have no canonical form")]
    Canonical(#[from] serde_json::Error),
}

/// The secret from which the salts of one event come.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Of 256 random bits.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The seed that these contents carry; `None` if they carry none that is 32 bytes in base64url.
    pub fn of(content: &Value) -> Option<Self> {
        let text = content.get(SALT)?.as_str()?;
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        (text.len() == 43).then_some(Self(bytes.try_into().ok()?))
    }

    /// Puts the seed into the contents, which carry it from then on. Only an object can carry one.
    pub fn put_into(&self, content: &mut Value) {
        if let Some(members) = content.as_object_mut() {
            members.insert(SALT.to_owned(), URL_SAFE_NO_PAD.encode(self.0).into());
        }
    }

    fn salt(&self, name: &str) -> [u8; 32] {
        *KIND.digest(&[SALT_TAG, &self.0, name.as_bytes()]).bytes()
    }

    /// A leaf that stands for nothing: as random as any other to whoever does not know the seed.
    fn decoy(&self, number: u64) -> Hash {
        leaf_hash(KIND, KIND.digest(&[DECOY_TAG, &self.0, &number.to_be_bytes()]).bytes())
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

/// A field that can be shown: whoever holds it can show that the commitment contains it.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    /// JSON pointer into the contents.
    pub name: String,
    /// Its own salt.
    pub salt: [u8; 32],
    /// What it says.
    pub value: Value,
}

impl Field {
    fn leaf(&self, schema: &str) -> Result<Hash, CommitError> {
        let data = json!([FIELD_TAG, schema, self.name, URL_SAFE_NO_PAD.encode(self.salt), self.value]);
        Ok(leaf_hash(KIND, &base_json::canonical(&data)?))
    }
}

impl fmt::Debug for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Field").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A field with its place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The field.
    pub field: Field,
    /// The place of its leaf, from 0.
    pub index: u64,
    /// The hashes from the leaf's sibling up.
    pub path: Vec<Hash>,
}

impl Shown {
    /// Whether a tree of `size` leaves with this root contains the field.
    pub fn is_in(&self, schema: &str, size: u64, root: &Digest) -> bool {
        let Ok(leaf) = self.field.leaf(schema) else { return false };
        root.kind() == KIND && verify_inclusion(KIND, &leaf, self.index, size, &self.path, &Hash(*root.bytes())).is_ok()
    }
}

/// The tree of one event, with those of its fields that are still known.
#[derive(Clone, PartialEq, Eq)]
pub struct Fields {
    leaves: Vec<Hash>,
    /// By place of the leaf.
    known: BTreeMap<usize, Field>,
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fields").field("leaves", &self.leaves.len()).field("known", &self.names()).finish()
    }
}

impl Fields {
    /// Of these contents, salted from `seed`. The member [`SALT`] is no field.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn of(schema: &str, content: &Value, seed: &Seed) -> Result<Self, CommitError> {
        let mut leaves = Vec::new();
        for (name, value) in taken_apart(content) {
            let field = Field { salt: seed.salt(&name), name, value };
            leaves.push((field.leaf(schema)?, Some(field)));
        }
        let size = leaves.len().next_power_of_two().max(MIN_LEAVES);
        let decoys = (leaves.len()..size).zip(0..).map(|(_, number)| (seed.decoy(number), None));
        leaves.extend(decoys);
        leaves.sort_by_key(|(hash, _)| *hash);
        let known = leaves.iter().enumerate().filter_map(|(at, (_, field))| Some((at, field.clone()?))).collect();
        Ok(Self { leaves: leaves.into_iter().map(|(hash, _)| hash).collect(), known })
    }

    /// As it was kept. A field at a place that the tree does not have is dropped.
    pub fn restore(leaves: Vec<Hash>, known: impl IntoIterator<Item = (usize, Field)>) -> Self {
        let known = known.into_iter().filter(|(at, _)| *at < leaves.len()).collect();
        Self { leaves, known }
    }

    /// The root: what the statement commits to.
    pub fn root(&self) -> Digest {
        let mut tree = Tree::new(KIND);
        self.leaves.iter().for_each(|leaf| tree.push(*leaf));
        Digest::new(KIND, tree.root().0)
    }

    /// The leaves in order.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// What is still known, by place of the leaf.
    pub fn known(&self) -> impl Iterator<Item = (usize, &Field)> {
        self.known.iter().map(|(at, field)| (*at, field))
    }

    /// The names of what is still known, in order.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.known.values().map(|field| field.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// Forgets the fields that `pick` names (see [`is_named`]), all of them if it names none. Returns their names.
    pub fn forget(&mut self, pick: &[String]) -> Vec<String> {
        let gone = |field: &Field| pick.is_empty() || pick.iter().any(|wish| is_named(&field.name, wish));
        let mut names = Vec::new();
        self.known.retain(|_, field| {
            let is_gone = gone(field);
            if is_gone {
                names.push(field.name.clone());
            }
            !is_gone
        });
        names.sort_unstable();
        names
    }

    /// The fields that one of `pick` names, each with its proof.
    pub fn show(&self, pick: &[String]) -> Vec<Shown> {
        let size = self.leaves.len() as u64;
        let wanted = self.known.iter().filter(|(_, field)| pick.iter().any(|wish| is_named(&field.name, wish)));
        wanted
            .filter_map(|(at, field)| {
                let index = *at as u64;
                let path = prove_inclusion(KIND, index, size, &Leaves(&self.leaves)).ok()?;
                Some(Shown { field: field.clone(), index, path })
            })
            .collect()
    }
}

/// Whether `wish` names this field: its pointer, or the pointer of something around it. The first `/` may be left out;
/// the empty pointer is around everything (RFC 6901 section 5).
pub fn is_named(name: &str, wish: &str) -> bool {
    let wish = wish.strip_prefix('/').unwrap_or(wish).trim_end_matches('/');
    let rest = name.strip_prefix('/').unwrap_or(name).strip_prefix(wish);
    wish.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The fields of these contents: as fine as there is room for, and the same for everyone.
fn taken_apart(content: &Value) -> Vec<(String, Value)> {
    let Value::Object(members) = content else { return vec![(String::new(), content.clone())] };
    let members: Map<String, Value> = members.iter().filter(|(name, _)| *name != SALT).map(owned).collect();
    let mut fine = Vec::new();
    let whole = Value::Object(members);
    flatten(&whole, String::new(), &mut fine);
    if fine.len() <= MAX_LEAVES {
        return fine;
    }
    let Value::Object(members) = whole else { return fine };
    if members.len() <= MAX_LEAVES {
        return members.into_iter().map(|(name, value)| (format!("/{}", escaped(&name)), value)).collect();
    }
    vec![(String::new(), Value::Object(members))]
}

fn owned((name, value): (&String, &Value)) -> (String, Value) {
    (name.clone(), value.clone())
}

fn flatten(value: &Value, at: String, fields: &mut Vec<(String, Value)>) {
    let is_plain = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                flatten(value, format!("{at}/{}", escaped(name)), fields);
            }
        }
        Value::Array(items) if !items.iter().all(is_plain) => {
            for (number, value) in items.iter().enumerate() {
                flatten(value, format!("{at}/{number}"), fields);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
            fields.push((at, value.clone()));
        }
    }
}

/// RFC 6901 section 3.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// The hashes over a list of leaves.
struct Leaves<'a>(&'a [Hash]);

impl HashSource for Leaves<'_> {
    type Error = std::convert::Infallible;

    fn hash(&self, level: u32, index: u64) -> Result<Hash, Self::Error> {
        let Some(below) = level.checked_sub(1) else {
            let at = usize::try_from(index).unwrap_or(usize::MAX);
            return Ok(self.0.get(at).copied().unwrap_or(Hash([0; 32])));
        };
        Ok(node_hash(KIND, &self.hash(below, 2 * index)?, &self.hash(below, 2 * index + 1)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seed(byte: u8) -> Seed {
        Seed::new([byte; 32])
    }

    fn content() -> Value {
        json!({ "query": "sha256:00", "rows": 7, "by": { "name": "a/b" }, "tags": ["x", "y"], "none": {},
            "parts": [{ "k": 1 }, { "k": 2 }] })
    }

    #[test]
    fn contents_are_taken_apart_into_pointers() {
        let fields = Fields::of("use.served", &content(), &seed(1)).unwrap();
        assert_eq!(fields.names(), ["/by/name", "/none", "/parts/0/k", "/parts/1/k", "/query", "/rows", "/tags"]);
        assert_eq!(fields.leaves().len(), MIN_LEAVES);
    }

    /// The bytes of the format: a second implementation computes the same.
    #[test]
    fn the_format_is_as_documented() {
        let fields = Fields::of("k", &json!({ "a": 1 }), &seed(0)).unwrap();
        let salt = URL_SAFE_NO_PAD.encode(HashKind::Sha256.digest(&[SALT_TAG, &[0; 32], b"/a"]).bytes());
        let leaf = HashKind::Sha256.digest(&[&[0], format!(r#"["shuyu/field/v1","k","/a","{salt}",1]"#).as_bytes()]);
        assert!(fields.leaves().contains(&Hash(*leaf.bytes())));
        insta::assert_snapshot!(fields.root().to_string(), @"sha256:f5e8ac25984232a393c50474c5e5703a1636e2dc5f72fe505986ea2b8b324263");
    }

    #[test]
    fn the_seed_is_no_field_and_another_seed_or_kind_is_another_root() {
        let mut carried = content();
        seed(1).put_into(&mut carried);
        assert_eq!(Seed::of(&carried), Some(seed(1)));
        let root = |schema: &str, content: &Value, byte| Fields::of(schema, content, &seed(byte)).unwrap().root();
        assert_eq!(root("k", &carried, 1), root("k", &content(), 1));
        assert_ne!(root("k", &content(), 1), root("k", &content(), 2));
        assert_ne!(root("k", &content(), 1), root("l", &content(), 1));
        for bad in [json!("AAAA"), json!(1), json!("=".repeat(43)), json!("A".repeat(44))] {
            assert_eq!(Seed::of(&json!({ SALT: bad })), None);
        }
    }

    #[test]
    fn what_is_shown_holds_and_nothing_else_does() {
        let fields = Fields::of("use.served", &content(), &seed(1)).unwrap();
        let (root, size) = (fields.root(), fields.leaves().len() as u64);
        let shown = fields.show(&["rows".to_owned(), "/parts".to_owned()]);
        assert_eq!(shown.iter().map(|one| one.field.name.as_str()).filter(|n| n.starts_with("/parts")).count(), 2);
        for one in &shown {
            assert!(one.is_in("use.served", size, &root));
            assert!(!one.is_in("use.refused", size, &root));
            assert!(!one.is_in("use.served", size / 2, &root));
            assert!(!one.is_in("use.served", size, &Digest::sha256(b"")));
            let mut other = one.clone();
            other.field.value = json!("other");
            assert!(!other.is_in("use.served", size, &root));
            let mut other = one.clone();
            other.field.salt[0] ^= 1;
            assert!(!other.is_in("use.served", size, &root));
        }
        assert!(fields.show(&["ro".to_owned(), "rows/a".to_owned()]).is_empty());
        assert_eq!(fields.show(&[String::new()]).len(), 7);
    }

    #[test]
    fn forgetting_leaves_the_root_and_the_other_proofs() {
        let mut fields = Fields::of("k", &content(), &seed(1)).unwrap();
        let root = fields.root();
        assert_eq!(fields.forget(&["rows".to_owned()]), ["/rows"]);
        assert!(fields.show(&["rows".to_owned()]).is_empty());
        let kept = Fields::restore(fields.leaves().to_vec(), fields.known().map(|(at, one)| (at, one.clone())));
        assert_eq!((kept.root(), &kept), (root, &fields));
        assert!(kept.show(&["query".to_owned()])[0].is_in("k", 16, &root));
        assert_eq!(fields.forget(&[]).len(), 6);
        assert!(fields.names().is_empty());
        assert_eq!(fields.root(), root);
    }

    #[test]
    fn contents_of_any_size_have_a_commitment() {
        let many = |n: usize| (0..n).map(|at| (format!("m{at}"), json!({ "a": at, "b": at }))).collect::<Map<_, _>>();
        for (count, leaves) in [(512, 1024), (513, 1024), (1024, 1024), (1025, MIN_LEAVES)] {
            let fields = Fields::of("k", &Value::Object(many(count)), &seed(1)).unwrap();
            assert_eq!(fields.leaves().len(), leaves, "{count}");
        }
        assert_eq!(Fields::of("k", &json!(["a"]), &seed(1)).unwrap().names(), [""]);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[a-z/~]{0,6}".prop_map(Value::from)];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::btree_map("[a-z/~]{0,4}", inner, 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Both parties compute one root, and every field of it can be shown; so no two fields have one name.
        #[test]
        fn every_field_can_be_shown(content in any_json(), byte in any::<u8>()) {
            let fields = Fields::of("k", &content, &seed(byte)).unwrap();
            prop_assert_eq!(&fields, &Fields::of("k", &content, &seed(byte)).unwrap());
            let (root, size) = (fields.root(), fields.leaves().len() as u64);
            prop_assert!(size.is_power_of_two());
            let mut names = fields.names();
            names.dedup();
            prop_assert_eq!(names.len(), fields.known().count());
            for name in names {
                let shown = fields.show(&[name.to_owned()]);
                prop_assert!(shown.iter().any(|one| one.field.name == name));
                prop_assert!(shown.iter().all(|one| one.is_in("k", size, &root)));
            }
        }
    }
}
