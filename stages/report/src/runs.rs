//! The runs of a study, as the report needs them.

use std::fs::File;
use std::path::Path;

use dissim_api::{IoContext, StageError};
use dissim_claims::Row;
use polars::prelude::*;
use serde::Serialize;
use serde_json::{Number, Value};

/// One run. Accuracies are fractions.
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    };
    Ok((0..table.height()).map(run).collect())
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

/// The lambda that most N were run with: the one that the methods are compared at.
pub(crate) fn main_lambda(runs: &[Run]) -> Option<f64> {
    let lambdas = distinct(runs.iter().filter_map(|r| r.lambda));
    let reach = |lambda: &f64| {
        distinct(runs.iter().filter(|r| r.lambda == Some(*lambda)).map(|r| r.n_bg)).len()
    };
    lambdas.into_iter().rev().max_by_key(reach)
}

/// The N with the longest sweep of lambda, if one has more than one.
pub(crate) fn sweep(runs: &[Run]) -> Option<i64> {
    let swept = || runs.iter().filter(|r| r.method == "dissimilarity" && r.lambda.is_some());
    let reach = |n: &i64| distinct(swept().filter(|r| r.n_bg == *n).filter_map(|r| r.lambda)).len();
    distinct(swept().map(|r| r.n_bg)).into_iter().max_by_key(reach).filter(|n| reach(n) > 1)
}
