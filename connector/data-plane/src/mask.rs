//! Column masks on Arrow arrays. Predicates, groups and order of the consumer see only the masked values.
//!
//! | mask | takes | gives |
//! |---|---|---|
//! | `mask-alphanum`, `show-first-4`, `show-last-4` | text | text |
//! | `sha-256-global` | text, whole numbers (their decimal text) | text, 64 hexadecimal digits |
//! | `truncate-to-year`, `truncate-to-month` | date, timestamp (reckoned in UTC) | the same type |
//! | `replace-with-null` | every type | the same type |
//! | `mask-to-default` | number, text, boolean, date, timestamp | the same type |
//!
//! A mask on any other type refuses the table.

use std::sync::Arc;

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, Int64Array, StringArray, StringBuilder, new_null_array},
        compute::cast,
        datatypes::{DataType, Field, Int64Type, TimeUnit},
        error::ArrowError,
    },
    common::ScalarValue,
};
use sha2::{Digest as _, Sha256};
use shuyu_policy::Mask;

/// A mask the policy names does not fit the table. The table then does not open.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum MaskError {
    /// The table has no such column.
    #[error("mask `{mask}` names column `{column}`, which the table lacks")]
    UnknownColumn {
        /// The column.
        column: String,
        /// The mask.
        mask: Mask,
    },
    /// The mask has no meaning for the column's type.
    #[error("mask `{mask}` cannot be put on column `{column}` of type {kind}")]
    WrongType {
        /// The column.
        column: String,
        /// Its type.
        kind: DataType,
        /// The mask.
        mask: Mask,
    },
}

/// The column as the consumer sees it.
///
/// # Errors
/// [`MaskError::WrongType`] if the mask does not take the column's type.
pub(crate) fn masked_field(field: &Field, mask: Mask) -> Result<Field, MaskError> {
    let kind = field.data_type();
    let shown = match mask {
        Mask::Alphanum | Mask::ShowFirst4 | Mask::ShowLast4 => {
            is_text(kind).then(|| Field::new(field.name(), DataType::Utf8, field.is_nullable()))
        }
        Mask::Sha256Global => {
            (is_text(kind) || kind.is_integer()).then(|| Field::new(field.name(), DataType::Utf8, field.is_nullable()))
        }
        Mask::TruncateToYear | Mask::TruncateToMonth => {
            matches!(kind, DataType::Date32 | DataType::Date64 | DataType::Timestamp(..))
                .then(|| Field::new(field.name(), kind.clone(), field.is_nullable()))
        }
        Mask::ReplaceWithNull => Some(Field::new(field.name(), kind.clone(), true)),
        Mask::ToDefault => default_value(kind).map(|_| Field::new(field.name(), kind.clone(), false)),
    };
    shown.ok_or_else(|| MaskError::WrongType { column: field.name().clone(), kind: kind.clone(), mask })
}

/// The column's values as the consumer sees them; the type is that of [`masked_field`].
pub(crate) fn apply(mask: Mask, values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    match mask {
        Mask::Alphanum => map_text(values, |text, out| text.chars().for_each(|c| out.push(masked(c)))),
        Mask::ShowFirst4 => map_text(values, |text, out| {
            out.extend(text.chars().enumerate().map(|(at, c)| if at < 4 { c } else { masked(c) }));
        }),
        Mask::ShowLast4 => map_text(values, |text, out| {
            let shown_from = text.chars().count().saturating_sub(4);
            out.extend(text.chars().enumerate().map(|(at, c)| if at < shown_from { masked(c) } else { c }));
        }),
        Mask::Sha256Global => map_text(values, |text, out| {
            for byte in Sha256::digest(text.as_bytes()) {
                out.extend([byte >> 4, byte & 15].into_iter().filter_map(|nibble| char::from_digit(nibble.into(), 16)));
            }
        }),
        Mask::TruncateToYear => truncate(values, |year, _| days_from_civil(year, 1)),
        Mask::TruncateToMonth => truncate(values, days_from_civil),
        Mask::ReplaceWithNull => Ok(new_null_array(values.data_type(), values.len())),
        Mask::ToDefault => default_value(values.data_type())
            .and_then(|value| value.to_array_of_size(values.len()).ok())
            .ok_or_else(|| ArrowError::ComputeError("type has no default".to_owned())),
    }
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn masked(c: char) -> char {
    match c {
        _ if c.is_numeric() => 'n',
        _ if c.is_alphabetic() => 'x',
        _ => c,
    }
}

fn default_value(kind: &DataType) -> Option<ScalarValue> {
    if is_text(kind) {
        return ScalarValue::new_default(kind).ok();
    }
    let plain = kind.is_numeric()
        || matches!(kind, DataType::Boolean | DataType::Date32 | DataType::Date64 | DataType::Timestamp(..));
    if plain { ScalarValue::new_default(kind).ok() } else { None }
}

fn map_text(values: &ArrayRef, write: impl Fn(&str, &mut String)) -> Result<ArrayRef, ArrowError> {
    let texts = cast(values, &DataType::Utf8)?;
    let texts: &StringArray = texts.as_string();
    let mut out = StringBuilder::with_capacity(texts.len(), texts.value_data().len());
    let mut buffer = String::new();
    for text in texts {
        match text {
            Some(text) => {
                buffer.clear();
                write(text, &mut buffer);
                out.append_value(&buffer);
            }
            None => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Replaces each instant's day by `day(year, month)` and drops its time of day.
fn truncate(values: &ArrayRef, day: impl Fn(i64, i64) -> i64) -> Result<ArrayRef, ArrowError> {
    let kind = values.data_type();
    let per_day: i64 = match kind {
        DataType::Date32 => 1,
        DataType::Date64 | DataType::Timestamp(TimeUnit::Millisecond, _) => 86_400_000,
        DataType::Timestamp(TimeUnit::Second, _) => 86_400,
        DataType::Timestamp(TimeUnit::Microsecond, _) => 86_400_000_000,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => 86_400_000_000_000,
        _ => return Err(ArrowError::ComputeError("not a date or time".to_owned())),
    };
    let narrow = if *kind == DataType::Date32 { cast(values, &DataType::Int32)? } else { values.clone() };
    let units = cast(&narrow, &DataType::Int64)?;
    let shown: Int64Array = units.as_primitive::<Int64Type>().unary(|unit| {
        let (year, month) = civil_from_days(unit.div_euclid(per_day));
        day(year, month).saturating_mul(per_day)
    });
    if *kind == DataType::Date32 { cast(&cast(&shown, &DataType::Int32)?, kind) } else { cast(&shown, kind) }
}

/// Year and month (1 to 12) of a day counted from 1970-01-01, proleptic Gregorian.
fn civil_from_days(days: i64) -> (i64, i64) {
    let shifted = days.saturating_add(719_468);
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month)
}

/// The first day of a month, counted from 1970-01-01.
fn days_from_civil(year: i64, month: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::{
        array::{Date32Array, TimestampNanosecondArray},
        util::display::array_value_to_string,
    };
    use proptest::prelude::*;

    #[track_caller]
    fn check(mask: Mask, values: ArrayRef, wanted: &[&str]) {
        let field = masked_field(&Field::new("c", values.data_type().clone(), true), mask).unwrap();
        let shown = apply(mask, &values).unwrap();
        assert_eq!(shown.data_type(), field.data_type());
        let shown: Vec<String> = (0..shown.len()).map(|at| array_value_to_string(&shown, at).unwrap()).collect();
        assert_eq!(shown, wanted, "{mask}");
    }

    fn text(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn masks_do_what_their_names_say() {
        check(Mask::Alphanum, text(&["Ab-12", "数9"]), &["xx-nn", "xn"]);
        check(Mask::ShowFirst4, text(&["Ab-12x", "ab"]), &["Ab-1nx", "ab"]);
        check(Mask::ShowLast4, text(&["13800001234", "12"]), &["nnnnnnn1234", "12"]);
        check(
            Mask::Sha256Global,
            text(&["abc"]),
            &["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"],
        );
        check(Mask::ReplaceWithNull, text(&["a"]), &[""]);
        check(Mask::ToDefault, Arc::new(Int64Array::from(vec![Some(7), None])), &["0", "0"]);
        let days: ArrayRef = Arc::new(Date32Array::from(vec![0, -1, 20_000, 11_016]));
        check(Mask::TruncateToYear, days.clone(), &["1970-01-01", "1969-01-01", "2024-01-01", "2000-01-01"]);
        check(Mask::TruncateToMonth, days, &["1970-01-01", "1969-12-01", "2024-10-01", "2000-02-01"]);
        let instant: ArrayRef = Arc::new(TimestampNanosecondArray::from(vec![1_700_000_000_123_456_789]));
        check(Mask::TruncateToMonth, instant, &["2023-11-01T00:00:00"]);
    }

    #[test]
    fn a_mask_that_does_not_fit_is_refused() {
        for (mask, kind) in [
            (Mask::Alphanum, DataType::Int32),
            (Mask::Sha256Global, DataType::Float64),
            (Mask::TruncateToYear, DataType::Utf8),
            (Mask::ToDefault, DataType::Struct(Vec::<Field>::new().into())),
        ] {
            assert!(masked_field(&Field::new("c", kind, true), mask).is_err(), "{mask}");
        }
    }

    proptest! {
        #[test]
        fn months_are_found_again(year in -4000_i64..9000, month in 1_i64..=12, day in 0_i64..28) {
            prop_assert_eq!(civil_from_days(days_from_civil(year, month) + day), (year, month));
        }
    }
}
