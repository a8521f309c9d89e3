//! `shuyu negotiation`: from an offer to a contract.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::api::{Answer, path};
use crate::context::{Globals, Page, read_json};
use crate::failure::{Failure, Outcome};
use crate::{catalog, policy, print, wait};

/// Commands about negotiations.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask a provider for a contract
    #[command(after_help = "Examples:
  shuyu negotiation start --provider did:web:localhost%3A7101 --dataset flights
  shuyu negotiation start --provider DID --dataset flights --policy wish.json --accept manual
  contract=$(shuyu negotiation wait \"$(shuyu negotiation start --provider DID --dataset flights)\")

Prints the negotiation's id. --policy asks for other terms than the offer's: the provider may agree,
make a counter-offer, or refuse.")]
    Start(Start),
    /// List the negotiations of the node
    List(Page),
    /// Show one negotiation: state, terms in words, history
    #[command(after_help = "Example:\n  shuyu negotiation show 9f0c...")]
    Show(Show),
    /// Wait until a negotiation reaches a state; prints the contract's id once there is one, else the state
    #[command(after_help = "Examples:
  contract=$(shuyu negotiation wait 9f0c...)
  shuyu negotiation wait 9f0c... --for offered --timeout 60

Exit code 2 if the negotiation ended without the state waited for.")]
    Wait(wait::Wait),
    /// Agree to what the other side proposes; with each-step also verify or finalize
    #[command(after_help = "Examples:
  shuyu negotiation approve 9f0c...
  shuyu negotiation wait 9f0c... --for us && shuyu negotiation approve 9f0c...")]
    Approve(Id),
    /// Answer with other terms
    #[command(after_help = "Example:\n  shuyu negotiation counter 9f0c... --policy shorter.json")]
    Counter(Counter),
    /// End the negotiation without a contract
    #[command(after_help = "Example:\n  shuyu negotiation refuse 9f0c... --reason 'purpose not acceptable'")]
    Refuse(Refuse),
}

/// Which negotiation.
#[derive(Debug, Args)]
pub struct Id {
    /// The negotiation's id
    id: String,
}

/// A new negotiation.
#[derive(Debug, Args)]
pub struct Start {
    /// DID of the provider
    #[arg(long, value_name = "DID")]
    provider: String,
    /// Dataset of its catalogue
    #[arg(long, value_name = "ID")]
    dataset: String,
    /// Offer of that dataset; needed only if there are several
    #[arg(long, value_name = "ID")]
    offer: Option<String>,
    /// ODRL policy with the terms wished for, instead of the offer's
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Who answers a counter-offer
    #[arg(long, value_enum, default_value = "auto")]
    accept: Accept,
}

/// Who answers a counter-offer.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Accept {
    /// The node accepts what its rules allow
    Auto,
    /// A person, with `shuyu negotiation approve|counter|refuse`
    Manual,
    /// A person, who also verifies the agreement with `shuyu negotiation approve`
    EachStep,
}

/// Which negotiation, in which language.
#[derive(Debug, Args)]
pub struct Show {
    /// The negotiation's id
    id: String,
    /// Language of the terms' words
    #[arg(long, value_enum, default_value = "en")]
    lang: policy::Language,
}

/// Other terms.
#[derive(Debug, Args)]
pub struct Counter {
    /// The negotiation's id
    id: String,
    /// ODRL policy with the terms proposed
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
}

/// A refusal.
#[derive(Debug, Args)]
pub struct Refuse {
    /// The negotiation's id
    id: String,
    /// Told to the other side
    #[arg(long, default_value = "not acceptable")]
    reason: String,
}

const COLLECTION: &str = "v1/negotiations";

/// Runs a command about negotiations.
pub async fn run(globals: &Globals, command: &Command) -> Outcome {
    match command {
        Command::Start(wish) => start(globals, wish).await,
        Command::List(page) => {
            let answer = globals.api()?.get_with(COLLECTION, &page.query()).await?;
            globals.listing(
                &answer,
                &[
                    ("ID", "/id"),
                    ("ROLE", "/role"),
                    ("STATE", "/state"),
                    ("WAITS FOR", "/waiting_for"),
                    ("DATASET", "/dataset"),
                    ("PEER", "/peer"),
                    ("CONTRACT", "/agreement"),
                ],
            )
        }
        Command::Show(which) => show(globals, which).await,
        Command::Wait(which) => wait_for(globals, which).await,
        Command::Approve(Id { id }) => act(globals, id, "approve", &json!({})).await,
        Command::Counter(counter) => {
            let body = json!({"policy": read_json(&counter.policy)?});
            act(globals, &counter.id, "counter", &body).await
        }
        Command::Refuse(refuse) => act(globals, &refuse.id, "refuse", &json!({"reason": refuse.reason})).await,
    }
}

async fn start(globals: &Globals, wish: &Start) -> Outcome {
    let terms = wish.policy.as_deref().map(read_json).transpose()?;
    let asked = Asked {
        provider: &wish.provider,
        dataset: &wish.dataset,
        offer: wish.offer.as_deref(),
        terms,
        accept: wish.accept,
        renews: None,
    };
    begin(globals, asked).await
}

/// What a negotiation is begun with.
pub struct Asked<'a> {
    /// DID of the provider.
    pub provider: &'a str,
    /// Dataset of its catalogue.
    pub dataset: &'a str,
    /// Offer of that dataset, if there are several.
    pub offer: Option<&'a str>,
    /// Other terms than the offer's.
    pub terms: Option<Value>,
    /// Who answers a counter-offer.
    pub accept: Accept,
    /// The contract to be renewed.
    pub renews: Option<&'a str>,
}

/// Begins a negotiation and prints its id.
///
/// # Errors
/// As the node answers; exit code 64 if the dataset has several offers and none was named.
pub async fn begin(globals: &Globals, asked: Asked<'_>) -> Outcome {
    let offer = match asked.offer {
        Some(offer) => offer.to_owned(),
        None => only_offer(&catalog::dataset(globals, asked.provider, asked.dataset).await?)?,
    };
    let accept = match asked.accept {
        Accept::Auto => "auto",
        Accept::Manual => "manual",
        Accept::EachStep => "each-step",
    };
    let mut body = json!({"provider": asked.provider, "dataset": asked.dataset, "offer": offer, "accept": accept});
    let further = [("policy", asked.terms), ("renews", asked.renews.map(Value::from))];
    for (name, value) in further {
        if let (Some(value), Some(members)) = (value, body.as_object_mut()) {
            members.insert(name.to_owned(), value);
        }
    }
    let answer = globals.api()?.post(COLLECTION, &body).await?;
    globals.created(&answer)?;
    globals.hint(format_args!("`shuyu negotiation wait {}` waits for the contract", answer.text_at("/id")?));
    Ok(())
}

fn only_offer(dataset: &Value) -> Outcome<String> {
    let offers: Vec<_> = dataset
        .get("offers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|offer| offer.get("id").and_then(Value::as_str))
        .collect();
    match offers.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(Failure::failed("the dataset has no offer for this node")),
        several => Err(Failure::usage("the dataset has several offers")
            .hint(format_args!("add --offer, one of: {}", several.join(", ")))),
    }
}

async fn show(globals: &Globals, which: &Show) -> Outcome {
    let answer = globals.api()?.get(&path(COLLECTION, &which.id, "")).await?;
    globals.details(
        &answer,
        &[
            ("id", "/id"),
            ("role", "/role"),
            ("state", "/state"),
            ("waits for", "/waiting_for"),
            ("peer", "/peer"),
            ("dataset", "/dataset"),
            ("contract", "/agreement"),
            ("error", "/error"),
            ("consumer pid", "/consumer_pid"),
            ("provider pid", "/provider_pid"),
        ],
    )?;
    if globals.is_json() {
        return Ok(());
    }
    if let Some(offer) = answer.value.get("offer").filter(|offer| !offer.is_null()) {
        print::line("\nterms on the table")?;
        policy::print_words(offer, which.lang)?;
    }
    print_history(&answer)
}

/// Writes the `history` member as a table.
pub fn print_history(answer: &Answer) -> Outcome {
    let history = answer.value.get("history").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    print::line("")?;
    print::listing(
        &[("AT", "/at"), ("FROM", "/from"), ("MESSAGE", "/verb"), ("STATE", "/state"), ("EVENT", "/event")],
        history,
    )
}

async fn wait_for(globals: &Globals, which: &wait::Wait) -> Outcome {
    let answer = wait::until(globals, COLLECTION, which, &["FINALIZED"], &["FINALIZED", "TERMINATED"]).await?;
    if globals.is_json() {
        return print::line(&answer.text);
    }
    let state = answer.text_at("/state")?;
    match answer.value.get("agreement").and_then(Value::as_str) {
        Some(agreement) if wait::is_one_of(state, &["FINALIZED"]) => {
            globals.hint(format_args!("`shuyu transfer start --contract {agreement}` gives access to the data"));
            print::line(agreement)
        }
        Some(_) | None => print::line(state),
    }
}

async fn act(globals: &Globals, id: &str, verb: &str, body: &Value) -> Outcome {
    let answer = globals.api()?.post(&path(COLLECTION, id, verb), body).await?;
    let state = answer.value.get("state").map(print::cell).unwrap_or_default();
    globals.done(&answer, format_args!("{verb}: negotiation {id} is now {state}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_offers_must_be_told_apart() {
        assert_eq!(only_offer(&json!({"offers": [{"id": "a"}]})).unwrap(), "a");
        assert!(only_offer(&json!({"offers": []})).is_err());
        let failure = only_offer(&json!({"offers": [{"id": "a"}, {"id": "b"}]})).unwrap_err();
        assert_eq!(failure.hint.as_deref(), Some("add --offer, one of: a, b"));
    }
}
