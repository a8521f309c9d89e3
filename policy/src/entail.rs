//! What follows from constraints without looking at a request: implication and contradiction, both sound.
//!
//! `implies(kind, a, b)` true means: on every request the value of all of `a` together is at most the value of `b` in
//! the order fails < unknown < holds, both standing in a rule of that kind. `refutes(a, kind, b)` true means: whenever
//! all of `a` hold in a permission, `b` in a rule of that kind fails. False means nothing.
//!
//! Shape and quota terms are always unknown in `or`, `xone` and prohibitions, so nothing follows from them there.

use crate::evaluate::RuleKind;
use crate::model::{Constraint, Operand, Policy, Rule};
use crate::normal::{Normal, normal};
use crate::plan::conjuncts;
use crate::terms::{LeftOperand, Operator, is_under};

/// Splitting of alternatives stops here; each level multiplies the work by the number of alternatives.
const MAX_SPLITS: usize = 3;

/// Whether shape and quota terms can be enforced where a constraint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a permission, outside `or` and `xone`.
    Enforced,
    /// Anywhere else.
    TestsOnly,
}

impl From<RuleKind> for Place {
    fn from(kind: RuleKind) -> Self {
        match kind {
            RuleKind::Permission => Self::Enforced,
            RuleKind::Prohibition => Self::TestsOnly,
        }
    }
}

/// Whether `b` is at least as true as all of `known` together.
pub(crate) fn implies(kind: RuleKind, known: &[Constraint], b: &Constraint) -> bool {
    Known::new(known, kind.into()).implies(b, kind.into(), MAX_SPLITS)
}

/// Whether `b` holds in a permission wherever all of `known` hold in one; shape terms, compared as plans, count as kept.
pub(crate) fn keeps(known: &[Constraint], b: &Constraint) -> bool {
    match b {
        Constraint::Atomic { left, .. } if left.is_shape() => true,
        Constraint::And(members) => !members.is_empty() && members.iter().all(|member| keeps(known, member)),
        Constraint::Atomic { .. } | Constraint::Or(_) | Constraint::Xone(_) => implies(RuleKind::Permission, known, b),
    }
}

/// Whether `b`, in a rule of `kind`, fails whenever all of `known` hold in a permission.
pub(crate) fn refutes(known: &[Constraint], kind: RuleKind, b: &Constraint) -> bool {
    Known::new(known, Place::Enforced).refutes(b, kind.into(), MAX_SPLITS)
}

/// Two constraints of a rule that can never hold together, if some are found.
pub(crate) fn contradiction(known: &[Constraint]) -> Option<(&Constraint, &Constraint)> {
    let found = conjuncts(known);
    found.iter().enumerate().find_map(|(index, b)| {
        let earlier = found.get(..index)?;
        let alone = |a: &&&Constraint| {
            Known { facts: vec![**a], place: Place::Enforced }.refutes(b, Place::Enforced, MAX_SPLITS)
        };
        Some((*earlier.iter().find(alone)?, *b))
    })
}

/// Whether a permission and a prohibition can both apply to some request, as far as cannot be excluded.
pub(crate) fn may_conflict(policy: &Policy) -> bool {
    policy.permissions.iter().any(|permission| {
        policy.prohibitions.iter().any(|prohibition| may_meet(policy, permission, policy, prohibition))
    })
}

/// Whether a request to which `permission` applies and whose constraints hold may be stopped by `prohibition`.
pub(crate) fn may_meet(of: &Policy, permission: &Rule, against: &Policy, prohibition: &Rule) -> bool {
    may_share_request(of, permission, against, prohibition)
        && !prohibition
            .constraints
            .iter()
            .any(|constraint| refutes(&permission.constraints, RuleKind::Prohibition, constraint))
}

/// Whether actions, targets and assignees of two rules leave room for one request.
pub(crate) fn may_share_request(of_a: &Policy, a: &Rule, of_b: &Policy, b: &Rule) -> bool {
    fn may_equal<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_none() || b.is_none() || a == b
    }
    a.action.overlaps(b.action)
        && may_equal(of_a.target_of(a), of_b.target_of(b))
        && may_equal(of_a.assignee_of(a), of_b.assignee_of(b))
}

/// Constraints taken to hold; `and` is opened.
struct Known<'a> {
    facts: Vec<&'a Constraint>,
    place: Place,
}

impl<'a> Known<'a> {
    fn new(constraints: &'a [Constraint], place: Place) -> Self {
        Self { facts: conjuncts(constraints), place }
    }

    fn implies(&self, b: &Constraint, place: Place, splits_left: usize) -> bool {
        let at_once = match b {
            Constraint::Atomic { left, operator, right } => {
                self.speaks_of(*left, place)
                    && (self.facts.contains(&b) || self.implies_atomic(*left, normal(*left, *operator, right)))
            }
            Constraint::And(members) => {
                !members.is_empty() && members.iter().all(|member| self.implies(member, place, splits_left))
            }
            Constraint::Or(members) => {
                self.facts.contains(&b)
                    || members.iter().any(|member| self.implies(member, Place::TestsOnly, splits_left))
            }
            Constraint::Xone(_) => self.facts.contains(&b),
        };
        at_once || self.by_alternatives(splits_left, |known, left| known.implies(b, place, left))
    }

    fn refutes(&self, b: &Constraint, place: Place, splits_left: usize) -> bool {
        let at_once = match b {
            Constraint::Atomic { left, operator, right } => {
                self.speaks_of(*left, place) && self.refutes_atomic(*left, *operator, right)
            }
            Constraint::And(members) => members.iter().any(|member| self.refutes(member, place, splits_left)),
            Constraint::Or(members) | Constraint::Xone(members) => {
                !members.is_empty() && members.iter().all(|member| self.refutes(member, Place::TestsOnly, splits_left))
            }
        };
        at_once || self.by_alternatives(splits_left, |known, left| known.refutes(b, place, left))
    }

    /// Whether a term has a value both among the facts and where the other constraint stands.
    fn speaks_of(&self, left: LeftOperand, place: Place) -> bool {
        let only_enforced = left.is_shape() || left.is_quota();
        !only_enforced || (self.place == Place::Enforced && place == Place::Enforced)
    }

    /// Whether `shown` in each alternative of some `or` or `xone` among the facts.
    fn by_alternatives(&self, splits_left: usize, shown: impl Fn(&Known<'_>, usize) -> bool) -> bool {
        let Some(splits_left) = splits_left.checked_sub(1) else { return false };
        let in_each = |members: &[Constraint]| {
            members.iter().all(|member| shown(&Known::new(std::slice::from_ref(member), Place::TestsOnly), splits_left))
        };
        self.facts.iter().any(|fact| match fact {
            Constraint::Or(members) | Constraint::Xone(members) => !members.is_empty() && in_each(members),
            Constraint::Atomic { .. } | Constraint::And(_) => false,
        })
    }

    /// The normal forms of the facts about a term.
    fn about(&self, wanted: LeftOperand) -> impl Iterator<Item = Normal<'a>> + '_ {
        self.facts.iter().filter_map(move |fact| match fact {
            Constraint::Atomic { left, operator, right } if *left == wanted => Some(normal(*left, *operator, right)),
            Constraint::Atomic { .. } | Constraint::And(_) | Constraint::Or(_) | Constraint::Xone(_) => None,
        })
    }

    fn implies_atomic(&self, left: LeftOperand, b: Normal<'_>) -> bool {
        self.about(left).any(|a| is_within(a, b, left.separator()))
    }

    fn refutes_atomic(&self, left: LeftOperand, operator: Operator, right: &Operand) -> bool {
        let b = normal(left, operator, right);
        self.about(left).any(|a| is_disjoint(a, b, left.separator()))
    }
}

/// Whether every value that satisfies `a` satisfies `b`.
fn is_within(a: Normal<'_>, b: Normal<'_>, separator: char) -> bool {
    match (a, b) {
        (Normal::Range { low: a_low, high: a_high }, Normal::Range { low, high }) => low <= a_low && a_high <= high,
        (Normal::In(a), Normal::In(b)) => a.iter().all(|value| b.contains(value)),
        (Normal::In(a), Normal::NotIn(b)) => !a.iter().any(|value| b.contains(value)),
        (Normal::In(a), Normal::Under(b)) => a.iter().all(|value| is_under(value, b, separator)),
        (Normal::NotIn(a), Normal::NotIn(b)) => b.iter().all(|value| a.contains(value)),
        (Normal::Under(a), Normal::NotIn(b)) => !b.iter().any(|value| is_under(value, a, separator)),
        (Normal::Under(a), Normal::Under(b)) => is_under(a, b, separator),
        (Normal::HasAny(a), Normal::HasAny(b)) => a.iter().all(|value| b.contains(value)),
        (Normal::HasAny(a), Normal::HasAll(b)) => a.iter().all(|value| b.iter().all(|other| other == value)),
        (Normal::HasAll(a), Normal::HasAny(b)) => a.iter().any(|value| b.contains(value)),
        (Normal::HasAll(a), Normal::HasAll(b)) => b.iter().all(|value| a.contains(value)),
        (
            Normal::Range { .. }
            | Normal::In(_)
            | Normal::NotIn(_)
            | Normal::Under(_)
            | Normal::HasAny(_)
            | Normal::HasAll(_)
            | Normal::Shape
            | Normal::Broken,
            _,
        ) => false,
    }
}

/// Whether every value that satisfies `a` makes `b` false.
fn is_disjoint(a: Normal<'_>, b: Normal<'_>, separator: char) -> bool {
    match (a, b) {
        (Normal::Range { low: a_low, high: a_high }, Normal::Range { low, high }) => a_high < low || high < a_low,
        (Normal::In(a), Normal::In(b)) => !a.iter().any(|value| b.contains(value)),
        (Normal::In(a), Normal::NotIn(b)) => a.iter().all(|value| b.contains(value)),
        (Normal::In(a), Normal::Under(b)) => !a.iter().any(|value| is_under(value, b, separator)),
        (Normal::NotIn(a), Normal::In(b)) => b.iter().all(|value| a.contains(value)),
        (Normal::Under(a), Normal::In(b)) => !b.iter().any(|value| is_under(value, a, separator)),
        (Normal::Under(a), Normal::Under(b)) => !is_under(a, b, separator) && !is_under(b, a, separator),
        // What was not shown is unknown and not false, so nothing shown contradicts anything.
        (
            Normal::Range { .. }
            | Normal::In(_)
            | Normal::NotIn(_)
            | Normal::Under(_)
            | Normal::HasAny(_)
            | Normal::HasAll(_)
            | Normal::Shape
            | Normal::Broken,
            _,
        ) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::{Outcome, evaluate};
    use crate::model::PolicyKind;
    use crate::request::Request;
    use crate::samples::{constraints, requests, terms};
    use crate::terms::Action;
    use proptest::prelude::*;

    /// The value of all constraints of a rule of that kind, by way of the interpreter.
    fn value(kind: RuleKind, constraints: &[Constraint], request: &Request) -> Outcome {
        let rule = Rule { constraints: constraints.to_vec(), ..Rule::new(Action::Use) };
        let mut policy = Policy::new("urn:p", PolicyKind::Set);
        match kind {
            RuleKind::Permission => policy.permissions.push(rule),
            RuleKind::Prohibition => policy.prohibitions.push(rule),
        }
        let decision = evaluate(&policy, request);
        let path =
            format!("{}[0].constraint[", if kind == RuleKind::Permission { "permission" } else { "prohibition" });
        let whole = |step: &&crate::Step| {
            step.path.strip_prefix(&path).is_some_and(|rest| rest.ends_with(']') && rest.matches('[').count() == 0)
        };
        decision.steps.iter().filter(whole).map(|step| step.outcome).min().unwrap()
    }

    /// Some constraints and one more, about the same few terms.
    fn pairs() -> impl Strategy<Value = (Vec<Constraint>, Constraint)> {
        terms().prop_flat_map(|terms| (prop::collection::vec(constraints(terms.clone()), 1..3), constraints(terms)))
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        #[test]
        fn implication_is_sound(
            (a, b) in pairs(),
            request in requests(),
            kind in prop::sample::select(&[RuleKind::Permission, RuleKind::Prohibition][..]),
        ) {
            let request = Request { action: Action::Use, ..request };
            if implies(kind, &a, &b) {
                let (known, seen) = (value(kind, &a, &request), value(kind, &[b], &request));
                prop_assert!(known <= seen, "{known:?} {seen:?}");
            }
        }

        #[test]
        fn refutation_is_sound(
            (a, b) in pairs(),
            request in requests(),
            kind in prop::sample::select(&[RuleKind::Permission, RuleKind::Prohibition][..]),
        ) {
            let request = Request { action: Action::Use, ..request };
            if value(RuleKind::Permission, &a, &request) == Outcome::Holds {
                prop_assert_eq!(contradiction(&a), None);
                if refutes(&a, kind, &b) {
                    prop_assert_eq!(value(kind, &[b], &request), Outcome::Fails);
                }
            }
        }
    }
}
