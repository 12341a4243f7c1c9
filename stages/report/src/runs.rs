//! The runs of a study, as the report needs them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use dissim_claims::Row;
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
    /// The facts, beyond those above, in which runs of a study may differ.
    pub variant: BTreeMap<String, String>,
}

/// The column in which `aggregate` names what a run departs in, `plain` where in nothing.
pub(crate) const VARIANT: &str = "variant";

/// The runs that are compared with each other: the plain ones; where a table does not say which those
/// are, of each method those of its commonest variant. A study may also hold runs with other pairs,
/// another network or another sampler; a mean over all of them would be a mean of nothing.
pub(crate) fn plain(runs: &[Run]) -> Vec<Run> {
    let is_plain = |r: &&Run| r.variant.get(VARIANT).is_some_and(|v| v == "plain");
    if runs.iter().any(|r| is_plain(&r)) {
        return runs.iter().filter(is_plain).cloned().collect();
    }
    let methods = distinct(runs.iter().map(|r| r.method.clone()));
    let commonest = |method: &String| {
        let mut counts: BTreeMap<&BTreeMap<String, String>, usize> = BTreeMap::new();
        for run in runs.iter().filter(|r| r.method == *method) {
            *counts.entry(&run.variant).or_default() += 1;
        }
        let most = counts.into_iter().max_by(|a, b| (a.1, b.0).cmp(&(b.1, a.0)));
        most.map(|(variant, _)| (method.clone(), variant.clone()))
    };
    let chosen: BTreeMap<_, _> = methods.iter().filter_map(commonest).collect();
    runs.iter().filter(|r| chosen.get(&r.method) == Some(&r.variant)).cloned().collect()
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
pub(crate) fn read(table: &DataFrame, path: &Path) -> Result<Vec<Run>, StageError> {
    rows(table).or_fail("the table of runs cannot be read", path)
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

fn rows(table: &DataFrame) -> PolarsResult<Vec<Run>> {
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
    let variants = variants(table);
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
        variant: variants[i].clone(),
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

/// For each run the facts that are neither an axis of the figures nor a result.
fn variants(table: &DataFrame) -> Vec<BTreeMap<String, String>> {
    if table.column(VARIANT).is_ok() {
        let named = words(table, VARIANT).into_iter();
        return named.map(|v| [(VARIANT.to_owned(), v.unwrap_or_default())].into()).collect();
    }
    let varying: Vec<&Column> = table.columns().iter().filter(|c| crate::data::varies(c)).collect();
    let value = |c: &Column, i: usize| c.get(i).map(|v| v.to_string()).unwrap_or_default();
    let of = |i: usize| varying.iter().map(|c| (c.name().to_string(), value(c, i))).collect();
    (0..table.height()).map(of).collect()
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

    #[test]
    fn variants_are_not_mixed() {
        let run = |method: &str, pairs: &str, seed: i64| Run {
            method: method.into(),
            seed,
            variant: [("pairs".to_owned(), pairs.to_owned())].into(),
            ..Run::default()
        };
        let mut runs = vec![run("erm", "null", 0), run("erm", "null", 1)];
        runs.extend((0..3).map(|s| run("dissimilarity", "label_and_background", s)));
        runs.extend((0..2).map(|s| run("dissimilarity", "label", s)));
        let kept = plain(&runs);
        assert_eq!(kept.len(), 5);
        assert!(kept.iter().all(|r| r.variant["pairs"] != "label"));
        // Where the table says which are plain, it is believed.
        let named = |variant: &str| Run {
            variant: [(VARIANT.to_owned(), variant.to_owned())].into(),
            ..Run::default()
        };
        let kept = plain(&[named("plain"), named("tau = 0.1"), named("tau = 0.1")]);
        assert_eq!(kept, [named("plain")]);
    }
}
