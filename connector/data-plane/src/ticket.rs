//! Tickets: what a client shows at `DoGet`. Signed by the node, bound to a holder, soon over.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use shuyu_base::{Digest, UnixMillis};

use crate::gate::{Caller, Gate, Refused, RefusedCode};

/// How long a ticket is good for, in milliseconds.
pub const TICKET_LIFETIME_MS: i64 = 5 * 60 * 1000;

/// Longest ticket: a statement and its parameters, each in base64.
pub const MAX_TICKET_BYTES: usize = 512 * 1024;

/// Most bytes of parameters, Arrow IPC.
pub(crate) const MAX_PARAMETER_BYTES: usize = 64 * 1024;

/// Why bytes are no good ticket.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TicketError {
    /// Longer than [`MAX_TICKET_BYTES`] or not of the form `payload.signature`.
    #[error("ticket is malformed")]
    Malformed,
    /// This node did not sign these bytes.
    #[error("ticket was altered or comes from another node")]
    BadSignature,
    /// Its time is over.
    #[error("ticket has expired; ask for a new one")]
    Expired,
    /// It was issued to someone else.
    #[error("ticket was issued to another holder")]
    OtherHolder,
}

impl From<TicketError> for Refused {
    fn from(error: TicketError) -> Self {
        let code = match error {
            TicketError::Malformed => RefusedCode::Invalid,
            TicketError::BadSignature | TicketError::Expired => RefusedCode::Unauthenticated,
            TicketError::OtherHolder => RefusedCode::Forbidden,
        };
        Self::new(code, error)
    }
}

/// What a ticket says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The statement.
    pub sql: String,
    /// Its parameters as an Arrow IPC stream; empty without.
    pub parameters: Vec<u8>,
    /// The purpose stated when the ticket was asked for.
    pub purpose: Option<String>,
    /// The transfer process.
    pub transfer: String,
    /// The agreement.
    pub agreement: String,
    /// [`Caller::holder`], as text.
    pub holder: String,
    /// BLAKE3 of the answer's columns when the ticket was issued; other columns at `DoGet` refuse it. It covers only
    /// what is visible, since a fingerprint of the files would tell of hidden rows.
    pub columns: String,
    /// Random; makes tickets distinct and names the stream for cancellation.
    pub nonce: String,
    /// End of validity.
    pub expires_at: UnixMillis,
    /// Whether this is a prepared statement's handle and not yet a ticket.
    pub prepared: bool,
}

/// The JSON inside, version 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TicketV1 {
    v: u8,
    sql: String,
    parameters: String,
    purpose: Option<String>,
    transfer: String,
    agreement: String,
    holder: String,
    columns: String,
    nonce: String,
    expires_ms: i64,
    prepared: bool,
}

/// A digest as text, the form in which tickets hold it.
pub(crate) fn holder_text(holder: &Digest) -> String {
    holder.to_string()
}

impl Ticket {
    /// The text given to the client.
    pub fn seal(&self, gate: &dyn Gate) -> String {
        let dto = TicketV1 {
            v: 1,
            sql: self.sql.clone(),
            parameters: URL_SAFE_NO_PAD.encode(&self.parameters),
            purpose: self.purpose.clone(),
            transfer: self.transfer.clone(),
            agreement: self.agreement.clone(),
            holder: self.holder.clone(),
            columns: self.columns.clone(),
            nonce: self.nonce.clone(),
            expires_ms: self.expires_at.0,
            prepared: self.prepared,
        };
        // A struct of strings and numbers always has a JSON form.
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&dto).unwrap_or_default());
        let signature = gate.sign_ticket(payload.as_bytes());
        format!("{payload}.{signature}")
    }

    /// Reads a ticket back and checks signature, time and holder, in this order.
    ///
    /// # Errors
    /// [`TicketError`]; a ticket that was altered in any byte is [`TicketError::BadSignature`] or malformed.
    pub fn open(bytes: &[u8], gate: &dyn Gate, caller: &Caller, now: UnixMillis) -> Result<Self, TicketError> {
        if bytes.len() > MAX_TICKET_BYTES {
            return Err(TicketError::Malformed);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| TicketError::Malformed)?;
        let (payload, signature) = text.split_once('.').ok_or(TicketError::Malformed)?;
        if !gate.verify_ticket(payload.as_bytes(), signature) {
            return Err(TicketError::BadSignature);
        }
        let payload = URL_SAFE_NO_PAD.decode(payload).map_err(|_| TicketError::Malformed)?;
        let dto: TicketV1 = serde_json::from_slice(&payload).map_err(|_| TicketError::Malformed)?;
        if dto.v != 1 {
            return Err(TicketError::Malformed);
        }
        if now.0 > dto.expires_ms {
            return Err(TicketError::Expired);
        }
        let is_theirs = dto.holder == holder_text(&caller.holder)
            && dto.transfer == caller.transfer
            && dto.agreement == caller.agreement;
        if !is_theirs {
            return Err(TicketError::OtherHolder);
        }
        Ok(Self {
            sql: dto.sql,
            parameters: URL_SAFE_NO_PAD.decode(dto.parameters).map_err(|_| TicketError::Malformed)?,
            purpose: dto.purpose,
            transfer: dto.transfer,
            agreement: dto.agreement,
            holder: dto.holder,
            columns: dto.columns,
            nonce: dto.nonce,
            expires_at: UnixMillis(dto.expires_ms),
            prepared: dto.prepared,
        })
    }
}
