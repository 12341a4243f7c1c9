//! The runs of a study, as the report needs them.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use dissim_aggregate::ColumnRoles;
use dissim_api::{IoContext, StageError};
use dissim_claims::{Row, RunTable};
use polars::prelude::*;
use serde::Serialize;
use serde_json::{Number, Value};

/// One run. Accuracies are fractions.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Run {
    pub method: String,
    pub lambda: Option<f64>,
    pub n_bg: i64,
    pub seed: i64,
    pub id_acc: Option<f64>,
    pub ood_acc: Option<f64>,
    pub conflict_acc: Option<f64>,
    pub black_acc: Option<f64>,
    pub background_only_acc: Option<f64>,
    pub similarity: Option<f64>,
    pub dead: bool,
    /// The task behind it.
    pub task: Option<String>,
    /// The threshold of its pairs, where they are chosen by one.
    pub tau: Option<f64>,
    /// What its method is told beside images and labels.
    pub told: Option<String>,
    /// The factors in which the run departs from the plain ones, `plain` if in none; empty if the
    /// table does not say.
    pub variant: String,
    /// Every factor.
    pub setting: Row,
    /// Its row in the table of runs.
    pub index: usize,
}

/// The column in which `aggregate` names what a run departs in, `plain` where in nothing.
pub(crate) const VARIANT: &str = "variant";

/// The runs that charts and the headline compare: the plain ones. A study may also hold runs with
/// other pairs, another network or another sampler; those are in the tables.
pub(crate) fn plain(runs: &[Run]) -> Vec<Run> {
    runs.iter().filter(|r| r.variant.is_empty() || r.variant == "plain").cloned().collect()
}

/// The columns in which runs differ although runs that are averaged may not: their factors. If the
/// factors are equal, several runs of one seed are a mixture too.
pub(crate) fn mixture<'a>(runs: impl IntoIterator<Item = &'a Run>) -> BTreeSet<String> {
    let runs: Vec<&Run> = runs.into_iter().collect();
    let Some(first) = runs.first() else { return BTreeSet::new() };
    let differs =
        |name: &&String| runs.iter().any(|r| r.setting.get(*name) != first.setting.get(*name));
    let found: BTreeSet<String> = first.setting.keys().filter(differs).cloned().collect();
    let repeated = distinct(runs.iter().map(|r| r.seed)).len() < runs.len();
    if found.is_empty() && repeated { ["task".to_owned()].into() } else { found }
}

/// The factors, beside those that are named, in which two sides of a comparison differ. A factor that
/// does not apply to one side, and so is null there, is no difference.
pub(crate) fn disagreement(a: &[&Run], b: &[&Run], named: &[&str]) -> BTreeSet<String> {
    let Some((a, b)) = a.first().zip(b.first()) else { return BTreeSet::new() };
    let of = |run: &Run, name: &str| run.setting.get(name).filter(|v| !v.is_null()).cloned();
    let differs = |name: &&String| {
        let both = of(a, name).zip(of(b, name));
        !named.contains(&name.as_str()) && both.is_some_and(|(a, b)| a != b)
    };
    a.setting.keys().filter(differs).cloned().collect()
}

/// What a caption says of runs that were left out because they are of several settings.
pub(crate) fn left_out(names: &BTreeSet<String>) -> String {
    if names.is_empty() {
        return String::new();
    }
    let names = names.iter().cloned().collect::<Vec<_>>().join(", ");
    format!(" Left out where runs of several settings met, which differ in {names}.")
}

/// Reads a Parquet table.
///
/// # Errors
/// When it is missing or damaged.
pub(crate) fn table(path: &Path) -> Result<DataFrame, StageError> {
    let file = File::open(path).or_fail("cannot read", path)?;
    ParquetReader::new(file).finish().or_fail("not a Parquet table", path)
}

/// The runs in `runs.parquet`.
///
/// # Errors
/// When the table lacks a column.
pub(crate) fn read(
    table: &DataFrame,
    roles: &ColumnRoles,
    path: &Path,
) -> Result<Vec<Run>, StageError> {
    rows(table, roles).or_fail("the table of runs cannot be read", path)
}

/// The runs as claims and tables see them.
pub(crate) fn run_table(table: &DataFrame, roles: &ColumnRoles) -> RunTable {
    RunTable::new(generic(table), roles.factors.clone(), roles.replicates.clone())
}

/// Every row of a table, column to value: what claims and tables are made from.
pub(crate) fn generic(table: &DataFrame) -> Vec<Row> {
    let value = |column: &Column, i: usize| match column.get(i).unwrap_or(AnyValue::Null) {
        AnyValue::Boolean(flag) => Value::Bool(flag),
        AnyValue::String(text) => Value::String(text.to_owned()),
        AnyValue::StringOwned(text) => Value::String(text.to_string()),
        other => match (other.is_integer(), other.extract::<i64>(), other.extract::<f64>()) {
            (true, Some(whole), _) => whole.into(),
            // What is not finite has no place in JSON.
            (_, _, Some(number)) => Number::from_f64(number).map_or(Value::Null, Value::Number),
            _ => Value::Null,
        },
    };
    let row = |i| table.columns().iter().map(|c| (c.name().to_string(), value(c, i))).collect();
    (0..table.height()).map(row).collect()
}

fn rows(table: &DataFrame, roles: &ColumnRoles) -> PolarsResult<Vec<Run>> {
    let numbers = |name: &str| -> PolarsResult<Vec<Option<f64>>> {
        Ok(table.column(name)?.cast(&DataType::Float64)?.f64()?.to_vec())
    };
    let whole = |name: &str| -> PolarsResult<Vec<i64>> {
        let column = table.column(name)?.cast(&DataType::Int64)?;
        Ok(column.i64()?.iter().map(Option::unwrap_or_default).collect())
    };
    let methods = table.column("method")?.str()?.clone();
    let (lambda, n_bg, seed) = (numbers("lambda")?, whole("n_bg")?, whole("seed")?);
    let (id, ood) = (numbers("id_acc")?, numbers("ood_acc")?);
    let (conflict, black) = (numbers("conflict_acc")?, numbers("black_acc")?);
    let background = numbers("background_only_acc")?;
    let similarity = numbers("same_group_similarity")?;
    let dead = table.column("dead")?.bool()?.clone();
    let (task, told) = (words(table, "task"), words(table, "told"));
    let tau = match table.column("tau") {
        Ok(column) => column.cast(&DataType::Float64)?.f64()?.to_vec(),
        Err(_) => vec![None; table.height()],
    };
    let variants = words(table, VARIANT);
    let mut settings = generic(table);
    for setting in &mut settings {
        setting.retain(|name, _| roles.factors.contains(name));
    }
    let run = |i: usize| Run {
        method: methods.get(i).unwrap_or_default().to_owned(),
        lambda: lambda[i],
        n_bg: n_bg[i],
        seed: seed[i],
        id_acc: id[i],
        ood_acc: ood[i],
        conflict_acc: conflict[i],
        black_acc: black[i],
        background_only_acc: background[i],
        similarity: similarity[i],
        dead: dead.get(i).unwrap_or_default(),
        task: task[i].clone(),
        tau: tau[i],
        told: told[i].clone(),
        variant: variants[i].clone().unwrap_or_default(),
        setting: settings[i].clone(),
        index: i,
    };
    Ok((0..table.height()).map(run).collect())
}

/// A column of text; none where the table has no such column.
pub(crate) fn words(table: &DataFrame, name: &str) -> Vec<Option<String>> {
    let column = table.column(name).ok().and_then(|c| c.str().ok());
    column.map_or_else(
        || vec![None; table.height()],
        |c| c.iter().map(|v| v.map(str::to_owned)).collect(),
    )
}

/// A column of numbers; none where the table has no such column.
pub(crate) fn numbers(table: &DataFrame, name: &str) -> Vec<Option<f64>> {
    let column = table.column(name).ok().and_then(|c| c.cast(&DataType::Float64).ok());
    column
        .and_then(|c| c.f64().ok().map(|values| values.to_vec()))
        .unwrap_or_else(|| vec![None; table.height()])
}

/// The values of a fact that occur, sorted, each once.
pub(crate) fn distinct<T: PartialOrd>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut found: Vec<T> = Vec::new();
    for value in values {
        if !found.contains(&value) {
            found.push(value);
        }
    }
    found.sort_by(|a, b| a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal));
    found
}

/// The lambda that dissimilarity loss was run with at most N: the one that methods are compared at.
pub(crate) fn main_lambda(runs: &[Run]) -> Option<f64> {
    // Another method's lambda weighs another term.
    let ours = || runs.iter().filter(|r| r.method == "dissimilarity");
    let lambdas = distinct(ours().filter_map(|r| r.lambda));
    let reach =
        |lambda: &f64| distinct(ours().filter(|r| r.lambda == Some(*lambda)).map(|r| r.n_bg)).len();
    lambdas.into_iter().rev().max_by_key(reach)
}

/// The N with the longest sweep of lambda, if one has more than one.
pub(crate) fn sweep(runs: &[Run]) -> Option<i64> {
    let swept = || runs.iter().filter(|r| r.method == "dissimilarity" && r.lambda.is_some());
    let reach = |n: &i64| distinct(swept().filter(|r| r.n_bg == *n).filter_map(|r| r.lambda)).len();
    distinct(swept().map(|r| r.n_bg)).into_iter().max_by_key(reach).filter(|n| reach(n) > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(variant: &str, seed: i64, lr: f64) -> Run {
        let setting = [("lr".to_owned(), lr.into())].into();
        Run { variant: variant.into(), seed, setting, ..Run::default() }
    }

    #[test]
    fn plain_runs_are_compared() {
        let kept = plain(&[run("plain", 0, 0.1), run("tau = 0.1", 0, 0.1), run("", 0, 0.1)]);
        assert_eq!(kept, [run("plain", 0, 0.1), run("", 0, 0.1)]);
        // Where every run departs, none stands for the others.
        assert_eq!(plain(&[run("a = 1", 0, 0.1), run("b = 1", 0, 0.1)]), []);
    }

    #[test]
    fn mixture_is_any_other_setting_and_any_seed_twice() {
        let names = |runs: &[Run]| mixture(runs).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&[run("", 0, 0.1), run("", 1, 0.1)]), "");
        assert_eq!(names(&[run("", 0, 0.1), run("", 1, 0.2)]), "lr");
        assert_eq!(names(&[run("", 0, 0.1), run("", 0, 0.1)]), "task");
        let (a, b) = (run("", 0, 0.1), run("", 0, 0.2));
        assert_eq!(disagreement(&[&a], &[&b], &[]).len(), 1);
        assert!(disagreement(&[&a], &[&b], &["lr"]).is_empty());
    }
}
