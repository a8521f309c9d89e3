//! The seam between the data plane and the node that owns contracts, counters and evidence.
//!
//! The data plane never decides whether data may move. It asks a [`Gate`], receives a [`Grant`] whose
//! [`Permit`] only the policy evaluation of a live agreement can build, and obeys it.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use shuyu_base::{Did, Digest};
use shuyu_policy::{Permit, terms::Action};
use tokio::sync::watch;
use url::Url;

/// Who is asking, as proved by a bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The participant.
    pub consumer: Did,
    /// The transfer process the token was issued for.
    pub transfer: String,
    /// The agreement the transfer stands on.
    pub agreement: String,
    /// What tickets are bound to: a digest of the consumer's key or of the transfer's secret, equal for
    /// every token of one holder and different between holders.
    pub holder: Digest,
}

/// The shape in which a result is delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Arrow Flight SQL stream.
    Flight,
    /// Parquet file.
    Parquet,
    /// CSV with a header line.
    Csv,
    /// Arrow IPC stream file.
    Arrow,
    /// JSON, one object a line.
    Json,
}

impl Form {
    /// The word used in URLs and policies.
    pub fn word(self) -> &'static str {
        match self {
            Self::Flight => "flight",
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Arrow => "arrow",
            Self::Json => "json",
        }
    }
}

/// The text names no form of delivery by file.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("format `{0}` is none of parquet, csv, arrow, json")]
pub struct ParseFormError(String);

impl FromStr for Form {
    type Err = ParseFormError;

    fn from_str(text: &str) -> Result<Self, ParseFormError> {
        [Self::Parquet, Self::Csv, Self::Arrow, Self::Json]
            .into_iter()
            .find(|form| form.word() == text)
            .ok_or_else(|| ParseFormError(text.chars().take(40).collect()))
    }
}

/// What a caller wants to do once.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The action on the target, in the policy's terms.
    pub action: Action,
    /// The purpose the caller states, if any.
    pub purpose: Option<String>,
    /// SHA-256 over the statement, its parameters and the form: the commitment evidence carries.
    pub query_digest: Digest,
    /// How the result leaves.
    pub form: Form,
}

/// How a table's files are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Apache Parquet.
    Parquet,
    /// CSV with a header line, comma separated, quoted with `"`.
    Csv,
    /// One JSON object a line.
    NdJson,
}

impl FromStr for Format {
    type Err = ParseFormError;

    fn from_str(text: &str) -> Result<Self, ParseFormError> {
        match text {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "json" | "ndjson" | "jsonl" => Ok(Self::NdJson),
            _ => Err(ParseFormError(text.chars().take(40).collect())),
        }
    }
}

/// Where a contract's table lies. It comes from the holder's own configuration, never from a request.
#[derive(Clone, Debug)]
pub struct TableSource {
    /// The table's name in SQL.
    pub name: String,
    /// A file or a directory (trailing `/`): `file:///…`, or a scheme with a store registered at
    /// [`crate::Engine::register_store`].
    pub location: Url,
    /// Encoding of every file at the location.
    pub format: Format,
    /// The columns as published. When absent, Parquet's own schema is used, and CSV or JSON are inferred
    /// from their first rows; since hidden rows then take part in the guess, holders pin the schema when
    /// they publish ([`crate::infer_schema`]).
    pub schema: Option<SchemaRef>,
}

/// Whether a use may go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamStanding {
    /// The agreement is alive.
    Live,
    /// The holder or the law ended it; the words are for people.
    Revoked(String),
    /// Its time is over.
    Expired,
}

/// Leave to read a table: what may be seen, where it is, and whether that still holds.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Proof that a live agreement allows this, with its data plan and limits.
    pub permit: Permit,
    /// The table.
    pub table: TableSource,
    /// Changes when the agreement does.
    pub standing: watch::Receiver<StreamStanding>,
    /// Names this use in counters, evidence and receipts. Empty from [`Gate::view`].
    pub use_id: String,
}

/// What left, told at the end of a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Rows that were spent for this use and never sent.
    pub unsent_rows: u64,
    /// Bytes that were spent for this use and never sent.
    pub unsent_bytes: u64,
    /// BLAKE3 of the result: of the file, or of the batches' digests in order.
    pub result: blake3::Hash,
    /// Whether the consumer was sent everything.
    pub complete: bool,
}

impl Outcome {
    /// Of a use whose end nobody saw: all that was spent counts as sent, and of the result nothing is known.
    pub fn cut_off() -> Self {
        Self { unsent_rows: 0, unsent_bytes: 0, result: blake3::hash(b""), complete: false }
    }
}

/// A signed statement of an [`Outcome`], compact JWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt(pub String);

/// Why a request was refused, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusedCode {
    /// No or bad credentials.
    Unauthenticated,
    /// The policy says no.
    Forbidden,
    /// A count, row or byte quota is used up.
    Quota,
    /// The agreement was revoked.
    Revoked,
    /// The agreement's or a ticket's time is over.
    Expired,
    /// Nothing of that name for this caller.
    NotFound,
    /// The request is not one this door takes.
    Invalid,
    /// The node cannot answer now.
    Unavailable,
}

impl RefusedCode {
    /// The word used on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Quota => "quota-used-up",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotFound => "not-found",
            Self::Invalid => "invalid-request",
            Self::Unavailable => "unavailable",
        }
    }

    /// HTTP status (RFC 9110).
    pub fn http_status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::Quota => 429,
            Self::Revoked | Self::Expired => 410,
            Self::NotFound => 404,
            Self::Invalid => 400,
            Self::Unavailable => 503,
        }
    }
}

/// A refusal with its explanation for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words}")]
pub struct Refused {
    /// The cause.
    pub code: RefusedCode,
    /// What was refused, and what would help.
    pub words: String,
}

impl Refused {
    /// A refusal of this cause.
    pub fn new(code: RefusedCode, words: impl fmt::Display) -> Self {
        Self { code, words: words.to_string() }
    }
}

/// The node's side of the seam.
///
/// Evidence comes before effect: `open` and `spend` return only when what they record is durable.
#[async_trait]
pub trait Gate: Send + Sync + 'static {
    /// Who holds this bearer token.
    async fn authenticate(&self, bearer: &str) -> Result<Caller, Refused>;

    /// Would [`Gate::open`] agree, and over which table. Spends nothing; used to plan and describe.
    async fn view(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused>;

    /// Decides, spends one count durably, records the decision durably.
    async fn open(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused>;

    /// Goes on with a use opened before, spending no count: the agreement must still allow it to this caller.
    async fn reopen(&self, caller: &Caller, use_id: &str) -> Result<Grant, Refused>;

    /// Reserves rows and bytes durably, before they leave.
    async fn spend(&self, use_id: &str, rows: u64, bytes: u64) -> Result<(), Refused>;

    /// Ends a use: gives back what was spent and never sent, records the rest as what left, and signs that.
    async fn finish(&self, use_id: &str, outcome: Outcome) -> Result<Receipt, Refused>;

    /// Signs a ticket's bytes with a key of this node.
    fn sign_ticket(&self, ticket: &[u8]) -> String;

    /// Whether this node signed these bytes.
    fn verify_ticket(&self, ticket: &[u8], signature: &str) -> bool;
}

/// A gate shared by the doors.
pub type SharedGate = Arc<dyn Gate>;
