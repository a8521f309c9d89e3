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
use crate::schema::{Schema, SchemaError};
use crate::scope::CredentialType;
use crate::status::{StatusEntry, StatusError, StatusList};
use crate::vc::{self, Credential, CredentialError, ValidityError};
use crate::vp::{self, PresentationError};

/// Most presentations of one answer.
pub const MAX_PRESENTATIONS: usize = 8;

/// A type of credential that must be presented, and who may issue it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The type.
    pub kind: CredentialType,
    /// Its trusted issuers.
    pub issuers: BTreeSet<Did>,
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
    /// Every requirement is met, by these credentials.
    Satisfied(Vec<Credential>),
    /// Fetch these, put them into the materials and ask again.
    Needs(BTreeSet<Need>),
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
    #[error("presentation {position} mixes profiles")]
    Mixed {
        /// Its place, from 1.
        position: usize,
    },
    /// A credential that would count is not acceptable.
    #[error("credential is not acceptable")]
    Credential(#[source] CredentialError),
    /// A credential that would count is about someone else.
    #[error("credential is about `{found}`, not about its holder")]
    Subject {
        /// Its subject.
        found: Did,
    },
    /// A credential that would count is not valid now.
    #[error(transparent)]
    Validity(#[from] ValidityError),
    /// Its status cannot be read from the list.
    #[error("credential status cannot be known")]
    Status(#[source] StatusError),
    /// Its status list is not acceptable: forged, of another issuer, or outdated.
    #[error("status list `{url}` is not acceptable: {reason}")]
    List {
        /// Where it is.
        url: Url,
        /// What is wrong.
        reason: String,
    },
    /// It is revoked or suspended.
    #[error("credential has status `{purpose}`")]
    Revoked {
        /// `revocation` or `suspension`.
        purpose: &'static str,
    },
    /// It breaks its schema, or the schema is not one we can check.
    #[error("credential does not follow its schema `{url}`")]
    Schema {
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
    /// What must be presented.
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
    if MAX_PRESENTATIONS < presentations.len() {
        return Err(VerdictError::TooMany);
    }
    let mut round = Round { question, materials, needs: BTreeSet::new(), unreadable: None };
    let mut found = Vec::new();
    for (at, compact) in presentations.iter().enumerate() {
        let position = at + 1;
        let presented = vp::verify(compact, question.holder, question.audience, question.now)
            .map_err(|source| VerdictError::Presentation { position, source })?;
        for compact in &presented.credentials {
            let Some(credential) = round.credential(compact)? else { continue };
            if credential.profile != presented.profile {
                return Err(VerdictError::Mixed { position });
            }
            found.push(credential);
        }
    }
    if !round.needs.is_empty() {
        return Ok(Verdict::Needs(round.needs));
    }
    for Requirement { kind, issuers } in question.requirements {
        let meets = |credential: &Credential| credential.is_a(kind) && issuers.contains(&credential.issuer);
        if !found.iter().any(meets) {
            return Err(VerdictError::Missing { kind: kind.clone(), unreadable: round.unreadable });
        }
    }
    Ok(Verdict::Satisfied(found))
}

/// One pass over the credentials, collecting what is missing.
struct Round<'a> {
    question: &'a Question<'a>,
    materials: &'a Materials,
    needs: BTreeSet<Need>,
    unreadable: Option<CredentialError>,
}

impl<'a> Round<'a> {
    /// The credential if it counts and is known to be good; `None` if it does not count or something is missing.
    fn credential(&mut self, compact: &str) -> Result<Option<Credential>, VerdictError> {
        // What cannot even be read does not count; nor does what names an issuer nobody trusts for it.
        let claimed = match vc::peek(compact) {
            Ok(claimed) => claimed,
            Err(error) => {
                self.unreadable.get_or_insert(error);
                return Ok(None);
            }
        };
        let counts = |requirement: &Requirement| {
            claimed.types.contains(&requirement.kind) && requirement.issuers.contains(&claimed.issuer)
        };
        if !self.question.requirements.iter().any(counts) {
            return Ok(None);
        }
        let Some(document) = self.document(&claimed.issuer)? else { return Ok(None) };
        let credential = vc::verify(compact, document).map_err(VerdictError::Credential)?;
        if credential.subject != *self.question.holder.id() {
            return Err(VerdictError::Subject { found: credential.subject });
        }
        credential.check_time(self.question.now)?;
        let mut known = true;
        for entry in &credential.status {
            known &= self.status(entry, document)?;
        }
        for url in &credential.schemas {
            known &= self.schema(url, &credential)?;
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

    /// Whether the status is known; it is clear then.
    fn status(&mut self, entry: &StatusEntry, issuer: &DidDocument) -> Result<bool, VerdictError> {
        let compact = match self.materials.lists.get(&entry.list) {
            Some(Ok(compact)) => compact,
            Some(Err(reason)) => {
                return Err(VerdictError::Unavailable { what: entry.list.to_string(), reason: reason.clone() });
            }
            None => {
                self.needs.insert(Need::List(entry.list.clone()));
                return Ok(false);
            }
        };
        // Verified with the document of the credential's issuer: a list of anybody else does not pass.
        let bad = |reason: String| VerdictError::List { url: entry.list.clone(), reason };
        let (subject, window) = vc::verify_list(compact, issuer).map_err(|error| bad(error.to_string()))?;
        if !window.holds(self.question.now) {
            return Err(bad("it is not valid now".to_owned()));
        }
        let list = StatusList::parse(&subject).map_err(VerdictError::Status)?;
        if list.is_set(entry).map_err(VerdictError::Status)? {
            return Err(VerdictError::Revoked { purpose: entry.purpose.name() });
        }
        Ok(true)
    }

    fn schema(&mut self, url: &Url, credential: &Credential) -> Result<bool, VerdictError> {
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
        checked.map_err(|error| VerdictError::Schema { url: url.clone(), source: Box::new(error) })?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
