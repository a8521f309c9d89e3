//! Verifier keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_tlog::Vkey;

fuzz_target!(|text: &str| {
    let Ok(vkey) = text.parse::<Vkey>() else { return };
    assert_eq!(vkey.to_string(), text, "a key has one form");
    assert_eq!(Vkey::of_kind(vkey.name(), vkey.kind(), vkey.key().clone()).as_ref(), Ok(&vkey));
});
