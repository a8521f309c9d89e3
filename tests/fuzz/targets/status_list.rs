//! Packed status lists: any bytes as gzip, within bounds.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use shuyu_credentials::gzip::{gunzip, gzip};
use shuyu_credentials::status::{MAX_LIST_BYTES, StatusEntry, StatusList};

fuzz_target!(|parts: (u64, &str, &[u8])| {
    let (index, text, bytes) = parts;
    if let Ok(out) = gunzip(bytes, 4096) {
        assert!(out.len() <= 4096);
        assert_eq!(gunzip(&gzip(&out), 4096), Ok(out));
    }
    let entry = json!({"type": "BitstringStatusListEntry", "statusPurpose": "revocation", "statusListIndex": index,
        "statusListCredential": text});
    let entries = StatusEntry::parse_all(&entry).unwrap_or_default();
    for encoded in [format!("u{}", URL_SAFE_NO_PAD.encode(bytes)), text.to_owned()] {
        let subject = json!({"type": "BitstringStatusList", "statusPurpose": "revocation", "encodedList": encoded});
        let Ok(list) = StatusList::parse(subject.as_object().expect("an object")) else { continue };
        for entry in &entries {
            let inside = usize::try_from(entry.index).is_ok_and(|index| index < MAX_LIST_BYTES * 8);
            assert!(inside || list.is_set(entry).is_err());
        }
    }
});
