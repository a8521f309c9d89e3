//! Disclosures: read, written, judged.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_evidence::Disclosure;

fuzz_target!(|bytes: &[u8]| {
    let Ok(disclosure) = Disclosure::parse(bytes) else { return };
    let written = disclosure.to_json().expect("what was read can be written");
    let again = Disclosure::parse(&written).expect("what we write we read");
    assert_eq!(again, disclosure);
    match (disclosure.verify(), again.verify()) {
        (Ok(one), Ok(two)) => assert_eq!(one, two),
        (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
        (one, two) => panic!("{one:?} but {two:?}"),
    }
});
