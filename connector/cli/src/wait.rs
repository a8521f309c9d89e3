//! Waiting for a state without polling: the node answers when it changes.

use std::time::{Duration, Instant};

use clap::Args;

use crate::api::{Answer, path};
use crate::context::Globals;
use crate::failure::{Failure, Outcome};
use crate::print;

/// Longest single request; the node holds it open at most this long, in seconds.
const ROUND_S: u64 = 30;

/// What to wait for.
#[derive(Debug, Args)]
pub struct Wait {
    /// Id of what to wait for
    pub id: String,
    /// State to wait for, or `us` for "it is our turn"; may be repeated. By default the end of the way
    #[arg(long = "for", value_name = "STATE")]
    pub states: Vec<String>,
    /// Give up after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// True if `state` is one of `names`, whatever the case.
pub fn is_one_of(state: &str, names: &[&str]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case(state))
}

/// Waits until the thing is in one of the wanted states; `usual` if the caller named none.
///
/// # Errors
/// Exit code 2 if it came to one of the states in `ends` that was not waited for; 1 if the time is over.
pub async fn until(globals: &Globals, collection: &str, wait: &Wait, usual: &[&str], ends: &[&str]) -> Outcome<Answer> {
    let named: Vec<&str> = wait.states.iter().map(String::as_str).collect();
    let wanted = if named.is_empty() { usual } else { named.as_slice() };
    let api = globals.api()?;
    let deadline = Instant::now() + Duration::from_secs(wait.timeout);
    let all: Vec<String> = wanted.iter().chain(ends).map(|state| state.to_ascii_uppercase()).collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let round = left.as_secs().min(ROUND_S);
        let query = [("wait", all.join(",")), ("timeout_s", round.to_string())];
        let answer = api.get_with(&path(collection, &wait.id, ""), &query).await?;
        let state = answer.text_at("/state")?;
        let is_ours = answer.value.get("waiting_for").and_then(serde_json::Value::as_str) == Some("us");
        if is_one_of(state, wanted) || (is_ours && is_one_of("us", wanted)) {
            return Ok(answer);
        }
        if is_one_of(state, ends) {
            return Err(ended(&answer, state));
        }
        if left.is_zero() {
            return Err(Failure::failed(format_args!("still {state} after {} s", wait.timeout))
                .hint("wait longer with --timeout, or see who is waited for with `show`"));
        }
        globals.detail(format_args!("{} is {state}", wait.id));
    }
}

fn ended(answer: &Answer, state: &str) -> Failure {
    let why = answer.value.get("error").map(print::cell).filter(|why| !why.is_empty());
    let failure = Failure::refused(format_args!("it ended in state {state}"));
    failure.because(why.into_iter().collect()).hint("see the messages with `show`")
}
