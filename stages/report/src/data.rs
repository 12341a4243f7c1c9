//! What the page's charts are drawn from: runs and epochs by column, and what they are compared at.

use std::path::Path;

use dissim_api::StageError;
use dissim_statistics::{share, student};
use polars::prelude::*;
use serde_json::{Value, json};

use crate::runs::{Run, VARIANT, distinct, generic, main_lambda, sweep, table};

/// Columns of `epochs.parquet` that tell runs apart.
const FACTS: [&str; 6] = ["n_bg", "method", "lambda", "seed", "data_seed", "epoch"];

/// The page's data; `typed` are the runs that are compared. `epochs.parquet` may be missing from the
/// results.
///
/// # Errors
/// When a table is damaged.
pub(crate) fn of(runs: &DataFrame, results: &Path, typed: &[Run]) -> Result<Value, StageError> {
    let epochs = results.join("epochs.parquet");
    let epochs = if epochs.is_file() {
        columnar(&slim(table(&epochs)?))
    } else {
        columnar(&DataFrame::empty())
    };
    let metrics = runs
        .columns()
        .iter()
        .filter(|c| is_metric(c) && !c.dtype().is_null())
        .map(|c| c.name().as_str());
    // One column names what a run departs in, where there is one.
    let named = runs.column(VARIANT).is_ok();
    let shown = |c: &&Column| varies(c) && (!named || c.name().as_str() == VARIANT);
    let varying = runs.columns().iter().filter(shown).map(|c| c.name().as_str());
    let compared: Vec<_> = typed.iter().filter_map(|r| r.task.clone()).collect();
    let (sweep_n, dead) = sweep(typed).map_or((None, Vec::new()), |n| (Some(n), dead(typed, n)));
    Ok(json!({
        "runs": columnar(runs),
        "epochs": epochs,
        "metrics": metrics.collect::<Vec<_>>(),
        "varying": varying.collect::<Vec<_>>(),
        // The tasks of the runs that charts compare.
        "compared": compared,
        "main_lambda": main_lambda(typed),
        "sweep_n": sweep_n,
        "dead": dead,
        // Student's t at 97.5 % for 1, 2, .. degrees of freedom.
        "t": (1..=60).map(|df| student::quantile(0.975, f64::from(df))).collect::<Vec<_>>(),
    }))
}

/// What runs are measured by.
fn is_metric(column: &Column) -> bool {
    dissim_aggregate::METRICS.contains(&column.name().as_str())
}

/// Facts, beyond the study's own axes, in which the runs differ. What a method is told follows from it.
pub(crate) fn varies(column: &Column) -> bool {
    let shown = ["n_bg", "method", "lambda", "seed", "data_seed", "task", "embed", "told"];
    let known = shown.contains(&column.name().as_str());
    !known && !is_metric(column) && column.as_materialized_series().n_unique().unwrap_or(1) > 1
}

/// A table as lists: names once, then the rows.
fn columnar(table: &DataFrame) -> Value {
    let columns: Vec<_> = table.get_column_names().iter().map(|n| n.as_str().to_owned()).collect();
    let rows: Vec<Vec<Value>> = generic(table)
        .into_iter()
        .map(|mut row| columns.iter().map(|c| row.remove(c).unwrap_or_default()).collect())
        .collect();
    json!({ "columns": columns, "rows": rows })
}

/// Six digits say enough in a curve; facts that no curve needs are left out.
fn slim(epochs: DataFrame) -> DataFrame {
    let columns = epochs.columns().iter().filter_map(|column| {
        let numeric =
            column.dtype().is_primitive_numeric() && !FACTS.contains(&column.name().as_str());
        if !numeric {
            return FACTS.contains(&column.name().as_str()).then(|| column.clone());
        }
        let values = column.cast(&DataType::Float64).ok()?;
        let rounded = values.f64().ok()?.iter().map(|v| v.map(six_digits)).collect::<Vec<_>>();
        Some(Column::new(column.name().clone(), rounded))
    });
    let columns: Vec<_> = columns.collect();
    DataFrame::new(epochs.height(), columns).unwrap_or(epochs)
}

fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Dead runs at each lambda of the sweep, with Wilson's interval in percent.
fn dead(runs: &[Run], n: i64) -> Vec<Value> {
    let swept = || runs.iter().filter(move |r| r.n_bg == n && r.method == "dissimilarity");
    distinct(swept().filter_map(|r| r.lambda))
        .into_iter()
        .map(|lambda| {
            let here: Vec<_> = swept().filter(|r| r.lambda == Some(lambda)).collect();
            let count = here.iter().filter(|r| r.dead).count();
            let interval = share::wilson(count, here.len(), 0.95);
            let (low, high) = interval.map_or((0.0, 1.0), |i| (i.low, i.high));
            json!({ "dead": count, "n": here.len(), "low": low * 100.0, "high": high * 100.0 })
        })
        .collect()
}
