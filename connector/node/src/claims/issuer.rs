//! The issuer of a space: what it issues, who asked for it, what was issued, and its status (DCP 1.0, chapter 6).
//!
//! A request is decided by the node (definition `auto`) or by the operator (`manual`). What was approved is signed once,
//! saved with its status entry, and delivered to the holder's credential service until that accepts or refuses it.

mod deliver;
mod evidence;
mod lists;
mod renew;
mod row;
pub mod server;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex as BriefMutex, PoisonError, Weak};

use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use shuyu_base::{Did, UnixMillis};
use shuyu_credentials::vc::{self, Draft};
use shuyu_credentials::{CredentialType, Profile};
use shuyu_wire::dcp::{CredentialObject, CredentialRequest, CredentialStatus, IssuerMetadata, RequestStatus};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;
use crate::evidence::Evidence;
use crate::identity::{CREDENTIAL_SERVICE, Identity};
use crate::peers::Peers;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};

use evidence::Deed;
pub use row::Definition;
use row::{Approval, Delivery, IssuedRow, Payload, RequestRow, RequestState, shown_issued, shown_request};

/// Most definitions; each appears once a profile in the metadata, which has room for 32.
const MAX_DEFINITIONS: usize = 16;
/// Most requests of one holder that are not decided.
const MAX_OPEN_OF_ONE: usize = 64;
/// Most requests of one holder in an hour, decided or not: each is a row, and a credential where the node decides.
const MAX_HOURLY_OF_ONE: usize = 60;
const HOUR_MS: i64 = 3_600_000;
/// Most holders whose requests are counted; beyond that the count starts anew.
const MAX_COUNTED: usize = 100_000;
/// Rows read at once.
const PAGE: usize = 1000;
/// Row in which the next free status index is kept.
const NEXT_INDEX: &str = "next";

/// Which page of a listing is wanted.
#[derive(Debug, Default, Deserialize)]
pub struct Paging {
    limit: Option<usize>,
    after: Option<String>,
}

/// What an issuer works with.
pub struct IssuerTools {
    /// Who issues.
    pub identity: Arc<Identity>,
    /// State.
    pub store: Store,
    /// Evidence of what is issued and taken back.
    pub evidence: Evidence,
    /// The way to holders.
    pub peers: Arc<Peers>,
    /// Work that outlives a request.
    pub tasks: TaskTracker,
    /// Set when the node stops.
    pub stopping: CancellationToken,
    /// Root of the public socket.
    pub public_url: String,
}

/// The issuer.
pub struct Issuer {
    tools: IssuerTools,
    /// Requests, indexes and lists change one at a time.
    writing: Mutex<()>,
    /// Requests that are not decided, by holder.
    waiting: BriefMutex<HashMap<String, usize>>,
    /// Requests of this hour, by holder, and when the hour began.
    hourly: BriefMutex<(UnixMillis, HashMap<Did, usize>)>,
    /// When credentials are to be renewed.
    due: BriefMutex<BTreeSet<(UnixMillis, String)>>,
    /// Told when one was added.
    new_due: Notify,
    this: Weak<Self>,
}

impl Issuer {
    /// An issuer; [`Issuer::recover`] takes up what an earlier run left.
    pub fn new(tools: IssuerTools) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            tools,
            writing: Mutex::default(),
            waiting: BriefMutex::default(),
            hourly: BriefMutex::new((UnixMillis(0), HashMap::new())),
            due: BriefMutex::default(),
            new_due: Notify::new(),
            this: Weak::clone(this),
        })
    }

    /// Hands every row of a table to `each`, a page at a time.
    fn rows<T: DeserializeOwned>(&self, table: Table, mut each: impl FnMut(String, T)) -> Result<(), Problem> {
        let mut after: Option<String> = None;
        loop {
            let page = self.tools.store.list::<T>(table, after.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            page.into_iter().for_each(|(key, row)| each(key, row));
        }
    }

    /// One page of a table for the operator: at most `limit` rows after the key `after`, and where the next page starts.
    fn page<T: DeserializeOwned>(
        &self,
        table: Table,
        paging: &Paging,
        shown: impl Fn(&str, &T) -> Value,
    ) -> Result<Value, Problem> {
        let limit = paging.limit.unwrap_or(100).clamp(1, PAGE);
        let rows = self.tools.store.list::<T>(table, paging.after.as_deref(), limit + 1)?;
        let next = (limit < rows.len()).then(|| rows.get(limit - 1).map(|(key, _)| key.clone())).flatten();
        let items: Vec<Value> = rows.iter().take(limit).map(|(key, row)| shown(key, row)).collect();
        Ok(json!({ "items": items, "next": next }))
    }

    fn count_hourly(&self, holder: &Did) -> Result<(), Problem> {
        let now = clock::now();
        let mut hourly = self.hourly.lock().unwrap_or_else(PoisonError::into_inner);
        if HOUR_MS <= now.since(hourly.0) || MAX_COUNTED <= hourly.1.len() {
            *hourly = (now, HashMap::new());
        }
        let count = hourly.1.entry(holder.clone()).or_default();
        *count += 1;
        if MAX_HOURLY_OF_ONE < *count {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "you ask too often; try again in an hour"));
        }
        Ok(())
    }

    fn count_waiting(&self, holder: &str, change: impl FnOnce(&mut usize)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(holder.to_owned()).or_default();
        change(count);
        if *count == 0 {
            waiting.remove(holder);
        }
    }

    fn note_due(&self, id: &str, row: &IssuedRow) {
        if let Some(at) = row.due() {
            self.due.lock().unwrap_or_else(PoisonError::into_inner).insert((at, id.to_owned()));
            self.new_due.notify_one();
        }
    }

    /// The metadata: one object a definition and profile.
    ///
    /// # Errors
    /// When the store fails.
    pub fn metadata(&self) -> Result<IssuerMetadata, Problem> {
        let mut supported = Vec::new();
        for (id, definition) in self.definitions()? {
            for profile in Profile::ALL {
                supported.push(object(&id, &definition, profile, None)?);
            }
        }
        Ok(IssuerMetadata { issuer: self.tools.identity.did.clone(), supported })
    }

    fn definitions(&self) -> Result<Vec<(String, Definition)>, Problem> {
        Ok(self.tools.store.list(Table::IssuerTypes, None, MAX_DEFINITIONS)?)
    }

    /// The definitions, for the operator.
    ///
    /// # Errors
    /// When the store fails.
    pub fn shown_definitions(&self) -> Result<Vec<Value>, Problem> {
        Ok(self.definitions()?.iter().map(|(id, definition)| definition.shown(id)).collect())
    }

    /// Adds or replaces a definition.
    ///
    /// # Errors
    /// 400 naming the field, 409 if there are too many.
    pub async fn define(&self, id: &str, definition: Definition) -> Result<Value, Problem> {
        definition.check(id)?;
        let known = self.definitions()?;
        if MAX_DEFINITIONS <= known.len() && !known.iter().any(|(other, _)| other == id) {
            return Err(Problem::conflict(format!("there are {MAX_DEFINITIONS} definitions already")));
        }
        let mut batch = Batch::default();
        batch.put(Table::IssuerTypes, id, &definition)?;
        self.tools.store.commit(batch).await?;
        Ok(definition.shown(id))
    }

    /// Removes a definition; what was issued stays valid.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn undefine(&self, id: &str) -> Result<(), Problem> {
        if self.tools.store.get::<Definition>(Table::IssuerTypes, id)?.is_none() {
            return Err(Problem::not_found("definition", id));
        }
        let mut batch = Batch::default();
        batch.delete(Table::IssuerTypes, id);
        Ok(self.tools.store.commit(batch).await?)
    }

    /// Takes a request and returns its process id. `access` is the holder's token for the delivery.
    ///
    /// # Errors
    /// 400 for an id that the metadata does not have and for a holder that nothing could be delivered to, 429 if the
    /// holder asks too often or too many of its requests wait.
    pub async fn requested(
        &self,
        holder: &Did,
        request: CredentialRequest,
        access: Option<&str>,
    ) -> Result<String, Problem> {
        let document = self.tools.peers.document(holder).await.map_err(|error| Problem::peer(error.to_string()))?;
        if document.service(CREDENTIAL_SERVICE).is_none() {
            return Err(Problem::invalid(format!("your DID document has no service of type `{CREDENTIAL_SERVICE}`")));
        }
        self.count_hourly(holder)?;
        let mut automatic = true;
        for (at, id) in request.credentials.iter().enumerate() {
            let unknown = || Problem::invalid(format!("`credentials[{at}].id`: nothing is issued under `{id}`"));
            let (_, definition, _) = self.found(id)?.ok_or_else(unknown)?;
            automatic &= definition.approval == Approval::Auto;
        }
        let turn = self.writing.lock().await;
        let waiting = {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.get(holder.as_str()).copied().unwrap_or_default()
        };
        if MAX_OPEN_OF_ONE <= waiting {
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many of your requests wait for the operator"));
        }
        let pid = uuid::Uuid::new_v4().to_string();
        let row = RequestRow {
            holder: holder.to_string(),
            holder_pid: request.holder_pid,
            objects: request.credentials,
            state: RequestState::Received,
            reason: None,
            created: clock::now().to_string(),
            access: access.map(str::to_owned),
            payloads: Vec::new(),
            delivery: Delivery::default(),
        };
        self.save(&pid, &row).await?;
        self.count_waiting(&row.holder, |count| *count += 1);
        drop(turn);
        tracing::info!(%holder, request = %pid, automatic, "credentials requested");
        if automatic {
            self.approve(&pid, &Map::new()).await?;
        }
        Ok(pid)
    }

    async fn save(&self, pid: &str, row: &RequestRow) -> Result<(), Problem> {
        let mut batch = Batch::default();
        batch.put(Table::IssuerRequests, pid, row)?;
        Ok(self.tools.store.commit(batch).await?)
    }

    fn row(&self, pid: &str) -> Result<RequestRow, Problem> {
        let row = self.tools.store.get::<RequestRow>(Table::IssuerRequests, pid)?;
        row.ok_or_else(|| Problem::not_found("request", pid))
    }

    /// A page of the requests, for the operator.
    ///
    /// # Errors
    /// When the store fails.
    pub fn shown_requests(&self, paging: &Paging) -> Result<Value, Problem> {
        self.page(Table::IssuerRequests, paging, shown_request)
    }

    /// How a request stands, for the holder who made it.
    ///
    /// # Errors
    /// 404 for anybody else.
    pub fn status(&self, holder: &Did, pid: &str) -> Result<CredentialStatus, Problem> {
        let row = self.row(pid)?;
        if row.holder != holder.as_str() {
            return Err(Problem::not_found("request", pid));
        }
        let status = match row.state {
            RequestState::Received | RequestState::Approved => RequestStatus::Received,
            RequestState::Issued => RequestStatus::Issued,
            RequestState::Rejected => RequestStatus::Rejected,
        };
        Ok(CredentialStatus { issuer_pid: pid.to_owned(), holder_pid: row.holder_pid, status })
    }

    /// Signs what a request asks for and delivers it. `claims` are added to those of the definition.
    ///
    /// # Errors
    /// 404 if there is no such request, 409 if it is decided.
    pub async fn approve(&self, pid: &str, claims: &Map<String, Value>) -> Result<Value, Problem> {
        if claims.contains_key("id") {
            return Err(Problem::invalid("`claims.id`: the subject is the holder"));
        }
        let _turn = self.writing.lock().await;
        let mut row = self.row(pid)?;
        if row.state != RequestState::Received {
            return Err(Problem::conflict(format!("request `{pid}` is decided")));
        }
        let mut batch = Batch::default();
        let mut index = self.tools.store.get::<u32>(Table::StatusLists, NEXT_INDEX)?.unwrap_or_default();
        let (mut signed, mut saved) = (Vec::new(), Vec::new());
        for id in row.objects.clone() {
            let gone = || Problem::conflict(format!("nothing is issued under `{id}` any more"));
            let (name, definition, profile) = self.found(&id)?.ok_or_else(gone)?;
            let (credential, mut issued, jwt) = self.sign(&row, pid, &definition, (&name, profile), claims, index)?;
            saved.push(self.state(&mut batch, Deed::Issued, &credential, &mut issued)?);
            batch.put(Table::Issued, &credential, &issued)?;
            row.payloads.push(Payload { r#type: definition.r#type.clone(), profile: profile.name().to_owned(), jwt });
            index = index.saturating_add(1);
            signed.push((credential, issued));
        }
        row.state = RequestState::Approved;
        batch.put(Table::StatusLists, NEXT_INDEX, &index)?;
        batch.put(Table::IssuerRequests, pid, &row)?;
        self.commit(batch, &saved).await?;
        self.count_waiting(&row.holder, |count| *count = count.saturating_sub(1));
        signed.iter().for_each(|(id, issued)| self.note_due(id, issued));
        self.start_delivery(pid);
        Ok(shown_request(pid, &row))
    }

    /// Refuses a request; the holder is told.
    ///
    /// # Errors
    /// 404 if there is no such request, 409 if it is decided.
    pub async fn reject(&self, pid: &str, reason: Option<String>) -> Result<Value, Problem> {
        let _turn = self.writing.lock().await;
        let mut row = self.row(pid)?;
        if row.state != RequestState::Received {
            return Err(Problem::conflict(format!("request `{pid}` is decided")));
        }
        row.state = RequestState::Rejected;
        row.reason = reason;
        self.save(pid, &row).await?;
        self.count_waiting(&row.holder, |count| *count = count.saturating_sub(1));
        self.start_delivery(pid);
        Ok(shown_request(pid, &row))
    }

    fn sign(
        &self,
        row: &RequestRow,
        pid: &str,
        definition: &Definition,
        (name, profile): (&str, Profile),
        claims: &Map<String, Value>,
        index: u32,
    ) -> Result<(String, IssuedRow, String), Problem> {
        let identity = &self.tools.identity;
        let now = clock::now();
        let until = now.plus_millis(definition.validity_ms());
        let id = format!("urn:uuid:{}", uuid::Uuid::new_v4());
        let kind: CredentialType = definition.kind()?;
        let mut subject = definition.claims.clone();
        subject.extend(claims.clone());
        let entries = self.entries(profile, index)?;
        let draft = Draft {
            profile,
            id: &id,
            types: std::slice::from_ref(&kind),
            issuer: &identity.did,
            subject: &row.holder,
            claims: subject.clone(),
            valid_from: now,
            valid_until: until,
            status: &entries,
        };
        let jwt = vc::issue(&identity.key, &identity.kid, &draft);
        let issued = IssuedRow {
            definition: name.to_owned(),
            r#type: definition.r#type.clone(),
            profile: profile.name().to_owned(),
            holder: row.holder.clone(),
            request: pid.to_owned(),
            claims: subject,
            index,
            issued_ms: now.0,
            valid_until_ms: until.0,
            revoked: None,
            suspended: None,
            renewed_by: None,
            acts: 0,
        };
        Ok((id, issued, jwt))
    }

    /// A page of the credentials that were issued, for the operator; without their JWTs.
    ///
    /// # Errors
    /// When the store fails.
    pub fn issued(&self, paging: &Paging) -> Result<Value, Problem> {
        let now = clock::now();
        self.page(Table::Issued, paging, |id, row: &IssuedRow| shown_issued(id, row, now))
    }

    /// The definition and profile of an id of the metadata.
    fn found(&self, id: &str) -> Result<Option<(String, Definition, Profile)>, Problem> {
        let Some((name, short)) = id.rsplit_once('.') else { return Ok(None) };
        let Some(profile) = Profile::ALL.into_iter().find(|profile| short_name(*profile) == short) else {
            return Ok(None);
        };
        let definition = self.tools.store.get::<Definition>(Table::IssuerTypes, name)?;
        Ok(definition.map(|definition| (name.to_owned(), definition, profile)))
    }
}

fn object(
    id: &str,
    definition: &Definition,
    profile: Profile,
    reason: Option<&str>,
) -> Result<CredentialObject, Problem> {
    Ok(CredentialObject {
        id: format!("{id}.{}", short_name(profile)),
        kind: Some(definition.kind()?),
        profile: Some(profile.name().to_owned()),
        binding_methods: vec!["did:web".to_owned()],
        schema: None,
        reason: Some(reason.unwrap_or("issuance").to_owned()),
    })
}

fn short_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Vc20 => "vc20",
        Profile::Vc11 => "vc11",
    }
}

/// An answer that names what is listed.
pub fn listed(items: Vec<Value>) -> Value {
    json!({ "items": items, "next": null })
}
