//! Tables that pipeline.yaml declares under `tables:`: what one is, and its cells from the runs.

mod latex;
mod markdown;
mod write;

use std::collections::BTreeSet;

use dissim_api::{ParamError, Params, resolve};
use dissim_claims::{Columns, Row, RunTable, Selection};
use dissim_statistics::{share, student};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) use write::write;

/// Confidence of the intervals.
const CONFIDENCE: f64 = 0.95;

/// An entry under `tables:`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// File name without extension, unique in the study.
    pub name: String,
    /// What the table shows, in words.
    #[serde(default)]
    pub caption: String,
    /// The facts whose values make the rows.
    pub rows: Vec<String>,
    /// The facts whose values make the columns; none makes one column a metric.
    #[serde(default)]
    pub columns: Vec<String>,
    /// The metrics shown; a flag such as `dead` is shown as a count of runs with Wilson's interval.
    pub metrics: Vec<String>,
    /// How numbers are written.
    #[serde(default)]
    pub format: Format,
    /// Decimals.
    #[serde(default = "one")]
    pub decimals: usize,
    /// Which of a row's cells is the best: in bold, and those within its interval underlined.
    #[serde(default)]
    pub best: Best,
    /// The runs that count: fact to value.
    #[serde(default)]
    pub at: Selection,
}

fn one() -> usize {
    1
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Times 100: accuracies and shares are fractions.
    #[default]
    Percent,
    /// As they are.
    Number,
}

/// Which cell of a row is the best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Best {
    /// The largest mean.
    #[default]
    Highest,
    /// The smallest mean.
    Lowest,
    /// No cell is marked.
    Unmarked,
}

/// Everything wrong with an entry of `tables:`; the name of an error is the path of the part.
#[must_use]
pub fn check_table(table: &Params, columns: &Columns) -> Vec<ParamError> {
    let table = match resolve::<TableSpec>(table) {
        Ok((table, _)) => table,
        Err(errors) => return errors,
    };
    let mut errors = Vec::new();
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if table.name.is_empty() || !table.name.chars().all(good) {
        let message = "`name` names a file: letters, digits, `-` and `_`";
        errors.push(ParamError::new("name", message));
    }
    for (part, list) in [("rows", &table.rows), ("metrics", &table.metrics)] {
        if list.is_empty() {
            errors.push(ParamError::new(part, format!("`{part}` is empty")));
        }
    }
    let fact = |path: &str, name: &String| {
        let message = format!("runs have no column `{name}`");
        (!columns.facts.contains(name)).then(|| ParamError::new(path, message))
    };
    errors.extend(table.rows.iter().filter_map(|name| fact("rows", name)));
    errors.extend(table.columns.iter().filter_map(|name| fact("columns", name)));
    errors.extend(table.at.keys().filter_map(|name| fact(&format!("at.{name}"), name)));
    for name in table.metrics.iter().filter(|name| !columns.metrics.contains(*name)) {
        errors.push(ParamError::new("metrics", format!("runs have no metric `{name}`")));
    }
    if table.decimals > 6 {
        errors.push(ParamError::new("decimals", "`decimals` is at most 6"));
    }
    errors
}

/// A table with its cells.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Grid {
    pub spec: TableSpec,
    /// The values of `rows`, a row each.
    pub rows: Vec<Vec<Value>>,
    /// The values of `columns` and a metric, a column each.
    pub columns: Vec<(Vec<Value>, String)>,
    /// Cells by row and column; `None` if nothing was run, or if runs of several settings met.
    pub cells: Vec<Vec<Option<Cell>>>,
    /// The columns in which such runs differ.
    pub mixed: BTreeSet<String>,
}

/// A mean over runs, or a share of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Cell {
    pub n: usize,
    /// Of a share, the number of runs that count.
    pub count: Option<usize>,
    /// The mean, or the share.
    pub mean: f64,
    /// Ends of the interval: Student's t over runs, Wilson's for a share.
    pub interval: Option<(f64, f64)>,
    pub mark: Mark,
}

/// How a cell stands out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mark {
    #[default]
    Plain,
    /// The best of its row and metric.
    Best,
    /// Within the interval of the best.
    Close,
}

impl Grid {
    /// The table over these runs.
    pub fn of(spec: TableSpec, table: &RunTable) -> Self {
        let named = [spec.rows.as_slice(), &spec.columns].concat();
        let wanted = |r: &&Row| dissim_claims::matches_naming(r, &spec.at, &named);
        let runs: Vec<&Row> = table.rows().iter().filter(wanted).collect();
        let rows = keys(&runs, &spec.rows);
        let groups = keys(&runs, &spec.columns);
        let with_metric = |group: &Vec<Value>| {
            spec.metrics.iter().map(|m| (group.clone(), m.clone())).collect::<Vec<_>>()
        };
        let columns: Vec<_> = groups.iter().flat_map(with_metric).collect();
        let (mut cells, mut mixed) = (Vec::new(), BTreeSet::new());
        for row in &rows {
            let here: Vec<_> = runs.iter().filter(|r| key(r, &spec.rows) == *row).collect();
            let mut line: Vec<Option<Cell>> = Vec::new();
            for (group, metric) in &columns {
                let of = here.iter().filter(|r| key(r, &spec.columns) == *group);
                let of: Vec<&Row> = of.map(|r| **r).collect();
                let differ = table.mixture(&of);
                line.push(match differ.is_empty() {
                    true => cell(&of.iter().filter_map(|r| r.get(metric)).collect::<Vec<_>>()),
                    false => None,
                });
                mixed.extend(differ);
            }
            for metric in &spec.metrics {
                mark(&mut line, spec.best, |c| columns[c].1 == *metric);
            }
            cells.push(line);
        }
        Self { spec, rows, columns, cells, mixed }
    }

    /// The heading of each column: the row facts, then values and metrics.
    pub fn header(&self) -> Vec<String> {
        let facts = self.spec.rows.iter().map(|fact| title(fact).to_owned());
        let column = |(group, metric): &(Vec<Value>, String)| {
            let named = self.spec.columns.iter().zip(group).filter(|(_, v)| !v.is_null());
            let mut parts: Vec<String> = named
                .map(|(fact, v)| match v {
                    Value::String(text) => text.clone(),
                    other => format!("{} = {}", title(fact), crate::text::value(other)),
                })
                .collect();
            if self.spec.metrics.len() > 1 || parts.is_empty() {
                parts.push(title(metric).to_owned());
            }
            parts.join(", ")
        };
        facts.chain(self.columns.iter().map(column)).collect()
    }

    /// A cell as text: a mean and half of its interval, or a share: `1 of 10, 2 to 40 %`.
    pub fn text(&self, cell: &Cell) -> (String, Option<String>) {
        if let Some(count) = cell.count {
            return (share::in_words(count, cell.n, CONFIDENCE), None);
        }
        let scale = if self.spec.format == Format::Percent { 100.0 } else { 1.0 };
        let digits = self.spec.decimals;
        let half = cell.interval.map(|(low, high)| (high - low) / 2.0 * scale);
        (format!("{:.digits$}", cell.mean * scale), half.map(|h| format!("{h:.digits$}")))
    }

    /// What the numbers are. Names that the study chose go through `escape`.
    pub fn note(&self, escape: fn(&str) -> String) -> String {
        let cells = || self.cells.iter().flatten().flatten();
        let mut parts = Vec::new();
        if !self.spec.at.is_empty() {
            parts.push(format!("Runs with {}.", escape(&dissim_claims::words(&self.spec.at))));
        }
        if cells().any(|cell| cell.count.is_none()) || cells().next().is_none() {
            let unit = if self.spec.format == Format::Percent { "Percent. " } else { "" };
            parts.push(format!("{unit}Mean ± half of the 95 % interval over runs (Student's t)."));
        }
        if cells().any(|cell| cell.count.is_some()) {
            parts.push("A share is a count of runs, with Wilson's 95 % interval.".to_owned());
        }
        if self.spec.best != Best::Unmarked {
            let marks = "Bold: the best of its row; underlined: within the interval of the best.";
            parts.push(marks.to_owned());
        }
        if !self.mixed.is_empty() {
            let names = self.mixed.iter().map(|name| escape(name)).collect::<Vec<_>>().join(", ");
            parts.push(format!("Left empty where runs of several settings met, which differ in {names}: name them under `rows`, `columns` or `at`."));
        }
        parts.join(" ")
    }
}

/// The heading of a fact or metric.
pub(crate) fn title(name: &str) -> &str {
    match name {
        "n_bg" => "N",
        "lambda" => "λ",
        "tau" => "τ",
        "id_acc" => "ID",
        "ood_acc" => "OOD",
        "conflict_acc" => "conflict",
        "black_acc" => "black",
        "background_only_acc" => "background only",
        other => other,
    }
}

/// The values of these facts in a run.
fn key(run: &Row, facts: &[String]) -> Vec<Value> {
    facts.iter().map(|fact| run.get(fact).cloned().unwrap_or(Value::Null)).collect()
}

/// The different values of these facts, in the order of their values.
fn keys(runs: &[&Row], facts: &[String]) -> Vec<Vec<Value>> {
    let mut seen = BTreeSet::new();
    let mut found: Vec<Vec<Value>> = Vec::new();
    for run in runs {
        let key = key(run, facts);
        if seen.insert(serde_json::to_string(&key).unwrap_or_default()) {
            found.push(key);
        }
    }
    let sortable = |key: &Vec<Value>| key.iter().map(dissim_claims::sort_key).collect::<Vec<_>>();
    found.sort_by_key(sortable);
    found
}

fn cell(values: &[&Value]) -> Option<Cell> {
    let flags: Vec<bool> = values.iter().filter_map(|v| v.as_bool()).collect();
    if !flags.is_empty() {
        let (n, yes) = (flags.len(), flags.iter().filter(|f| **f).count());
        let interval = share::wilson(yes, n, CONFIDENCE).map(|i| (i.low, i.high));
        let mean = yes as f64 / n as f64;
        return Some(Cell { n, count: Some(yes), mean, interval, mark: Mark::Plain });
    }
    let numbers: Vec<f64> = values.iter().filter_map(|v| v.as_f64()).collect();
    let (mean, _, interval) = student::summary(&numbers, CONFIDENCE)?;
    let interval = interval.map(|i| (i.low, i.high));
    Some(Cell { n: numbers.len(), count: None, mean, interval, mark: Mark::Plain })
}

/// Marks the best cell of one metric, and those whose mean lies in its interval.
fn mark(line: &mut [Option<Cell>], best: Best, of_metric: impl Fn(usize) -> bool) {
    let sign = match best {
        Best::Highest => 1.0,
        Best::Lowest => -1.0,
        Best::Unmarked => return,
    };
    let mut cells: Vec<&mut Cell> = line
        .iter_mut()
        .enumerate()
        .filter(|(c, _)| of_metric(*c))
        .filter_map(|(_, cell)| cell.as_mut())
        .collect();
    // Of one cell there is no best.
    if cells.len() < 2 {
        return;
    }
    let most = cells.iter().map(|c| sign * c.mean).fold(f64::NEG_INFINITY, f64::max);
    let interval = cells.iter().find(|c| sign * c.mean == most).and_then(|c| c.interval);
    for cell in &mut cells {
        let within = interval.is_some_and(|(low, high)| (low..=high).contains(&cell.mean));
        cell.mark = match sign * cell.mean == most {
            true => Mark::Best,
            false if within => Mark::Close,
            false => Mark::Plain,
        };
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::compile;
