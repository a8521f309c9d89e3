//! What was measured, with what was aimed at.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

/// The bound a figure should keep (design, section 9).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// Not more than this.
    AtMost(f64),
    /// Not less than this.
    AtLeast(f64),
    /// It explains another figure.
    None,
}

/// One measured value.
#[derive(Clone, Debug)]
struct Figure {
    number: u8,
    name: String,
    value: f64,
    unit: &'static str,
    aim: Aim,
}

/// Figures and what is to be known about them.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Aim {
    fn words(self) -> Option<String> {
        match self {
            Self::AtMost(bound) => Some(format!("<= {}", shown(bound))),
            Self::AtLeast(bound) => Some(format!(">= {}", shown(bound))),
            Self::None => None,
        }
    }

    fn is_held_by(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(bound) => Some(value <= bound),
            Self::AtLeast(bound) => Some(value >= bound),
            Self::None => None,
        }
    }
}

impl Report {
    /// Adds a figure of the design's section 9 by its number.
    pub fn add(&mut self, number: u8, name: impl Into<String>, value: f64, unit: &'static str, aim: Aim) {
        let figure = Figure { number, name: name.into(), value, unit, aim };
        eprintln!("figure {number}: {}: {} {unit}", figure.name, shown(value));
        self.figures.push(figure);
    }

    /// Adds what a reader must know to read the figures right.
    pub fn note(&mut self, words: impl Into<String>) {
        self.notes.push(words.into());
    }

    /// The table and the notes, to stdout.
    pub fn print(&self) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(["figure", "name", "value", "unit", "aim", "held"]);
        for figure in &self.figures {
            let held = match figure.aim.is_held_by(figure.value) {
                Some(true) => "yes",
                Some(false) => "NO",
                None => "",
            };
            let aim = figure.aim.words().unwrap_or_default();
            let (number, value) = (figure.number.to_string(), shown(figure.value));
            table.add_row([&number, &figure.name, &value, figure.unit, &aim, held]);
        }
        if let Some(column) = table.column_mut(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
        self.notes.iter().for_each(|note| println!("- {note}"));
    }

    /// `[{"figure", "name", "value", "unit", "aim", "held"}]`; `aim` and `held` are null where a figure only explains.
    pub fn to_json(&self) -> Value {
        let figures = self.figures.iter().map(|figure| {
            json!({
                "figure": figure.number, "name": figure.name, "value": figure.value, "unit": figure.unit,
                "aim": figure.aim.words(), "held": figure.aim.is_held_by(figure.value),
            })
        });
        Value::Array(figures.collect())
    }
}

/// Three digits that mean something.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_say_whether_they_are_held() {
        let mut report = Report::default();
        report.add(1, "slow", 1.5, "x", Aim::AtMost(1.3));
        report.add(5, "fast", 250.0, "/s", Aim::AtLeast(200.0));
        report.add(5, "why", 0.5, "ms", Aim::None);
        let json = report.to_json();
        assert_eq!((&json[0]["aim"], &json[0]["held"]), (&json!("<= 1.30"), &json!(false)));
        assert_eq!((&json[1]["aim"], &json[1]["held"]), (&json!(">= 200"), &json!(true)));
        assert_eq!((&json[2]["aim"], &json[2]["held"]), (&Value::Null, &Value::Null));
    }
}
