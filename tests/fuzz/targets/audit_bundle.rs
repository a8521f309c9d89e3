//! Audit bundles: read, written, judged, cut down to one proof.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_evidence::{Bundle, ConvictionKind, Verdict};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = Bundle::parse(bytes) else { return };
    let written = bundle.to_json().expect("what was read can be written");
    let again = Bundle::parse(&written).expect("what we write we read");
    assert_eq!(again.to_json().expect("as before"), written);
    let judged = bundle.verify();
    match (&judged, again.verify()) {
        (Ok(one), Ok(two)) => assert_eq!(format!("{one:?}"), format!("{two:?}")),
        (Err(one), Err(two)) => assert_eq!(one.to_string(), two.to_string()),
        (one, two) => panic!("{one:?} but {two:?}"),
    }
    let Ok(audit) = judged else { return };
    let Verdict::DoesNotHold(found) = audit.verdict else { return };
    for kind in ConvictionKind::ALL {
        let Ok(small) = bundle.minimal(kind) else { continue };
        assert!(found.iter().any(|one| one.kind == kind), "a proof of what was not found");
        let Verdict::DoesNotHold(left) = small.verify().expect("it was judged to make it").verdict else {
            panic!("the proof proves nothing")
        };
        assert!(left.iter().any(|one| one.kind == kind));
    }
});
