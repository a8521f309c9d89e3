//! A stable byte form of a policy, for hashing: every field, in order, tagged and length-prefixed.

use crate::model::{Conflict, Constraint, Duty, Operand, Policy, PolicyKind, Rule};

/// The first bytes; a change of the encoding or of the meaning of policies changes them.
const HEADER: &[u8] = b"shuyu-policy/1\n";

/// The byte form. Two policies have the same bytes only if they are equal.
pub(crate) fn encode(policy: &Policy) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    text(&mut out, &policy.uid);
    out.push(match policy.kind {
        PolicyKind::Set => 0,
        PolicyKind::Offer => 1,
        PolicyKind::Agreement => 2,
    });
    out.push(match policy.conflict {
        Conflict::Prohibit => 0,
        Conflict::Permit => 1,
        Conflict::Invalid => 2,
    });
    optional(&mut out, policy.assigner.as_ref().map(|did| did.as_str()));
    optional(&mut out, policy.assignee.as_ref().map(|did| did.as_str()));
    optional(&mut out, policy.target.as_deref());
    for rules in [&policy.permissions, &policy.prohibitions] {
        length(&mut out, rules.len());
        rules.iter().for_each(|each| rule(&mut out, each));
    }
    length(&mut out, policy.obligations.len());
    policy.obligations.iter().for_each(|each| duty(&mut out, each));
    out
}

fn rule(out: &mut Vec<u8>, rule: &Rule) {
    optional(out, rule.uid.as_deref());
    text(out, rule.action.name());
    optional(out, rule.target.as_deref());
    optional(out, rule.assigner.as_ref().map(|did| did.as_str()));
    optional(out, rule.assignee.as_ref().map(|did| did.as_str()));
    constraints(out, &rule.constraints);
    length(out, rule.duties.len());
    rule.duties.iter().for_each(|each| duty(out, each));
}

fn duty(out: &mut Vec<u8>, duty: &Duty) {
    optional(out, duty.uid.as_deref());
    text(out, duty.action.name());
    constraints(out, &duty.constraints);
}

fn constraints(out: &mut Vec<u8>, list: &[Constraint]) {
    length(out, list.len());
    for constraint in list {
        match constraint {
            Constraint::Atomic { left, operator, right } => {
                out.push(0);
                text(out, left.name());
                text(out, operator.name());
                operand(out, right);
            }
            Constraint::And(members) => {
                out.push(1);
                constraints(out, members);
            }
            Constraint::Or(members) => {
                out.push(2);
                constraints(out, members);
            }
            Constraint::Xone(members) => {
                out.push(3);
                constraints(out, members);
            }
        }
    }
}

fn operand(out: &mut Vec<u8>, operand: &Operand) {
    match operand {
        Operand::Text(value) => {
            out.push(0);
            text(out, value);
        }
        Operand::List(values) => {
            out.push(1);
            length(out, values.len());
            values.iter().for_each(|value| text(out, value));
        }
        Operand::Time(instant) => {
            out.push(2);
            out.extend(instant.0.to_be_bytes());
        }
        Operand::Count(count) => {
            out.push(3);
            out.extend(count.to_be_bytes());
        }
    }
}

fn optional(out: &mut Vec<u8>, value: Option<&str>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        text(out, value);
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    length(out, value.len());
    out.extend(value.as_bytes());
}

fn length(out: &mut Vec<u8>, length: usize) {
    out.extend((length as u64).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::policies;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_policies_have_different_bytes(a in policies(), b in policies()) {
            prop_assert_eq!(a == b, encode(&a) == encode(&b));
        }
    }
}
