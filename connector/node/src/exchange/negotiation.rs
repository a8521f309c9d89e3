//! Contract negotiations: what our side says next, by rule or by a person.

mod access;
mod conclude;
mod opening;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use shuyu_base::{Did, Digest};
use shuyu_contract_engine::negotiation::State;
use shuyu_contract_engine::{Negotiation, Proposal};
use shuyu_evidence::Seed;
use shuyu_policy::covers;
use shuyu_wire::dsp::{CallbackUrl, Explanation, NegotiationBody, NegotiationMessage, OfferPart, event_digest};

use crate::agreements::{Agreements, Side, SignatureRow};
use crate::clock;
use crate::config::Config;
use crate::counterparty::{Counterparties, Hands};
use crate::exchange::driver::{Answer, Draft, Driver, Tools};
use crate::exchange::row::{Kind, Row, Said};
use crate::exchange::terms::{agreement_part, as_agreement, as_offer, check_agreement, offer_part, terms_of};
use crate::holdings::{Approve, Holdings, parse_policy};
use crate::identity::Caller;
use crate::init::random;
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::Batch;

/// What a negotiation is about.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Detail {
    /// The dataset's id.
    pub dataset: String,
    /// The offer it started from.
    pub offer: String,
    /// Terms put by either side, as an ODRL offer; [`on_table`] tells which are on the table.
    pub terms: Value,
    /// Terms we have sent and that may not have been taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<Value>,
    /// Who answers for us.
    pub answers: Approve,
    /// Counter-offers our rules have made.
    pub counter_offers: u32,
    /// The spaces of our offer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spaces: Vec<String>,
    /// The agreement, once there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Value>,
    /// Signatures under it so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<SignatureRow>,
    /// The agreement that the new one is to take the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews: Option<String>,
}

impl Detail {
    /// Terms on the table and nothing said about them yet.
    fn begun(dataset: String, offer: String, terms: Value, answers: Approve) -> Self {
        Self {
            dataset,
            offer,
            terms,
            proposed: None,
            answers,
            counter_offers: 0,
            spaces: Vec::new(),
            agreement: None,
            signatures: Vec::new(),
            renews: None,
        }
    }
}

/// The negotiations of this node.
pub struct Negotiations {
    driver: OnceLock<Arc<Driver<Negotiation>>>,
    tools: Tools,
    agreements: Agreements,
    counterparties: Arc<Counterparties>,
    holdings: Holdings,
    /// One opening message at a time from each sender and process.
    opening: KeyedLocks,
    /// Root of our own DSP binding: the callback address others send to.
    own_root: CallbackUrl,
    max_counter_offers: u32,
}

/// What a consumer asks to negotiate.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The provider.
    pub provider: Did,
    /// The dataset.
    pub dataset: String,
    /// The offer's id.
    pub offer: String,
    /// Terms asked for; the provider's own offer if absent.
    pub policy: Value,
    /// Who answers a counter-offer.
    pub answers: Approve,
    /// The agreement to be renewed.
    pub renews: Option<String>,
}

impl Negotiations {
    /// Negotiations over these stores.
    pub fn new(
        tools: Tools,
        agreements: Agreements,
        counterparties: Arc<Counterparties>,
        own_root: CallbackUrl,
        config: &Config,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            driver: OnceLock::new(),
            holdings: access::shelf(&tools),
            opening: KeyedLocks::default(),
            agreements,
            counterparties,
            own_root,
            max_counter_offers: config.max_counter_offers,
            tools: tools.clone(),
        });
        let weak = Arc::downgrade(&this);
        let tasks = tools.tasks.clone();
        let driver = Driver::new(
            tools,
            Box::new(move |row: Row<Negotiation>| {
                if let Some(this) = weak.upgrade() {
                    tasks.spawn(async move { this.follow_up(row).await });
                }
            }),
        );
        let _ = this.driver.set(driver);
        this
    }

    /// The driver below.
    ///
    /// # Errors
    /// Never once [`Negotiations::new`] has returned.
    pub fn driver(&self) -> Result<&Arc<Driver<Negotiation>>, Problem> {
        self.driver.get().ok_or_else(|| Problem::conflict("the node is starting"))
    }

    /// Goes on with what a stop interrupted.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recover(&self) -> Result<(), Problem> {
        self.driver()?.recover().await
    }

    /// Asks a provider for an agreement.
    ///
    /// # Errors
    /// 502 if the provider's protocol root cannot be found; 422 for terms that are not understood.
    pub async fn request(&self, wish: Wish) -> Result<Row<Negotiation>, Problem> {
        let root = self.tools.peers.dsp_root(&wish.provider).await.map_err(|error| {
            Problem::peer(crate::management::chain(&error)).hint("is the provider's node up, and its DID right?")
        })?;
        let policy = parse_policy(&wish.policy)?;
        if let Some(renews) = &wish.renews {
            self.check_renewable(renews, Side::Consumer, &wish.provider, &wish.dataset)?;
        }
        let terms = as_offer(&policy, &wish.offer, &wish.dataset, &wish.provider);
        let pid = new_pid();
        let row = Row::fresh(
            &pid,
            Side::Consumer,
            &wish.provider,
            &root,
            (&self.tools.did, &pid),
            Detail {
                renews: wish.renews.clone(),
                ..Detail::begun(wish.dataset, wish.offer, terms.clone(), wish.answers)
            },
        );
        let callback = Some(self.own_root.clone());
        let body = NegotiationBody::Request { offer: offer_part(&terms)?, callback, renews: wish.renews };
        let draft = draft(&row, body)?;
        self.driver()?.open(row, draft).await
    }

    /// Offers a dataset to a consumer that has not asked (provider-initiated negotiation).
    ///
    /// # Errors
    /// 404 for the offer; 502 if the consumer's protocol root cannot be found.
    pub async fn offer(&self, consumer: Did, offer_id: &str) -> Result<Row<Negotiation>, Problem> {
        let root = self
            .tools
            .peers
            .dsp_root(&consumer)
            .await
            .map_err(|error| Problem::peer(crate::management::chain(&error)))?;
        let (dataset, terms) = self.own_offer(offer_id)?;
        // Who offers unasked has agreed to its own terms; the later words may still each want a yes.
        let offered = self.holdings.offer(offer_id)?;
        let answers = if offered.approve == Approve::EachStep { Approve::EachStep } else { Approve::Auto };
        let pid = new_pid();
        let row = Row::fresh(
            &pid,
            Side::Provider,
            &consumer,
            &root,
            (&self.tools.did, &pid),
            Detail { spaces: offered.spaces, ..Detail::begun(dataset, offer_id.to_owned(), terms.clone(), answers) },
        );
        let body = NegotiationBody::Offer { offer: offer_part(&terms)?, callback: Some(self.own_root.clone()) };
        let draft = draft(&row, body)?;
        self.driver()?.open(row, draft).await
    }

    /// Says yes to what waits for us: a provider agrees or finalizes, a consumer accepts or verifies.
    ///
    /// # Errors
    /// 404; 409 if nothing waits for us.
    pub async fn approve(&self, pid: &str) -> Result<Row<Negotiation>, Problem> {
        let row = self.driver()?.get(pid)?;
        match (row.role, state(&row)) {
            (Side::Provider, Some(State::Requested | State::Accepted)) => {
                self.check_credentials(&row).await?;
                self.agree(&row).await
            }
            (Side::Provider, Some(State::Verified)) => self.finalize(pid).await,
            (Side::Consumer, Some(State::Offered)) => self.say(pid, NegotiationBody::Accepted).await,
            (Side::Consumer, Some(State::Agreed)) => self.verify(pid).await,
            (Side::Provider | Side::Consumer, _) => Err(nothing_waits(&row)),
        }
    }

    /// Puts other terms on the table: a provider offers, a consumer asks again.
    ///
    /// # Errors
    /// 404; 409 if it is not our turn; 422 for terms that are not understood.
    pub async fn counter(&self, pid: &str, policy: &Value) -> Result<Row<Negotiation>, Problem> {
        let policy = parse_policy(policy)?;
        let row = self.driver()?.get(pid)?;
        match (row.role, state(&row)) {
            (Side::Provider, Some(State::Requested)) | (Side::Consumer, Some(State::Offered)) => {}
            (Side::Provider | Side::Consumer, _) => return Err(nothing_waits(&row)),
        }
        let provider = self.provider_of(&row)?;
        let terms = as_offer(&policy, &row.detail.offer, &row.detail.dataset, &provider);
        self.put_terms(pid, terms, false).await
    }

    /// Ends a negotiation.
    ///
    /// # Errors
    /// 404; 409 if it is over.
    pub async fn refuse(&self, pid: &str, reason: &str) -> Result<Row<Negotiation>, Problem> {
        let reason = reason.to_owned();
        self.driver()?
            .propose(pid, |row, _| {
                let reason = if reason.is_empty() { Vec::new() } else { vec![reason] };
                draft(row, NegotiationBody::Termination(Explanation { code: None, reason }))
            })
            .await
    }

    /// A later message of the other party.
    pub async fn received(
        &self,
        pid: &str,
        sender: &Caller,
        message: &NegotiationMessage,
        said: &Said,
    ) -> Answer<Negotiation> {
        match self.receive(pid, sender, message, said).await {
            Ok(answer) => answer,
            Err(problem) if problem.status == axum::http::StatusCode::NOT_FOUND => Answer::Unknown,
            Err(problem) if problem.status.is_server_error() => Answer::Failed(problem),
            Err(problem) => Answer::Refused(problem.detail),
        }
    }

    async fn receive(
        &self,
        pid: &str,
        caller: &Caller,
        message: &NegotiationMessage,
        said: &Said,
    ) -> Result<Answer<Negotiation>, Problem> {
        let driver = self.driver()?;
        let row = driver.get(pid)?;
        // Somebody else's process looks like none.
        if row.peer == caller.did.as_str() && self.hands(caller, &row).await? == Hands::Other {
            return Ok(Answer::OtherHands);
        }
        let from = row.role.party().other();
        let document = self.counterparties.document(&caller.did).await?;
        let terms = message.policy().map(terms_of).transpose()?;
        let msg = message
            .to_msg(from, said.event, terms)
            .ok_or_else(|| Problem::invalid("the sender's process identifier is missing"))?;
        let own = self.tools.did.clone();
        let provider = self.provider_of(&row)?;
        let apply = move |row: &mut Row<Negotiation>, batch: &mut Batch| match &message.body {
            NegotiationBody::Request { offer, .. } | NegotiationBody::Offer { offer, .. } => take_terms(row, offer),
            NegotiationBody::Agreement { agreement, signatures } => {
                check_agreement(&agreement.policy, on_table(row), &row.detail.dataset, &provider, &own)?;
                row.detail.agreement = Some(agreement.policy.clone());
                self.check_agreement_is_new(row, &agreement.id)?;
                self.take_signatures(row, Side::Provider, signatures, &document)
            }
            NegotiationBody::Verification { signatures } => {
                self.take_signatures(row, Side::Consumer, signatures, &document)
            }
            NegotiationBody::Finalized => self.put_agreement(row, batch).map_err(|problem| problem.detail),
            NegotiationBody::Termination(explanation) => {
                row.error = (!explanation.reason.is_empty()).then(|| explanation.reason.join("; "));
                Ok(())
            }
            NegotiationBody::Accepted => Ok(()),
        };
        let key = caller.key.to_multikey();
        let apply = move |row: &mut Row<Negotiation>, batch: &mut Batch| {
            row.peer_key = Some(key);
            apply(row, batch)
        };
        let _one_renewal = self.lock_renewed(&row).await;
        Ok(driver.receive(pid, &caller.did, (msg, said), None, apply).await)
    }

    /// Whether a negotiation waits for a person on our side.
    pub fn waiting_for(&self, row: &Row<Negotiation>) -> &'static str {
        if row.machine.has_pending() {
            return "peer";
        }
        match (state(row), row.role) {
            (Some(State::Requested | State::Accepted | State::Verified), Side::Provider)
            | (Some(State::Offered | State::Agreed), Side::Consumer) => "us",
            (Some(State::Finalized | State::Terminated), _) => "nobody",
            (Some(State::Requested | State::Accepted | State::Verified), Side::Consumer)
            | (Some(State::Offered | State::Agreed), Side::Provider)
            | (None, _) => "peer",
        }
    }

    /// The rules of this node: what it says without being asked.
    async fn follow_up(&self, row: Row<Negotiation>) {
        let pid = row.pid.clone();
        let step = match (row.role, state(&row)) {
            (Side::Provider, Some(State::Requested)) if row.detail.answers == Approve::Auto => {
                self.answer_request(&row).await
            }
            (Side::Provider | Side::Consumer, Some(State::Accepted | State::Agreed | State::Verified))
                if !row.detail.answers.goes_on_by_rule() =>
            {
                Ok(())
            }
            (Side::Provider, Some(State::Accepted)) => self.agree_by_rule(&row).await,
            (Side::Provider, Some(State::Verified)) => self.finalize(&pid).await.map(|_| ()),
            (Side::Consumer, Some(State::Offered)) if row.detail.answers == Approve::Auto => {
                self.say(&pid, NegotiationBody::Accepted).await.map(|_| ())
            }
            (Side::Consumer, Some(State::Agreed)) => self.verify(&pid).await.map(|_| ()),
            (Side::Provider | Side::Consumer, _) => Ok(()),
        };
        if let Err(problem) = step
            // Someone else was faster: a person, or the other party.
            && problem.status != axum::http::StatusCode::CONFLICT
        {
            tracing::error!(%pid, detail = %problem.detail, "the rules could not answer");
        }
    }

    /// A provider's automatic answer: agree to what our offer covers, else make our offer again, else end.
    async fn answer_request(&self, row: &Row<Negotiation>) -> Result<(), Problem> {
        let own = match self.own_offer(&row.detail.offer) {
            Ok((dataset, own)) if dataset == row.detail.dataset => own,
            Ok(_) | Err(_) => return self.refuse(&row.pid, "the offer is not available").await.map(|_| ()),
        };
        if !self.still_seen(row).await {
            return self.refuse(&row.pid, "the offer is not available").await.map(|_| ());
        }
        let requested = parse_policy(on_table(row))?;
        match covers(&parse_policy(&own)?, &requested) {
            Ok(()) => self.agree_by_rule(row).await,
            Err(_) if row.detail.counter_offers < self.max_counter_offers => {
                self.put_terms(&row.pid, own, true).await.map(|_| ())
            }
            Err(differences) => {
                let words: Vec<String> = differences
                    .iter()
                    .map(|difference| format!("`{}`: {}", difference.path, difference.what))
                    .collect();
                self.refuse(&row.pid, &words.join("; ")).await.map(|_| ())
            }
        }
    }

    async fn put_terms(&self, pid: &str, terms: Value, by_rule: bool) -> Result<Row<Negotiation>, Problem> {
        self.driver()?
            .propose(pid, move |row, _| {
                let offer = offer_part(&terms)?;
                let body = match row.role {
                    Side::Provider => NegotiationBody::Offer { offer, callback: None },
                    Side::Consumer => NegotiationBody::Request { offer, callback: None, renews: None },
                };
                row.detail.counter_offers += u32::from(by_rule);
                let draft = draft(row, body)?;
                row.detail.terms = on_table(row).clone();
                row.detail.proposed = Some(terms);
                Ok(draft)
            })
            .await
    }

    /// Agrees to the terms on the table, provided they are those of `seen`: whoever decided may have seen others.
    async fn agree(&self, seen: &Row<Negotiation>) -> Result<Row<Negotiation>, Problem> {
        let own = self.tools.did.clone();
        self.driver()?
            .propose(&seen.pid, move |row, _| {
                if row.machine.terms_policy() != seen.machine.terms_policy() {
                    return Err(Problem::conflict("the terms have changed since").hint("look at the negotiation again"));
                }
                let consumer_did: Did = row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID"))?;
                let terms = parse_policy(on_table(row))?;
                let agreement =
                    as_agreement(&terms, &new_pid(), &row.detail.dataset, &own, &consumer_did, clock::now());
                row.detail.agreement = Some(agreement.clone());
                let signatures = self.sign(row)?;
                draft(row, NegotiationBody::Agreement { agreement: agreement_part(agreement)?, signatures })
            })
            .await
    }

    /// A consumer's confirmation of the agreement, which it signs with it.
    async fn verify(&self, pid: &str) -> Result<Row<Negotiation>, Problem> {
        self.driver()?
            .propose(pid, |row, _| {
                let signatures = self.sign(row)?;
                draft(row, NegotiationBody::Verification { signatures })
            })
            .await
    }

    async fn say(&self, pid: &str, body: NegotiationBody) -> Result<Row<Negotiation>, Problem> {
        self.driver()?.propose(pid, move |row, _| draft(row, body)).await
    }

    /// The provider's last word. The contract is in force with it, so it is stored in the same step.
    async fn finalize(&self, pid: &str) -> Result<Row<Negotiation>, Problem> {
        let row = self.driver()?.get(pid)?;
        let guard = self.lock_renewed(&row).await;
        if let Err(problem) = self.check_conclusion(&row) {
            drop(guard);
            return self.refuse(pid, &problem.detail).await;
        }
        self.driver()?
            .propose(pid, |row, batch| {
                self.put_agreement(row, batch)?;
                draft(row, NegotiationBody::Finalized)
            })
            .await
    }

    /// Our offer as it stands in the catalogue: dataset and terms.
    fn own_offer(&self, offer_id: &str) -> Result<(String, Value), Problem> {
        let offer = self.holdings.offer(offer_id)?;
        let policy = parse_policy(&self.holdings.policy(&offer.policy)?.policy)?;
        let terms = as_offer(&policy, &offer.id, &offer.asset, &self.tools.did);
        Ok((offer.asset, terms))
    }

    fn provider_of(&self, row: &Row<Negotiation>) -> Result<Did, Problem> {
        match row.role {
            Side::Provider => Ok(self.tools.did.clone()),
            Side::Consumer => row.peer.parse().map_err(|_| Problem::conflict("the peer has no valid DID")),
        }
    }

    /// Our own DID.
    pub fn did(&self) -> &Did {
        &self.tools.did
    }
}

/// The other party puts terms on the table.
fn take_terms(row: &mut Row<Negotiation>, offer: &OfferPart) -> Result<(), String> {
    if offer.target.as_deref() != Some(row.detail.dataset.as_str()) {
        return Err("`offer.target` is another dataset than the one under negotiation".to_owned());
    }
    row.detail.terms = offer.policy.clone();
    Ok(())
}

/// The terms on the table: ours if the machine says they were taken up, else the last ones before.
pub fn on_table(row: &Row<Negotiation>) -> &Value {
    let taken_up = |terms: &&Value| {
        terms_of(terms).is_ok_and(|terms| Some(terms.policy_digest.to_string().as_str()) == row.machine.terms_policy())
    };
    row.detail.proposed.as_ref().filter(taken_up).unwrap_or(&row.detail.terms)
}

/// The state of a row as a value.
pub fn state(row: &Row<Negotiation>) -> Option<State> {
    row.machine.state().and_then(Negotiation::state_of)
}

/// A message of ours about this process.
fn draft(row: &Row<Negotiation>, body: NegotiationBody) -> Result<Draft<Negotiation>, Problem> {
    let own = Some(super::driver::pid(&row.pid)?);
    let theirs = row.machine.peer_pid().map(super::driver::pid).transpose()?;
    let (consumer_pid, provider_pid) = match row.role {
        Side::Provider => (theirs, own),
        Side::Consumer => (own, theirs),
    };
    let message = NegotiationMessage { id: Some(new_pid()), provider_pid, consumer_pid, body };
    let terms = message.policy().map(terms_of).transpose()?;
    let (body, event) = salted(message.encode())?;
    Ok(Draft { proposal: Proposal { verb: message.verb(), event, terms }, body })
}

/// A message of ours with the seed of its salts in it, and its digest: the other party learns the seed from the message,
/// and nobody else can guess what the digest is of.
pub fn salted(mut message: Value) -> Result<(Value, Digest), Problem> {
    let bad = |error: &dyn std::error::Error| Problem::invalid(error.to_string());
    Seed::new(random().map_err(|error| bad(&error))?).put_into(&mut message);
    let event = event_digest(&message).map_err(|error| bad(&error))?;
    Ok((message, event))
}

/// A fresh process identifier: 122 random bits, so that nobody guesses one.
pub fn new_pid() -> String {
    format!("urn:uuid:{}", uuid::Uuid::new_v4())
}

fn nothing_waits(row: &Row<Negotiation>) -> Problem {
    Problem::conflict(format!(
        "negotiation is in state {}; nothing waits for an answer of ours",
        row.machine.state().unwrap_or("NEW")
    ))
}
