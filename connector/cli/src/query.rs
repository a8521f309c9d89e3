//! `shuyu query`: SQL under one contract, answered by the provider, or under several, joined here.

use clap::Args;
use datafusion::common::DataFusionError;
use futures::{Stream, StreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::Value;
use shuyu_data_plane::remote::{Provider, RemoteError, RemoteTable, join_session};
use url::Url;

use crate::access::{self, Access};
use crate::api::path;
use crate::context::{Globals, Page};
use crate::failure::{Failure, Outcome, chain};
use crate::rows::{Form, RowWriter, Target};
use crate::transfer::{self, Access as Way};
use crate::{print, tls};

/// Seconds to wait for a provider that opens access.
const OPEN_TIMEOUT_S: u64 = 30;

/// What to ask.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  shuyu query 'SELECT count(*) FROM flights' --contract urn:uuid:... --purpose research
  shuyu query 'SELECT * FROM flights LIMIT 5' --transfer 5a1e... --format json
  shuyu query 'SELECT * FROM f JOIN w ON f.date = w.date' --contract f=urn:uuid:1... --contract w=urn:uuid:2...

With one contract the provider answers the whole query. With several, each provider answers for its own table,
under its own contract, and the tables are joined here. Each table read counts as one use of its contract.
The provider's signed receipts go into the ledger of the own node.

Exit code 2 if a contract refuses (purpose, count, time, revocation, a statement that is not a query),
3 if the SQL does not fit the visible columns.")]
pub struct Query {
    /// One SQL query
    sql: String,
    /// Use this contract; opens access if none is open. NAME= names its table. May be repeated
    #[arg(long = "contract", value_name = "[NAME=]ID", required_unless_present = "transfers")]
    contracts: Vec<String>,
    /// Use this transfer, of format flight-sql. NAME= names its table. May be repeated
    #[arg(long = "transfer", value_name = "[NAME=]ID")]
    transfers: Vec<String>,
    /// Purpose of the use, as the contracts ask for one
    #[arg(long)]
    purpose: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// One table and the right to read it.
struct Door {
    name: Option<String>,
    access: Access,
    provider: Provider,
}

/// Runs `shuyu query`.
pub async fn run(globals: &Globals, wish: &Query) -> Outcome {
    let mut doors = Vec::new();
    for text in &wish.transfers {
        let (name, id) = named(text);
        doors.push(door(globals, name, id, wish.purpose.as_deref()).await?);
    }
    for text in &wish.contracts {
        let (name, id) = named(text);
        let transfer = transfer_of(globals, id).await?;
        doors.push(door(globals, name, &transfer, wish.purpose.as_deref()).await?);
    }
    let providers: Vec<Provider> = doors.iter().map(|door| door.provider.clone()).collect();
    let answered = match doors.as_slice() {
        [one] if one.name.is_none() => alone(globals, wish, &one.provider).await,
        _ => joined(globals, wish, doors).await,
    };
    // Receipts of what was read count even if another provider refused.
    let kept = keep_receipts(globals, &providers).await;
    answered.and(kept)
}

/// `NAME=ID` or `ID`; ids have no `=` before a `:`.
fn named(text: &str) -> (Option<&str>, &str) {
    match text.split_once('=') {
        Some((name, id)) if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => {
            (Some(name), id)
        }
        Some(_) | None => (None, text),
    }
}

async fn door(globals: &Globals, name: Option<&str>, transfer: &str, purpose: Option<&str>) -> Outcome<Door> {
    let access = access::of(globals, transfer).await?;
    let text = access.flight_endpoint.as_deref().ok_or_else(|| {
        Failure::failed(format_args!("transfer {transfer} has no Flight SQL access"))
            .hint("start one with `shuyu transfer start --format flight-sql`")
    })?;
    let endpoint = flight_url(text)?;
    let tls = if endpoint.scheme() == "https" { Some(tls::client(globals)?) } else { None };
    let provider = Provider::connect(&endpoint, &access.bearer, purpose, tls).await.map_err(|error| failure(&error))?;
    globals.detail(format_args!("transfer {transfer}: {endpoint}"));
    Ok(Door { name: name.map(str::to_owned), access, provider })
}

/// Flight locations are `grpc://` and `grpc+tls://`; the token travels in the clear on loopback only.
fn flight_url(text: &str) -> Outcome<Url> {
    let bad =
        |why: &str| Failure::failed(format_args!("the provider's Flight address `{}`: {why}", print::clean(text)));
    let rest = |prefix: &str| text.strip_prefix(prefix);
    let http =
        match (rest("grpc+tls://").or(rest("https://")), rest("grpc+tcp://").or(rest("grpc://")).or(rest("http://"))) {
            (Some(rest), _) => format!("https://{rest}"),
            (None, Some(rest)) => format!("http://{rest}"),
            (None, None) => return Err(bad("not grpc:// or grpc+tls://")),
        };
    let url: Url = http.parse().map_err(|error: url::ParseError| bad(&error.to_string()))?;
    let is_loopback = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if url.scheme() == "http" && !is_loopback {
        return Err(
            bad("without TLS, and not on this machine").hint("the provider must set `flight-url` to grpc+tls://")
        );
    }
    Ok(url)
}

/// An open Flight SQL transfer of the contract, a new one if there is none.
async fn transfer_of(globals: &Globals, contract: &str) -> Outcome<String> {
    let api = globals.api()?;
    let known = api.get(&path("v1/contracts", contract, "")).await?;
    let state = known.text_at("/state")?;
    if state != "active" {
        let why = known.value.get("reason").map(print::cell).filter(|why| !why.is_empty());
        let failure = Failure::refused(format_args!("contract {contract} is {state}"));
        return Err(failure.because(why.into_iter().collect()).hint("`shuyu negotiation start` asks for a new one"));
    }
    let mut page = Page { limit: Some(1000), after: None };
    loop {
        let answer = api.get_with(transfer::COLLECTION, &page.query()).await?;
        let is = |item: &Value, name: &str, wanted: &str| {
            item.get(name).and_then(Value::as_str).is_some_and(|text| text.eq_ignore_ascii_case(wanted))
        };
        let open = answer.items().iter().find(|item| {
            is(item, "agreement", contract)
                && is(item, "format", Way::FlightSql.name())
                && is(item, "state", "STARTED")
                && is(item, "role", "consumer")
        });
        if let Some(open) = open {
            return crate::api::text_at(open, "/id").map(str::to_owned);
        }
        page.after = answer.value.get("next").and_then(Value::as_str).map(str::to_owned);
        if page.after.is_none() {
            globals.detail(format_args!("opening access under {contract}"));
            return transfer::open(globals, contract, Way::FlightSql, OPEN_TIMEOUT_S).await;
        }
    }
}

async fn alone(globals: &Globals, wish: &Query, provider: &Provider) -> Outcome {
    let stream = provider.query(&wish.sql).await.map_err(|error| failure(&error))?;
    let schema = stream.schema().clone();
    let batches = stream.map(|batch| batch.map_err(|error| failure(&error)));
    write(globals, wish, RowWriter::open(form(globals, wish), wish.target.file.as_deref(), &schema)?, batches).await
}

async fn joined(globals: &Globals, wish: &Query, doors: Vec<Door>) -> Outcome {
    let mut tables = Vec::new();
    for door in doors {
        let remote =
            door.access.table.as_deref().ok_or_else(|| Failure::failed("the provider did not name its table"))?;
        let local = door.name.as_deref().unwrap_or(remote);
        tables.push(RemoteTable::open(door.provider, remote, local).await.map_err(|error| failure(&error))?);
    }
    let session = join_session(tables)
        .map_err(|error| local_failure(&error).hint("name the tables: --contract a=ID1 --contract b=ID2"))?;
    let frame = session.sql(&wish.sql).await.map_err(|error| local_failure(&error))?;
    let stream = frame.execute_stream().await.map_err(|error| local_failure(&error))?;
    let schema = stream.schema();
    let batches = stream.map(|batch| batch.map_err(|error| local_failure(&error)));
    write(globals, wish, RowWriter::open(form(globals, wish), wish.target.file.as_deref(), &schema)?, batches).await
}

fn form(globals: &Globals, wish: &Query) -> Form {
    wish.target.format.unwrap_or(if globals.is_json() { Form::Json } else { Form::Table })
}

async fn write<S>(globals: &Globals, wish: &Query, mut writer: RowWriter, batches: S) -> Outcome
where
    S: Stream<Item = Outcome<arrow::array::RecordBatch>>,
{
    let bar = if wish.target.file.is_some() && print::is_watched() && !globals.quiet {
        ProgressBar::new_spinner()
    } else {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    };
    let mut batches = std::pin::pin!(batches);
    while let Some(batch) = batches.next().await {
        match batch {
            Ok(batch) => writer.write(&batch)?,
            Err(failure) => {
                bar.finish_and_clear();
                globals.say(format_args!("{} rows had come", writer.rows));
                return Err(failure);
            }
        }
        bar.set_position(writer.rows);
    }
    bar.finish_and_clear();
    let rows = writer.rows;
    writer.finish()?;
    if let Some(file) = &wish.target.file {
        globals.say(format_args!("wrote {rows} rows to {}", file.display()));
    }
    Ok(())
}

async fn keep_receipts(globals: &Globals, providers: &[Provider]) -> Outcome {
    for end in providers.iter().flat_map(Provider::receipts) {
        access::keep_receipt(globals, &end.receipt).await?;
    }
    Ok(())
}

/// What a provider refused exits 2, what it did not understand 3.
fn failure(error: &RemoteError) -> Failure {
    let RemoteError::Refused { code, words } = error else {
        return Failure::failed(chain(error));
    };
    let mut lines = words.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned);
    let message = lines.next().unwrap_or_else(|| code.clone());
    let explanation = lines.collect();
    match code.as_str() {
        "forbidden" | "revoked" | "expired" | "quota-used-up" => Failure::refused(message)
            .because(explanation)
            .hint("`shuyu contract show ID` shows the terms and what was used"),
        "statement-not-allowed" => {
            Failure::refused(message).because(explanation).hint("contracts give read access: send one SELECT")
        }
        "statement-invalid" | "invalid-request" => Failure::invalid(message)
            .because(explanation)
            .hint("`shuyu catalog show DID DATASET` lists the columns; a contract may hide some"),
        _ => Failure::failed(message).because(explanation),
    }
}

/// An error of the local session: a provider's word inside it decides; otherwise it is the SQL.
fn local_failure(error: &DataFusionError) -> Failure {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(remote) = error.downcast_ref::<RemoteError>() {
            return failure(remote);
        }
        // DataFusion's wrappers show what they wrap through `find_root` only.
        if let Some(DataFusionError::External(inner)) =
            error.downcast_ref::<DataFusionError>().map(DataFusionError::find_root)
            && let Some(remote) = inner.downcast_ref::<RemoteError>()
        {
            return failure(remote);
        }
        cause = error.source();
    }
    let root = error.find_root();
    if matches!(root, DataFusionError::SQL(..) | DataFusionError::Plan(_) | DataFusionError::SchemaError(..)) {
        return Failure::invalid(root.strip_backtrace());
    }
    Failure::failed(root.strip_backtrace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn tables_are_named_by_a_prefix() {
        assert_eq!(named("f=urn:uuid:1"), (Some("f"), "urn:uuid:1"));
        assert_eq!(named("urn:uuid:1"), (None, "urn:uuid:1"));
        assert_eq!(named("urn:x:a=b"), (None, "urn:x:a=b"));
    }

    #[test]
    fn tokens_go_in_the_clear_on_loopback_only() {
        for (text, wanted) in [
            ("grpc://localhost:7103", Some("http://localhost:7103/")),
            ("grpc+tls://data.example:7103", Some("https://data.example:7103/")),
            ("grpc://data.example:7103", None),
            ("ftp://localhost", None),
            ("", None),
        ] {
            assert_eq!(flight_url(text).ok().map(|url| url.to_string()).as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_provider_s_word_decides_the_exit_code() {
        for (code, kind) in [
            ("revoked", Kind::Refused),
            ("statement-not-allowed", Kind::Refused),
            ("statement-invalid", Kind::Invalid),
            ("query-failed", Kind::Failed),
        ] {
            let refused = || RemoteError::Refused { code: code.to_owned(), words: "no\nbecause".to_owned() };
            let direct = failure(&refused());
            assert_eq!((direct.kind, direct.message.as_str(), direct.explanation.len()), (kind, "no", 1));
            let wrapped = DataFusionError::from(refused()).context("while joining");
            assert_eq!(local_failure(&wrapped).kind, kind);
        }
        assert_eq!(local_failure(&DataFusionError::Plan("no such column".to_owned())).kind, Kind::Invalid);
    }
}
