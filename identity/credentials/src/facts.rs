//! What a verified credential says, as flat facts that a policy can name: `Type#member=value`.
//!
//! A fact has the credential's type, the member of the subject with `.` between the names of nested members, and the
//! value as text. Members of an array are facts of one name. What does not fit is no fact: `null`, fractions, texts that
//! are long or have control characters, and names with `.`, `#` or `=`, which could be taken for others.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::vc::Credential;

/// Most facts of one credential; further members are not told.
pub const MAX_FACTS: usize = 256;
/// Deepest nesting of members that are told.
pub const MAX_DEPTH: usize = 4;
/// Longest value that is told, in bytes.
pub const MAX_VALUE_BYTES: usize = 256;
/// Longest name of a member that is told, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// What credentials say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Their types.
    pub types: BTreeSet<String>,
    /// Their claims, `Type#member=value`.
    pub claims: BTreeSet<String>,
}

impl Facts {
    /// Adds what `credential` says under each type that `counts`: its issuer may be trusted for one type and not for
    /// another.
    pub fn add(&mut self, credential: &Credential, counts: impl Fn(&str) -> bool) {
        for kind in credential.types.iter().map(|kind| kind.as_str()).filter(|kind| counts(kind)) {
            self.types.insert(kind.to_owned());
            let mut found = Vec::new();
            members(&credential.claims, kind, '#', MAX_DEPTH, &mut found);
            self.claims.extend(found);
        }
    }
}

fn members(map: &Map<String, Value>, prefix: &str, separator: char, depth_left: usize, found: &mut Vec<String>) {
    let Some(depth_left) = depth_left.checked_sub(1) else { return };
    for (name, value) in map.iter().filter(|(name, _)| is_plain(name)) {
        one(value, &format!("{prefix}{separator}{name}"), depth_left, found);
    }
}

fn one(value: &Value, name: &str, depth_left: usize, found: &mut Vec<String>) {
    let text = match value {
        Value::String(text) if fits(text) => text.clone(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        Value::Array(items) => {
            for item in items.iter().filter(|item| !item.is_array()) {
                one(item, name, depth_left, found);
            }
            return;
        }
        Value::Object(map) => return members(map, name, '.', depth_left, found),
        Value::Null | Value::String(_) | Value::Number(_) => return,
    };
    if found.len() < MAX_FACTS {
        found.push(format!("{name}={text}"));
    }
}

fn fits(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_VALUE_BYTES && !text.chars().any(char::is_control)
}

fn is_plain(name: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '.' | '#' | '=');
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && !name.chars().any(odd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;
    use shuyu_base::UnixMillis;

    fn facts(types: &[&str], claims: Value) -> Facts {
        let credential = Credential {
            profile: crate::Profile::Vc20,
            id: None,
            types: types.iter().map(|kind| kind.parse().unwrap()).collect(),
            issuer: "did:web:i.example".parse().unwrap(),
            subject: "did:web:h.example".parse().unwrap(),
            claims: claims.as_object().cloned().unwrap_or_default(),
            valid_from: UnixMillis(0),
            valid_until: None,
            status: Vec::new(),
            schemas: Vec::new(),
        };
        let mut facts = Facts::default();
        facts.add(&credential, |kind| kind != "Untrusted");
        facts
    }

    #[test]
    fn members_become_facts_under_the_types_that_count() {
        let claims = json!({
            "level": "gold", "since": 2024, "active": true, "share": 0.5, "gone": null, "a.b": "x", "c=d": "y",
            "membership": { "role": ["admin", "auditor"], "deep": { "er": { "st": { "no": 1 } } } },
        });
        let found = facts(&["Member", "Untrusted"], claims);
        assert_eq!(found.types, ["Member".to_owned()].into());
        let wanted = [
            "Member#active=true",
            "Member#level=gold",
            "Member#membership.role=admin",
            "Member#membership.role=auditor",
            "Member#since=2024",
        ];
        assert_eq!(found.claims, wanted.map(str::to_owned).into());
    }

    #[test]
    fn facts_are_bounded() {
        let many: Map<String, Value> = (0..1000).map(|n| (format!("m{n}"), json!(n))).collect();
        assert_eq!(facts(&["Member"], Value::Object(many)).claims.len(), MAX_FACTS);
        assert!(facts(&["Member"], json!({ "long": "x".repeat(MAX_VALUE_BYTES + 1) })).claims.is_empty());
    }

    proptest! {
        /// A fact belongs to one type: no claim can pass for one of another credential.
        #[test]
        fn a_fact_names_its_type(name in "\\PC{0,12}", value in "\\PC{0,12}", nested in any::<bool>()) {
            let claims = if nested { json!({ "m": { name: value } }) } else { json!({ name: value }) };
            for fact in facts(&["Member"], claims).claims {
                prop_assert_eq!(fact.split('#').next(), Some("Member"));
            }
        }
    }
}
