//! Policies as JSON. Empty lists are left out: the schema of DSP 2025-1 wants at least one member.

use serde_json::{Map, Value, json};
use shuyu_base::Did;
use shuyu_policy::{Conflict, Constraint, Duty, LeftOperand, Operand, Policy, PolicyKind, Rule};

use super::terms::PROFILE;

pub(super) fn policy(policy: &Policy) -> Value {
    let mut members = Map::new();
    let kind = match policy.kind {
        PolicyKind::Set => "Set",
        PolicyKind::Offer => "Offer",
        PolicyKind::Agreement => "Agreement",
    };
    put(&mut members, "@type", Some(kind));
    put(&mut members, "@id", Some(&policy.uid));
    put(&mut members, "profile", uses_profile(policy).then_some(PROFILE));
    put(&mut members, "target", policy.target.as_deref());
    put(&mut members, "assigner", policy.assigner.as_ref().map(Did::as_str));
    put(&mut members, "assignee", policy.assignee.as_ref().map(Did::as_str));
    let conflict = match policy.conflict {
        Conflict::Prohibit => None,
        Conflict::Permit => Some("perm"),
        Conflict::Invalid => Some("invalid"),
    };
    put(&mut members, "conflict", conflict);
    put_all(&mut members, "permission", &policy.permissions, rule);
    put_all(&mut members, "prohibition", &policy.prohibitions, rule);
    put_all(&mut members, "obligation", &policy.obligations, duty);
    Value::Object(members)
}

fn rule(rule: &Rule) -> Value {
    let mut members = Map::new();
    put(&mut members, "@id", rule.uid.as_deref());
    put(&mut members, "action", Some(rule.action.name()));
    put(&mut members, "target", rule.target.as_deref());
    put(&mut members, "assigner", rule.assigner.as_ref().map(Did::as_str));
    put(&mut members, "assignee", rule.assignee.as_ref().map(Did::as_str));
    put_all(&mut members, "constraint", &rule.constraints, constraint);
    put_all(&mut members, "duty", &rule.duties, duty);
    Value::Object(members)
}

fn duty(duty: &Duty) -> Value {
    let mut members = Map::new();
    put(&mut members, "@id", duty.uid.as_deref());
    put(&mut members, "action", Some(duty.action.name()));
    put_all(&mut members, "constraint", &duty.constraints, constraint);
    Value::Object(members)
}

fn constraint(given: &Constraint) -> Value {
    match given {
        Constraint::Atomic { left, operator, right } => json!({
            "leftOperand": left_operand(*left),
            "operator": operator.name(),
            "rightOperand": operand(right),
        }),
        Constraint::And(members) => json!({ "and": all(members, constraint) }),
        Constraint::Or(members) => json!({ "or": all(members, constraint) }),
        Constraint::Xone(members) => json!({ "xone": all(members, constraint) }),
    }
}

fn left_operand(left: LeftOperand) -> String {
    if left.is_profile_term() { left.iri() } else { left.name().to_owned() }
}

/// Numbers are typed objects: the schema of DSP 2025-1 allows text, object and list, but no number.
fn operand(operand: &Operand) -> Value {
    match operand {
        Operand::Text(text) => text.as_str().into(),
        Operand::List(list) => list.as_slice().into(),
        Operand::Time(instant) => json!({ "@value": instant.to_string(), "@type": "xsd:dateTime" }),
        Operand::Count(count) => json!({ "@value": count, "@type": "xsd:integer" }),
    }
}

fn all<T>(items: &[T], write: fn(&T) -> Value) -> Value {
    items.iter().map(write).collect()
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}

fn put_all<T>(members: &mut Map<String, Value>, name: &str, items: &[T], write: fn(&T) -> Value) {
    if !items.is_empty() {
        members.insert(name.to_owned(), all(items, write));
    }
}

fn uses_profile(policy: &Policy) -> bool {
    fn uses(constraint: &Constraint) -> bool {
        match constraint {
            Constraint::Atomic { left, .. } => left.is_profile_term(),
            Constraint::And(members) | Constraint::Or(members) | Constraint::Xone(members) => members.iter().any(uses),
        }
    }
    let duties = |duties: &[Duty]| duties.iter().any(|duty| duty.constraints.iter().any(uses));
    let mut rules = policy.permissions.iter().chain(&policy.prohibitions);
    rules.any(|rule| rule.constraints.iter().any(uses) || duties(&rule.duties)) || duties(&policy.obligations)
}
