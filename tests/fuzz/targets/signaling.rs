//! Messages of Data Plane Signaling.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_wire::signaling::{FlowRequest, FlowSignal, FlowStatus};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    if let Ok(request) = FlowRequest::decode(&value) {
        assert_eq!(FlowRequest::decode(&request.encode()).as_ref(), Ok(&request));
    }
    if let Ok(signal) = FlowSignal::decode(&value) {
        assert_eq!(FlowSignal::decode(&signal.encode()).as_ref(), Ok(&signal));
    }
    if let Ok(status) = FlowStatus::decode(&value) {
        assert_eq!(FlowStatus::decode(&status.encode()).as_ref(), Ok(&status));
    }
});
