//! Offers and agreements inside messages: what the protocol itself asks of them.

use serde_json::{Map, Value};
use shuyu_base::{Did, Digest, UnixMillis};

use super::envelope::{MAX_ID_BYTES, event_digest};
use super::reader::{At, DecodeError, Object, Problem};

/// Most permissions, prohibitions or obligations in one policy.
pub const MAX_RULES: usize = 256;

const RULE_LISTS: [&str; 3] = ["permission", "prohibition", "obligation"];

/// An offer in a message or catalogue (`MessageOffer`, `Offer` of the schema).
#[derive(Clone, Debug, PartialEq)]
pub struct OfferPart {
    /// Its identifier.
    pub id: String,
    /// The dataset; needed in messages, absent in catalogues.
    pub target: Option<String>,
    /// The whole policy object, as received or to be sent.
    pub policy: Value,
}

/// An agreement in a message.
#[derive(Clone, Debug, PartialEq)]
pub struct AgreementPart {
    /// Its identifier.
    pub id: String,
    /// The dataset.
    pub target: String,
    /// The provider, as a text: some dataspaces name participants otherwise than by DID.
    pub assigner: String,
    /// The consumer.
    pub assignee: String,
    /// When it was agreed. The text asks for it, the schema does not, so its absence is tolerated.
    pub timestamp: Option<UnixMillis>,
    /// The whole policy object, as received or to be sent.
    pub policy: Value,
}

impl OfferPart {
    /// An offer inside a message: it names its dataset, its rules do not.
    pub(super) fn decode_in_message(at: &At<'_>) -> Result<Self, DecodeError> {
        let offer = Self::decode(at)?;
        if offer.target.is_none() {
            return Err(at.clone().object()?.error("target", Problem::Missing));
        }
        Ok(offer)
    }

    /// An offer inside a dataset: it must not name a target.
    pub(super) fn decode_in_dataset(at: &At<'_>) -> Result<Self, DecodeError> {
        let offer = Self::decode(at)?;
        if offer.target.is_some() {
            return Err(at.clone().object()?.error("target", Problem::Unwanted));
        }
        Ok(offer)
    }

    fn decode(at: &At<'_>) -> Result<Self, DecodeError> {
        let policy = at.clone().object()?;
        policy.need_type("Offer")?;
        check_rules(&policy)?;
        let id = policy.text("@id", MAX_ID_BYTES)?.to_owned();
        Ok(Self { id, target: policy.maybe_text("target", MAX_ID_BYTES)?, policy: at.value.clone() })
    }
}

impl AgreementPart {
    pub(super) fn decode(at: &At<'_>) -> Result<Self, DecodeError> {
        let policy = at.clone().object()?;
        policy.need_type("Agreement")?;
        check_rules(&policy)?;
        let timestamp = policy.get("timestamp").map(|at| {
            let text = at.text(MAX_ID_BYTES)?;
            UnixMillis::from_rfc3339(text).ok_or_else(|| at.error(Problem::Invalid("not an RFC 3339 time".to_owned())))
        });
        Ok(Self {
            id: policy.text("@id", MAX_ID_BYTES)?.to_owned(),
            target: policy.text("target", MAX_ID_BYTES)?.to_owned(),
            assigner: policy.text("assigner", Did::MAX_BYTES)?.to_owned(),
            assignee: policy.text("assignee", Did::MAX_BYTES)?.to_owned(),
            timestamp: timestamp.transpose()?,
            policy: at.value.clone(),
        })
    }
}

/// A policy has a permission or a prohibition; every rule has an action and none a target of its own, "to prevent
/// inconsistencies with the ODRL inferencing rules for compact policies" (Contract Request, Offer, Agreement Message).
fn check_rules(policy: &Object<'_>) -> Result<(), DecodeError> {
    let mut found = 0;
    for name in RULE_LISTS {
        let rules = policy.maybe_items(name, MAX_RULES)?;
        found += if name == "obligation" { 0 } else { rules.len() };
        for rule in rules {
            let rule = rule.object()?;
            rule.need("action")?;
            if rule.get("target").is_some() {
                return Err(rule.error("target", Problem::Unwanted));
            }
        }
    }
    if found == 0 {
        return Err(policy.error("permission", Problem::Missing));
    }
    Ok(())
}

/// Digest of what a policy permits, forbids and demands, whatever it is called and whoever it is between: equal for
/// an offer and the agreement made on it. An empty list counts as an absent one.
///
/// It compares text, not meaning: for texts of other authors, normalise first (read by `odrl` and write again).
///
/// # Errors
/// As [`event_digest`].
pub fn rules_digest(policy: &Value) -> Result<Digest, serde_json::Error> {
    let mut rules = Map::new();
    for name in RULE_LISTS.into_iter().chain(["target", "profile"]) {
        match policy.get(name) {
            None | Some(Value::Null) => {}
            Some(Value::Array(items)) if items.is_empty() => {}
            Some(value) => {
                rules.insert(name.to_owned(), value.clone());
            }
        }
    }
    event_digest(&Value::Object(rules))
}
