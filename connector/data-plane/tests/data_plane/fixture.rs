//! A gate over `shuyu_policy::authorize`, and tables whose hidden rows can be swapped.

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use datafusion::arrow::{
    array::{Date32Array, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use shuyu_base::{Digest, UnixMillis};
use shuyu_data_plane::{
    Ask, Caller, Engine, FlightSql, Format, Gate, Grant, Outcome, QueryLimits, Receipt, Refused, RefusedCode,
    StreamStanding, TableSource, remote::Provider, serve_flight,
};
use shuyu_policy::{
    Constraint, LiveAgreement, Operand, Permit, Policy, PolicyKind, Request, Rule, Standing, Usage, authorize, compile,
    terms::{Action, LeftOperand, Operator},
};
use tokio::{net::TcpListener, sync::watch};
use tokio_util::sync::CancellationToken;
use url::Url;

pub const ALICE: &str = "alice-token";
pub const MALLORY: &str = "mallory-token";

/// A gate with one agreement, counters in memory, and a token for each of two holders.
pub struct TestGate {
    agreement: LiveAgreement,
    table: TableSource,
    standing: watch::Sender<StreamStanding>,
    pub used: Mutex<Usage>,
    pub outcomes: Mutex<Vec<(String, Outcome)>>,
    uses: AtomicU64,
    max_bytes: u64,
}

pub struct Terms<'a> {
    pub filter: Option<&'a str>,
    pub masks: &'a [&'a str],
    pub denied: &'a [&'a str],
    pub max_count: Option<u64>,
    pub max_bytes: u64,
    pub until: Option<UnixMillis>,
}

/// Tenant `a` only, names shortened, `ssn` denied.
pub const TENANT_A: Terms<'static> = Terms {
    filter: Some("tenant = 'a'"),
    masks: &["name=show-first-4"],
    denied: &["ssn"],
    max_count: None,
    max_bytes: u64::MAX,
    until: None,
};

pub const EVERYTHING: Terms<'static> = Terms { filter: None, masks: &[], denied: &[], ..TENANT_A };

impl Terms<'_> {
    fn constraints(&self) -> Vec<Constraint> {
        let text = |left, value: &str| Constraint::new(left, Operator::Eq, Operand::Text(value.to_owned()));
        let mut found = Vec::new();
        found.extend(self.filter.map(|filter| text(LeftOperand::RowFilter, filter)));
        found.extend(self.masks.iter().map(|mask| text(LeftOperand::ColumnMask, mask)));
        found.extend(self.denied.iter().map(|column| text(LeftOperand::ColumnDeny, column)));
        found.extend(
            self.max_count.map(|count| Constraint::new(LeftOperand::Count, Operator::Lteq, Operand::Count(count))),
        );
        found.extend(self.until.map(|end| Constraint::new(LeftOperand::DateTime, Operator::Lteq, Operand::Time(end))));
        found
    }
}

pub fn now() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(since.as_millis()).unwrap())
}

impl TestGate {
    pub fn new(terms: &Terms<'_>, table: TableSource) -> Arc<Self> {
        let policy = Policy {
            assigner: Some("did:web:holder.example".parse().unwrap()),
            assignee: Some("did:web:alice.example".parse().unwrap()),
            target: Some("urn:asset:1".to_owned()),
            permissions: vec![Rule { constraints: terms.constraints(), ..Rule::new(Action::Use) }],
            ..Policy::new("urn:agreement:1", PolicyKind::Agreement)
        };
        let agreement = LiveAgreement {
            agreement_id: "urn:agreement:1".to_owned(),
            asset: "urn:asset:1".to_owned(),
            program: Arc::new(compile(&policy).unwrap()),
            standing: Standing::Active,
        };
        Arc::new(Self {
            agreement,
            table,
            standing: watch::Sender::new(StreamStanding::Live),
            used: Mutex::default(),
            outcomes: Mutex::default(),
            uses: AtomicU64::new(0),
            max_bytes: terms.max_bytes,
        })
    }

    pub fn revoke(&self) {
        self.standing.send_replace(StreamStanding::Revoked("the holder withdrew it".to_owned()));
    }

    pub fn uses(&self) -> u64 {
        self.used.lock().unwrap().count
    }

    fn permit(&self, caller: &Caller, ask: &Ask, used: Usage) -> Result<Permit, Refused> {
        if let StreamStanding::Revoked(reason) = &*self.standing.borrow() {
            return Err(Refused::new(RefusedCode::Revoked, reason));
        }
        let request = Request {
            purpose: ask.purpose.clone(),
            format: Some(ask.form.word().to_owned()),
            used,
            ..Request::new(now(), ask.action, "urn:asset:1", caller.consumer.clone())
        };
        authorize(&self.agreement, &request).map_err(|refusal| Refused::new(RefusedCode::Forbidden, refusal))
    }

    fn grant(&self, permit: Permit, use_id: String) -> Grant {
        Grant { permit, table: self.table.clone(), standing: self.standing.subscribe(), use_id }
    }
}

#[async_trait]
impl Gate for TestGate {
    async fn authenticate(&self, bearer: &str) -> Result<Caller, Refused> {
        let name = match bearer {
            ALICE => "alice",
            MALLORY => "mallory",
            _ => return Err(Refused::new(RefusedCode::Unauthenticated, "no such token")),
        };
        Ok(Caller {
            consumer: format!("did:web:{name}.example").parse().unwrap(),
            transfer: format!("transfer-{name}"),
            agreement: "urn:agreement:1".to_owned(),
            holder: Digest::sha256(name.as_bytes()),
        })
    }

    async fn view(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        let used = *self.used.lock().unwrap();
        Ok(self.grant(self.permit(caller, ask, used)?, String::new()))
    }

    async fn open(&self, caller: &Caller, ask: &Ask) -> Result<Grant, Refused> {
        let mut used = self.used.lock().unwrap();
        let permit = self.permit(caller, ask, *used)?;
        used.count += 1;
        let use_id = format!("use-{}", self.uses.fetch_add(1, Ordering::Relaxed));
        Ok(self.grant(permit, use_id))
    }

    async fn reopen(&self, caller: &Caller, use_id: &str) -> Result<Grant, Refused> {
        let ask = Ask {
            action: Action::Read,
            purpose: None,
            query_digest: Digest::sha256(b""),
            form: shuyu_data_plane::Form::Parquet,
        };
        let mut used = *self.used.lock().unwrap();
        used.count -= 1;
        Ok(self.grant(self.permit(caller, &ask, used)?, use_id.to_owned()))
    }

    async fn spend(&self, _: &str, rows: u64, bytes: u64) -> Result<(), Refused> {
        let mut used = self.used.lock().unwrap();
        if used.bytes + bytes > self.max_bytes {
            return Err(Refused::new(RefusedCode::Quota, "the byte quota is used up"));
        }
        used.rows += rows;
        used.bytes += bytes;
        Ok(())
    }

    async fn finish(&self, use_id: &str, outcome: Outcome) -> Result<Receipt, Refused> {
        let mut used = self.used.lock().unwrap();
        used.rows -= outcome.unsent_rows;
        used.bytes -= outcome.unsent_bytes;
        self.outcomes.lock().unwrap().push((use_id.to_owned(), outcome));
        Ok(Receipt(format!("receipt-of-{use_id}")))
    }

    fn sign_ticket(&self, ticket: &[u8]) -> String {
        blake3::keyed_hash(&[7; 32], ticket).to_hex().to_string()
    }

    fn verify_ticket(&self, ticket: &[u8], signature: &str) -> bool {
        self.sign_ticket(ticket) == signature
    }
}

/// A holder's node: gate, engine and a Flight server on loopback.
pub struct Holder {
    pub gate: Arc<TestGate>,
    pub flight: Url,
    stop: CancellationToken,
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub fn limits() -> QueryLimits {
    QueryLimits { memory_bytes: 64 << 20, threads: 2, ..QueryLimits::default() }
}

impl Holder {
    pub async fn start(terms: &Terms<'_>, table: TableSource, limits: QueryLimits) -> Self {
        let gate = TestGate::new(terms, table);
        let engine = Engine::start(limits).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let flight = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(serve_flight(FlightSql::new(gate.clone(), engine), listener, None, stop.clone()));
        Self { gate, flight, stop }
    }

    pub async fn connect(&self, token: &str) -> Provider {
        Provider::connect(&self.flight, token, None, None).await.unwrap()
    }
}

pub fn source(path: &Path, format: Format) -> TableSource {
    let location = if path.is_dir() { Url::from_directory_path(path) } else { Url::from_file_path(path) };
    TableSource { name: "people".to_owned(), location: location.unwrap(), format, schema: None }
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("tenant", DataType::Utf8, false),
        Field::new("id", DataType::Int64, false),
        Field::new("salary", DataType::Int64, true),
        Field::new("note", DataType::Utf8, true),
        Field::new("amount", DataType::Float64, true),
        Field::new("day", DataType::Date32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("ssn", DataType::Utf8, true),
    ]))
}

/// A row of the test table: `visible` is its number among the visible ones, else its secret.
pub enum Row {
    Visible(i64),
    Hidden(i64),
}

pub fn batch(rows: &[Row]) -> RecordBatch {
    let pick = |visible: fn(i64) -> String, hidden: fn(i64) -> String| {
        let values = rows.iter().map(|row| match row {
            Row::Visible(n) => visible(*n),
            Row::Hidden(secret) => hidden(*secret),
        });
        Arc::new(StringArray::from_iter_values(values))
    };
    let number = |visible: fn(i64) -> i64, hidden: fn(i64) -> i64| {
        let values = rows.iter().map(|row| match row {
            Row::Visible(n) => visible(*n),
            Row::Hidden(secret) => hidden(*secret),
        });
        Int64Array::from_iter_values(values)
    };
    let salary = number(|n| 1000 + n % 50, |secret| if secret % 3 == 0 { 100 } else { secret });
    let days = number(|n| 20_000 + n % 400, |secret| secret % 30_000);
    let amounts = number(|n| n * 7919 % 10_007, |secret| secret * 31 % 999_983);
    RecordBatch::try_new(
        schema(),
        vec![
            pick(|_| "a".to_owned(), |_| "b".to_owned()),
            Arc::new(number(|n| n, |secret| -secret)),
            Arc::new(salary),
            pick(|n| (n % 10).to_string(), |secret| format!("SECRET-{secret}")),
            Arc::new(Float64Array::from_iter_values(amounts.values().iter().map(|n| *n as f64 / 3.0))),
            Arc::new(Date32Array::from_iter_values(days.values().iter().map(|n| i32::try_from(*n).unwrap()))),
            pick(|n| format!("Name {n}"), |secret| format!("Hidden {secret}")),
            pick(|n| format!("ssn-{n}"), |secret| format!("secret-{secret}")),
        ],
    )
    .unwrap()
}

/// Small row groups, so that a table has many units of work.
pub fn write_parquet(path: &Path, rows: &[Row], row_group_rows: usize) {
    let properties = WriterProperties::builder().set_max_row_group_row_count(Some(row_group_rows)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), schema(), Some(properties)).unwrap();
    writer.write(&batch(rows)).unwrap();
    writer.close().unwrap();
}

/// `visible` rows among hidden ones; worlds of different seeds differ in the hidden rows only: their number, places and
/// contents.
pub fn world(visible: i64, visible_share: f64, seed: i64) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut state = seed.unsigned_abs().wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let hidden_per_visible = (1.0 - visible_share) / visible_share;
    let mut owed = 0.0;
    for n in 0..visible {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        owed += hidden_per_visible * (state >> 33) as f64 / f64::from(1_u32 << 30);
        while owed >= 1.0 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            rows.push(Row::Hidden((state >> 40) as i64));
            owed -= 1.0;
        }
        rows.push(Row::Visible(n));
    }
    rows
}

/// The words of an error without the random query id.
pub fn stable(words: &str) -> String {
    let mut parts = words.splitn(2, "(query ");
    let head = parts.next().unwrap_or_default();
    match parts.next().and_then(|tail| tail.split_once(')')) {
        Some((_, tail)) => format!("{head}(query …){tail}"),
        None => head.to_owned(),
    }
}
