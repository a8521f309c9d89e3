//! A peer's DID document.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::Did;
use shuyu_credentials::DidDocument;

fuzz_target!(|bytes: &[u8]| {
    let did: Did = "did:web:a.example".parse().expect("a DID");
    let Ok(document) = DidDocument::parse(bytes, &did) else { return };
    assert_eq!(document.id(), &did);
    for method in document.methods() {
        assert!(method.id.starts_with("did:web:a.example#"));
        assert_eq!(document.method(&method.id), Some(method));
    }
    let json = document.to_json().to_string();
    assert_eq!(DidDocument::parse(json.as_bytes(), &did).expect("what we write we read"), document);
});
