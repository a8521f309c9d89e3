//! Schemas of the OpenAPI document (JSON Schema 2020-12), in the compact form that clients write.

use serde_json::{Map, Value, json};

/// Every schema by its name.
pub fn all() -> Value {
    let mut schemas = Map::new();
    for group in [shared(), holdings(), catalog(), processes(), events(), signaling()] {
        if let Value::Object(members) = group {
            schemas.extend(members);
        }
    }
    Value::Object(schemas)
}

/// An object that has these members and, unless `open`, no others besides context and class.
fn object(required: &[&str], members: Value) -> Value {
    let mut properties =
        json!({ "@context": { "$ref": "#/components/schemas/Context" }, "@type": { "type": "string" } });
    if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), members) {
        all.extend(more);
    }
    json!({ "type": "object", "required": required, "properties": properties, "additionalProperties": false })
}

/// An object that is answered: more members may come.
fn answer(required: &[&str], members: Value) -> Value {
    let mut schema = object(required, members);
    if let Some(members) = schema.as_object_mut() {
        members.insert("additionalProperties".to_owned(), true.into());
    }
    schema
}

fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn list_of(name: &str) -> Value {
    json!({ "type": "array", "items": of(name) })
}

fn text(max: u32) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": max })
}

fn maybe(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn id(max: u32) -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": max, "pattern": "^[!-~]+$" })
}

fn free() -> Value {
    json!({ "type": "object", "description": "Names and values of the caller's choosing." })
}

fn shared() -> Value {
    let time = json!({ "type": "integer", "description": "Milliseconds since 1970." });
    let detail = json!({
        "type": "object", "required": ["message", "type", "correlation"],
        "properties": {
            "message": { "type": "string" }, "type": { "type": "string" }, "path": maybe("string"),
            "invalidValue": {}, "hint": maybe("string"), "correlation": { "type": "string" },
            "explanation": { "type": "array", "items": { "type": "string" } },
        },
    });
    let problem = json!({
        "type": "object", "required": ["type", "title", "status", "detail", "correlation"],
        "properties": {
            "type": { "type": "string" }, "title": { "type": "string" }, "status": { "type": "integer" },
            "detail": { "type": "string" }, "hint": { "type": "string" }, "correlation": { "type": "string" },
            "explanation": { "type": "array", "items": { "type": "string" } },
        },
    });
    json!({
        "Context": {
            "description": "JSON-LD context: `{\"@vocab\": \"https://w3id.org/edc/v0.0.1/ns/\"}`, also if left out.",
            "type": ["object", "array", "string", "null"],
        },
        "IdResponse": answer(&["@id", "createdAt"], json!({ "@id": { "type": "string" }, "createdAt": time })),
        "Reason": object(&[], json!({ "@id": text(512), "reason": { "type": "string", "maxLength": 1024 } })),
        "Criterion": object(&["operandLeft", "operator", "operandRight"], json!({
            "operandLeft": text(2048), "operandRight": {},
            "operator": { "enum": ["=", "!=", "in", "not in", "like", "ilike", "contains", "<", "<=", ">", ">="] },
        })),
        "QuerySpec": object(&[], json!({
            "offset": { "type": "integer", "minimum": 0 }, "limit": { "type": "integer", "minimum": 1, "maximum": 1000 },
            "sortField": { "type": "string", "maxLength": 512 }, "sortOrder": { "enum": ["ASC", "DESC"] },
            "filterExpression": { "type": "array", "items": of("Criterion"), "maxItems": 32 },
            "after": { "type": "string", "maxLength": 512 },
        })),
        "ApiErrorDetail": detail,
        "Problem": problem,
    })
}

fn holdings() -> Value {
    let address = json!({
        "type": "object", "required": ["type"], "additionalProperties": false,
        "properties": {
            "@type": { "type": "string" }, "type": { "enum": ["File", "AmazonS3", "DataPlane"] }, "location": text(4096),
            "dataplaneId": id(64), "metadata": free(),
            "bucketName": text(256), "objectName": text(2048), "objectPrefix": text(2048),
            "format": { "enum": ["parquet", "csv", "ndjson"] },
            "tableName": { "type": "string", "maxLength": 64, "pattern": "^[a-z_][a-z0-9_]*$" },
        },
    });
    let policy = json!({ "type": "object", "description": "An ODRL policy in the profile of this network." });
    let steps = json!({ "type": "array", "items": { "type": "object" } });
    let texts = json!({ "type": "array", "items": { "type": "string" } });
    let definition = json!({
        "@id": id(200), "accessPolicyId": text(256), "contractPolicyId": text(256), "privateProperties": free(),
        "assetsSelector": {
            "type": "array", "items": of("Criterion"), "maxItems": 1,
            "description": "Empty: every asset. Else one criterion on the identifier, with `=` or `in`.",
        },
        "createdAt": { "type": "integer" },
    });
    let asset = json!({
        "@id": id(256), "properties": free(), "privateProperties": free(), "dataAddress": of("DataAddress"),
        "createdAt": { "type": "integer" },
    });
    let policy_definition = json!({
        "@id": id(256), "policy": of("Policy"), "privateProperties": free(), "createdAt": { "type": "integer" },
    });
    json!({
        "DataAddress": address,
        "Policy": policy,
        "AssetInput": object(&["dataAddress"], asset.clone()),
        "Asset": answer(&["@id", "properties"], asset),
        "PolicyDefinitionInput": object(&["policy"], policy_definition.clone()),
        "PolicyDefinition": answer(&["@id", "policy"], policy_definition),
        "PolicyValidationResult": answer(&["isValid", "errors"], json!({
            "isValid": { "type": "boolean" }, "errors": texts,
        })),
        "PolicyEvaluationPlanRequest": object(&["policyScope"], json!({ "policyScope": { "enum": [
            "catalog", "contract.negotiation", "request.catalog", "request.contract.negotiation", "transfer.process",
            "policy.monitor", "use",
        ] } })),
        "PolicyEvaluationPlan": answer(&["permissionSteps", "prohibitionSteps", "obligationSteps"], json!({
            "permissionSteps": steps, "prohibitionSteps": steps, "obligationSteps": steps,
            "preValidators": texts, "postValidators": texts,
        })),
        "ContractDefinitionInput":
            object(&["accessPolicyId", "contractPolicyId", "assetsSelector"], definition.clone()),
        "ContractDefinition": answer(&["@id", "accessPolicyId", "contractPolicyId", "assetsSelector"], definition),
    })
}

fn catalog() -> Value {
    let party = |mut more: Value| {
        let members = json!({
            "counterPartyId": text(2048), "counterPartyAddress": text(2048),
            "protocol": { "enum": ["dataspace-protocol-http:2025-1", "dataspace-protocol-http", "HTTPS:2025-1"] },
        });
        if let (Some(all), Value::Object(members)) = (more.as_object_mut(), members) {
            all.extend(members);
        }
        more
    };
    json!({
        "CatalogRequest": object(&["counterPartyId"], party(json!({ "querySpec": of("QuerySpec") }))),
        "DatasetRequest": object(&["@id", "counterPartyId"], party(json!({ "@id": text(512) }))),
        "Catalog": answer(&["@id", "participantId", "dataset"], json!({
            "@id": { "type": "string" }, "participantId": { "type": "string" }, "dataset": list_of("Dataset"),
        })),
        "Dataset": answer(&["@id", "hasPolicy"], json!({
            "@id": { "type": "string" }, "hasPolicy": list_of("Policy"),
        })),
        "ContractRequest": object(&["policy"], party(json!({
            "policy": of("Policy"), "callbackAddresses": { "type": "array", "maxItems": 0 },
        }))),
        "TransferRequest": object(&["contractId", "transferType"], party(json!({
            "contractId": text(256), "assetId": text(512), "transferType": { "anyOf": [
                { "enum": ["HttpData-PULL", "FlightSql"] }, { "type": "string", "format": "uri", "maxLength": 256 },
            ] },
            "dataplaneId": id(64),
            "dataDestination": { "type": ["object", "null"] },
            "callbackAddresses": { "type": "array", "maxItems": 0 },
        }))),
    })
}

fn processes() -> Value {
    let process = |mut more: Value| {
        let members = json!({
            "@id": { "type": "string" }, "type": { "enum": ["CONSUMER", "PROVIDER"] }, "protocol": { "type": "string" },
            "state": { "type": "string" }, "stateTimestamp": { "type": "integer" }, "createdAt": { "type": "integer" },
            "counterPartyId": { "type": "string" }, "counterPartyAddress": { "type": "string" },
            "correlationId": maybe("string"), "errorDetail": maybe("string"), "assetId": { "type": "string" },
            "callbackAddresses": { "type": "array" },
        });
        if let (Some(all), Value::Object(members)) = (more.as_object_mut(), members) {
            all.extend(members);
        }
        more
    };
    let state = || answer(&["state"], json!({ "state": { "type": "string" } }));
    let usual = ["@id", "type", "state", "counterPartyId"];
    json!({
        "ContractNegotiation": answer(&usual, process(json!({ "contractAgreementId": maybe("string") }))),
        "NegotiationState": state(),
        "ContractAgreement": answer(&["@id", "assetId", "consumerId", "providerId", "policy"], json!({
            "@id": { "type": "string" }, "assetId": { "type": "string" }, "consumerId": { "type": "string" },
            "providerId": { "type": "string" }, "policy": of("Policy"),
            "contractSigningDate": { "type": "integer", "description": "Seconds since 1970." },
        })),
        "TransferProcess": answer(&usual, process(json!({
            "contractId": { "type": "string" }, "transferType": { "type": "string" },
        }))),
        "TransferState": state(),
        "EndpointDataReferenceEntry": answer(&["@id", "transferProcessId", "agreementId", "assetId"], json!({
            "@id": { "type": "string" }, "transferProcessId": { "type": "string" },
            "agreementId": { "type": "string" }, "assetId": { "type": "string" }, "providerId": { "type": "string" },
            "contractNegotiationId": { "type": "string" }, "createdAt": { "type": "integer" },
        })),
        "EdrDataAddress": answer(&["type", "endpoint", "authorization", "expiresAt"], json!({
            "type": { "type": "string" }, "endpoint": { "type": "string" }, "authType": { "type": "string" },
            "authorization": { "type": "string" }, "expiresAt": { "type": "string", "format": "date-time" },
        })),
    })
}

fn events() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "WebHookInput": object(&["uri"], json!({
            "uri": text(2048), "events": { "type": "array", "items": text(128), "maxItems": 32 },
            "secret": { "type": "string", "minLength": 24, "maxLength": 512 },
        })),
        "WebHook": answer(&["@id", "uri", "events", "position", "delivered"], json!({
            "@id": { "type": "string" }, "uri": { "type": "string" },
            "events": { "type": "array", "items": { "type": "string" } }, "hasSecret": { "type": "boolean" },
            "position": count, "delivered": count, "refused": count, "missed": count, "failures": count,
            "errorDetail": maybe("string"), "gone": { "type": "boolean" },
        })),
    })
}

fn signaling() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    let secret = |members: &[&str]| {
        let mut all = json!({ "type": { "type": "string" } });
        if let Some(all) = all.as_object_mut() {
            all.extend(members.iter().map(|name| ((*name).to_owned(), text(4096))));
        }
        object(&["type"], all)
    };
    json!({
        "DataPlaneInput": object(&["dataplaneId", "endpoint", "profiles"], json!({
            "dataplaneId": id(64), "endpoint": text(2048),
            "profiles": { "type": "array", "items": text(256), "minItems": 1, "maxItems": 64 },
            "labels": { "type": "array", "items": text(512), "maxItems": 64 },
            "authorization": secret(&["token", "tokenEndpoint", "clientId", "clientSecret"]),
        })),
        "DataPlane": answer(&["@id", "dataplaneId", "endpoint", "profiles", "authorization"], json!({
            "@id": { "type": "string" }, "dataplaneId": { "type": "string" }, "endpoint": { "type": "string" },
            "profiles": { "type": "array", "items": { "type": "string" } },
            "labels": { "type": "array", "items": { "type": "string" } }, "registeredAt": { "type": "integer" },
            "authorization": { "type": "object", "description": "Its kind; secrets are not shown." },
        })),
        "DataFlow": answer(&["@id", "dataplaneId", "state", "wantedState", "acknowledged", "setAside"], json!({
            "@id": { "type": "string" }, "transferProcessId": { "type": "string" }, "dataplaneId": { "type": "string" },
            "dataFlowId": maybe("string"), "agreementId": { "type": "string" }, "assetId": { "type": "string" },
            "profile": { "type": "string" }, "state": { "type": "string" }, "wantedState": { "type": "string" },
            "failures": count, "errorDetail": maybe("string"), "setAside": { "type": "boolean" },
            "acknowledged": { "type": "boolean" },
        })),
        "AgreementInput": object(&["@id", "assetId", "consumerId", "policy"], json!({
            "@id": id(256), "assetId": text(256), "consumerId": text(2048), "providerId": text(2048),
            "controlPlane": { "type": "string", "minLength": 1, "maxLength": 64,
                "description": "Name of the key that may lead flows under it; only an operator names another than its own." },
            "policy": of("Policy"),
        })),
        "FlowAddress": answer(&["endpointType"], json!({
            "endpointType": { "type": "string" }, "endpoint": { "type": "string" },
            "endpointProperties": { "type": "array", "items": { "type": "object" } },
        })),
    })
}
