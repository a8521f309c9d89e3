//! `POST .../request`: filters, sorting, and pages by offset (as in the EDC) or by key.
//!
//! Rows are read in order of their key, from the key after `after`, and only as many as the page needs. A condition on
//! the key reads those rows alone. Nothing is cut off silently: when there is more, the answer has a `Link` to it.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::criteria::{Criterion, MAX_CRITERIA, Operator, field, holds, lookup, order, read};
use super::jsonld::{Message, invalid};
use crate::exchange::kinds::path_segment;
use crate::problem::Problem;
use crate::store::{Store, Table};

/// Items of a page when the caller says nothing, as in the EDC.
const DEFAULT_LIMIT: u64 = 50;
/// Most items of a page.
const MAX_LIMIT: u64 = 1000;
/// Most rows that are sorted by anything but their key.
const MAX_SORTED: usize = 10_000;
/// Rows read at a time.
const CHUNK: usize = 256;
/// Longest name of a field or key, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Items to leave out.
    pub offset: usize,
    /// Items wanted.
    pub limit: usize,
    /// The member to sort by, and whether downwards; by key if absent.
    pub sort: Option<(String, bool)>,
    /// What must hold of every item.
    pub filters: Vec<Criterion>,
    /// Start after this key.
    pub after: Option<String>,
}

/// What may be asked of a kind of resource.
#[derive(Clone, Copy, Debug)]
pub struct Fields {
    /// Its members.
    pub names: &'static [&'static str],
    /// Those that are its key.
    pub keys: &'static [&'static str],
    /// Whether it has properties of any name.
    pub open: bool,
}

/// Items and where more are.
#[derive(Debug, PartialEq)]
pub struct Page {
    /// The items.
    pub items: Vec<Value>,
    /// How to ask for the next page.
    pub next: Option<Next>,
}

/// The start of a next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// After this key.
    After(String),
    /// From this item on.
    Offset(usize),
}

impl Spec {
    /// Reads a query; `parameters` are those of the URL, which count more than the body.
    ///
    /// # Errors
    /// 400 naming the member.
    pub fn read(mut message: Message, parameters: Option<&str>) -> Result<Self, Problem> {
        let mut offset = message.maybe_count("offset")?;
        let limit = message.maybe_count("limit")?.unwrap_or(DEFAULT_LIMIT);
        let mut after = message.maybe_text("after", MAX_NAME_BYTES)?;
        let sort_field = message.maybe_text("sortField", MAX_NAME_BYTES)?.filter(|field| !field.is_empty());
        let downwards = match message.maybe_text("sortOrder", 8)?.as_deref() {
            None | Some("ASC") => false,
            Some("DESC") => true,
            Some(_) => return Err(invalid("sortOrder", "must be ASC or DESC")),
        };
        let criteria = message.maybe_list("filterExpression", MAX_CRITERIA)?.unwrap_or_default();
        let read = |(at, criterion): (usize, Message)| read(&format!("filterExpression[{at}]"), criterion);
        let filters = criteria.into_iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
        message.finish()?;
        for (name, value) in url::form_urlencoded::parse(parameters.unwrap_or_default().as_bytes()) {
            match name.as_ref() {
                "after" if value.len() <= MAX_NAME_BYTES => after = Some(value.into_owned()),
                "offset" => {
                    let given = value.parse().map_err(|_| invalid("offset", "must be a whole number from 0 on"))?;
                    offset = Some(given);
                }
                _ => return Err(invalid(&name, "is no parameter here, or too long")),
            }
        }
        if !(1..=MAX_LIMIT).contains(&limit) {
            return Err(invalid("limit", format_args!("must be 1 to {MAX_LIMIT}")));
        }
        let sort = sort_field.map(|name| (field(&name), downwards));
        if after.is_some() && sort.is_some() {
            return Err(invalid("after", "pages by key are in order of the key; leave `sortField` out"));
        }
        let count = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Ok(Self { offset: count(offset.unwrap_or(0)), limit: count(limit), sort, filters, after })
    }

    fn check(&self, fields: Fields) -> Result<(), Problem> {
        let is_known = |name: &str| fields.open || fields.names.contains(&name) || fields.keys.contains(&name);
        for (at, criterion) in self.filters.iter().enumerate() {
            let path = format!("filterExpression[{at}]");
            if !is_known(&criterion.field) {
                let known = fields.names.join(", ");
                return Err(invalid(&format!("{path}.operandLeft"), format_args!("is not one of @id, {known}")));
            }
            if criterion.field == "state" && criterion.right.is_number() {
                return Err(invalid(&format!("{path}.operandRight"), "states go by their names, such as FINALIZED"));
            }
        }
        match &self.sort {
            Some((name, _)) if !is_known(name) => Err(invalid("sortField", "is not a member of these items")),
            _ => Ok(()),
        }
    }

    /// The keys that a condition on the key leaves, in order.
    fn keys(&self, fields: Fields) -> Option<Vec<String>> {
        let on_key = self.filters.iter().filter(|criterion| fields.keys.contains(&criterion.field.as_str()));
        let texts = |criterion: &Criterion| match (criterion.operator, &criterion.right) {
            (Operator::Equal, Value::String(key)) => Some(vec![key.clone()]),
            (Operator::In, Value::Array(keys)) => {
                Some(keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect())
            }
            _ => None,
        };
        let mut keys: Vec<String> = on_key.filter_map(texts).min_by_key(Vec::len)?;
        keys.sort();
        keys.dedup();
        Some(keys)
    }
}

/// Answers a query over a table; `show` makes an item of a row, or nothing.
///
/// # Errors
/// 400 for a field that does not exist or too much to sort; what `show` says.
pub async fn page<T, F>(store: Store, table: Table, spec: Spec, fields: Fields, show: F) -> Result<Page, Problem>
where
    T: DeserializeOwned + 'static,
    F: Fn(T) -> Result<Option<Value>, Problem> + Send + 'static,
{
    spec.check(fields)?;
    let read = tokio::task::spawn_blocking(move || {
        let rows = Rows { store: &store, table, keys: spec.keys(fields), after: spec.after.clone() };
        match &spec.sort {
            None => in_key_order(rows, &spec, show),
            Some((name, false)) if fields.keys.contains(&name.as_str()) => in_key_order(rows, &spec, show),
            Some((name, downwards)) => sorted(rows, &spec, (name, *downwards), show),
        }
    });
    read.await
        .unwrap_or_else(|error| Err(Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
}

/// Rows in order of their key, a chunk at a time.
struct Rows<'a> {
    store: &'a Store,
    table: Table,
    keys: Option<Vec<String>>,
    after: Option<String>,
}

impl Rows<'_> {
    fn chunk<T: DeserializeOwned>(&mut self) -> Result<Vec<(String, T)>, Problem> {
        let rows = match self.keys.take() {
            Some(keys) => {
                let after = self.after.clone();
                let wanted = keys.into_iter().filter(|key| after.as_ref().is_none_or(|after| after < key));
                let found = wanted.map(|key| Ok(self.store.get(self.table, &key)?.map(|row| (key, row))));
                let rows: Vec<(String, T)> = found.filter_map(Result::transpose).collect::<Result<_, Problem>>()?;
                self.keys = Some(Vec::new());
                rows
            }
            None => self.store.list(self.table, self.after.as_deref(), CHUNK)?,
        };
        self.after = rows.last().map(|(key, _)| key.clone());
        Ok(rows)
    }
}

fn in_key_order<T: DeserializeOwned>(
    mut rows: Rows<'_>,
    spec: &Spec,
    show: impl Fn(T) -> Result<Option<Value>, Problem>,
) -> Result<Page, Problem> {
    let (mut items, mut skipped, mut last) = (Vec::new(), 0, String::new());
    loop {
        let chunk = rows.chunk::<T>()?;
        if chunk.is_empty() {
            return Ok(Page { items, next: None });
        }
        for (key, row) in chunk {
            let Some(item) = show(row)?.filter(|item| spec.filters.iter().all(|filter| holds(filter, item))) else {
                continue;
            };
            if skipped < spec.offset {
                skipped += 1;
                continue;
            }
            if items.len() == spec.limit {
                return Ok(Page { items, next: Some(Next::After(last)) });
            }
            items.push(item);
            last = key;
        }
    }
}

fn sorted<T: DeserializeOwned>(
    mut rows: Rows<'_>,
    spec: &Spec,
    (name, downwards): (&str, bool),
    show: impl Fn(T) -> Result<Option<Value>, Problem>,
) -> Result<Page, Problem> {
    let mut found = Vec::new();
    loop {
        let chunk = rows.chunk::<T>()?;
        if chunk.is_empty() {
            break;
        }
        for (_, row) in chunk {
            let item = show(row)?.filter(|item| spec.filters.iter().all(|filter| holds(filter, item)));
            found.extend(item);
            if MAX_SORTED < found.len() {
                return Err(invalid("sortField", format_args!("more than {MAX_SORTED} items are to be sorted"))
                    .hint("narrow `filterExpression`, or take pages in order of the key with `after`"));
            }
        }
    }
    // A stable sort: items that compare alike stay in order of their key.
    found.sort_by(|left, right| {
        let (left, right) = (lookup(left, name), lookup(right, name));
        let up = match (left, right) {
            (Some(left), Some(right)) => order(left, right).unwrap_or(std::cmp::Ordering::Equal),
            (left, right) => left.is_some().cmp(&right.is_some()),
        };
        if downwards { up.reverse() } else { up }
    });
    let total = found.len();
    let items: Vec<Value> = found.into_iter().skip(spec.offset).take(spec.limit).collect();
    let end = spec.offset.saturating_add(items.len());
    let next = (!items.is_empty() && end < total).then_some(Next::Offset(end));
    Ok(Page { items, next })
}

impl Page {
    /// The answer to a query at `path`.
    pub fn answer(self, path: &str) -> Response {
        let mut headers = HeaderMap::new();
        let next = self.next.map(|next| match next {
            Next::After(key) => format!("after={}", path_segment(&key)),
            Next::Offset(offset) => format!("offset={offset}"),
        });
        let link = next.map(|next| HeaderValue::try_from(format!("<{path}?{next}>; rel=\"next\"")));
        if let Some(Ok(link)) = link {
            headers.insert(header::LINK, link);
        }
        (headers, Json(Value::Array(self.items))).into_response()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::jsonld;
    use super::*;
    use crate::store::Batch;

    const FIELDS: Fields = Fields { names: &["n", "even"], keys: &["@id"], open: false };

    async fn ask(store: &Store, body: Value, parameters: Option<&str>) -> Result<Page, String> {
        let spec = Spec::read(jsonld::read(body).unwrap(), parameters).map_err(|problem| problem.detail)?;
        let show = |n: u64| Ok(Some(json!({ "@id": format!("k{n:02}"), "n": n, "even": n.is_multiple_of(2) })));
        page(store.clone(), Table::Audit, spec, FIELDS, show).await.map_err(|problem| problem.detail)
    }

    fn ids(page: &Page) -> Vec<&str> {
        page.items.iter().map(|item| item["@id"].as_str().unwrap()).collect()
    }

    #[tokio::test]
    async fn pages_by_key_and_by_offset_cover_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let mut batch = Batch::default();
        for n in 0..20_u64 {
            batch.put(Table::Audit, &format!("k{n:02}"), &n).unwrap();
        }
        store.commit(batch).await.unwrap();
        let even = json!([{ "operandLeft": "even", "operator": "=", "operandRight": true }]);
        let (mut by_key, mut parameters) = (Vec::new(), None::<String>);
        loop {
            let found = ask(&store, json!({ "limit": 3, "filterExpression": even }), parameters.as_deref()).await;
            let found = found.unwrap();
            by_key.extend(ids(&found).into_iter().map(str::to_owned));
            match found.next {
                Some(Next::After(key)) => parameters = Some(format!("after={key}")),
                Some(Next::Offset(_)) => panic!("pages in key order go on by key"),
                None => break,
            }
        }
        assert_eq!(by_key, (0..20).step_by(2).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
        let down = json!({ "sortField": "n", "sortOrder": "DESC", "limit": 2, "offset": 1 });
        let found = ask(&store, down.clone(), None).await.unwrap();
        assert_eq!((ids(&found), found.next.clone()), (vec!["k18", "k17"], Some(Next::Offset(3))));
        let found = ask(&store, down, Some("offset=19")).await.unwrap();
        assert_eq!((ids(&found), found.next.clone()), (vec!["k00"], None));
        let keyed = json!([{ "operandLeft": "id", "operator": "in", "operandRight": ["k09", "k03", "gone"] }]);
        let found = ask(&store, json!({ "filterExpression": keyed }), None).await.unwrap();
        assert_eq!(ids(&found), ["k03", "k09"]);
        for (body, wanted) in [
            (json!({ "limit": 0 }), "`limit`"),
            (json!({ "limit": 1001 }), "`limit`"),
            (json!({ "offset": -1 }), "`offset`"),
            (json!({ "sortOrder": "UP" }), "`sortOrder`"),
            (json!({ "sortField": "x" }), "`sortField`"),
            (json!({ "sortField": "n", "after": "k" }), "`after`"),
            (
                json!({ "filterExpression": [{ "operandLeft": "x", "operator": "=", "operandRight": 1 }] }),
                "operandLeft",
            ),
        ] {
            let said = ask(&store, body, None).await.unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
    }
}
