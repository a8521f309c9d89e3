//! The spaces of this node: a caller must present the credentials that a space asks of its members, and is admitted to
//! the spaces whose credentials it presents.
//!
//! Fail closed: what cannot be fetched or verified refuses. What a caller was found to hold is remembered for a short
//! time, and never beyond the life of its credentials. What it presented is kept, so that a use under a contract, which
//! comes without a presentation, is judged by the same credentials as they are now.

mod fetch;
mod standing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_credentials::access::MAX_ACCESS_TOKEN_BYTES;
use shuyu_credentials::token::SKEW_MS;
use shuyu_credentials::verdict::{Carried, Good, Materials, Verdict, VerdictError, judge, open};
use shuyu_credentials::{Claims, CredentialType, Facts, Profile, Scope};
use shuyu_policy::Shown;
use shuyu_resolver::Http;
use shuyu_wire::dcp::{PresentationQuery, PresentationResponse};
use tokio::sync::Semaphore;

use self::fetch::Fetcher;
use crate::clock;
use crate::config::SpaceTerms;
use crate::identity::{CREDENTIAL_SERVICE, access_token};
use crate::locks::KeyedLocks;
use crate::management::chain;
use crate::peers::{PeerError, Peers};
use crate::store::{Batch, Store, StoreError, Table};

pub use standing::{Membership, Relied, SpaceNames, Standing, Viewer};

/// Most callers remembered; beyond that the memory starts anew.
const MAX_MEMORY: usize = 10_000;
/// Most rounds of fetching for one caller: documents, then lists and schemas, then the verdict.
const MAX_ROUNDS: usize = 4;
/// Most things fetched in one round.
const MAX_NEEDS: usize = 16;
/// Most credentials of one caller that are looked at.
const MAX_CARRIED: usize = 64;
/// Most bytes of credentials of one caller that are kept.
const MAX_CARRIED_BYTES: usize = 512 * 1024;
/// Most callers that are being asked or wait for it at once. Each holds a place among the requests served, so they must
/// be fewer than those.
const MAX_WAITING: usize = 256;
/// Most requests of one caller that wait for its own answer.
const MAX_WAITING_OF_ONE: usize = 32;
/// How long asking one caller may take, with everything that is fetched for it.
const ASK_TIME: Duration = Duration::from_secs(15);

/// Why a caller is not let in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// The token of the caller carries no access token.
    #[error("the token carries no access token (`token` claim) to the caller's credentials")]
    NoAccess,
    /// The access token is longer than a request may carry on.
    #[error("the access token is longer than {MAX_ACCESS_TOKEN_BYTES} bytes")]
    TooLong,
    /// The caller's credential service cannot be asked, or refuses.
    #[error("the caller's credential service: {0}")]
    Service(#[from] PeerError),
    /// It answered with something else than presentations.
    #[error("the caller's credential service answered badly: {0}")]
    Answer(String),
    /// The presentations do not satisfy.
    #[error("presentation refused: {0}")]
    Refused(String),
    /// What the caller presented before does not satisfy any more.
    #[error("credentials refused: {0}")]
    Lapsed(String),
    /// The caller has presented nothing so far.
    #[error("the consumer has not shown its credentials to this node")]
    NeverShown,
    /// Too many callers are being asked.
    #[error("too many callers are being asked for their credentials")]
    Busy,
    /// The caller's credential service or something it refers to is too slow.
    #[error("the caller's credentials could not be verified in {} s", ASK_TIME.as_secs())]
    TooSlow,
    /// Our store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AdmitError {
    /// The HTTP status for the caller: 401 without access token, 503 when trying again may help, 403 otherwise.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NoAccess | Self::TooLong => StatusCode::UNAUTHORIZED,
            Self::Service(error) if error.is_transient() => StatusCode::SERVICE_UNAVAILABLE,
            Self::Busy | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Service(_) | Self::Answer(_) | Self::Refused(_) | Self::Lapsed(_) | Self::NeverShown => {
                StatusCode::FORBIDDEN
            }
        }
    }
}

/// What a caller presented, as it is kept. Not `Debug`: credentials are what a thief would want.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CallerRow {
    /// Profile and JWT of each credential.
    carried: Vec<(String, String)>,
}

/// A caller as it is known in memory.
#[derive(Clone)]
struct Known {
    carried: Arc<[Carried]>,
    standing: Arc<Standing>,
}

/// The spaces of one node.
pub struct Spaces {
    own: Did,
    spaces: Vec<SpaceTerms>,
    peers: Arc<Peers>,
    store: Store,
    fetcher: Fetcher,
    /// How long a verdict is believed, in milliseconds.
    ttl_ms: i64,
    /// Callers by what they came with: DID and access token.
    memory: Mutex<HashMap<Digest, Arc<Standing>>>,
    /// The last that is known of each caller.
    known: Mutex<HashMap<Did, Known>>,
    asking: KeyedLocks,
    places: Semaphore,
    waiting: Mutex<HashMap<Did, usize>>,
}

impl Spaces {
    /// The spaces of `own`; verdicts and lists are believed for `ttl_ms`.
    pub fn new(own: Did, spaces: Vec<SpaceTerms>, peers: Arc<Peers>, http: Http, store: Store, ttl_ms: i64) -> Self {
        Self {
            own,
            spaces,
            fetcher: Fetcher::new(Arc::clone(&peers), http, ttl_ms),
            peers,
            store,
            ttl_ms,
            memory: Mutex::default(),
            known: Mutex::default(),
            asking: KeyedLocks::default(),
            places: Semaphore::new(MAX_WAITING),
            waiting: Mutex::default(),
        }
    }

    /// The names of the spaces.
    pub fn names(&self) -> SpaceNames {
        SpaceNames::new(self.spaces.iter().map(|space| space.name.clone()))
    }

    /// The DIDs whose credentials count in some space.
    pub fn issuers(&self) -> impl Iterator<Item = &Did> {
        self.spaces.iter().flat_map(SpaceTerms::issuers)
    }

    /// The types of credentials that count in some space.
    pub fn types(&self) -> BTreeSet<String> {
        let all = self.spaces.iter().flat_map(|space| &space.requirements);
        all.map(|requirement| requirement.kind.to_string()).collect()
    }

    /// Lets a caller in whose token was verified, or says why not. On a node of no space everyone is let in.
    ///
    /// # Errors
    /// [`AdmitError`].
    pub async fn admit(&self, claims: &Claims) -> Result<Viewer, AdmitError> {
        let caller = &claims.issuer;
        let viewer = |standing| Viewer { did: caller.clone(), standing };
        if self.spaces.is_empty() {
            return Ok(viewer(None));
        }
        let access = access_token(claims).ok_or(AdmitError::NoAccess)?;
        if MAX_ACCESS_TOKEN_BYTES < access.len() {
            return Err(AdmitError::TooLong);
        }
        let key = Digest::sha256(format!("{caller} {access}").as_bytes());
        if let Some(standing) = self.remembered(&key) {
            return Ok(viewer(Some(standing)));
        }
        let _place = self.places.try_acquire().map_err(|_| AdmitError::Busy)?;
        let _own_place = OwnPlace::take(&self.waiting, caller)?;
        // One question at a time for the same caller; the others find the answer.
        let _turn = self.asking.lock(caller.as_str()).await;
        if let Some(standing) = self.remembered(&key) {
            return Ok(viewer(Some(standing)));
        }
        let asked = tokio::time::timeout(ASK_TIME, self.ask(caller, access)).await;
        let known = asked.map_err(|_| AdmitError::TooSlow)??;
        self.keep(caller, &known.carried).await?;
        let standing = Arc::clone(&known.standing);
        insert(&self.known, caller.clone(), known);
        insert(&self.memory, key, Arc::clone(&standing));
        Ok(viewer(Some(standing)))
    }

    fn remembered(&self, key: &Digest) -> Option<Arc<Standing>> {
        let memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.get(key).filter(|standing| clock::now() < standing.until).cloned()
    }

    /// How a caller stands now by what it presented last, without asking it again.
    ///
    /// # Errors
    /// [`AdmitError`]; [`AdmitError::NeverShown`] if it has presented nothing.
    pub async fn standing_of(&self, caller: &Did) -> Result<Viewer, AdmitError> {
        let viewer = |standing| Viewer { did: caller.clone(), standing };
        if self.spaces.is_empty() {
            return Ok(viewer(None));
        }
        let fresh = || self.known(caller).filter(|known| clock::now() < known.standing.until);
        if let Some(known) = fresh() {
            return Ok(viewer(Some(known.standing)));
        }
        let _turn = self.asking.lock(caller.as_str()).await;
        if let Some(known) = fresh() {
            return Ok(viewer(Some(known.standing)));
        }
        let carried = match self.known(caller) {
            Some(known) => known.carried,
            None => self.kept(caller)?.ok_or(AdmitError::NeverShown)?,
        };
        let judged = tokio::time::timeout(ASK_TIME, self.judge_all(caller, &carried)).await;
        let standing = Arc::new(judged.map_err(|_| AdmitError::TooSlow)?.map_err(AdmitError::Lapsed)?);
        insert(&self.known, caller.clone(), Known { carried, standing: Arc::clone(&standing) });
        Ok(viewer(Some(standing)))
    }

    fn known(&self, caller: &Did) -> Option<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(caller).cloned()
    }

    fn kept(&self, caller: &Did) -> Result<Option<Arc<[Carried]>>, StoreError> {
        let row = self.store.get::<CallerRow>(Table::Callers, caller.as_str())?;
        let one = |(profile, jwt): (String, String)| Some(Carried { profile: Profile::from_name(&profile)?, jwt });
        Ok(row.map(|row| row.carried.into_iter().filter_map(one).collect()))
    }

    async fn keep(&self, caller: &Did, carried: &[Carried]) -> Result<(), StoreError> {
        let one = |one: &Carried| (one.profile.name().to_owned(), one.jwt.clone());
        let row = CallerRow { carried: carried.iter().map(one).collect() };
        let key = caller.as_str();
        if self.store.get::<CallerRow>(Table::Callers, key)?.is_some_and(|kept| kept == row) {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(Table::Callers, key, &row)?;
        self.store.commit(batch).await
    }

    /// Queries the caller's credential service and decides about the answers: one query for what each space requires, and
    /// one for each type that is accepted besides, because a holder may refuse a query for what it does not have.
    async fn ask(&self, caller: &Did, access: &str) -> Result<Known, AdmitError> {
        let endpoint = self.peers.service(caller, CREDENTIAL_SERVICE).await?;
        let url = format!("{}/presentations/query", endpoint.trim_end_matches('/'));
        let required: BTreeSet<BTreeSet<CredentialType>> = self.spaces.iter().map(SpaceTerms::required).collect();
        let asked: Vec<_> = required.iter().map(|types| self.query(caller, &url, access, types)).collect();
        let mut carried = BTreeSet::new();
        let (mut failed, mut answered) = (None, false);
        for answer in join_all(asked).await {
            match answer {
                Ok(more) => {
                    answered = true;
                    carried.extend(more);
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        if let (false, Some(error)) = (answered, failed) {
            return Err(error);
        }
        let known: BTreeSet<&CredentialType> = required.iter().flatten().collect();
        let accepted: BTreeSet<CredentialType> = self.spaces.iter().flat_map(SpaceTerms::accepted).collect();
        let wanted: Vec<_> =
            accepted.into_iter().filter(|kind| !known.contains(kind)).map(|kind| [kind].into()).collect();
        let asked = wanted.iter().map(|types| self.query(caller, &url, access, types));
        // Who cannot show them goes without.
        carried.extend(join_all(asked).await.into_iter().filter_map(Result::ok).flatten());
        let carried: Arc<[Carried]> = carried.into_iter().collect();
        let bytes: usize = carried.iter().map(|one| one.jwt.len()).sum();
        if MAX_CARRIED < carried.len() || MAX_CARRIED_BYTES < bytes {
            return Err(AdmitError::Refused("too many credentials were presented".to_owned()));
        }
        let judged = self.judge_all(caller, &carried).await;
        let standing = Arc::new(judged.map_err(AdmitError::Refused)?);
        Ok(Known { carried, standing })
    }

    async fn query(
        &self,
        caller: &Did,
        url: &str,
        access: &str,
        types: &BTreeSet<CredentialType>,
    ) -> Result<Vec<Carried>, AdmitError> {
        let scopes: BTreeSet<Scope> = types.iter().cloned().map(Scope::Type).collect();
        let query = PresentationQuery::encode(&scopes);
        let answer = self.peers.post_with(caller, url, &query, Some(access)).await?.body;
        let answer = PresentationResponse::decode(&answer).map_err(|error| AdmitError::Answer(error.to_string()))?;
        let holder = self.peers.document(caller).await?;
        let opened = match open(&answer.presentations, &holder, &self.own, clock::now()) {
            // A key may have changed since we looked: once more, with a fresh document.
            Err(error) if error.is_unknown_key() => {
                let holder = self.peers.fresh_document(caller).await?;
                open(&answer.presentations, &holder, &self.own, clock::now())
            }
            other => other,
        };
        opened.map_err(|error| AdmitError::Refused(chain(&error)))
    }

    /// Decides for every space. An error says why there is none that admits.
    async fn judge_all(&self, caller: &Did, carried: &[Carried]) -> Result<Standing, String> {
        let now = clock::now();
        let mut standing = Standing { memberships: BTreeMap::new(), until: now.plus_millis(self.ttl_ms) };
        let mut refused = Vec::new();
        for space in &self.spaces {
            let judged = match self.judge_one(space, caller, carried).await {
                // A key may have changed since we looked: once more, with fresh documents.
                Err(error) if error.is_unknown_key() => {
                    for issuer in space.issuers() {
                        // What cannot be had shows in the verdict.
                        let _ = self.peers.fresh_document(issuer).await;
                    }
                    self.judge_one(space, caller, carried).await
                }
                other => other,
            };
            match judged {
                Ok((good, seen)) => {
                    standing.until = standing.until.min(seen.plus_millis(self.ttl_ms));
                    let ends = good.until.map(|until| until.plus_millis(SKEW_MS));
                    standing.until = ends.map_or(standing.until, |ends| standing.until.min(ends));
                    standing.memberships.insert(space.name.clone(), membership(space, good));
                }
                Err(error) if self.spaces.len() == 1 => refused.push(chain(&error)),
                Err(error) => refused.push(format!("space `{}`: {}", space.name, chain(&error))),
            }
        }
        if standing.memberships.is_empty() { Err(refused.join("; ")) } else { Ok(standing) }
    }

    /// What is good in one space, and when the oldest thing was fetched that says so.
    async fn judge_one(
        &self,
        space: &SpaceTerms,
        caller: &Did,
        carried: &[Carried],
    ) -> Result<(Good, UnixMillis), VerdictError> {
        let mut materials = Materials::default();
        let mut seen = clock::now();
        for _ in 0..MAX_ROUNDS {
            match judge(carried, caller, clock::now(), &space.requirements, &materials)? {
                Verdict::Satisfied(good) => return Ok((good, seen)),
                Verdict::Needs(needs) if MAX_NEEDS < needs.len() => break,
                Verdict::Needs(needs) => {
                    seen = seen.min(self.fetcher.fetch(space, needs, &mut materials).await);
                }
            }
        }
        let reason = "its credentials need too much to be verified".to_owned();
        Err(VerdictError::Unavailable { what: caller.to_string(), reason })
    }
}

/// What good credentials say in a space: each under the types for which the space trusts its issuer.
fn membership(space: &SpaceTerms, good: Good) -> Membership {
    let mut facts = Facts::default();
    for credential in &good.credentials {
        facts.add(credential, |kind| {
            let trusts = |one: &shuyu_credentials::verdict::Requirement| {
                one.kind.as_str() == kind && one.issuers.contains(&credential.issuer)
            };
            space.requirements.iter().any(trusts)
        });
    }
    Membership { shown: Shown { types: facts.types, claims: facts.claims }, set_aside: good.set_aside }
}

/// Adds to a bounded memory.
fn insert<K: std::hash::Hash + Eq, V>(memory: &Mutex<HashMap<K, V>>, key: K, value: V) {
    let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
    if MAX_MEMORY <= memory.len() {
        memory.clear();
    }
    memory.insert(key, value);
}

/// A place among the requests of one caller that wait.
struct OwnPlace<'a> {
    waiting: &'a Mutex<HashMap<Did, usize>>,
    caller: Did,
}

impl<'a> OwnPlace<'a> {
    fn take(waiting: &'a Mutex<HashMap<Did, usize>>, caller: &Did) -> Result<Self, AdmitError> {
        let mut counts = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(caller.clone()).or_default();
        if MAX_WAITING_OF_ONE <= *count {
            return Err(AdmitError::Busy);
        }
        *count += 1;
        Ok(Self { waiting, caller: caller.clone() })
    }
}

impl Drop for OwnPlace<'_> {
    fn drop(&mut self) {
        let mut counts = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.caller) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.caller);
            }
        }
    }
}
