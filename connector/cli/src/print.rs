//! stdout is data, stderr is talk. Nothing a peer wrote reaches the terminal as a control sequence.

use std::fmt;
use std::io::{self, IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::failure::{Failure, Outcome};

/// How data is written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Columns for people; commands that create something print its id alone.
    Table,
    /// The JSON of the node's management API, as it came.
    Json,
}

/// Writes one line to stderr; a closed stderr is nobody's loss.
pub fn talk(text: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Writes one line to stdout.
///
/// # Errors
/// When stdout cannot be written. A reader that went away (`| head`) ends the process quietly, as other tools do.
pub fn line(text: &str) -> Outcome {
    bytes(text.as_bytes())?;
    if text.ends_with('\n') { Ok(()) } else { bytes(b"\n") }
}

/// Writes bytes to stdout; see [`line`].
pub fn bytes(data: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed(format_args!("could not write to stdout: {error}"))),
    }
}

/// True if a person watches stderr, so that progress bars make sense.
pub fn is_watched() -> bool {
    io::stderr().is_terminal()
}

/// `text` without control characters and bidirectional overrides; line breaks and tabs become spaces.
pub fn clean(text: &str) -> String {
    text.chars()
        .filter_map(|c| match c {
            '\n' | '\t' => Some(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => None,
            c if c.is_control() => Some('\u{fffd}'),
            c => Some(c),
        })
        .collect()
}

/// [`clean`], line by line.
pub fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

/// A JSON value as a person reads it in a cell: texts bare, lists joined, nothing for null.
pub fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => clean(text),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => clean(&value.to_string()),
    }
}

/// A column of a listing: its heading and the JSON pointer (RFC 6901) of its value.
pub type Column = (&'static str, &'static str);

/// Writes a listing of `items`, or says on stderr that there are none.
pub fn listing(columns: &[Column], items: &[Value]) -> Outcome {
    if items.is_empty() {
        talk(format_args!("nothing to list"));
        return Ok(());
    }
    let heads = columns.iter().map(|(head, _)| (*head).to_owned()).collect();
    let rows = items
        .iter()
        .map(|item| columns.iter().map(|(_, at)| item.pointer(at).map(cell).unwrap_or_default()).collect())
        .collect();
    grid(heads, rows)
}

/// Writes a table with no lines, only columns: readable, and easy to cut up by other tools.
pub fn grid(heads: Vec<String>, rows: Vec<Vec<String>>) -> Outcome {
    line(&grid_text(heads, rows))
}

/// The text of [`grid`], without a last line break.
pub fn grid_text(heads: Vec<String>, rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads);
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    text.join("\n")
}

/// Writes `name: value` lines, skipping what is absent.
pub fn details(fields: &[Column], item: &Value) -> Outcome {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    for (name, at) in fields {
        let text = item.pointer(at).map(cell).unwrap_or_default();
        if !text.is_empty() {
            line(&format!("{:width$} {text}", format!("{name}:")))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2J\nb\u{202e}c\u{9b}d 数域"), "a\u{fffd}[2J bc\u{fffd}d 数域");
    }

    #[test]
    fn cells_are_bare() {
        let value = serde_json::json!(["a", 1, null, true]);
        assert_eq!(cell(&value), "a, 1, , true");
    }
}
