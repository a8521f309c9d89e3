//! Queries, pages and cursors.

#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use proptest::prelude::*;
use shuyu_base::{Digest, UnixMillis};
use shuyu_catalog::{
    Catalog, Cursor, CursorError, Dataset, Distribution, Field, Filter, InvalidDataset, InvalidQuery, OfferRef, Query,
    SearchError,
};

fn dataset(id: &str, title: &str, keywords: &[&str]) -> Dataset {
    Dataset {
        id: id.to_owned(),
        title: title.to_owned(),
        description: String::new(),
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        issued: UnixMillis::from_rfc3339("2026-11-22T08:00:00Z").unwrap(),
        publisher: "did:web:holder.example".parse().unwrap(),
        offers: vec![OfferRef { id: format!("offer-{id}"), policy_digest: Digest::sha256(b"policy") }],
        distributions: vec![Distribution { format: "HttpData-PULL".to_owned() }],
        fields: vec![Field { name: "wind_speed".to_owned(), kind: "Float64".to_owned() }],
        product_code: None,
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.insert(dataset("a", "Turbine readings", &["energy", "wind"])).unwrap();
    catalog.insert(dataset("b", "Weather of Seattle", &["climate"])).unwrap();
    catalog.insert(dataset("c", "城市 能源 数据", &["Energy"])).unwrap();
    catalog
}

fn found(property: &str, operator: &str, values: &[&str]) -> String {
    let query = Query::new(vec![Filter::new(property, operator, values).unwrap()], 10, None).unwrap();
    let page = catalog().search(&query, |dataset| Some(dataset.clone())).unwrap();
    assert_eq!(page.next, None);
    page.datasets.iter().map(|dataset| dataset.id.as_str()).collect()
}

#[test]
fn conditions_find_what_they_say() {
    assert_eq!(found("text", "contains", &["ENERGY"]), "ac");
    assert_eq!(found("text", "contains", &["turbine energy"]), "a");
    assert_eq!(found("text", "contains", &["能源"]), "c");
    assert_eq!(found("keyword", "=", &["energy"]), "a");
    assert_eq!(found("keyword", "in", &["climate", "wind"]), "ab");
    assert_eq!(found("keyword", "contains", &["ENER"]), "ac");
    assert_eq!(found("id", "=", &["b"]), "b");
    assert_eq!(found("field", "contains", &["wind"]), "abc");
    assert_eq!(found("format", "=", &["HttpData-PUSH"]), "");
    assert_eq!(found("publisher", "=", &["did:web:holder.example"]), "abc");
    assert_eq!(found("productCode", "=", &["x"]), "");
    assert_eq!(found("issued", ">=", &["2026-11-22T16:00:00+08:00"]), "abc");
    assert_eq!(found("issued", "<=", &["2026-11-22T07:59:59Z"]), "");
}

#[test]
fn what_is_not_understood_is_refused_by_name() {
    let refused = |property: &str, operator: &str, values: &[&str]| {
        Filter::new(property, operator, values).unwrap_err().to_string()
    };
    assert!(refused("colour", "=", &["red"]).contains("`colour`"));
    assert!(refused("title", "like", &["x"]).contains("`like`"));
    assert!(refused("issued", "=", &["2026-11-22T08:00:00Z"]).contains("`=`"));
    assert!(refused("issued", ">=", &["yesterday"]).contains("`yesterday`"));
    assert!(refused("text", "=", &["x"]).contains("`=`"));
    for values in [&[][..], &["a", "b"], &[""], &[&"x".repeat(Query::MAX_VALUE_BYTES + 1)], &["x"; 65]] {
        assert!(Filter::new("title", "=", values).is_err(), "{values:?}");
    }
    assert_eq!(Query::new(Vec::new(), 0, None), Err(InvalidQuery::Limit { found: 0 }));
    assert_eq!(Query::new(Vec::new(), 501, None), Err(InvalidQuery::Limit { found: 501 }));
    let filter = Filter::new("title", "=", &["x"]).unwrap();
    assert_eq!(Query::new(vec![filter; 17], 1, None), Err(InvalidQuery::TooManyFilters { found: 17 }));
}

#[test]
fn an_entry_needs_an_offer_a_distribution_and_a_name() {
    let check = |change: &dyn Fn(&mut Dataset)| {
        let mut dataset = dataset("a", "t", &[]);
        change(&mut dataset);
        Catalog::default().insert(dataset)
    };
    assert_eq!(check(&|_| ()), Ok(()));
    assert_eq!(check(&|d| d.offers.clear()), Err(InvalidDataset::Empty { field: "offers" }));
    assert_eq!(check(&|d| d.distributions.clear()), Err(InvalidDataset::Empty { field: "distributions" }));
    assert_eq!(check(&|d| d.title.clear()), Err(InvalidDataset::Empty { field: "title" }));
    assert_eq!(check(&|d| d.id = "x".repeat(257)).unwrap_err().to_string(), "`id` is 257 bytes, the limit is 256");
    assert!(check(&|d| d.offers.push(d.offers[0].clone())).is_err());
    assert!(check(&|d| d.keywords = vec!["k".to_owned(); 65]).is_err());
}

#[test]
fn an_invisible_entry_is_on_no_page() {
    let query = Query::new(Vec::new(), 10, None).unwrap();
    let page = catalog().search(&query, |dataset| (dataset.id != "b").then(|| dataset.clone())).unwrap();
    assert_eq!(page.datasets.len(), 2);
}

#[test]
fn a_cursor_of_another_query_or_damaged_is_refused() {
    let first = catalog().search(&Query::new(Vec::new(), 1, None).unwrap(), |dataset| Some(dataset.clone())).unwrap();
    let text = first.next.unwrap().to_text();
    let cursor = Cursor::from_text(&text).unwrap();
    let other = Query::new(vec![Filter::new("id", "=", &["a"]).unwrap()], 1, Some(cursor)).unwrap();
    assert_eq!(catalog().search(&other, |dataset| Some(dataset.clone())), Err(SearchError::CursorOfOtherQuery));
    for index in 0..text.len() {
        let mut damaged = text.clone();
        let letter = if &text[index..=index] == "x" { "y" } else { "x" };
        damaged.replace_range(index..=index, letter);
        assert!(Cursor::from_text(&damaged).is_err(), "{damaged}");
    }
    assert_eq!(Cursor::from_text(""), Err(CursorError::Damaged));
    assert_eq!(Cursor::from_text("AgAA"), Err(CursorError::Version { version: 2 }));
    assert!(matches!(Cursor::from_text(&"A".repeat(400)), Err(CursorError::TooLong { len_bytes: 400 })));
}

proptest! {
    #[test]
    fn pages_show_each_entry_once(ids in prop::collection::btree_set("[a-z]{1,4}", 0..40), limit in 1..7_usize) {
        let mut catalog = Catalog::default();
        for id in &ids {
            catalog.insert(dataset(id, "t", &[])).unwrap();
        }
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = catalog.search(&Query::new(Vec::new(), limit, after).unwrap(), |dataset| Some(dataset.clone())).unwrap();
            seen.extend(page.datasets.iter().map(|dataset| dataset.id.clone()));
            let Some(next) = page.next else { break };
            after = Some(Cursor::from_text(&next.to_text()).unwrap());
        }
        prop_assert_eq!(seen, ids.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn any_text_is_no_cursor_or_one(text in ".{0,60}") {
        if let Ok(cursor) = Cursor::from_text(&text) {
            prop_assert_eq!(cursor.to_text(), text);
        }
    }

    #[test]
    fn any_words_make_a_filter_or_an_error(property in ".{0,8}", operator in ".{0,3}", value in ".{0,20}") {
        let _ = Filter::new(&property, &operator, &[&value]);
        let _ = Filter::new("text", "contains", &[&value]);
    }
}
