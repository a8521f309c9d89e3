//! Whether what is asked for lies within what is offered: the rule of automatic negotiation.

use crate::entail::{implies, keeps, may_meet, may_share_request, refutes};
use crate::evaluate::{RuleKind, RuleRef, is_void};
use crate::model::{Conflict, Policy, Rule};
use crate::plan::DataPlan;

/// One way in which the request goes beyond the offer, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where in the requested policy; `policy` for the whole.
    pub path: String,
    /// What the offer has and the request lacks, in a few English words.
    pub what: String,
}

/// Whether every use that `requested` permits is permitted by `offered` too, with a plan at least as strict.
///
/// Sound: `Ok` is a proof, whatever the kinds of the policies, evaluated as agreements with the same counters and
/// fulfilled duties. Not complete: what cannot be shown by comparing single constraints is reported as a difference,
/// for a person to judge.
///
/// # Errors
/// The differences, at least one.
pub fn covers(offered: &Policy, requested: &Policy) -> Result<(), Vec<Difference>> {
    let mut differences = Vec::new();
    let mut differ = |path: &str, what: &str| {
        differences.push(Difference { path: path.to_owned(), what: what.to_owned() });
    };
    for (policy, whose) in [(offered, "the offer"), (requested, "the request")] {
        if policy.check_bounds().is_err() {
            return Err(vec![Difference { path: "policy".into(), what: format!("{whose} is too large") }]);
        }
        if is_void(policy) {
            differ(
                "policy",
                &format!("{whose} is void: a permission may meet a prohibition and `conflict` is `invalid`"),
            );
        }
    }
    if requested.permissions.is_empty() {
        differ("policy", "the request asks for nothing");
    }
    for obligation in &offered.obligations {
        let kept = |own: &&crate::Duty| own.action == obligation.action && own.constraints == obligation.constraints;
        if requested.obligations.iter().find(kept).is_none() {
            differ("policy", &format!("the offer's obligation `{}` is missing", obligation.action.name()));
        }
    }
    for (index, rule) in requested.permissions.iter().enumerate() {
        let asked = Asked { offered, requested, rule, at: RuleRef { kind: RuleKind::Permission, index } };
        differences.extend(asked.differences());
    }
    if differences.is_empty() { Ok(()) } else { Err(differences) }
}

/// One requested permission.
struct Asked<'a> {
    offered: &'a Policy,
    requested: &'a Policy,
    rule: &'a Rule,
    at: RuleRef,
}

impl Asked<'_> {
    fn differences(&self) -> Vec<Difference> {
        let Ok(plan) = DataPlan::of(self.rule) else {
            return vec![self.differs("its row filter or masks cannot be read".into())];
        };
        let mut found = self.by_permissions(&plan);
        if self.offered.conflict != Conflict::Permit {
            found.extend(self.by_prohibitions());
        }
        found
    }

    /// The offer's permissions in order, as the interpreter tries them: each that may decide first must hide no more.
    fn by_permissions(&self, plan: &DataPlan) -> Vec<Difference> {
        let mut closest: Option<Vec<Difference>> = None;
        for (index, offer) in self.offered.permissions.iter().enumerate() {
            let Ok(offered_plan) = DataPlan::of(offer) else { continue };
            if self.never_decided_by(offer) {
                continue;
            }
            let mut found = self.beyond(offer, RuleRef { kind: RuleKind::Permission, index });
            if !plan.is_at_least_as_strict_as(&offered_plan) {
                found.push(
                    self.differs(format!("permission[{index}] of the offer shows less: {}", hidden(&offered_plan))),
                );
                return found;
            }
            if found.is_empty() {
                return found;
            }
            if closest.as_ref().is_none_or(|known| found.len() < known.len()) {
                closest = Some(found);
            }
        }
        let nothing = || vec![self.differs("the offer permits nothing of the kind".into())];
        closest.unwrap_or_else(nothing)
    }

    fn never_decided_by(&self, offer: &Rule) -> bool {
        let known = &self.rule.constraints;
        !may_share_request(self.requested, self.rule, self.offered, offer)
            || offer.constraints.iter().any(|constraint| refutes(known, RuleKind::Permission, constraint))
    }

    /// What keeps `offer` from permitting all that this permission permits.
    fn beyond(&self, offer: &Rule, at: RuleRef) -> Vec<Difference> {
        let mut found = Vec::new();
        if !offer.action.includes(self.rule.action) {
            found.push(self.differs(format!("the offer permits `{}` only", offer.action.name())));
        }
        let target = self.offered.target_of(offer);
        if target.is_some() && target != self.requested.target_of(self.rule) {
            found.push(self.differs("the offer is about another asset".into()));
        }
        let assignee = self.offered.assignee_of(offer);
        if assignee.is_some() && assignee != self.requested.assignee_of(self.rule) {
            found.push(self.differs("the offer is for another party".into()));
        }
        for (index, constraint) in offer.constraints.iter().enumerate() {
            if !keeps(&self.rule.constraints, constraint) {
                found.push(self.differs(format!("{at}.constraint[{index}] of the offer is not kept")));
            }
        }
        for (index, duty) in offer.duties.iter().enumerate() {
            let path = format!("{at}.duty[{index}]");
            let owed = self.rule.duties.iter().enumerate().any(|(own_index, own)| {
                own.id(&format!("{}.duty[{own_index}]", self.at)) == duty.id(&path) && own.action == duty.action
            });
            if !owed {
                found.push(self.differs(format!("{path} of the offer, `{}`, is missing", duty.action.name())));
            }
        }
        found
    }

    fn by_prohibitions(&self) -> Vec<Difference> {
        let missing = |(index, prohibition): (usize, &Rule)| {
            let harmless =
                !may_meet(self.requested, self.rule, self.offered, prohibition) || self.keeps_out(prohibition);
            (!harmless).then(|| self.differs(format!("prohibition[{index}] of the offer is not kept")))
        };
        self.offered.prohibitions.iter().enumerate().filter_map(missing).collect()
    }

    /// Whether some prohibition of the request stops whatever this one of the offer stops.
    fn keeps_out(&self, prohibition: &Rule) -> bool {
        self.requested.conflict != Conflict::Permit
            && self.requested.prohibitions.iter().any(|own| {
                let target = self.requested.target_of(own);
                let assignee = self.requested.assignee_of(own);
                own.action.includes(prohibition.action)
                    && (target.is_none() || target == self.offered.target_of(prohibition))
                    && (assignee.is_none() || assignee == self.offered.assignee_of(prohibition))
                    && own
                        .constraints
                        .iter()
                        .all(|constraint| implies(RuleKind::Prohibition, &prohibition.constraints, constraint))
            })
    }

    fn differs(&self, what: String) -> Difference {
        Difference { path: self.at.path(), what }
    }
}

fn hidden(plan: &DataPlan) -> String {
    let mut parts = Vec::new();
    parts.extend(plan.row_filter.iter().map(|filter| format!("only rows where `{filter}`")));
    parts.extend(plan.masks.iter().map(|(column, mask)| format!("`{column}` through `{mask}`")));
    parts.extend(plan.denied.iter().map(|column| format!("no `{column}`")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::model::{Constraint, Duty, Operand, PolicyKind};
    use crate::samples::{constraints, list, policies, policy, requests, terms};
    use crate::terms::{Action, LeftOperand as L, Operator as O};
    use proptest::prelude::*;

    fn text(value: &str) -> Operand {
        Operand::Text(value.into())
    }

    fn rule(constraints: Vec<Constraint>) -> Rule {
        Rule { constraints, ..Rule::new(Action::Read) }
    }

    fn offer() -> Policy {
        let offered = rule(vec![
            Constraint::new(L::Purpose, O::IsA, text("research")),
            Constraint::new(L::Count, O::Lteq, Operand::Count(10)),
            Constraint::new(L::RowFilter, O::Eq, text("origin = 'SEA'")),
            Constraint::new(L::ColumnDeny, O::IsAnyOf, list(&["pilot", "tail"])),
        ]);
        Policy { kind: PolicyKind::Offer, assignee: None, ..policy(vec![offered]) }
    }

    #[track_caller]
    fn check(requested: &Policy, wanted: &[&str]) {
        let found = covers(&offer(), requested).err().unwrap_or_default();
        assert_eq!(found.iter().map(|difference| difference.what.as_str()).collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn the_same_and_less_is_covered() {
        check(&policy(offer().permissions), &[]);
        check(
            &policy(vec![rule(vec![
                Constraint::new(L::Purpose, O::IsAnyOf, list(&["research/a", "research/b"])),
                Constraint::new(L::Count, O::Lt, Operand::Count(5)),
                Constraint::new(L::RowFilter, O::Eq, text("origin = 'SEA' AND delay > 3")),
                Constraint::new(L::ColumnDeny, O::IsAnyOf, list(&["tail", "pilot", "fuel"])),
            ])]),
            &[],
        );
    }

    #[test]
    fn more_is_not_covered() {
        let mut asked = policy(offer().permissions);
        asked.permissions[0].constraints[1] = Constraint::new(L::Count, O::Lteq, Operand::Count(11));
        check(&asked, &["permission[0].constraint[1] of the offer is not kept"]);
        asked.permissions[0].constraints.pop();
        let less = "permission[0] of the offer shows less: only rows where `origin = 'SEA'`, no `pilot`, no `tail`";
        check(&asked, &["permission[0].constraint[1] of the offer is not kept", less]);
        let mut asked = policy(offer().permissions);
        asked.permissions[0].action = Action::Use;
        check(&asked, &["the offer permits `read` only"]);
        let mut asked = policy(offer().permissions);
        asked.target = None;
        check(&asked, &["the offer is about another asset"]);
        check(&policy(vec![]), &["the request asks for nothing"]);
    }

    /// A policy near another: parts dropped, narrowed or added, so that some are covered.
    fn near() -> impl Strategy<Value = (Policy, Policy)> {
        let changes = (prop::collection::vec(terms().prop_flat_map(constraints), 0..2), any::<u8>(), policies());
        (policies(), changes).prop_map(|(offered, (extra, luck, other))| {
            let mut requested = offered.clone();
            if let Some(rule) = requested.permissions.first_mut() {
                rule.constraints.extend(extra);
                if luck & 1 == 0 {
                    rule.action = Action::Read;
                }
            }
            if luck & 2 == 0 {
                requested.permissions.truncate(1);
            }
            if luck & 4 == 0 {
                requested.prohibitions.clear();
            }
            if luck & 24 == 0 {
                requested.permissions.extend(other.permissions);
            }
            if luck & 32 == 0 {
                requested.conflict = other.conflict;
            }
            if luck & 192 == 0 {
                requested.permissions.reverse();
            }
            (offered, requested)
        })
    }

    #[test]
    fn a_missing_duty_is_a_difference() {
        let mut offered = offer();
        offered.permissions[0].duties.push(Duty { uid: None, action: Action::Compensate, constraints: vec![] });
        offered.obligations.push(Duty { uid: None, action: Action::Delete, constraints: vec![] });
        assert_eq!(covers(&offered, &offered), Ok(()));
        assert_eq!(covers(&offered, &policy(offer().permissions)).unwrap_err().len(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, ..ProptestConfig::default() })]

        #[test]
        fn what_is_covered_is_permitted(pair in near(), requests in prop::collection::vec(requests(), 8)) {
            let (offered, requested) = pair;
            if covers(&offered, &requested).is_ok() {
                for request in &requests {
                    let asked = evaluate(&requested, request);
                    if let Some(plan) = &asked.plan {
                        let granted = evaluate(&offered, request);
                        prop_assert!(granted.ruling.is_permit(), "{:#?}", granted);
                        prop_assert!(plan.is_at_least_as_strict_as(granted.plan.as_ref().unwrap()));
                    }
                }
            }
        }
    }
}
