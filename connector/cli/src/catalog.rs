//! `shuyu catalog`: what another node offers.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::context::{Globals, Page};
use crate::failure::{Failure, Outcome};
use crate::{policy, print};

/// Commands about catalogues.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what a provider offers to this node
    #[command(after_help = "Example:\n  shuyu catalog list did:web:localhost%3A7101")]
    List(List),
    /// Find offers by words or by properties
    #[command(after_help = "Examples:
  shuyu catalog search did:web:localhost%3A7101 flights
  shuyu catalog search did:web:localhost%3A7101 --where keyword=transport --where format=HttpData-PULL")]
    Search(Search),
    /// Show one dataset: columns, formats, and each offer's policy in words
    #[command(after_help = "Example:\n  shuyu catalog show did:web:localhost%3A7101 flights --lang zh")]
    Show(Show),
}

/// Which catalogue.
#[derive(Debug, Args)]
pub struct List {
    /// DID of the provider
    provider: String,
    #[command(flatten)]
    page: Page,
}

/// What to look for.
#[derive(Debug, Args)]
pub struct Search {
    /// DID of the provider
    provider: String,
    /// Words that must appear in title, description or keywords
    text: Vec<String>,
    /// A property and its value; `=` equal, `~` contains. May be repeated; all must hold
    #[arg(long = "where", value_name = "PROPERTY=VALUE")]
    conditions: Vec<String>,
    #[command(flatten)]
    page: Page,
}

/// Which dataset.
#[derive(Debug, Args)]
pub struct Show {
    /// DID of the provider
    provider: String,
    /// The dataset's id
    dataset: String,
    /// Language of the policies' words
    #[arg(long, value_enum, default_value = "en")]
    lang: policy::Language,
}

/// Runs a command about catalogues.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::List(list) => listing(globals, request(&list.provider, &[], &[], &list.page)?).await,
        Command::Search(search) => {
            listing(globals, request(&search.provider, &search.text, &search.conditions, &search.page)?).await
        }
        Command::Show(which) => show(globals, which).await,
    }
}

async fn listing(globals: &Globals, body: Value) -> Outcome {
    let answer = globals.api()?.post("v1/catalog", &body).await?;
    if globals.is_json() {
        return print::line(&answer.text);
    }
    let rows: Vec<Value> = answer
        .items()
        .iter()
        .map(|item| {
            let offers = item.get("offers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            let ids: Vec<_> = offers.iter().filter_map(|offer| offer.get("id")).collect();
            json!({"id": item.get("id"), "title": item.get("title"), "formats": item.get("formats"), "offers": ids})
        })
        .collect();
    print::listing(&[("DATASET", "/id"), ("OFFERS", "/offers"), ("FORMATS", "/formats"), ("TITLE", "/title")], &rows)?;
    if let Some(next) = answer.value.get("next").and_then(Value::as_str) {
        globals.hint(format_args!("there is more: add --after {}", print::clean(next)));
    }
    Ok(())
}

async fn show(globals: &Globals, which: &Show) -> Outcome {
    let found = dataset(globals, &which.provider, &which.dataset).await?;
    if globals.is_json() {
        return print::line(&found.to_string());
    }
    print::details(
        &[
            ("id", "/id"),
            ("title", "/title"),
            ("description", "/description"),
            ("keywords", "/keywords"),
            ("formats", "/formats"),
            ("table", "/table"),
        ],
        &found,
    )?;
    let list = |name: &str| found.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    print::line("")?;
    print::listing(&[("COLUMN", "/name"), ("TYPE", "/type")], &list("schema"))?;
    for offer in list("offers") {
        print::line(&format!("\noffer {}", offer.get("id").map(print::cell).unwrap_or_default()))?;
        policy::print_words(offer.get("policy").unwrap_or(&Value::Null), which.lang)?;
    }
    globals.hint(format_args!(
        "ask for it with `shuyu negotiation start --provider {} --dataset {}`",
        which.provider, which.dataset
    ));
    Ok(())
}

/// The dataset `id` in the catalogue of `provider`.
///
/// # Errors
/// Exit code 1 if the provider offers no such dataset to this node.
pub async fn dataset(globals: &Globals, provider: &str, id: &str) -> Outcome<Value> {
    let api = globals.api()?;
    let mut after: Option<String> = None;
    loop {
        let page = Page { limit: Some(100), after };
        let answer = api.post("v1/catalog", &request(provider, &[], &[], &page)?).await?;
        if let Some(item) = answer.items().iter().find(|item| item.get("id").and_then(Value::as_str) == Some(id)) {
            return Ok(item.clone());
        }
        after = answer.value.get("next").and_then(Value::as_str).map(str::to_owned);
        if after.is_none() {
            return Err(Failure::failed(format_args!("{provider} offers no dataset `{id}`"))
                .hint(format_args!("`shuyu catalog list {provider}` lists what it offers")));
        }
    }
}

fn request(provider: &str, text: &[String], conditions: &[String], page: &Page) -> Outcome<Value> {
    let filter = conditions.iter().map(|condition| parse_condition(condition)).collect::<Outcome<Vec<_>>>()?;
    let mut body = json!({"provider": provider, "filter": filter});
    if let Some(members) = body.as_object_mut() {
        if !text.is_empty() {
            members.insert("text".to_owned(), text.join(" ").into());
        }
        members.extend(page.limit.map(|limit| ("limit".to_owned(), limit.into())));
        members.extend(page.after.clone().map(|after| ("after".to_owned(), after.into())));
    }
    Ok(body)
}

fn parse_condition(text: &str) -> Outcome<Value> {
    let at = text.find(['=', '~']).filter(|at| 0 < *at).ok_or_else(|| {
        Failure::usage(format_args!("--where `{text}` has no `=` or `~`")).hint("write --where keyword=weather")
    })?;
    let (property, rest) = text.split_at(at);
    let operator = if rest.starts_with('=') { "=" } else { "contains" };
    Ok(json!({"property": property, "operator": operator, "value": rest.get(1..).unwrap_or_default()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read() {
        assert_eq!(
            parse_condition("keywords~a=b").unwrap(),
            json!({"property": "keywords", "operator": "contains", "value": "a=b"})
        );
        assert!(parse_condition("=b").is_err() && parse_condition("ab").is_err());
    }

    #[test]
    fn requests_carry_what_was_asked() {
        let page = Page { limit: Some(5), after: Some("x".to_owned()) };
        let body = request("did:web:a", &["two".to_owned(), "words".to_owned()], &[], &page).unwrap();
        assert_eq!(body, json!({"provider": "did:web:a", "filter": [], "text": "two words", "limit": 5, "after": "x"}));
    }
}
