//! The owner's credentials, the requests they came from, and offers that wait for the owner.
//!
//! A credential enters only for a request of the owner's own: sent to the issuer, made by accepting an offer, or arranged
//! with the issuer beforehand under an agreed id. The request stays open: its issuer may deliver again, which replaces
//! what it delivered before and is how credentials are renewed. One request gives room for one credential of each of its
//! types and profiles, so the owner decides how large the wallet can become.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use shuyu_base::{Did, Digest, UnixMillis};
use shuyu_credentials::vp::{MAX_CREDENTIALS, MAX_PRESENTATION_BYTES};
use shuyu_credentials::{Credential, CredentialError, CredentialType, JwsError, Profile, Scope, vc};
use shuyu_wire::dcp::{
    CredentialMessage, CredentialObject, CredentialOffer, CredentialRequest, IssuerMetadata, Outcome,
};
use tokio::sync::Mutex;

use crate::clock;
use crate::identity::ISSUER_SERVICE;
use crate::management::chain;
use crate::peers::{PeerError, Peers};
use crate::problem::Problem;
use crate::store::{Batch, Store, StoreError, Table};

/// Most requests that are not closed.
const MAX_REQUESTS: usize = 64;
/// Most credentials: each request has room for 32 types in two profiles.
const MAX_WALLET: usize = MAX_REQUESTS * MAX_CREDENTIALS * 2;
/// Most offers that wait for the owner, and most of one issuer.
const MAX_OFFERS: usize = 1024;
const MAX_OFFERS_OF_ONE: usize = 32;
/// Longest id that the owner may choose for a request, in bytes.
const MAX_PID_BYTES: usize = 128;

/// How a request stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RequestState {
    /// Arranged with the issuer; nothing was sent.
    Arranged,
    /// Sent and accepted by the issuer's service.
    Sent,
    /// The issuer delivered.
    Issued,
    /// The issuer refused.
    Rejected,
}

/// A request of the owner.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RequestRow {
    issuer: String,
    types: Vec<String>,
    state: RequestState,
    /// Where the issuer says how it stands.
    location: Option<String>,
    reason: Option<String>,
    created: String,
}

/// A credential of the owner. `Debug` is not derived: the JWT is what a thief would want.
#[derive(Clone, Serialize, Deserialize)]
struct CredentialRow {
    request: String,
    issuer: String,
    types: Vec<String>,
    profile: String,
    credential: Option<String>,
    claims: Map<String, Value>,
    valid_from_ms: i64,
    valid_until_ms: Option<i64>,
    received: String,
    jwt: String,
}

/// An offer that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct OfferRow {
    issuer: String,
    object: String,
    r#type: Option<String>,
    profile: Option<String>,
    reason: Option<String>,
    known_issuer: bool,
    received: String,
    received_ms: i64,
}

/// What the owner asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The issuer.
    pub issuer: String,
    /// Types; all that the issuer supports if empty.
    #[serde(default)]
    pub types: Vec<String>,
    /// Alias of the profile; the newest that the issuer supports for each type if absent.
    #[serde(default)]
    pub profile: Option<String>,
    /// Id of the request, for one that was arranged beforehand; nothing is sent then.
    #[serde(default)]
    pub arranged: Option<String>,
}

/// The wallet.
pub struct Wallet {
    own: Did,
    store: Store,
    peers: Arc<Peers>,
    /// Issuers that the space trusts; their offers are never displaced.
    trusted: BTreeSet<Did>,
    writing: Mutex<()>,
}

impl Wallet {
    /// The wallet of `own`.
    pub fn new(own: Did, store: Store, peers: Arc<Peers>, trusted: BTreeSet<Did>) -> Self {
        Self { own, store, peers, trusted, writing: Mutex::default() }
    }

    /// Asks an issuer for credentials, or notes a request that was arranged with it; returns the request.
    ///
    /// # Errors
    /// 400 for what is malformed, 422 if the issuer does not support it or refuses, 502 if it cannot be reached.
    pub async fn request(&self, wanted: Wanted) -> Result<Value, Problem> {
        let issuer: Did = wanted.issuer.parse().map_err(|error| Problem::invalid(format!("`issuer`: {error}")))?;
        let types = wanted.types.iter().map(|text| {
            text.parse::<CredentialType>().map_err(|error| Problem::invalid(format!("`types`: `{text}`: {error}")))
        });
        let types = types.collect::<Result<BTreeSet<_>, _>>()?;
        let profile = match &wanted.profile {
            Some(name) => Some(Profile::from_name(name).ok_or_else(|| {
                let known = Profile::ALL.map(Profile::name).join(", ");
                Problem::invalid(format!("`profile`: `{name}` is not one of {known}"))
            })?),
            None => None,
        };
        match wanted.arranged {
            Some(pid) => self.arrange(issuer, types, &pid).await,
            None => self.send(issuer, &Choice::Types { types, profile }).await,
        }
    }

    async fn arrange(&self, issuer: Did, types: BTreeSet<CredentialType>, pid: &str) -> Result<Value, Problem> {
        if types.is_empty() || MAX_CREDENTIALS < types.len() {
            return Err(Problem::invalid("`types`: an arranged request names 1 to 32 types"));
        }
        let plain = pid.bytes().all(|b| b.is_ascii_graphic());
        if pid.is_empty() || MAX_PID_BYTES < pid.len() || !plain {
            return Err(Problem::invalid("`arranged`: 1 to 128 printable ASCII characters without spaces"));
        }
        let row = new_row(&issuer, types.iter(), RequestState::Arranged);
        self.add(pid, &row).await?;
        Ok(shown_request(pid, &row))
    }

    /// Accepts an offer: asks its issuer for the credential, and forgets the offer.
    ///
    /// # Errors
    /// 404 if there is no such offer, and as [`Wallet::request`].
    pub async fn accept(&self, issuer: &str, object: &str) -> Result<Value, Problem> {
        let issuer: Did = issuer.parse().map_err(|error| Problem::invalid(format!("`issuer`: {error}")))?;
        let key = offer_key(&issuer, object);
        if self.store.get::<OfferRow>(Table::WalletOffers, &key)?.is_none() {
            return Err(Problem::not_found("offer", object));
        }
        let request = self.send(issuer, &Choice::Object(object.to_owned())).await?;
        self.remove(Table::WalletOffers, "offer", &key).await?;
        Ok(request)
    }

    async fn send(&self, issuer: Did, choice: &Choice) -> Result<Value, Problem> {
        let endpoint = self.peers.service(&issuer, ISSUER_SERVICE).await.map_err(|error| peer(&error))?;
        let root = endpoint.trim_end_matches('/');
        let metadata = self.peers.ask(&issuer, &format!("{root}/metadata")).await.map_err(|error| peer(&error))?;
        let metadata = IssuerMetadata::decode(&metadata)
            .map_err(|error| Problem::peer(format!("the issuer's metadata is malformed: {error}")))?;
        if metadata.issuer != issuer {
            return Err(Problem::peer(format!("the issuer's metadata is of `{}`", metadata.issuer)));
        }
        let objects = choice.of(&metadata.supported)?;
        let kinds = objects.iter().filter_map(|object| object.kind.as_ref());
        let pid = format!("urn:uuid:{}", uuid::Uuid::new_v4());
        let mut row = new_row(&issuer, kinds, RequestState::Sent);
        // Saved first: the delivery may come before the answer.
        self.add(&pid, &row).await?;
        let ids = objects.iter().map(|object| object.id.clone()).collect();
        let message = CredentialRequest { holder_pid: pid.clone(), credentials: ids }.encode();
        match self.peers.post_with(&issuer, &format!("{root}/credentials"), &message, None).await {
            Ok(answered) => row.location = answered.location,
            Err(error) if error.is_transient() => {
                self.close(&pid).await?;
                return Err(peer(&error));
            }
            Err(error) => {
                self.close(&pid).await?;
                return Err(Problem::refused(chain(&error), Vec::new()));
            }
        }
        let _turn = self.writing.lock().await;
        if let Some(mut saved) = self.store.get::<RequestRow>(Table::WalletRequests, &pid)? {
            saved.location.clone_from(&row.location);
            self.put(Table::WalletRequests, &pid, &saved).await?;
            row = saved;
        }
        Ok(shown_request(&pid, &row))
    }

    async fn add(&self, pid: &str, row: &RequestRow) -> Result<(), Problem> {
        let _turn = self.writing.lock().await;
        if self.store.get::<RequestRow>(Table::WalletRequests, pid)?.is_some() {
            return Err(Problem::conflict(format!("there is a request `{pid}` already")));
        }
        if MAX_REQUESTS <= self.store.list::<RequestRow>(Table::WalletRequests, None, MAX_REQUESTS)?.len() {
            return Err(Problem::conflict(format!("there are {MAX_REQUESTS} requests already")).hint("close old ones"));
        }
        Ok(self.put(Table::WalletRequests, pid, row).await?)
    }

    async fn put<T: Serialize>(&self, table: Table, key: &str, row: &T) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(table, key, row)?;
        self.store.commit(batch).await
    }

    /// Closes a request: its issuer can deliver nothing more for it. Credentials stay.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn close(&self, pid: &str) -> Result<(), Problem> {
        self.remove(Table::WalletRequests, "request", pid).await
    }

    /// Forgets a credential: it is presented to nobody any more.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn forget(&self, id: &str) -> Result<(), Problem> {
        self.remove(Table::Wallet, "credential", id).await
    }

    async fn remove(&self, table: Table, what: &str, key: &str) -> Result<(), Problem> {
        let _turn = self.writing.lock().await;
        if self.store.get::<Value>(table, key)?.is_none() {
            return Err(Problem::not_found(what, key));
        }
        let mut batch = Batch::default();
        batch.delete(table, key);
        Ok(self.store.commit(batch).await?)
    }

    /// Every request.
    ///
    /// # Errors
    /// When the store fails.
    pub fn requests(&self) -> Result<Vec<Value>, Problem> {
        let rows = self.store.list::<RequestRow>(Table::WalletRequests, None, MAX_REQUESTS)?;
        Ok(rows.iter().map(|(pid, row)| shown_request(pid, row)).collect())
    }

    /// Every credential, without its JWT.
    ///
    /// # Errors
    /// When the store fails.
    pub fn credentials(&self) -> Result<Vec<Value>, Problem> {
        let now = clock::now();
        let rows = self.store.list::<CredentialRow>(Table::Wallet, None, MAX_WALLET)?;
        Ok(rows.iter().map(|(id, row)| shown_credential(id, row, now)).collect())
    }

    /// One credential, without its JWT.
    ///
    /// # Errors
    /// 404 if there is none.
    pub fn credential(&self, id: &str) -> Result<Value, Problem> {
        let row = self.store.get::<CredentialRow>(Table::Wallet, id)?;
        let row = row.ok_or_else(|| Problem::not_found("credential", id))?;
        Ok(shown_credential(id, &row, clock::now()))
    }

    /// Takes a delivery of `issuer`, all of it or nothing.
    ///
    /// # Errors
    /// 404 if the issuer has no open request of that id, 400 if a credential is not what was asked for.
    pub async fn deliver(&self, issuer: &Did, message: CredentialMessage) -> Result<(), Problem> {
        let pid = message.holder_pid.ok_or_else(|| Problem::invalid("`holderPid` is missing"))?;
        let row = self.store.get::<RequestRow>(Table::WalletRequests, &pid)?;
        let row = row.filter(|row| row.issuer == issuer.as_str()).ok_or_else(|| Problem::not_found("request", &pid))?;
        let mut rows = Vec::new();
        let (state, reason) = match message.outcome {
            Outcome::Rejected(reason) => (RequestState::Rejected, reason),
            Outcome::Issued(containers) => {
                for (at, container) in containers.into_iter().enumerate() {
                    let bad = |why: String| Problem::invalid(format!("`credentials[{at}]`: {why}"));
                    if !row.types.iter().any(|kind| kind == container.kind.as_str()) {
                        return Err(bad(format!("`{}` was not asked for", container.kind)));
                    }
                    let credential = self.checked(issuer, &container.payload).await.map_err(bad)?;
                    if !credential.is_a(&container.kind) {
                        return Err(bad(format!("it is not of type `{}`", container.kind)));
                    }
                    rows.push(credential_row(&pid, &container.kind, credential, container.payload));
                }
                (RequestState::Issued, None)
            }
        };
        let _turn = self.writing.lock().await;
        // Closed in the meantime: nothing is written.
        let row = self.store.get::<RequestRow>(Table::WalletRequests, &pid)?;
        let mut row = row.ok_or_else(|| Problem::not_found("request", &pid))?;
        (row.state, row.reason) = (state, reason);
        let mut batch = Batch::default();
        for (id, credential) in rows {
            batch.put(Table::Wallet, &id, &credential)?;
        }
        batch.put(Table::WalletRequests, &pid, &row)?;
        self.store.commit(batch).await?;
        tracing::info!(%issuer, request = %pid, ?state, "credentials delivered");
        Ok(())
    }

    async fn checked(&self, issuer: &Did, jwt: &str) -> Result<Credential, String> {
        let document = self.peers.document(issuer).await.map_err(|error| chain(&error))?;
        let credential = match vc::verify(jwt, &document) {
            Err(CredentialError::Jws(JwsError::UnknownKey { .. })) => {
                let document = self.peers.fresh_document(issuer).await.map_err(|error| chain(&error))?;
                vc::verify(jwt, &document)
            }
            other => other,
        };
        let credential = credential.map_err(|error| chain(&error))?;
        if credential.subject != self.own {
            return Err(format!("it is about `{}`", credential.subject));
        }
        credential.check_time(clock::now()).map_err(|error| error.to_string())?;
        Ok(credential)
    }

    /// The credentials that were asked for and are allowed, valid now, by profile.
    ///
    /// # Errors
    /// When the store fails.
    pub fn presentable(
        &self,
        asked: &BTreeSet<Scope>,
        allowed: &BTreeSet<Scope>,
        now: UnixMillis,
    ) -> Result<Vec<(Profile, Vec<String>)>, Problem> {
        let mut found: Vec<(Profile, Vec<String>)> = Profile::ALL.map(|profile| (profile, Vec::new())).into();
        let rows = self.store.list::<CredentialRow>(Table::Wallet, None, MAX_WALLET)?;
        let good = rows.into_iter().map(|(_, row)| row).filter(|row| row.is_valid(now));
        for row in good.filter(|row| row.is_in(asked) && row.is_in(allowed)) {
            let Some((_, jwts)) = found.iter_mut().find(|(profile, _)| profile.name() == row.profile) else { continue };
            // What does not fit into a presentation is left out; base64 in base64 takes a third more room.
            let len_bytes: usize = jwts.iter().map(String::len).sum::<usize>() + row.jwt.len();
            if jwts.len() < MAX_CREDENTIALS && len_bytes < MAX_PRESENTATION_BYTES / 2 {
                jwts.push(row.jwt);
            }
        }
        found.retain(|(_, jwts)| !jwts.is_empty());
        Ok(found)
    }

    /// Keeps an offer for the owner to decide.
    ///
    /// # Errors
    /// 403 if it names another issuer than its sender, 429 if too many wait.
    pub async fn offered(&self, sender: &Did, offer: CredentialOffer) -> Result<(), Problem> {
        if offer.issuer != *sender {
            return Err(Problem::new(StatusCode::FORBIDDEN, "`issuer` is not who sent the offer"));
        }
        let _turn = self.writing.lock().await;
        let requests = self.store.list::<RequestRow>(Table::WalletRequests, None, MAX_REQUESTS)?;
        let known_issuer =
            self.trusted.contains(sender) || requests.iter().any(|(_, row)| row.issuer == sender.as_str());
        let rows = self.store.list::<OfferRow>(Table::WalletOffers, None, MAX_OFFERS)?;
        let mut batch = Batch::default();
        let now = clock::now();
        for object in &offer.credentials {
            let row = offer_row(sender, object, known_issuer, now);
            batch.put(Table::WalletOffers, &offer_key(sender, &object.id), &row)?;
        }
        // The oldest make room: first the sender's own, then those of issuers we have nothing to do with.
        let mut own: Vec<_> = rows.iter().filter(|(_, row)| row.issuer == sender.as_str()).collect();
        own.sort_by_key(|(_, row)| row.received_ms);
        let surplus = (own.len() + offer.credentials.len()).saturating_sub(MAX_OFFERS_OF_ONE);
        let mut dropped: Vec<&String> = own.iter().take(surplus).map(|(key, _)| key).collect();
        let mut strangers: Vec<_> = rows.iter().filter(|(_, row)| !row.known_issuer).collect();
        strangers.sort_by_key(|(_, row)| row.received_ms);
        let total = rows.len() + offer.credentials.len() - dropped.len().min(rows.len());
        let surplus = total.saturating_sub(MAX_OFFERS);
        dropped.extend(strangers.iter().take(surplus).map(|(key, _)| key));
        if strangers.len() < surplus {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many offers wait for the owner"));
        }
        let kept: BTreeSet<String> = offer.credentials.iter().map(|object| offer_key(sender, &object.id)).collect();
        for key in dropped.into_iter().filter(|key| !kept.contains(*key)) {
            batch.delete(Table::WalletOffers, key);
        }
        Ok(self.store.commit(batch).await?)
    }

    /// Offers that wait for the owner.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offers(&self) -> Result<Vec<Value>, Problem> {
        let rows = self.store.list::<OfferRow>(Table::WalletOffers, None, MAX_OFFERS)?;
        let shown = |(_, row): &(String, OfferRow)| {
            json!({
                "id": row.object, "issuer": row.issuer, "type": row.r#type, "profile": row.profile,
                "reason": row.reason, "received": row.received,
            })
        };
        Ok(rows.iter().map(shown).collect())
    }
}

impl CredentialRow {
    fn is_valid(&self, now: UnixMillis) -> bool {
        self.valid_from_ms <= now.0 && self.valid_until_ms.is_none_or(|until| now.0 < until)
    }

    fn is_in(&self, scopes: &BTreeSet<Scope>) -> bool {
        scopes.iter().any(|scope| match scope {
            Scope::Type(kind) => self.types.iter().any(|own| own == kind.as_str()),
            Scope::Id(id) => self.credential.as_ref() == Some(id),
        })
    }
}

/// Which of an issuer's objects are wanted.
enum Choice {
    /// One object of each type (of all types if none is named): of the profile, else the newest.
    Types { types: BTreeSet<CredentialType>, profile: Option<Profile> },
    /// The object of an id.
    Object(String),
}

impl Choice {
    fn of<'a>(&self, supported: &'a [CredentialObject]) -> Result<Vec<&'a CredentialObject>, Problem> {
        match self {
            Self::Types { types, profile } => chosen(supported, types, *profile),
            Self::Object(id) => {
                let found = supported.iter().find(|object| object.id == *id && object.kind.is_some());
                let refused = || Problem::refused(format!("the issuer does not support `{id}` any more"), Vec::new());
                found.map(|object| vec![object]).ok_or_else(refused)
            }
        }
    }
}

fn chosen<'a>(
    supported: &'a [CredentialObject],
    types: &BTreeSet<CredentialType>,
    profile: Option<Profile>,
) -> Result<Vec<&'a CredentialObject>, Problem> {
    let refused = |why: String| Problem::refused(why, Vec::new());
    let all: BTreeSet<CredentialType> = supported.iter().filter_map(|object| object.kind.clone()).collect();
    let wanted = if types.is_empty() { &all } else { types };
    if wanted.is_empty() {
        return Err(refused("the issuer supports no credential".to_owned()));
    }
    let profiles = profile.map_or_else(|| Profile::ALL.to_vec(), |profile| vec![profile]);
    let find = |kind: &CredentialType| {
        let of = |profile: &Profile| {
            let fits = |object: &&CredentialObject| {
                object.kind.as_ref() == Some(kind) && object.profile.as_deref() == Some(profile.name())
            };
            supported.iter().find(fits)
        };
        profiles
            .iter()
            .find_map(of)
            .ok_or_else(|| refused(format!("the issuer does not issue `{kind}` in such a profile")))
    };
    wanted.iter().map(find).collect()
}

fn new_row<'a>(issuer: &Did, types: impl Iterator<Item = &'a CredentialType>, state: RequestState) -> RequestRow {
    let types: BTreeSet<String> = types.map(CredentialType::to_string).collect();
    RequestRow {
        issuer: issuer.to_string(),
        types: types.into_iter().collect(),
        state,
        location: None,
        reason: None,
        created: clock::now().to_string(),
    }
}

/// The row of a credential and its key: the request, the type it was asked for as, and the profile.
fn credential_row(pid: &str, kind: &CredentialType, credential: Credential, jwt: String) -> (String, CredentialRow) {
    let name = format!("{} {pid} {kind} {}", credential.issuer, credential.profile.name());
    let id = Digest::sha256(name.as_bytes()).bytes().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let row = CredentialRow {
        request: pid.to_owned(),
        issuer: credential.issuer.to_string(),
        types: credential.types.iter().map(CredentialType::to_string).collect(),
        profile: credential.profile.name().to_owned(),
        credential: credential.id,
        claims: credential.claims,
        valid_from_ms: credential.valid_from.0,
        valid_until_ms: credential.valid_until.map(|until| until.0),
        received: clock::now().to_string(),
        jwt,
    };
    (id, row)
}

fn offer_key(issuer: &Did, object: &str) -> String {
    format!("{issuer} {object}")
}

fn offer_row(issuer: &Did, object: &CredentialObject, known_issuer: bool, now: UnixMillis) -> OfferRow {
    OfferRow {
        issuer: issuer.to_string(),
        object: object.id.clone(),
        r#type: object.kind.as_ref().map(CredentialType::to_string),
        profile: object.profile.clone(),
        reason: object.reason.clone(),
        known_issuer,
        received: now.to_string(),
        received_ms: now.0,
    }
}

fn shown_request(pid: &str, row: &RequestRow) -> Value {
    json!({
        "id": pid, "issuer": row.issuer, "types": row.types, "state": row.state, "location": row.location,
        "reason": row.reason, "created": row.created,
    })
}

fn shown_credential(id: &str, row: &CredentialRow, now: UnixMillis) -> Value {
    let state = if row.is_valid(now) { "valid" } else { "expired" };
    json!({
        "id": id, "issuer": row.issuer, "types": row.types, "profile": row.profile, "credential": row.credential,
        "claims": row.claims, "valid_from": UnixMillis(row.valid_from_ms).to_string(),
        "valid_until": row.valid_until_ms.map(|until| UnixMillis(until).to_string()), "received": row.received,
        "request": row.request, "state": state,
    })
}

fn peer(error: &PeerError) -> Problem {
    Problem::peer(chain(error))
}
