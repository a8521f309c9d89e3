//! Messages of the Decentralized Claims Protocol.
#![no_main]

use libfuzzer_sys::fuzz_target;
use shuyu_base::json;
use shuyu_wire::dcp::{
    CredentialMessage, CredentialOffer, CredentialRequest, CredentialStatus, IssuerMetadata, PresentationQuery,
    PresentationResponse,
};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = json::parse(bytes, json::MAX_MESSAGE_BYTES) else { return };
    if let Ok(PresentationQuery::Scopes(scopes)) = PresentationQuery::decode(&value) {
        let written = PresentationQuery::encode(&scopes);
        assert_eq!(PresentationQuery::decode(&written), Ok(PresentationQuery::Scopes(scopes)));
    }
    if let Ok(message) = PresentationResponse::decode(&value) {
        assert_eq!(PresentationResponse::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = CredentialRequest::decode(&value) {
        assert_eq!(CredentialRequest::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = CredentialMessage::decode(&value) {
        assert_eq!(CredentialMessage::decode(&message.encode()), Ok(message));
    }
    if let Ok(message) = CredentialStatus::decode(&value) {
        assert_eq!(CredentialStatus::decode(&message.encode()), Ok(message));
    }
    // A sparse object of an offer may carry members that are not written without a type.
    let _ = CredentialOffer::decode(&value);
    let _ = IssuerMetadata::decode(&value);
});
