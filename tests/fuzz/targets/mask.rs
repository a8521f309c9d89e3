//! Column masks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_policy::Mask;

fuzz_target!(|text: &str| {
    let Ok((column, mask)) = Mask::parse_column(text) else { return };
    assert_eq!(format!("{column}={mask}"), text);
});
