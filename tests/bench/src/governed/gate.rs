//! A gate with one live agreement for each table: real policies and signatures, counters in memory.

use std::collections::HashMap;
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use shuyu_base::{
    Did, Digest,
    keys::{SecretKey, Suite},
};
use shuyu_credentials::jws;
use shuyu_data_plane::{Ask, Caller, Gate, Grant, Outcome, Receipt, Refused, RefusedCode, StreamStanding, TableSource};
use shuyu_policy::{
    Action, Constraint, LeftOperand, LiveAgreement, Operand, Operator, Policy, PolicyKind, Request, Rule, Standing,
    Usage, authorize, compile,
};
use tokio::sync::watch;

use crate::clock;

const CONSUMER: &str = "did:web:consumer.example";

/// What a contract leaves of a table.
pub struct Terms {
    /// The contract's name, which is the consumer's token too.
    pub contract: String,
    /// The rows.
    pub row_filter: String,
    /// `column=mask`.
    pub mask: Option<&'static str>,
    /// The table.
    pub table: TableSource,
}

struct Contract {
    live: LiveAgreement,
    table: TableSource,
    standing: watch::Sender<StreamStanding>,
    rows: AtomicU64,
    bytes: AtomicU64,
}

/// See the module.
pub struct MemoryGate {
    key: SecretKey,
    consumer: Did,
    contracts: HashMap<String, Contract>,
    uses: AtomicU64,
}

impl Terms {
    fn policy(&self, consumer: &Did) -> Result<Policy> {
        let text = |left, value: &str| Constraint::new(left, Operator::Eq, Operand::Text(value.to_owned()));
        let mut constraints = vec![text(LeftOperand::RowFilter, &self.row_filter)];
        constraints.extend(self.mask.map(|mask| text(LeftOperand::ColumnMask, mask)));
        Ok(Policy {
            assigner: Some("did:web:holder.example".parse()?),
            assignee: Some(consumer.clone()),
            target: Some(self.contract.clone()),
            permissions: vec![Rule { constraints, ..Rule::new(Action::Use) }],
            ..Policy::new(&self.contract, PolicyKind::Agreement)
        })
    }
}

impl MemoryGate {
    /// A gate for these contracts.
    pub fn new(terms: Vec<Terms>) -> Result<Arc<Self>> {
        let consumer: Did = CONSUMER.parse()?;
        let mut contracts = HashMap::new();
        for terms in terms {
            let program = compile(&terms.policy(&consumer)?).with_context(|| terms.contract.clone())?;
            let live = LiveAgreement {
                agreement_id: terms.contract.clone(),
                asset: terms.contract.clone(),
                program: Arc::new(program),
                standing: Standing::Active,
            };
            let contract = Contract {
                live,
                table: terms.table,
                standing: watch::Sender::new(StreamStanding::Live),
                rows: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
            };
            contracts.insert(terms.contract, contract);
        }
        let key = SecretKey::from_seed(Suite::Ed25519, &[7; 32])?;
        Ok(Arc::new(Self { key, consumer, contracts, uses: AtomicU64::new(0) }))
    }

    fn contract(&self, name: &str) -> Result<&Contract, Refused> {
        self.contracts.get(name).ok_or_else(|| Refused::new(RefusedCode::NotFound, "no such contract"))
    }

    fn grant(&self, caller: &Caller, ask: &Ask, use_id: String) -> Result<Grant, Refused> {
        let contract = self.contract(&caller.agreement)?;
        let used = Usage {
            count: self.uses.load(Ordering::Relaxed),
            rows: contract.rows.load(Ordering::Relaxed),
            bytes: contract.bytes.load(Ordering::Relaxed),
        };
        let request = Request {
            purpose: ask.purpose.clone(),
            format: Some(ask.form.word().to_owned()),
            used,
            ..Request::new(clock::now(), ask.action, &contract.live.asset, caller.consumer.clone())
        };
        let permit =
            authorize(&contract.live, &request).map_err(|refusal| Refused::new(RefusedCode::Forbidden, refusal))?;
        Ok(Grant { permit, table: contract.table.clone(), standing: contract.standing.subscribe(), use_id })
    }
}

/// `contract/number`.
fn contract_of(use_id: &str) -> &str {
    use_id.rsplit_once('/').map_or(use_id, |(contract, _)| contract)
}

#[async_trait]
impl Gate for MemoryGate {
    async fn authenticate(&self, bearer: &str) -> Result<Caller, Refused> {
        self.contract(bearer)?;
        Ok(Caller {
            consumer: self.consumer.clone(),
            transfer: bearer.to_owned(),
            agreement: bearer.to_owned(),
            holder: Digest::sha256(bearer.as_bytes()),
        })
    }

    async fn view(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        self.grant(caller, ask, String::new())
    }

    async fn open(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        let number = self.uses.fetch_add(1, Ordering::Relaxed);
        self.grant(caller, ask, format!("{}/{number}", caller.agreement))
    }

    async fn reopen(&self, _: &Caller, _: &str) -> Result<Grant, Refused> {
        Err(Refused::new(RefusedCode::Invalid, "benchmarks do not resume downloads"))
    }

    async fn spend(&self, use_id: &str, rows: u64, bytes: u64) -> Result<(), Refused> {
        let contract = self.contract(contract_of(use_id))?;
        contract.rows.fetch_add(rows, Ordering::Relaxed);
        contract.bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    async fn finish(&self, use_id: &str, outcome: Outcome) -> Result<Receipt, Refused> {
        let statement = json!({
            "use": use_id, "unsent": outcome.unsent_bytes, "complete": outcome.complete,
            "result": outcome.result.to_hex().as_str(),
        });
        let statement = statement.to_string();
        Ok(Receipt(jws::sign(&self.key, "did:web:holder.example#key", "shuyu-receipt+jws", statement.as_bytes())))
    }

    fn sign_ticket(&self, ticket: &[u8]) -> String {
        URL_SAFE_NO_PAD.encode(self.key.sign(ticket))
    }

    fn verify_ticket(&self, ticket: &[u8], signature: &str) -> bool {
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        self.key.public().verify(ticket, &signature).is_ok()
    }
}
