//! Schemas and the values they check: two documents with a zero byte between them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_credentials::schema::{MAX_SCHEMA_BYTES, Schema};

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == 0);
    let (Some(schema), Some(value)) = (parts.next(), parts.next()) else { return };
    let (Ok(schema), Ok(value)) = (Schema::parse(schema), json::parse(value, MAX_SCHEMA_BYTES)) else { return };
    let _ = schema.check(&value);
});
