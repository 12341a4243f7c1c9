//! What the page's charts are drawn from: runs and epochs by column, and what they are compared at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dissim_aggregate::ColumnRoles;
use dissim_api::StageError;
use dissim_statistics::{share, student};
use polars::prelude::*;
use serde_json::{Value, json};

use crate::runs::{
    Run, VARIANT, distinct, generic, main_lambda, mixture, numbers, sweep, table, words,
};
use crate::text;

/// The column of `epochs.parquet` that counts epochs.
const EPOCH: &str = "epoch";

/// The page's data; `typed` are the runs that are compared. `epochs.parquet` may be missing from the
/// results.
///
/// # Errors
/// Returns an error if a table is damaged.
pub(crate) fn of(
    runs: &DataFrame,
    roles: &ColumnRoles,
    results: &Path,
    typed: &[Run],
) -> Result<Value, StageError> {
    let path = results.join("epochs.parquet");
    let curves =
        if path.is_file() { curves(&table(&path)?, runs, roles, typed) } else { Value::Null };
    let metrics = runs
        .columns()
        .iter()
        .filter(|c| roles.metrics.contains(c.name().as_str()) && !c.dtype().is_null());
    // One column names what a run departs in, if there is one.
    let named = runs.column(VARIANT).is_ok();
    let shown = |c: &&Column| varies(c, roles) && (!named || c.name().as_str() == VARIANT);
    let varying = runs.columns().iter().filter(shown).map(|c| c.name().as_str());
    let compared: Vec<_> = typed.iter().map(|r| r.index).collect();
    let (sweep_n, dead) = sweep(typed).map_or((None, Vec::new()), |n| (Some(n), dead(typed, n)));
    Ok(json!({
        "runs": columnar(runs),
        "curves": curves,
        "metrics": metrics.map(|c| c.name().as_str()).collect::<Vec<_>>(),
        // Runs that differ in one of these are never averaged.
        "factors": roles.factors,
        "varying": varying.collect::<Vec<_>>(),
        // The rows of the runs that charts compare.
        "compared": compared,
        "main_lambda": main_lambda(typed),
        "sweep_n": sweep_n,
        "dead": dead,
        // Student's t at 97.5 % for 1, 2, .. degrees of freedom.
        "t": (1..=60).map(|df| student::quantile(0.975, f64::from(df))).collect::<Vec<_>>(),
    }))
}

/// Columns, beyond the study's own axes, in which the runs differ. What a method is told follows from it.
fn varies(column: &Column, roles: &ColumnRoles) -> bool {
    let shown = ["n_bg", "method", "lambda", "seed", "data_seed", "task", "embed", "told"];
    let name = column.name().as_str();
    let known = shown.contains(&name) || roles.metrics.contains(name);
    !known && column.as_materialized_series().n_unique().unwrap_or(1) > 1
}

/// Training curves: what the compared runs logged by epoch, and at each N the runs of each curve. A
/// curve is one setting. The weight of a run is its own, not the one that a schedule gave an epoch.
fn curves(epochs: &DataFrame, table: &DataFrame, roles: &ColumnRoles, runs: &[Run]) -> Value {
    // `pairs` is text in a run, and a count in an epoch of it.
    let of_run = |name: &str| {
        let known = roles.factors.contains(name) || roles.replicates.contains(name);
        known && table.column(name).is_ok_and(|c| c.dtype().is_primitive_numeric())
    };
    let logged: Vec<(&str, Vec<Option<f64>>)> = epochs
        .columns()
        .iter()
        .filter(|c| c.dtype().is_primitive_numeric() && c.name().as_str() != EPOCH)
        .map(|c| c.name().as_str())
        .filter(|name| !of_run(name))
        .map(|name| (name, numbers(epochs, name)))
        .filter(|(_, values)| values.iter().any(Option::is_some))
        .collect();
    let (tasks, epoch) = (words(epochs, "task"), numbers(epochs, EPOCH));
    let index: BTreeMap<&str, usize> =
        runs.iter().filter_map(|r| Some((r.task.as_deref()?, r.index))).collect();
    let row = |row: usize| -> Option<Vec<Value>> {
        let run = *index.get(tasks[row].as_deref()?)?;
        let values = logged.iter().map(|(_, values)| values[row].map(six_digits).into());
        Some([run.into(), epoch[row].into()].into_iter().chain(values).collect())
    };
    let at = |n: i64| {
        let here: Vec<&Run> = runs.iter().filter(|r| r.n_bg == n && r.task.is_some()).collect();
        json!({ "n": n, "series": series(&here) })
    };
    let columns: Vec<&str> =
        ["run", EPOCH].into_iter().chain(logged.iter().map(|(name, _)| *name)).collect();
    json!({
        "metrics": logged.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        "columns": columns,
        "rows": (0..epochs.height()).filter_map(row).collect::<Vec<_>>(),
        "at": distinct(runs.iter().map(|r| r.n_bg)).into_iter().map(at).collect::<Vec<_>>(),
    })
}

/// The runs by their setting, each with its name: the method, its weight, and the factors in which
/// another setting of that name differs.
fn series(runs: &[&Run]) -> Vec<Value> {
    let key = |run: &Run| {
        let lambda = run.lambda.map(|l| dissim_claims::sort_key(&l.into()));
        (run.method.clone(), lambda, Value::from_iter(run.setting.clone()).to_string())
    };
    let mut groups: BTreeMap<_, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        groups.entry(key(run)).or_default().push(run);
    }
    let groups: Vec<Vec<&Run>> = groups.into_values().collect();
    let namesake = |a: &Run, b: &Run| a.method == b.method && a.lambda == b.lambda;
    let one = |group: &Vec<&Run>| {
        let run = group[0];
        let mut name = run.method.clone();
        let mut filter = format!("n_bg={} method={}", run.n_bg, run.method);
        if let Some(lambda) = run.lambda {
            name += &format!(", λ = {lambda}");
            filter += &format!(" lambda={lambda}");
        }
        let others = groups.iter().map(|other| other[0]).filter(|other| namesake(run, other));
        let differ: BTreeSet<String> = others
            .flat_map(|other| {
                let setting = run.setting.iter();
                setting
                    .filter(|(factor, v)| other.setting.get(*factor) != Some(v))
                    .map(|(f, _)| f.clone())
            })
            .collect();
        for factor in differ {
            let value = text::value(run.setting.get(&factor).unwrap_or(&Value::Null));
            name += &format!(", {factor} = {value}");
            filter += &format!(" {factor}={value}");
        }
        json!({ "name": name, "filter": filter, "mixed": mixture(group.iter().copied()),
                "runs": group.iter().map(|r| r.index).collect::<Vec<_>>() })
    };
    groups.iter().map(one).collect()
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

/// Six digits say enough in a curve.
fn six_digits(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// Dead runs at each lambda of the sweep, with Wilson's interval in percent; null where the runs are of
/// several settings.
fn dead(runs: &[Run], n: i64) -> Vec<Value> {
    let swept = || runs.iter().filter(move |r| r.n_bg == n && r.method == "dissimilarity");
    distinct(swept().filter_map(|r| r.lambda))
        .into_iter()
        .map(|lambda| {
            let here: Vec<_> = swept().filter(|r| r.lambda == Some(lambda)).collect();
            if !mixture(here.iter().copied()).is_empty() {
                return Value::Null;
            }
            let count = here.iter().filter(|r| r.dead).count();
            let interval = share::wilson(count, here.len(), 0.95);
            let (low, high) = interval.map_or((0.0, 1.0), |i| (i.low, i.high));
            json!({ "dead": count, "n": here.len(), "low": low * 100.0, "high": high * 100.0 })
        })
        .collect()
}
