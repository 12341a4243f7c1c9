//! Why a question has no answer, and where in it that shows.

use polars::prelude::PolarsError;

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// What is wrong, as one sentence without a full stop.
    pub message: String,
    /// Where it shows.
    pub place: Option<Place>,
    /// The name that is none, where that is what is wrong.
    pub unknown: Option<Unknown>,
}

/// A place in a statement: line and column from 1, length in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Characters.
    pub length: usize,
}

/// What there is none of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unknown {
    /// A table.
    Table(String),
    /// A column.
    Column(String),
}

impl QueryError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, unknown: None }
    }

    /// There is no such name.
    pub(crate) fn unknown(sql: &str, unknown: Unknown) -> Self {
        let (what, name) = match &unknown {
            Unknown::Table(name) => ("table", name),
            Unknown::Column(name) => ("column", name),
        };
        let place = find(sql, name);
        Self { message: format!("no {what} `{name}`"), place, unknown: Some(unknown) }
    }

    /// What polars says, without its plan and without the kind of error in front.
    pub(crate) fn plain(error: &PolarsError) -> Self {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        Self::new(line.trim_start_matches("sql parser error: "))
    }

    /// The same of a statement, with the place.
    pub(crate) fn explain(sql: &str, error: &PolarsError) -> Self {
        let said = Self::plain(error);
        let message = said.message.as_str();
        let between = |start: &str, end: char| {
            let (_, rest) = message.split_once(start)?;
            rest.split(end).next().map(str::to_owned)
        };
        if let Some(name) = between("relation '", '\'') {
            return Self::unknown(sql, Unknown::Table(name));
        }
        let column =
            between("unable to find column \"", '"').or_else(|| between("no column named '", '\''));
        if let Some(name) = column {
            return Self::unknown(sql, Unknown::Column(name));
        }
        if let Some(name) = between("unsupported function '", '\'') {
            return Self { place: find(sql, &name), ..said };
        }
        if let Some((what, at)) = message.split_once(" at Line: ") {
            let (line, rest) = at.split_once(", Column: ").unwrap_or((at, ""));
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if let (Ok(line), Ok(column)) = (line.parse(), digits.parse()) {
                let found = what.rsplit("found: ").next().filter(|found| *found != what);
                let length = found.map_or(1, |found| found.chars().count());
                return Self { place: Some(Place { line, column, length }), ..Self::new(what) };
            }
        }
        if message.ends_with("found: EOF") {
            let what = message.replace("found: EOF", "found the end");
            return Self { place: Some(end(sql)), ..Self::new(what) };
        }
        said
    }
}

/// Just after the last character.
fn end(sql: &str) -> Place {
    let last = sql.lines().last().unwrap_or_default();
    Place { line: sql.lines().count().max(1), column: last.chars().count() + 1, length: 1 }
}

/// The first place of a name, outside quoted text and comments; names may have dots.
fn find(sql: &str, name: &str) -> Option<Place> {
    let chars: Vec<char> = sql.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let part = |c: &char| c.is_alphanumeric() || *c == '_';
    let (mut line, mut column) = (1, 1);
    let mut text = false;
    let mut comment = false;
    for (at, &c) in chars.iter().enumerate() {
        let same = chars.get(at..at + name.len()).is_some_and(|these| {
            these.iter().zip(&name).all(|(a, b)| a.to_lowercase().eq(b.to_lowercase()))
        });
        let before = at > 0 && part(&chars[at - 1]);
        let after = chars.get(at + name.len()).is_some_and(part);
        if same && !before && !after && !text && !comment && !name.is_empty() {
            return Some(Place { line, column, length: name.len() });
        }
        match c {
            '\'' if !comment => text = !text,
            '-' if !text && chars.get(at + 1) == Some(&'-') => comment = true,
            _ => {}
        }
        if c == '\n' {
            (line, column, comment) = (line + 1, 1, false);
        } else {
            column += 1;
        }
    }
    None
}
