//! An agreement with its signatures, in one JSON object that whoever holds it checks off line.

use serde_json::{Value, json};
use shuyu_base::{Did, PublicKey, json as strict_json};

use crate::party::Party;
use crate::signature::{MAX_SIGNATURES, Signature, Subject, unknown};

/// Most signatures in a proof: two parties, one a suite.
const MAX_PROOF_SIGNATURES: usize = 2 * MAX_SIGNATURES;

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// A member is missing or has the wrong shape.
    #[error("`{member}` is missing or malformed")]
    Member {
        /// The member.
        member: &'static str,
    },
    /// More than two parties have.
    #[error("`signatures` has more than {MAX_PROOF_SIGNATURES} entries")]
    TooMany,
    /// The digest is that of something else.
    #[error("`digest` is not that of the agreement")]
    Digest,
    /// A key of someone else.
    #[error("`signatures`: `{kid}` is not a key of the party it stands for")]
    OtherParty {
        /// The key.
        kid: String,
    },
    /// A signature does not hold, or is under something else.
    #[error("the signature of `{kid}` does not hold: {reason}")]
    Signature {
        /// The key.
        kid: String,
        /// Why.
        reason: String,
    },
}

/// Writes the proof of an agreement; `signatures` in any order.
pub fn write<'a>(
    subject: &Subject<'_>,
    agreement: &Value,
    signatures: impl IntoIterator<Item = (Party, &'a Signature)>,
) -> Value {
    let signatures: Vec<Value> = signatures
        .into_iter()
        .map(|(by, one)| json!({ "by": by.to_string(), "kid": one.kid, "key": one.key.to_multikey(), "jws": one.compact }))
        .collect();
    json!({
        "agreement": agreement, "provider": subject.provider.as_str(), "consumer": subject.consumer.as_str(),
        "renews": subject.renews, "digest": subject.digest().to_string(), "signatures": signatures,
    })
}

/// Checks a proof with the keys it carries, and returns whose signatures hold. Whose the keys are is for the reader to find
/// out; that they are named as keys of the parties is checked.
///
/// # Errors
/// [`ProofError`] names the member or the key.
pub fn check(proof: &Value) -> Result<Vec<(Party, Signature)>, ProofError> {
    let bad = |member| ProofError::Member { member };
    let text =
        |from: &Value, name: &'static str| from.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(bad(name));
    let did = |name| text(proof, name)?.parse::<Did>().map_err(|_| bad(name));
    let agreement = proof.get("agreement").ok_or(bad("agreement"))?;
    let id = text(agreement, "@id").map_err(|_| bad("agreement.@id"))?;
    let canonical = strict_json::canonical(agreement).map_err(|_| bad("agreement"))?;
    let renews = match proof.get("renews") {
        None | Some(Value::Null) => None,
        Some(renews) => Some(renews.as_str().ok_or(bad("renews"))?),
    };
    let (provider, consumer) = (did("provider")?, did("consumer")?);
    let subject = Subject { id: &id, canonical: &canonical, provider: &provider, consumer: &consumer, renews };
    if text(proof, "digest")? != subject.digest().to_string() {
        return Err(ProofError::Digest);
    }
    let entries = proof.get("signatures").and_then(Value::as_array).ok_or(bad("signatures"))?;
    if MAX_PROOF_SIGNATURES < entries.len() {
        return Err(ProofError::TooMany);
    }
    let mut found = Vec::new();
    for entry in entries {
        let by = match text(entry, "by")?.as_str() {
            "provider" => Party::Provider,
            "consumer" => Party::Consumer,
            _ => return Err(bad("by")),
        };
        let owner = match by {
            Party::Provider => &provider,
            Party::Consumer => &consumer,
        };
        let (kid, jws) = (text(entry, "kid")?, text(entry, "jws")?);
        if kid.split('#').next() != Some(owner.as_str()) {
            return Err(ProofError::OtherParty { kid });
        }
        let key = PublicKey::from_multikey(&text(entry, "key")?).map_err(|_| bad("key"))?;
        let key_of = |named: &str| if named == kid { Ok(key.clone()) } else { Err(unknown(named)) };
        let held = subject
            .verify_with(&[jws], key_of)
            .map_err(|error| ProofError::Signature { kid: kid.clone(), reason: error.to_string() })?;
        found.extend(held.into_iter().map(|signature| (by, signature)));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use shuyu_base::{SecretKey, Suite};

    fn proof() -> Value {
        let (provider, consumer): (Did, Did) =
            ("did:web:a.example".parse().unwrap(), "did:web:b.example".parse().unwrap());
        let agreement = json!({"@id": "urn:uuid:1", "@type": "Agreement"});
        let canonical = strict_json::canonical(&agreement).unwrap();
        let subject = Subject {
            id: "urn:uuid:1",
            canonical: &canonical,
            provider: &provider,
            consumer: &consumer,
            renews: Some("urn:uuid:0"),
        };
        let sign = |did: &Did, suite| {
            let key = SecretKey::from_seed(suite, &[7; 32]).unwrap();
            let kid = format!("{did}#key-1");
            Signature { compact: subject.sign(&key, &kid), key: key.public().clone(), kid }
        };
        let (ours, theirs) = (sign(&provider, Suite::Ed25519), sign(&consumer, Suite::Sm2));
        write(&subject, &agreement, [(Party::Provider, &ours), (Party::Consumer, &theirs)])
    }

    #[test]
    fn a_proof_holds_as_it_is_and_in_no_other_way() {
        let good = proof();
        let parties: Vec<Party> = check(&good).unwrap().into_iter().map(|(by, _)| by).collect();
        assert_eq!(parties, [Party::Provider, Party::Consumer]);
        for (place, value) in [
            ("/agreement/@type", json!("Offer")),
            ("/agreement/@id", json!("urn:uuid:2")),
            ("/provider", json!("did:web:c.example")),
            ("/renews", Value::Null),
            ("/digest", json!("sha256:00")),
            ("/signatures/0/by", json!("consumer")),
            ("/signatures/0/key", good["signatures"][1]["key"].clone()),
            ("/signatures/0/jws", good["signatures"][1]["jws"].clone()),
            ("/signatures/0/kid", json!("did:web:a.example#key-2")),
            ("/signatures", json!(vec![good["signatures"][0].clone(); 7])),
        ] {
            let mut changed = good.clone();
            *changed.pointer_mut(place).unwrap() = value;
            assert!(check(&changed).is_err(), "{place}");
        }
    }

    proptest! {
        #[test]
        fn any_value_in_any_place_is_judged_without_panic(text in ".{0,60}", at in 0_usize..8, number in any::<i64>()) {
            let places = ["/agreement", "/provider", "/consumer", "/digest", "/signatures", "/signatures/0/kid",
                "/signatures/0/key", "/signatures/0/jws"];
            for value in [json!(text), json!(number), Value::Null, json!([text]), json!({ "by": text })] {
                let mut changed = proof();
                *changed.pointer_mut(places[at]).unwrap() = value;
                prop_assert!(check(&changed).is_err());
            }
        }
    }
}
