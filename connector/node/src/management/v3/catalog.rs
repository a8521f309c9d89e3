//! Catalogues of others: `/v3/catalog`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use serde_json::{Value, json};
use shuyu_catalog::Query;
use shuyu_wire::dsp::{Catalog, CatalogEntry, DataService};

use super::criteria::{Criterion, Operator};
use super::jsonld::{Message, context_of_catalog, invalid, with_context};
use super::operation::{Answer, Operation, Route, USE, Verb, route};
use super::party::{self, CounterParty};
use super::query::Spec;
use super::{Ld, V3};
use crate::problem::Problem;

/// Farthest item an offset may lead to; pages before it are read and left out.
const MAX_OFFSET: usize = 10_000;

pub fn routes() -> Vec<Route> {
    let catalog =
        Operation::new(Verb::Post, "/catalog/request", "requestCatalog", "Asks another participant for its catalogue");
    let dataset = Operation::new(
        Verb::Post,
        "/catalog/dataset/request",
        "requestDataset",
        "Asks another participant for one dataset",
    );
    vec![
        route(catalog.by(USE).takes("CatalogRequest").gives(Answer::One("Catalog")).or(&[502]), post(request)),
        route(dataset.by(USE).takes("DatasetRequest").gives(Answer::One("Dataset")).or(&[404, 502]), post(one)),
    ]
}

async fn request(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let named = party::take(&mut message)?;
    let spec = message.maybe_message("querySpec")?.map(|spec| Spec::read(spec, None)).transpose()?;
    message.refuse("additionalScopes", "is not supported: this node presents what the other party asks for")?;
    message.finish()?;
    let spec = spec.map_or_else(|| Spec::read(Message::default(), None), Ok)?;
    if spec.sort.as_ref().is_some_and(|(field, downwards)| field != "@id" || *downwards) {
        return Err(invalid("querySpec.sortField", "catalogues come in order of `id`, upwards"));
    }
    if MAX_OFFSET < spec.offset {
        return Err(invalid("querySpec.offset", format_args!("must be at most {MAX_OFFSET}")));
    }
    let conditions = spec.filters.iter().enumerate().map(|(at, criterion)| condition(at, criterion));
    let conditions = conditions.collect::<Result<Vec<Value>, Problem>>()?;
    let party = named.find(&v3, None).await?;
    let (catalog, next) = read(&v3, &party, conditions, &spec).await?;
    let mut shown = catalog.encode();
    if let Some(members) = shown.as_object_mut() {
        // The list is there even if it is empty: clients of the EDC expect it.
        members.entry("dataset").or_insert_with(|| json!([]));
        if let Some(next) = next {
            members.insert(crate::dsp_server::NEXT_MEMBER.to_owned(), next.into());
        }
    }
    Ok(Json(with_context(shown, context_of_catalog())))
}

/// Pages of the provider until the wanted part of its catalogue is there; never less than is wanted, if there is more.
async fn read(
    v3: &V3,
    party: &CounterParty,
    conditions: Vec<Value>,
    spec: &Spec,
) -> Result<(Catalog, Option<String>), Problem> {
    let end = spec.offset.saturating_add(spec.limit);
    let page_size = |read: usize| u32::try_from((end - read).min(Query::MAX_LIMIT)).ok();
    let finder = &v3.desk.finder;
    let (mut catalog, mut next) =
        finder.catalog(&party.did, conditions.clone(), page_size(0), spec.after.as_deref()).await?;
    while catalog.entries.len() < end
        && let Some(after) = next.take()
    {
        let size = page_size(catalog.entries.len());
        let (page, then) = finder.catalog(&party.did, conditions.clone(), size, Some(&after)).await?;
        if page.entries.is_empty() {
            break;
        }
        catalog.entries.extend(page.entries);
        next = then;
    }
    catalog.entries = catalog.entries.into_iter().skip(spec.offset).take(spec.limit).collect();
    Ok((catalog, next))
}

/// A criterion in the words of this network's catalogues; see `shuyu_catalog::query`.
fn condition(at: usize, criterion: &Criterion) -> Result<Value, Problem> {
    let path = format!("querySpec.filterExpression[{at}]");
    let property = match criterion.field.as_str() {
        "@id" => "id",
        "name" | "http://purl.org/dc/terms/title" => "title",
        "keywords" | "http://www.w3.org/ns/dcat#keyword" => "keyword",
        other => other,
    };
    let operator = match criterion.operator {
        Operator::Equal => "=",
        Operator::In => "in",
        Operator::Contains => "contains",
        Operator::GreaterOrEqual => ">=",
        Operator::LessOrEqual => "<=",
        Operator::NotEqual
        | Operator::NotIn
        | Operator::Like
        | Operator::ILike
        | Operator::Less
        | Operator::Greater => {
            return Err(invalid(&format!("{path}.operator"), "catalogues know =, in, contains, >= and <="));
        }
    };
    let values = match criterion.right.as_array() {
        Some(items) => items.iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
        None => criterion.right.as_str().map(|text| vec![text]),
    };
    let values = values.ok_or_else(|| invalid(&format!("{path}.operandRight"), "must be text"))?;
    // What the other side would refuse is refused here, by field.
    shuyu_catalog::Filter::new(property, operator, &values)
        .map_err(|error| invalid(&format!("{path}.operandLeft"), error))?;
    Ok(json!({ "property": property, "operator": operator, "value": criterion.right }))
}

async fn one(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let named = party::take(&mut message)?;
    let id = message.text("@id", 512)?;
    message.refuse("querySpec", "has no use for one dataset")?;
    message.finish()?;
    let party = named.find(&v3, None).await?;
    let entry: CatalogEntry = v3.desk.finder.dataset(&party.did, &id).await?;
    let endpoint_url = party.root.parse().map_err(|error| Problem::peer(format!("{error}")))?;
    let service = DataService { id: format!("{}#dsp", party.did), endpoint_url };
    Ok(Json(with_context(entry.encode(&service), context_of_catalog())))
}
