//! Conditions of a catalogue query, a line each: property, operator, values, with tabs between them. They are run over
//! two entries, and short pages hold what one long page holds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::{Digest, UnixMillis};
use shuyu_catalog::{Catalog, Cursor, Dataset, Distribution, Field, Filter, OfferRef, Query};

fn dataset(id: &str, title: &str) -> Dataset {
    Dataset {
        id: id.to_owned(),
        title: title.to_owned(),
        description: "Flüge 航班".to_owned(),
        keywords: vec!["air".to_owned()],
        issued: UnixMillis(1_795_305_600_000),
        publisher: "did:web:a.example".parse().expect("a DID"),
        offers: vec![OfferRef { id: "o".to_owned(), policy_digest: Digest::sha256(b"") }],
        distributions: vec![Distribution { format: "FlightSql".to_owned() }],
        fields: vec![Field { name: "delay".to_owned(), kind: "Int64".to_owned() }],
        product_code: None,
    }
}

fuzz_target!(|text: &str| {
    let filters: Result<Vec<Filter>, _> = text
        .lines()
        .map(|line| {
            let mut words = line.split('\t');
            let (property, operator) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            Filter::new(property, operator, &words.collect::<Vec<_>>())
        })
        .collect();
    let Ok(filters) = filters else { return };
    let mut catalog = Catalog::default();
    for (id, title) in [("a", "flights"), ("b", "weather")] {
        catalog.insert(dataset(id, title)).expect("an entry");
    }
    let Ok(whole) = Query::new(filters.clone(), Query::MAX_LIMIT, None) else { return };
    let whole = catalog.search(&whole, |dataset| Some(dataset.clone())).expect("no cursor").datasets;
    let (mut after, mut paged) = (None, Vec::new());
    loop {
        let query = Query::new(filters.clone(), 1, after).expect("as before");
        let page = catalog.search(&query, |dataset| Some(dataset.clone())).expect("its own cursor");
        paged.extend(page.datasets);
        let Some(next) = page.next else { break };
        after = Some(Cursor::from_text(&next.to_text()).expect("what we write we read"));
    }
    assert_eq!(paged, whole);
});
