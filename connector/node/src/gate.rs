//! The node's side of the data plane's seam: who may use what, spent and recorded before it is used.

mod credentials;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use shuyu_base::{Did, Digest, json as base_json};
use shuyu_credentials::jws;
use shuyu_data_plane::{
    Ask, Caller, Form, Gate, Grant, Outcome, Receipt, Refused, RefusedCode, Spool, StreamStanding, TableSource,
};
use shuyu_evidence::Act;
use shuyu_policy::{
    Action, Lang, LeftOperand, LiveAgreement, Outcome as Outcome3, Permit, Refusal, RefusalCause, Request, Standing,
    Step, Usage, authorize, evaluate::Test,
};

use crate::access::{AccessClaims, AccessTokens};
use crate::agreements::{AgreementRow, Agreements, Side, UsageRow};
use crate::claims::space::{Relied, Spaces, Viewer};
use crate::clock;
use crate::events::Events;
use crate::evidence::{About, Evidence, EvidenceError};
use crate::exchange::Transfers;
use crate::holdings::Holdings;
use crate::identity::Identity;
use crate::locks::KeyedLocks;
use crate::problem::Problem;
use crate::store::{Batch, Store, StoreError, Table};
use crate::vault::Stated;

/// `typ` of a receipt.
pub const RECEIPT_TYP: &str = "shuyu-receipt+jws";
/// Domain that keeps ticket signatures apart from every other signature of the key.
const TICKET_DOMAIN: &[u8] = b"shuyu/ticket/v1\0";

/// A use that was opened.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct UseRow {
    agreement: String,
    transfer: String,
    consumer: String,
    action: String,
    purpose: Option<String>,
    form: Option<String>,
    query: String,
    max_rows: Option<u64>,
    max_bytes: Option<u64>,
    /// Place of this use among those of the agreement; its permission and its receipt share it.
    seq: u64,
    spent_rows: u64,
    spent_bytes: u64,
    /// The receipt, once the use has ended.
    receipt: Option<String>,
}

/// Decides over uses; one a node.
pub struct Gatekeeper {
    own: Arc<Identity>,
    store: Store,
    evidence: Evidence,
    events: Events,
    agreements: Agreements,
    holdings: Holdings,
    transfers: Arc<Transfers>,
    spaces: Arc<Spaces>,
    tokens: AccessTokens,
    locks: KeyedLocks,
    /// What running streams rely on, by transfer; those that a task looks after.
    relied: Mutex<HashMap<String, Relied>>,
    /// Tables by asset, and when that asset was added: another one may have its id later.
    schemas: Mutex<HashMap<String, (String, TableSource)>>,
    this: Weak<Self>,
}

impl Gatekeeper {
    /// A gate over these stores.
    pub fn new(
        own: Arc<Identity>,
        store: Store,
        evidence: Evidence,
        events: Events,
        agreements: Agreements,
        transfers: Arc<Transfers>,
        spaces: Arc<Spaces>,
    ) -> Arc<Self> {
        let tokens = AccessTokens::new(Arc::clone(&own), store.clone());
        let holdings = Holdings::new(store.clone());
        Arc::new_cyclic(|this| Self {
            own,
            store,
            evidence,
            events,
            agreements,
            holdings,
            transfers,
            spaces,
            tokens,
            locks: KeyedLocks::default(),
            relied: Mutex::default(),
            schemas: Mutex::default(),
            this: Weak::clone(this),
        })
    }

    /// Decides one request, with everything it looked at.
    fn decide(
        &self,
        caller: &Caller,
        want: &Want<'_>,
        usage: UsageRow,
        viewer: &Result<Viewer, Refused>,
    ) -> Result<(AgreementRow, Permit), Refused> {
        let row = self.agreements.get(&caller.agreement).map_err(refused)?;
        if row.role != Side::Provider || row.peer != caller.consumer.as_str() {
            return Err(Refused::new(RefusedCode::NotFound, "there is no such contract for this caller"));
        }
        let now = clock::now();
        let program = self.agreements.program(&row).map_err(refused)?;
        let standing = self.agreements.standing(&row, &program, now);
        let mut request = Request::new(now, want.action, &row.asset, caller.consumer.clone());
        request.purpose = want.purpose.map(str::to_owned);
        request.format = want.form.map(|form| form.word().to_owned());
        request.used = Usage { count: usage.count, rows: usage.rows, bytes: usage.bytes };
        let live = LiveAgreement { agreement_id: row.id.clone(), asset: row.asset.clone(), program, standing };
        if standing != Standing::Active {
            return authorize(&live, &request).map(|permit| (row, permit)).map_err(|refusal| refused_by(&refusal, &[]));
        }
        let viewer = viewer.as_ref().map_err(Refused::clone)?;
        let all = self.shown(viewer, &row)?;
        // What was shown in one space counts by itself, never together with another's.
        let mut refused = None;
        for (space, shown) in all {
            request.shown = shown;
            match authorize(&live, &request) {
                Ok(permit) => {
                    self.watch_over(caller, &row, viewer, space.as_deref().unwrap_or_default(), &request.shown);
                    return Ok((row, permit));
                }
                Err(refusal) => drop(refused.get_or_insert(refusal)),
            }
        }
        let set_aside = viewer.set_aside_in(&self.spaces.names().of(&row.spaces));
        Err(refused.map_or_else(|| unavailable("no space was tried"), |refusal| refused_by(&refusal, &set_aside)))
    }

    /// Decides with the stream's end already in view: whoever ends the contract or the transfer from here on is heard.
    fn permitted(
        &self,
        caller: &Caller,
        want: &Want<'_>,
        usage: UsageRow,
        viewer: &Result<Viewer, Refused>,
    ) -> Result<Grant, Refused> {
        let standing = self.agreements.watch(&caller.transfer, &caller.agreement);
        match self.transfers.standing(&caller.transfer) {
            StreamStanding::Live => {}
            StreamStanding::Revoked(reason) => return Err(Refused::new(RefusedCode::Revoked, reason)),
            StreamStanding::Expired => return Err(Refused::new(RefusedCode::Expired, "the transfer is over")),
        }
        let (row, permit) = self.decide(caller, want, usage, viewer)?;
        Ok(Grant { permit, table: self.table(&row.asset)?, standing, use_id: String::new() })
    }

    fn table(&self, asset: &str) -> Result<TableSource, Refused> {
        let row = self.holdings.asset(asset).map_err(refused)?;
        let mut schemas = self.schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, source)) = schemas.get(asset).filter(|(issued, _)| *issued == row.issued) {
            return Ok(source.clone());
        }
        let source = row.source().map_err(refused)?;
        schemas.insert(asset.to_owned(), (row.issued, source.clone()));
        Ok(source)
    }

    fn statement(
        &self,
        act: Act,
        kind: &str,
        caller: &CallerRef<'_>,
        seq: u64,
        content: Value,
    ) -> Result<Stated, Refused> {
        let about = About {
            kind: kind.to_owned(),
            act,
            process: usage_process(caller.agreement),
            seq,
            with: caller.consumer.clone(),
            agreement: Some(caller.agreement.to_owned()),
        };
        self.evidence.state(about, content).map_err(evidence_failed)
    }

    fn load_use(&self, use_id: &str) -> Result<UseRow, Refused> {
        self.store
            .get(Table::Uses, use_id)
            .map_err(|error| unavailable(&error.to_string()))?
            .ok_or_else(|| Refused::new(RefusedCode::NotFound, "there is no such use"))
    }

    async fn record_refusal(&self, caller: &Caller, ask: &Ask, refused: &Refused) -> Result<(), Refused> {
        let _guard = self.locks.lock(&caller.agreement).await;
        let mut usage = self.usage(&caller.agreement)?;
        usage.seq += 1;
        let content = json!({
            "agreement": caller.agreement, "query": ask.query_digest.to_string(), "code": refused.code.word(),
            "reason": refused.to_string(), "action": ask.action.name(), "purpose": ask.purpose, "form": ask.form.word(),
            "consumer": caller.consumer.as_str(),
        });
        let stated = self.statement(Act::Decided, "use.refused", &caller.into(), usage.seq, content)?;
        let mut batch = Batch::default();
        batch.put(Table::Usage, &caller.agreement, &usage).map_err(store_failed)?;
        self.save(batch, &stated).await
    }

    fn usage(&self, agreement: &str) -> Result<UsageRow, Refused> {
        self.agreements.usage(agreement).map_err(refused)
    }

    async fn save(&self, mut batch: Batch, stated: &Stated) -> Result<(), Refused> {
        self.evidence.flush().await.map_err(evidence_failed)?;
        let saved = self.evidence.save(&mut batch, stated).map_err(evidence_failed)?;
        let statement = &stated.statement;
        let agreement = statement.agreement.as_deref().unwrap_or_default();
        let data = json!({ "@id": agreement, "counterPartyId": statement.with.as_str(), "seq": statement.seq });
        let kind = format!("contract.{}", statement.kind);
        let _told = self.events.record(&mut batch, &kind, agreement, data).map_err(store_failed)?;
        self.store.commit(batch).await.map_err(store_failed)?;
        self.evidence.make_durable(&[saved]).await.map_err(evidence_failed)
    }
}

/// The process name under which the uses of an agreement are recorded.
pub fn usage_process(agreement: &str) -> String {
    format!("use/{agreement}")
}

struct Want<'a> {
    action: Action,
    purpose: Option<&'a str>,
    form: Option<Form>,
}

struct CallerRef<'a> {
    agreement: &'a str,
    consumer: Did,
}

impl<'a> From<&'a Caller> for CallerRef<'a> {
    fn from(caller: &'a Caller) -> Self {
        Self { agreement: &caller.agreement, consumer: caller.consumer.clone() }
    }
}

impl<'a> Want<'a> {
    fn of(ask: &'a Ask) -> Self {
        Self { action: ask.action, purpose: ask.purpose.as_deref(), form: Some(ask.form) }
    }
}

#[async_trait]
impl Gate for Gatekeeper {
    async fn authenticate(&self, bearer: &str) -> Result<Caller, Refused> {
        let AccessClaims { consumer, transfer, agreement } =
            self.tokens.read(bearer, clock::now()).ok_or_else(|| {
                Refused::new(RefusedCode::Unauthenticated, "the access token is not one of this node, or has ended")
            })?;
        match self.transfers.standing(&transfer) {
            StreamStanding::Live => {}
            StreamStanding::Revoked(reason) => return Err(Refused::new(RefusedCode::Revoked, reason)),
            StreamStanding::Expired => return Err(Refused::new(RefusedCode::Expired, "the transfer is over")),
        }
        let holder = Digest::sha256(format!("{consumer} {transfer}").as_bytes());
        Ok(Caller { consumer, transfer, agreement, holder })
    }

    async fn view(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        let viewer = self.viewer(caller).await;
        let usage = self.usage(&caller.agreement)?;
        let seen = self.permitted(caller, &Want::of(ask), usage, &viewer);
        if let Err(refused) = &seen
            && is_verdict(refused.code)
        {
            self.spawned(caller, ask, |this, caller, ask| {
                let refused = refused.clone();
                async move { this.record_refusal(&caller, &ask, &refused).await }
            })
            .await?;
        }
        seen
    }

    async fn open(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        self.spawned(caller, ask, |this, caller, ask| async move {
            let opened = this.open_locked(&caller, &ask).await;
            if let Err(refused) = &opened
                && is_verdict(refused.code)
            {
                this.record_refusal(&caller, &ask, refused).await?;
            }
            opened
        })
        .await
    }

    async fn reopen(&self, caller: &Caller, use_id: &str) -> Result<Grant, Refused> {
        let opened = self.load_use(use_id)?;
        if opened.agreement != caller.agreement || opened.consumer != caller.consumer.as_str() {
            return Err(Refused::new(RefusedCode::NotFound, "there is no such use"));
        }
        let viewer = self.viewer(caller).await;
        let mut usage = self.usage(&caller.agreement)?;
        // This use was counted when it was opened.
        usage.count = usage.count.saturating_sub(1);
        let action = Action::from_name(&opened.action).ok_or_else(|| unavailable("unknown action in a stored use"))?;
        let form = opened.form.as_deref().and_then(|word| word.parse().ok());
        let want = Want { action, purpose: opened.purpose.as_deref(), form };
        let grant = self.permitted(caller, &want, usage, &viewer)?;
        Ok(Grant { use_id: use_id.to_owned(), ..grant })
    }

    async fn spend(&self, use_id: &str, rows: u64, bytes: u64) -> Result<(), Refused> {
        let (this, use_id) = (self.shared()?, use_id.to_owned());
        joined(tokio::spawn(async move { this.spend_locked(&use_id, rows, bytes).await })).await
    }

    async fn finish(&self, use_id: &str, outcome: Outcome) -> Result<Receipt, Refused> {
        let (this, use_id) = (self.shared()?, use_id.to_owned());
        joined(tokio::spawn(async move { this.finish_locked(&use_id, outcome).await })).await
    }

    fn sign_ticket(&self, ticket: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.own.key.sign(&[TICKET_DOMAIN, ticket].concat()))
    }

    fn verify_ticket(&self, ticket: &[u8], signature: &str) -> bool {
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        self.own.key.public().verify(&[TICKET_DOMAIN, ticket].concat(), &signature).is_ok()
    }
}

impl Gatekeeper {
    /// Ends the uses that the end of the last run cut off, except those whose results wait in the spool. What had been
    /// spent counts as sent: how much of it left is not known.
    ///
    /// # Errors
    /// [`Refused`] when the store or the ledger fails.
    pub async fn end_interrupted(&self, spool: &Spool) -> Result<usize, Refused> {
        let open = self.store.list::<()>(Table::OpenUses, None, usize::MAX).map_err(store_failed)?;
        let mut ended = 0;
        for (use_id, ()) in open.into_iter().filter(|(use_id, ())| !spool.holds(use_id)) {
            self.finish_locked(&use_id, Outcome::cut_off()).await?;
            ended += 1;
        }
        Ok(ended)
    }

    fn shared(&self) -> Result<Arc<Self>, Refused> {
        self.this.upgrade().ok_or_else(|| unavailable("the node is stopping"))
    }

    /// Runs work that must not be cut short: a caller that hangs up would drop its future between a commit and what
    /// belongs to it.
    async fn spawned<T, W>(
        &self,
        caller: &Caller,
        ask: &Ask,
        work: impl FnOnce(Arc<Self>, Caller, Ask) -> W,
    ) -> Result<T, Refused>
    where
        T: Send + 'static,
        W: Future<Output = Result<T, Refused>> + Send + 'static,
    {
        joined(tokio::spawn(work(self.shared()?, caller.clone(), ask.clone()))).await
    }

    async fn spend_locked(&self, use_id: &str, rows: u64, bytes: u64) -> Result<(), Refused> {
        let _guard = self.locks.lock(&self.load_use(use_id)?.agreement).await;
        let mut opened = self.load_use(use_id)?;
        let mut usage = self.usage(&opened.agreement)?;
        usage.rows = usage.rows.saturating_add(rows);
        usage.bytes = usage.bytes.saturating_add(bytes);
        if opened.max_rows.is_some_and(|most| most < usage.rows) {
            return Err(Refused::new(RefusedCode::Quota, "the contract's row quota is used up"));
        }
        if opened.max_bytes.is_some_and(|most| most < usage.bytes) {
            return Err(Refused::new(RefusedCode::Quota, "the contract's byte quota is used up"));
        }
        opened.spent_rows += rows;
        opened.spent_bytes += bytes;
        let mut batch = Batch::default();
        batch.put(Table::Usage, &opened.agreement, &usage).map_err(store_failed)?;
        batch.put(Table::Uses, use_id, &opened).map_err(store_failed)?;
        self.store.commit(batch).await.map_err(store_failed)
    }

    async fn finish_locked(&self, use_id: &str, outcome: Outcome) -> Result<Receipt, Refused> {
        let _guard = self.locks.lock(&self.load_use(use_id)?.agreement).await;
        let mut opened = self.load_use(use_id)?;
        if let Some(receipt) = opened.receipt {
            return Ok(Receipt(receipt));
        }
        let mut usage = self.usage(&opened.agreement)?;
        let unsent_rows = outcome.unsent_rows.min(opened.spent_rows);
        let unsent_bytes = outcome.unsent_bytes.min(opened.spent_bytes);
        usage.rows = usage.rows.saturating_sub(unsent_rows);
        usage.bytes = usage.bytes.saturating_sub(unsent_bytes);
        opened.spent_rows -= unsent_rows;
        opened.spent_bytes -= unsent_bytes;
        let content = json!({
            "agreement": opened.agreement, "use": use_id, "seq": opened.seq, "query": opened.query,
            "rows": opened.spent_rows, "bytes": opened.spent_bytes, "complete": outcome.complete,
            "result": format!("blake3:{}", outcome.result.to_hex()), "by": self.own.did.as_str(),
            "to": opened.consumer,
        });
        let consumer: Did = opened.consumer.parse().map_err(|_| unavailable("a stored use names no DID"))?;
        let caller = CallerRef { agreement: &opened.agreement, consumer };
        let stated = self.statement(Act::Served, "use.served", &caller, opened.seq, content)?;
        // The receipt hands the consumer the salts: both state the same.
        let payload = base_json::canonical(stated.content.as_ref().unwrap_or(&Value::Null))
            .map_err(|error| unavailable(&error.to_string()))?;
        let receipt = jws::sign(&self.own.key, &self.own.kid, RECEIPT_TYP, &payload);
        opened.receipt = Some(receipt.clone());
        let mut batch = Batch::default();
        batch.put(Table::Usage, &opened.agreement, &usage).map_err(store_failed)?;
        batch.put(Table::Uses, use_id, &opened).map_err(store_failed)?;
        batch.delete(Table::OpenUses, use_id);
        self.save(batch, &stated).await?;
        Ok(Receipt(receipt))
    }

    async fn open_locked(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        // Before the lock: what is fetched for it may take long, and running streams spend under the same lock.
        let viewer = self.viewer(caller).await;
        let _guard = self.locks.lock(&caller.agreement).await;
        let mut usage = self.usage(&caller.agreement)?;
        let grant = self.permitted(caller, &Want::of(ask), usage, &viewer)?;
        let permit = &grant.permit;
        usage.count += 1;
        usage.seq += 1;
        let use_id = format!("urn:uuid:{}", uuid::Uuid::new_v4());
        let opened = UseRow {
            agreement: caller.agreement.clone(),
            transfer: caller.transfer.clone(),
            consumer: caller.consumer.to_string(),
            action: ask.action.name().to_owned(),
            purpose: ask.purpose.clone(),
            form: Some(ask.form.word().to_owned()),
            query: ask.query_digest.to_string(),
            max_rows: permit.limits().max_rows,
            max_bytes: permit.limits().max_bytes,
            seq: usage.seq,
            spent_rows: 0,
            spent_bytes: 0,
            receipt: None,
        };
        let content = json!({
            "agreement": caller.agreement, "use": use_id, "query": ask.query_digest.to_string(),
            "program": permit.program_hash().to_string(), "action": opened.action, "purpose": opened.purpose,
            "form": opened.form, "consumer": opened.consumer, "transfer": opened.transfer,
        });
        let stated = self.statement(Act::Decided, "use.permitted", &caller.into(), usage.seq, content)?;
        let mut batch = Batch::default();
        batch.put(Table::Usage, &caller.agreement, &usage).map_err(store_failed)?;
        batch.put(Table::Uses, &use_id, &opened).map_err(store_failed)?;
        batch.put(Table::OpenUses, &use_id, &()).map_err(store_failed)?;
        self.save(batch, &stated).await?;
        Ok(Grant { use_id, ..grant })
    }
}

/// A refusal of the policy in the data plane's words. `set_aside`: why credentials of the caller do not count.
fn refused_by(refusal: &Refusal, set_aside: &[String]) -> Refused {
    let Some(decision) = &refusal.explanation else {
        return match (refusal.cause, refusal.standing) {
            (RefusalCause::NotActive, Standing::Expired) => {
                Refused::new(RefusedCode::Expired, "the agreement has expired")
            }
            (RefusalCause::NotActive, Standing::Active | Standing::Suspended | Standing::Terminated) => {
                Refused::new(RefusedCode::Revoked, "the agreement was revoked")
            }
            (
                RefusalCause::NotAnAgreement
                | RefusalCause::OtherAsset
                | RefusalCause::OtherConsumer
                | RefusalCause::Policy,
                _,
            ) => Refused::new(RefusedCode::Forbidden, refusal.to_string()),
        };
    };
    let failed = |step: &&Step| step.outcome != Outcome3::Holds;
    let left_operand = |step: &Step| match &step.test {
        Test::Constraint { left, .. } => Some(*left),
        Test::Group(_) | Test::Duty { .. } | Test::Plan => None,
    };
    let mut failing = decision.steps.iter().filter(failed).filter_map(left_operand).peekable();
    let only_budgets = failing.peek().is_some()
        && failing.all(|left| matches!(left, LeftOperand::Count | LeftOperand::RowCount | LeftOperand::ByteCount));
    let code = if only_budgets { RefusedCode::Quota } else { RefusedCode::Forbidden };
    let lines: Vec<String> = std::iter::once(decision.words(Lang::En)).chain(set_aside.iter().cloned()).collect();
    Refused::new(code, lines.join("\n"))
}

fn refused(problem: Problem) -> Refused {
    match problem.status.as_u16() {
        404 => Refused::new(RefusedCode::NotFound, problem.detail),
        _ => unavailable(&problem.detail),
    }
}

async fn joined<T>(work: tokio::task::JoinHandle<Result<T, Refused>>) -> Result<T, Refused> {
    work.await.unwrap_or_else(|error| Err(unavailable(&error.to_string())))
}

/// Refusals that are verdicts on the use, and therefore evidence.
fn is_verdict(code: RefusedCode) -> bool {
    matches!(code, RefusedCode::Forbidden | RefusedCode::Quota | RefusedCode::Revoked | RefusedCode::Expired)
}

fn unavailable(detail: &str) -> Refused {
    tracing::error!(detail, "the gate cannot decide");
    Refused::new(RefusedCode::Unavailable, "the node cannot decide this now; its log says why")
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn store_failed(error: StoreError) -> Refused {
    unavailable(&error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn evidence_failed(error: EvidenceError) -> Refused {
    unavailable(&crate::management::chain(&error))
}
