//! Audit bundles: read, written, judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_evidence::Bundle;

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::parse(bytes) else { return };
    let written = bundle.to_json().expect("what was read can be written");
    let again = Bundle::parse(&written).expect("what we write we read");
    assert_eq!(again.to_json().expect("as before"), written);
    match (bundle.verify(), again.verify()) {
        (Ok(one), Ok(two)) => assert_eq!(format!("{one:?}"), format!("{two:?}")),
        (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
        (one, two) => panic!("{one:?} but {two:?}"),
    }
});
