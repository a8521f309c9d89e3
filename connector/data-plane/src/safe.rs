//! Makes a statement's arithmetic total: casts give NULL where they would fail, and so does division by zero.
//!
//! Behind the barrier an error could only tell of rows the consumer sees anyway. This rule is the second wall:
//! queries over visible rows then end with an answer instead of an error code.

use datafusion::{
    arrow::datatypes::DataType,
    common::{
        DFSchema, Result, ScalarValue,
        config::ConfigOptions,
        tree_node::{Transformed, TreeNode},
    },
    functions::core::expr_fn::nullif,
    logical_expr::{
        BinaryExpr, Cast, Expr, ExprSchemable, LogicalPlan, Operator, TryCast, expr_rewriter::NamePreserver,
        utils::merge_schema,
    },
    optimizer::AnalyzerRule,
};

/// Rewrites `CAST` to `TRY_CAST` and guards integer and decimal divisors; it runs after type coercion.
#[derive(Debug)]
pub(crate) struct TotalArithmetic;

impl AnalyzerRule for TotalArithmetic {
    fn name(&self) -> &str {
        "total_arithmetic"
    }

    fn analyze(&self, plan: LogicalPlan, _config: &ConfigOptions) -> Result<LogicalPlan> {
        plan.transform_up_with_subqueries(rewrite_node).map(|done| done.data)
    }
}

fn rewrite_node(plan: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
    let schema = merge_schema(&plan.inputs());
    let names = NamePreserver::new(&plan);
    plan.map_expressions(|expr| {
        let name = names.save(&expr);
        let done = expr.transform_up(|inner| rewrite_expr(inner, &schema))?;
        Ok(done.update_data(|expr| name.restore(expr)))
    })?
    .map_data(LogicalPlan::recompute_schema)
}

fn rewrite_expr(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema);
            if from.is_ok_and(|from| cannot_fail(&from, field.data_type())) {
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            }
            Ok(Transformed::yes(Expr::TryCast(TryCast { expr, field })))
        }
        Expr::BinaryExpr(BinaryExpr { left, op: op @ (Operator::Divide | Operator::Modulo), right }) => {
            let guarded = guard(*right, schema)?;
            Ok(guarded.update_data(|right| Expr::BinaryExpr(BinaryExpr { left, op, right: Box::new(right) })))
        }
        other => Ok(Transformed::no(other)),
    }
}

fn guard(divisor: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let kind = divisor.get_type(schema)?;
    if !(kind.is_integer() || kind.is_decimal()) {
        return Ok(Transformed::no(divisor));
    }
    let zero = ScalarValue::new_zero(&kind)?;
    match &divisor {
        Expr::Literal(value, _) if *value != zero => Ok(Transformed::no(divisor)),
        _ => Ok(Transformed::yes(nullif(divisor, Expr::Literal(zero, None)))),
    }
}

/// Widening of numbers and of text layouts.
fn cannot_fail(from: &DataType, to: &DataType) -> bool {
    let text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let fits = |kind: &DataType| match kind {
        DataType::Int8 | DataType::UInt8 => Some(8),
        DataType::Int16 | DataType::UInt16 => Some(16),
        DataType::Int32 | DataType::UInt32 => Some(32),
        DataType::Int64 | DataType::UInt64 => Some(64),
        _ => None,
    };
    if from == to || *from == DataType::Null || (text(from) && text(to)) {
        return true;
    }
    match (fits(from), fits(to)) {
        (Some(small), Some(large)) => {
            (from.is_signed_integer() == to.is_signed_integer() && small <= large)
                || (to.is_signed_integer() && small < large)
        }
        (Some(_), None) => matches!(to, DataType::Float64),
        _ => matches!((from, to), (DataType::Float32, DataType::Float64)),
    }
}
