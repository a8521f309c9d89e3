//! What the issuer does with a credential is evidence: a statement in its ledger, with commitments and nothing personal.
//!
//! The acts about one credential are one process, `credential/` and the credential's random id. Neither the holder nor
//! what the credential says is in the ledger: the statement commits to them field by field, with salts that stay in the
//! vault, so that the operator can show them to whoever must know, and nobody can guess.

use axum::http::StatusCode;
use serde_json::json;
use shuyu_evidence::Act;

use super::Issuer;
use super::row::IssuedRow;
use crate::evidence::{About, EvidenceError, Saved};
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
        let content = json!({
            "credential": id, "deed": deed.kind(), "holder": row.holder, "type": row.r#type, "claims": row.claims,
        });
        let about = About {
            kind: deed.kind().to_owned(),
            act: deed.act(),
            process: format!("credential/{id}"),
            seq: row.acts,
            with: self.tools.identity.did.clone(),
            agreement: None,
        };
        let stated = self.tools.evidence.state(about, content).map_err(|error| failed(&error))?;
        self.tools.evidence.save(batch, &stated).map_err(|error| failed(&error))
    }

    /// Makes the batch and the statements in it durable; nothing leaves the node before.
    pub(super) async fn commit(&self, batch: Batch, saved: &[Saved]) -> Result<(), Problem> {
        self.tools.evidence.flush().await.map_err(|error| failed(&error))?;
        self.tools.store.commit(batch).await?;
        self.tools.evidence.make_durable(saved).await.map_err(|error| failed(&error))
    }
}

fn failed(error: &EvidenceError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}
