//! The interpreter: what a policy says about a request, and why. It is the specification of the compiled program.
//!
//! The rules, where ODRL 2.2 leaves them open (its formal semantics are a draft):
//!
//! 1. Default closed: what no permission grants is denied. An offer is never evaluated: it denies.
//! 2. A rule *applies* to a request when its target and assignee (or the policy's) are the request's, or are not
//!    named, and the actions fit: a permission's action must include the request's; a prohibition also applies when
//!    the request's action includes the prohibited one.
//! 3. Constraints are three-valued (strong Kleene). Unknown are: a missing attribute, an operator or value that does
//!    not fit the term, a credential that was not shown, a shape or quota term where it cannot be enforced (in `or`, `xone` or a prohibition), and an
//!    empty group.
//! 4. A permission holds when all its constraints hold and all its duties are fulfilled. Unknown does not permit.
//! 5. A prohibition stops a request when its constraints hold *or are unknown*.
//! 6. A prohibition that stops beats any permission; with `conflict: perm` a permission that holds beats any
//!    prohibition; with `conflict: invalid` a policy in which the two can meet is void and denies everything.
//! 7. The first permission that holds, in policy order, decides, and gives the plan and the limits.
//! 8. Counts speak of the state after the smallest use: uses begun, rows or bytes delivered so far, plus one.

use std::fmt;

use shuyu_base::UnixMillis;

use crate::entail;
use crate::model::{Conflict, Constraint, Duty, Group, Operand, Policy, PolicyKind, Rule};
use crate::plan::{DataPlan, Limits, PlanError, values};
use crate::request::Request;
use crate::terms::{Action, LeftOperand, Operator, Sort, is_under};

/// Whether the use may take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It may.
    Permit,
    /// It may not.
    Deny,
}

/// The value of a constraint; ordered from false to true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// It is false.
    Fails,
    /// It cannot be told.
    Unknown,
    /// It is true.
    Holds,
}

/// The side of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuleKind {
    /// A permission.
    Permission,
    /// A prohibition.
    Prohibition,
}

/// Names a rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RuleRef {
    /// Its side.
    pub kind: RuleKind,
    /// Its place in the list, from 0.
    pub index: usize,
}

/// Why the verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A permission holds.
    Permitted,
    /// A prohibition holds.
    Prohibited,
    /// It cannot be told whether a prohibition holds.
    MaybeProhibited,
    /// No permission speaks of this action on this asset for this consumer.
    NothingApplies,
    /// Permissions apply and none of them holds.
    NothingHolds,
    /// The policy is an offer.
    Offer,
    /// `conflict: invalid`, and a permission may meet a prohibition.
    Void,
    /// The policy is larger than the bounds of [`crate::model`].
    TooLarge,
    /// Program and interpreter disagree; never seen, denied if it were.
    Disagreement,
}

/// Verdict, reason and the rule that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ruling {
    /// Whether the use may take place.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// The rule that decided, when one did.
    pub rule: Option<RuleRef>,
}

/// A ruling with everything that was looked at, and what the permission means for the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The ruling.
    pub ruling: Ruling,
    /// The action asked for.
    pub action: Action,
    /// What was looked at, in order.
    pub steps: Vec<Step>,
    /// The shape of the answer; `None` when denied.
    pub plan: Option<DataPlan>,
    /// The budgets and the end; all `None` when denied.
    pub limits: Limits,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The rule it belongs to.
    pub rule: RuleRef,
    /// Where in the policy, such as `permission[0].constraint[1].or[0]`.
    pub path: String,
    /// What was tested.
    pub test: Test,
    /// What came of it.
    pub outcome: Outcome,
    /// Why.
    pub why: Why,
}

/// What a step tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Test {
    /// One comparison.
    Constraint {
        /// The term.
        left: LeftOperand,
        /// The comparison.
        operator: Operator,
        /// The value required.
        required: Operand,
        /// The value seen, if the request has one.
        seen: Option<String>,
    },
    /// A logical constraint; its members are steps of their own, before it.
    Group(Group),
    /// A duty that must be fulfilled first.
    Duty {
        /// Its action.
        action: Action,
        /// The name under which fulfilment is reported.
        id: String,
    },
    /// Whether the shape terms of the permission go together.
    Plan,
}

/// Why a step came out as it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// The values were compared.
    Compared,
    /// The members were combined.
    Combined,
    /// The request does not have the attribute.
    Missing,
    /// No valid credential that the consumer has shown says so.
    NotShown,
    /// Operator or value do not fit the term, or the group is empty.
    NotValid,
    /// The term cannot be enforced in this place.
    NotEnforceable,
    /// The term shapes the answer and cannot be false.
    Shapes,
    /// The shape term cannot be read, or contradicts another.
    BadPlan(PlanError),
    /// The duty is or is not fulfilled.
    Duty,
}

impl RuleRef {
    /// The path of the rule, such as `permission[0]`.
    pub fn path(self) -> String {
        self.to_string()
    }
}

impl fmt::Display for RuleRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = match self.kind {
            RuleKind::Permission => "permission",
            RuleKind::Prohibition => "prohibition",
        };
        write!(f, "{side}[{}]", self.index)
    }
}

impl Ruling {
    pub(crate) fn deny(reason: Reason) -> Self {
        Self { verdict: Verdict::Deny, reason, rule: None }
    }

    /// Whether the use may take place.
    pub fn is_permit(&self) -> bool {
        self.verdict == Verdict::Permit
    }

    /// The ruling when a rule of the given side came out so; `None` when the rule decides nothing.
    pub(crate) fn by(rule: RuleRef, outcome: Outcome) -> Option<Self> {
        let (verdict, reason) = match (rule.kind, outcome) {
            (RuleKind::Permission, Outcome::Holds) => (Verdict::Permit, Reason::Permitted),
            (RuleKind::Prohibition, Outcome::Holds) => (Verdict::Deny, Reason::Prohibited),
            (RuleKind::Prohibition, Outcome::Unknown) => (Verdict::Deny, Reason::MaybeProhibited),
            (RuleKind::Permission, Outcome::Unknown | Outcome::Fails) | (RuleKind::Prohibition, Outcome::Fails) => {
                return None;
            }
        };
        Some(Self { verdict, reason, rule: Some(rule) })
    }
}

impl Decision {
    /// Whether the use may take place.
    pub fn verdict(&self) -> Verdict {
        self.ruling.verdict
    }
}

/// What `policy` says about `request`, and why.
pub fn evaluate(policy: &Policy, request: &Request) -> Decision {
    let mut steps = Vec::new();
    let ruling = rule(policy, request, &mut steps);
    let permission =
        ruling.rule.filter(|_| ruling.is_permit()).and_then(|decider| policy.permissions.get(decider.index));
    let Some(permission) = permission else {
        return Decision { ruling, action: request.action, steps, plan: None, limits: Limits::default() };
    };
    let mut later = request.clone();
    let not_after = last_instant(policy, request.now, |now| {
        later.now = now;
        rule(policy, &later, &mut Vec::new()) == ruling
    });
    let limits = Limits { not_after, ..Limits::of(permission) };
    Decision { ruling, action: request.action, steps, plan: DataPlan::of(permission).ok(), limits }
}

/// The last instant up to which `same` stays true, trying each instant at which some constraint may change its value.
pub(crate) fn last_instant(
    policy: &Policy,
    now: UnixMillis,
    mut same: impl FnMut(UnixMillis) -> bool,
) -> Option<UnixMillis> {
    let mut changes = Vec::new();
    for rule in policy.permissions.iter().chain(&policy.prohibitions) {
        rule.constraints.iter().for_each(|constraint| instants(constraint, &mut changes));
    }
    changes.retain(|change| now.0 < *change);
    changes.sort_unstable();
    changes.dedup();
    let first = changes.into_iter().find(|change| !same(UnixMillis(*change)))?;
    Some(UnixMillis(first - 1))
}

fn instants(constraint: &Constraint, found: &mut Vec<i64>) {
    match constraint {
        Constraint::Atomic { right: Operand::Time(instant), .. } => {
            found.extend([instant.0, instant.0.saturating_add(1)]);
        }
        Constraint::Atomic { right: Operand::Text(_) | Operand::List(_) | Operand::Count(_), .. } => {}
        Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
            members.iter().for_each(|member| instants(member, found));
        }
    }
}

fn rule(policy: &Policy, request: &Request, steps: &mut Vec<Step>) -> Ruling {
    if policy.kind == PolicyKind::Offer {
        return Ruling::deny(Reason::Offer);
    }
    if policy.check_bounds().is_err() {
        return Ruling::deny(Reason::TooLarge);
    }
    if is_void(policy) {
        return Ruling::deny(Reason::Void);
    }
    let permissions = (RuleKind::Permission, &policy.permissions);
    let prohibitions = (RuleKind::Prohibition, &policy.prohibitions);
    let order = match policy.conflict {
        Conflict::Prohibit | Conflict::Invalid => [prohibitions, permissions],
        Conflict::Permit => [permissions, prohibitions],
    };
    let mut reason = Reason::NothingApplies;
    for (kind, rules) in order {
        for (index, rule) in rules.iter().enumerate() {
            if !applies(policy, kind, rule, request) {
                continue;
            }
            let at = RuleRef { kind, index };
            let outcome = Walk { request, at, steps }.rule(rule);
            if let Some(ruling) = Ruling::by(at, outcome) {
                return ruling;
            }
            if kind == RuleKind::Permission {
                reason = Reason::NothingHolds;
            }
        }
    }
    Ruling::deny(reason)
}

/// Whether the policy permits nothing because it says `conflict: invalid` and may contradict itself.
pub(crate) fn is_void(policy: &Policy) -> bool {
    policy.conflict == Conflict::Invalid && entail::may_conflict(policy)
}

fn applies(policy: &Policy, kind: RuleKind, rule: &Rule, request: &Request) -> bool {
    let action = match kind {
        RuleKind::Permission => rule.action.includes(request.action),
        RuleKind::Prohibition => rule.action.overlaps(request.action),
    };
    action
        && policy.target_of(rule).is_none_or(|target| target == request.asset)
        && policy.assignee_of(rule).is_none_or(|assignee| *assignee == request.consumer)
}

/// Strong Kleene `and`, `or` and exactly-one; an empty group is unknown.
pub(crate) fn combine(group: Group, outcomes: &[Outcome]) -> Outcome {
    let count = |wanted: Outcome| outcomes.iter().filter(|outcome| **outcome == wanted).count();
    match group {
        Group::And => outcomes.iter().copied().min().unwrap_or(Outcome::Unknown),
        Group::Or => outcomes.iter().copied().max().unwrap_or(Outcome::Unknown),
        Group::Xone => match (count(Outcome::Holds), count(Outcome::Unknown)) {
            (2.., _) => Outcome::Fails,
            (_, 1..) => Outcome::Unknown,
            (1, 0) => Outcome::Holds,
            (0, 0) if outcomes.is_empty() => Outcome::Unknown,
            (0, 0) => Outcome::Fails,
        },
    }
}

/// Evaluates one rule and notes each step.
struct Walk<'a> {
    request: &'a Request,
    at: RuleRef,
    steps: &'a mut Vec<Step>,
}

impl Walk<'_> {
    fn rule(&mut self, rule: &Rule) -> Outcome {
        let path = self.at.path();
        let enforceable = self.at.kind == RuleKind::Permission;
        let mut least = Outcome::Holds;
        for (index, constraint) in rule.constraints.iter().enumerate() {
            least = least.min(self.constraint(constraint, &format!("{path}.constraint[{index}]"), enforceable));
        }
        if self.at.kind == RuleKind::Prohibition {
            return least;
        }
        if let Err(error) = DataPlan::of(rule) {
            least = least.min(Outcome::Unknown);
            self.note(path.clone(), Test::Plan, Outcome::Unknown, Why::BadPlan(error));
        }
        for (index, duty) in rule.duties.iter().enumerate() {
            least = least.min(self.duty(duty, format!("{path}.duty[{index}]")));
        }
        least
    }

    fn duty(&mut self, duty: &Duty, path: String) -> Outcome {
        let id = duty.id(&path).to_owned();
        let outcome = truth(self.request.fulfilled.contains(&id));
        self.note(path, Test::Duty { action: duty.action, id }, outcome, Why::Duty);
        outcome
    }

    /// `enforceable`: whether shape and quota terms can be enforced here, outside `or`, `xone` and prohibitions.
    fn constraint(&mut self, constraint: &Constraint, path: &str, enforceable: bool) -> Outcome {
        let Some((group, members)) = constraint.group() else { return self.atomic(constraint, path, enforceable) };
        let enforceable = enforceable && group == Group::And;
        let outcomes: Vec<Outcome> = members
            .iter()
            .enumerate()
            .map(|(index, member)| self.constraint(member, &format!("{path}.{}[{index}]", group.name()), enforceable))
            .collect();
        let outcome = combine(group, &outcomes);
        let why = if members.is_empty() { Why::NotValid } else { Why::Combined };
        self.note(path.to_owned(), Test::Group(group), outcome, why);
        outcome
    }

    fn atomic(&mut self, constraint: &Constraint, path: &str, enforceable: bool) -> Outcome {
        let Constraint::Atomic { left, operator, right } = constraint else { return Outcome::Unknown };
        let seen = attribute(*left, self.request);
        let (outcome, why) = if !left.operators().contains(operator) {
            (Outcome::Unknown, Why::NotValid)
        } else if !enforceable && (left.is_shape() || left.is_quota()) {
            (Outcome::Unknown, Why::NotEnforceable)
        } else if left.is_shape() {
            shape(constraint)
        } else if left.is_credential() {
            has_shown(*left, *operator, right, self.request)
        } else {
            compare(*left, *operator, right, seen.as_ref())
        };
        let test = Test::Constraint {
            left: *left,
            operator: *operator,
            required: right.clone(),
            seen: seen.map(|seen| seen.to_string()),
        };
        self.note(path.to_owned(), test, outcome, why);
        outcome
    }

    fn note(&mut self, path: String, test: Test, outcome: Outcome, why: Why) {
        self.steps.push(Step { rule: self.at, path, test, outcome, why });
    }
}

fn truth(holds: bool) -> Outcome {
    if holds { Outcome::Holds } else { Outcome::Fails }
}

/// What the request has for a term.
enum Seen<'a> {
    Text(&'a str),
    Time(UnixMillis),
    Count(u64),
}

impl fmt::Display for Seen<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Time(instant) => write!(f, "{instant}"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

fn attribute(left: LeftOperand, request: &Request) -> Option<Seen<'_>> {
    match left {
        LeftOperand::Purpose => request.purpose.as_deref().map(Seen::Text),
        LeftOperand::Spatial => request.place.as_deref().map(Seen::Text),
        LeftOperand::DeliveryFormat => request.format.as_deref().map(Seen::Text),
        LeftOperand::Recipient => Some(Seen::Text(request.consumer.as_str())),
        LeftOperand::DateTime => Some(Seen::Time(request.now)),
        LeftOperand::Count => Some(Seen::Count(request.used.count.saturating_add(1))),
        LeftOperand::RowCount => Some(Seen::Count(request.used.rows.saturating_add(1))),
        LeftOperand::ByteCount => Some(Seen::Count(request.used.bytes.saturating_add(1))),
        LeftOperand::RowFilter | LeftOperand::ColumnMask | LeftOperand::ColumnDeny => None,
        // An explanation says what was required and whether it was shown, not what else a credential says.
        LeftOperand::CredentialType | LeftOperand::CredentialClaim => None,
    }
}

fn has_shown(left: LeftOperand, operator: Operator, right: &Operand, request: &Request) -> (Outcome, Why) {
    let facts = if left == LeftOperand::CredentialType { &request.shown.types } else { &request.shown.claims };
    let Some(required) = values(operator, right).filter(|required| !required.is_empty()) else {
        return (Outcome::Unknown, Why::NotValid);
    };
    let holds = match operator {
        Operator::Eq | Operator::IsAnyOf => required.iter().any(|name| facts.contains(name)),
        Operator::IsAllOf => required.iter().all(|name| facts.contains(name)),
        Operator::Neq
        | Operator::Lt
        | Operator::Lteq
        | Operator::Gt
        | Operator::Gteq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsNoneOf => return (Outcome::Unknown, Why::NotValid),
    };
    if holds { (Outcome::Holds, Why::Compared) } else { (Outcome::Unknown, Why::NotShown) }
}

fn shape(constraint: &Constraint) -> (Outcome, Why) {
    let alone = Rule { constraints: vec![constraint.clone()], ..Rule::new(Action::Read) };
    match DataPlan::of(&alone) {
        Ok(_) => (Outcome::Holds, Why::Shapes),
        Err(error) => (Outcome::Unknown, Why::BadPlan(error)),
    }
}

fn compare(left: LeftOperand, operator: Operator, right: &Operand, seen: Option<&Seen<'_>>) -> (Outcome, Why) {
    let holds = match (left.sort(), seen, right) {
        (Sort::Text, None, _) => return (Outcome::Unknown, Why::Missing),
        (Sort::Text, Some(Seen::Text(seen)), _) => compare_text(left, operator, right, seen),
        (Sort::Time, Some(Seen::Time(seen)), Operand::Time(required)) => compare_order(operator, seen, required),
        (Sort::Count, Some(Seen::Count(seen)), Operand::Count(required)) => compare_order(operator, seen, required),
        (Sort::Text | Sort::Time | Sort::Count, _, _) => None,
    };
    holds.map_or((Outcome::Unknown, Why::NotValid), |holds| (truth(holds), Why::Compared))
}

fn compare_order<T: Ord>(operator: Operator, seen: &T, required: &T) -> Option<bool> {
    match operator {
        Operator::Lt => Some(seen < required),
        Operator::Lteq => Some(seen <= required),
        Operator::Gt => Some(seen > required),
        Operator::Gteq => Some(seen >= required),
        Operator::Eq
        | Operator::Neq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsAllOf
        | Operator::IsAnyOf
        | Operator::IsNoneOf => None,
    }
}

fn compare_text(left: LeftOperand, operator: Operator, right: &Operand, seen: &str) -> Option<bool> {
    let required = values(operator, right).filter(|required| !required.is_empty())?;
    let listed = required.iter().any(|value| value == seen);
    match operator {
        Operator::Eq | Operator::IsAnyOf => Some(listed),
        Operator::Neq | Operator::IsNoneOf => Some(!listed),
        Operator::IsA | Operator::IsPartOf => {
            Some(required.iter().any(|value| is_under(seen, value, left.separator())))
        }
        Operator::Lt | Operator::Lteq | Operator::Gt | Operator::Gteq | Operator::HasPart | Operator::IsAllOf => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Operand::{Count, Text};
    use crate::samples::{consumer, list, policy, request};
    use crate::terms::LeftOperand as L;
    use crate::terms::Operator as O;

    fn permission(constraints: Vec<Constraint>) -> Rule {
        Rule { constraints, ..Rule::new(Action::Use) }
    }

    fn purpose(name: &str) -> Constraint {
        Constraint::new(L::Purpose, O::Eq, Text(name.into()))
    }

    #[track_caller]
    fn check(policy: &Policy, request: &Request, reason: Reason, rule: Option<&str>) -> Decision {
        let decision = evaluate(policy, request);
        assert_eq!(decision.ruling.reason, reason, "{:#?}", decision.steps);
        assert_eq!(decision.ruling.rule.map(RuleRef::path).as_deref(), rule);
        assert_eq!(decision.plan.is_some(), decision.ruling.is_permit());
        decision
    }

    #[test]
    fn kleene_tables() {
        use Outcome::{Fails as F, Holds as H, Unknown as U};
        for (group, members, wanted) in [
            (Group::And, &[H, U][..], U),
            (Group::And, &[F, U], F),
            (Group::Or, &[H, U], H),
            (Group::Or, &[F, U], U),
            (Group::Xone, &[H, H, U], F),
            (Group::Xone, &[H, U], U),
            (Group::Xone, &[H, F], H),
            (Group::Xone, &[F, F], F),
            (Group::And, &[], U),
            (Group::Or, &[], U),
            (Group::Xone, &[], U),
        ] {
            assert_eq!(combine(group, members), wanted, "{group:?} {members:?}");
        }
    }

    #[test]
    fn default_is_closed_and_offers_are_not_evaluated() {
        let mut policy = policy(vec![permission(vec![])]);
        check(&policy, &request(), Reason::Permitted, Some("permission[0]"));
        policy.kind = PolicyKind::Offer;
        check(&policy, &request(), Reason::Offer, None);
        policy.kind = PolicyKind::Agreement;
        policy.permissions.clear();
        check(&policy, &request(), Reason::NothingApplies, None);
    }

    #[test]
    fn a_rule_for_another_asset_party_or_action_does_not_apply() {
        let granted = policy(vec![permission(vec![])]);
        let other = Request { asset: "urn:other".into(), ..request() };
        check(&granted, &other, Reason::NothingApplies, None);
        let other = Request { consumer: "did:web:other".parse().unwrap(), ..request() };
        check(&granted, &other, Reason::NothingApplies, None);
        let other = Request { action: Action::Transfer, ..request() };
        check(&granted, &other, Reason::NothingApplies, None);
    }

    #[test]
    fn a_missing_purpose_is_unknown_and_denies() {
        let policy = policy(vec![permission(vec![purpose("research")])]);
        check(&policy, &request(), Reason::Permitted, Some("permission[0]"));
        let asked = Request { purpose: None, ..request() };
        let decision = check(&policy, &asked, Reason::NothingHolds, None);
        assert_eq!(decision.steps[0].why, Why::Missing);
        assert_eq!(decision.steps[0].path, "permission[0].constraint[0]");
    }

    #[test]
    fn narrower_purposes_and_places_are_under_broader_ones() {
        let policy = policy(vec![permission(vec![
            Constraint::new(L::Purpose, O::IsA, Text("research".into())),
            Constraint::new(L::Spatial, O::IsPartOf, Text("CN".into())),
        ])]);
        let asked = Request { purpose: Some("research/clinical".into()), place: Some("CN-SH".into()), ..request() };
        check(&policy, &asked, Reason::Permitted, Some("permission[0]"));
        let asked = Request { purpose: Some("researching".into()), ..asked };
        check(&policy, &asked, Reason::NothingHolds, None);
    }

    #[test]
    fn a_prohibition_wins_also_when_unknown_unless_permissions_win() {
        let mut policy = policy(vec![permission(vec![])]);
        policy.prohibitions.push(Rule { constraints: vec![purpose("marketing")], ..Rule::new(Action::Read) });
        check(&policy, &request(), Reason::Permitted, Some("permission[0]"));
        let marketing = Request { purpose: Some("marketing".into()), ..request() };
        check(&policy, &marketing, Reason::Prohibited, Some("prohibition[0]"));
        let silent = Request { purpose: None, ..request() };
        check(&policy, &silent, Reason::MaybeProhibited, Some("prohibition[0]"));
        // To permit all uses would be to permit reading.
        check(
            &policy,
            &Request { action: Action::Use, ..marketing.clone() },
            Reason::Prohibited,
            Some("prohibition[0]"),
        );
        policy.conflict = Conflict::Permit;
        check(&policy, &marketing, Reason::Permitted, Some("permission[0]"));
        policy.conflict = Conflict::Invalid;
        check(&policy, &request(), Reason::Void, None);
        policy.permissions[0].constraints.push(purpose("research"));
        check(&policy, &request(), Reason::Permitted, Some("permission[0]"));
    }

    #[test]
    fn budgets_count_the_use_that_is_asked_for() {
        let policy = policy(vec![permission(vec![
            Constraint::new(L::Count, O::Lteq, Count(2)),
            Constraint::new(L::RowCount, O::Lt, Count(101)),
        ])]);
        let mut asked = request();
        asked.used = crate::Usage { count: 1, rows: 99, bytes: 0 };
        let decision = check(&policy, &asked, Reason::Permitted, Some("permission[0]"));
        assert_eq!((decision.limits.max_count, decision.limits.max_rows), (Some(2), Some(100)));
        asked.used.count = 2;
        check(&policy, &asked, Reason::NothingHolds, None);
        asked.used = crate::Usage { count: 0, rows: 100, bytes: 0 };
        check(&policy, &asked, Reason::NothingHolds, None);
    }

    #[test]
    fn terms_that_cannot_be_enforced_where_they_stand_deny() {
        let either = Constraint::Or(vec![purpose("research"), Constraint::new(L::RowCount, O::Lteq, Count(5))]);
        let decision =
            check(&policy(vec![permission(vec![either])]), &request(), Reason::Permitted, Some("permission[0]"));
        assert_eq!(decision.steps[1].why, Why::NotEnforceable);
        let either = Constraint::Or(vec![purpose("x"), Constraint::new(L::RowCount, O::Lteq, Count(5))]);
        check(&policy(vec![permission(vec![either])]), &request(), Reason::NothingHolds, None);
        let unfit = Constraint::new(L::Purpose, O::Gt, Text("a".into()));
        check(&policy(vec![permission(vec![unfit])]), &request(), Reason::NothingHolds, None);
        let bad_filter = Constraint::new(L::RowFilter, O::Eq, Text("1 = 1".into()));
        check(&policy(vec![permission(vec![bad_filter])]), &request(), Reason::NothingHolds, None);
        let masks =
            ["a=show-first-4", "a=show-last-4"].map(|mask| Constraint::new(L::ColumnMask, O::Eq, Text(mask.into())));
        check(&policy(vec![permission(masks.to_vec())]), &request(), Reason::NothingHolds, None);
    }

    #[test]
    fn duties_come_first() {
        let duty = Duty { uid: None, action: Action::Compensate, constraints: vec![] };
        let policy = policy(vec![Rule { duties: vec![duty], ..permission(vec![]) }]);
        check(&policy, &request(), Reason::NothingHolds, None);
        let mut asked = request();
        asked.fulfilled.insert("permission[0].duty[0]".into());
        check(&policy, &asked, Reason::Permitted, Some("permission[0]"));
    }

    #[test]
    fn the_first_permission_that_holds_gives_the_plan_and_its_end() {
        let until = |instant: i64| Constraint::new(L::DateTime, O::Lt, Operand::Time(UnixMillis(instant)));
        let filter = Constraint::new(L::RowFilter, O::Eq, Text("a = 1".into()));
        let mut policy = policy(vec![
            permission(vec![purpose("other")]),
            permission(vec![Constraint::Or(vec![until(5000), until(7000)])]),
            permission(vec![filter]),
        ]);
        let decision = check(&policy, &request(), Reason::Permitted, Some("permission[1]"));
        assert_eq!((decision.limits.not_after, decision.plan), (Some(UnixMillis(6999)), Some(DataPlan::default())));
        let late = Request { now: UnixMillis(7000), ..request() };
        let decision = check(&policy, &late, Reason::Permitted, Some("permission[2]"));
        assert!(decision.limits.not_after.is_none() && decision.plan.unwrap().row_filter.is_some());
        let from = Constraint::new(L::DateTime, O::Gteq, Operand::Time(UnixMillis(6000)));
        policy.prohibitions.push(permission(vec![from]));
        let decision = check(&policy, &request(), Reason::Permitted, Some("permission[1]"));
        assert_eq!(decision.limits.not_after, Some(UnixMillis(5999)));
    }

    #[test]
    fn recipients_are_compared_exactly() {
        let named = Constraint::new(L::Recipient, O::IsAnyOf, list(&["did:web:a", consumer().as_str()]));
        check(&policy(vec![permission(vec![named])]), &request(), Reason::Permitted, Some("permission[0]"));
        let named = Constraint::new(L::Recipient, O::IsNoneOf, list(&[consumer().as_str()]));
        check(&policy(vec![permission(vec![named])]), &request(), Reason::NothingHolds, None);
    }
}
