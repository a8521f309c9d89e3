//! Catalogues, datasets and requests for them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Did, json};
use shuyu_wire::dsp::{Catalog, CatalogEntry, CatalogRequest, DataService};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    let publisher: Did = "did:web:a.example".parse().expect("a DID");
    let _ = CatalogRequest::decode(&value);
    if let Ok(catalog) = Catalog::decode(&value, &publisher) {
        for entry in &catalog.entries {
            assert_eq!(entry.policies.len(), entry.dataset.offers.len());
            entry.dataset.check().expect("only entries that fit a catalogue are read");
        }
        // A catalogue of ours names a service, which each dataset refers to; a peer's may leave it out.
        if !catalog.services.is_empty() {
            assert_eq!(Catalog::decode(&catalog.encode(), &publisher).as_ref(), Ok(&catalog));
        }
    }
    if let Ok(entry) = CatalogEntry::decode(&value, &publisher) {
        let endpoint_url = "https://a.example/dsp".parse().expect("an address");
        let service = DataService { id: "urn:s".to_owned(), endpoint_url };
        assert_eq!(CatalogEntry::decode(&entry.encode(&service), &publisher).as_ref(), Ok(&entry));
    }
});
