//! National identifier codes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use std::str::FromStr;

use shuyu_base::{ContractCode, NodeCode, ParticipantCode, ProductCode};

/// One code has one spelling, and its owner is well-formed by itself.
fn check<C: FromStr + ToString>(text: &str, owner: impl Fn(&C) -> Option<&ParticipantCode>) {
    let Ok(code) = text.parse::<C>() else { return };
    assert_eq!(code.to_string(), text);
    if let Some(owner) = owner(&code) {
        assert_eq!(owner.as_str().parse().as_ref(), Ok(owner));
    }
}

fuzz_target!(|text: &str| {
    check::<ParticipantCode>(text, |code| Some(code));
    check::<NodeCode>(text, |code| Some(code.owner()));
    check::<ProductCode>(text, |code| Some(code.owner()));
    check::<ContractCode>(text, |code| Some(code.owner()));
    if let Ok(code) = text.parse::<ContractCode>() {
        let issued = code.issued_at().plus_millis(8 * 3_600_000).to_string();
        let digits: String = issued.chars().filter(char::is_ascii_digit).take(14).collect();
        assert_eq!(&text[24..38], digits, "the time is read as written");
    }
    if let Ok(code) = text.parse::<ProductCode>()
        && let Some(extension) = code.extension()
    {
        assert_eq!(code.with_extension(extension).as_ref(), Ok(&code));
    }
});
