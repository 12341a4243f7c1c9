//! The summary as a table that people read: percent, one decimal, mean and half-width.

use std::collections::BTreeSet;

use dissim_statistics::share;
use polars::prelude::*;

use crate::text;

/// The table in Markdown, with a note on what its numbers are. `mixed` are the factors in which runs
/// of one group differ.
pub(crate) fn summary(
    table: &DataFrame,
    groups: &[String],
    mixed: &BTreeSet<String>,
    confidence: f64,
) -> PolarsResult<String> {
    let mut header: Vec<String> = groups.iter().map(|g| text::markdown(title(g))).collect();
    header
        .extend(["runs", "ID %", "OOD %", "OOD %, alive", "dead", "similarity"].map(str::to_owned));
    let mut rows = vec![header];
    let number = |name: &str, row: usize| -> PolarsResult<Option<f64>> {
        Ok(table.column(name)?.cast(&DataType::Float64)?.f64()?.get(row))
    };
    let interval = |metric: &str, row: usize, scale: f64, digits: usize| -> PolarsResult<String> {
        let Some(mean) = number(&format!("{metric}_mean"), row)? else { return Ok("-".into()) };
        let text = format!("{:.digits$}", mean * scale);
        Ok(match number(&format!("{metric}_high"), row)? {
            Some(high) => format!("{text} ± {:.digits$}", (high - mean) * scale),
            None => text,
        })
    };
    for row in 0..table.height() {
        let mut cells = Vec::new();
        for group in groups {
            cells.push(shown(&table.column(group)?.get(row)?));
        }
        let n = number("n", row)?.unwrap_or_default();
        let dead = |dead: f64| share::in_words(dead as usize, n as usize, confidence);
        cells.push(format!("{n:.0}"));
        cells.push(interval("id_acc", row, 100.0, 1)?);
        cells.push(interval("ood_acc", row, 100.0, 1)?);
        cells.push(interval("ood_acc_alive", row, 100.0, 1)?);
        cells.push(number("dead", row)?.map_or("-".into(), dead));
        cells.push(interval("same_group_similarity", row, 1.0, 3)?);
        rows.push(cells);
    }
    let left_out = match mixed.is_empty() {
        true => String::new(),
        false => format!(
            " Left empty where runs of several settings met, which differ in {}: name them under `group_by`.",
            mixed.iter().map(|name| text::markdown(name)).collect::<Vec<_>>().join(", ")
        ),
    };
    let note = format!(
        "Mean ± half of the {:.0} % interval (Student's t over seeds). A run is dead below 20 % on the ID test: \
         a count with Wilson's interval. OOD is over all runs, then over the alive ones. \
         Similarity: mean cosine of pairs with one label and one background.{left_out}\n",
        confidence * 100.0
    );
    Ok(lines(&rows) + "\n" + &note)
}

/// A heading for a fact.
fn title(fact: &str) -> &str {
    match fact {
        "n_bg" => "N",
        other => other,
    }
}

fn shown(value: &AnyValue<'_>) -> String {
    match value {
        AnyValue::Null => "-".to_owned(),
        AnyValue::String(words) => text::markdown(words),
        AnyValue::Float64(number) => format!("{number}"),
        other => text::markdown(&other.to_string()),
    }
}

/// Cells padded to columns; text to the left, all else to the right.
fn lines(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |c: usize| rows.iter().map(|r| r[c].chars().count()).max().unwrap_or(0).max(3);
    let right = |c: usize| {
        rows.iter().skip(1).all(|r| r[c].starts_with(|x: char| x.is_ascii_digit() || x == '-'))
    };
    let mut text = String::new();
    for (i, row) in rows.iter().enumerate() {
        for (c, cell) in row.iter().enumerate() {
            let pad = " ".repeat(width(c) - cell.chars().count());
            text += &if right(c) { format!("| {pad}{cell} ") } else { format!("| {cell}{pad} ") };
        }
        text += "|\n";
        if i == 0 {
            for c in 0..columns {
                let dashes = "-".repeat(width(c) + 1);
                text += &if right(c) { format!("|{dashes}:") } else { format!("|:{dashes}") };
            }
            text += "|\n";
        }
    }
    text
}
