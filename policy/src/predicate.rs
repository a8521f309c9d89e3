//! Row filters: a small predicate language in which nothing can fail while rows are read.
//!
//! ```text
//! or       := and { OR and }
//! and      := not { AND not }
//! not      := NOT not | ( or ) | test
//! test     := column ( = | <> | != | < | <= | > | >= ) literal
//!           | column [NOT] IN ( literal { , literal } )
//!           | column [NOT] BETWEEN literal AND literal
//!           | column IS [NOT] NULL
//! literal  := integer | decimal | 'text' | TRUE | FALSE | DATE 'YYYY-MM-DD' | TIMESTAMP 'RFC 3339'
//! column   := [A-Za-z_][A-Za-z0-9_]* | "any name, with "" for a quote"
//! ```
//!
//! A column is compared only with literals, never with another column, and there are no casts, functions or
//! arithmetic. The comparison is SQL's: with NULL it is unknown, and a row is visible only where the whole predicate
//! is true. Column names are taken exactly as written; letters keep their case. Keywords are read in any case.

mod parse;

use std::fmt;
use std::str::FromStr;

use shuyu_base::UnixMillis;

pub use parse::ParsePredicateError;

/// Longest row filter, in bytes.
pub const MAX_PREDICATE_BYTES: usize = 4096;

/// Deepest nesting of NOT and parentheses.
pub const MAX_PREDICATE_DEPTH: usize = 16;

/// Most literals in one IN list.
pub const MAX_IN_LIST: usize = 256;

/// Most digits of a decimal literal; what Arrow's `Decimal128` holds.
pub const MAX_DECIMAL_DIGITS: usize = 38;

/// A condition on one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Predicate {
    /// `column op literal`.
    Compare {
        /// Column name.
        column: String,
        /// How the column's value is compared with the literal.
        comparison: Comparison,
        /// The literal.
        literal: Literal,
    },
    /// `column [NOT] IN (list)`; the list is not empty and all of one type.
    In {
        /// Column name.
        column: String,
        /// Whether NOT was written.
        negated: bool,
        /// The list.
        list: Vec<Literal>,
    },
    /// `column [NOT] BETWEEN low AND high`, both ends included, of one type.
    Between {
        /// Column name.
        column: String,
        /// Whether NOT was written.
        negated: bool,
        /// Lower end.
        low: Literal,
        /// Upper end.
        high: Literal,
    },
    /// `column IS [NOT] NULL`.
    IsNull {
        /// Column name.
        column: String,
        /// Whether NOT was written.
        negated: bool,
    },
    /// All hold; two or more members.
    And(Vec<Predicate>),
    /// One holds; two or more members.
    Or(Vec<Predicate>),
    /// Does not hold.
    Not(Box<Predicate>),
}

/// How a column is compared with a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

/// A constant; it says its type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Literal {
    /// A whole number.
    Integer(i64),
    /// A number with a fraction, exactly as written.
    Decimal(Decimal),
    /// Text, compared by code points.
    Text(String),
    /// TRUE or FALSE.
    Boolean(bool),
    /// A calendar day: days since 1970-01-01; years 0001 to 9999.
    Date(i32),
    /// An instant; years 0001 to 9999.
    Timestamp(UnixMillis),
}

/// `unscaled / 10^scale`; at most [`MAX_DECIMAL_DIGITS`] digits and at least one after the point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    unscaled: i128,
    scale: u8,
}

impl Decimal {
    /// `unscaled / 10^scale`; `None` when there are too many digits or `scale` is 0 or over [`MAX_DECIMAL_DIGITS`].
    pub fn new(unscaled: i128, scale: u8) -> Option<Self> {
        let digits = unscaled.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
        let in_range = digits <= MAX_DECIMAL_DIGITS && (1..=MAX_DECIMAL_DIGITS).contains(&usize::from(scale));
        in_range.then_some(Self { unscaled, scale })
    }

    /// The digits as a whole number.
    pub fn unscaled(self) -> i128 {
        self.unscaled
    }

    /// How many of the digits stand after the point, 1 to [`MAX_DECIMAL_DIGITS`].
    pub fn scale(self) -> u8 {
        self.scale
    }

    /// The nearest double, for columns of floating-point numbers.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::NAN)
    }
}

impl Predicate {
    /// The names of the columns it reads, in order of appearance, each once.
    pub fn columns(&self) -> Vec<&str> {
        let mut found = Vec::new();
        self.collect_columns(&mut found);
        found
    }

    fn collect_columns<'a>(&'a self, found: &mut Vec<&'a str>) {
        match self {
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::Between { column, .. }
            | Self::IsNull { column, .. } => {
                if !found.contains(&column.as_str()) {
                    found.push(column);
                }
            }
            Self::And(members) | Self::Or(members) => members.iter().for_each(|member| member.collect_columns(found)),
            Self::Not(inner) => inner.collect_columns(found),
        }
    }

    /// The predicates that must all hold: the members of AND at the top, else the predicate itself.
    pub fn conjuncts(&self) -> Vec<&Self> {
        match self {
            Self::And(members) => members.iter().flat_map(Self::conjuncts).collect(),
            Self::Compare { .. }
            | Self::In { .. }
            | Self::Between { .. }
            | Self::IsNull { .. }
            | Self::Or(_)
            | Self::Not(_) => vec![self],
        }
    }

    /// One predicate that holds where all hold; `None` when there are none.
    pub fn all(mut predicates: Vec<Self>) -> Option<Self> {
        match predicates.len() {
            0 | 1 => predicates.pop(),
            _ => Some(Self::And(predicates)),
        }
    }
}

impl FromStr for Predicate {
    type Err = ParsePredicateError;

    fn from_str(text: &str) -> Result<Self, ParsePredicateError> {
        parse::parse(text)
    }
}

impl fmt::Display for Predicate {
    /// The text form; reading it gives the same predicate.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |negated: &bool| if *negated { "NOT " } else { "" };
        match self {
            Self::Compare { column, comparison, literal } => {
                write!(f, "{} {} {literal}", Name(column), comparison.symbol())
            }
            Self::In { column, negated, list } => {
                write!(f, "{} {}IN (", Name(column), not(negated))?;
                for (index, literal) in list.iter().enumerate() {
                    write!(f, "{}{literal}", if index == 0 { "" } else { ", " })?;
                }
                f.write_str(")")
            }
            Self::Between { column, negated, low, high } => {
                write!(f, "{} {}BETWEEN {low} AND {high}", Name(column), not(negated))
            }
            Self::IsNull { column, negated } => write!(f, "{} IS {}NULL", Name(column), not(negated)),
            Self::And(members) => self.fmt_members(f, members, " AND "),
            Self::Or(members) => self.fmt_members(f, members, " OR "),
            Self::Not(inner) => {
                f.write_str("NOT ")?;
                inner.fmt_inside(f, matches!(**inner, Self::And(_) | Self::Or(_)))
            }
        }
    }
}

impl Predicate {
    fn fmt_members(&self, f: &mut fmt::Formatter<'_>, members: &[Self], between: &str) -> fmt::Result {
        let inside_and = matches!(self, Self::And(_));
        for (index, member) in members.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { between })?;
            let parenthesise = matches!(member, Self::Or(_)) || (inside_and && matches!(member, Self::And(_)));
            member.fmt_inside(f, parenthesise)?;
        }
        Ok(())
    }

    fn fmt_inside(&self, f: &mut fmt::Formatter<'_>, parenthesise: bool) -> fmt::Result {
        if parenthesise { write!(f, "({self})") } else { write!(f, "{self}") }
    }
}

impl Comparison {
    /// The symbol, as SQL writes it.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(value) => write!(f, "{value}"),
            Self::Decimal(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            Self::Boolean(value) => f.write_str(if *value { "TRUE" } else { "FALSE" }),
            Self::Date(days) => {
                let instant = UnixMillis(i64::from(*days) * parse::DAY_MS).to_string();
                write!(f, "DATE '{}'", instant.get(..10).unwrap_or(&instant))
            }
            Self::Timestamp(instant) => write!(f, "TIMESTAMP '{instant}'"),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.unscaled < 0 { "-" } else { "" };
        let width = usize::from(self.scale) + 1;
        let digits = format!("{:0width$}", self.unscaled.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() - usize::from(self.scale));
        write!(f, "{sign}{whole}.{fraction}")
    }
}

/// A column name as it must be written.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if parse::is_plain_name(self.0) {
            f.write_str(self.0)
        } else {
            write!(f, "\"{}\"", self.0.replace('"', "\"\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn check(text: &str, wanted: &str) {
        let predicate: Predicate = text.parse().unwrap();
        assert_eq!(predicate.to_string(), wanted);
        assert_eq!(predicate.to_string().parse(), Ok(predicate));
    }

    #[test]
    fn reads_the_language_and_writes_it_one_way() {
        check(
            "origin in ('SEA','PDX') AND delay >= 0 AND note IS NOT NULL",
            "origin IN ('SEA', 'PDX') AND delay >= 0 AND note IS NOT NULL",
        );
        check("not (a=1 or b!=-2.50) and c IS NULL", "NOT (a = 1 OR b <> -2.50) AND c IS NULL");
        check("(a = 1 AND (b = 2 AND c = 3)) OR d < TRUE", "a = 1 AND (b = 2 AND c = 3) OR d < TRUE");
        check("\"a \"\"b\"\"\" = 'it''s' OR \"and\" = '机场'", "\"a \"\"b\"\"\" = 'it''s' OR \"and\" = '机场'");
        check(
            "d NOT BETWEEN DATE '2024-01-01' AND date '2024-12-31'",
            "d NOT BETWEEN DATE '2024-01-01' AND DATE '2024-12-31'",
        );
        check("t > TIMESTAMP '2024-01-01T08:00:00+08:00'", "t > TIMESTAMP '2024-01-01T00:00:00.000Z'");
        check("date = DATE '0001-01-01'", "date = DATE '0001-01-01'");
    }

    #[test]
    fn refuses_what_is_not_in_it() {
        let deep = format!("{}a = 1{}", "(".repeat(MAX_PREDICATE_DEPTH + 1), ")".repeat(MAX_PREDICATE_DEPTH + 1));
        let long_list = format!("a IN ({}1)", "1,".repeat(MAX_IN_LIST));
        let long = format!("a = '{}'", "x".repeat(MAX_PREDICATE_BYTES));
        for text in [
            "",
            "a",
            "a =",
            "= 1",
            "1 = a",
            "a = b",
            "a = NULL",
            "a + 1 = 2",
            "f(a) = 1",
            "a LIKE 'x'",
            "a = 1 AND",
            "a = 1 b = 2",
            "a IN ()",
            "a IN (1, 'x')",
            "a BETWEEN 1 AND 2.0",
            "a = 1e5",
            "a = .5",
            "a = 5.",
            "a = 'x",
            "\"\" = 1",
            "\"a = 1",
            "a = 9223372036854775808",
            "a = DATE '2024-02-30'",
            "a = DATE '2024-2-3'",
            "a = TIMESTAMP '2024-01-01'",
            "a = 1; DROP TABLE t",
            "a = 1 -- x",
            "a IS 1",
            "NOT",
            "a == 1",
            "a = - 1",
            "CAST(a AS INT) = 1",
            "t.a = 1",
            "a = ?",
            "a = 0.123456789012345678901234567890123456789",
            &deep,
            &long_list,
            &long,
        ] {
            assert!(text.parse::<Predicate>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_its_columns_once_and_splits_at_and() {
        let predicate: Predicate = "a = 1 AND (b = 2 OR a IS NULL) AND NOT c IN (1)".parse().unwrap();
        assert_eq!(predicate.columns(), ["a", "b", "c"]);
        assert_eq!(predicate.conjuncts().len(), 3);
    }

    #[test]
    fn decimals_keep_their_digits() {
        let half = Decimal::new(-50, 2).unwrap();
        assert_eq!((half.to_string().as_str(), half.to_f64()), ("-0.50", -0.5));
        assert_eq!(Decimal::new(1, 0), None);
        assert_eq!(Decimal::new(i128::MAX, 2), None);
    }

    fn literals() -> impl Strategy<Value = Literal> {
        let decimals =
            (any::<i64>(), 1u8..=20).prop_filter_map("digits", |(n, scale)| Decimal::new(i128::from(n), scale));
        prop_oneof![
            any::<i64>().prop_map(Literal::Integer),
            decimals.prop_map(Literal::Decimal),
            ".{0,6}".prop_map(Literal::Text),
            any::<bool>().prop_map(Literal::Boolean),
            (-719_162i32..2_932_897).prop_map(Literal::Date),
            (-62_135_596_800_000_i64..253_402_300_800_000).prop_map(|ms| Literal::Timestamp(UnixMillis(ms))),
        ]
    }

    fn predicates() -> impl Strategy<Value = Predicate> {
        let column = prop_oneof!["[a-c]", "[A-Za-z_][A-Za-z0-9_]{0,5}", ".{1,4}", Just("not".to_owned())];
        let comparison = prop::sample::select(
            &[Comparison::Eq, Comparison::NotEq, Comparison::Lt, Comparison::LtEq, Comparison::Gt, Comparison::GtEq][..],
        );
        let test = (column, any::<bool>(), literals(), comparison, 0..4u8).prop_map(
            |(column, negated, literal, comparison, shape)| match shape {
                0 => Predicate::Compare { column, comparison, literal },
                1 => Predicate::In { column, negated, list: vec![literal.clone(), literal] },
                2 => Predicate::Between { column, negated, low: literal.clone(), high: literal },
                _ => Predicate::IsNull { column, negated },
            },
        );
        test.prop_recursive(4, 20, 4, |inner| {
            let members = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                members.clone().prop_map(Predicate::And),
                members.prop_map(Predicate::Or),
                inner.prop_map(|predicate| Predicate::Not(Box::new(predicate))),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_round_trips(predicate in predicates()) {
            let text = predicate.to_string();
            prop_assume!(text.len() <= MAX_PREDICATE_BYTES);
            prop_assert_eq!(text.parse(), Ok(predicate), "{}", text);
        }

        #[test]
        fn any_text_is_read_without_panic(text in "[ -~]{0,60}|.{0,60}|[a-cNOTINADR()'\", =<>!0-9.-]{0,60}") {
            if let Ok(predicate) = text.parse::<Predicate>() {
                prop_assert_eq!(predicate.to_string().parse(), Ok(predicate));
            }
        }
    }
}
