//! Policy definitions: `/v3/policydefinitions`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{delete, get, post, put};
use serde_json::{Value, json};
use shuyu_policy::Severity;
use shuyu_wire::odrl;

use super::jsonld::{Message, context, context_with_policy, invalid, with_context};
use super::operation::{Answer, LOOK, Operation, PUBLISH, Route, Verb, route};
use super::plan;
use super::query::{Fields, Spec, page};
use super::{Id, Ld, V3, made, millis};
use crate::clock;
use crate::holdings::{PolicyRow, parse_policy};
use crate::problem::Problem;
use crate::store::Table;

const FIELDS: Fields = Fields { names: &["createdAt", "policy", "privateProperties"], keys: &["@id"], open: true };

pub fn routes() -> Vec<Route> {
    let path = "/policydefinitions";
    let with_id = "/policydefinitions/{id}";
    let list =
        Operation::new(Verb::Post, "/policydefinitions/request", "queryPolicyDefinitions", "Lists policy definitions");
    let make = Operation::new(Verb::Post, path, "createPolicyDefinition", "Adds a policy that can be enforced");
    let show = Operation::new(Verb::Get, with_id, "getPolicyDefinition", "Shows a policy definition");
    let change = Operation::new(
        Verb::Put,
        with_id,
        "updatePolicyDefinition",
        "Writes a policy anew; contracts keep the terms they were made with",
    );
    let remove = Operation::new(Verb::Delete, with_id, "deletePolicyDefinition", "Removes a policy that nothing uses");
    let validate = Operation::new(
        Verb::Post,
        "/policydefinitions/{id}/validate",
        "validatePolicyDefinition",
        "Checks whether a policy can be enforced",
    );
    let plan = Operation::new(
        Verb::Post,
        "/policydefinitions/{id}/evaluationplan",
        "createEvaluationPlan",
        "Tells what of a policy is evaluated where",
    );
    vec![
        route(list.by(LOOK).takes("QuerySpec").gives(Answer::Many("PolicyDefinition")), post(query)),
        route(
            make.by(PUBLISH).takes("PolicyDefinitionInput").gives(Answer::One("IdResponse")).or(&[409]),
            post(create),
        ),
        route(show.by(LOOK).gives(Answer::One("PolicyDefinition")).or(&[404]), get(one)),
        route(change.by(PUBLISH).takes("PolicyDefinitionInput").or(&[404, 409]), put(update)),
        route(remove.by(PUBLISH).or(&[404, 409]), delete(drop_it)),
        route(validate.by(LOOK).gives(Answer::One("PolicyValidationResult")).or(&[404]), post(check)),
        route(
            plan.by(LOOK).takes("PolicyEvaluationPlanRequest").gives(Answer::One("PolicyEvaluationPlan")).or(&[404]),
            post(evaluation_plan),
        ),
    ]
}

async fn query(
    State(v3): State<Arc<V3>>,
    RawQuery(parameters): RawQuery,
    Ld(message): Ld,
) -> Result<Response, Problem> {
    let spec = Spec::read(message, parameters.as_deref())?;
    let found = page(v3.store.clone(), Table::Policies, spec, FIELDS, |row: PolicyRow| shown(&row).map(Some)).await?;
    Ok(found.answer("/v3/policydefinitions/request"))
}

async fn one(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<Json<Value>, Problem> {
    shown(&v3.holdings.policy(&id)?).map(Json)
}

async fn create(State(v3): State<Arc<V3>>, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let id = message.maybe_text("@id", 256)?.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let row = read(id.clone(), message)?;
    v3.holdings.add_policy(row).await?;
    Ok(made(&id, clock::now().0))
}

async fn update(State(v3): State<Arc<V3>>, Id(id): Id, Ld(mut message): Ld) -> Result<StatusCode, Problem> {
    if message.maybe_text("@id", 256)?.is_some_and(|given| given != id) {
        return Err(invalid("@id", "is not the identifier in the path"));
    }
    v3.holdings.policy(&id)?;
    v3.holdings.update_policy(read(id, message)?).await.map(|_| StatusCode::NO_CONTENT)
}

async fn drop_it(State(v3): State<Arc<V3>>, Id(id): Id) -> Result<StatusCode, Problem> {
    v3.holdings.remove_policy(&id).await.map(|()| StatusCode::NO_CONTENT)
}

async fn check(State(v3): State<Arc<V3>>, Id(id): Id, Ld(message): Ld) -> Result<Json<Value>, Problem> {
    message.finish()?;
    let policy = parse_policy(&v3.holdings.policy(&id)?.policy)?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        shuyu_policy::check(&policy).into_iter().partition(|finding| finding.severity == Severity::Error);
    let words = |findings: Vec<shuyu_policy::Finding>| -> Vec<String> {
        findings.iter().map(|finding| format!("`{}`: {} ({})", finding.path, finding.what, finding.hint)).collect()
    };
    let result = json!({
        "@type": "PolicyValidationResult", "isValid": errors.is_empty(), "errors": words(errors),
        "https://w3id.org/shuyu/profile/1#warnings": words(warnings),
    });
    Ok(Json(with_context(result, context())))
}

async fn evaluation_plan(State(v3): State<Arc<V3>>, Id(id): Id, Ld(mut message): Ld) -> Result<Json<Value>, Problem> {
    let scope = message.text("policyScope", 64)?;
    message.finish()?;
    let policy = parse_policy(&v3.holdings.policy(&id)?.policy)?;
    Ok(Json(with_context(plan::plan(&policy, &scope)?, context())))
}

fn shown(row: &PolicyRow) -> Result<Value, Problem> {
    // Written anew, so that every definition reads alike however it was spelt.
    let policy = odrl::to_json(&parse_policy(&row.policy)?);
    let shown = json!({
        "@id": row.id, "@type": "PolicyDefinition", "createdAt": millis(&row.issued), "policy": policy,
        "privateProperties": row.private_properties,
    });
    Ok(with_context(shown, context_with_policy()))
}

fn read(id: String, mut message: Message) -> Result<PolicyRow, Problem> {
    let private_properties = message.properties("privateProperties")?;
    let policy = policy_of(&mut message, &id, "Set")?;
    message.finish()?;
    let policy = odrl::to_json(&parse_policy(&policy)?);
    Ok(PolicyRow { id, policy, issued: String::new(), private_properties })
}

/// The member `policy`. What clients leave out, its identifier and its class, is filled in.
///
/// # Errors
/// 400 if it is missing or not an object.
pub fn policy_of(message: &mut Message, id: &str, class: &str) -> Result<Value, Problem> {
    let Some(Value::Object(mut policy)) = message.take("policy") else {
        return Err(invalid("policy", "is missing, or not an object"));
    };
    if !["@id", "uid", "odrl:uid", "http://www.w3.org/ns/odrl/2/uid"].iter().any(|name| policy.contains_key(*name)) {
        policy.insert("@id".to_owned(), id.into());
    }
    if !policy.contains_key("@type") {
        policy.insert("@type".to_owned(), class.into());
    }
    // A context of the EDC declares a vocabulary that no term of a policy is in.
    if let Some(context) = policy.remove("@context") {
        let kept = without_vocabulary(context);
        policy.insert("@context".to_owned(), kept);
    }
    Ok(Value::Object(policy))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "JSON has six kinds of values and will not have more")]
fn without_vocabulary(context: Value) -> Value {
    match context {
        Value::Array(items) => items.into_iter().map(without_vocabulary).collect(),
        Value::Object(mut members) => {
            members.retain(|name, iri| !(["@vocab", "edc"].contains(&name.as_str()) && *iri == super::jsonld::EDC));
            Value::Object(members)
        }
        other => other,
    }
}
