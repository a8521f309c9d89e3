//! Counts what leaves and reserves it durably beforehand; tells when a use must stop.

use std::time::Duration;

use shuyu_base::UnixMillis;
use tokio::sync::watch;

use crate::{
    clock,
    gate::{Grant, Outcome, Receipt, Refused, RefusedCode, SharedGate, StreamStanding},
};

/// Most rows reserved ahead of what has left.
const MAX_AHEAD_ROWS: u64 = 65_536;

/// Most bytes reserved ahead of what has left.
const MAX_AHEAD_BYTES: u64 = 16 << 20;

/// Rows and bytes of one use.
pub(crate) struct Meter {
    gate: SharedGate,
    use_id: String,
    sent_rows: u64,
    sent_bytes: u64,
    left_rows: u64,
    left_bytes: u64,
}

impl Meter {
    pub(crate) fn new(gate: SharedGate, use_id: &str) -> Self {
        Self { gate, use_id: use_id.to_owned(), sent_rows: 0, sent_bytes: 0, left_rows: 0, left_bytes: 0 }
    }

    /// Rows counted so far.
    pub(crate) fn rows(&self) -> u64 {
        self.sent_rows
    }

    /// Bytes counted so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Counts what is about to leave. Reservations grow with what has left, so that small answers reserve little;
    /// near the end of a quota exactly what is needed is asked for.
    pub(crate) async fn take(&mut self, rows: u64, bytes: u64) -> Result<(), Refused> {
        if rows > self.left_rows || bytes > self.left_bytes {
            let need_rows = rows.saturating_sub(self.left_rows);
            let need_bytes = bytes.saturating_sub(self.left_bytes);
            let ahead_rows = need_rows.max(self.sent_rows.min(MAX_AHEAD_ROWS));
            let ahead_bytes = need_bytes.max(self.sent_bytes.min(MAX_AHEAD_BYTES));
            match self.reserve(ahead_rows, ahead_bytes).await {
                Err(refused) if refused.code == RefusedCode::Quota => self.reserve(need_rows, need_bytes).await?,
                reserved => reserved?,
            }
        }
        self.left_rows = self.left_rows.saturating_sub(rows);
        self.left_bytes = self.left_bytes.saturating_sub(bytes);
        self.sent_rows = self.sent_rows.saturating_add(rows);
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        Ok(())
    }

    /// Spends for what may leave later.
    pub(crate) async fn reserve(&mut self, rows: u64, bytes: u64) -> Result<(), Refused> {
        self.gate.spend(&self.use_id, rows, bytes).await?;
        self.left_rows = self.left_rows.saturating_add(rows);
        self.left_bytes = self.left_bytes.saturating_add(bytes);
        Ok(())
    }

    /// Takes over what another meter of the same use had reserved and left.
    pub(crate) fn inherit(&mut self, bytes: u64) {
        self.left_bytes = self.left_bytes.saturating_add(bytes);
    }

    /// Gives up the reserved bytes that have not left, for another meter of the same use.
    pub(crate) fn bequeath(&mut self) -> u64 {
        std::mem::take(&mut self.left_bytes)
    }

    /// Ends the use, giving back what this meter reserved and did not send.
    pub(crate) async fn finish(&self, result: blake3::Hash, complete: bool) -> Result<Receipt, Refused> {
        let outcome = Outcome { unsent_rows: self.left_rows, unsent_bytes: self.left_bytes, result, complete };
        self.gate.finish(&self.use_id, outcome).await
    }
}

/// Waits for the end of a use's right to go on.
#[derive(Clone, Debug)]
pub(crate) struct Warrant {
    standing: watch::Receiver<StreamStanding>,
    not_after: Option<UnixMillis>,
}

impl Warrant {
    pub(crate) fn of(grant: &Grant) -> Self {
        Self { standing: grant.standing.clone(), not_after: grant.permit.limits().not_after }
    }

    /// The refusal, if the right has ended by now.
    pub(crate) fn ended(&self) -> Option<Refused> {
        match &*self.standing.borrow() {
            StreamStanding::Revoked(reason) => {
                return Some(Refused::new(RefusedCode::Revoked, format!("the agreement was revoked: {reason}")));
            }
            StreamStanding::Expired => return Some(expired()),
            StreamStanding::Live => {}
        }
        self.not_after.filter(|end| clock::now() > *end).map(|_| expired())
    }

    /// Resolves as soon as the right has ended. A gate that went away ends every right.
    pub(crate) async fn end(mut self) -> Refused {
        loop {
            if let Some(refused) = self.ended() {
                return refused;
            }
            let left_ms = self.not_after.map(|end| end.since(clock::now()).saturating_add(1));
            let left = left_ms.map_or(MAX_WAIT, |ms| Duration::from_millis(ms.max(1).unsigned_abs()).min(MAX_WAIT));
            if let Ok(Err(_gone)) = tokio::time::timeout(left, self.standing.changed()).await {
                return Refused::new(RefusedCode::Unavailable, "the node is stopping");
            }
        }
    }
}

/// The clock is looked at this often even if it jumps.
const MAX_WAIT: Duration = Duration::from_secs(1);

fn expired() -> Refused {
    Refused::new(RefusedCode::Expired, "the agreement's time is over")
}
