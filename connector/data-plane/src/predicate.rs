//! Policy row filters as DataFusion expressions over the columns of a table.
//!
//! Every literal is brought to its column's exact type; one that does not fit refuses the table. What remains
//! compares columns with constants of the same type, so it cannot fail on any row.

use datafusion::{
    arrow::datatypes::{DataType, Schema, TimeUnit},
    common::ScalarValue,
    logical_expr::{BinaryExpr, Expr, Operator, expr::InList},
};
use shuyu_policy::{Comparison, Literal, Predicate};

/// Why a row filter cannot be applied to a table. The table then does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum FilterError {
    /// The table has no such column.
    #[error("row filter names column `{0}`, which the table lacks")]
    UnknownColumn(String),
    /// The column's type cannot hold the literal exactly.
    #[error("row filter compares column `{column}` ({kind}) with {literal}, which is of another type")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        kind: DataType,
        /// The literal as written.
        literal: String,
    },
}

/// The filter as an expression; columns are unqualified.
pub(crate) fn filter_expr(predicate: &Predicate, schema: &Schema) -> Result<Expr, FilterError> {
    match predicate {
        Predicate::Compare { column, comparison, literal } => {
            let right = typed(column, literal, schema)?;
            Ok(binary(named(column), operator(*comparison), right))
        }
        Predicate::In { column, negated, list } => {
            let list = list.iter().map(|literal| typed(column, literal, schema)).collect::<Result<_, _>>()?;
            Ok(Expr::InList(InList::new(Box::new(named(column)), list, *negated)))
        }
        Predicate::Between { column, negated, low, high } => {
            let at_least = binary(named(column), Operator::GtEq, typed(column, low, schema)?);
            let at_most = binary(named(column), Operator::LtEq, typed(column, high, schema)?);
            let between = binary(at_least, Operator::And, at_most);
            Ok(if *negated { Expr::Not(Box::new(between)) } else { between })
        }
        Predicate::IsNull { column, negated } => {
            column_type(column, schema)?;
            let column = Box::new(named(column));
            Ok(if *negated { Expr::IsNotNull(column) } else { Expr::IsNull(column) })
        }
        Predicate::And(members) => joined(members, Operator::And, schema),
        Predicate::Or(members) => joined(members, Operator::Or, schema),
        Predicate::Not(inner) => Ok(Expr::Not(Box::new(filter_expr(inner, schema)?))),
    }
}

fn joined(members: &[Predicate], operator: Operator, schema: &Schema) -> Result<Expr, FilterError> {
    let empty = Expr::Literal(ScalarValue::Boolean(Some(operator == Operator::And)), None);
    let mut all: Option<Expr> = None;
    for member in members {
        let next = filter_expr(member, schema)?;
        all = Some(match all {
            Some(before) => binary(before, operator, next),
            None => next,
        });
    }
    Ok(all.unwrap_or(empty))
}

fn binary(left: Expr, operator: Operator, right: Expr) -> Expr {
    Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
}

fn named(column: &str) -> Expr {
    Expr::Column(datafusion::common::Column::new_unqualified(column))
}

fn operator(comparison: Comparison) -> Operator {
    match comparison {
        Comparison::Eq => Operator::Eq,
        Comparison::NotEq => Operator::NotEq,
        Comparison::Lt => Operator::Lt,
        Comparison::LtEq => Operator::LtEq,
        Comparison::Gt => Operator::Gt,
        Comparison::GtEq => Operator::GtEq,
    }
}

fn column_type<'a>(column: &str, schema: &'a Schema) -> Result<&'a DataType, FilterError> {
    let (_, field) = schema.column_with_name(column).ok_or_else(|| FilterError::UnknownColumn(column.to_owned()))?;
    Ok(field.data_type())
}

fn typed(column: &str, literal: &Literal, schema: &Schema) -> Result<Expr, FilterError> {
    let kind = column_type(column, schema)?;
    let value = exact(literal, kind).ok_or_else(|| FilterError::WrongType {
        column: column.to_owned(),
        kind: kind.clone(),
        literal: literal.to_string(),
    })?;
    Ok(Expr::Literal(value, None))
}

/// Largest whole number below which every whole number is a double.
const MAX_EXACT_F64: u64 = 1 << 53;

/// The literal in exactly this type, or nothing.
fn exact(literal: &Literal, kind: &DataType) -> Option<ScalarValue> {
    match literal {
        Literal::Integer(value) => exact_integer(*value, kind),
        Literal::Decimal(value) => match kind {
            DataType::Float64 => Some(ScalarValue::Float64(Some(value.to_f64()))),
            DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
                let precision = u8::try_from(shuyu_policy::predicate::MAX_DECIMAL_DIGITS).ok()?;
                let scale = i8::try_from(value.scale()).ok()?;
                round_trip(&ScalarValue::Decimal128(Some(value.unscaled()), precision, scale), kind)
            }
            _ => None,
        },
        Literal::Text(text) => match kind {
            DataType::Utf8 => Some(ScalarValue::Utf8(Some(text.clone()))),
            DataType::LargeUtf8 => Some(ScalarValue::LargeUtf8(Some(text.clone()))),
            DataType::Utf8View => Some(ScalarValue::Utf8View(Some(text.clone()))),
            _ => None,
        },
        Literal::Boolean(value) => (*kind == DataType::Boolean).then_some(ScalarValue::Boolean(Some(*value))),
        Literal::Date(days) => match kind {
            DataType::Date32 => Some(ScalarValue::Date32(Some(*days))),
            DataType::Date64 => Some(ScalarValue::Date64(Some(i64::from(*days) * 86_400_000))),
            _ => None,
        },
        Literal::Timestamp(instant) => match kind {
            DataType::Timestamp(unit, zone) => {
                let zone = zone.clone();
                let millis = instant.0;
                Some(match unit {
                    TimeUnit::Second if millis % 1000 != 0 => return None,
                    TimeUnit::Second => ScalarValue::TimestampSecond(Some(millis / 1000), zone),
                    TimeUnit::Millisecond => ScalarValue::TimestampMillisecond(Some(millis), zone),
                    TimeUnit::Microsecond => ScalarValue::TimestampMicrosecond(Some(millis.checked_mul(1000)?), zone),
                    TimeUnit::Nanosecond => {
                        ScalarValue::TimestampNanosecond(Some(millis.checked_mul(1_000_000)?), zone)
                    }
                })
            }
            _ => None,
        },
    }
}

fn exact_integer(value: i64, kind: &DataType) -> Option<ScalarValue> {
    match kind {
        DataType::Float64 => (value.unsigned_abs() <= MAX_EXACT_F64).then(|| ScalarValue::Float64(Some(value as f64))),
        _ if kind.is_integer() || kind.is_decimal() || *kind == DataType::Float32 => {
            round_trip(&ScalarValue::Int64(Some(value)), kind)
        }
        _ => None,
    }
}

/// Casts there and back; equal means nothing was lost.
fn round_trip(value: &ScalarValue, kind: &DataType) -> Option<ScalarValue> {
    let there = value.cast_to(kind).ok().filter(|scalar| !scalar.is_null())?;
    let back = there.cast_to(&value.data_type()).ok()?;
    (back == *value).then_some(there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;

    fn schema() -> Schema {
        Schema::new(vec![
            Field::new("small", DataType::Int8, true),
            Field::new("price", DataType::Decimal128(10, 2), true),
            Field::new("name", DataType::Utf8View, true),
            Field::new("at", DataType::Timestamp(TimeUnit::Second, None), true),
            Field::new("ratio", DataType::Float64, true),
        ])
    }

    #[track_caller]
    fn check(text: &str, wanted: Option<&str>) {
        let predicate: Predicate = text.parse().unwrap();
        assert_eq!(filter_expr(&predicate, &schema()).ok().map(|expr| expr.to_string()).as_deref(), wanted, "{text}");
    }

    #[test]
    fn literals_take_the_type_of_their_column_or_refuse() {
        check("small = 5", Some("small = Int8(5)"));
        check("small = 500", None);
        check("small = 'a'", None);
        check("absent = 1", None);
        check("price >= 1.25", Some("price >= Decimal128(1.25,10,2)"));
        check("price >= 1.255", None);
        check("name IN ('a', 'b')", Some("name IN ([Utf8View(\"a\"), Utf8View(\"b\")])"));
        check("at < TIMESTAMP '2026-01-01T00:00:00.500Z'", None);
        check("ratio < 0.5 OR NOT small IS NULL", Some("ratio < Float64(0.5) OR NOT small IS NULL"));
    }
}
