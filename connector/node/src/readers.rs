//! Who may read this node's ledger: `[ledger] read`.
//!
//! Anybody may see how large it is and what signs it: the checkpoint, the keys and the cosigned heads, which is all that
//! witnesses need. Tiles and entries are for those whom the mode names, who prove who they are with a self-issued token, as
//! in every request of the protocol.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode, header};
use shuyu_base::Did;

use crate::claims::space::Spaces;
use crate::clock;
use crate::config::LedgerRead;
use crate::identity::{AuthError, Doorkeeper};
use crate::management::chain;
use crate::problem::Problem;

/// Judges over readers; one a node.
pub struct Readers {
    mode: LedgerRead,
    regulators: BTreeSet<Did>,
    doorkeeper: Doorkeeper,
    spaces: Arc<Spaces>,
}

/// What a caller may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Everything.
    Whole,
    /// The entries that name this party.
    Party(Did),
}

impl Readers {
    /// Readers as configured.
    pub fn new(
        mode: LedgerRead,
        regulators: impl IntoIterator<Item = Did>,
        doorkeeper: Doorkeeper,
        spaces: Arc<Spaces>,
    ) -> Self {
        Self { mode, regulators: regulators.into_iter().collect(), doorkeeper, spaces }
    }

    /// Whether anybody may read everything, so that caches between us may keep it too.
    pub fn is_public(&self) -> bool {
        self.mode == LedgerRead::Public
    }

    /// What the caller with these headers may read.
    ///
    /// # Errors
    /// 401 without a good token, which says how to come by one.
    pub async fn reader(&self, headers: &HeaderMap) -> Result<Reader, Problem> {
        if self.is_public() {
            return Ok(Reader::Whole);
        }
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let claims = self.doorkeeper.claims(authorization, clock::now()).await.map_err(|error| unproven(&error))?;
        if self.regulators.contains(&claims.issuer) {
            return Ok(Reader::Whole);
        }
        let is_member = match self.mode {
            LedgerRead::Public => true,
            LedgerRead::Members => self.spaces.admit(&claims).await.is_ok(),
            LedgerRead::Parties => false,
        };
        Ok(if is_member { Reader::Whole } else { Reader::Party(claims.issuer) })
    }

    /// Only for who may read everything.
    ///
    /// # Errors
    /// 401, or 403 that says whom to ask.
    pub async fn whole(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self.reader(headers).await? {
            Reader::Whole => Ok(()),
            Reader::Party(did) => Err(Problem::new(
                StatusCode::FORBIDDEN,
                format!("`{did}` may not read this ledger, except entries that name it"),
            )
            .hint(format!(
                "read those one by one at /ledger/entry/INDEX; {} read the whole",
                match self.mode {
                    LedgerRead::Public | LedgerRead::Members => "members of its spaces and its regulators",
                    LedgerRead::Parties => "its regulators, whom the owner names in `ledger.regulators`,",
                }
            ))),
        }
    }
}

fn unproven(error: &AuthError) -> Problem {
    let status = match error {
        AuthError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        AuthError::Missing | AuthError::Token(_) | AuthError::Resolve(_) | AuthError::Replayed => {
            StatusCode::UNAUTHORIZED
        }
    };
    Problem::new(status, format!("this ledger is not public: {}", chain(error)))
        .hint("send a self-issued token for this node, as a node with `shuyu audit follow` does by itself")
}
