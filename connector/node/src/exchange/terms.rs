//! Terms as values: what is equal, what is covered, and the agreement they become.

use serde_json::Value;
use shuyu_base::{Did, Digest, UnixMillis, json};
use shuyu_contract_engine::OfferTerms;
use shuyu_policy::{Policy, PolicyKind};
use shuyu_wire::dsp::{AgreementPart, OfferPart};
use shuyu_wire::odrl;

use crate::holdings::parse_policy;
use crate::problem::Problem;

/// Digest of the rules alone: an offer and the agreement made from it have the same.
///
/// # Errors
/// 422 if the policy has no canonical form.
pub fn rules_digest(policy: &Policy) -> Result<Digest, Problem> {
    let mut bare = policy.clone();
    bare.uid = "urn:shuyu:rules".to_owned();
    bare.kind = PolicyKind::Set;
    bare.assigner = None;
    bare.assignee = None;
    bare.target = None;
    let bytes = json::canonical(&odrl::to_json(&bare))
        .map_err(|error| Problem::refused(format!("the policy has no canonical form: {error}"), Vec::new()))?;
    Ok(Digest::sha256(&bytes))
}

/// The machine's view of an ODRL offer or agreement in JSON.
///
/// # Errors
/// 422 naming the term that is not understood.
pub fn terms_of(offer: &Value) -> Result<OfferTerms, Problem> {
    let policy = parse_policy(offer)?;
    Ok(OfferTerms { offer_id: policy.uid.as_str().into(), policy_digest: rules_digest(&policy)? })
}

/// A policy as an offer of `dataset` under the id `offer_id`.
pub fn as_offer(policy: &Policy, offer_id: &str, dataset: &str, provider: &Did) -> Value {
    let mut offer = policy.clone();
    offer.uid = offer_id.to_owned();
    offer.kind = PolicyKind::Offer;
    offer.target = Some(dataset.to_owned());
    offer.assigner = Some(provider.clone());
    offer.assignee = None;
    odrl::to_json(&offer)
}

/// The agreement that the terms on the table become.
pub fn as_agreement(terms: &Policy, id: &str, dataset: &str, provider: &Did, consumer: &Did, now: UnixMillis) -> Value {
    let mut agreement = terms.clone();
    agreement.uid = id.to_owned();
    agreement.kind = PolicyKind::Agreement;
    agreement.target = Some(dataset.to_owned());
    agreement.assigner = Some(provider.clone());
    agreement.assignee = Some(consumer.clone());
    let mut json = odrl::to_json(&agreement);
    if let Some(members) = json.as_object_mut() {
        members.insert("timestamp".to_owned(), now.to_string().into());
    }
    json
}

/// Checks an agreement a provider sent: it must bind exactly these parties to exactly these rules.
///
/// # Errors
/// The first difference, in words.
pub fn check_agreement(
    agreement: &Value,
    terms: &Value,
    dataset: &str,
    provider: &Did,
    consumer: &Did,
) -> Result<(), String> {
    let agreed = parse_policy(agreement).map_err(|problem| problem.detail)?;
    let offered = parse_policy(terms).map_err(|problem| problem.detail)?;
    if agreed.kind != PolicyKind::Agreement {
        return Err("`agreement.@type` is not Agreement".to_owned());
    }
    if agreed.target.as_deref() != Some(dataset) {
        return Err("`agreement.target` is not the dataset under negotiation".to_owned());
    }
    if agreed.assigner.as_ref() != Some(provider) {
        return Err("`agreement.assigner` is not the provider".to_owned());
    }
    if agreed.assignee.as_ref() != Some(consumer) {
        return Err("`agreement.assignee` is not the consumer".to_owned());
    }
    let same = rules_digest(&agreed).map_err(|problem| problem.detail)?
        == rules_digest(&offered).map_err(|problem| problem.detail)?;
    if same { Ok(()) } else { Err("`agreement` has other rules than the offer it is made from".to_owned()) }
}

/// The terms as a message carries them.
///
/// # Errors
/// 422 naming the term that is not understood.
pub fn offer_part(terms: &Value) -> Result<OfferPart, Problem> {
    let policy = parse_policy(terms)?;
    Ok(OfferPart { id: policy.uid, target: policy.target, policy: terms.clone() })
}

/// The agreement as a message carries it.
///
/// # Errors
/// 422 naming the term that is not understood.
pub fn agreement_part(agreement: Value) -> Result<AgreementPart, Problem> {
    let policy = parse_policy(&agreement)?;
    let text = |did: Option<Did>| did.map(|did| did.to_string()).unwrap_or_default();
    Ok(AgreementPart {
        id: policy.uid,
        target: policy.target.unwrap_or_default(),
        assigner: text(policy.assigner),
        assignee: text(policy.assignee),
        timestamp: None,
        policy: agreement,
    })
}
