//! The decision about a set of presentations: pure, and explicit about what it still has to know.
//!
//! Whoever asks gives what was fetched so far in [`Materials`]. The answer is the credentials that satisfy the
//! requirements, a refusal, or what is to be fetched before asking again. Nothing is asked for on behalf of a credential
//! that would not count: its issuer must be trusted for a required type first, and its signature must hold before its
//! status list or schema is looked at. So a holder cannot choose what a verifier fetches.

use std::collections::{BTreeMap, BTreeSet};

use shuyu_base::{Did, UnixMillis};
use url::Url;

use crate::DidDocument;
use crate::jws::JwsError;
use crate::schema::{Schema, SchemaError};
use crate::scope::CredentialType;
use crate::status::{StatusEntry, StatusError, StatusList};
use crate::vc::{self, Credential, CredentialError, Profile, ValidityError, Window};
use crate::vp::{self, PresentationError};

/// Most presentations of one answer.
pub const MAX_PRESENTATIONS: usize = 8;

/// A type of credential that counts, and who may issue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The type.
    pub kind: CredentialType,
    /// Its trusted issuers.
    pub issuers: BTreeSet<Did>,
    /// Whether it must be presented.
    pub demand: Demand,
}

/// Whether a credential must be presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Without a good one the presentation does not satisfy, and a bad one refuses.
    Required,
    /// A good one counts; a bad one is set aside.
    Accepted,
}

/// A credential as it was presented by the holder; nothing of it was checked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Carried {
    /// How the presentation was written.
    pub profile: Profile,
    /// The credential as JWT.
    pub jwt: String,
}

impl std::fmt::Debug for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Carried").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// What was fetched, by where it is from. A failure to fetch is kept as its reason and refuses.
#[derive(Clone, Debug, Default)]
pub struct Materials {
    /// Documents of issuers.
    pub documents: BTreeMap<Did, Result<DidDocument, String>>,
    /// Credentials of status lists, as JWT.
    pub lists: BTreeMap<Url, Result<String, String>>,
    /// Schemas.
    pub schemas: BTreeMap<Url, Result<Vec<u8>, String>>,
}

/// Something that must be fetched before the decision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// The document of an issuer.
    Document(Did),
    /// The credential of a status list.
    List(Url),
    /// A schema.
    Schema(Url),
}

/// What a presentation comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Every requirement is met.
    Satisfied(Good),
    /// Fetch these, put them into the materials and ask again.
    Needs(BTreeSet<Need>),
}

/// What satisfies the requirements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Good {
    /// The credentials that count.
    pub credentials: Vec<Credential>,
    /// Until when at most, by the credentials and the status lists themselves; clocks may be apart. `None` if they do not end.
    pub until: Option<UnixMillis>,
    /// Why accepted credentials were set aside, a line each.
    pub set_aside: Vec<String>,
}

/// Why presentations do not satisfy the requirements.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// More than [`MAX_PRESENTATIONS`].
    #[error("more than {MAX_PRESENTATIONS} presentations")]
    TooMany,
    /// A presentation is not acceptable.
    #[error("presentation {position} is not acceptable")]
    Presentation {
        /// Its place, from 1.
        position: usize,
        /// Why.
        source: PresentationError,
    },
    /// A credential is not written as its presentation is.
    #[error("`{kind}` was presented in another profile than its own")]
    Mixed {
        /// Its type.
        kind: CredentialType,
    },
    /// A credential that would count is not acceptable.
    #[error("`{kind}` is not acceptable")]
    Credential {
        /// Its type.
        kind: CredentialType,
        /// Why.
        source: CredentialError,
    },
    /// A credential that would count is about someone else.
    #[error("`{kind}` is about `{found}`, not about its holder")]
    Subject {
        /// Its type.
        kind: CredentialType,
        /// Its subject.
        found: Did,
    },
    /// A credential that would count is not valid now.
    #[error("`{kind}`: {source}")]
    Validity {
        /// Its type.
        kind: CredentialType,
        /// Why.
        source: ValidityError,
    },
    /// Its status cannot be read from the list.
    #[error("the status of `{kind}` cannot be known")]
    Status {
        /// Its type.
        kind: CredentialType,
        /// Why.
        source: StatusError,
    },
    /// Its status list is not acceptable: forged, or of another issuer.
    #[error("status list `{url}` is not acceptable: {source}")]
    List {
        /// Where it is.
        url: Url,
        /// What is wrong.
        source: Box<CredentialError>,
    },
    /// Its status list has ended, or not begun.
    #[error("status list `{url}` is not acceptable: it is not valid now")]
    ListOutdated {
        /// Where it is.
        url: Url,
    },
    /// It is revoked or suspended.
    #[error("`{kind}` has status `{purpose}`")]
    Revoked {
        /// Its type.
        kind: CredentialType,
        /// `revocation` or `suspension`.
        purpose: &'static str,
    },
    /// It breaks its schema, or the schema is not one we can check.
    #[error("`{kind}` does not follow its schema `{url}`")]
    Schema {
        /// Its type.
        kind: CredentialType,
        /// Where the schema is.
        url: Url,
        /// Why.
        source: Box<SchemaError>,
    },
    /// Something that is needed cannot be had.
    #[error("`{what}` cannot be had: {reason}")]
    Unavailable {
        /// The DID or the address.
        what: String,
        /// Why.
        reason: String,
    },
    /// A required type is not among what was presented by a trusted issuer.
    #[error("no valid `{kind}` of a trusted issuer was presented{}", told(.unreadable.as_ref()))]
    Missing {
        /// The type.
        kind: CredentialType,
        /// Why the first credential that could not even be read could not.
        unreadable: Option<CredentialError>,
    },
}

/// The earlier of two ends, `None` being none.
fn earlier(a: Option<UnixMillis>, b: Option<UnixMillis>) -> Option<UnixMillis> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// An error with its causes, in one line.
fn told_whole(error: &VerdictError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

impl VerdictError {
    /// Whether a document does not have a key that was signed with: it may have changed since it was fetched.
    pub fn is_unknown_key(&self) -> bool {
        let of_credential =
            |error: &CredentialError| matches!(error, CredentialError::Jws(JwsError::UnknownKey { .. }));
        matches!(self, Self::Presentation { source: PresentationError::Jws(JwsError::UnknownKey { .. }), .. })
            || matches!(self, Self::Credential { source, .. } if of_credential(source))
            || matches!(self, Self::List { source, .. } if of_credential(source))
    }
}

fn told(unreadable: Option<&CredentialError>) -> String {
    unreadable.map(|error| format!("; one cannot be read: {error}")).unwrap_or_default()
}

/// Who presents to whom, when, and what for.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The holder's document.
    pub holder: &'a DidDocument,
    /// The verifier.
    pub audience: &'a Did,
    /// The present.
    pub now: UnixMillis,
    /// What counts.
    pub requirements: &'a [Requirement],
}

/// Decides about presentations (DCP 1.0, section 5.4.3).
///
/// # Errors
/// [`VerdictError`] is final for these presentations.
pub fn decide(
    presentations: &[String],
    question: &Question<'_>,
    materials: &Materials,
) -> Result<Verdict, VerdictError> {
    let carried = open(presentations, question.holder, question.audience, question.now)?;
    judge(&carried, question.holder.id(), question.now, question.requirements, materials)
}

/// Checks the presentations of a holder, and takes the credentials out of them.
///
/// # Errors
/// [`VerdictError::TooMany`] and [`VerdictError::Presentation`].
pub fn open(
    presentations: &[String],
    holder: &DidDocument,
    audience: &Did,
    now: UnixMillis,
) -> Result<Vec<Carried>, VerdictError> {
    if MAX_PRESENTATIONS < presentations.len() {
        return Err(VerdictError::TooMany);
    }
    let mut carried = Vec::new();
    for (at, compact) in presentations.iter().enumerate() {
        let presented = vp::verify(compact, holder, audience, now)
            .map_err(|source| VerdictError::Presentation { position: at + 1, source })?;
        let profile = presented.profile;
        carried.extend(presented.credentials.into_iter().map(|jwt| Carried { profile, jwt }));
    }
    Ok(carried)
}

/// Decides about credentials that `holder` presented before: they may have ended or been taken back since.
///
/// # Errors
/// [`VerdictError`] is final for these credentials at this time.
pub fn judge(
    carried: &[Carried],
    holder: &Did,
    now: UnixMillis,
    requirements: &[Requirement],
    materials: &Materials,
) -> Result<Verdict, VerdictError> {
    let mut round = Round {
        holder,
        now,
        requirements,
        materials,
        needs: BTreeSet::new(),
        unreadable: None,
        until: None,
        set_aside: Vec::new(),
    };
    let mut found = Vec::new();
    for one in carried {
        found.extend(round.credential(one)?);
    }
    if !round.needs.is_empty() {
        return Ok(Verdict::Needs(round.needs));
    }
    for Requirement { kind, issuers, .. } in requirements.iter().filter(|one| one.demand == Demand::Required) {
        let meets = |credential: &Credential| credential.is_a(kind) && issuers.contains(&credential.issuer);
        if !found.iter().any(meets) {
            return Err(VerdictError::Missing { kind: kind.clone(), unreadable: round.unreadable });
        }
    }
    Ok(Verdict::Satisfied(Good { credentials: found, until: round.until, set_aside: round.set_aside }))
}

/// One pass over the credentials, collecting what is missing.
struct Round<'a> {
    holder: &'a Did,
    now: UnixMillis,
    requirements: &'a [Requirement],
    materials: &'a Materials,
    needs: BTreeSet<Need>,
    unreadable: Option<CredentialError>,
    until: Option<UnixMillis>,
    set_aside: Vec<String>,
}

impl<'a> Round<'a> {
    /// The credential if it counts and is known to be good; `None` if it does not count or something is missing.
    fn credential(&mut self, carried: &Carried) -> Result<Option<Credential>, VerdictError> {
        // What cannot even be read does not count; nor does what names an issuer nobody trusts for it.
        let claimed = match vc::peek(&carried.jwt) {
            Ok(claimed) => claimed,
            Err(error) => {
                self.unreadable.get_or_insert(error);
                return Ok(None);
            }
        };
        let counts = |requirement: &&Requirement| {
            claimed.types.contains(&requirement.kind) && requirement.issuers.contains(&claimed.issuer)
        };
        let counting: Vec<&Requirement> = self.requirements.iter().filter(counts).collect();
        let Some(first) = counting.first() else { return Ok(None) };
        let is_required = counting.iter().any(|requirement| requirement.demand == Demand::Required);
        match self.checked(carried, &claimed.issuer, &first.kind) {
            Err(error) if !is_required => {
                self.set_aside.push(told_whole(&error));
                Ok(None)
            }
            checked => checked,
        }
    }

    fn checked(
        &mut self,
        carried: &Carried,
        issuer: &Did,
        kind: &CredentialType,
    ) -> Result<Option<Credential>, VerdictError> {
        let Some(document) = self.document(issuer)? else { return Ok(None) };
        let bad = |source| VerdictError::Credential { kind: kind.clone(), source };
        let credential = vc::verify(&carried.jwt, document).map_err(bad)?;
        if credential.profile != carried.profile {
            return Err(VerdictError::Mixed { kind: kind.clone() });
        }
        if credential.subject != *self.holder {
            return Err(VerdictError::Subject { kind: kind.clone(), found: credential.subject });
        }
        credential.check_time(self.now).map_err(|source| VerdictError::Validity { kind: kind.clone(), source })?;
        let mut known = true;
        let mut until = credential.valid_until;
        for entry in &credential.status {
            match self.status(entry, document, kind)? {
                Some(window) => until = earlier(until, window.until),
                None => known = false,
            }
        }
        for url in &credential.schemas {
            known &= self.schema(url, &credential, kind)?;
        }
        if known {
            self.until = earlier(self.until, until);
        }
        Ok(known.then_some(credential))
    }

    fn document(&mut self, did: &Did) -> Result<Option<&'a DidDocument>, VerdictError> {
        let materials = self.materials;
        match materials.documents.get(did) {
            Some(Ok(document)) => Ok(Some(document)),
            Some(Err(reason)) => Err(VerdictError::Unavailable { what: did.to_string(), reason: reason.clone() }),
            None => {
                self.needs.insert(Need::Document(did.clone()));
                Ok(None)
            }
        }
    }

    /// How long the list is valid that says the status is clear; `None` if the list is missing.
    fn status(
        &mut self,
        entry: &StatusEntry,
        issuer: &DidDocument,
        kind: &CredentialType,
    ) -> Result<Option<Window>, VerdictError> {
        let compact = match self.materials.lists.get(&entry.list) {
            Some(Ok(compact)) => compact,
            Some(Err(reason)) => {
                return Err(VerdictError::Unavailable { what: entry.list.to_string(), reason: reason.clone() });
            }
            None => {
                self.needs.insert(Need::List(entry.list.clone()));
                return Ok(None);
            }
        };
        // Verified with the document of the credential's issuer: a list of anybody else does not pass.
        let bad = |error| VerdictError::List { url: entry.list.clone(), source: Box::new(error) };
        let (subject, window) = vc::verify_list(compact, issuer).map_err(bad)?;
        if !window.holds(self.now) {
            return Err(VerdictError::ListOutdated { url: entry.list.clone() });
        }
        let unknown = |source| VerdictError::Status { kind: kind.clone(), source };
        let list = StatusList::parse(&subject).map_err(unknown)?;
        if list.is_set(entry).map_err(unknown)? {
            return Err(VerdictError::Revoked { kind: kind.clone(), purpose: entry.purpose.name() });
        }
        Ok(Some(window))
    }

    fn schema(&mut self, url: &Url, credential: &Credential, kind: &CredentialType) -> Result<bool, VerdictError> {
        let bytes = match self.materials.schemas.get(url) {
            Some(Ok(bytes)) => bytes,
            Some(Err(reason)) => {
                return Err(VerdictError::Unavailable { what: url.to_string(), reason: reason.clone() });
            }
            None => {
                self.needs.insert(Need::Schema(url.clone()));
                return Ok(false);
            }
        };
        let checked = Schema::parse(bytes).and_then(|schema| schema.check(&credential.subject_json()));
        let bad = |error| VerdictError::Schema { kind: kind.clone(), url: url.clone(), source: Box::new(error) };
        checked.map_err(bad)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
