//! Evaluation plans: what of a policy is evaluated in which scope.
//!
//! A node evaluates every constraint at each use of the data, and nothing is ever left out there. Before that, at the
//! catalogue and the negotiation, terms are compared and not evaluated; the plan says so, constraint by constraint.

use serde_json::{Value, json};
use shuyu_policy::{Constraint, Duty, Operand, Policy, Rule};

use super::jsonld::invalid;
use crate::problem::Problem;

/// Scopes in which constraints are evaluated.
const EVALUATED: [&str; 3] = ["transfer.process", "policy.monitor", "use"];
/// Scopes in which terms are compared.
const COMPARED: [&str; 4] = ["catalog", "contract.negotiation", "request.catalog", "request.contract.negotiation"];

/// The plan of a policy in a scope.
///
/// # Errors
/// 400 for a scope that is not known.
pub fn plan(policy: &Policy, scope: &str) -> Result<Value, Problem> {
    let is_evaluated = EVALUATED.contains(&scope);
    if !is_evaluated && !COMPARED.contains(&scope) {
        let known = [EVALUATED.as_slice(), &COMPARED].concat().join(", ");
        return Err(invalid("policyScope", format_args!("must be one of {known}")));
    }
    let reasons: Vec<String> = if is_evaluated {
        Vec::new()
    } else {
        vec![format!("in scope `{scope}` terms are compared; this is evaluated at each use of the data")]
    };
    let rules = |kind: &str, rules: &[Rule]| -> Vec<Value> {
        rules.iter().map(|rule| step(kind, rule.action.name(), &rule.constraints, &rule.duties, &reasons)).collect()
    };
    let obligations: Vec<Value> = policy.obligations.iter().map(|duty| duty_step(duty, &reasons)).collect();
    Ok(json!({
        "@type": "PolicyEvaluationPlan", "preValidators": [], "postValidators": [],
        "permissionSteps": rules("PermissionStep", &policy.permissions),
        "prohibitionSteps": rules("ProhibitionStep", &policy.prohibitions), "obligationSteps": obligations,
    }))
}

fn step(kind: &str, action: &str, constraints: &[Constraint], duties: &[Duty], reasons: &[String]) -> Value {
    let constraints: Vec<Value> = constraints.iter().map(|constraint| constraint_step(constraint, reasons)).collect();
    let duties: Vec<Value> = duties.iter().map(|duty| duty_step(duty, reasons)).collect();
    json!({
        "@type": kind, "isFiltered": !reasons.is_empty(), "filteringReasons": reasons, "ruleFunctions": [action],
        "constraintSteps": constraints, "dutySteps": duties,
    })
}

fn duty_step(duty: &Duty, reasons: &[String]) -> Value {
    step("DutyStep", duty.action.name(), &duty.constraints, &[], reasons)
}

fn constraint_step(constraint: &Constraint, reasons: &[String]) -> Value {
    let several = |kind: &str, members: &[Constraint]| {
        let steps: Vec<Value> = members.iter().map(|member| constraint_step(member, reasons)).collect();
        json!({ "@type": kind, "constraintSteps": steps })
    };
    match constraint {
        Constraint::Atomic { left, operator, right } => json!({
            "@type": "AtomicConstraintStep", "isFiltered": !reasons.is_empty(), "filteringReasons": reasons,
            "functionName": left.name(),
            "functionParams": [quoted(left.name()), operator.name().to_ascii_uppercase(), quoted(&words(right))],
        }),
        Constraint::And(members) => several("AndConstraintStep", members),
        Constraint::Or(members) => several("OrConstraintStep", members),
        Constraint::Xone(members) => several("XoneConstraintStep", members),
    }
}

fn words(operand: &Operand) -> String {
    match operand {
        Operand::Text(text) => text.clone(),
        Operand::List(list) => list.join(", "),
        Operand::Time(time) => time.to_string(),
        Operand::Count(count) => count.to_string(),
    }
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}
