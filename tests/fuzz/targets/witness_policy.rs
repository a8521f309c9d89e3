//! Witness policies, as operators of spaces and regulators hand them round.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_tlog::{Note, WitnessPolicy};

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = WitnessPolicy::parse(bytes) else { return };
    assert_eq!(policy.to_string().as_bytes(), bytes, "it is handed on as it was read");
    let note = Note::sign("a\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n".to_owned(), &[]).expect("a text");
    // Nobody has cosigned this: only a policy without a quorum is met, and none dates it.
    assert_eq!(policy.is_met(&note), Ok(!policy.needs_witnesses()));
    assert_eq!((policy.existed_by(&note), policy.newest_at(&note)), (Ok(None), Ok(None)));
});
