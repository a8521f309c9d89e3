//! The cursor that a consumer hands back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_catalog::{Catalog, Cursor, Query};

fuzz_target!(|text: &str| {
    let Ok(cursor) = Cursor::from_text(text) else { return };
    assert_eq!(cursor.to_text(), text);
    let query = Query::new(Vec::new(), 1, Some(cursor)).expect("a query");
    let _ = Catalog::default().search(&query, |dataset| Some(dataset.clone()));
});
