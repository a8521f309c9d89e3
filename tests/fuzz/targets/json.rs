//! Strict JSON and its canonical form.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    assert_eq!(serde_json::from_slice::<serde_json::Value>(bytes).expect("it is JSON"), value);
    let canonical = json::canonical(&value).expect("every number read has a canonical form");
    let again = json::parse(&canonical, usize::MAX).expect("the canonical form is JSON");
    assert_eq!(json::canonical(&again).expect("as before"), canonical, "the canonical form is stable");
});
