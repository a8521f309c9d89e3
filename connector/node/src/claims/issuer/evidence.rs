//! What the issuer does with a credential is evidence: a statement in its ledger, with commitments and nothing personal.
//!
//! The acts about one credential are one process, `credential/` and the credential's random id. Neither the holder nor
//! what the credential says is in the ledger: `event` and `holder` are digests with a random salt, which stays with the
//! credential's row, so that the operator can open them for whoever must know, and nobody can guess.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::json;
use shuyu_base::{Digest, json as base_json};
use shuyu_evidence::{Act, Statement};

use super::Issuer;
use super::row::IssuedRow;
use crate::clock;
use crate::evidence::{EvidenceError, Saved};
use crate::init::random;
use crate::management::chain;
use crate::problem::Problem;
use crate::store::Batch;

/// What is done with a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Issued,
    Revoked,
    Suspended,
    Resumed,
}

impl Deed {
    fn kind(self) -> &'static str {
        match self {
            Self::Issued => "credential.issued",
            Self::Revoked => "credential.revoked",
            Self::Suspended => "credential.suspended",
            Self::Resumed => "credential.resumed",
        }
    }

    fn act(self) -> Act {
        match self {
            Self::Issued | Self::Resumed => Act::Published,
            Self::Revoked | Self::Suspended => Act::Revoked,
        }
    }
}

impl Issuer {
    /// Adds the statement about a deed to the batch that does it; counts it in the row.
    pub(super) fn state(&self, batch: &mut Batch, deed: Deed, id: &str, row: &mut IssuedRow) -> Result<Saved, Problem> {
        row.acts += 1;
        if row.salt.is_empty() {
            // A row of an earlier version.
            row.salt = salt()?;
        }
        let own = &self.tools.identity.did;
        let content = json!({
            "credential": id, "deed": deed.kind(), "holder": row.holder, "type": row.r#type, "claims": row.claims,
            "salt": row.salt,
        });
        let bytes = base_json::canonical(&content)
            .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
        let holder = Digest::sha256(format!("{} {}", row.salt, row.holder).as_bytes());
        let statement = Statement {
            kind: deed.kind().to_owned(),
            act: deed.act(),
            process: format!("credential/{id}"),
            seq: row.acts,
            by: own.clone(),
            with: own.clone(),
            at: clock::now(),
            event: Digest::sha256(&bytes),
            agreement: None,
            commit: BTreeMap::from([("holder".to_owned(), holder)]),
        };
        self.tools.evidence.save(batch, &statement).map_err(|error| failed(&error))
    }

    /// Makes the batch and the statements in it durable; nothing leaves the node before.
    pub(super) async fn commit(&self, batch: Batch, saved: &[Saved]) -> Result<(), Problem> {
        self.tools.evidence.flush().await.map_err(|error| failed(&error))?;
        self.tools.store.commit(batch).await?;
        self.tools.evidence.make_durable(saved).await.map_err(|error| failed(&error))
    }
}

/// What makes commitments impossible to guess: 128 random bits, in hexadecimal.
pub(super) fn salt() -> Result<String, Problem> {
    let bytes = random::<16>().map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn failed(error: &EvidenceError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}
