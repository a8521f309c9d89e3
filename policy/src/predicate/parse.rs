//! Reads the text of a row filter: one pass into tokens, then recursive descent with bounded depth.

use shuyu_base::UnixMillis;

use super::{Comparison, Decimal, Literal, MAX_IN_LIST, MAX_PREDICATE_BYTES, MAX_PREDICATE_DEPTH, Predicate};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;

/// Words that a column may be called only in double quotes.
const KEYWORDS: [&str; 9] = ["AND", "BETWEEN", "FALSE", "IN", "IS", "NOT", "NULL", "OR", "TRUE"];

/// Why a text is not a row filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParsePredicateError {
    /// Longer than [`MAX_PREDICATE_BYTES`].
    #[error("row filter is longer than {MAX_PREDICATE_BYTES} bytes")]
    TooLong,
    /// Nested deeper than [`MAX_PREDICATE_DEPTH`].
    #[error("row filter is nested deeper than {MAX_PREDICATE_DEPTH}")]
    TooDeep,
    /// More literals in a list than [`MAX_IN_LIST`].
    #[error("list of the row filter has more than {MAX_IN_LIST} values")]
    ListTooLong,
    /// A character that begins nothing, or a quote that is not closed.
    #[error("row filter cannot be read at byte {at_byte}")]
    BadCharacter {
        /// Where, counted from 0.
        at_byte: usize,
    },
    /// Something else was expected.
    #[error("row filter: expected {wanted}, found `{found}`")]
    Unexpected {
        /// What would have been right.
        wanted: &'static str,
        /// What is there; `end` at the end.
        found: String,
    },
    /// A number, date or time that is out of range or not one.
    #[error("row filter: `{text}` is not a valid {what}")]
    BadLiteral {
        /// Kind of literal.
        what: &'static str,
        /// As written.
        text: String,
    },
    /// Values of different types in one list or range.
    #[error("row filter: values compared with `{column}` are of different types")]
    MixedTypes {
        /// The column.
        column: String,
    },
}

/// Whether the name can be written without quotes.
pub(super) fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    starts
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !KEYWORDS.iter().any(|word| word.eq_ignore_ascii_case(name))
}

/// Reads a whole row filter.
pub(super) fn parse(text: &str) -> Result<Predicate, ParsePredicateError> {
    if MAX_PREDICATE_BYTES < text.len() {
        return Err(ParsePredicateError::TooLong);
    }
    let mut parser = Parser { tokens: tokens(text)?.into_iter().peekable() };
    let predicate = parser.or(MAX_PREDICATE_DEPTH)?;
    match parser.tokens.next() {
        None => Ok(predicate),
        Some(token) => Err(unexpected("AND, OR or the end", Some(token))),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// A bare word: keyword or column.
    Word(String),
    /// A column in double quotes, unescaped.
    Quoted(String),
    /// A text in single quotes, unescaped.
    Text(String),
    /// Digits with an optional sign and point.
    Number(String),
    /// `(`, `)`, `,` or a comparison.
    Symbol(&'static str),
}

const SYMBOLS: [(&str, &str); 10] = [
    ("<>", "<>"),
    ("!=", "<>"),
    ("<=", "<="),
    (">=", ">="),
    ("=", "="),
    ("<", "<"),
    (">", ">"),
    ("(", "("),
    (")", ")"),
    (",", ","),
];

fn tokens(text: &str) -> Result<Vec<Token>, ParsePredicateError> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches([' ', '\t', '\n', '\r']);
        let Some(first) = rest.chars().next() else { return Ok(found) };
        let bad = || ParsePredicateError::BadCharacter { at_byte: text.len() - rest.len() };
        let (token, after) = match first {
            '\'' | '"' => {
                let (content, after) = quoted(rest, first).ok_or_else(bad)?;
                (if first == '"' { Token::Quoted(content) } else { Token::Text(content) }, after)
            }
            '-' | '0'..='9' => {
                let end = rest.char_indices().skip(1).find(|(_, c)| !c.is_ascii_alphanumeric() && *c != '.');
                let (number, after) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
                (Token::Number(number.to_owned()), after)
            }
            'A'..='Z' | 'a'..='z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                let (word, after) = rest.split_at(end);
                (Token::Word(word.to_owned()), after)
            }
            _ => {
                let (written, meant) = SYMBOLS.iter().find(|(written, _)| rest.starts_with(written)).ok_or_else(bad)?;
                (Token::Symbol(meant), rest.get(written.len()..).unwrap_or_default())
            }
        };
        found.push(token);
        rest = after;
    }
}

/// The content of a quoted text at the start of `rest`, and what follows it; a doubled quote stands for one.
fn quoted(rest: &str, quote: char) -> Option<(String, &str)> {
    let mut content = String::new();
    let mut chars = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c != quote {
            content.push(c);
        } else if chars.next_if(|(_, next)| *next == quote).is_some() {
            content.push(quote);
        } else {
            return Some((content, rest.get(at + quote.len_utf8()..)?));
        }
    }
    None
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
}

impl Parser {
    fn or(&mut self, depth_left: usize) -> Result<Predicate, ParsePredicateError> {
        let first = self.and(depth_left)?;
        let mut members = vec![first];
        while self.take_word("OR") {
            members.push(self.and(depth_left)?);
        }
        Ok(one_or(members, Predicate::Or))
    }

    fn and(&mut self, depth_left: usize) -> Result<Predicate, ParsePredicateError> {
        let first = self.not(depth_left)?;
        let mut members = vec![first];
        while self.take_word("AND") {
            members.push(self.not(depth_left)?);
        }
        Ok(one_or(members, Predicate::And))
    }

    fn not(&mut self, depth_left: usize) -> Result<Predicate, ParsePredicateError> {
        let deeper = depth_left.checked_sub(1).ok_or(ParsePredicateError::TooDeep);
        if self.take_word("NOT") {
            return Ok(Predicate::Not(Box::new(self.not(deeper?)?)));
        }
        if self.take_symbol("(") {
            let inner = self.or(deeper?)?;
            self.need_symbol(")", "`)`")?;
            return Ok(inner);
        }
        self.test()
    }

    fn test(&mut self) -> Result<Predicate, ParsePredicateError> {
        let column = match self.tokens.next() {
            Some(Token::Word(name)) if is_plain_name(&name) => name,
            Some(Token::Quoted(name)) if !name.is_empty() => name,
            other => return Err(unexpected("a column", other)),
        };
        if self.take_word("IS") {
            let negated = self.take_word("NOT");
            self.need_word("NULL")?;
            return Ok(Predicate::IsNull { column, negated });
        }
        let negated = self.take_word("NOT");
        if self.take_word("IN") {
            return self.list(column, negated);
        }
        if self.take_word("BETWEEN") {
            let low = self.literal()?;
            self.need_word("AND")?;
            let high = self.literal()?;
            same_type(&column, [&low, &high])?;
            return Ok(Predicate::Between { column, negated, low, high });
        }
        if negated {
            return Err(unexpected("IN or BETWEEN", self.tokens.next()));
        }
        let comparison = self.comparison()?;
        Ok(Predicate::Compare { column, comparison, literal: self.literal()? })
    }

    fn list(&mut self, column: String, negated: bool) -> Result<Predicate, ParsePredicateError> {
        self.need_symbol("(", "`(`")?;
        let mut list = vec![self.literal()?];
        while self.take_symbol(",") {
            if list.len() == MAX_IN_LIST {
                return Err(ParsePredicateError::ListTooLong);
            }
            list.push(self.literal()?);
        }
        self.need_symbol(")", "`,` or `)`")?;
        same_type(&column, &list)?;
        Ok(Predicate::In { column, negated, list })
    }

    fn comparison(&mut self) -> Result<Comparison, ParsePredicateError> {
        match self.tokens.next() {
            Some(Token::Symbol("=")) => Ok(Comparison::Eq),
            Some(Token::Symbol("<>")) => Ok(Comparison::NotEq),
            Some(Token::Symbol("<")) => Ok(Comparison::Lt),
            Some(Token::Symbol("<=")) => Ok(Comparison::LtEq),
            Some(Token::Symbol(">")) => Ok(Comparison::Gt),
            Some(Token::Symbol(">=")) => Ok(Comparison::GtEq),
            other => Err(unexpected("a comparison, IN, BETWEEN or IS", other)),
        }
    }

    fn literal(&mut self) -> Result<Literal, ParsePredicateError> {
        const WANTED: &str = "a number, a text in single quotes, TRUE, FALSE, DATE '...' or TIMESTAMP '...'";
        match self.tokens.next() {
            Some(Token::Number(text)) => number(text),
            Some(Token::Text(text)) => Ok(Literal::Text(text)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("TRUE") => Ok(Literal::Boolean(true)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("FALSE") => Ok(Literal::Boolean(false)),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("DATE") => date(self.text()?),
            Some(Token::Word(word)) if word.eq_ignore_ascii_case("TIMESTAMP") => timestamp(self.text()?),
            other => Err(unexpected(WANTED, other)),
        }
    }

    fn text(&mut self) -> Result<String, ParsePredicateError> {
        match self.tokens.next() {
            Some(Token::Text(text)) => Ok(text),
            other => Err(unexpected("a text in single quotes", other)),
        }
    }

    fn take_word(&mut self, wanted: &str) -> bool {
        self.tokens.next_if(|token| matches!(token, Token::Word(word) if word.eq_ignore_ascii_case(wanted))).is_some()
    }

    fn take_symbol(&mut self, wanted: &'static str) -> bool {
        self.tokens.next_if_eq(&Token::Symbol(wanted)).is_some()
    }

    fn need_word(&mut self, wanted: &'static str) -> Result<(), ParsePredicateError> {
        if self.take_word(wanted) { Ok(()) } else { Err(unexpected(wanted, self.tokens.next())) }
    }

    fn need_symbol(&mut self, symbol: &'static str, wanted: &'static str) -> Result<(), ParsePredicateError> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(unexpected(wanted, self.tokens.next())) }
    }
}

fn one_or(mut members: Vec<Predicate>, group: fn(Vec<Predicate>) -> Predicate) -> Predicate {
    match members.pop() {
        Some(only) if members.is_empty() => only,
        last => {
            members.extend(last);
            group(members)
        }
    }
}

fn same_type<'a>(column: &str, literals: impl IntoIterator<Item = &'a Literal>) -> Result<(), ParsePredicateError> {
    let mut kinds = literals.into_iter().map(std::mem::discriminant);
    let first = kinds.next();
    if kinds.all(|kind| Some(kind) == first) {
        Ok(())
    } else {
        Err(ParsePredicateError::MixedTypes { column: column.to_owned() })
    }
}

fn number(text: String) -> Result<Literal, ParsePredicateError> {
    let unsigned = text.strip_prefix('-').unwrap_or(&text);
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let read = match unsigned.split_once('.') {
        None if digits(unsigned) => text.parse().ok().map(Literal::Integer),
        Some((whole, fraction)) if digits(whole) && digits(fraction) => decimal(&text, fraction.len()),
        _ => None,
    };
    read.ok_or(ParsePredicateError::BadLiteral { what: "number", text })
}

fn decimal(text: &str, scale: usize) -> Option<Literal> {
    let unscaled = text.replace('.', "").parse().ok()?;
    Decimal::new(unscaled, u8::try_from(scale).ok()?).map(Literal::Decimal)
}

fn date(text: String) -> Result<Literal, ParsePredicateError> {
    let days = (text.len() == 10)
        .then(|| UnixMillis::from_rfc3339(&format!("{text}T00:00:00Z")))
        .flatten()
        .and_then(|instant| i32::try_from(instant.0.div_euclid(DAY_MS)).ok());
    days.map(Literal::Date).ok_or(ParsePredicateError::BadLiteral { what: "date (YYYY-MM-DD)", text })
}

fn timestamp(text: String) -> Result<Literal, ParsePredicateError> {
    // With an offset the instant may fall outside the years that can be written again.
    let years = -62_135_596_800_000..253_402_300_800_000;
    let instant = UnixMillis::from_rfc3339(&text).filter(|instant| years.contains(&instant.0));
    instant.map(Literal::Timestamp).ok_or(ParsePredicateError::BadLiteral { what: "time (RFC 3339)", text })
}

fn unexpected(wanted: &'static str, found: Option<Token>) -> ParsePredicateError {
    let found = match found {
        None => "end".to_owned(),
        Some(Token::Word(text) | Token::Number(text)) => text,
        Some(Token::Quoted(text)) => format!("\"{text}\""),
        Some(Token::Text(text)) => format!("'{text}'"),
        Some(Token::Symbol(symbol)) => symbol.to_owned(),
    };
    ParsePredicateError::Unexpected { wanted, found }
}
