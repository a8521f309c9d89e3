//! Identifiers and what follows from them: the place of a did:web document, the document of a did:key or did:jwk.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::Did;
use shuyu_credentials::{DidDocument, WebLocation, local_document, web::Scheme};

fuzz_target!(|text: &str| {
    let Ok(did) = text.parse::<Did>() else { return };
    assert_eq!(did.as_str(), text);
    assert_eq!(format!("did:{}:{}", did.method(), did.id()), text);
    if let Ok(place) = WebLocation::from_did(&did) {
        let url = place.url(Scheme::Https).expect("every did:web has an https address");
        assert_eq!(url.host_str(), Some(place.host()));
        assert_eq!(url.path(), place.path());
        assert_eq!(place.url(Scheme::Http).is_some(), place.is_loopback());
    }
    if let Some(Ok(document)) = local_document(&did) {
        assert_eq!(document.id(), &did);
        let json = document.to_json().to_string();
        assert_eq!(DidDocument::parse(json.as_bytes(), &did).expect("what we write we read"), document);
    }
});
