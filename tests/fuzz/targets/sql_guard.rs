//! The guard of the SQL door: what it lets in is one query, and says the same when read again.
#![no_main]

use arrow::datatypes::{DataType, Field, Schema};
use libfuzzer_sys::fuzz_target;
use shuyu_data_plane::{MAX_SQL_BYTES, admit};

fuzz_target!(|sql: &str| {
    let schema =
        Schema::new(vec![Field::new("delay", DataType::Int64, true), Field::new("Origin City", DataType::Utf8, true)]);
    let Ok(statement) = admit(sql, &schema) else { return };
    let written = statement.to_string();
    if written.len() <= MAX_SQL_BYTES
        && let Ok(again) = admit(&written, &schema)
    {
        assert_eq!(again.to_string(), written);
    }
});
