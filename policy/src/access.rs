//! Conditions on who asks: access policies, and what a contract's policy says of the caller before any use.
//!
//! What a credential says is a fact written `Type#member=value`: the credential's type, the member of its subject with
//! `.` between the names of nested members, and the value as text. `MembershipCredential#level=gold` is one.

use std::collections::BTreeSet;

use crate::check::{Finding, Severity};
use crate::model::{Conflict, Constraint, Policy, PolicyKind, Rule};
use crate::plan::values;
use crate::terms::{Action, LeftOperand};

/// Longest credential type, in bytes; as in credentials themselves.
const MAX_TYPE_BYTES: usize = 128;

/// What keeps `policy` from being an access policy; empty when nothing does. [`crate::check()`] is a separate question.
///
/// An access policy decides who sees an offer. It permits `use`, and its constraints are over credentials, `recipient`
/// and `dateTime`: whatever else a policy can speak of is not known when a catalogue is read.
pub fn check_access(policy: &Policy) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut refuse = |path: &str, what: String, hint: &str| {
        findings.push(Finding { severity: Severity::Error, path: path.to_owned(), what, hint: hint.to_owned() });
    };
    if !policy.obligations.is_empty() {
        refuse("policy", "an access policy has an obligation".to_owned(), "put it in the contract's policy");
    }
    if policy.target.is_some() {
        refuse("policy", "an access policy names a target".to_owned(), "the offer says which assets it is about");
    }
    for (side, rules) in [("permission", &policy.permissions), ("prohibition", &policy.prohibitions)] {
        for (index, rule) in rules.iter().enumerate() {
            let path = format!("{side}[{index}]");
            if rule.action != Action::Use {
                let what = format!("an access policy speaks of `{}`", rule.action.name());
                refuse(&path, what, "its action is `use`");
            }
            if !rule.duties.is_empty() || rule.target.is_some() {
                let what = "a rule of an access policy has a duty or a target".to_owned();
                refuse(&path, what, "put it in the contract's policy");
            }
            for (index, constraint) in rule.constraints.iter().enumerate() {
                if let Some(left) = first_not(constraint, LeftOperand::is_of_access) {
                    let what = format!("`{}` is not known when a catalogue is read", left.name());
                    let hint = "an access policy is over credentialType, credentialClaim, recipient and dateTime";
                    refuse(&format!("{path}.constraint[{index}]"), what, hint);
                }
            }
        }
    }
    findings
}

/// What `policy` says of the caller alone, as a set to be asked about [`Action::Use`] of any asset.
///
/// It denies only callers that the policy permits nothing at any time: conditions on the use itself (purpose, place, time,
/// counts, duties) are taken to hold in permissions, and prohibitions that have such conditions are left out.
pub fn caller_view(policy: &Policy) -> Policy {
    let plain = |rule: &Rule| Rule {
        target: None,
        duties: Vec::new(),
        action: Action::Use,
        constraints: rule.constraints.iter().filter_map(of_caller).collect(),
        ..rule.clone()
    };
    // A prohibition of some uses leaves others; `transfer` is not among those that `use` includes.
    let transfers = policy.permissions.iter().any(|rule| rule.action == Action::Transfer);
    let whole = |rule: &&Rule| {
        !transfers
            && rule.action == Action::Use
            && rule.target.is_none()
            && rule.constraints.iter().all(|constraint| first_not(constraint, LeftOperand::is_of_caller).is_none())
    };
    // A policy that is void is not published; in any other, `invalid` and `prohibit` decide alike.
    let conflict = if policy.conflict == Conflict::Invalid { Conflict::Prohibit } else { policy.conflict };
    Policy {
        kind: PolicyKind::Set,
        conflict,
        target: None,
        obligations: Vec::new(),
        permissions: policy.permissions.iter().map(plain).collect(),
        prohibitions: policy.prohibitions.iter().filter(whole).cloned().collect(),
        ..policy.clone()
    }
}

/// The types of credentials that a policy speaks of.
pub fn credential_types(policy: &Policy) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let rules = policy.permissions.iter().chain(&policy.prohibitions);
    let duties = policy.permissions.iter().flat_map(|rule| &rule.duties).chain(&policy.obligations);
    let constraints = rules.flat_map(|rule| &rule.constraints).chain(duties.flat_map(|duty| &duty.constraints));
    constraints.for_each(|constraint| collect_types(constraint, &mut found));
    found
}

/// What is wrong with a value of a credential term; `None` when nothing is.
pub(crate) fn bad_name(left: LeftOperand, value: &str) -> Option<&'static str> {
    let is_type = |text: &str| {
        text.len() <= MAX_TYPE_BYTES
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    match left {
        LeftOperand::CredentialType => {
            (!is_type(value)).then_some("is not a credential type: letters, digits, `-`, `_` and `.` after a letter")
        }
        LeftOperand::CredentialClaim => {
            let parts = value.split_once('#').and_then(|(kind, rest)| Some((kind, rest.split_once('=')?)));
            let good = parts.is_some_and(|(kind, (member, wanted))| {
                is_type(kind) && !wanted.is_empty() && member.split('.').all(|name| !name.is_empty())
            });
            (!good).then_some("is not of the form `Type#member=value`")
        }
        LeftOperand::Purpose
        | LeftOperand::Recipient
        | LeftOperand::DateTime
        | LeftOperand::Count
        | LeftOperand::Spatial
        | LeftOperand::RowFilter
        | LeftOperand::ColumnMask
        | LeftOperand::ColumnDeny
        | LeftOperand::RowCount
        | LeftOperand::ByteCount
        | LeftOperand::DeliveryFormat => None,
    }
}

/// Whether some comparison in the constraint is over credentials.
pub(crate) fn speaks_of_credentials(constraint: &Constraint) -> bool {
    match constraint {
        Constraint::Atomic { left, .. } => left.is_credential(),
        Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
            members.iter().any(speaks_of_credentials)
        }
    }
}

/// The part of a permission's constraint that is over the caller. A group of `or` or `xone` goes with any member.
fn of_caller(constraint: &Constraint) -> Option<Constraint> {
    match constraint {
        Constraint::And(members) => {
            let kept: Vec<Constraint> = members.iter().filter_map(of_caller).collect();
            // An empty group stays what it is: never known.
            (!kept.is_empty() || members.is_empty()).then_some(Constraint::And(kept))
        }
        Constraint::Atomic { .. } | Constraint::Or(_) | Constraint::Xone(_) => {
            first_not(constraint, LeftOperand::is_of_caller).is_none().then(|| constraint.clone())
        }
    }
}

fn first_not(constraint: &Constraint, fits: fn(LeftOperand) -> bool) -> Option<LeftOperand> {
    match constraint {
        Constraint::Atomic { left, .. } => (!fits(*left)).then_some(*left),
        Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
            members.iter().find_map(|member| first_not(member, fits))
        }
    }
}

fn collect_types(constraint: &Constraint, found: &mut BTreeSet<String>) {
    match constraint {
        Constraint::Atomic { left, operator, right } if left.is_credential() => {
            for value in values(*operator, right).unwrap_or_default() {
                found.insert(value.split('#').next().unwrap_or(value).to_owned());
            }
        }
        Constraint::Atomic { .. } => {}
        Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => {
            members.iter().for_each(|member| collect_types(member, found));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::evaluate;
    use crate::model::Operand;
    use crate::request::{Request, Shown};
    use crate::samples::{list, policies, policy, request, requests};
    use crate::terms::LeftOperand as L;
    use crate::terms::Operator as O;
    use proptest::prelude::*;

    fn text(left: L, operator: O, value: &str) -> Constraint {
        Constraint::new(left, operator, Operand::Text(value.into()))
    }

    fn access(constraints: Vec<Constraint>) -> Policy {
        let rule = Rule { constraints, ..Rule::new(Action::Use) };
        Policy { permissions: vec![rule], ..Policy::new("urn:p", PolicyKind::Set) }
    }

    fn member() -> Constraint {
        text(L::CredentialType, O::Eq, "MembershipCredential")
    }

    #[test]
    fn an_access_policy_speaks_of_the_caller_only() {
        let recipient = text(L::Recipient, O::Eq, "did:web:a.example");
        assert!(check_access(&access(vec![member(), Constraint::Or(vec![recipient, member()])])).is_empty());
        let purpose = text(L::Purpose, O::Eq, "research");
        let found = check_access(&access(vec![member(), Constraint::And(vec![purpose])]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].path, "permission[0].constraint[1]");
        let mut other = access(vec![]);
        other.permissions[0].action = Action::Read;
        other.target = Some("urn:asset:1".into());
        assert_eq!(check_access(&other).len(), 2);
    }

    #[test]
    fn facts_are_matched_whole_and_what_is_not_shown_is_unknown() {
        let claim = |value: &str| text(L::CredentialClaim, O::Eq, value);
        let all = Constraint::new(L::CredentialType, O::IsAllOf, list(&["MembershipCredential", "AuditorCredential"]));
        let shown = |types: &[&str], claims: &[&str]| {
            let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            Shown { types: own(types), claims: own(claims) }
        };
        let permits = |constraint: Constraint, shown: Shown| {
            let asked = Request { shown, action: Action::Use, ..request() };
            evaluate(&access(vec![constraint]), &asked).ruling.is_permit()
        };
        assert!(!permits(member(), Shown::default()));
        assert!(permits(member(), shown(&["MembershipCredential"], &[])));
        assert!(!permits(all.clone(), shown(&["MembershipCredential"], &[])));
        assert!(permits(all, shown(&["MembershipCredential", "AuditorCredential"], &[])));
        let gold = "MembershipCredential#level=gold";
        assert!(permits(claim(gold), shown(&[], &[gold])));
        assert!(!permits(claim(gold), shown(&["MembershipCredential"], &["MembershipCredential#level=golden"])));
        // Not having shown something proves nothing, wherever it stands.
        let mut forbids = access(vec![]);
        forbids.prohibitions.push(Rule { constraints: vec![member()], ..Rule::new(Action::Use) });
        assert!(!evaluate(&forbids, &Request { action: Action::Use, ..request() }).ruling.is_permit());
    }

    #[test]
    fn the_types_that_a_policy_names() {
        let named = access(vec![member(), Constraint::Or(vec![text(L::CredentialClaim, O::Eq, "RoleCredential#a=b")])]);
        assert_eq!(credential_types(&named), ["MembershipCredential", "RoleCredential"].map(str::to_owned).into());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

        /// Whoever is permitted some use is not hidden from.
        #[test]
        fn the_view_denies_only_who_is_permitted_nothing(policy in policies(), request in requests()) {
            let decided = evaluate(&policy, &request);
            let asked = Request { action: Action::Use, ..request };
            prop_assert!(!decided.ruling.is_permit() || evaluate(&caller_view(&policy), &asked).ruling.is_permit());
        }
    }

    #[test]
    fn the_view_keeps_conditions_on_the_caller() {
        let contract = policy(vec![Rule {
            constraints: vec![text(L::Purpose, O::Eq, "research"), member()],
            ..Rule::new(Action::Read)
        }]);
        let view = caller_view(&contract);
        assert_eq!(view.permissions[0].constraints, [member()]);
        assert!(check_access(&view).is_empty());
    }
}
