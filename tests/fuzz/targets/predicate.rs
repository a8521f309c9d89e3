//! Row filters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_policy::predicate::{MAX_PREDICATE_BYTES, Predicate};

fuzz_target!(|text: &str| {
    let Ok(predicate) = text.parse::<Predicate>() else { return };
    let written = predicate.to_string();
    // Quotes may make the written form longer than a filter may be; then it is refused, never misread.
    match written.parse::<Predicate>() {
        Ok(again) => assert_eq!(again, predicate, "{written}"),
        Err(_) => assert!(MAX_PREDICATE_BYTES < written.len(), "{written}"),
    }
    assert!(!predicate.columns().is_empty());
    assert!(!predicate.conjuncts().is_empty());
});
