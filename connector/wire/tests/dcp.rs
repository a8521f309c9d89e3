//! Messages of the Decentralized Claims Protocol: what is written reads back, what is wrong is named.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failure of a helper is the failure of its test")]

use proptest::prelude::*;
use serde_json::{Value, json};
use shuyu_wire::dcp::{
    CONTEXT, CredentialContainer, CredentialMessage, CredentialObject, CredentialOffer, CredentialRequest,
    CredentialStatus, DecodeError, IssuerMetadata, Outcome, PresentationQuery, PresentationResponse, RequestStatus,
};

fn message(kind: &str, members: Value) -> Value {
    let mut value = json!({"@context": [CONTEXT], "type": kind});
    let (Value::Object(all), Value::Object(members)) = (&mut value, members) else { panic!() };
    all.extend(members);
    value
}

fn said<T: std::fmt::Debug>(decoded: Result<T, DecodeError>) -> String {
    decoded.unwrap_err().to_string()
}

#[test]
fn what_is_written_reads_back() {
    let scopes = ["org.eclipse.dspace.dcp.vc.type:M:read".parse().unwrap()].into();
    let written = PresentationQuery::encode(&scopes);
    assert_eq!(PresentationQuery::decode(&written), Ok(PresentationQuery::Scopes(scopes)));

    let response = PresentationResponse { presentations: vec!["a.b.c".to_owned()] };
    assert_eq!(PresentationResponse::decode(&response.encode()), Ok(response));

    let request = CredentialRequest { holder_pid: "h".to_owned(), credentials: vec!["1".to_owned(), "2".to_owned()] };
    assert_eq!(CredentialRequest::decode(&request.encode()), Ok(request));

    let container = CredentialContainer {
        kind: "MembershipCredential".parse().unwrap(),
        format: "vc20-bssl/jwt".to_owned(),
        payload: "a.b.c".to_owned(),
    };
    for outcome in [Outcome::Issued(vec![container]), Outcome::Rejected(Some("no".to_owned())), Outcome::Rejected(None)]
    {
        let delivery = CredentialMessage { issuer_pid: "i".to_owned(), holder_pid: Some("h".to_owned()), outcome };
        assert_eq!(CredentialMessage::decode(&delivery.encode()), Ok(delivery));
    }

    let object = CredentialObject {
        id: "1".to_owned(),
        kind: Some("MembershipCredential".parse().unwrap()),
        profile: Some("vc20-bssl/jwt".to_owned()),
        binding_methods: vec!["did:web".to_owned()],
        schema: None,
        reason: Some("reissue".to_owned()),
    };
    let sparse = CredentialObject {
        id: "2".to_owned(),
        kind: None,
        profile: None,
        binding_methods: Vec::new(),
        schema: None,
        reason: None,
    };
    let issuer: shuyu_base::Did = "did:web:issuer.example".parse().unwrap();
    let offer = CredentialOffer { issuer: issuer.clone(), credentials: vec![object.clone(), sparse] };
    assert_eq!(CredentialOffer::decode(&offer.encode()), Ok(offer));
    let metadata = IssuerMetadata { issuer, supported: vec![object] };
    assert_eq!(IssuerMetadata::decode(&metadata.encode()), Ok(metadata));

    for status in RequestStatus::ALL {
        let status = CredentialStatus { issuer_pid: "i".to_owned(), holder_pid: "h".to_owned(), status };
        assert_eq!(CredentialStatus::decode(&status.encode()), Ok(status));
    }
}

/// DCP 1.0, section 5.4.1: exactly one way of asking, and not an empty one.
#[test]
fn a_query_asks_in_exactly_one_way() {
    let query = |members| PresentationQuery::decode(&message("PresentationQueryMessage", members));
    let scope = json!(["org.eclipse.dspace.dcp.vc.type:M:read"]);
    let definition = json!({"id": "1", "input_descriptors": []});
    assert_eq!(query(json!({"presentationDefinition": definition})), Ok(PresentationQuery::Definition));
    assert_eq!(
        said(query(json!({"scope": scope, "presentationDefinition": definition}))),
        "`scope` must not be given here"
    );
    assert_eq!(said(query(json!({"presentationDefinition": {}}))), "`presentationDefinition` is empty");
    assert_eq!(said(query(json!({"presentationDefinition": null}))), "`scope` is missing");
    assert_eq!(said(query(json!({"scope": []}))), "`scope` is empty");
    assert_eq!(said(query(json!({}))), "`scope` is missing");
    assert_eq!(
        said(query(json!({"scope": ["everything"]}))),
        "`scope[0]` is not valid: scope has an alias that is not known"
    );
    assert_eq!(said(query(json!({"scope": vec![scope[0].clone(); 33]}))), "`scope` has 33 items, the limit is 32");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let delivery = |members| said(CredentialMessage::decode(&message("CredentialMessage", members)));
    assert_eq!(delivery(json!({"holderPid": "h", "status": "ISSUED"})), "`issuerPid` is missing");
    assert_eq!(delivery(json!({"issuerPid": "i", "status": "DONE"})), "`status` is not `ISSUED` or `REJECTED`");
    assert_eq!(delivery(json!({"issuerPid": "i", "status": "ISSUED"})), "`credentials` is missing");
    assert_eq!(delivery(json!({"issuerPid": "i", "status": "ISSUED", "credentials": []})), "`credentials` is empty");
    assert_eq!(
        delivery(json!({"issuerPid": "i", "status": "ISSUED", "credentials": [{"credentialType": "a b"}]})),
        "`credentials[0].credentialType` is not valid: scope or credential type is not letters, digits, `-`, `_` and `.` \
         after a first letter"
    );
    let request = |members| said(CredentialRequest::decode(&message("CredentialRequestMessage", members)));
    assert_eq!(request(json!({"credentials": [{"id": "1"}]})), "`holderPid` is missing");
    assert_eq!(request(json!({"holderPid": "h"})), "`credentials` is missing");
    let offer = |members| said(CredentialOffer::decode(&message("CredentialOfferMessage", members)));
    assert_eq!(offer(json!({"issuer": null, "credentials": [{"id": "1"}]})), "`issuer` is missing");
    assert_eq!(offer(json!({"issuer": "did:web:a", "credentials": [{}]})), "`credentials[0].id` is missing");
    let other = json!({"@context": ["https://other.example"], "type": "CredentialOfferMessage"});
    assert!(said(CredentialOffer::decode(&other)).starts_with("`@context` is not a list with"));
    assert_eq!(said(CredentialOffer::decode(&message("Other", json!({})))), "`type` is not `CredentialOfferMessage`");
}

proptest! {
    #[test]
    fn no_message_panics(
        kind in "(PresentationQueryMessage|CredentialMessage|CredentialOfferMessage|IssuerMetadata)",
        text in "\\PC{0,20}",
        number in any::<i32>(),
    ) {
        for value in [json!(text), json!(number), json!([text]), json!([{"id": text}]), json!({"id": number})] {
            let all = json!({"scope": value, "credentials": value, "issuer": text, "issuerPid": text, "status": "ISSUED",
                "presentation": value, "holderPid": value, "credentialsSupported": value});
            let message = message(&kind, all);
            let _ = PresentationQuery::decode(&message);
            let _ = PresentationResponse::decode(&message);
            let _ = CredentialMessage::decode(&message);
            let _ = CredentialOffer::decode(&message);
            let _ = IssuerMetadata::decode(&message);
        }
    }
}
