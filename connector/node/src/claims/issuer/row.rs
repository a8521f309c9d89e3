//! What the issuer keeps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shuyu_base::UnixMillis;
use shuyu_credentials::CredentialType;

use crate::problem::Problem;

/// Longest id of a definition, in bytes.
const MAX_ID_BYTES: usize = 64;
/// Longest life of a credential, in days.
const MAX_VALIDITY_DAYS: u32 = 3650;
/// Credentials are renewed when this part of their life is left.
const RENEWED_PART: i64 = 4;
/// Largest claims of a definition, in bytes of JSON.
const MAX_CLAIMS_BYTES: usize = 16 * 1024;

/// Who decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Approval {
    /// The node: whoever proves its DID gets the credential.
    Auto,
    /// The operator.
    Manual,
}

/// Something that is issued.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Type of the credential.
    pub r#type: String,
    /// Claims that every such credential has.
    #[serde(default)]
    pub claims: Map<String, Value>,
    /// Its life, in days, 1 to 3650.
    #[serde(default)]
    pub validity_days: u32,
    /// Its life, in seconds, instead of days: 10 to 86,400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validity_s: Option<u32>,
    /// Who decides.
    pub approval: Approval,
}

impl Definition {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// 400 naming the field.
    pub fn check(&self, id: &str) -> Result<(), Problem> {
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if id.is_empty() || MAX_ID_BYTES < id.len() || !plain {
            return Err(Problem::invalid("`id`: 1 to 64 letters, digits, `-` and `_`"));
        }
        self.kind()?;
        match self.validity_s {
            None if !(1..=MAX_VALIDITY_DAYS).contains(&self.validity_days) => {
                return Err(Problem::invalid(format!("`validity_days`: 1 to {MAX_VALIDITY_DAYS}")));
            }
            Some(seconds) if !(10..=86_400).contains(&seconds) || self.validity_days != 0 => {
                return Err(Problem::invalid("`validity_s`: 10 to 86400, and without `validity_days`"));
            }
            None | Some(_) => {}
        }
        if self.claims.contains_key("id") {
            return Err(Problem::invalid("`claims.id`: the subject is the holder"));
        }
        if MAX_CLAIMS_BYTES < Value::Object(self.claims.clone()).to_string().len() {
            return Err(Problem::invalid(format!("`claims`: larger than {MAX_CLAIMS_BYTES} bytes")));
        }
        Ok(())
    }

    /// Its life, in milliseconds.
    pub fn validity_ms(&self) -> i64 {
        let days = i64::from(self.validity_days).saturating_mul(86_400_000);
        self.validity_s.map_or(days, |seconds| i64::from(seconds).saturating_mul(1000))
    }

    /// Its type as a value.
    ///
    /// # Errors
    /// 400 if it is malformed.
    pub fn kind(&self) -> Result<CredentialType, Problem> {
        self.r#type.parse().map_err(|error| Problem::invalid(format!("`type`: {error}")))
    }

    /// For the operator.
    pub fn shown(&self, id: &str) -> Value {
        json!({
            "id": id, "type": self.r#type, "claims": self.claims, "validity_days": self.validity_days,
            "validity_s": self.validity_s, "approval": self.approval,
        })
    }
}

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestState {
    /// Not decided.
    Received,
    /// Signed and not delivered.
    Approved,
    /// Delivered.
    Issued,
    /// Refused.
    Rejected,
}

/// A signed credential on its way.
#[derive(Clone, Serialize, Deserialize)]
pub struct Payload {
    /// Its type.
    pub r#type: String,
    /// Alias of its profile.
    pub profile: String,
    /// The JWT.
    pub jwt: String,
}

/// How the delivery goes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Delivery {
    /// Tries so far.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: Option<String>,
    /// Nothing more is tried until the operator says so.
    pub set_aside: bool,
}

/// A request. `Debug` is not derived: it holds the holder's access token and signed credentials.
#[derive(Clone, Serialize, Deserialize)]
pub struct RequestRow {
    /// Who asked.
    pub holder: String,
    /// The holder's name for it.
    pub holder_pid: String,
    /// Ids of the metadata.
    pub objects: Vec<String>,
    /// How it stands.
    pub state: RequestState,
    /// Why it was refused.
    pub reason: Option<String>,
    /// When it came.
    pub created: String,
    /// The token with which the holder lets us write (DCP 1.0, section 6.4).
    pub access: Option<String>,
    /// What is to be delivered.
    pub payloads: Vec<Payload>,
    /// How the delivery goes.
    pub delivery: Delivery,
}

/// A credential that was issued.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedRow {
    /// Id of its definition.
    pub definition: String,
    /// Its type.
    pub r#type: String,
    /// Alias of its profile.
    pub profile: String,
    /// Its subject.
    pub holder: String,
    /// The request it was issued for.
    pub request: String,
    /// What it says.
    pub claims: Map<String, Value>,
    /// Its status index, over all lists.
    pub index: u32,
    /// When it was issued.
    pub issued_ms: i64,
    /// When it ends.
    pub valid_until_ms: i64,
    /// Why it was revoked.
    pub revoked: Option<String>,
    /// Why it is suspended.
    #[serde(default)]
    pub suspended: Option<String>,
    /// The credential that replaces it.
    pub renewed_by: Option<String>,
    /// Statements about it in the ledger so far; 0 only in a row of an earlier version.
    #[serde(default)]
    pub acts: u64,
}

impl IssuedRow {
    /// When it is to be renewed: a quarter of its life before its end. Never if it was revoked, suspended or renewed.
    pub fn due(&self) -> Option<UnixMillis> {
        let life = self.valid_until_ms.saturating_sub(self.issued_ms);
        let is_latest = self.revoked.is_none() && self.suspended.is_none() && self.renewed_by.is_none();
        is_latest.then(|| UnixMillis(self.valid_until_ms.saturating_sub(life / RENEWED_PART)))
    }
}

/// Revoked and suspended indexes of the status lists of one number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ListRow {
    /// Indexes inside the list.
    pub revoked: BTreeSet<u32>,
    /// Likewise, of suspended credentials.
    #[serde(default)]
    pub suspended: BTreeSet<u32>,
}

/// A request for the operator, without what is secret.
pub fn shown_request(pid: &str, row: &RequestRow) -> Value {
    json!({
        "id": pid, "holder": row.holder, "holder_pid": row.holder_pid, "objects": row.objects, "state": row.state,
        "reason": row.reason, "created": row.created,
        "delivery": {"attempts": row.delivery.attempts, "error": row.delivery.error, "set_aside": row.delivery.set_aside},
    })
}

/// A credential for the operator, without the JWT.
pub fn shown_issued(id: &str, row: &IssuedRow, now: UnixMillis) -> Value {
    let state = match (&row.revoked, &row.renewed_by) {
        (Some(_), _) => "revoked",
        (None, _) if row.valid_until_ms <= now.0 => "expired",
        (None, _) if row.suspended.is_some() => "suspended",
        (None, Some(_)) => "renewed",
        (None, None) => "valid",
    };
    json!({
        "id": id, "type": row.r#type, "profile": row.profile, "holder": row.holder, "request": row.request,
        "claims": row.claims, "issued": UnixMillis(row.issued_ms).to_string(),
        "valid_until": UnixMillis(row.valid_until_ms).to_string(), "state": state,
        "reason": row.revoked.as_ref().or(row.suspended.as_ref()), "renewed_by": row.renewed_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_renewed_once_and_not_after_it_was_revoked() {
        let row = IssuedRow {
            definition: "membership".to_owned(),
            r#type: "MembershipCredential".to_owned(),
            profile: "vc20-bssl/jwt".to_owned(),
            holder: "did:web:h.example".to_owned(),
            request: "1".to_owned(),
            claims: Map::new(),
            index: 0,
            issued_ms: 1_000,
            valid_until_ms: 101_000,
            revoked: None,
            suspended: None,
            renewed_by: None,
            acts: 0,
        };
        assert_eq!(row.due(), Some(UnixMillis(76_000)));
        assert_eq!(IssuedRow { renewed_by: Some("2".to_owned()), ..row.clone() }.due(), None);
        assert_eq!(IssuedRow { revoked: Some("left".to_owned()), ..row }.due(), None);
    }

    #[test]
    fn a_definition_that_nobody_could_issue_is_refused() {
        let good = Definition {
            r#type: "MembershipCredential".to_owned(),
            claims: Map::new(),
            validity_days: 90,
            validity_s: None,
            approval: Approval::Manual,
        };
        assert!(good.check("membership").is_ok());
        let refused = |id: &str, change: &dyn Fn(&mut Definition)| {
            let mut bad = good.clone();
            change(&mut bad);
            bad.check(id).unwrap_err().detail
        };
        assert!(refused("a.b", &|_| {}).starts_with("`id`"));
        assert!(refused("a", &|bad| bad.r#type = "a b".to_owned()).starts_with("`type`"));
        assert!(refused("a", &|bad| bad.validity_days = 0).starts_with("`validity_days`"));
        assert!(refused("a", &|bad| bad.validity_s = Some(60)).starts_with("`validity_s`"));
        assert!(refused("a", &|bad| (bad.validity_days, bad.validity_s) = (0, Some(9))).starts_with("`validity_s`"));
        assert!(refused("a", &|bad| drop(bad.claims.insert("id".to_owned(), "x".into()))).starts_with("`claims.id`"));
        let large = "x".repeat(MAX_CLAIMS_BYTES);
        assert!(
            refused("a", &|bad| drop(bad.claims.insert("a".to_owned(), large.clone().into()))).starts_with("`claims`")
        );
    }
}
