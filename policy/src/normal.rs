//! Comparisons in one normal form, shared by the compiler, the checks and the comparison of policies.
//!
//! The interpreter does not use it, so that the two stay independent.

use crate::model::Operand;
use crate::plan::values;
use crate::terms::{LeftOperand, Operator, Sort};

/// What a comparison requires of the value seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Normal<'a> {
    /// Lies within both ends, both included: milliseconds or a count.
    Range { low: i128, high: i128 },
    /// Is one of these.
    In(&'a [String]),
    /// Is none of these.
    NotIn(&'a [String]),
    /// Is this or below it.
    Under(&'a str),
    /// Has at least one of these among several values.
    HasAny(&'a [String]),
    /// Has all of these among several values.
    HasAll(&'a [String]),
    /// Not a test: shapes the answer.
    Shape,
    /// Never known: operator or value do not fit the term.
    Broken,
}

pub(crate) fn normal(left: LeftOperand, operator: Operator, right: &Operand) -> Normal<'_> {
    if !left.operators().contains(&operator) {
        return Normal::Broken;
    }
    if left.is_shape() {
        return Normal::Shape;
    }
    match (left.sort(), right) {
        (Sort::Time, Operand::Time(instant)) => range(operator, i128::from(instant.0)),
        (Sort::Count, Operand::Count(count)) => range(operator, i128::from(*count)),
        (Sort::Text, Operand::Text(_) | Operand::List(_)) if left.is_credential() => shown(operator, right),
        (Sort::Text, Operand::Text(_) | Operand::List(_)) => text(operator, right),
        (Sort::Text | Sort::Time | Sort::Count, _) => Normal::Broken,
    }
}

fn range<'a>(operator: Operator, bound: i128) -> Normal<'a> {
    let (low, high) = match operator {
        Operator::Lt => (i128::MIN, bound - 1),
        Operator::Lteq => (i128::MIN, bound),
        Operator::Gt => (bound + 1, i128::MAX),
        Operator::Gteq => (bound, i128::MAX),
        Operator::Eq
        | Operator::Neq
        | Operator::IsA
        | Operator::HasPart
        | Operator::IsPartOf
        | Operator::IsAllOf
        | Operator::IsAnyOf
        | Operator::IsNoneOf => return Normal::Broken,
    };
    Normal::Range { low, high }
}

fn shown(operator: Operator, right: &Operand) -> Normal<'_> {
    let Some(required) = values(operator, right).filter(|required| !required.is_empty()) else { return Normal::Broken };
    if operator == Operator::IsAllOf { Normal::HasAll(required) } else { Normal::HasAny(required) }
}

fn text(operator: Operator, right: &Operand) -> Normal<'_> {
    let Some(required) = values(operator, right).filter(|required| !required.is_empty()) else { return Normal::Broken };
    match operator {
        Operator::Eq | Operator::IsAnyOf => Normal::In(required),
        Operator::Neq | Operator::IsNoneOf => Normal::NotIn(required),
        Operator::IsA | Operator::IsPartOf => required.first().map_or(Normal::Broken, |name| Normal::Under(name)),
        Operator::Lt | Operator::Lteq | Operator::Gt | Operator::Gteq | Operator::HasPart | Operator::IsAllOf => {
            Normal::Broken
        }
    }
}
