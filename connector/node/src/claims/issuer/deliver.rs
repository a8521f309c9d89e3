//! Delivering to a holder's credential service until it accepts or refuses (DCP 1.0, section 6.5), and offering.

use std::time::Duration;

use serde_json::{Map, Value};
use shuyu_base::Did;
use shuyu_credentials::Profile;
use shuyu_wire::dcp::{CredentialContainer, CredentialMessage, CredentialOffer, Outcome};

use super::row::{Approval, Definition, IssuedRow, RequestRow, RequestState, shown_request};
use super::{Issuer, object};
use crate::identity::CREDENTIAL_SERVICE;
use crate::management::chain;
use crate::peers::PeerError;
use crate::problem::Problem;
use crate::store::Table;

/// First pause after a failed delivery; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// Tries before a delivery is set aside: about a day.
const MAX_ATTEMPTS: u32 = 150;

/// What one try came to.
enum Tried {
    Done,
    Again(String),
    Refused(String),
}

impl Issuer {
    /// Takes up deliveries that an earlier run left, and learns what waits and what is to be renewed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn recover(&self) -> Result<(), Problem> {
        self.rows(Table::Issued, |id, row: IssuedRow| self.note_due(&id, &row))?;
        self.rows(Table::IssuerRequests, |pid, row: RequestRow| {
            let is_open = match row.state {
                RequestState::Received => {
                    self.count_waiting(&row.holder, |count| *count += 1);
                    self.start_decision(&pid, &row);
                    false
                }
                RequestState::Approved => !row.delivery.set_aside,
                RequestState::Rejected => row.delivery.attempts == 0,
                RequestState::Issued => false,
            };
            if is_open {
                self.start_delivery(&pid);
            }
        })
    }

    /// Tries again what was set aside.
    ///
    /// # Errors
    /// 404 if there is no such request, 409 if there is nothing to deliver.
    pub async fn redeliver(&self, pid: &str) -> Result<Value, Problem> {
        let _turn = self.writing.lock().await;
        let mut row = self.row(pid)?;
        if row.state != RequestState::Approved || !row.delivery.set_aside {
            return Err(Problem::conflict(format!("request `{pid}` has no delivery that was set aside")));
        }
        row.delivery.set_aside = false;
        row.delivery.attempts = 0;
        self.save(pid, &row).await?;
        self.start_delivery(pid);
        Ok(shown_request(pid, &row))
    }

    /// Decides about a request that needs no operator and that an earlier run did not come to.
    fn start_decision(&self, pid: &str, row: &RequestRow) {
        let is_auto = |id: &String| {
            let found = self.found(id).ok().flatten();
            found.is_some_and(|(_, definition, _)| definition.approval == Approval::Auto)
        };
        let (Some(this), pid) = (self.this.upgrade(), pid.to_owned()) else { return };
        if row.objects.iter().all(is_auto) {
            self.tools.tasks.spawn(async move {
                if let Err(problem) = this.approve(&pid, &Map::new()).await {
                    tracing::error!(request = %pid, detail = %problem.detail, "request not decided");
                }
            });
        }
    }

    /// Runs the delivery as a task of its own.
    pub(super) fn start_delivery(&self, pid: &str) {
        let (Some(this), pid) = (self.this.upgrade(), pid.to_owned()) else { return };
        self.tools.tasks.spawn(async move {
            if let Err(problem) = this.deliver(&pid).await {
                tracing::error!(request = %pid, detail = %problem.detail, "delivery stopped");
            }
        });
    }

    async fn deliver(&self, pid: &str) -> Result<(), Problem> {
        let mut pause = FIRST_PAUSE;
        loop {
            let row = self.row(pid)?;
            let tried = self.try_delivery(pid, &row).await;
            let turn = self.writing.lock().await;
            // A renewal may have put in something new while we were sending; it has a delivery of its own.
            let mut saved = self.row(pid)?;
            if !saved.payloads.iter().map(|payload| &payload.jwt).eq(row.payloads.iter().map(|payload| &payload.jwt)) {
                return Ok(());
            }
            saved.delivery.attempts = saved.delivery.attempts.saturating_add(1);
            let again = match tried {
                Tried::Done => {
                    if saved.state == RequestState::Approved {
                        saved.state = RequestState::Issued;
                    }
                    (saved.delivery.error, saved.payloads, saved.access) = (None, Vec::new(), None);
                    tracing::info!(request = %pid, holder = %saved.holder, "credentials delivered");
                    false
                }
                Tried::Again(error) if saved.delivery.attempts < MAX_ATTEMPTS => {
                    tracing::info!(request = %pid, holder = %saved.holder, %error, "delivery failed, trying again");
                    saved.delivery.error = Some(error);
                    true
                }
                Tried::Again(error) | Tried::Refused(error) => {
                    tracing::warn!(request = %pid, holder = %saved.holder, %error, "delivery set aside");
                    (saved.delivery.error, saved.delivery.set_aside) = (Some(error), true);
                    false
                }
            };
            self.save(pid, &saved).await?;
            drop(turn);
            if !again {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.tools.stopping.cancelled() => return Ok(()),
            }
            pause = LONGEST_PAUSE.min(pause.saturating_mul(2));
        }
    }

    async fn try_delivery(&self, pid: &str, row: &RequestRow) -> Tried {
        let outcome = match row.state {
            RequestState::Rejected => Outcome::Rejected(row.reason.clone()),
            RequestState::Received | RequestState::Approved | RequestState::Issued => {
                let mut containers = Vec::new();
                for payload in &row.payloads {
                    let Ok(kind) = payload.r#type.parse() else {
                        return Tried::Refused(format!("`{}` is no type", payload.r#type));
                    };
                    let (format, payload) = (payload.profile.clone(), payload.jwt.clone());
                    containers.push(CredentialContainer { kind, format, payload });
                }
                Outcome::Issued(containers)
            }
        };
        let holder_pid = Some(row.holder_pid.clone());
        let message = CredentialMessage { issuer_pid: pid.to_owned(), holder_pid, outcome }.encode();
        let Ok(holder) = row.holder.parse::<Did>() else { return Tried::Refused("the holder is no DID".to_owned()) };
        match self.post(&holder, "/credentials", &message, row.access.as_deref()).await {
            Ok(()) => Tried::Done,
            Err(error) if error.is_transient() => Tried::Again(chain(&error)),
            Err(error) => Tried::Refused(chain(&error)),
        }
    }

    async fn post(&self, holder: &Did, path: &str, message: &Value, access: Option<&str>) -> Result<(), PeerError> {
        let endpoint = self.tools.peers.service(holder, CREDENTIAL_SERVICE).await?;
        let url = format!("{}{path}", endpoint.trim_end_matches('/'));
        self.tools.peers.post_with(holder, &url, message, access).await.map(|_| ())
    }

    /// Offers what `definition` issues to a holder, in both profiles.
    ///
    /// # Errors
    /// 400 for a bad DID, 404 for an unknown definition, 502 if the holder cannot be reached or refuses.
    pub async fn offer(&self, holder: &str, definition: &str, reason: Option<&str>) -> Result<(), Problem> {
        let holder: Did = holder.parse().map_err(|error| Problem::invalid(format!("`holder`: {error}")))?;
        let row = self.tools.store.get::<Definition>(Table::IssuerTypes, definition)?;
        let row = row.ok_or_else(|| Problem::not_found("definition", definition))?;
        let credentials = Profile::ALL.into_iter().map(|profile| object(definition, &row, profile, reason));
        let credentials = credentials.collect::<Result<_, _>>()?;
        let message = CredentialOffer { issuer: self.tools.identity.did.clone(), credentials }.encode();
        self.post(&holder, "/offers", &message, None).await.map_err(|error| Problem::peer(chain(&error)))
    }
}
