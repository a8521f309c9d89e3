//! JSON from foreign hands: bounded in size and depth, duplicate keys refused (RFC 8259 section 4, I-JSON RFC 7493).

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Deepest nesting accepted; DSP messages nest below 20.
pub const MAX_DEPTH: usize = 32;

/// Largest protocol message accepted, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Why bytes were not accepted as JSON.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseJsonError {
    /// Longer than the caller's limit.
    #[error("JSON is {len_bytes} bytes, the limit is {max_bytes}")]
    TooLarge {
        /// Length found, in bytes.
        len_bytes: usize,
        /// The caller's limit, in bytes.
        max_bytes: usize,
    },
    /// Not JSON, nested deeper than [`MAX_DEPTH`], or a member name appears twice.
    #[error("not acceptable JSON: {0}")]
    Syntax(#[source] serde_json::Error),
}

/// Parses `bytes`, refusing more than `max_bytes`, nesting over [`MAX_DEPTH`] and duplicate member names.
///
/// # Errors
/// [`ParseJsonError`] names the line and column.
pub fn parse(bytes: &[u8], max_bytes: usize) -> Result<Value, ParseJsonError> {
    if max_bytes < bytes.len() {
        return Err(ParseJsonError::TooLarge { len_bytes: bytes.len(), max_bytes });
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth_left: MAX_DEPTH }.deserialize(&mut reader).map_err(ParseJsonError::Syntax)?;
    reader.end().map_err(ParseJsonError::Syntax)?;
    Ok(value)
}

/// The canonical form of a JSON value (JCS, RFC 8785): the bytes that are hashed and signed.
///
/// # Errors
/// When a number has no canonical form (not a finite IEEE 754 double).
pub fn canonical(value: &Value) -> Result<Vec<u8>, serde_json::Error> {
    serde_json_canonicalizer::to_vec(value)
}

struct Strict {
    depth_left: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<Self, E> {
        let depth_left =
            self.depth_left.checked_sub(1).ok_or_else(|| E::custom(format!("nested deeper than {MAX_DEPTH}")))?;
        Ok(Self { depth_left })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.deeper::<A::Error>()?)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(self.deeper::<A::Error>()?)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("member `{name}` appears twice")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_duplicate_deep_large_and_trailing() {
        for text in [r#"{"a":1,"a":2}"#, r#"[{"b":{"c":1,"c":1}}]"#, "{} x", "{", "1e999", "\"\\ud800\"", ""] {
            assert!(parse(text.as_bytes(), 100).is_err(), "{text}");
        }
        let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(parse(nested(MAX_DEPTH).as_bytes(), 1000).is_ok());
        assert!(parse(nested(MAX_DEPTH + 1).as_bytes(), 1000).is_err());
        assert!(parse(nested(100_000).as_bytes(), 1_000_000).is_err());
        assert!(matches!(parse(b"[1,2]", 4), Err(ParseJsonError::TooLarge { len_bytes: 5, max_bytes: 4 })));
    }

    #[test]
    fn canonical_form_sorts_members() {
        let value = parse(br#"{ "b": 1.0, "a": [true, null, "\u00e9"] }"#, 100).unwrap();
        assert_eq!(canonical(&value).unwrap(), "{\"a\":[true,null,\"é\"],\"b\":1}".as_bytes());
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json_where_it_accepts(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = parse(&bytes, 200) {
                prop_assert_eq!(value, serde_json::from_slice::<Value>(&bytes).unwrap());
            }
        }
    }
}
