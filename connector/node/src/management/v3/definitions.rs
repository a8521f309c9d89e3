//! Contract definitions: `/v3/contractdefinitions`. The EDC selects assets by criteria; this node by their identifiers.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};

use super::criteria::{self, Operator};
use super::jsonld::{EDC, Message, context, invalid, with_context};
use super::operation::{Answer, LOOK, Operation, PUBLISH, Route, Verb, route};
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, made, millis};
use crate::holdings::{Approve, Definition, Selector};
use crate::problem::Problem;
use crate::store::Table;

/// Private property that says who answers requests: `auto` (by rule), `manual` or `each-step` (a person).
const APPROVE: &str = "approve";
/// Private property that names the spaces whose members may see the offers.
const SPACES: &str = "spaces";
const FIELDS: Fields = Fields {
    names: &["createdAt", "accessPolicyId", "contractPolicyId", "assetsSelector", "privateProperties"],
    keys: &["@id"],
    open: true,
};

pub fn routes() -> Vec<Route> {
    let path = "/contractdefinitions";
    let with_id = "/contractdefinitions/{id}";
    let list = Operation::new(
        Verb::Post,
        "/contractdefinitions/request",
        "queryContractDefinitions",
        "Lists contract definitions",
    );
    let make = Operation::new(Verb::Post, path, "createContractDefinition", "Offers assets under a policy");
    let show = Operation::new(Verb::Get, with_id, "getContractDefinition", "Shows a contract definition");
    let change = Operation::new(
        Verb::Put,
        path,
        "updateContractDefinition",
        "Replaces a contract definition; contracts already made stay as they are",
    );
    let remove = Operation::new(Verb::Delete, with_id, "deleteContractDefinition", "Withdraws the offers");
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("ContractDefinition")), post(query)),
        route(
            make.by(PUBLISH).takes("ContractDefinitionInput").gives(Answer::One("IdResponse")).or(&[409]),
            post(create),
        ),
        route(show.by(LOOK).gives(Answer::One("ContractDefinition")).or(&[404]), get(one)),
        route(change.by(PUBLISH).takes("ContractDefinitionInput").or(&[404, 409]), put(update)),
        route(remove.by(PUBLISH).or(&[404]), delete(drop_it)),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let show = |definition: Definition| Ok(Some(shown(&definition)));
    let found = page(v3.store.clone(), Table::Definitions, spec, FIELDS, show).await?;
    Ok(found.answer("/v3/contractdefinitions/request"))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    v3.holdings.definition(&id).map(|definition| Json(shown(&definition)))
}

async fn create(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let id = message.maybe_text("@id", 200)?.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let definition = v3.holdings.add_definition(read(id, message)?).await?;
    Ok(made(&definition.id, millis(&definition.issued)))
}

async fn update(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<StatusCode, Problem> {
    let id = message.text("@id", 256)?;
    v3.holdings.definition(&id)?;
    v3.holdings.update_definition(read(id, message)?).await.map(|()| StatusCode::NO_CONTENT)
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    v3.holdings.remove_definition(&id).await.map(|()| StatusCode::NO_CONTENT)
}

fn shown(definition: &Definition) -> Value {
    let criterion = |operator: &str, right: Value| {
        let left = format!("{EDC}id");
        json!([{ "@type": "Criterion", "operandLeft": left, "operator": operator, "operandRight": right }])
    };
    let selector = match &definition.selector {
        Selector::One(asset) => criterion("=", asset.as_str().into()),
        Selector::Some(assets) => criterion("in", assets.as_slice().into()),
        Selector::All => json!([]),
    };
    let mut private = definition.private_properties.clone();
    private.insert(APPROVE.to_owned(), json!(definition.approve));
    if !definition.spaces.is_empty() {
        private.insert(SPACES.to_owned(), json!(definition.spaces));
    }
    let shown = json!({
        "@id": definition.id, "@type": "ContractDefinition", "createdAt": millis(&definition.issued),
        "accessPolicyId": definition.access_policy, "contractPolicyId": definition.contract_policy,
        "assetsSelector": selector, "privateProperties": private,
    });
    with_context(shown, context())
}

fn read(id: String, mut message: Message) -> Result<Definition, Problem> {
    let access_policy = message.text("accessPolicyId", 256)?;
    let contract_policy = message.text("contractPolicyId", 256)?;
    let selector = message.maybe_list("assetsSelector", criteria::MAX_CRITERIA)?;
    let selector = selector.ok_or_else(|| invalid("assetsSelector", "is missing; an empty list offers every asset"))?;
    let selector = select(selector)?;
    let mut private_properties = message.properties("privateProperties")?;
    let approve = match private_properties.remove(APPROVE) {
        None => Approve::Auto,
        Some(word) => serde_json::from_value(word).map_err(|error| invalid("privateProperties.approve", error))?,
    };
    let spaces = match private_properties.remove(SPACES) {
        None => Vec::new(),
        Some(Value::String(one)) => vec![one],
        Some(names) => serde_json::from_value(names).map_err(|error| invalid("privateProperties.spaces", error))?,
    };
    message.finish()?;
    Ok(Definition {
        id,
        access_policy,
        contract_policy,
        selector,
        spaces,
        approve,
        issued: String::new(),
        private_properties,
    })
}

/// No criterion selects every asset; one on the identifier selects those it names; anything else is refused, because an
/// asset that comes to be offered by a criterion nobody understood cannot be called back.
fn select(criteria: Vec<Message>) -> Result<Selector, Problem> {
    let mut items = criteria.into_iter();
    let Some(first) = items.next() else { return Ok(Selector::All) };
    if items.next().is_some() {
        return Err(invalid("assetsSelector[1]", "only one criterion is supported"));
    }
    let path = "assetsSelector[0]";
    let criterion = criteria::read(path, first)?;
    if criterion.field != "@id" {
        return Err(invalid(&format!("{path}.operandLeft"), format_args!("only `{EDC}id` is supported")));
    }
    match (criterion.operator, criterion.right) {
        (Operator::Equal, Value::String(asset)) => Ok(Selector::One(asset)),
        (Operator::In, Value::Array(items)) => {
            let text = |item: Value| item.as_str().map(str::to_owned);
            let assets: Option<Vec<String>> = items.into_iter().map(text).collect();
            let mut assets = assets.filter(|assets| !assets.is_empty());
            if let Some(assets) = &mut assets {
                assets.sort();
                assets.dedup();
            }
            assets.map(Selector::Some).ok_or_else(|| {
                invalid(&format!("{path}.operandRight"), "must be a list of one or more identifiers of assets")
            })
        }
        (Operator::Equal, _) => Err(invalid(&format!("{path}.operandRight"), "must be an asset's identifier")),
        _ => Err(invalid(&format!("{path}.operator"), "must be `=` or `in`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::jsonld;
    use super::*;

    fn selector(selector: Value) -> Result<Selector, String> {
        let body = json!({ "accessPolicyId": "p", "contractPolicyId": "p", "assetsSelector": selector });
        read("d".to_owned(), jsonld::read(body).unwrap()).map(|made| made.selector).map_err(|problem| problem.detail)
    }

    fn criterion(left: &str, operator: &str, right: Value) -> Value {
        json!({ "@type": "Criterion", "operandLeft": left, "operator": operator, "operandRight": right })
    }

    #[test]
    fn selectors_that_clients_send_are_understood() {
        let one = || Ok(Selector::One("a".to_owned()));
        for left in ["id", "@id", "edc:id", "https://w3id.org/edc/v0.0.1/ns/id", "'https://w3id.org/edc/v0.0.1/ns/id'"]
        {
            assert_eq!(selector(json!([criterion(left, "=", json!("a"))])), one(), "{left}");
        }
        assert_eq!(selector(criterion("id", "=", json!("a"))), one());
        let several = selector(json!([criterion("id", "in", json!(["b", "a", "b"]))]));
        assert_eq!(several, Ok(Selector::Some(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(selector(json!([])), Ok(Selector::All));
    }

    #[test]
    fn any_other_selector_is_refused_by_field() {
        let check = |given: Value, wanted: &str| {
            let said = selector(given).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        };
        check(Value::Null, "`assetsSelector`");
        check(json!("all"), "`assetsSelector[0]`");
        check(json!([criterion("name", "=", json!("a"))]), "`assetsSelector[0].operandLeft`");
        check(json!([criterion("id", "like", json!("%"))]), "`assetsSelector[0].operator`");
        check(json!([criterion("id", "!=", json!("a"))]), "`assetsSelector[0].operator`");
        check(json!([criterion("id", "in", json!([]))]), "`assetsSelector[0].operandRight`");
        check(json!([criterion("id", "=", json!(7))]), "`assetsSelector[0].operandRight`");
        check(json!([criterion("id", "=", json!("a")), criterion("id", "=", json!("b"))]), "`assetsSelector[1]`");
        check(json!([{ "operandLeft": "id" }]), "`assetsSelector[0].operator`");
    }
}
