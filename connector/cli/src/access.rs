//! How a transfer's data is reached: addresses, token, refusals, receipts.

use std::time::Duration;

use reqwest::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::api::{self, path};
use crate::context::Globals;
use crate::failure::{Failure, Kind, Outcome, chain};
use crate::{tls, transfer};

/// Most bytes read of a refusal.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// What the own node says about reaching a transfer's data.
#[derive(Debug, Clone, Deserialize)]
pub struct Access {
    /// Where Flight SQL is spoken, if it is.
    #[serde(default)]
    pub flight_endpoint: Option<String>,
    /// Where downloads are, if they are.
    #[serde(default)]
    pub http_endpoint: Option<String>,
    /// Token for either.
    pub bearer: String,
    /// Name of the table in SQL.
    #[serde(default)]
    pub table: Option<String>,
}

/// The access of a transfer; the node renews the token when it is about to expire.
///
/// # Errors
/// Exit code 2 if the transfer is not open (any more): suspended, ended, or its contract revoked.
pub async fn of(globals: &Globals, transfer: &str) -> Outcome<Access> {
    let answer = globals.api()?.get(&path(transfer::COLLECTION, transfer, "access")).await.map_err(|failure| {
        // 409: not in this state (see the node's `Problem::conflict`).
        if failure.status == Some(409) { Failure { kind: Kind::Refused, ..failure } } else { failure }
    })?;
    serde_json::from_value(answer.value)
        .map_err(|error| Failure::failed(format_args!("the node's answer about the transfer's access: {error}")))
}

/// A client for a provider's public addresses; `silence` is the longest wait for the next byte.
pub fn http(globals: &Globals, silence: Duration) -> Outcome<reqwest::Client> {
    let failed = |error: reqwest::Error| Failure::failed(chain(&error));
    let mut client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(silence);
    if let Some(pem) = tls::extra_roots(globals)? {
        client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(&pem).map_err(failed)?);
    }
    client.build().map_err(failed)
}

/// A provider's refusal over HTTP (RFC 9457): the contract's limits exit 2, a bad request 3.
pub async fn refusal(status: StatusCode, mut response: Response) -> Failure {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if MAX_REFUSAL_BYTES < body.len() {
            break;
        }
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    by_contract(status, &body)
}

fn by_contract(status: StatusCode, body: &Value) -> Failure {
    let failure = api::problem(status, body);
    match status {
        // Quota used up (429) and contract at its end (410) are refusals of the contract.
        StatusCode::TOO_MANY_REQUESTS | StatusCode::GONE => Failure { kind: Kind::Refused, ..failure }
            .hint("`shuyu contract show ID` shows the terms and what was used"),
        _ => failure,
    }
}

/// Gives the provider's receipt to the own node, which checks it and keeps it as evidence.
pub async fn keep_receipt(globals: &Globals, receipt: &str) -> Outcome {
    globals.api()?.post("v1/receipts", &json!({"receipt": receipt.trim()})).await?;
    globals.detail(format_args!("the provider's receipt is in our ledger"));
    Ok(())
}
