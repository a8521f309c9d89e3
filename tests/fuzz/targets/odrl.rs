//! Policies: read, written, checked, put in words, compiled; the program decides as the interpreter does.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, UnixMillis};
use shuyu_policy::{Action, Lang, Request, check, compile, evaluate, words};
use shuyu_wire::odrl;

fuzz_target!(|bytes: &[u8]| {
    let Ok(policy) = odrl::from_wire_bytes(bytes) else { return };
    assert_eq!(odrl::from_json(&odrl::to_json(&policy)).expect("what we write we read"), policy);
    assert_eq!(odrl::from_json(&odrl::to_document(&policy)).expect("what we write we read"), policy);
    let findings = check(&policy);
    for lang in [Lang::En, Lang::Zh] {
        assert!(!words(&policy, lang).is_empty());
    }
    let Ok(program) = compile(&policy) else { return };
    let consumer: Did = "did:web:b.example".parse().expect("a DID");
    let asset = policy.target.clone().unwrap_or_else(|| "urn:a".to_owned());
    for now in [0, 1_795_305_600_000] {
        let mut request = Request::new(UnixMillis(now), Action::Use, &asset, consumer.clone());
        for purpose in [None, Some("research".to_owned())] {
            request.purpose = purpose;
            let wanted = evaluate(&policy, &request);
            assert_eq!(program.decide(&request), wanted, "program and interpreter agree ({findings:?})");
        }
    }
});
