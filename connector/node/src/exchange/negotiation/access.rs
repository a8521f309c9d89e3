//! Who may negotiate what: offers that a caller does not see do not exist for it, and a contract that demands credentials
//! is not agreed with somebody who cannot show them.

use axum::http::StatusCode;
use shuyu_base::Did;
use shuyu_contract_engine::Negotiation;
use shuyu_policy::caller_view;

use super::{Negotiations, on_table};
use crate::claims::space::Viewer;
use crate::clock;
use crate::exchange::driver::Tools;
use crate::exchange::row::Row;
use crate::holdings::{Approve, Holdings, Spaced, parse_policy};
use crate::problem::Problem;

/// The shelf of a node in its spaces.
pub(super) fn shelf(tools: &Tools) -> Holdings {
    let spaced = Spaced { names: tools.spaces.names(), types: tools.spaces.types() };
    Holdings::new(tools.store.clone()).in_spaces(spaced)
}

impl Negotiations {
    /// Who answers a request for an offer, and the spaces of the offer.
    ///
    /// # Errors
    /// 400, the same for an offer that there is not, that is of another dataset, or that the viewer does not see.
    pub(super) fn seen_offer(
        &self,
        offer_id: &str,
        dataset: &str,
        viewer: &Viewer,
    ) -> Result<(Approve, Vec<String>), Problem> {
        let none = || Problem::invalid("`offer.@id`: there is no such offer of this dataset");
        let offer = self.holdings.offer(offer_id).map_err(|problem| match problem.status {
            StatusCode::NOT_FOUND => none(),
            _ => problem,
        })?;
        if offer.asset != dataset || !self.holdings.rule_of(&offer)?.admits(viewer, clock::now()) {
            return Err(none());
        }
        Ok((offer.approve, offer.spaces))
    }

    /// Whether the consumer of a negotiation still sees the offer that it is about.
    pub(super) async fn still_seen(&self, row: &Row<Negotiation>) -> bool {
        let Ok(viewer) = self.consumer(row).await else { return false };
        let offer = self.holdings.offer(&row.detail.offer);
        let rule = offer.and_then(|offer| self.holdings.rule_of(&offer));
        rule.is_ok_and(|rule| rule.admits(&viewer, clock::now()))
    }

    /// Agrees by rule, or ends the negotiation saying which credential is missing.
    pub(super) async fn agree_by_rule(&self, row: &Row<Negotiation>) -> Result<(), Problem> {
        match self.check_credentials(row).await {
            Ok(()) => self.agree(row).await.map(|_| ()),
            Err(problem) if problem.status.is_server_error() => Err(problem),
            Err(problem) => self.refuse(&row.pid, &problem.detail).await.map(|_| ()),
        }
    }

    /// Refuses terms on the table that demand credentials which the consumer has not shown, or that are bad by now.
    ///
    /// # Errors
    /// 422 in words that name types of credentials.
    pub(super) async fn check_credentials(&self, row: &Row<Negotiation>) -> Result<(), Problem> {
        let viewer = self.consumer(row).await?;
        let rule = self.holdings.rule(&row.detail.spaces, &caller_view(&parse_policy(on_table(row))?))?;
        if rule.admits(&viewer, clock::now()) {
            return Ok(());
        }
        Err(Problem::refused(rule.refusal(&viewer, clock::now()), Vec::new()))
    }

    async fn consumer(&self, row: &Row<Negotiation>) -> Result<Viewer, Problem> {
        let consumer: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
        self.tools.spaces.standing_of(&consumer).await.map_err(|error| {
            let text = crate::management::chain(&error);
            if error.status().is_server_error() {
                Problem::new(error.status(), text)
            } else {
                Problem::refused(text, Vec::new())
            }
        })
    }
}
