//! RFC 3339 times.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::UnixMillis;

fuzz_target!(|text: &str| {
    let Some(time) = UnixMillis::from_rfc3339(text) else { return };
    let written = time.to_string();
    assert_eq!(UnixMillis::from_rfc3339(&written), Some(time), "{written}");
    assert_eq!(UnixMillis::from_unix_seconds(time.unix_seconds()).0, time.0 - time.0.rem_euclid(1000));
});
