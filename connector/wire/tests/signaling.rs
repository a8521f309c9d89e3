//! Messages of Data Plane Signaling: the examples of the specification, bounds, and that what is written is read.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use shuyu_wire::dsp::DataAddress;
use shuyu_wire::signaling::{FlowRequest, FlowSignal, FlowStatus, MAX_LABELS, MAX_TEXT_BYTES, State};

/// The example of a `DataFlowStartMessage` (section "DataFlowStartMessage").
fn start() -> Value {
    json!({
        "messageId": "b1d5f9e2-3c4b-4f7a-9c3e-2f1e5d6c7b8a", "participantId": "provider-participant-id",
        "counterPartyId": "consumer-participant-id", "dataspaceContext": "test-dataspace-context",
        "processId": "test-transfer-process-id", "agreementId": "test-agreement-id", "datasetId": "asset-id",
        "profile": "https://w3id.org/dspace-sig/profile/http-pull",
        "claims": { "membership": "active", "sub": "subject" },
        "dataAddress": {
            "endpointType": "https://w3id.org/idsa/v4.1/HTTP", "endpoint": "http://dataplane.provider.com/api/public",
            "endpointProperties": [
                { "name": "authorization", "value": "<AUTH_TOKEN>" }, { "name": "authType", "value": "bearer" },
            ],
        },
        "labels": ["gold", "blue"],
        "metadata": { "bucketName": "sourceBucket", "region": "westeurope", "...": "..." },
    })
}

#[test]
fn the_examples_of_the_specification_are_read() {
    let request = FlowRequest::decode(&start()).expect("the example is valid");
    assert_eq!(request.labels, ["gold", "blue"]);
    assert_eq!(request.data_address.expect("it has an address").property("authType"), Some("bearer"));
    let status = FlowStatus::decode(&json!({
        "messageId": "b1d5f9e2", "dataFlowId": "dataFlow-123", "state": "PREPARED", "error": "",
    }));
    let status = status.expect("the example is valid");
    assert_eq!((status.state, status.error), (State::Prepared, None));
    let signal = FlowSignal::decode(&json!({ "messageId": "1", "reason": "Suspending data flow" }));
    assert_eq!(signal.expect("the example is valid").reason.as_deref(), Some("Suspending data flow"));
}

#[test]
fn what_is_wrong_is_named() {
    let refused = |change: &dyn Fn(&mut Map<String, Value>)| {
        let mut message = start();
        change(message.as_object_mut().expect("an object"));
        FlowRequest::decode(&message).expect_err("it is refused").to_string()
    };
    for name in ["messageId", "participantId", "counterPartyId", "processId", "agreementId", "datasetId", "profile"] {
        let said = refused(&|message| drop(message.remove(name)));
        assert_eq!(said, format!("`{name}` is missing"));
    }
    let said = refused(&|message| drop(message.insert("profile".to_owned(), "x".repeat(513).into())));
    assert!(said.contains("`profile`"), "{said}");
    let many = vec![Value::from("x"); MAX_LABELS + 1];
    let said = refused(&|message| drop(message.insert("labels".to_owned(), many.clone().into())));
    assert!(said.contains("`labels`"), "{said}");
    let said = refused(&|message| drop(message.insert("dataAddress".to_owned(), json!({ "endpoint": "x" }))));
    assert_eq!(said, "`dataAddress.endpointType` is missing");
    let said = FlowStatus::decode(&json!({ "dataFlowId": "1", "state": "STARTTED" })).expect_err("it is refused");
    assert!(said.to_string().contains("`state`"), "{said}");
    let long = FlowStatus::decode(&json!({ "state": "STARTED", "error": "é".repeat(MAX_TEXT_BYTES) }));
    assert_eq!(long.expect("a long error is cut").error.map(|text| text.len()), Some(MAX_TEXT_BYTES));
}

/// Tokens stay out of what is logged.
#[test]
fn debug_shows_no_token() {
    let request = FlowRequest::decode(&start()).expect("the example is valid");
    assert!(!format!("{request:?}").contains("AUTH_TOKEN"));
}

fn text() -> impl Strategy<Value = String> {
    "[ -~]{1,40}"
}

fn address() -> impl Strategy<Value = Option<DataAddress>> {
    let properties = proptest::collection::vec((text(), text()), 0..4);
    proptest::option::of(
        (text(), proptest::option::of(text()), properties)
            .prop_map(|(endpoint_type, endpoint, properties)| DataAddress { endpoint_type, endpoint, properties }),
    )
}

proptest! {
    #[test]
    fn a_request_is_read_as_written(
        texts in proptest::collection::vec(text(), 8), data_address in address(),
        labels in proptest::collection::vec(text(), 0..4),
    ) {
        let text = |at: usize| texts[at].clone();
        let members = Map::from_iter([(text(0), Value::from(text(1)))]);
        let request = FlowRequest {
            message_id: text(0), participant_id: text(1), counter_party_id: text(2), dataspace_context: text(3),
            process_id: text(4), agreement_id: text(5), dataset_id: text(6), profile: text(7),
            data_address, labels, metadata: members.clone(), claims: members,
        };
        prop_assert_eq!(FlowRequest::decode(&request.encode()), Ok(request));
    }

    #[test]
    fn a_status_is_read_as_written(
        flow_id in proptest::option::of(text()), state in 0..State::ALL.len(), data_address in address(),
        error in proptest::option::of(text()),
    ) {
        let status = FlowStatus { message_id: None, flow_id, state: State::ALL[state], data_address, error };
        prop_assert_eq!(FlowStatus::decode(&status.encode()), Ok(status));
    }

    #[test]
    fn a_signal_is_read_as_written(message_id in text(), reason in proptest::option::of(text()), data_address in address()) {
        let signal = FlowSignal { message_id: Some(message_id), reason, data_address };
        prop_assert_eq!(FlowSignal::decode(&signal.encode()), Ok(signal));
    }
}
