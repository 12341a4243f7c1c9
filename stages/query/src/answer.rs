//! What a question gave: an aligned table, CSV, JSON or Markdown.

use polars::prelude::*;
use serde_json::{Map, Value, json};

/// Rows and columns.
#[derive(Debug, Clone)]
pub struct Answer {
    names: Vec<String>,
    rows: Vec<Vec<Value>>,
}

impl Answer {
    pub(crate) fn new(frame: DataFrame) -> Self {
        let names = frame.get_column_names().iter().map(ToString::to_string).collect();
        let cell = |column: &Column, row| column.get(row).map_or(Value::Null, |v| value(&v));
        let row = |row| frame.columns().iter().map(|column| cell(column, row)).collect();
        Self { names, rows: (0..frame.height()).map(row).collect() }
    }

    pub(crate) fn of(names: Vec<String>, rows: Vec<Vec<Value>>) -> Self {
        Self { names, rows }
    }

    /// A list of objects, a row each.
    #[must_use]
    pub fn json(&self) -> Value {
        let object = |row: &Vec<Value>| -> Map<String, Value> {
            self.names.iter().cloned().zip(row.iter().cloned()).collect()
        };
        self.rows.iter().map(|row| Value::Object(object(row))).collect()
    }

    /// Comma-separated values, by RFC 4180 but with plain line ends; NULL is an empty field. Text that a
    /// spreadsheet would take for a formula begins with an apostrophe.
    #[must_use]
    pub fn csv(&self) -> String {
        let field = |text: String| {
            let special = text.contains(['"', ',', '\n', '\r']);
            if special { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
        };
        let plain = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) => no_formula(text),
            other => other.to_string(),
        };
        let line = |fields: Vec<String>| fields.join(",") + "\n";
        let head = line(self.names.iter().map(|name| field(no_formula(name))).collect());
        let rows = self.rows.iter().map(|row| line(row.iter().map(|v| field(plain(v))).collect()));
        head + &rows.collect::<String>()
    }

    /// Whether a column holds numbers, and nothing else.
    fn is_number(&self, column: usize) -> bool {
        let mut known =
            self.rows.iter().map(|row| &row[column]).filter(|v| !v.is_null()).peekable();
        known.peek().is_some() && known.all(Value::is_number)
    }

    /// A table of Markdown, numbers to the right. Text is shown as it is, whatever it holds.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| {
            let cells: Vec<_> = cells.iter().map(|text| in_markdown(text)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        let rule = |column| if self.is_number(column) { "--:" } else { "---" }.to_owned();
        let rows = self.rows.iter().map(|row| line(row.iter().map(shown).collect()));
        let names = line(self.names.iter().map(|name| escaped(name)).collect());
        names + &line((0..self.names.len()).map(rule).collect()) + &rows.collect::<String>()
    }

    /// Columns side by side, numbers to the right, and how many rows there are.
    #[must_use]
    pub fn aligned(&self) -> String {
        let shown: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(shown).collect()).collect();
        let names: Vec<String> = self.names.iter().map(|name| escaped(name)).collect();
        let width = |column: usize| {
            let cells = shown.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0).max(names[column].chars().count())
        };
        let columns: Vec<(usize, bool)> =
            (0..self.names.len()).map(|column| (width(column), self.is_number(column))).collect();
        let line = |cells: &[String]| {
            let cell = |(text, &(width, right)): (&String, &(usize, bool))| {
                if right { format!("{text:>width$}") } else { format!("{text:width$}") }
            };
            let cells: Vec<_> = cells.iter().zip(&columns).map(cell).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        let rows: String = shown.iter().map(|row| line(row)).collect();
        let noun = if self.rows.len() == 1 { "row" } else { "rows" };
        format!("{}{rows}{} {noun}\n", line(&names), self.rows.len())
    }
}

/// A cell for people: at most six digits after the point, control characters escaped.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => escaped(text),
        Value::Number(number) if number.is_f64() => {
            let value = number.as_f64().unwrap_or_default();
            if value != 0.0 && !(1e-4..1e15).contains(&value.abs()) {
                return format!("{value:e}");
            }
            let text = format!("{value:.6}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        other => other.to_string(),
    }
}

/// Text on one line: control characters are escaped, and nothing else.
fn escaped(text: &str) -> String {
    let escape =
        |c: char| if c.is_control() { c.escape_debug().to_string() } else { c.to_string() };
    text.chars().map(escape).collect()
}

/// Text that no spreadsheet takes for a formula.
fn no_formula(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// Text of one line as Markdown shows it: no link, no tag, no emphasis. An underscore within a word means
/// nothing to Markdown and stays.
fn in_markdown(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_word = |at: Option<usize>| {
        at.and_then(|at| chars.get(at)).is_some_and(|c| c.is_alphanumeric() || *c == '_')
    };
    let has_host = text.to_lowercase().contains("www.");
    let mut shown = String::with_capacity(text.len());
    for (at, &c) in chars.iter().enumerate() {
        let special = match c {
            '\\' | '|' | '<' | '>' | '[' | ']' | '`' | '*' | '~' | '&' | '!' => true,
            '_' => !(is_word(at.checked_sub(1)) && is_word(Some(at + 1))),
            // Bare addresses would be links.
            ':' => chars.get(at + 1) == Some(&'/'),
            '.' => has_host,
            '@' => true,
            _ => false,
        };
        if special {
            shown.push('\\');
        }
        shown.push(c);
    }
    shown
}

fn value(cell: &AnyValue<'_>) -> Value {
    match cell {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(truth) => json!(truth),
        AnyValue::String(text) => json!(text),
        AnyValue::StringOwned(text) => json!(text.as_str()),
        AnyValue::UInt64(n) => json!(n),
        AnyValue::Float32(n) => json!(n),
        AnyValue::Float64(n) => json!(n),
        AnyValue::List(series) => series.iter().map(|item| value(&item)).collect(),
        other => match other.extract::<i64>() {
            Some(whole) if other.is_integer() => json!(whole),
            _ => json!(other.to_string()),
        },
    }
}
