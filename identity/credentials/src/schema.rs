//! The part of JSON Schema that credential schemas use, as a closed set: a keyword that is not known refuses the schema.
//!
//! There are no references and no regular expressions, so neither a schema nor a value can make the check slow: it takes
//! at most one look at each member for each keyword. The published crate was measured to turn on features of shared
//! dependencies, which would build the query engine anew.

use serde_json::{Map, Value};
use shuyu_base::json as strict_json;

/// Largest schema accepted, in bytes.
pub const MAX_SCHEMA_BYTES: usize = 64 * 1024;
/// Most schemas inside one schema, itself included.
pub const MAX_SUBSCHEMAS: usize = 256;
/// Most looks one check may take.
pub const MAX_STEPS: usize = 100_000;

/// Keywords that describe and do not constrain.
const ANNOTATIONS: [&str; 10] =
    ["$schema", "$id", "id", "title", "description", "$comment", "default", "examples", "deprecated", "readOnly"];
/// `format` is an annotation from draft 2019-09 on; asserting it is optional before.
const FORMAT: &str = "format";

/// A schema that can be checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Schema(Node);

/// Why bytes are not a schema we can check, or a value does not satisfy one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// Not JSON, too large, too deep or with duplicate members.
    #[error("schema is not acceptable JSON")]
    Json(#[source] strict_json::ParseJsonError),
    /// A keyword is not known, or its value has the wrong shape.
    #[error("schema keyword `{keyword}` is not known here or malformed")]
    Keyword {
        /// The keyword, cut to 64 characters.
        keyword: String,
    },
    /// More than [`MAX_SUBSCHEMAS`].
    #[error("schema has more than {MAX_SUBSCHEMAS} parts")]
    TooManyParts,
    /// The value breaks a rule.
    #[error("`{path}` breaks `{keyword}` of its schema")]
    Violated {
        /// Where, as a JSON pointer; empty for the whole.
        path: String,
        /// The keyword.
        keyword: &'static str,
    },
    /// The check takes more than [`MAX_STEPS`].
    #[error("schema takes more than {MAX_STEPS} steps to check")]
    TooLong,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Node {
    never: bool,
    types: Option<Vec<String>>,
    one_of_values: Option<Vec<Value>>,
    properties: Vec<(String, Node)>,
    required: Vec<String>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    contains: Option<Box<Node>>,
    all_of: Vec<Node>,
    any_of: Vec<Node>,
    one_of: Vec<Node>,
    not: Option<Box<Node>>,
    unique_items: bool,
    sizes: Vec<(Size, usize)>,
    bounds: Vec<(Bound, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    MinLength,
    MaxLength,
    MinItems,
    MaxItems,
    MinProperties,
    MaxProperties,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bound {
    Minimum,
    Maximum,
    ExclusiveMinimum,
    ExclusiveMaximum,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    /// [`SchemaError`] names the keyword.
    pub fn parse(bytes: &[u8]) -> Result<Self, SchemaError> {
        let value = strict_json::parse(bytes, MAX_SCHEMA_BYTES).map_err(SchemaError::Json)?;
        let mut parts_left = MAX_SUBSCHEMAS;
        Node::parse(&value, &mut parts_left).map(Self)
    }

    /// Checks a value.
    ///
    /// # Errors
    /// [`SchemaError::Violated`] names the member, [`SchemaError::TooLong`] when the check is given up.
    pub fn check(&self, value: &Value) -> Result<(), SchemaError> {
        let mut steps_left = MAX_STEPS;
        self.0.check(value, "", &mut steps_left)
    }
}

fn bad(keyword: &str) -> SchemaError {
    SchemaError::Keyword { keyword: keyword.chars().take(64).collect() }
}

impl Node {
    fn parse(value: &Value, parts_left: &mut usize) -> Result<Self, SchemaError> {
        *parts_left = parts_left.checked_sub(1).ok_or(SchemaError::TooManyParts)?;
        let members = match value {
            Value::Bool(always) => return Ok(Self { never: !always, ..Self::default() }),
            Value::Object(members) => members,
            Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => return Err(bad("schema")),
        };
        let mut node = Self::default();
        for (keyword, value) in members {
            node.keyword(keyword, value, parts_left)?;
        }
        Ok(node)
    }

    fn keyword(&mut self, keyword: &str, value: &Value, parts_left: &mut usize) -> Result<(), SchemaError> {
        if ANNOTATIONS.contains(&keyword) || keyword == FORMAT {
            return Ok(());
        }
        let mut one = |value| Self::parse(value, parts_left).map(|node| Some(Box::new(node)));
        match keyword {
            "type" => self.types = Some(texts(value).ok_or_else(|| bad(keyword))?),
            "enum" => self.one_of_values = Some(value.as_array().ok_or_else(|| bad(keyword))?.clone()),
            "const" => self.one_of_values = Some(vec![value.clone()]),
            "required" => self.required = texts(value).ok_or_else(|| bad(keyword))?,
            "additionalProperties" => self.additional = one(value)?,
            "items" => self.items = one(value)?,
            "contains" => self.contains = one(value)?,
            "not" => self.not = one(value)?,
            "uniqueItems" => self.unique_items = value.as_bool().ok_or_else(|| bad(keyword))?,
            "properties" => {
                for (name, value) in value.as_object().ok_or_else(|| bad(keyword))? {
                    self.properties.push((name.clone(), Self::parse(value, parts_left)?));
                }
            }
            "allOf" => self.all_of = Self::list(keyword, value, parts_left)?,
            "anyOf" => self.any_of = Self::list(keyword, value, parts_left)?,
            "oneOf" => self.one_of = Self::list(keyword, value, parts_left)?,
            _ => self.limit(keyword, value)?,
        }
        Ok(())
    }

    fn limit(&mut self, keyword: &str, value: &Value) -> Result<(), SchemaError> {
        if let Some(size) = Size::from_keyword(keyword) {
            let limit = value.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(|| bad(keyword))?;
            self.sizes.push((size, limit));
            return Ok(());
        }
        // Draft 4 writes `exclusiveMinimum: true`, which changes the meaning of `minimum`: refused as malformed.
        let bound = Bound::from_keyword(keyword).ok_or_else(|| bad(keyword))?;
        self.bounds.push((bound, value.as_f64().ok_or_else(|| bad(keyword))?));
        Ok(())
    }

    fn list(keyword: &str, value: &Value, parts_left: &mut usize) -> Result<Vec<Self>, SchemaError> {
        let items = value.as_array().filter(|items| !items.is_empty()).ok_or_else(|| bad(keyword))?;
        items.iter().map(|item| Self::parse(item, parts_left)).collect()
    }

    fn check(&self, value: &Value, path: &str, steps_left: &mut usize) -> Result<(), SchemaError> {
        *steps_left = steps_left.checked_sub(1).ok_or(SchemaError::TooLong)?;
        let broken = |keyword| Err(SchemaError::Violated { path: path.to_owned(), keyword });
        if self.never {
            return broken("false");
        }
        if self.types.as_ref().is_some_and(|types| !types.iter().any(|name| is_a(value, name))) {
            return broken("type");
        }
        if self.one_of_values.as_ref().is_some_and(|values| !values.contains(value)) {
            return broken("enum");
        }
        if let Some((size, _)) = self.sizes.iter().find(|(size, limit)| size.broken_by(value, *limit)) {
            return broken(size.keyword());
        }
        if let Some((bound, _)) = self.bounds.iter().find(|(bound, limit)| bound.broken_by(value, *limit)) {
            return broken(bound.keyword());
        }
        if let Value::Object(members) = value {
            self.check_members(members, path, steps_left)?;
        }
        if let Value::Array(items) = value {
            self.check_items(items, path, steps_left)?;
        }
        self.check_combined(value, path, steps_left)
    }

    fn check_members(
        &self,
        members: &Map<String, Value>,
        path: &str,
        steps_left: &mut usize,
    ) -> Result<(), SchemaError> {
        if let Some(name) = self.required.iter().find(|name| !members.contains_key(*name)) {
            return Err(SchemaError::Violated { path: format!("{path}/{name}"), keyword: "required" });
        }
        for (name, value) in members {
            let own = self.properties.iter().find(|(known, _)| known == name).map(|(_, node)| node);
            if let Some(node) = own.or(self.additional.as_deref()) {
                node.check(value, &format!("{path}/{name}"), steps_left)?;
            }
        }
        Ok(())
    }

    fn check_items(&self, items: &[Value], path: &str, steps_left: &mut usize) -> Result<(), SchemaError> {
        let broken = |keyword| Err(SchemaError::Violated { path: path.to_owned(), keyword });
        if let Some(node) = &self.items {
            for (at, item) in items.iter().enumerate() {
                node.check(item, &format!("{path}/{at}"), steps_left)?;
            }
        }
        if let Some(node) = &self.contains
            && holding(items.iter().map(|item| (node.as_ref(), item)), path, steps_left)? == 0
        {
            return broken("contains");
        }
        if self.unique_items {
            for (at, item) in items.iter().enumerate() {
                *steps_left = steps_left.checked_sub(at).ok_or(SchemaError::TooLong)?;
                if items.iter().take(at).any(|earlier| earlier == item) {
                    return broken("uniqueItems");
                }
            }
        }
        Ok(())
    }

    fn check_combined(&self, value: &Value, path: &str, steps_left: &mut usize) -> Result<(), SchemaError> {
        let broken = |keyword| Err(SchemaError::Violated { path: path.to_owned(), keyword });
        for node in &self.all_of {
            node.check(value, path, steps_left)?;
        }
        let with =
            |nodes: &[Self], steps_left: &mut usize| holding(nodes.iter().map(|node| (node, value)), path, steps_left);
        if !self.any_of.is_empty() && with(&self.any_of, steps_left)? == 0 {
            return broken("anyOf");
        }
        if !self.one_of.is_empty() && with(&self.one_of, steps_left)? != 1 {
            return broken("oneOf");
        }
        if let Some(node) = &self.not
            && holding(std::iter::once((node.as_ref(), value)), path, steps_left)? != 0
        {
            return broken("not");
        }
        Ok(())
    }
}

/// How many of the pairs hold; running out of steps is an error, not a violation.
fn holding<'a>(
    pairs: impl Iterator<Item = (&'a Node, &'a Value)>,
    path: &str,
    steps_left: &mut usize,
) -> Result<usize, SchemaError> {
    let mut found = 0;
    for (node, value) in pairs {
        match node.check(value, path, steps_left) {
            Ok(()) => found += 1,
            Err(SchemaError::TooLong) => return Err(SchemaError::TooLong),
            Err(_) => {}
        }
    }
    Ok(found)
}

fn texts(value: &Value) -> Option<Vec<String>> {
    let items = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    items.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

fn is_a(value: &Value, name: &str) -> bool {
    match value {
        Value::Null => name == "null",
        Value::Bool(_) => name == "boolean",
        Value::String(_) => name == "string",
        Value::Array(_) => name == "array",
        Value::Object(_) => name == "object",
        Value::Number(number) => {
            let whole = number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|n| n.fract() == 0.0);
            name == "number" || (name == "integer" && whole)
        }
    }
}

impl Size {
    const ALL: [Self; 6] =
        [Self::MinLength, Self::MaxLength, Self::MinItems, Self::MaxItems, Self::MinProperties, Self::MaxProperties];

    fn keyword(self) -> &'static str {
        match self {
            Self::MinLength => "minLength",
            Self::MaxLength => "maxLength",
            Self::MinItems => "minItems",
            Self::MaxItems => "maxItems",
            Self::MinProperties => "minProperties",
            Self::MaxProperties => "maxProperties",
        }
    }

    fn from_keyword(keyword: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|size| size.keyword() == keyword)
    }

    fn broken_by(self, value: &Value, limit: usize) -> bool {
        let found = match (self, value) {
            (Self::MinLength | Self::MaxLength, Value::String(text)) => text.chars().count(),
            (Self::MinItems | Self::MaxItems, Value::Array(items)) => items.len(),
            (Self::MinProperties | Self::MaxProperties, Value::Object(members)) => members.len(),
            _ => return false,
        };
        match self {
            Self::MinLength | Self::MinItems | Self::MinProperties => found < limit,
            Self::MaxLength | Self::MaxItems | Self::MaxProperties => limit < found,
        }
    }
}

impl Bound {
    const ALL: [Self; 4] = [Self::Minimum, Self::Maximum, Self::ExclusiveMinimum, Self::ExclusiveMaximum];

    fn keyword(self) -> &'static str {
        match self {
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::ExclusiveMinimum => "exclusiveMinimum",
            Self::ExclusiveMaximum => "exclusiveMaximum",
        }
    }

    fn from_keyword(keyword: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bound| bound.keyword() == keyword)
    }

    fn broken_by(self, value: &Value, limit: f64) -> bool {
        let Some(found) = value.as_f64() else { return false };
        match self {
            Self::Minimum => found < limit,
            Self::Maximum => limit < found,
            Self::ExclusiveMinimum => found <= limit,
            Self::ExclusiveMaximum => limit <= found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(schema: &Value, value: &Value) -> Result<(), String> {
        let schema = Schema::parse(schema.to_string().as_bytes()).map_err(|error| error.to_string())?;
        schema.check(value).map_err(|error| error.to_string())
    }

    #[test]
    fn values_are_checked_and_the_member_is_named() {
        let member = json!({
            "$schema": "http://json-schema.org/draft-04/schema#", "type": "object",
            "properties": {"id": {"type": "string"}, "level": {"type": "integer", "minimum": 1, "maximum": 3}},
            "required": ["id"], "additionalProperties": false,
        });
        for (value, expected) in [
            (json!({"id": "a"}), Ok(())),
            (json!({"id": "a", "level": 3.0}), Ok(())),
            (json!({}), Err("`/id` breaks `required` of its schema")),
            (json!({"id": 1}), Err("`/id` breaks `type` of its schema")),
            (json!({"id": "a", "level": 4}), Err("`/level` breaks `maximum` of its schema")),
            (json!({"id": "a", "more": 1}), Err("`/more` breaks `false` of its schema")),
            (json!([]), Err("`` breaks `type` of its schema")),
        ] {
            assert_eq!(check(&member, &value), expected.map_err(str::to_owned), "{value}");
        }
        let combined = json!({"oneOf": [{"const": 1}, {"enum": [1, 2]}], "not": {"type": "null"}});
        assert!(check(&combined, &json!(2)).is_ok());
        assert!(check(&combined, &json!(1)).is_err());
        let list = json!({"items": {"minLength": 2}, "uniqueItems": true, "contains": {"const": "bb"}, "maxItems": 3});
        assert!(check(&list, &json!(["aa", "bb"])).is_ok());
        for bad in [json!(["a", "bb"]), json!(["bb", "bb"]), json!(["aa"]), json!(["aa", "bb", "cc", "dd"])] {
            assert!(check(&list, &bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_known_and_what_is_a_bomb_is_refused() {
        for (schema, reason) in [
            (json!({"$ref": "#"}), "schema keyword `$ref` is not known here or malformed"),
            (json!({"pattern": "^(a+)+$"}), "schema keyword `pattern` is not known here or malformed"),
            (
                json!({"minimum": 1, "exclusiveMinimum": true}),
                "schema keyword `exclusiveMinimum` is not known here or malformed",
            ),
            (json!({"anyOf": vec![json!({}); MAX_SUBSCHEMAS]}), "schema has more than 256 parts"),
        ] {
            assert_eq!(check(&schema, &json!(1)), Err(reason.to_owned()));
        }
        // A schema that doubles the work with every level.
        let mut bomb = json!({"items": {"not": {"const": 0}}});
        for _ in 0..7 {
            bomb = json!({"anyOf": [{"allOf": [bomb.clone(), false]}, bomb]});
        }
        let many: Vec<u32> = (1..2000).collect();
        assert_eq!(check(&bomb, &json!(many)), Err("schema has more than 256 parts".to_owned()));
        let slow = json!({"items": {"anyOf": vec![json!(true); 200]}});
        let many: Vec<u32> = (1..2000).collect();
        assert_eq!(check(&slow, &json!(many)), Err("schema takes more than 100000 steps to check".to_owned()));
    }

    proptest! {
        #[test]
        fn no_input_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(schema) = Schema::parse(&bytes) {
                let _ = schema.check(&json!({"a": [1, "b", null]}));
            }
        }
    }
}
