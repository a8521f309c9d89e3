//! Policies and decisions in words, for people: English and Chinese.

mod en;
mod zh;

use crate::check::brief;
use crate::evaluate::{Decision, Outcome, Reason, Step, Test, Why};
use crate::mask::Mask;
use crate::model::{Conflict, Constraint, Duty, Group, Operand, Policy, PolicyKind, Rule};
use crate::plan::values;
use crate::terms::{Action, LeftOperand, Operator};

/// A language.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lang {
    /// English.
    En,
    /// Chinese, simplified.
    Zh,
}

/// What the first line of a policy says.
struct Heading<'a> {
    kind: PolicyKind,
    uid: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
    asset: Option<&'a str>,
}

/// The words of one language.
struct Words {
    heading: fn(&Heading<'_>) -> String,
    permits: &'static str,
    forbids: &'static str,
    owes: &'static str,
    permits_nothing: &'static str,
    conflict: fn(Conflict) -> &'static str,
    closing: &'static str,
    action: fn(Action) -> &'static str,
    /// A rule that names its own asset or party: asset, party.
    own: fn(Option<&str>, Option<&str>) -> String,
    /// Before the conditions of a permission.
    provided: &'static str,
    /// Before the conditions of a prohibition.
    when: &'static str,
    stop: &'static str,
    before_use: &'static str,
    with_conditions: &'static str,
    group: fn(Group, &str) -> String,
    atomic: fn(LeftOperand, Operator, &str, u64) -> Option<String>,
    mask: fn(Mask) -> &'static str,
    masked: fn(&str, &str) -> String,
    /// A comparison that is never known.
    broken: fn(&str) -> String,
    quote: fn(&str) -> String,
    /// Between the items of a list.
    and: &'static str,
    comma: &'static str,
    semicolon: &'static str,
    colon: &'static str,
    reason: fn(Reason, &str, &str) -> String,
    outcome: fn(Outcome) -> &'static str,
    why: fn(&Why) -> String,
    seen: fn(Option<&str>) -> String,
    duty_done: fn(&str, &str) -> String,
    plan: &'static str,
}

impl Lang {
    fn words(self) -> &'static Words {
        match self {
            Self::En => &en::WORDS,
            Self::Zh => &zh::WORDS,
        }
    }
}

/// The policy in words, several lines, without a line break at the end.
pub fn words(policy: &Policy, lang: Lang) -> String {
    let words = lang.words();
    let mut lines = vec![(words.heading)(&Heading {
        kind: policy.kind,
        uid: &policy.uid,
        from: policy.assigner.as_ref().map(|did| did.as_str()),
        to: policy.assignee.as_ref().map(|did| did.as_str()),
        asset: policy.target.as_deref(),
    })];
    if policy.permissions.is_empty() {
        lines.push(words.permits_nothing.to_owned());
    }
    words.list(&mut lines, words.permits, &policy.permissions, |rule| words.rule(rule, words.provided));
    words.list(&mut lines, words.forbids, &policy.prohibitions, |rule| words.rule(rule, words.when));
    words.list(&mut lines, words.owes, &policy.obligations, |duty| words.duty(duty) + words.stop);
    if !policy.prohibitions.is_empty() {
        lines.push((words.conflict)(policy.conflict).to_owned());
    }
    lines.push(words.closing.to_owned());
    join(&lines)
}

/// The lines as one text, in which foreign text can neither steer a terminal nor turn the direction of writing.
fn join(lines: &[String]) -> String {
    let lines = lines.iter().map(|line| {
        line.chars().fold(String::with_capacity(line.len()), |mut text, c| {
            if c.is_control()
                || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            {
                text.extend(c.escape_unicode());
            } else {
                text.push(c);
            }
            text
        })
    });
    lines.collect::<Vec<_>>().join("\n")
}

impl Decision {
    /// The decision in words: the ruling, then one line for each thing that was looked at.
    pub fn words(&self, lang: Lang) -> String {
        let words = lang.words();
        let rule = self.ruling.rule.map(|rule| rule.path()).unwrap_or_default();
        let mut lines = vec![(words.reason)(self.ruling.reason, (words.action)(self.action), &rule)];
        lines.extend(self.steps.iter().filter_map(|step| words.step(step)));
        join(&lines)
    }
}

impl Words {
    fn list<T>(&self, lines: &mut Vec<String>, heading: &str, items: &[T], line: impl Fn(&T) -> String) {
        if !items.is_empty() {
            lines.push(heading.to_owned());
            lines.extend(items.iter().enumerate().map(|(index, item)| format!("  {}. {}", index + 1, line(item))));
        }
    }

    fn rule(&self, rule: &Rule, before_conditions: &str) -> String {
        let mut text = (self.action)(rule.action).to_owned();
        text += &(self.own)(rule.target.as_deref(), rule.assignee.as_ref().map(|did| did.as_str()));
        let conditions: Vec<_> = rule.constraints.iter().map(|constraint| self.constraint(constraint)).collect();
        if !conditions.is_empty() {
            text += before_conditions;
            text += &conditions.join(self.semicolon);
        }
        if !rule.duties.is_empty() {
            let duties: Vec<_> = rule.duties.iter().map(|duty| self.duty(duty)).collect();
            text += self.before_use;
            text += &duties.join(self.and);
        }
        text + self.stop
    }

    fn duty(&self, duty: &Duty) -> String {
        let mut text = (self.action)(duty.action).to_owned();
        let conditions: Vec<_> = duty.constraints.iter().map(|constraint| self.constraint(constraint)).collect();
        if !conditions.is_empty() {
            text += self.with_conditions;
            text += &conditions.join(self.semicolon);
        }
        text
    }

    fn constraint(&self, constraint: &Constraint) -> String {
        let Some((group, members)) = constraint.group() else { return self.atomic(constraint) };
        let members: Vec<_> = members.iter().map(|member| self.constraint(member)).collect();
        (self.group)(group, &members.join(self.semicolon))
    }

    fn atomic(&self, constraint: &Constraint) -> String {
        let Constraint::Atomic { left, operator, right } = constraint else { return String::new() };
        if *left == LeftOperand::ColumnMask {
            let masks = values(*operator, right).unwrap_or_default().iter();
            let parts: Option<Vec<_>> = masks.map(|text| self.mask_of(text)).collect();
            if let Some(parts) = parts.filter(|parts| !parts.is_empty()) {
                return parts.join(self.comma);
            }
        }
        let (value, count) = self.value(right);
        let known = crate::normal::normal(*left, *operator, right) != crate::normal::Normal::Broken;
        let phrase = if known { (self.atomic)(*left, *operator, &value, count) } else { None };
        phrase.unwrap_or_else(|| (self.broken)(&brief(constraint)))
    }

    fn mask_of(&self, text: &str) -> Option<String> {
        let (column, mask) = Mask::parse_column(text).ok()?;
        Some((self.masked)(&(self.quote)(&column), (self.mask)(mask)))
    }

    fn value(&self, operand: &Operand) -> (String, u64) {
        match operand {
            Operand::Text(text) => ((self.quote)(text), 0),
            Operand::List(list) => (list.iter().map(|text| (self.quote)(text)).collect::<Vec<_>>().join(self.and), 0),
            Operand::Time(instant) => (instant.to_string(), 0),
            Operand::Count(count) => (count.to_string(), *count),
        }
    }

    fn step(&self, step: &Step) -> Option<String> {
        let outcome = (self.outcome)(step.outcome);
        let what = match &step.test {
            Test::Group(_) => return None,
            Test::Constraint { left, operator, required, seen } => {
                let constraint = Constraint::new(*left, *operator, required.clone());
                let why = match step.why {
                    Why::Compared if !left.is_credential() => (self.seen)(seen.as_deref()),
                    Why::Compared
                    | Why::Combined
                    | Why::Missing
                    | Why::NotShown
                    | Why::NotValid
                    | Why::NotEnforceable
                    | Why::Shapes
                    | Why::BadPlan(_)
                    | Why::Duty => (self.why)(&step.why),
                };
                format!("{}{}{outcome}{}{why}", self.constraint(&constraint), self.colon, self.comma)
            }
            Test::Duty { action, id } => (self.duty_done)((self.action)(*action), id) + self.colon + outcome,
            Test::Plan => format!("{}{}{outcome}{}{}", self.plan, self.colon, self.comma, (self.why)(&step.why)),
        };
        Some(format!("  {}{}{what}", step.path, self.colon))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::request::Request;
    use crate::samples::{list, policies, policy, request, requests};
    use crate::terms::LeftOperand as L;
    use crate::terms::Operator as O;
    use insta::assert_snapshot;
    use proptest::prelude::*;
    use shuyu_base::UnixMillis;

    fn sample() -> Policy {
        let text = |value: &str| Operand::Text(value.into());
        let mut sample = policy(vec![Rule {
            constraints: vec![
                Constraint::new(L::Purpose, O::IsA, text("research")),
                Constraint::Or(vec![
                    Constraint::new(L::Spatial, O::IsPartOf, text("CN")),
                    Constraint::new(L::Recipient, O::Eq, text("did:web:consumer.example")),
                ]),
                Constraint::new(L::DateTime, O::Lt, Operand::Time(UnixMillis(1_800_000_000_000))),
                Constraint::new(L::Count, O::Lteq, Operand::Count(10)),
                Constraint::new(L::RowFilter, O::Eq, text("origin = 'SEA'")),
                Constraint::new(L::ColumnMask, O::IsAllOf, list(&["tail=show-last-4", "born=truncate-to-year"])),
                Constraint::new(L::ColumnDeny, O::IsAnyOf, list(&["pilot", "crew"])),
            ],
            duties: vec![Duty { uid: Some("urn:fee".into()), action: Action::Compensate, constraints: vec![] }],
            ..Rule::new(Action::Read)
        }]);
        let unfit = Constraint::new(L::Purpose, O::Gt, text("marketing"));
        sample.prohibitions.push(Rule { constraints: vec![unfit], ..Rule::new(Action::Distribute) });
        sample.obligations.push(Duty { uid: None, action: Action::Delete, constraints: vec![] });
        sample
    }

    #[test]
    fn a_policy_in_english() {
        assert_snapshot!(words(&sample(), Lang::En));
    }

    #[test]
    fn a_policy_in_chinese() {
        assert_snapshot!(words(&sample(), Lang::Zh));
    }

    #[test]
    fn a_decision_in_both() {
        let asked = Request { purpose: Some("marketing".into()), ..request() };
        let decision = evaluate(&sample(), &asked);
        assert_snapshot!(format!("{}\n\n{}", decision.words(Lang::En), decision.words(Lang::Zh)));
    }

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        let named = Policy::new("urn:\u{1b}[2J\n\u{202e}x", PolicyKind::Set);
        assert!(words(&named, Lang::En).starts_with("Policy `urn:\\u{1b}[2J\\u{a}\\u{202e}x`."));
    }

    proptest! {
        #[test]
        fn everything_has_words(policy in policies(), request in requests()) {
            for lang in [Lang::En, Lang::Zh] {
                prop_assert!(!words(&policy, lang).is_empty());
                prop_assert!(!evaluate(&policy, &request).words(lang).is_empty());
            }
        }
    }
}
