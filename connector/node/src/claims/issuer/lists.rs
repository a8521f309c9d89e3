//! The status of what was issued: a list for revocation in the form of each profile, and one for suspension.
//!
//! `credentialStatus` is one object in Data Model 1.1, and readers of it break on a list; only credentials of Data Model
//! 2.0 have an entry for suspension besides.

use axum::http::StatusCode;
use serde_json::Value;
use shuyu_credentials::status::{Bit, Purpose, StatusEntry, StatusKind, StatusList};
use shuyu_credentials::vc::{self, Draft};
use shuyu_credentials::{CredentialType, Profile};
use url::Url;

use super::evidence::Deed;
use super::row::{IssuedRow, ListRow, shown_issued};
use super::{Issuer, NEXT_INDEX};
use crate::clock;
use crate::identity::ISSUER_SERVICE_PATH;
use crate::problem::Problem;
use crate::store::{Batch, Table};

/// Bits of one status list.
const LIST_BITS: u32 = 131_072;
/// How long a published status list is valid, in milliseconds.
const LIST_LIFETIME_MS: i64 = 3_600_000;
/// The lists of one number, each under its name.
const LISTS: [(StatusKind, Purpose, &str); 3] = [
    (StatusKind::Bitstring, Purpose::Revocation, "bitstring"),
    (StatusKind::Bitstring, Purpose::Suspension, "bitstring-suspension"),
    (StatusKind::List2021, Purpose::Revocation, "2021"),
];

impl Issuer {
    /// Where the status of a credential will be.
    pub(super) fn entries(&self, profile: Profile, index: u32) -> Result<Vec<StatusEntry>, Problem> {
        let of_profile = LISTS.iter().filter(|(kind, _, _)| *kind == kind_of(profile));
        let entry = |(kind, purpose, name): &(StatusKind, Purpose, &str)| {
            let list = self.list_url(index / LIST_BITS, name)?;
            Ok(StatusEntry { kind: *kind, purpose: *purpose, index: index % LIST_BITS, list })
        };
        of_profile.map(entry).collect()
    }

    fn list_url(&self, number: u32, name: &str) -> Result<Url, Problem> {
        let root = self.tools.public_url.trim_end_matches('/');
        let text = format!("{root}{ISSUER_SERVICE_PATH}/status/{number}/{name}");
        Url::parse(&text).map_err(|error| internal(&error.to_string()))
    }

    /// A status list as a signed credential.
    ///
    /// # Errors
    /// 404 if there is no list of this number or name.
    pub fn list(&self, number: u32, name: &str) -> Result<String, Problem> {
        let known = LISTS.iter().find(|(_, _, known)| *known == name);
        let (kind, purpose, name) = *known.ok_or_else(|| Problem::not_found("status list", name))?;
        let next = self.tools.store.get::<u32>(Table::StatusLists, NEXT_INDEX)?.unwrap_or_default();
        if next / LIST_BITS < number {
            return Err(Problem::not_found("status list", &number.to_string()));
        }
        let row = self.tools.store.get::<ListRow>(Table::StatusLists, &list_key(number))?.unwrap_or_default();
        let mut list = StatusList::new(kind, purpose, 0);
        let indexes = match purpose {
            Purpose::Revocation => &row.revoked,
            Purpose::Suspension => &row.suspended,
        };
        for index in indexes {
            list.set(*index, Bit::Set).map_err(|error| internal(&error.to_string()))?;
        }
        let profile = match kind {
            StatusKind::Bitstring => Profile::Vc20,
            StatusKind::List2021 => Profile::Vc11,
        };
        let types: CredentialType = kind.credential_type().parse().map_err(|_| internal("a list has a type"))?;
        let (identity, now) = (&self.tools.identity, clock::now());
        let url = self.list_url(number, name)?;
        let draft = Draft {
            profile,
            id: url.as_str(),
            types: &[types],
            issuer: &identity.did,
            subject: &format!("{url}#list"),
            claims: list.to_json(),
            valid_from: now,
            valid_until: now.plus_millis(LIST_LIFETIME_MS),
            status: &[],
        };
        let contexts: &[&str] = match kind {
            StatusKind::Bitstring => &[],
            StatusKind::List2021 => &["https://w3id.org/vc/status-list/2021/v1"],
        };
        Ok(vc::issue_with(&identity.key, &identity.kid, &draft, contexts))
    }

    /// Takes a credential back for good: its bit in the list of revocations is set.
    ///
    /// # Errors
    /// 404 if it was not issued here, 409 if it is revoked.
    pub async fn revoke(&self, id: &str, reason: Option<String>) -> Result<Value, Problem> {
        self.change(id, Deed::Revoked, |row, list, index| {
            list.revoked.insert(index);
            row.revoked = Some(reason.unwrap_or_else(|| "revoked by the operator".to_owned()));
            Ok(())
        })
        .await
    }

    /// Suspends a credential until it is resumed: its bit in the list of suspensions is set.
    ///
    /// # Errors
    /// 404 if it was not issued here, 409 if it is revoked or suspended, or of a profile without suspension.
    pub async fn suspend(&self, id: &str, reason: Option<String>) -> Result<Value, Problem> {
        self.change(id, Deed::Suspended, |row, list, index| {
            if row.suspended.is_some() {
                return Err(Problem::conflict(format!("credential `{id}` is suspended")));
            }
            if row.profile != Profile::Vc20.name() || row.acts == 0 {
                let why = format!("credential `{id}` has no entry for suspension: it is of Data Model 1.1, or old");
                return Err(Problem::conflict(why).hint("revoke it, and issue another when it may count again"));
            }
            list.suspended.insert(index);
            row.suspended = Some(reason.unwrap_or_else(|| "suspended by the operator".to_owned()));
            Ok(())
        })
        .await
    }

    /// Ends the suspension of a credential.
    ///
    /// # Errors
    /// 404 if it was not issued here, 409 if it is revoked or not suspended.
    pub async fn resume(&self, id: &str) -> Result<Value, Problem> {
        self.change(id, Deed::Resumed, |row, list, index| {
            if row.suspended.take().is_none() {
                return Err(Problem::conflict(format!("credential `{id}` is not suspended")));
            }
            list.suspended.remove(&index);
            Ok(())
        })
        .await
    }

    async fn change(
        &self,
        id: &str,
        deed: Deed,
        change: impl FnOnce(&mut IssuedRow, &mut ListRow, u32) -> Result<(), Problem>,
    ) -> Result<Value, Problem> {
        let _turn = self.writing.lock().await;
        let row = self.tools.store.get::<IssuedRow>(Table::Issued, id)?;
        let mut row = row.ok_or_else(|| Problem::not_found("credential", id))?;
        if row.revoked.is_some() {
            return Err(Problem::conflict(format!("credential `{id}` is revoked")));
        }
        let key = list_key(row.index / LIST_BITS);
        let mut list = self.tools.store.get::<ListRow>(Table::StatusLists, &key)?.unwrap_or_default();
        let index = row.index % LIST_BITS;
        change(&mut row, &mut list, index)?;
        let mut batch = Batch::default();
        let saved = self.state(&mut batch, deed, id, &mut row)?;
        batch.put(Table::StatusLists, &key, &list)?;
        batch.put(Table::Issued, id, &row)?;
        self.commit(batch, &[saved]).await?;
        tracing::info!(credential = %id, holder = %row.holder, ?deed, "credential changed");
        Ok(shown_issued(id, &row, clock::now()))
    }
}

fn kind_of(profile: Profile) -> StatusKind {
    match profile {
        Profile::Vc20 => StatusKind::Bitstring,
        Profile::Vc11 => StatusKind::List2021,
    }
}

fn list_key(number: u32) -> String {
    format!("list-{number}")
}

fn internal(detail: &str) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
}
