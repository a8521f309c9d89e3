//! The OpenAPI 3.1 document, made from the table of operations.

use serde_json::{Map, Value, json};

use super::operation::{Answer, Operation, Verb};
use super::schemas;

/// The document of these operations.
pub fn document<'a>(operations: impl Iterator<Item = &'a Operation>) -> Value {
    let mut paths = Map::new();
    let operations: Vec<&Operation> = operations.collect();
    for operation in &operations {
        let path = paths.entry(format!("/v3{}", operation.path)).or_insert_with(|| {
            let has_id = operation.path.contains("{id}");
            let id = json!({
                "name": "id", "in": "path", "required": true, "description": "The resource's `@id`.",
                "schema": { "type": "string", "minLength": 1, "maxLength": 512 },
            });
            json!({ "parameters": if has_id { vec![id] } else { Vec::new() } })
        });
        if let Some(members) = path.as_object_mut() {
            members.insert(operation.verb.name().to_owned(), describe(operation, &operations));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shuyu management API", "version": env!("CARGO_PKG_VERSION"),
            "summary": "A node's management API in the shape of the EDC management API v3.",
            "description": "Members may be written compactly, with the prefix `edc:` or as full IRIs. A member that is \
                not known is refused. Refusals are an array as in the EDC; with `Accept: application/problem+json` \
                they are problem details (RFC 9457). Events: asset, policy.definition and contract.definition, each .created, \
                .updated and .deleted; contract.negotiation and transfer.process, each with its state; \
                contract.agreement.terminated; contract.use.permitted, .refused and .served; events.missed.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/", "description": "This node" }],
        "security": [{ "apiKey": [] }, { "bearer": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-Api-Key" },
                "bearer": { "type": "http", "scheme": "bearer" },
            },
            "schemas": schemas::all(),
        },
    })
}

fn describe(operation: &Operation, all: &[&Operation]) -> Value {
    let mut roles: Vec<&str> = operation.roles.iter().map(|role| role.name()).collect();
    roles.push("operator");
    let tag = operation.path.trim_start_matches('/').split('/').next().unwrap_or_default();
    let mut described = json!({
        "operationId": operation.id, "summary": operation.summary, "tags": [tag],
        "description": format!("For keys with the role {}.", roles.join(", ")),
        "x-roles": roles, "responses": responses(operation, all),
    });
    if let Some(members) = described.as_object_mut() {
        if let Some(schema) = operation.body {
            let content = json!({ "application/json": { "schema": reference(schema) } });
            let required = schema != "QuerySpec" && schema != "Reason";
            members.insert("requestBody".to_owned(), json!({ "required": required, "content": content }));
        }
        let parameters = parameters(operation);
        if !parameters.is_empty() {
            members.insert("parameters".to_owned(), parameters.into());
        }
    }
    described
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let parameter = |name: &str, schema: Value, description: &str| json!({ "name": name, "in": "query", "required": false, "schema": schema, "description": description });
    let after = |description| parameter("after", json!({ "type": "string", "maxLength": 512 }), description);
    match (operation.body, operation.answer) {
        (Some("QuerySpec"), _) => vec![
            after("Start after this key, as the `Link` of the page before says."),
            parameter("offset", json!({ "type": "integer", "minimum": 0 }), "Counts more than that of the body."),
        ],
        (_, Answer::Stream) => vec![
            parameter("after", json!({ "type": "integer", "minimum": 0 }), "Start after the event of this number."),
            parameter("type", json!({ "type": "string", "maxLength": 128 }), "Only events whose type begins so."),
        ],
        _ => Vec::new(),
    }
}

fn responses(operation: &Operation, all: &[&Operation]) -> Value {
    let json = |schema: Value| json!({ "application/json": { "schema": schema } });
    let link = json!({ "Link": {
        "description": "Where the next page is (RFC 8288), if there is one.", "schema": { "type": "string" },
    } });
    let (status, success) = match operation.answer {
        Answer::One(schema @ "IdResponse") => {
            let links = links(operation, all);
            ("200", json!({ "description": "Done.", "content": json(reference(schema)), "links": links }))
        }
        Answer::One(schema) => ("200", json!({ "description": "Done.", "content": json(reference(schema)) })),
        Answer::Many(schema) => {
            let list = json!({ "type": "array", "items": reference(schema) });
            ("200", json!({ "description": "A page.", "headers": link, "content": json(list) }))
        }
        Answer::Nothing => ("204", json!({ "description": "Done." })),
        Answer::Stream => {
            let stream = json!({ "text/event-stream": { "schema": { "type": "string" } } });
            ("200", json!({ "description": "CloudEvents as server-sent events.", "content": stream }))
        }
    };
    let mut responses = Map::new();
    responses.insert(status.to_owned(), success);
    let usual = [400, 401, 403].into_iter().chain(operation.refusals.iter().copied());
    let too_large = operation.body.map(|_| 413);
    for status in usual.chain(too_large) {
        let description = match status {
            400 => "The request is wrong; `path` names the member.",
            401 => "The key is missing or wrong.",
            403 => "The key has no role for this.",
            404 => "There is no such resource.",
            409 => "Not as things are.",
            413 => "The body is larger than 1 MiB.",
            502 => "The other party cannot be reached or answered badly.",
            _ => "Refused.",
        };
        let content = json!({
            "application/json": { "schema": { "type": "array", "items": reference("ApiErrorDetail") } },
            "application/problem+json": { "schema": reference("Problem") },
        });
        responses.insert(status.to_string(), json!({ "description": description, "content": content }));
    }
    Value::Object(responses)
}

/// What can be asked of a thing that was made.
fn links(made: &Operation, all: &[&Operation]) -> Value {
    let of_it = |operation: &&&Operation| {
        let rest = operation.path.strip_prefix(made.path).and_then(|rest| rest.strip_prefix("/{id}"));
        rest.is_some() && matches!(operation.verb, Verb::Get | Verb::Delete)
    };
    let link = |operation: &&Operation| {
        let link = json!({ "operationId": operation.id, "parameters": { "id": "$response.body#/@id" } });
        (operation.id.to_owned(), link)
    };
    Value::Object(all.iter().filter(of_it).map(link).collect())
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::routes;
    use super::*;

    /// Every reference leads somewhere, every schema is used, and no two operations share a name.
    #[test]
    fn the_document_is_whole() {
        let operations: Vec<Operation> = routes().into_iter().map(|route| route.operation).collect();
        let names: BTreeSet<&str> = operations.iter().map(|operation| operation.id).collect();
        assert_eq!(names.len(), operations.len());
        let document = document(operations.iter());
        let text = document.to_string();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut used = BTreeSet::new();
        for part in text.split("\"#/components/schemas/").skip(1) {
            used.insert(part.split('"').next().unwrap());
        }
        let known: BTreeSet<&str> = schemas.keys().map(String::as_str).collect();
        assert_eq!(used, known);
    }
}
