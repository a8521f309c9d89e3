//! Errors, versions and callback addresses.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_wire::dsp::{CallbackUrl, ProtocolError, decode_versions, encode_versions};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(address) = text.parse::<CallbackUrl>()
    {
        assert_eq!(address.as_str(), text);
        assert!(address.join("a/b").ends_with("/a/b"));
    }
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    if let Ok(versions) = decode_versions(&value) {
        assert_eq!(decode_versions(&encode_versions(&versions)).as_ref(), Ok(&versions));
    }
    if let Ok(error) = ProtocolError::decode(&value) {
        let again = ProtocolError::decode(&error.encode()).expect("what we write we read");
        assert_eq!((again.kind, again.explanation), (error.kind, error.explanation));
    }
});
