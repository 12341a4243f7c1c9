//! A table as files: CSV and Parquet with a cell a row, Markdown and LaTeX for people.

use std::fs::{self, File};
use std::path::Path;

use dissim_api::{IoContext, StageError};
use polars::prelude::*;
use serde_json::Value;

use super::Grid;
use crate::text;

/// Writes `folder/NAME.{csv,parquet,md,tex}`.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn write(grid: &Grid, folder: &Path) -> Result<(), StageError> {
    let base = folder.join(&grid.spec.name);
    let mut frame = frame(grid).or_fail("cannot build the table", &base)?;
    let path = base.with_extension("csv");
    dissim_aggregate::write_csv(&frame, &path)?;
    let path = base.with_extension("parquet");
    let file = File::create(&path).or_fail("cannot write", &path)?;
    let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed);
    writer.finish(&mut frame).or_fail("cannot write", &path)?;
    for (extension, text) in [("md", grid.markdown()), ("tex", grid.latex())] {
        let path = base.with_extension(extension);
        fs::write(&path, text).or_fail("cannot write", &path)?;
    }
    Ok(())
}

/// One row per cell: facts, metric, n, the mean of a number or the count of a share, and the ends of
/// its interval.
fn frame(grid: &Grid) -> PolarsResult<DataFrame> {
    let mut cells = Vec::new();
    for (row, line) in grid.rows.iter().zip(&grid.cells) {
        for ((group, metric), cell) in grid.columns.iter().zip(line) {
            cells.extend(cell.as_ref().map(|cell| (row, group, metric, cell)));
        }
    }
    let mut columns: Vec<Column> = Vec::new();
    for (i, fact) in grid.spec.rows.iter().enumerate() {
        let values: Vec<_> = cells.iter().map(|(row, ..)| fact_text(&row[i])).collect();
        columns.push(Column::new(fact.as_str().into(), values));
    }
    for (i, fact) in grid.spec.columns.iter().enumerate() {
        // A fact may make rows and columns at once; the table needs it once.
        if !grid.spec.rows.contains(fact) {
            let values: Vec<_> = cells.iter().map(|(_, group, ..)| fact_text(&group[i])).collect();
            columns.push(Column::new(fact.as_str().into(), values));
        }
    }
    let metrics: Vec<_> = cells.iter().map(|(_, _, metric, _)| metric.as_str()).collect();
    let number = |name: &str, value: fn(&super::Cell) -> Option<f64>| {
        Column::new(name.into(), cells.iter().map(|(.., c)| value(c)).collect::<Vec<_>>())
    };
    columns.push(Column::new("metric".into(), metrics));
    columns
        .push(Column::new("n".into(), cells.iter().map(|(.., c)| c.n as i64).collect::<Vec<_>>()));
    let shares = cells.iter().filter(|(.., c)| c.count.is_some()).count();
    if shares > 0 {
        let counts = cells.iter().map(|(.., c)| c.count.map(|count| count as i64));
        columns.push(Column::new("count".into(), counts.collect::<Vec<_>>()));
    }
    if shares < cells.len() || cells.is_empty() {
        columns.push(number("mean", |c| c.count.is_none().then_some(c.mean)));
    }
    columns.push(number("low", |c| c.interval.map(|i| i.0)));
    columns.push(number("high", |c| c.interval.map(|i| i.1)));
    DataFrame::new(cells.len(), columns)
}

/// A fact as text; null is empty.
fn fact_text(value: &Value) -> Option<String> {
    (!value.is_null()).then(|| text::value(value))
}
