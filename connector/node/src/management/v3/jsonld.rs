//! JSON-LD of the EDC management API, in and out, here and nowhere else.
//!
//! No context is fetched and no general processing done. A message names its members compactly under
//! `{"@vocab": "https://w3id.org/edc/v0.0.1/ns/"}`, with a declared prefix, or as full IRIs; all three are brought to the
//! compact form. A member that is not known is refused with its name: a misspelt `assetsSelector` must not come to mean
//! "every asset". Policies are left to the ODRL reader of `shuyu-wire`.

#![expect(clippy::wildcard_enum_match_arm, reason = "JSON has six kinds of values and will not have more")]

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// Namespace of the EDC.
pub const EDC: &str = "https://w3id.org/edc/v0.0.1/ns/";
/// Contexts that a message may name; their terms are those of [`EDC`], ODRL and DSP.
const CONTEXTS: [&str; 6] = [
    "https://w3id.org/edc/connector/management/v0.0.1",
    "https://w3id.org/edc/connector/management/v2",
    "https://w3id.org/edc/v0.0.1",
    "https://w3id.org/dspace/2025/1/context.jsonld",
    "http://www.w3.org/ns/odrl.jsonld",
    "https://w3id.org/shuyu/profile/1",
];
/// Prefixes with one meaning.
const PREFIXES: [(&str, &str); 9] = [
    ("edc", EDC),
    ("odrl", "http://www.w3.org/ns/odrl/2/"),
    ("dct", "http://purl.org/dc/terms/"),
    ("dcterms", "http://purl.org/dc/terms/"),
    ("dcat", "http://www.w3.org/ns/dcat#"),
    ("dspace", "https://w3id.org/dspace/2025/1/"),
    ("foaf", "http://xmlns.com/foaf/0.1/"),
    ("shuyu", "https://w3id.org/shuyu/profile/1#"),
    ("xsd", "http://www.w3.org/2001/XMLSchema#"),
];
/// Most prefixes and terms that one message declares.
const MAX_TERMS: usize = 64;
/// Most members of one object.
const MAX_MEMBERS: usize = 512;

/// The context of what is answered.
pub fn context() -> Value {
    json!({ "@vocab": EDC, "edc": EDC, "odrl": "http://www.w3.org/ns/odrl/2/" })
}

/// The context of what has a policy inside.
pub fn context_with_policy() -> Value {
    json!(["http://www.w3.org/ns/odrl.jsonld", "https://w3id.org/shuyu/profile/1", { "@vocab": EDC, "edc": EDC }])
}

/// The context of a catalogue, whose words are those of DSP.
pub fn context_of_catalog() -> Value {
    json!(["https://w3id.org/dspace/2025/1/context.jsonld", { "edc": EDC }])
}

/// An object with its context.
pub fn with_context(mut value: Value, context: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert("@context".to_owned(), context);
    }
    value
}

/// A message, or an object in one: its members under compact names, taken one by one.
#[derive(Clone, Debug, Default)]
pub struct Message {
    path: String,
    members: BTreeMap<String, Value>,
}

/// What a context declares beyond what is known.
type Terms = BTreeMap<String, String>;

/// Reads a message; one without a context is taken to have the usual one.
///
/// # Errors
/// 400 naming the context or member.
pub fn read(value: Value) -> Result<Message, Problem> {
    let Value::Object(mut members) = value else { return Err(Problem::invalid("the body must be a JSON object")) };
    let mut terms = Terms::new();
    if let Some(context) = members.remove("@context") {
        declare(&context, &mut terms)?;
    }
    message(String::new(), members, &terms)
}

fn declare(context: &Value, terms: &mut Terms) -> Result<(), Problem> {
    let unknown = |what: &str| {
        let what: String = what.chars().take(120).collect();
        Err(Problem::invalid(format!("`@context`: `{what}` is not known; no context is fetched")))
    };
    match context {
        Value::Null => Ok(()),
        Value::Array(items) if items.len() <= MAX_TERMS => items.iter().try_for_each(|item| declare(item, terms)),
        Value::String(name) if CONTEXTS.contains(&name.trim_end_matches(['/', '#'])) => Ok(()),
        Value::Object(declared) => {
            for (name, meaning) in declared {
                let Some(iri) = meaning.as_str() else { return unknown(name) };
                let known = PREFIXES.iter().find(|(prefix, _)| prefix == name).map(|(_, iri)| *iri);
                match (name.as_str(), known) {
                    ("@vocab", _) if iri == EDC => {}
                    // Earlier versions of the protocol had another namespace.
                    ("dspace", _) if iri.starts_with("https://w3id.org/dspace/") => {}
                    (_, Some(known)) if known == iri => {}
                    (_, None) if !name.starts_with('@') && iri.contains(':') && terms.len() < MAX_TERMS => {
                        terms.insert(name.clone(), iri.to_owned());
                    }
                    _ => return unknown(&format!("{name}: {iri}")),
                }
            }
            Ok(())
        }
        Value::String(name) => unknown(name),
        other => unknown(&other.to_string()),
    }
}

fn message(path: String, members: Map<String, Value>, terms: &Terms) -> Result<Message, Problem> {
    if MAX_MEMBERS < members.len() {
        return Err(Problem::invalid(format!("`{path}` has more than {MAX_MEMBERS} members")));
    }
    let mut found = BTreeMap::new();
    for (name, value) in members {
        let name = compact(&name, terms);
        // A policy is read by its own reader, which takes every spelling.
        let value = if name == "policy" { value } else { simple(value, terms) };
        if found.insert(name.clone(), value).is_some() {
            return Err(Problem::invalid(format!("`{}` appears twice", join(&path, &name))));
        }
    }
    Ok(Message { path, members: found })
}

/// A name in its compact form; a name of a foreign vocabulary as a full IRI.
fn compact(name: &str, terms: &Terms) -> String {
    let iri = match name.split_once(':') {
        _ if name.starts_with('@') => return name.to_owned(),
        None => terms.get(name).cloned(),
        Some((prefix, rest)) if !rest.starts_with("//") => {
            let known = PREFIXES.iter().find(|(known, _)| *known == prefix).map(|(_, iri)| *iri);
            terms.get(prefix).map(String::as_str).or(known).map(|iri| format!("{iri}{rest}"))
        }
        Some(_) => None,
    };
    let name = iri.unwrap_or_else(|| name.to_owned());
    name.strip_prefix(EDC).map_or_else(|| name.clone(), str::to_owned)
}

/// Typed literals as their value, and names inside brought to compact form.
fn simple(value: Value, terms: &Terms) -> Value {
    match value {
        Value::Array(items) => items.into_iter().map(|item| simple(item, terms)).collect(),
        Value::Object(mut members) => {
            let only =
                |name: &str| members.contains_key(name) && members.keys().all(|key| key == name || key == "@type");
            if only("@value") {
                return members.remove("@value").unwrap_or_default();
            }
            if only("@list") || only("@set") {
                let list = members.remove("@list").or_else(|| members.remove("@set"));
                return simple(list.unwrap_or_default(), terms);
            }
            members.into_iter().map(|(name, value)| (compact(&name, terms), simple(value, terms))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

impl Message {
    fn bad(&self, name: &str, wanted: &str) -> Problem {
        Problem::invalid(format!("`{}` {wanted}", join(&self.path, name)))
    }

    /// A member, if it is there and not null. A list of one counts as its item, as JSON-LD has it.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        match self.members.remove(name)? {
            Value::Null => None,
            value => Some(value),
        }
    }

    /// A text, or an object with nothing but an `@id`.
    ///
    /// # Errors
    /// 400 if it is something else or longer than `max_bytes`.
    pub fn maybe_text(&mut self, name: &str, max_bytes: usize) -> Result<Option<String>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let text = match single(value) {
            Value::String(text) => text,
            Value::Object(mut members) if members.len() == 1 => match members.remove("@id") {
                Some(Value::String(id)) => id,
                _ => return Err(self.bad(name, "must be a text")),
            },
            _ => return Err(self.bad(name, "must be a text")),
        };
        if max_bytes < text.len() {
            return Err(self.bad(name, &format!("must have at most {max_bytes} bytes")));
        }
        Ok(Some(text))
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// 400 if it is missing or not a text.
    pub fn text(&mut self, name: &str, max_bytes: usize) -> Result<String, Problem> {
        let text = self.maybe_text(name, max_bytes)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| self.bad(name, "is missing"))
    }

    /// A whole number from 0 on.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn maybe_count(&mut self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        single(value).as_u64().map(Some).ok_or_else(|| self.bad(name, "must be a whole number from 0 on"))
    }

    /// An object inside.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn maybe_message(&mut self, name: &str) -> Result<Option<Self>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match single(value) {
            Value::Object(members) => message(join(&self.path, name), members, &Terms::new()).map(Some),
            _ => Err(self.bad(name, "must be an object")),
        }
    }

    /// Properties of any name and value; empty if absent.
    ///
    /// # Errors
    /// 400 if it is not an object.
    pub fn properties(&mut self, name: &str) -> Result<Map<String, Value>, Problem> {
        let inner = self.maybe_message(name)?;
        Ok(inner.map(|inner| inner.members.into_iter().collect()).unwrap_or_default())
    }

    /// A list of objects; one object counts as a list of one. `None` if absent.
    ///
    /// # Errors
    /// 400 if it is something else or has more than `max` items.
    pub fn maybe_list(&mut self, name: &str, max: usize) -> Result<Option<Vec<Self>>, Problem> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let items = match value {
            Value::Array(items) => items,
            one => vec![one],
        };
        if max < items.len() {
            return Err(self.bad(name, &format!("has more than {max} items")));
        }
        let read = |(at, item): (usize, Value)| match item {
            Value::Object(members) => message(join(&self.path, &format!("{name}[{at}]")), members, &Terms::new()),
            _ => Err(self.bad(&format!("{name}[{at}]"), "must be an object")),
        };
        items.into_iter().enumerate().map(read).collect::<Result<_, _>>().map(Some)
    }

    /// A list of texts; one text counts as a list of one.
    ///
    /// # Errors
    /// 400 if it is something else.
    pub fn texts(&mut self, name: &str, max: usize) -> Result<Vec<String>, Problem> {
        let items = match self.take(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(one) => vec![one],
        };
        if max < items.len() {
            return Err(self.bad(name, &format!("has more than {max} items")));
        }
        let text = |item: Value| match item {
            Value::String(text) => Ok(text),
            _ => Err(self.bad(name, "must be a list of texts")),
        };
        items.into_iter().map(text).collect()
    }

    /// Refuses what this node does not do, unless it is absent or empty.
    ///
    /// # Errors
    /// 400 naming the member and saying `why`.
    pub fn refuse(&mut self, name: &str, why: &str) -> Result<(), Problem> {
        let is_empty = match self.take(name) {
            None => true,
            Some(Value::Array(items)) => items.is_empty(),
            Some(Value::Object(members)) => members.is_empty(),
            Some(_) => false,
        };
        if is_empty { Ok(()) } else { Err(self.bad(name, why)) }
    }

    /// Refuses every member that was not taken.
    ///
    /// # Errors
    /// 400 naming the first.
    pub fn finish(mut self) -> Result<(), Problem> {
        for known in ["@type", "createdAt"] {
            self.members.remove(known);
        }
        match self.members.keys().next() {
            Some(name) => {
                let name: String = name.chars().take(120).collect();
                Err(self.bad(&name, "is not known here").hint("what is not understood is not ignored"))
            }
            None => Ok(()),
        }
    }
}

/// The only item of a list of one; any other value as it is.
fn single(value: Value) -> Value {
    match value {
        Value::Array(mut items) if items.len() == 1 => items.pop().unwrap_or_default(),
        other => other,
    }
}

/// 400 for a member, by its path.
pub fn invalid(path: &str, reason: impl std::fmt::Display) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("`{path}`: {reason}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(body: Value) -> Result<String, String> {
        let mut message = read(body).map_err(|problem| problem.detail)?;
        let text = message.text("reason", 10).map_err(|problem| problem.detail)?;
        message.finish().map_err(|problem| problem.detail)?;
        Ok(text)
    }

    #[test]
    fn three_spellings_of_a_member_are_one() {
        let vocab = json!({ "@vocab": EDC });
        for body in [
            json!({ "reason": "r" }),
            json!({ "@context": vocab, "@type": "X", "reason": "r" }),
            json!({ "@context": { "edc": EDC }, "edc:reason": "r" }),
            json!({ "@context": ["http://www.w3.org/ns/odrl.jsonld", vocab], (format!("{EDC}reason")): "r" }),
            json!({ "@context": { "mine": EDC }, "mine:reason": [{ "@value": "r", "@type": "xsd:string" }] }),
        ] {
            assert_eq!(text_of(body.clone()), Ok("r".to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let check = |body, wanted: &str| {
            let said = text_of(body).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        };
        check(json!([1]), "object");
        check(json!({ "reason": "r", "reasn": 1 }), "`reasn` is not known");
        check(json!({ "reason": "r", "edc:reason": "r" }), "`reason` appears twice");
        check(json!({ "reason": 7 }), "`reason` must be a text");
        check(json!({ "reason": "12345678901" }), "at most 10 bytes");
        check(json!({ "@context": "https://elsewhere.example", "reason": "r" }), "`https://elsewhere.example`");
        check(json!({ "@context": { "@vocab": "https://elsewhere.example/" }, "reason": "r" }), "@vocab");
        check(json!({ "@context": { "edc": "https://elsewhere.example/" }, "reason": "r" }), "edc");
        check(json!({ "@context": { "reason": "https://elsewhere.example/x" }, "reason": "r" }), "is missing");
        check(json!({}), "`reason` is missing");
    }

    /// JSON of any shape with the names that matter here among its members.
    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[a-z:/@#.]{0,12}".prop_map(Value::from),
            Just(Value::from(EDC)),
        ];
        let name = prop_oneof![
            Just("@context".to_owned()),
            Just("@id".to_owned()),
            Just("@value".to_owned()),
            Just("@list".to_owned()),
            Just("filterExpression".to_owned()),
            Just("edc:limit".to_owned()),
            Just(format!("{EDC}offset")),
            Just("operandLeft".to_owned()),
            "[a-z:@]{1,6}",
        ];
        leaf.prop_recursive(4, 32, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                prop::collection::vec((name.clone(), inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Whatever comes is read or refused with a 400, and a refusal is short enough for a log.
        #[test]
        fn any_body_is_read_or_refused(body in any_json()) {
            let read = read(body).and_then(|message| super::super::query::Spec::read(message, None));
            if let Err(problem) = read {
                prop_assert_eq!(problem.status, StatusCode::BAD_REQUEST);
                prop_assert!(problem.detail.len() < 2000);
            }
        }
    }
}
