//! Criteria: `{operandLeft, operator, operandRight}` over what is answered.

#![expect(clippy::wildcard_enum_match_arm, reason = "JSON has six kinds of values and will not have more")]

use std::cmp::Ordering;

use serde_json::Value;

use super::jsonld::{EDC, Message, invalid};
use crate::problem::Problem;

/// Most criteria of one query.
pub const MAX_CRITERIA: usize = 32;
/// Most values of one `in`.
const MAX_VALUES: usize = 1000;
/// Longest left operand or text on the right, in bytes.
const MAX_TEXT_BYTES: usize = 2048;
/// Longest pattern of `like`, in bytes; matching costs pattern times text.
const MAX_PATTERN_BYTES: usize = 256;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Criterion {
    /// What is compared: a member, or `properties.x` and so on.
    pub field: String,
    /// How.
    pub operator: Operator,
    /// With what.
    pub right: Value,
}

/// A comparison, by the words of the EDC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `in`
    In,
    /// `not in`
    NotIn,
    /// `like`: `%` is any text, `_` any character.
    Like,
    /// `ilike`: so, in any case.
    ILike,
    /// `contains`: a list has the value.
    Contains,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Operator {
    /// The operator of a word.
    fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "=" => Self::Equal,
            "!=" => Self::NotEqual,
            "in" => Self::In,
            "not in" => Self::NotIn,
            "like" => Self::Like,
            "ilike" => Self::ILike,
            "contains" => Self::Contains,
            "<" => Self::Less,
            "<=" => Self::LessOrEqual,
            ">" => Self::Greater,
            ">=" => Self::GreaterOrEqual,
            _ => return None,
        })
    }
}

/// Reads one criterion; `path` is where it stands.
///
/// # Errors
/// 400 naming the field.
pub fn read(path: &str, mut message: Message) -> Result<Criterion, Problem> {
    let left = message.text("operandLeft", MAX_TEXT_BYTES)?;
    let word = message.text("operator", 16)?;
    let operator = Operator::of(&word)
        .ok_or_else(|| invalid(&format!("{path}.operator"), format_args!("`{word}` is not known")))?;
    let right = message.take("operandRight");
    let right = right.ok_or_else(|| invalid(&format!("{path}.operandRight"), "is missing"))?;
    message.finish()?;
    let right = plain(right);
    let bad = |wanted: &str| Err(invalid(&format!("{path}.operandRight"), wanted));
    let is_scalar = |value: &Value| match value {
        Value::String(text) => text.len() <= MAX_TEXT_BYTES,
        Value::Bool(_) | Value::Number(_) => true,
        Value::Null | Value::Array(_) | Value::Object(_) => false,
    };
    match (operator, &right) {
        (Operator::In | Operator::NotIn, Value::Array(items))
            if items.len() <= MAX_VALUES && items.iter().all(is_scalar) => {}
        (Operator::In | Operator::NotIn, _) => return bad("must be a list of at most 1000 texts or numbers"),
        (Operator::Like | Operator::ILike, Value::String(pattern)) if pattern.len() <= MAX_PATTERN_BYTES => {}
        (Operator::Like | Operator::ILike, _) => return bad("must be a text of at most 256 bytes"),
        (_, value) if !is_scalar(value) => return bad("must be a text, a number or a truth value"),
        _ => {}
    }
    Ok(Criterion { field: field(&left), operator, right })
}

/// An object with nothing but an `@id` as that text.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(mut members) if members.len() == 1 && members.contains_key("@id") => {
            members.remove("@id").unwrap_or_default()
        }
        Value::Array(items) => items.into_iter().map(plain).collect(),
        other => other,
    }
}

/// A left operand as a path: `id`, the full name and the prefixed name of a member are the same.
pub fn field(left: &str) -> String {
    let part = |part: &str| {
        let part = part.trim_matches('\'');
        let part = part.strip_prefix(EDC).or_else(|| part.strip_prefix("edc:")).unwrap_or(part);
        if part == "id" { "@id".to_owned() } else { part.to_owned() }
    };
    // Full names have dots of their own.
    if left.contains("://") || left.starts_with('\'') {
        return part(left);
    }
    left.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// The value of a path in a resource: a member, else a property, else a private property.
pub fn lookup<'a>(item: &'a Value, field: &str) -> Option<&'a Value> {
    item.get(field)
        .or_else(|| item.get("properties")?.get(field))
        .or_else(|| item.get("privateProperties")?.get(field))
        .or_else(|| {
            let (first, rest) = field.split_once('.')?;
            lookup(item.get(first)?, rest)
        })
}

/// Whether a resource meets a criterion; what is absent meets none, as in the EDC.
pub fn holds(criterion: &Criterion, item: &Value) -> bool {
    let Some(found) = lookup(item, &criterion.field).filter(|found| !found.is_null()) else { return false };
    let right = &criterion.right;
    let is_in = || right.as_array().is_some_and(|items| items.iter().any(|item| same(found, item)));
    match criterion.operator {
        Operator::Equal => same(found, right),
        Operator::NotEqual => !same(found, right),
        Operator::In => is_in(),
        Operator::NotIn => !is_in(),
        Operator::Like => matches(found, right, false),
        Operator::ILike => matches(found, right, true),
        Operator::Contains => found.as_array().is_some_and(|items| items.contains(right)),
        Operator::Less => order(found, right).is_some_and(Ordering::is_lt),
        Operator::LessOrEqual => order(found, right).is_some_and(Ordering::is_le),
        Operator::Greater => order(found, right).is_some_and(Ordering::is_gt),
        Operator::GreaterOrEqual => order(found, right).is_some_and(Ordering::is_ge),
    }
}

/// Equality; a list is equal to what one of its items is equal to.
fn same(found: &Value, right: &Value) -> bool {
    match found {
        Value::Array(items) => items.iter().any(|item| same(item, right)),
        Value::Bool(found) => right.as_bool().or_else(|| right.as_str()?.parse().ok()) == Some(*found),
        found => found == right || order(found, right) == Some(Ordering::Equal),
    }
}

/// Numbers by size, texts by their bytes; what cannot be compared has no order.
pub fn order(left: &Value, right: &Value) -> Option<Ordering> {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => match (left.as_i64(), right.as_i64()) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
        },
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

fn matches(found: &Value, pattern: &Value, any_case: bool) -> bool {
    let (Some(found), Some(pattern)) = (found.as_str(), pattern.as_str()) else { return false };
    if MAX_TEXT_BYTES * 4 < found.len() {
        return false;
    }
    let letters = |text: &str| -> Vec<char> {
        if any_case { text.to_lowercase().chars().collect() } else { text.chars().collect() }
    };
    like(&letters(found), &letters(pattern))
}

/// `%` is any text, `_` any character. Time is at most the product of both lengths.
fn like(text: &[char], pattern: &[char]) -> bool {
    // The ends that the pattern so far can reach in the text.
    let mut ends: Vec<bool> = (0..=text.len()).map(|end| end == 0).collect();
    for wanted in pattern {
        let next: Vec<bool> = match wanted {
            '%' => ends
                .iter()
                .scan(false, |seen, end| {
                    *seen |= *end;
                    Some(*seen)
                })
                .collect(),
            wanted => {
                let fits = |letter: &char| *wanted == '_' || wanted == letter;
                std::iter::once(false).chain(ends.iter().zip(text).map(|(end, letter)| *end && fits(letter))).collect()
            }
        };
        ends = next;
    }
    ends.last() == Some(&true)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jsonld;
    use super::*;

    fn criterion(left: &str, operator: &str, right: Value) -> Result<Criterion, String> {
        let body = json!({ "operandLeft": left, "operator": operator, "operandRight": right });
        read("c", jsonld::read(body).unwrap()).map_err(|problem| problem.detail)
    }

    #[test]
    fn operators_do_what_the_edc_does() {
        let item = json!({
            "@id": "a-1", "state": "FINALIZED", "createdAt": 1200, "list": ["x", "y"],
            "properties": { "name": "Rain per day", "size": 3 }, "privateProperties": { "secret": true },
        });
        let check = |left: &str, operator: &str, right: Value, wanted: bool| {
            let criterion = criterion(left, operator, right.clone()).unwrap();
            assert_eq!(holds(&criterion, &item), wanted, "{left} {operator} {right}");
        };
        check("id", "=", json!("a-1"), true);
        check(&format!("{EDC}id"), "=", json!({ "@value": "a-1" }), true);
        check("@id", "in", json!(["b", "a-1"]), true);
        check("id", "not in", json!(["b"]), true);
        check("state", "!=", json!("FINALIZED"), false);
        check("createdAt", "<=", json!(1200), true);
        check("createdAt", ">", json!(1200.5), false);
        check("list", "contains", json!("y"), true);
        check("list", "=", json!("z"), false);
        check("name", "like", json!("Rain%day"), true);
        check("name", "like", json!("rain%"), false);
        check("properties.name", "ilike", json!("rain_per%"), true);
        check("secret", "=", json!("true"), true);
        check("absent", "!=", json!("x"), false);
        check("size", "=", json!(3.0), true);
    }

    #[test]
    fn bad_criteria_are_refused_by_field() {
        assert!(criterion("id", "~", json!("x")).unwrap_err().contains("`c.operator`"));
        assert!(criterion("id", "in", json!("x")).unwrap_err().contains("`c.operandRight`"));
        assert!(criterion("id", "=", json!({ "a": 1, "b": 2 })).unwrap_err().contains("`c.operandRight`"));
        assert!(criterion("id", "like", json!("x".repeat(300))).unwrap_err().contains("256"));
    }

    /// The meaning of a pattern, letter by letter, without regard to time.
    fn slow_like(text: &[char], pattern: &[char]) -> bool {
        match (text, pattern) {
            (text, ['%', rest @ ..]) => (0..=text.len()).any(|start| slow_like(&text[start..], rest)),
            ([first, text @ ..], [wanted, rest @ ..]) => (*wanted == '_' || wanted == first) && slow_like(text, rest),
            (text, []) => text.is_empty(),
            ([], _) => false,
        }
    }

    proptest::proptest! {
        #[test]
        fn patterns_mean_what_they_say(text in "[ab%_]{0,8}", pattern in "[ab%_]{0,6}") {
            let (text, pattern): (Vec<char>, Vec<char>) = (text.chars().collect(), pattern.chars().collect());
            proptest::prop_assert_eq!(like(&text, &pattern), slow_like(&text, &pattern));
        }
    }

    #[test]
    fn patterns_take_no_more_than_their_product() {
        let text: Vec<char> = "a".repeat(8000).chars().collect();
        let pattern: Vec<char> = "%a".repeat(128).chars().collect();
        assert!(like(&text, &pattern));
        assert!(!like(&text, &[pattern.as_slice(), &['b']].concat()));
        assert!(like(&[], &['%', '%']) && !like(&[], &['_']));
    }
}
