//! Which SQL is let in: one query over the contract's tables, of bounded size, with known functions.

use std::ops::ControlFlow;

use datafusion::{
    arrow::datatypes::Schema,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast::{
                Expr, Ident, Query, Select, SetExpr, Statement as SqlStatement, TableFactor, Value, Visit, VisitMut,
                Visitor, VisitorMut,
            },
            dialect::GenericDialect,
            tokenizer::{Token, Tokenizer},
        },
    },
};

/// Longest statement, in bytes. Longer ones are programs' mistakes.
pub const MAX_SQL_BYTES: usize = 64 * 1024;

/// Most tokens of a statement; bounds the parser's tree whatever its shape.
const MAX_TOKENS: usize = 16_384;

/// Deepest nesting of expressions. Deeper ones are refused before DataFusion walks them recursively.
const MAX_EXPR_DEPTH: usize = 128;

/// Deepest parentheses and subqueries the parser follows (DataFusion's own default).
const MAX_PARSER_DEPTH: usize = 50;

/// Most SELECTs in one statement.
const MAX_SELECTS: usize = 64;

/// Most table references in one statement.
const MAX_RELATIONS: usize = 64;

/// Stack on which a statement is read: 4 KiB for every level that [`MAX_TOKENS`] can make.
const STACK_BYTES: usize = 64 << 20;

/// Longest result of `lpad` and `rpad`.
const MAX_PAD: u64 = 4096;

/// Why a statement is not let in. The words are for the consumer.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GuardError {
    /// Longer than [`MAX_SQL_BYTES`], or of too many parts.
    #[error("statement has {found} {what}, the limit is {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much there is; the limit plus one if it was not counted on.
        found: usize,
        /// How much is allowed.
        limit: usize,
    },
    /// Not SQL.
    #[error("{0}")]
    Syntax(String),
    /// None, or more than one.
    #[error("expected exactly one statement, found {0}")]
    Count(usize),
    /// Not a query.
    #[error("only queries are allowed: {0}")]
    NotAQuery(&'static str),
    /// A query using something that is not allowed under a contract.
    #[error("{0} is not allowed here")]
    NotAllowed(&'static str),
    /// The node has no thread to read it with.
    #[error("the statement cannot be read now; try again later")]
    Unavailable,
}

/// Parses a statement and lets it in or not. Names of visible columns written without quotes match in any case.
///
/// # Errors
/// [`GuardError`], whose words may be shown to the consumer.
pub fn admit(sql: &str, visible: &Schema) -> Result<Statement, GuardError> {
    if sql.len() > MAX_SQL_BYTES {
        return Err(GuardError::TooLarge { what: "bytes", found: sql.len(), limit: MAX_SQL_BYTES });
    }
    // A long chain of operators makes a tree thousands of levels deep, which is walked and dropped recursively.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let reader = thread.spawn_scoped(scope, || read(sql, visible)).map_err(|_| GuardError::Unavailable)?;
        reader.join().map_err(|_| GuardError::Unavailable)?
    })
}

fn read(sql: &str, visible: &Schema) -> Result<Statement, GuardError> {
    let dialect = GenericDialect {};
    let syntax = |error: &dyn std::fmt::Display| GuardError::Syntax(error.to_string());
    let tokens = Tokenizer::new(&dialect, sql).tokenize().map_err(|error| syntax(&error))?;
    let tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).count();
    if tokens > MAX_TOKENS {
        return Err(GuardError::TooLarge { what: "tokens", found: tokens, limit: MAX_TOKENS });
    }
    let mut parser = DFParserBuilder::new(sql)
        .with_dialect(&dialect)
        .with_recursion_limit(MAX_PARSER_DEPTH)
        .build()
        .map_err(|error| syntax(&error))?;
    let mut statements = parser.parse_statements().map_err(|error| syntax(&error))?;
    let statement_count = statements.len();
    let (Some(statement), 1) = (statements.pop_front(), statement_count) else {
        return Err(GuardError::Count(statement_count));
    };
    let mut statement = match statement {
        Statement::Statement(statement) => statement,
        Statement::CreateExternalTable(_) => return Err(GuardError::NotAQuery("CREATE EXTERNAL TABLE")),
        Statement::CopyTo(_) => return Err(GuardError::NotAQuery("COPY")),
        Statement::Explain(_) => return Err(GuardError::NotAQuery("EXPLAIN")),
        Statement::Reset(_) => return Err(GuardError::NotAQuery("RESET")),
    };
    if !matches!(*statement, SqlStatement::Query(_)) {
        return Err(GuardError::NotAQuery("the statement is another command"));
    }
    if let ControlFlow::Break(error) = statement.visit(&mut Inspector::default()) {
        return Err(error);
    }
    let _done: ControlFlow<()> = VisitMut::visit(&mut *statement, &mut AnyCase(visible));
    Ok(Statement::Statement(statement))
}

#[derive(Default)]
struct Inspector {
    expr_depth: usize,
    selects: usize,
    relations: usize,
}

impl Inspector {
    fn count(found: usize, limit: usize, what: &'static str) -> ControlFlow<GuardError> {
        if found > limit {
            return ControlFlow::Break(GuardError::TooLarge { what, found, limit });
        }
        ControlFlow::Continue(())
    }
}

fn refuse(what: &'static str) -> ControlFlow<GuardError> {
    ControlFlow::Break(GuardError::NotAllowed(what))
}

impl Visitor for Inspector {
    type Break = GuardError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<GuardError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return refuse("WITH RECURSIVE");
        }
        if !query.locks.is_empty() {
            return refuse("FOR UPDATE");
        }
        if query.settings.is_some() || query.format_clause.is_some() || query.for_clause.is_some() {
            return refuse("SETTINGS or FORMAT");
        }
        if !query.pipe_operators.is_empty() {
            return refuse("the pipe syntax");
        }
        let mut pending = vec![&*query.body];
        while let Some(body) = pending.pop() {
            match body {
                SetExpr::Select(_) | SetExpr::Query(_) | SetExpr::Values(_) => {}
                SetExpr::SetOperation { left, right, .. } => pending.extend([&**left, &**right]),
                SetExpr::Insert(_) => return refuse("INSERT"),
                SetExpr::Update(_) => return refuse("UPDATE"),
                SetExpr::Delete(_) => return refuse("DELETE"),
                SetExpr::Merge(_) => return refuse("MERGE"),
                SetExpr::Table(_) => return refuse("TABLE"),
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<GuardError> {
        if select.into.is_some() {
            return refuse("SELECT INTO");
        }
        self.selects += 1;
        Self::count(self.selects, MAX_SELECTS, "SELECTs")
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<GuardError> {
        self.relations += 1;
        match factor {
            TableFactor::Table { args: None, .. } | TableFactor::Derived { .. } | TableFactor::NestedJoin { .. } => {
                Self::count(self.relations, MAX_RELATIONS, "tables")
            }
            TableFactor::Table { .. } | TableFactor::TableFunction { .. } | TableFactor::Function { .. } => {
                refuse("a function in place of a table")
            }
            _ => refuse("this kind of table"),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<GuardError> {
        self.expr_depth += 1;
        if let Expr::Function(function) = expr {
            let name = function.name.to_string().to_lowercase();
            if (name == "lpad" || name == "rpad") && !pads_to_a_known_length(&function.args) {
                return refuse("padding to a length that is not a number up to 4096");
            }
        }
        Self::count(self.expr_depth, MAX_EXPR_DEPTH, "levels of expression")
    }

    fn post_visit_expr(&mut self, _: &Expr) -> ControlFlow<GuardError> {
        self.expr_depth -= 1;
        ControlFlow::Continue(())
    }
}

fn pads_to_a_known_length(args: &datafusion::sql::sqlparser::ast::FunctionArguments) -> bool {
    use datafusion::sql::sqlparser::ast::{FunctionArg, FunctionArgExpr, FunctionArguments};
    let FunctionArguments::List(list) = args else { return false };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(length)))) = list.args.get(1) else { return false };
    matches!(&length.value, Value::Number(digits, _) if digits.parse::<u64>().is_ok_and(|length| length <= MAX_PAD))
}

/// Gives unquoted names the case of the visible column they match; without it `SELECT FL_DATE` would look for `fl_date`.
struct AnyCase<'a>(&'a Schema);

impl AnyCase<'_> {
    fn settle(&self, ident: &mut Ident) {
        if ident.quote_style.is_some() {
            return;
        }
        let mut matches = self.0.fields().iter().filter(|field| field.name().eq_ignore_ascii_case(&ident.value));
        if let (Some(field), None) = (matches.next(), matches.next()) {
            *ident = Ident::with_quote('"', field.name());
        }
    }
}

impl VisitorMut for AnyCase<'_> {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(ident) => self.settle(ident),
            Expr::CompoundIdentifier(path) => {
                if let Some(last) = path.last_mut() {
                    self.settle(last);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Functions a contract's query may call. Not among them, on purpose: whatever is volatile (`random`, `uuid`), tells of
/// the server (`version`), or makes values of unbounded size (`repeat`, `generate_series`, `array_repeat`).
#[rustfmt::skip]
pub(crate) const FUNCTIONS: &[&str] = &[
    // conditions and types
    "coalesce", "nullif", "nvl", "ifnull", "nvl2", "greatest", "least", "arrow_typeof", "struct", "named_struct", "row", "get_field",
    // numbers
    "abs", "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "cos", "cosh", "cot", "degrees",
    "exp", "floor", "gcd", "isnan", "iszero", "lcm", "ln", "log", "log10", "log2", "mod", "nanvl", "pi", "pow", "power",
    "radians", "round", "signum", "sin", "sinh", "sqrt", "tan", "tanh", "trunc",
    // text
    "ascii", "bit_length", "btrim", "trim", "char_length", "character_length", "length", "chr", "concat", "concat_ws", "contains",
    "ends_with", "initcap", "instr", "position", "strpos", "left", "levenshtein", "lower", "lpad", "ltrim", "octet_length",
    "overlay", "replace", "reverse", "right", "rpad", "rtrim", "split_part", "starts_with", "substr", "substring",
    "substr_index", "substring_index", "find_in_set", "to_hex", "translate", "upper", "encode", "decode",
    "regexp_like", "regexp_match", "regexp_replace", "regexp_count", "regexp_instr",
    // time
    "now", "current_date", "current_timestamp", "today", "current_time", "date_bin", "date_part", "datepart", "date_trunc",
    "datetrunc", "from_unixtime", "make_date", "make_time", "to_char", "date_format", "to_date", "to_local_time", "to_time",
    "to_timestamp", "to_timestamp_seconds", "to_timestamp_millis", "to_timestamp_micros", "to_timestamp_nanos", "to_unixtime",
    // lists
    "make_array", "make_list", "array_length", "list_length", "array_element", "list_element", "array_contains", "array_has",
    "list_has", "list_contains", "array_has_all", "array_has_any", "array_position", "cardinality", "array_to_string",
    "string_to_array", "array_distinct", "array_sort", "array_slice", "array_min", "array_max", "flatten", "empty",
    // aggregates
    "count", "sum", "min", "max", "avg", "mean", "median", "approx_distinct", "approx_median", "approx_percentile_cont",
    "percentile_cont", "quantile_cont", "stddev", "stddev_samp", "stddev_pop", "var", "var_samp", "var_sample", "var_pop", "var_population",
    "covar", "covar_samp", "covar_pop", "corr", "regr_slope", "regr_intercept", "regr_count", "regr_r2", "regr_avgx", "regr_avgy",
    "regr_sxx", "regr_syy", "regr_sxy", "bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "first_value", "last_value",
    "nth_value", "array_agg", "string_agg", "grouping",
    // windows
    "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead",
];

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::{DataType, Field};
    use proptest::prelude::*;

    fn visible() -> Schema {
        Schema::new(vec![Field::new("FL_DATE", DataType::Date32, true)])
    }

    #[track_caller]
    fn check(sql: &str, wanted: Result<&str, &str>) {
        let found = admit(sql, &visible()).map(|statement| statement.to_string()).map_err(|error| error.to_string());
        assert_eq!(found.as_deref().map_err(String::as_str), wanted, "{sql}");
    }

    #[test]
    fn queries_pass_and_everything_else_is_told_why() {
        check("select fl_date from t;", Ok("SELECT \"FL_DATE\" FROM t"));
        check("select t.fl_date, \"fl_date\" from t", Ok("SELECT t.\"FL_DATE\", \"fl_date\" FROM t"));
        check(
            "with a as (select 1) select * from a union all values (2)",
            Ok("WITH a AS (SELECT 1) SELECT * FROM a UNION ALL VALUES (2)"),
        );
        check("explain select 1", Err("only queries are allowed: EXPLAIN"));
        check("explain analyze select 1", Err("only queries are allowed: EXPLAIN"));
        check("copy t to 'x.csv'", Err("only queries are allowed: COPY"));
        check(
            "create external table x stored as csv location '/etc/passwd'",
            Err("only queries are allowed: CREATE EXTERNAL TABLE"),
        );
        for command in [
            "set datafusion.execution.batch_size = 1",
            "insert into t values (1)",
            "drop table t",
            "show tables",
            "create table x as select 1",
            "create view v as select 1",
            "delete from t",
            "update t set a = 1",
            "truncate t",
            "prepare p as select 1",
            "begin",
            "describe t",
        ] {
            assert!(matches!(admit(command, &visible()), Err(GuardError::NotAQuery(_))), "{command}");
        }
        check("select 1; select 2", Err("expected exactly one statement, found 2"));
        check("", Err("expected exactly one statement, found 0"));
        check("select 1 into x from t", Err("SELECT INTO is not allowed here"));
        check("select * from read_csv('/etc/passwd')", Err("a function in place of a table is not allowed here"));
        check("select * from generate_series(1, 10)", Err("a function in place of a table is not allowed here"));
        check("with recursive r as (select 1) select * from r", Err("WITH RECURSIVE is not allowed here"));
        check("select * from t for update", Err("FOR UPDATE is not allowed here"));
        check("with a as (insert into t values (1)) select 1", Err("INSERT is not allowed here"));
        check("select lpad('a', 4096)", Ok("SELECT lpad('a', 4096)"));
        check(
            "select lpad('a', 2000000000)",
            Err("padding to a length that is not a number up to 4096 is not allowed here"),
        );
        check(
            "select lpad('a', length('b'))",
            Err("padding to a length that is not a number up to 4096 is not allowed here"),
        );
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let refused =
            |sql: String| matches!(admit(&sql, &visible()), Err(GuardError::TooLarge { .. } | GuardError::Syntax(_)));
        assert!(refused(format!("select '{}'", "a".repeat(MAX_SQL_BYTES))));
        assert!(refused(format!("select 1{}", "+1".repeat(8_000))));
        assert!(refused(format!("select {}1{}", "(".repeat(5_000), ")".repeat(5_000))));
        assert!(refused(format!("select {}1", "- ".repeat(10_000))));
        assert!(refused(format!("select 1{}", " union select 1".repeat(4_000))));
        assert!(refused(format!("select 1 from t{}", ",t".repeat(7_000))));
        assert!(refused(format!("select 1{}", "+1".repeat(20_000))));
    }

    proptest! {
        #[test]
        fn any_text_is_answered(sql in ".{0,200}") {
            let _answer = admit(&sql, &visible());
        }
    }
}
