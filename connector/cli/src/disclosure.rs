//! `shuyu ledger disclose`, `verify-disclosure` and `erase`: what entries are about, shown and forgotten.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use shuyu_base::Did;
use shuyu_evidence::disclosure::MAX_DISCLOSURE_BYTES;
use shuyu_evidence::{Disclosed, Disclosure};
use shuyu_tlog::Vkey;

use crate::bundle::parse_pin;
use crate::context::{Globals, read_file};
use crate::failure::{Failure, Outcome, chain};
use crate::print;

/// What to show.
#[derive(Debug, Args)]
pub struct Disclose {
    /// Index of the entry, counted from 0
    index: u64,
    /// A field, or a place with fields below it; may be repeated. Without one the names of the fields are listed
    #[arg(long = "field", value_name = "NAME")]
    fields: Vec<String>,
    /// Write to this file instead of stdout
    #[arg(long, value_name = "FILE", requires = "fields")]
    file: Option<PathBuf>,
}

/// Which disclosure.
#[derive(Debug, Args)]
pub struct Verify {
    /// The disclosure; `-` reads stdin
    file: PathBuf,
    /// The log's key you know from elsewhere, as DID=VKEY. Without it the file's own keys are believed
    #[arg(long, value_name = "DID=VKEY")]
    pin: Option<String>,
}

/// What to forget.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["index", "process", "subject"]))]
pub struct Erase {
    /// Index of the entry, counted from 0
    index: Option<u64>,
    /// Every entry of this process, as `shuyu ledger tail` shows it
    #[arg(long, value_name = "PROCESS")]
    process: Option<String>,
    /// Every entry with a field of exactly this value, such as a DID or a name
    #[arg(long, value_name = "VALUE")]
    subject: Option<String>,
    /// Only this field, or what is below this place; may be repeated. Without one all is forgotten
    #[arg(long = "field", value_name = "NAME")]
    fields: Vec<String>,
    /// Why; the ledger commits to it
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// Runs `shuyu ledger disclose`.
pub async fn disclose(globals: &Globals, wish: &Disclose) -> Outcome {
    let api = globals.api()?;
    if wish.fields.is_empty() {
        let answer = api.get(&format!("v1/ledger/fields/{}", wish.index)).await?;
        if globals.is_json() {
            return print::line(&answer.text);
        }
        let names = answer.value.get("fields").and_then(Value::as_array).into_iter().flatten();
        for name in names.filter_map(Value::as_str) {
            print::line(&print::clean(name))?;
        }
        globals.hint(format_args!("--field NAME shows one of them"));
        return Ok(());
    }
    let answer = api.post("v1/ledger/disclose", &json!({"index": wish.index, "fields": wish.fields})).await?;
    let Some(file) = &wish.file else {
        return print::line(&answer.text);
    };
    std::fs::write(file, answer.text.as_bytes())
        .map_err(|error| Failure::failed(format_args!("could not write `{}`: {error}", file.display())))?;
    globals.say(format_args!("wrote {} bytes to {}", answer.text.len(), file.display()));
    globals.hint(format_args!("`shuyu ledger verify-disclosure {}` checks it on any machine", file.display()));
    Ok(())
}

/// Runs `shuyu ledger verify-disclosure`.
pub fn verify(globals: &Globals, wish: &Verify) -> Outcome {
    let pin: Option<(Did, Vkey)> = wish.pin.as_deref().map(parse_pin).transpose()?;
    let bytes = read_file(&wish.file, MAX_DISCLOSURE_BYTES as u64)?;
    let disclosure = Disclosure::parse(&bytes)
        .map_err(|error| Failure::invalid(format_args!("`{}`: {}", wish.file.display(), chain(&error))))?;
    if let Some((did, vkey)) = &pin
        && (*did != disclosure.did || *vkey != disclosure.vkey)
    {
        return Err(Failure::refused(format_args!("the log key of `{}` is not the one known to you", disclosure.did)));
    }
    let disclosed = disclosure.verify().map_err(|error| Failure::refused(chain(&error)))?;
    show(globals, &disclosed)?;
    let statement = &disclosed.statement;
    globals.say(format_args!(
        "verified: entry {} of `{}`, `{}` `{}` at {}, commits to these values",
        disclosed.index,
        statement.by,
        statement.act.name(),
        statement.kind,
        statement.at
    ));
    if pin.is_none() {
        globals.hint(format_args!("the keys are those the file brings; --pin DID=VKEY holds them against yours"));
    }
    Ok(())
}

fn show(globals: &Globals, disclosed: &Disclosed) -> Outcome {
    let statement = &disclosed.statement;
    if globals.is_json() {
        let fields: serde_json::Map<String, Value> = disclosed.fields.iter().cloned().collect();
        let all = json!({"by": statement.by.as_str(), "with": statement.with.as_str(), "kind": statement.kind,
            "act": statement.act.name(), "at": statement.at.to_string(), "process": statement.process,
            "seq": statement.seq, "index": disclosed.index, "size": disclosed.head.size, "fields": fields});
        return print::line(&all.to_string());
    }
    let rows = disclosed.fields.iter().map(|(name, value)| vec![print::clean(name), print::cell(value)]).collect();
    print::grid(["FIELD", "VALUE"].map(str::to_owned).to_vec(), rows)
}

/// Runs `shuyu ledger erase`.
pub async fn erase(globals: &Globals, wish: &Erase) -> Outcome {
    let mut body = json!({"fields": wish.fields, "reason": wish.reason});
    let target = [
        ("index", wish.index.map(Value::from)),
        ("process", wish.process.clone().map(Value::from)),
        ("subject", wish.subject.clone().map(Value::from)),
    ];
    for (name, value) in target {
        if let (Some(members), Some(value)) = (body.as_object_mut(), value) {
            members.insert(name.to_owned(), value);
        }
    }
    let answer = globals.api()?.post("v1/ledger/erase", &body).await?;
    let count = answer.value.get("erased").and_then(Value::as_array).map_or(0, Vec::len);
    globals.done(&answer, format_args!("forgot what {count} entries are about; the ledger states it"))
}
