//! What a permission means for the data: which rows and columns are shown, and how much in all.

use shuyu_base::UnixMillis;

use crate::mask::{Mask, ParseMaskError};
use crate::model::{Constraint, Operand, Rule};
use crate::predicate::{ParsePredicateError, Predicate};
use crate::terms::{LeftOperand, Operator};

/// The shape of the answer. It applies to the raw table before anything of the consumer's query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataPlan {
    /// Only rows on which this is true are visible; `None` shows all. It reads raw values, masked columns too.
    pub row_filter: Option<Predicate>,
    /// Columns shown through a mask, each column once, in policy order.
    pub masks: Vec<(String, Mask)>,
    /// Columns that do not exist for the consumer, each once, in policy order. None of them is in `masks`.
    pub denied: Vec<String>,
}

/// Budgets over the whole life of the agreement, uses already made included, and the end of this permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Most uses in all.
    pub max_count: Option<u64>,
    /// Most rows delivered in all.
    pub max_rows: Option<u64>,
    /// Most bytes delivered in all.
    pub max_bytes: Option<u64>,
    /// The last instant at which the same request would still be permitted by the same rule; `None` if it never ends.
    pub not_after: Option<UnixMillis>,
}

/// Why the shape terms of a permission give no plan; such a permission never holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Not a row filter.
    #[error(transparent)]
    RowFilter(#[from] ParsePredicateError),
    /// Not a column mask.
    #[error(transparent)]
    Mask(#[from] ParseMaskError),
    /// One column has two different masks.
    #[error("column `{column}` has two different masks")]
    TwoMasks {
        /// The column.
        column: String,
    },
    /// An empty column name or an empty list.
    #[error("a column name is missing")]
    NoColumn,
    /// An operator or value that does not fit the term.
    #[error("`{}` cannot be used with `{}` and this value", .left.name(), .operator.name())]
    NotValid {
        /// The term.
        left: LeftOperand,
        /// The operator.
        operator: Operator,
    },
}

impl DataPlan {
    /// The plan of a permission, from its constraints outside `or` and `xone`.
    ///
    /// # Errors
    /// [`PlanError`] when a shape term cannot be read or two contradict each other.
    pub fn of(rule: &Rule) -> Result<Self, PlanError> {
        let mut plan = Self::default();
        let mut filters = Vec::new();
        for constraint in conjuncts(&rule.constraints) {
            if let Constraint::Atomic { left, operator, right } = constraint {
                plan.add(&mut filters, *left, *operator, right)?;
            }
        }
        plan.row_filter = Predicate::all(filters);
        plan.masks.retain(|(column, _)| !plan.denied.contains(column));
        Ok(plan)
    }

    fn add(
        &mut self,
        filters: &mut Vec<Predicate>,
        left: LeftOperand,
        operator: Operator,
        right: &Operand,
    ) -> Result<(), PlanError> {
        if !left.is_shape() {
            return Ok(());
        }
        let not_valid = PlanError::NotValid { left, operator };
        if !left.operators().contains(&operator) {
            return Err(not_valid);
        }
        let values = values(operator, right).ok_or(not_valid)?;
        if values.is_empty() {
            return Err(PlanError::NoColumn);
        }
        for value in values {
            match left {
                LeftOperand::RowFilter => filters.push(value.parse()?),
                LeftOperand::ColumnMask => self.add_mask(value)?,
                LeftOperand::ColumnDeny => self.add_denied(value)?,
                LeftOperand::Purpose
                | LeftOperand::Recipient
                | LeftOperand::DateTime
                | LeftOperand::Count
                | LeftOperand::Spatial
                | LeftOperand::RowCount
                | LeftOperand::ByteCount
                | LeftOperand::DeliveryFormat
                | LeftOperand::CredentialType
                | LeftOperand::CredentialClaim => {}
            }
        }
        Ok(())
    }

    fn add_mask(&mut self, text: &str) -> Result<(), PlanError> {
        let (column, mask) = Mask::parse_column(text)?;
        match self.masks.iter().find(|(known, _)| *known == column) {
            Some((_, known)) if *known != mask => return Err(PlanError::TwoMasks { column }),
            Some(_) => {}
            None => self.masks.push((column, mask)),
        }
        Ok(())
    }

    fn add_denied(&mut self, column: &str) -> Result<(), PlanError> {
        if column.is_empty() {
            return Err(PlanError::NoColumn);
        }
        if !self.denied.iter().any(|known| known == column) {
            self.denied.push(column.to_owned());
        }
        Ok(())
    }

    /// Whether whoever sees the data through `self` sees nothing that `other` would hide.
    ///
    /// Sound, not complete: every condition of `other`'s row filter must stand in `self`'s as it is; every column that
    /// `other` masks is masked alike or denied; every column that it denies is denied.
    pub fn is_at_least_as_strict_as(&self, other: &Self) -> bool {
        let filters = |plan: &Self| -> Vec<Predicate> {
            plan.row_filter.iter().flat_map(Predicate::conjuncts).cloned().collect()
        };
        let own = filters(self);
        filters(other).iter().all(|condition| own.contains(condition))
            && other.masks.iter().all(|mask| self.masks.contains(mask) || self.denied.contains(&mask.0))
            && other.denied.iter().all(|column| self.denied.contains(column))
    }
}

impl Limits {
    /// The budgets of a permission; the end in time is found by the caller.
    pub fn of(rule: &Rule) -> Self {
        let mut limits = Self::default();
        for constraint in conjuncts(&rule.constraints) {
            let Constraint::Atomic { left, operator, right: Operand::Count(count) } = constraint else { continue };
            let most = match operator {
                Operator::Lteq => *count,
                // A count below 0 is impossible: `lt 0` never holds, and 0 is the strictest budget.
                Operator::Lt => count.saturating_sub(1),
                Operator::Eq
                | Operator::Neq
                | Operator::Gt
                | Operator::Gteq
                | Operator::IsA
                | Operator::HasPart
                | Operator::IsPartOf
                | Operator::IsAllOf
                | Operator::IsAnyOf
                | Operator::IsNoneOf => continue,
            };
            let slot = match left {
                LeftOperand::Count => &mut limits.max_count,
                LeftOperand::RowCount => &mut limits.max_rows,
                LeftOperand::ByteCount => &mut limits.max_bytes,
                LeftOperand::Purpose
                | LeftOperand::Recipient
                | LeftOperand::DateTime
                | LeftOperand::Spatial
                | LeftOperand::RowFilter
                | LeftOperand::ColumnMask
                | LeftOperand::ColumnDeny
                | LeftOperand::DeliveryFormat
                | LeftOperand::CredentialType
                | LeftOperand::CredentialClaim => continue,
            };
            *slot = Some(slot.map_or(most, |known| known.min(most)));
        }
        limits
    }
}

/// The comparisons and `or`/`xone` groups that must all hold: `and` groups opened.
pub(crate) fn conjuncts(constraints: &[Constraint]) -> Vec<&Constraint> {
    let mut found = Vec::new();
    for constraint in constraints {
        match constraint {
            Constraint::And(members) => found.extend(conjuncts(members)),
            Constraint::Atomic { .. } | Constraint::Or(_) | Constraint::Xone(_) => found.push(constraint),
        }
    }
    found
}

/// The texts a constraint lists: one for an operator that takes one, a list (or one) for an operator that takes a list.
pub(crate) fn values(operator: Operator, right: &Operand) -> Option<&[String]> {
    match right {
        Operand::Text(text) => Some(std::slice::from_ref(text)),
        Operand::List(list) if operator.takes_list() => Some(list),
        Operand::List(_) | Operand::Time(_) | Operand::Count(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::Action;

    fn shape(left: LeftOperand, operator: Operator, values: &[&str]) -> Constraint {
        let right = match values {
            [one] => Operand::Text((*one).to_owned()),
            many => Operand::List(many.iter().map(|text| (*text).to_owned()).collect()),
        };
        Constraint::new(left, operator, right)
    }

    fn plan(constraints: Vec<Constraint>) -> Result<DataPlan, PlanError> {
        DataPlan::of(&Rule { constraints, ..Rule::new(Action::Read) })
    }

    #[test]
    fn a_plan_gathers_filters_masks_and_denials() {
        let found = plan(vec![
            shape(LeftOperand::RowFilter, Operator::Eq, &["a = 1"]),
            Constraint::And(vec![shape(LeftOperand::RowFilter, Operator::Eq, &["b = 2"])]),
            shape(LeftOperand::ColumnMask, Operator::IsAllOf, &["n=show-first-4", "d=truncate-to-year"]),
            shape(LeftOperand::ColumnDeny, Operator::IsAnyOf, &["d", "e"]),
        ])
        .unwrap();
        assert_eq!(found.row_filter.unwrap().to_string(), "a = 1 AND b = 2");
        assert_eq!(found.masks, [("n".to_owned(), Mask::ShowFirst4)]);
        assert_eq!(found.denied, ["d", "e"]);
    }

    #[test]
    fn a_plan_that_cannot_be_read_is_an_error() {
        for (left, operator, values) in [
            (LeftOperand::RowFilter, Operator::Eq, &["a"][..]),
            (LeftOperand::RowFilter, Operator::IsAnyOf, &["a = 1"]),
            (LeftOperand::RowFilter, Operator::Eq, &["a = 1", "b = 1"]),
            (LeftOperand::ColumnMask, Operator::Eq, &["a=hide"]),
            (LeftOperand::ColumnMask, Operator::IsAllOf, &["a=show-first-4", "a=show-last-4"]),
            (LeftOperand::ColumnDeny, Operator::Eq, &[""]),
            (LeftOperand::ColumnDeny, Operator::IsAnyOf, &[]),
        ] {
            assert!(plan(vec![shape(left, operator, values)]).is_err(), "{left:?} {values:?}");
        }
    }

    #[test]
    fn strictness_is_by_parts() {
        let loose = plan(vec![shape(LeftOperand::RowFilter, Operator::Eq, &["a = 1"])]).unwrap();
        let strict = plan(vec![
            shape(LeftOperand::RowFilter, Operator::Eq, &["b = 2 AND a = 1"]),
            shape(LeftOperand::ColumnDeny, Operator::Eq, &["c"]),
        ])
        .unwrap();
        assert!(strict.is_at_least_as_strict_as(&loose) && !loose.is_at_least_as_strict_as(&strict));
    }
}
