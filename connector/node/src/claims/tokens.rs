//! The token endpoint for the owner's own programs (DCP 1.0, section 4.3.2.1: the OAuth 2.0 client credentials grant).
//!
//! It listens on the management socket, beside the API and without its key: a program gets tokens with its own secret and
//! nothing else. Secrets are made here, shown once and kept as their hash.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shuyu_base::{Did, Digest};
use shuyu_credentials::Scope;
use shuyu_credentials::access::MAX_SCOPES;

use crate::clock;
use crate::identity::Identity;
use crate::init::random;
use crate::problem::Problem;
use crate::store::{Batch, Store, StoreError, Table};

/// Largest request, in bytes.
const MAX_FORM_BYTES: usize = 16 * 1024;
/// Most clients.
const MAX_CLIENTS: usize = 256;
/// Longest client id, in bytes.
const MAX_ID_BYTES: usize = 64;
/// `expires_in` of the answer: the life of a self-issued token, in seconds.
const EXPIRES_IN_S: i64 = 120;

/// A program that may fetch tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Client {
    /// SHA-256 of its secret, in hex. The secret is 32 random bytes, so a plain hash cannot be guessed backwards.
    secret_sha256: String,
    /// When it was added.
    created: String,
}

/// Clients and what they get.
pub struct TokenDesk {
    identity: Arc<Identity>,
    store: Store,
}

impl TokenDesk {
    /// Tokens of `identity`.
    pub fn new(identity: Arc<Identity>, store: Store) -> Self {
        Self { identity, store }
    }

    /// Adds a client and returns its secret, which is not kept.
    ///
    /// # Errors
    /// 400 for a bad id, 409 if it is taken or there are too many.
    pub async fn add(&self, id: &str) -> Result<String, Problem> {
        let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if id.is_empty() || MAX_ID_BYTES < id.len() || !plain {
            return Err(Problem::invalid("`id`: 1 to 64 letters, digits, `-`, `_` and `.`"));
        }
        if self.store.get::<Client>(Table::TokenClients, id)?.is_some() {
            return Err(Problem::conflict(format!("there is a client `{id}` already")));
        }
        if MAX_CLIENTS <= self.store.list::<Client>(Table::TokenClients, None, MAX_CLIENTS)?.len() {
            return Err(Problem::conflict(format!("there are {MAX_CLIENTS} clients already")));
        }
        let bytes =
            random::<32>().map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let client = Client { secret_sha256: hash(&secret), created: clock::now().to_string() };
        let mut batch = Batch::default();
        batch.put(Table::TokenClients, id, &client)?;
        self.store.commit(batch).await?;
        Ok(secret)
    }

    /// Ids of the clients and when they were added.
    ///
    /// # Errors
    /// When the store fails.
    pub fn list(&self) -> Result<Vec<(String, String)>, StoreError> {
        let rows = self.store.list::<Client>(Table::TokenClients, None, MAX_CLIENTS)?;
        Ok(rows.into_iter().map(|(id, client)| (id, client.created)).collect())
    }

    /// Removes a client; the tokens it has go on until they expire.
    ///
    /// # Errors
    /// 404 if there is none.
    pub async fn remove(&self, id: &str) -> Result<(), Problem> {
        if self.store.get::<Client>(Table::TokenClients, id)?.is_none() {
            return Err(Problem::not_found("client", id));
        }
        let mut batch = Batch::default();
        batch.delete(Table::TokenClients, id);
        Ok(self.store.commit(batch).await?)
    }

    fn knows(&self, id: &str, secret: &str) -> Result<bool, StoreError> {
        let client = self.store.get::<Client>(Table::TokenClients, id)?;
        // Hashes are compared: how long that takes tells nothing of the secret.
        Ok(client.is_some_and(|client| client.secret_sha256 == hash(secret)))
    }

    fn token(&self, form: &[u8]) -> Result<String, Refused> {
        let mut wish = Wish::default();
        for (name, value) in url::form_urlencoded::parse(form) {
            let field = match name.as_ref() {
                "grant_type" => &mut wish.grant,
                "client_id" => &mut wish.id,
                "client_secret" => &mut wish.secret,
                "audience" => &mut wish.audience,
                "bearer_access_scope" => &mut wish.scope,
                // RFC 6749, section 3.2: parameters that are not known are ignored.
                _ => continue,
            };
            if field.replace(value.into_owned()).is_some() {
                return Err(Refused::Request("a parameter appears twice"));
            }
        }
        if wish.grant.as_deref() != Some("client_credentials") {
            return Err(Refused::Grant);
        }
        let (Some(id), Some(secret)) = (wish.id, wish.secret) else { return Err(Refused::Client) };
        if !self.knows(&id, &secret).map_err(|_| Refused::Server)? {
            return Err(Refused::Client);
        }
        let audience: Did = wish.audience.as_deref().and_then(|text| text.parse().ok()).ok_or(Refused::Audience)?;
        let now = clock::now();
        let access = match wish.scope {
            Some(text) => Some(self.identity.grant(&audience, scopes(&text)?, now)),
            None => None,
        };
        self.identity.token_with(&audience, now, access.as_deref()).map_err(|_| Refused::Audience)
    }
}

#[derive(Default)]
struct Wish {
    grant: Option<String>,
    id: Option<String>,
    secret: Option<String>,
    audience: Option<String>,
    scope: Option<String>,
}

/// Scopes between spaces, at least one.
fn scopes(text: &str) -> Result<BTreeSet<Scope>, Refused> {
    let scopes: Result<BTreeSet<Scope>, _> = text.split_ascii_whitespace().map(str::parse).collect();
    scopes.ok().filter(|scopes| (1..=MAX_SCOPES).contains(&scopes.len())).ok_or(Refused::Scope)
}

fn hash(secret: &str) -> String {
    Digest::sha256(secret.as_bytes()).bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Errors in the words of RFC 6749, section 5.2.
#[derive(Clone, Copy)]
enum Refused {
    Grant,
    Client,
    Audience,
    Scope,
    Request(&'static str),
    Server,
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let (status, error, description) = match self {
            Self::Grant => {
                (StatusCode::BAD_REQUEST, "unsupported_grant_type", "`grant_type` is not client_credentials")
            }
            Self::Client => (StatusCode::UNAUTHORIZED, "invalid_client", "`client_id` or `client_secret` is wrong"),
            Self::Audience => (StatusCode::BAD_REQUEST, "invalid_request", "`audience` is not a DID"),
            Self::Scope => (StatusCode::BAD_REQUEST, "invalid_scope", "`bearer_access_scope` is not a list of scopes"),
            Self::Request(description) => (StatusCode::BAD_REQUEST, "invalid_request", description),
            Self::Server => (StatusCode::INTERNAL_SERVER_ERROR, "server_error", "the store failed"),
        };
        (status, Json(json!({"error": error, "error_description": description}))).into_response()
    }
}

/// The endpoint, `/sts/token`.
pub fn router(desk: Arc<TokenDesk>) -> Router {
    Router::new().route("/sts/token", post(token)).layer(DefaultBodyLimit::max(MAX_FORM_BYTES)).with_state(desk)
}

async fn token(State(desk): State<Arc<TokenDesk>>, form: Bytes) -> Result<Response, Refused> {
    let token = desk.token(&form)?;
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": EXPIRES_IN_S});
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
