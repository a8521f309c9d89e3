//! Messages and states of a transfer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_wire::dsp::{TransferMessage, TransferState};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    if let Ok(message) = TransferMessage::decode(&value) {
        assert_eq!(TransferMessage::decode(&message.encode()).as_ref(), Ok(&message));
    }
    if let Ok(state) = TransferState::decode(&value) {
        assert_eq!(TransferState::decode(&state.encode()).as_ref(), Ok(&state));
    }
});
