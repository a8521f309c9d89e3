//! The English words.

use super::{Heading, Words};
use crate::evaluate::{Outcome, Reason, Why};
use crate::mask::Mask;
use crate::model::{Conflict, Group, PolicyKind};
use crate::terms::{Action, LeftOperand, Operator};

pub(super) const WORDS: Words = Words {
    heading,
    permits: "It permits:",
    forbids: "It forbids:",
    owes: "The consumer owes, whatever it does (recorded as evidence, not enforced):",
    permits_nothing: "It permits nothing.",
    conflict,
    closing: "Everything else is denied.",
    action,
    own,
    provided: ", provided that: ",
    when: ", if: ",
    stop: ".",
    before_use: ". Before the first use: ",
    with_conditions: ", with: ",
    group,
    atomic,
    mask,
    masked: |column, how| format!("column {column} {how}"),
    broken: |text| format!("`{text}` (not understood: where it matters, the use is denied)"),
    quote: |text| format!("`{text}`"),
    and: ", ",
    comma: ", ",
    semicolon: "; ",
    colon: ": ",
    reason,
    outcome,
    why,
    seen: |seen| seen.map_or_else(|| "the request does not say".to_owned(), |seen| format!("found `{seen}`")),
    duty_done: |action, id| format!("duty to {action} (`{id}`) fulfilled"),
    plan: "row filter and masks",
};

fn heading(heading: &Heading<'_>) -> String {
    let Heading { kind, uid, from, to, asset } = heading;
    let kind = match kind {
        PolicyKind::Set => "Policy",
        PolicyKind::Offer => "Offer",
        PolicyKind::Agreement => "Agreement",
    };
    let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
    let to = to.map(|to| format!(" to {to}")).unwrap_or_default();
    let asset = asset.map(|asset| format!(" about `{asset}`")).unwrap_or_default();
    format!("{kind} `{uid}`{from}{to}{asset}.")
}

fn own(asset: Option<&str>, party: Option<&str>) -> String {
    let asset = asset.map(|asset| format!(" (of `{asset}`)")).unwrap_or_default();
    let party = party.map(|party| format!(" (by {party})")).unwrap_or_default();
    asset + &party
}

fn conflict(conflict: Conflict) -> &'static str {
    match conflict {
        Conflict::Prohibit => "Where something is both permitted and forbidden, it is forbidden.",
        Conflict::Permit => "Where something is both permitted and forbidden, it is permitted.",
        Conflict::Invalid => "If something could be both permitted and forbidden, the whole policy is void.",
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Use => "use in any way",
        Action::Read => "query and read",
        Action::Reproduce => "download a copy",
        Action::Display => "display",
        Action::Aggregate => "compute totals",
        Action::Derive => "derive something new",
        Action::Distribute => "pass on to third parties",
        Action::Transfer => "hand over altogether",
        Action::Attribute => "name the source",
        Action::Inform => "inform the holder",
        Action::Delete => "delete all copies",
        Action::Compensate => "pay",
        Action::ObtainConsent => "obtain consent",
    }
}

fn group(group: Group, members: &str) -> String {
    let how_many = match group {
        Group::And => "all of",
        Group::Or => "at least one of",
        Group::Xone => "exactly one of",
    };
    format!("{how_many} ({members})")
}

fn atomic(left: LeftOperand, operator: Operator, value: &str, count: u64) -> Option<String> {
    let subject = match left {
        LeftOperand::Purpose => "the purpose",
        LeftOperand::Recipient => "the recipient",
        LeftOperand::Spatial => "the place of use",
        LeftOperand::DeliveryFormat => "the delivery format",
        LeftOperand::DateTime => "the time",
        LeftOperand::Count => return quota(operator, count, "use", "uses"),
        LeftOperand::RowCount => return quota(operator, count, "row", "rows"),
        LeftOperand::ByteCount => return quota(operator, count, "byte", "bytes"),
        LeftOperand::RowFilter => return Some(format!("only rows where {value} are shown")),
        LeftOperand::ColumnDeny => return Some(format!("columns not shown: {value}")),
        LeftOperand::ColumnMask => return None,
        LeftOperand::CredentialType => return shown(operator, TYPES, value),
        LeftOperand::CredentialClaim => return shown(operator, CLAIMS, value),
    };
    let relation = match operator {
        Operator::Eq => "is",
        Operator::Neq => "is not",
        Operator::IsAnyOf => "is one of",
        Operator::IsNoneOf => "is none of",
        Operator::IsA => return Some(format!("{subject} is {value} or a narrower one")),
        Operator::IsPartOf => "lies in",
        Operator::Lt => "is before",
        Operator::Lteq => "is not later than",
        Operator::Gt => "is after",
        Operator::Gteq => "is not earlier than",
        Operator::HasPart | Operator::IsAllOf => return None,
    };
    Some(format!("{subject} {relation} {value}"))
}

fn shown(operator: Operator, [one, any, all]: [&str; 3], value: &str) -> Option<String> {
    let what = match operator {
        Operator::Eq => one,
        Operator::IsAnyOf => any,
        Operator::IsAllOf => all,
        Operator::Neq
        | Operator::Lt
        | Operator::Lteq
        | Operator::Gt
        | Operator::Gteq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsNoneOf => return None,
    };
    Some(format!("the consumer has shown {what} {value}"))
}

const TYPES: [&str; 3] = [
    "a valid credential of type",
    "a valid credential of at least one of the types",
    "valid credentials of all of the types",
];
const CLAIMS: [&str; 3] = [
    "a valid credential that says",
    "a valid credential that says at least one of",
    "valid credentials that say all of",
];

fn quota(operator: Operator, count: u64, one: &str, many: &str) -> Option<String> {
    let noun = if count == 1 { one } else { many };
    match operator {
        Operator::Lteq => Some(format!("at most {count} {noun} in all")),
        Operator::Lt => Some(format!("fewer than {count} {noun} in all")),
        Operator::Eq
        | Operator::Neq
        | Operator::Gt
        | Operator::Gteq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsAllOf
        | Operator::IsAnyOf
        | Operator::IsNoneOf => None,
    }
}

fn mask(mask: Mask) -> &'static str {
    match mask {
        Mask::Alphanum => "with letters and digits hidden",
        Mask::ShowFirst4 => "with only its first four characters",
        Mask::ShowLast4 => "with only its last four characters",
        Mask::Sha256Global => "as its SHA-256 pseudonym",
        Mask::TruncateToYear => "with only the year",
        Mask::TruncateToMonth => "with only year and month",
        Mask::ReplaceWithNull => "as empty (NULL)",
        Mask::ToDefault => "as a constant",
    }
}

fn reason(reason: Reason, action: &str, rule: &str) -> String {
    match reason {
        Reason::Permitted => format!("Permitted: to {action}, by {rule}."),
        Reason::Prohibited => format!("Denied: to {action} is forbidden by {rule}."),
        Reason::MaybeProhibited => {
            format!("Denied: it cannot be told whether {rule} forbids to {action}, so it is not allowed.")
        }
        Reason::NothingApplies => format!("Denied: no permission lets this consumer {action} here."),
        Reason::NothingHolds => format!("Denied: no permission to {action} holds."),
        Reason::Offer => "Denied: this is an offer; only what is agreed permits anything.".to_owned(),
        Reason::Void => "Denied: the policy is void, because it may permit and forbid the same thing.".to_owned(),
        Reason::TooLarge => "Denied: the policy is larger than this system handles.".to_owned(),
        Reason::Disagreement => "Denied: an internal check of the decision failed; please report this.".to_owned(),
    }
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Holds => "yes",
        Outcome::Fails => "no",
        Outcome::Unknown => "cannot be told",
    }
}

fn why(why: &Why) -> String {
    match why {
        Why::Compared => "the values were compared".to_owned(),
        Why::Combined => "from its parts".to_owned(),
        Why::Missing => "the request does not say".to_owned(),
        Why::NotShown => "no valid credential that says so was shown".to_owned(),
        Why::NotValid => "operator or value do not fit the term".to_owned(),
        Why::NotEnforceable => "this term cannot be enforced here".to_owned(),
        Why::Shapes => "applied to the answer".to_owned(),
        Why::BadPlan(error) => error.to_string(),
        Why::Duty => "as reported".to_owned(),
    }
}
