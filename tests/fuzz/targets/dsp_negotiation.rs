//! Messages and states of a contract negotiation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_wire::dsp::{NegotiationMessage, NegotiationState, event_digest};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    event_digest(&value).expect("every message read has a digest");
    if let Ok(message) = NegotiationMessage::decode(&value) {
        let written = message.encode();
        let again = NegotiationMessage::decode(&written).expect("what we write we read");
        assert_eq!(again.encode(), written);
        assert_eq!(
            (again.id, again.provider_pid, again.consumer_pid),
            (message.id, message.provider_pid, message.consumer_pid)
        );
    }
    if let Ok(state) = NegotiationState::decode(&value) {
        assert_eq!(NegotiationState::decode(&state.encode()).as_ref(), Ok(&state));
    }
});
