//! Messages of others that open a negotiation.

use shuyu_contract_engine::{Negotiation, Party};
use shuyu_wire::dsp::{NegotiationBody, NegotiationMessage};

use super::{Detail, Negotiations, new_pid, take_terms};
use crate::agreements::Side;
use crate::counterparty::Hands;
use crate::exchange::driver::Answer;
use crate::exchange::row::{Row, Said};
use crate::exchange::terms::terms_of;
use crate::holdings::Approve;
use crate::identity::Caller;
use crate::problem::Problem;
use crate::store::{Batch, Table};

impl Negotiations {
    /// A message that opens a negotiation. A repeat finds the negotiation it opened before.
    pub async fn opened_by(
        &self,
        sender: &Caller,
        from: Party,
        message: &NegotiationMessage,
        said: &Said,
    ) -> Answer<Negotiation> {
        match self.open_for(sender, from, message, said).await {
            Ok(answer) => answer,
            Err(problem) if problem.status.is_server_error() => Answer::Failed(problem),
            Err(problem) => Answer::Refused(problem.detail),
        }
    }

    async fn open_for(
        &self,
        caller: &Caller,
        from: Party,
        message: &NegotiationMessage,
        said: &Said,
    ) -> Result<Answer<Negotiation>, Problem> {
        let sender = &caller.did;
        let (offer, callback, renews) = match &message.body {
            NegotiationBody::Request { offer, callback, renews } => (offer, callback, renews.clone()),
            NegotiationBody::Offer { offer, callback } => (offer, callback, None),
            NegotiationBody::Accepted
            | NegotiationBody::Agreement { .. }
            | NegotiationBody::Verification { .. }
            | NegotiationBody::Finalized
            | NegotiationBody::Termination(_) => return Ok(Answer::Unknown),
        };
        let callback = callback.as_ref().ok_or_else(|| Problem::invalid("`callbackAddress` is missing"))?;
        self.tools.peers.check_callback(callback)?;
        let terms = terms_of(&offer.policy)?;
        let dataset = offer.target.clone().unwrap_or_default();
        let msg = message
            .to_msg(from, said.event, Some(terms))
            .ok_or_else(|| Problem::invalid("the sender's process identifier is missing"))?;
        let theirs = msg.sender_pid.as_str().to_owned();
        // One opening message, one negotiation: found again by who sent it and under which identifier.
        let index = format!("negotiation {sender} {theirs}");
        let _guard = self.opening.lock(&index).await;
        let known = self.tools.store.get::<String>(Table::PeerIndex, &index)?;
        let (answers, spaces) = match from {
            // A repeat is a repeat, also when the offer has been withdrawn since.
            Party::Consumer if known.is_none() => self.seen_offer(&offer.id, &dataset, &caller.viewer)?,
            // What others offer unasked waits for a person.
            Party::Consumer | Party::Provider => (Approve::Manual, Vec::new()),
        };
        if !theirs.is_ascii() {
            return Err(Problem::invalid("the process identifier has characters outside ASCII"));
        }
        if let (Some(renews), true) = (&renews, known.is_none()) {
            self.check_renewable(renews, Side::Provider, sender, &dataset)
                .map_err(|problem| Problem::invalid(format!("`renews`: {}", problem.detail)))?;
        }
        let hands = match (&known, &renews) {
            (Some(pid), _) => self.hands(caller, &self.driver()?.get(pid)?).await?,
            (None, Some(renews)) => {
                self.counterparties.hands(caller, &self.agreements.get(renews)?.peer_keys()).await?
            }
            (None, None) => Hands::Same,
        };
        if hands == Hands::Other {
            return Ok(Answer::OtherHands);
        }
        let pid = known.unwrap_or_else(new_pid);
        let row = Row {
            peer_key: Some(caller.key.to_multikey()),
            ..Row::fresh(
                &pid,
                Side::from(from.other()),
                sender,
                callback.as_str(),
                (sender, &theirs),
                Detail { spaces, renews, ..Detail::begun(dataset, offer.id.clone(), offer.policy.clone(), answers) },
            )
        };
        let apply = |row: &mut Row<Negotiation>, batch: &mut Batch| {
            take_terms(row, offer)?;
            batch.put(Table::PeerIndex, &index, &pid).map_err(|error| error.to_string())
        };
        Ok(self.driver()?.receive(&pid, sender, (msg, said), Some(row), apply).await)
    }
}
