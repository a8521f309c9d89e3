//! `shuyu audit follow` and `shuyu audit alarms`: what the regulator's node finds, as it finds it.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::context::Globals;
use crate::failure::{Failure, Kind, Outcome};
use crate::print;

/// What to follow.
#[derive(Debug, Args)]
pub struct Follow {
    /// DIDs to follow from now on; without any, what is followed already is shown
    dids: Vec<String>,
    /// Look once at everything that is followed, and end
    #[arg(long)]
    once: bool,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    every: u64,
}

/// Runs `shuyu audit follow`.
pub async fn run(globals: &Globals, wish: &Follow) -> Outcome {
    let api = globals.api()?;
    for did in &wish.dids {
        match api.post("v1/audit/nodes", &json!({ "did": did })).await {
            Ok(answer) => globals.done(&answer, format_args!("following the ledger of {did}"))?,
            // Followed already: that is what was wished.
            Err(failure) if failure.status == Some(409) => globals.say(format_args!("{did} is followed already")),
            Err(failure) => return Err(failure),
        }
    }
    let mut shown = Shown::default();
    if !wish.once && !wish.dids.is_empty() {
        globals.hint(format_args!("the node goes on by itself; `shuyu audit follow` shows what it finds"));
        return Ok(());
    }
    let mut looks = tokio::time::interval(Duration::from_secs(wish.every));
    loop {
        looks.tick().await;
        let found = async {
            let standings = api.post("v1/audit/pass", &json!({})).await?;
            let alarms = api.get(&format!("v1/audit/alarms?after={}", shown.last_alarm)).await?;
            Ok::<_, Failure>((standings, alarms))
        };
        match found.await {
            Ok((standings, alarms)) => shown.show(globals, standings.items(), alarms.items())?,
            // The node may be restarted under us; what it knows it keeps.
            Err(failure) if !wish.once && failure.kind == Kind::Failed => {
                globals.say(format_args!("the node does not answer; trying again"));
            }
            Err(failure) => return Err(failure),
        }
        if wish.once {
            return shown.verdict();
        }
    }
}

/// What was printed so far.
#[derive(Default)]
struct Shown {
    last_alarm: u64,
    nodes: BTreeMap<String, Value>,
    broken: Vec<String>,
}

impl Shown {
    fn show(&mut self, globals: &Globals, standings: &[Value], alarms: &[Value]) -> Outcome {
        for node in standings {
            let did = node.get("did").map(print::cell).unwrap_or_default();
            let mut plain = node.clone();
            // That it was looked at again is no news.
            if let Some(members) = plain.as_object_mut() {
                members.remove("reached");
            }
            if self.nodes.insert(did, plain.clone()).is_some_and(|known| known == plain) {
                continue;
            }
            if globals.is_json() {
                print::line(&node.to_string())?;
            } else {
                print::line(&words(node))?;
            }
        }
        for alarm in alarms {
            self.last_alarm = alarm.get("number").and_then(Value::as_u64).unwrap_or(self.last_alarm);
            let text = format!("{}: {}", alarm.get("nodes").map(print::cell).unwrap_or_default(), message(alarm));
            if globals.is_json() {
                print::line(&alarm.to_string())?;
            } else {
                print::line(&format!("ALARM {}  {text}", self.last_alarm))?;
            }
            self.broken.push(text);
        }
        Ok(())
    }

    fn verdict(self) -> Outcome {
        if self.broken.is_empty() {
            return Ok(());
        }
        Err(Failure::refused("something does not hold at a followed node")
            .because(self.broken)
            .hint("`shuyu audit bundle make --file proof.json` writes the proof to a file"))
    }
}

fn message(alarm: &Value) -> String {
    alarm.get("message").map(print::cell).unwrap_or_default()
}

fn words(node: &Value) -> String {
    let cell = |name: &str| node.get(name).map(print::cell).unwrap_or_default();
    let holds = node.get("holds").and_then(Value::as_bool) == Some(true);
    let state = match (node.get("unreached").and_then(Value::as_str), holds) {
        (Some(reason), _) => format!("not reached: {reason}"),
        (None, true) => "verified".to_owned(),
        (None, false) => "DOES NOT HOLD".to_owned(),
    };
    format!("{}  {} entries  {}", cell("did"), cell("verified_entries"), print::clean(&state))
}

/// Runs `shuyu audit alarms`.
pub async fn alarms(globals: &Globals, after: u64) -> Outcome {
    let answer = globals.api()?.get(&format!("v1/audit/alarms?after={after}")).await?;
    globals.listing(&answer, &[("NUMBER", "/number"), ("AT", "/at"), ("NODES", "/nodes"), ("WHAT", "/message")])?;
    match answer.items().len() {
        0 => Ok(()),
        count => Err(Failure::refused(format_args!("{count} alarms"))),
    }
}
