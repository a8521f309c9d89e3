//! What is wrong with a policy, told when it is written. A policy with an error is refused.

use crate::access::{bad_name, speaks_of_credentials};
use crate::entail::{contradiction, implies, keeps, may_meet, may_share_request};
use crate::evaluate::{RuleKind, RuleRef};
use crate::model::{Conflict, Constraint, Duty, Group, Operand, Policy, PolicyKind, Rule};
use crate::normal::{Normal, normal};
use crate::plan::{DataPlan, conjuncts, values};
use crate::terms::{Action, LeftOperand, Sort};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy works, but perhaps not as meant.
    Warning,
    /// The policy must not be published or agreed.
    Error,
}

/// Something wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Where in the policy; `policy` for the whole.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Everything found wrong with `policy`, in policy order; empty when nothing is.
pub fn check(policy: &Policy) -> Vec<Finding> {
    let mut checker = Checker { findings: Vec::new() };
    if let Err(error) = policy.check_bounds() {
        checker.error("policy", error.to_string(), "split the policy or shorten its lists");
        return checker.findings;
    }
    checker.parties(policy);
    for (index, rule) in policy.permissions.iter().enumerate() {
        checker.permission(policy, index, rule);
    }
    for (index, rule) in policy.prohibitions.iter().enumerate() {
        checker.prohibition(policy, index, rule);
    }
    for (index, duty) in policy.obligations.iter().enumerate() {
        checker.duty(&format!("obligation[{index}]"), duty);
    }
    checker.findings
}

/// Whether some finding is an error.
pub fn has_errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

struct Checker {
    findings: Vec<Finding>,
}

impl Checker {
    fn error(&mut self, path: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.find(Severity::Error, path, what.into(), hint.into());
    }

    fn warning(&mut self, path: &str, what: impl Into<String>, hint: impl Into<String>) {
        self.find(Severity::Warning, path, what.into(), hint.into());
    }

    fn find(&mut self, severity: Severity, path: &str, what: String, hint: String) {
        self.findings.push(Finding { severity, path: path.to_owned(), what, hint });
    }

    fn parties(&mut self, policy: &Policy) {
        if policy.permissions.is_empty() {
            self.warning("policy", "no permission: the policy permits nothing", "add a permission");
        }
        let missing = [
            ("assigner", policy.assigner.is_none()),
            ("assignee", policy.assignee.is_none()),
            ("target", policy.target.is_none()),
        ];
        let is_agreement = policy.kind == PolicyKind::Agreement;
        for (name, _) in missing.into_iter().filter(|(_, missing)| is_agreement && *missing) {
            self.error("policy", format!("an agreement has no `{name}`"), format!("name the {name}"));
        }
    }

    fn permission(&mut self, policy: &Policy, index: usize, rule: &Rule) {
        let path = RuleRef { kind: RuleKind::Permission, index }.path();
        self.action(&path, rule);
        if rule.constraints.is_empty() {
            self.warning(&path, "a permission without a constraint", "say for what purpose, until when or how often");
        }
        self.constraints(&path, &rule.constraints, RuleKind::Permission);
        self.plan(&path, rule);
        if let Some((a, b)) = contradiction(&rule.constraints) {
            let what = format!("`{}` and `{}` can never hold together", brief(a), brief(b));
            self.error(&path, what, "the permission would never hold: change or remove one of them");
        }
        for (number, duty) in rule.duties.iter().enumerate() {
            let path = format!("{path}.duty[{number}]");
            self.duty(&path, duty);
            self.before_use(&path, duty);
        }
        self.shadowed(policy, index, rule, &path);
        self.forbidden(policy, rule, &path);
    }

    fn prohibition(&mut self, policy: &Policy, index: usize, rule: &Rule) {
        let path = RuleRef { kind: RuleKind::Prohibition, index }.path();
        self.action(&path, rule);
        self.constraints(&path, &rule.constraints, RuleKind::Prohibition);
        if rule.constraints.iter().any(speaks_of_credentials) {
            let what = "a prohibition depends on credentials, and a holder shows what it likes";
            self.error(&path, what, "permit those who show one instead");
        }
        if let Some((a, b)) = contradiction(&rule.constraints) {
            let what = format!("`{}` and `{}` can never hold together", brief(a), brief(b));
            self.warning(&path, what, "the prohibition would never apply: change or remove one of them");
        }
        if !rule.duties.is_empty() {
            self.error(&path, "a prohibition has a duty", "move the duty to the permission or to `obligation`");
        }
        if !policy.permissions.iter().any(|permission| may_meet(policy, permission, policy, rule)) {
            self.warning(&path, "no permission can meet this prohibition", "it forbids what is not permitted anyway");
        }
    }

    fn action(&mut self, path: &str, rule: &Rule) {
        if rule.action.is_duty() {
            let what = format!("`{}` is something owed, not a use", rule.action.name());
            self.error(path, what, "put it in `duty` or `obligation`");
        } else if !rule.action.is_enforced() {
            let what = format!("`{}` happens at the consumer; the node cannot see or stop it", rule.action.name());
            self.warning(path, what, "it is recorded as agreed; rely on evidence, not on enforcement");
        }
    }

    fn duty(&mut self, path: &str, duty: &Duty) {
        if !duty.action.is_duty() {
            let what = format!("`{}` is a use, not something owed", duty.action.name());
            self.error(path, what, "use attribute, inform, delete, compensate or obtainConsent");
        }
        if !duty.constraints.is_empty() {
            self.warning(path, "conditions of a duty are recorded, not enforced", "the duty is owed in any case");
        }
        for (index, constraint) in duty.constraints.iter().enumerate() {
            self.constraint(&format!("{path}.constraint[{index}]"), constraint, true);
        }
    }

    fn before_use(&mut self, path: &str, duty: &Duty) {
        if duty.action == Action::Delete {
            let what = "a duty of a permission must be fulfilled before the use, and deletion comes after it";
            self.warning(path, what, "put `delete` in `obligation`");
        }
    }

    fn constraints(&mut self, path: &str, constraints: &[Constraint], kind: RuleKind) {
        for (index, constraint) in constraints.iter().enumerate() {
            self.constraint(&format!("{path}.constraint[{index}]"), constraint, kind == RuleKind::Permission);
        }
    }

    fn constraint(&mut self, path: &str, constraint: &Constraint, enforceable: bool) {
        match constraint {
            Constraint::Atomic { left, operator, right } => {
                self.fits(path, constraint);
                if !enforceable && (left.is_shape() || left.is_quota()) {
                    let what = format!("`{}` cannot be enforced in `or`, `xone` or a prohibition", left.name());
                    self.error(path, what, "make it a constraint of the permission itself, or write two permissions");
                }
                if left.is_quota() && matches!(normal(*left, *operator, right), Normal::Range { high: ..1, .. }) {
                    self.error(path, format!("`{}` never holds", brief(constraint)), "allow at least 1");
                }
            }
            Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
                let group = constraint.group().map_or(Group::And, |(group, _)| group);
                let name = group.name();
                if group == Group::Xone && members.iter().any(speaks_of_credentials) {
                    let what = "`xone` depends on credentials, and a holder shows what it likes";
                    self.error(path, what, "use `or`");
                }
                match members.len() {
                    0 => self.error(path, format!("`{name}` has no members"), "an empty group never holds; remove it"),
                    1 => self.warning(path, format!("`{name}` has one member"), "write the member alone"),
                    _ => {}
                }
                for (index, member) in members.iter().enumerate() {
                    self.constraint(&format!("{path}.{name}[{index}]"), member, enforceable && group == Group::And);
                }
            }
        }
    }

    /// Whether operator and value fit the term.
    fn fits(&mut self, path: &str, constraint: &Constraint) {
        let Constraint::Atomic { left, operator, right } = constraint else { return };
        if !left.operators().contains(operator) {
            let known: Vec<_> = left.operators().iter().map(|operator| operator.name()).collect();
            let what = format!("`{}` cannot be used with `{}`", operator.name(), left.name());
            return self.error(path, what, format!("use {}", known.join(", ")));
        }
        let wanted = match (left.sort(), right) {
            (Sort::Time, Operand::Time(_)) | (Sort::Count, Operand::Count(_)) => return,
            (Sort::Time, Operand::Text(_) | Operand::List(_) | Operand::Count(_)) => "one time (RFC 3339)",
            (Sort::Count, Operand::Text(_) | Operand::List(_) | Operand::Time(_)) => "one whole number",
            (Sort::Text, _) if values(*operator, right).is_some_and(|values| !values.is_empty()) => {
                return self.names(path, *left, values(*operator, right).unwrap_or_default());
            }
            (Sort::Text, _) if operator.takes_list() => "a list of texts that is not empty",
            (Sort::Text, Operand::Text(_) | Operand::List(_) | Operand::Time(_) | Operand::Count(_)) => "one text",
        };
        self.error(
            path,
            format!("the value does not fit `{} {}`", left.name(), operator.name()),
            format!("give {wanted}"),
        );
    }

    /// Values that can never be seen.
    fn names(&mut self, path: &str, left: LeftOperand, values: &[String]) {
        for value in values {
            if value.is_empty() {
                self.error(path, format!("a value of `{}` is empty", left.name()), "remove it");
            } else if left == LeftOperand::Recipient && value.parse::<shuyu_base::Did>().is_err() {
                self.error(path, format!("recipient `{value}` is not a DID"), "write did:web:... or another DID");
            } else if let Some(bad) = bad_name(left, value) {
                let hint = "for example `MembershipCredential`, `MembershipCredential#level=gold`";
                self.error(path, format!("`{value}` {bad}"), hint);
            }
        }
    }

    fn plan(&mut self, path: &str, rule: &Rule) {
        if let Err(error) = DataPlan::of(rule) {
            let hint = "see docs/profile/README.md for row filters and masks";
            return self.error(path, error.to_string(), hint);
        }
        let all = conjuncts(&rule.constraints);
        let listed = |wanted: LeftOperand| -> Vec<&String> {
            let lists = all.iter().filter_map(|constraint| match constraint {
                Constraint::Atomic { left, operator, right } if *left == wanted => values(*operator, right),
                Constraint::Atomic { .. } | Constraint::And(_) | Constraint::Or(_) | Constraint::Xone(_) => None,
            });
            lists.flatten().collect()
        };
        let denied = listed(LeftOperand::ColumnDeny);
        for mask in listed(LeftOperand::ColumnMask) {
            let column = mask.rsplit_once('=').map_or("", |(column, _)| column);
            if denied.iter().any(|denied| *denied == column) {
                self.warning(
                    path,
                    format!("column `{column}` is both masked and denied"),
                    "denial wins; drop the mask",
                );
            }
        }
    }

    /// A permission that an earlier one always anticipates.
    fn shadowed(&mut self, policy: &Policy, index: usize, rule: &Rule, path: &str) {
        let earlier = policy.permissions.iter().take(index);
        let anticipates = |known: &Rule| {
            let target = policy.target_of(known);
            let assignee = policy.assignee_of(known);
            known.action.includes(rule.action)
                && (target.is_none() || target == policy.target_of(rule))
                && (assignee.is_none() || assignee == policy.assignee_of(rule))
                && known.duties.is_empty()
                && DataPlan::of(known).is_ok()
                && known.constraints.iter().all(|constraint| keeps(&rule.constraints, constraint))
        };
        if let Some(first) = earlier.enumerate().find(|(_, known)| anticipates(known)).map(|(first, _)| first) {
            let what = format!("permission[{first}] holds whenever this one does and decides first");
            self.warning(path, what, "put the narrower permission first or remove it");
        }
    }

    /// A permission that prohibitions leave nothing of, or that a void policy loses.
    fn forbidden(&mut self, policy: &Policy, rule: &Rule, path: &str) {
        for (index, prohibition) in policy.prohibitions.iter().enumerate() {
            if !may_share_request(policy, rule, policy, prohibition) {
                continue;
            }
            let target = policy.target_of(prohibition);
            let assignee = policy.assignee_of(prohibition);
            let always = prohibition.action.includes(rule.action)
                && (target.is_none() || target == policy.target_of(rule))
                && (assignee.is_none() || assignee == policy.assignee_of(rule))
                && prohibition
                    .constraints
                    .iter()
                    .all(|constraint| implies(RuleKind::Prohibition, &rule.constraints, constraint));
            match policy.conflict {
                Conflict::Permit => {}
                Conflict::Invalid if may_meet(policy, rule, policy, prohibition) => {
                    let what =
                        format!("it may meet prohibition[{index}], and `conflict` is `invalid`: the policy is void");
                    self.error(path, what, "make the two exclude each other, or choose `prohibit` or `perm`");
                }
                Conflict::Prohibit | Conflict::Invalid if always => {
                    let what = format!("prohibition[{index}] forbids all that it permits");
                    self.error(path, what, "remove one of the two, or narrow the prohibition");
                }
                Conflict::Prohibit | Conflict::Invalid => {}
            }
        }
    }
}

/// A constraint in a few words, for messages.
pub(crate) fn brief(constraint: &Constraint) -> String {
    match constraint {
        Constraint::Atomic { left, operator, right } => {
            let value = match right {
                Operand::Text(text) => text.clone(),
                Operand::List(list) => format!("[{}]", list.join(", ")),
                Operand::Time(instant) => instant.to_string(),
                Operand::Count(count) => count.to_string(),
            };
            format!("{} {} {value}", left.name(), operator.name())
        }
        Constraint::And(_) => "and".to_owned(),
        Constraint::Or(_) => "or".to_owned(),
        Constraint::Xone(_) => "xone".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::model::Operand::{Count, Text, Time};
    use crate::samples::{list, policies, policy, requests};
    use crate::terms::LeftOperand as L;
    use crate::terms::Operator as O;
    use proptest::prelude::*;
    use shuyu_base::UnixMillis;

    fn purpose(name: &str) -> Constraint {
        Constraint::new(L::Purpose, O::Eq, Text(name.into()))
    }

    fn permission(constraints: Vec<Constraint>) -> Rule {
        Rule { constraints, ..Rule::new(Action::Read) }
    }

    /// The findings of a policy, each as `E` or `W`, path and text.
    #[track_caller]
    fn finds(policy: &Policy, wanted: &[&str]) {
        let found: Vec<String> = check(policy)
            .iter()
            .map(|f| format!("{:?} {}: {}", f.severity, f.path, f.what).replace("Error", "E").replace("Warning", "W"))
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_good_policy_has_no_findings() {
        finds(&policy(vec![permission(vec![purpose("research")])]), &[]);
    }

    #[test]
    fn operators_and_values_must_fit() {
        let bad = |constraint| policy(vec![permission(vec![constraint])]);
        finds(
            &bad(Constraint::new(L::Purpose, O::Gt, Text("a".into()))),
            &["E permission[0].constraint[0]: `gt` cannot be used with `purpose`"],
        );
        finds(
            &bad(Constraint::new(L::DateTime, O::Lt, Count(1))),
            &["E permission[0].constraint[0]: the value does not fit `dateTime lt`"],
        );
        finds(
            &bad(Constraint::new(L::Purpose, O::Eq, list(&["a", "b"]))),
            &["E permission[0].constraint[0]: the value does not fit `purpose eq`"],
        );
        finds(
            &bad(Constraint::new(L::Recipient, O::Eq, Text("bob".into()))),
            &["E permission[0].constraint[0]: recipient `bob` is not a DID"],
        );
        finds(
            &bad(Constraint::new(L::Count, O::Lt, Count(1))),
            &["E permission[0].constraint[0]: `count lt 1` never holds"],
        );
        finds(
            &bad(Constraint::Or(vec![purpose("a"), Constraint::new(L::RowCount, O::Lteq, Count(1))])),
            &["E permission[0].constraint[0].or[1]: `rowCount` cannot be enforced in `or`, `xone` or a prohibition"],
        );
        finds(&bad(Constraint::Xone(vec![])), &["E permission[0].constraint[0]: `xone` has no members"]);
        finds(
            &bad(Constraint::new(L::RowFilter, O::Eq, Text("1 = 1".into()))),
            &["E permission[0]: row filter: expected a column, found `1`"],
        );
    }

    #[test]
    fn contradictions_are_found() {
        let from = Constraint::new(L::DateTime, O::Gteq, Time(UnixMillis(2000)));
        let until = Constraint::new(L::DateTime, O::Lt, Time(UnixMillis(1000)));
        finds(
            &policy(vec![permission(vec![from, until])]),
            &["E permission[0]: `dateTime gteq 1970-01-01T00:00:02.000Z` and `dateTime lt 1970-01-01T00:00:01.000Z` \
             can never hold together"],
        );
        finds(
            &policy(vec![permission(vec![purpose("a"), purpose("b")])]),
            &["E permission[0]: `purpose eq a` and `purpose eq b` can never hold together"],
        );
        let masked = vec![
            Constraint::new(L::ColumnMask, O::Eq, Text("a=show-first-4".into())),
            Constraint::new(L::ColumnDeny, O::IsAnyOf, list(&["a"])),
        ];
        finds(&policy(vec![permission(masked)]), &["W permission[0]: column `a` is both masked and denied"]);
    }

    #[test]
    fn rules_that_do_nothing_are_found() {
        finds(&policy(vec![]), &["W policy: no permission: the policy permits nothing"]);
        finds(&policy(vec![permission(vec![])]), &["W permission[0]: a permission without a constraint"]);
        let wide = Constraint::new(L::Purpose, O::IsAnyOf, list(&["a", "b"]));
        finds(
            &policy(vec![permission(vec![wide]), permission(vec![purpose("a")])]),
            &["W permission[1]: permission[0] holds whenever this one does and decides first"],
        );
        let mut forbidden = policy(vec![permission(vec![purpose("a")])]);
        forbidden.prohibitions.push(Rule::new(Action::Use));
        finds(&forbidden, &["E permission[0]: prohibition[0] forbids all that it permits"]);
        forbidden.prohibitions = vec![permission(vec![purpose("b")])];
        finds(&forbidden, &["W prohibition[0]: no permission can meet this prohibition"]);
        forbidden.conflict = Conflict::Invalid;
        finds(&forbidden, &["W prohibition[0]: no permission can meet this prohibition"]);
        forbidden.prohibitions = vec![permission(vec![Constraint::new(L::Spatial, O::Eq, Text("CN".into()))])];
        finds(
            &forbidden,
            &["E permission[0]: it may meet prohibition[0], and `conflict` is `invalid`: the policy is void"],
        );
    }

    #[test]
    fn duties_and_uses_are_kept_apart() {
        let mut mixed = policy(vec![Rule { constraints: vec![purpose("a")], ..Rule::new(Action::Delete) }]);
        mixed.obligations.push(Duty { uid: None, action: Action::Read, constraints: vec![] });
        finds(
            &mixed,
            &[
                "E permission[0]: `delete` is something owed, not a use",
                "E obligation[0]: `read` is a use, not something owed",
            ],
        );
        let mut late = policy(vec![permission(vec![purpose("a")])]);
        late.permissions[0].duties.push(Duty { uid: None, action: Action::Delete, constraints: vec![] });
        finds(
            &late,
            &["W permission[0].duty[0]: a duty of a permission must be fulfilled before the use, and deletion \
                        comes after it"],
        );
        let mut agreement = policy(vec![permission(vec![purpose("a")])]);
        agreement.assignee = None;
        finds(&agreement, &["E policy: an agreement has no `assignee`"]);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_said_never_to_decide_never_does(policy in policies(), requests in prop::collection::vec(requests(), 4)) {
            let findings = check(&policy);
            let never = ["can never hold together", "decides first", "forbids all", "is void", "never holds", "has no members"];
            for request in &requests {
                let Some(rule) = evaluate(&policy, request).ruling.rule else { continue };
                let path = rule.path();
                let dead = findings.iter().find(|finding| {
                    let certain = !finding.path.contains(".or[") && !finding.path.contains(".xone[");
                    certain && finding.path.starts_with(&path) && never.iter().any(|never| finding.what.contains(never))
                });
                // An empty group in a prohibition is unknown, which stops.
                prop_assert!(dead.is_none() || rule.kind == RuleKind::Prohibition, "{dead:?}");
            }
        }
    }
}
