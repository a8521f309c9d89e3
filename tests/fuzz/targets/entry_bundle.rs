//! Bundles of entries.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_tlog::{read_bundle, write_bundle};

fuzz_target!(|parts: (u16, &[u8])| {
    let (width, bytes) = parts;
    let Ok(entries) = read_bundle(bytes, width) else { return };
    assert_eq!(entries.len(), usize::from(width));
    assert_eq!(write_bundle(entries).expect("what was read fits"), bytes);
});
