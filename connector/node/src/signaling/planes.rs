//! Foreign data planes: who they are, and the calls to them.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{UnixMillis, json};
use shuyu_resolver::{Http, Response};
use shuyu_wire::signaling::{FlowStatus, MAX_ID_BYTES, MAX_LABELS, MAX_SECRET_BYTES, MAX_URL_BYTES};
use tokio::sync::Mutex as AsyncMutex;
use url::Url;

use crate::clock;
use crate::exchange::handover::Format;
use crate::exchange::kinds::path_segment;
use crate::problem::Problem;
use crate::store::{Batch, Store, Table};

/// Most data planes of a node.
const MAX_DATA_PLANES: usize = 256;
/// Largest answer of a data plane, in bytes: a data address with its properties.
const MAX_ANSWER_BYTES: usize = 1 << 20;
/// Longest wait for an answer; one that needs longer answers 202 and calls back.
const CALL_TIME: Duration = Duration::from_secs(10);
/// A token is not used when it has less than this left, in milliseconds.
const RENEW_BEFORE_MS: i64 = 30_000;
/// Life of a token whose issuer does not say, in seconds.
const DEFAULT_LIFE_S: i64 = 60;

/// How this node proves itself to a data plane.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Authorization {
    /// Not at all; the network between is trusted.
    None,
    /// By a fixed token.
    Bearer {
        /// The token.
        token: String,
    },
    /// By tokens of an OAuth 2.0 server (section "OAuth 2 Client Credentials Grant").
    #[serde(rename = "oauth2_client_credentials")]
    ClientCredentials {
        /// Where tokens are had.
        token_endpoint: String,
        /// Who asks.
        client_id: String,
        /// The secret.
        client_secret: String,
    },
}

impl Authorization {
    /// The name of the profile.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Bearer { .. } => "bearer",
            Self::ClientCredentials { .. } => "oauth2_client_credentials",
        }
    }
}

/// A foreign data plane.
#[derive(Clone, Serialize, Deserialize)]
pub struct DataPlane {
    /// Identifier; its own calls come with an API key of this name.
    pub id: String,
    /// Root of its signaling endpoint.
    pub endpoint: String,
    /// Transfer profiles it serves.
    pub profiles: Vec<String>,
    /// Labels.
    pub labels: Vec<String>,
    /// How we prove ourselves.
    pub authorization: Authorization,
    /// When it was registered last.
    pub registered: String,
}

impl std::fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataPlane").field("id", &self.id).field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What a call came to.
#[derive(Debug)]
pub enum Told {
    /// Done, and how the flow stands now if it said so.
    Done(Option<FlowStatus>),
    /// It will tell later (202).
    Later(FlowStatus),
    /// It knows no such flow (404).
    Unknown,
    /// It understood and refuses; the words are for people.
    Refused(String),
    /// No definite answer; the words are for people.
    Failed(String),
}

/// The foreign data planes of a node.
pub struct DataPlanes {
    store: Store,
    http: Http,
    /// Tokens by data plane, and when they end.
    tokens: Mutex<HashMap<String, (String, UnixMillis)>>,
    changing: AsyncMutex<()>,
}

impl DataPlanes {
    /// Over the node's store and its guarded client.
    pub fn new(store: Store, http: Http) -> Self {
        Self { store, http, tokens: Mutex::default(), changing: AsyncMutex::default() }
    }

    /// Registers a data plane, or replaces what was registered of it.
    ///
    /// # Errors
    /// 400 naming the field; 409 if there are [`MAX_DATA_PLANES`].
    pub async fn put(&self, mut plane: DataPlane) -> Result<DataPlane, Problem> {
        let bad = |field: &str, reason: &str| Problem::invalid(format!("`{field}`: {reason}"));
        if !(1..=64).contains(&plane.id.len()) || !plane.id.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(bad("dataplaneId", "must be 1 to 64 visible ASCII characters, as its API key is named by it"));
        }
        self.check_url("endpoint", &plane.endpoint)?;
        if !(1..=MAX_LABELS).contains(&plane.profiles.len()) {
            return Err(bad("profiles", "must have 1 to 64 entries"));
        }
        if plane.profiles.iter().any(|name| Format::from_name(name).is_none()) {
            return Err(bad("profiles", "each is FlightSql, HttpData-PULL or a URI of at most 256 bytes"));
        }
        if MAX_LABELS < plane.labels.len() || plane.labels.iter().any(|label| MAX_ID_BYTES < label.len()) {
            return Err(bad("labels", "at most 64 texts of at most 512 bytes"));
        }
        let secret_fits = |secret: &String| (1..=MAX_SECRET_BYTES).contains(&secret.len());
        match &plane.authorization {
            Authorization::None => {}
            Authorization::Bearer { token } if secret_fits(token) => {}
            Authorization::ClientCredentials { token_endpoint, client_id, client_secret }
                if secret_fits(client_id) && secret_fits(client_secret) =>
            {
                self.check_url("authorization.tokenEndpoint", token_endpoint)?;
            }
            Authorization::Bearer { .. } | Authorization::ClientCredentials { .. } => {
                return Err(bad("authorization", "secrets have 1 to 4096 bytes"));
            }
        }
        plane.registered = clock::now().to_string();
        let _guard = self.changing.lock().await;
        if self.find(&plane.id)?.is_none() && MAX_DATA_PLANES <= self.list()?.len() {
            return Err(Problem::conflict(format!("there are {MAX_DATA_PLANES} data planes, the most this node has")));
        }
        let mut batch = Batch::default();
        batch.put(Table::DataPlanes, &plane.id, &plane)?;
        self.store.commit(batch).await?;
        self.forget_token(&plane.id);
        Ok(plane)
    }

    fn check_url(&self, field: &str, url: &str) -> Result<Url, Problem> {
        let bad = |reason: String| Problem::invalid(format!("`{field}`: {reason}"));
        let parsed = Url::parse(url).map_err(|error| bad(error.to_string()))?;
        let is_bare = parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        if !is_bare || MAX_URL_BYTES < url.len() {
            return Err(bad("must have no user name, query or fragment, and at most 2048 bytes".to_owned()));
        }
        self.http.guard().check_url(&parsed).map_err(|refusal| bad(refusal.to_string()))?;
        Ok(parsed)
    }

    /// Every data plane.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<DataPlane>, Problem> {
        let rows = self.store.list::<DataPlane>(Table::DataPlanes, None, MAX_DATA_PLANES)?;
        Ok(rows.into_iter().map(|(_, plane)| plane).collect())
    }

    /// The data plane of this id, if there is one.
    ///
    /// # Errors
    /// When the store fails.
    pub fn find(&self, id: &str) -> Result<Option<DataPlane>, Problem> {
        Ok(self.store.get(Table::DataPlanes, id)?)
    }

    /// Removes a data plane. What it still serves can no longer be told to stop, so its flows are to be ended first.
    ///
    /// # Errors
    /// 404.
    pub async fn remove(&self, id: &str) -> Result<(), Problem> {
        let _guard = self.changing.lock().await;
        self.find(id)?.ok_or_else(|| Problem::not_found("data plane", id))?;
        let mut batch = Batch::default();
        batch.delete(Table::DataPlanes, id);
        self.forget_token(id);
        Ok(self.store.commit(batch).await?)
    }

    /// Posts `body` to `dataflows/{path}`.
    pub async fn post(&self, plane: &DataPlane, path: &[&str], body: Value) -> Told {
        self.timed(self.call(plane, path, Some(body))).await
    }

    /// Asks how a flow stands.
    pub async fn status(&self, plane: &DataPlane, flow: &str) -> Told {
        self.timed(self.call(plane, &[flow, "status"], None)).await
    }

    async fn timed(&self, call: impl Future<Output = Result<Told, String>>) -> Told {
        match tokio::time::timeout(CALL_TIME, call).await {
            Ok(Ok(told)) => told,
            Ok(Err(reason)) => Told::Failed(reason),
            Err(_) => Told::Failed(format!("no answer in {} seconds", CALL_TIME.as_secs())),
        }
    }

    async fn call(&self, plane: &DataPlane, path: &[&str], body: Option<Value>) -> Result<Told, String> {
        let path: Vec<String> = path.iter().map(|segment| path_segment(segment)).collect();
        let url = format!("{}/dataflows/{}", plane.endpoint.trim_end_matches('/'), path.join("/"));
        let url = Url::parse(&url).map_err(|error| error.to_string())?;
        let bearer = self.token(plane).await?;
        let answer = match &body {
            Some(body) => self.http.post_json(&url, body, bearer.as_deref(), MAX_ANSWER_BYTES).await,
            None => self.http.get(&url, "application/json", bearer.as_deref(), MAX_ANSWER_BYTES).await,
        };
        let answer = answer.map_err(|error| crate::management::chain(&error))?;
        if answer.status == 401 {
            self.forget_token(&plane.id);
        }
        read(&answer)
    }

    /// The token to present, if any.
    async fn token(&self, plane: &DataPlane) -> Result<Option<String>, String> {
        let (endpoint, id, secret) = match &plane.authorization {
            Authorization::None => return Ok(None),
            Authorization::Bearer { token } => return Ok(Some(token.clone())),
            Authorization::ClientCredentials { token_endpoint, client_id, client_secret } => {
                (token_endpoint, client_id, client_secret)
            }
        };
        let known = self.tokens.lock().unwrap_or_else(PoisonError::into_inner).get(&plane.id).cloned();
        if let Some((token, ends)) = known
            && clock::now().plus_millis(RENEW_BEFORE_MS) < ends
        {
            return Ok(Some(token));
        }
        let url = Url::parse(endpoint).map_err(|error| error.to_string())?;
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", id)
            .append_pair("client_secret", secret)
            .append_pair("audience", &plane.id)
            .finish();
        let headers = [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")];
        let answer = self.http.post_bytes(&url, &headers, form.into_bytes(), MAX_ANSWER_BYTES).await;
        let answer = answer.map_err(|error| crate::management::chain(&error))?;
        let no_token = || format!("the token endpoint answered {} without a token", answer.status);
        let value = json::parse(&answer.body, MAX_ANSWER_BYTES).map_err(|_| no_token())?;
        let token = value.get("access_token").and_then(Value::as_str).filter(|_| answer.is_success());
        let token = token.ok_or_else(no_token)?.to_owned();
        let life_s = value.get("expires_in").and_then(Value::as_i64).unwrap_or(DEFAULT_LIFE_S).clamp(0, 86_400);
        let ends = clock::now().plus_millis(life_s * 1000);
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).insert(plane.id.clone(), (token.clone(), ends));
        Ok(Some(token))
    }

    fn forget_token(&self, plane: &str) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).remove(plane);
    }
}

/// What an answer says. A success whose body is not a status says only that the signal was taken.
fn read(answer: &Response) -> Result<Told, String> {
    let body = || json::parse(&answer.body, MAX_ANSWER_BYTES).map_err(|error| error.to_string());
    let status = || body().and_then(|body| FlowStatus::decode(&body).map_err(|error| error.to_string()));
    match answer.status {
        202 => status().map(Told::Later),
        200..=299 if answer.body.trim_ascii().is_empty() => Ok(Told::Done(None)),
        200..=299 => {
            let body = body()?;
            // An acknowledgement without a body of its own may be `{}`.
            let is_status = body.get("state").is_some() || body.get("dataFlowId").is_some();
            let decode = || FlowStatus::decode(&body).map(Some).map_err(|error| error.to_string());
            Ok(Told::Done(if is_status { decode()? } else { None }))
        }
        404 => Ok(Told::Unknown),
        408 | 425 | 429 => Err(format!("it answered {}", answer.status)),
        // A token that has ended is fetched again.
        401 => Err("it answered 401: it does not accept what we present".to_owned()),
        status @ 400..=499 => Ok(Told::Refused(format!("it answered {status}: {}", said(&answer.body)))),
        status => Err(format!("it answered {status}")),
    }
}

/// The beginning of what a data plane says in words.
fn said(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(200).collect()
}
