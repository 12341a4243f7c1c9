//! Runs by group: n, mean, deviation, interval, dead share.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dissim_api::{IoContext, StageError};
use dissim_statistics::{Interval, share, student};
use polars::prelude::*;

use crate::{ColumnRoles, METRICS, REPEATS, TASK, columns, variant};

/// The facts that always make a group where they are there: the study's own axes, first.
const ALWAYS: [&str; 3] = ["n_bg", "method", "lambda"];
/// Metrics that are summarised, dead runs apart.
const SUMMARISED: [&str; 16] = [
    "id_acc",
    "ood_acc",
    "id_val_acc",
    "bg_val_acc",
    "conflict_acc",
    "black_acc",
    "background_only_acc",
    "same_group_similarity",
    "same_label_similarity",
    "cross_entropy",
    "ood_acc@id_val",
    "ood_acc@bg_val",
    "ood_acc@oracle",
    "probe_digit_acc",
    "probe_background_acc",
    "embedding_rank",
];

/// The columns that make a group.
///
/// # Errors
/// When the user names a column that is not there, or that is a metric.
pub(crate) fn group_columns(runs: &DataFrame, given: &[String]) -> Result<Vec<String>, StageError> {
    let names = runs.get_column_names().into_iter().map(PlSmallStr::as_str).collect::<Vec<_>>();
    if !given.is_empty() {
        for name in given {
            if !names.contains(&name.as_str()) || METRICS.contains(&name.as_str()) {
                let facts: Vec<_> =
                    names.iter().filter(|n| !METRICS.contains(n)).copied().collect();
                return Err(StageError::new(format!(
                    "`group_by` names `{name}`, which is no fact of the runs"
                ))
                .help(format!("facts are {}", facts.join(", "))));
            }
        }
        return Ok(given.to_vec());
    }
    let varies = |name: &&str| {
        let column = runs.column(name).map(|c| c.as_materialized_series().n_unique().unwrap_or(1));
        column.unwrap_or(1) > 1
    };
    let always = ALWAYS.into_iter().filter(|n| names.contains(n));
    // What follows from the method alone says nothing new: `embed` does where no variant names it.
    let follows = |n: &str| n == "embed" && !variant::names(runs, n);
    let others = names.iter().copied().filter(|n| {
        !METRICS.contains(n) && !REPEATS.contains(n) && !ALWAYS.contains(n) && !follows(n)
    });
    Ok(always.chain(others.filter(varies)).map(str::to_owned).collect())
}

/// One row per group, in the order of the runs, and the factors in which runs of one group differ
/// although they are no group columns. The statistics of such a group are null.
///
/// # Errors
/// Returns an error if polars cannot group the runs.
pub(crate) fn summarise(
    runs: &DataFrame,
    roles: &ColumnRoles,
    groups: &[String],
    confidence: f64,
    path: &Path,
) -> Result<(DataFrame, BTreeSet<String>), StageError> {
    build(runs, roles, groups, confidence).or_fail("cannot summarise runs", path)
}

fn build(
    runs: &DataFrame,
    roles: &ColumnRoles,
    groups: &[String],
    confidence: f64,
) -> PolarsResult<(DataFrame, BTreeSet<String>)> {
    let keys: Vec<Expr> = groups.iter().map(|g| col(g.as_str())).collect();
    let metrics: Vec<&str> = SUMMARISED.into_iter().filter(|m| runs.column(m).is_ok()).collect();
    // Values by group, as lists: each statistic is then a function of a few numbers.
    let mut lists: Vec<Expr> = metrics.iter().map(|m| col(*m).cast(DataType::Float64)).collect();
    lists.push(col("dead").cast(DataType::Float64));
    lists.push(col(ROW).cast(DataType::Float64));
    let runs = runs.with_row_index(ROW.into(), None)?;
    let grouped = if keys.is_empty() {
        runs.clone()
            .lazy()
            .select(lists.into_iter().map(|l| l.implode(true)).collect::<Vec<_>>())
            .collect()?
    } else {
        runs.clone().lazy().group_by_stable(keys).agg(lists).collect()?
    };
    let values = |name: &str, row: usize| -> PolarsResult<Vec<Option<f64>>> {
        let list = grouped.column(name)?.list()?.get_as_series(row);
        Ok(list.map(|s| s.f64().map(|c| c.to_vec())).transpose()?.unwrap_or_default())
    };
    let height = grouped.height();
    let mut columns: Vec<Column> =
        groups.iter().map(|g| grouped.column(g).cloned()).collect::<PolarsResult<_>>()?;
    let members: Vec<Vec<usize>> = (0..height)
        .map(|r| Ok(values(ROW, r)?.into_iter().flatten().map(|row| row as usize).collect()))
        .collect::<PolarsResult<_>>()?;
    let mixtures = mixtures(&runs, roles, &members);
    // A group that is a mixture has a count of runs and no statistics.
    let values = |name: &str, row: usize| match mixtures[row].is_empty() {
        true => values(name, row),
        false => Ok(Vec::new()),
    };
    let dead: Vec<Vec<Option<f64>>> =
        (0..height).map(|r| values("dead", r)).collect::<PolarsResult<_>>()?;
    let n: Vec<i64> = members.iter().map(|m| m.len() as i64).collect();
    columns.push(Column::new("n".into(), n));
    for metric in &metrics {
        let all: Vec<_> = (0..height).map(|r| values(metric, r)).collect::<PolarsResult<_>>()?;
        columns.extend(statistics(metric, &all, confidence));
        if *metric == "ood_acc" {
            // Over all runs first; over the alive ones beside it.
            let alive = |(values, dead): (&Vec<Option<f64>>, &Vec<Option<f64>>)| {
                values
                    .iter()
                    .zip(dead)
                    .filter(|(_, d)| **d == Some(0.0))
                    .map(|(v, _)| *v)
                    .collect::<Vec<_>>()
            };
            let alive: Vec<_> = all.iter().zip(&dead).map(alive).collect();
            columns.extend(statistics("ood_acc_alive", &alive, confidence));
        }
    }
    columns.extend(dead_columns(&dead, confidence));
    Ok((DataFrame::new(height, columns)?, mixtures.into_iter().flatten().collect()))
}

/// The column that holds the row of a run while runs are grouped.
const ROW: &str = "\u{0}row";

/// Of each group the columns in which its runs differ although runs that are averaged may not.
fn mixtures(runs: &DataFrame, roles: &ColumnRoles, groups: &[Vec<usize>]) -> Vec<BTreeSet<String>> {
    let columns: BTreeMap<&str, Vec<Option<String>>> = roles
        .factors
        .iter()
        .chain(&roles.replicates)
        .map(|name| (name.as_str(), variant::texts(runs, name)))
        .collect();
    let differ = |name: &str, a: usize, b: usize| columns[name][a] != columns[name][b];
    let of = |members: &Vec<usize>| -> BTreeSet<String> {
        let first = members.first().copied().unwrap_or_default();
        let differs = |name: &&String| members.iter().any(|&row| differ(name, first, row));
        let factors: BTreeSet<String> = roles.factors.iter().filter(differs).cloned().collect();
        if !factors.is_empty() {
            return factors;
        }
        // Several runs of one seed: by another seed of the data, or by nothing that the table has.
        let seeds = variant::texts(runs, columns::REPLICATES[0]);
        let mut seen: BTreeMap<&Option<String>, usize> = BTreeMap::new();
        for &row in members {
            if let Some(other) = seen.insert(&seeds[row], row) {
                let found = roles.replicates.iter().find(|name| differ(name, row, other));
                return [found.cloned().unwrap_or_else(|| TASK.to_owned())].into();
            }
        }
        BTreeSet::new()
    };
    groups.iter().map(of).collect()
}

/// Mean, deviation, interval and range of a metric, one value a group.
fn statistics(name: &str, groups: &[Vec<Option<f64>>], confidence: f64) -> Vec<Column> {
    let known: Vec<Vec<f64>> =
        groups.iter().map(|g| g.iter().flatten().copied().collect()).collect();
    let found: Vec<_> = known.iter().map(|v| student::summary(v, confidence)).collect();
    let least = |v: &Vec<f64>| v.iter().copied().reduce(f64::min);
    let most = |v: &Vec<f64>| v.iter().copied().reduce(f64::max);
    let interval = |end: fn(Interval) -> f64| -> Vec<Option<f64>> {
        found.iter().map(|s| s.and_then(|(_, _, i)| i).map(end)).collect()
    };
    let column = |suffix: &str, values: Vec<Option<f64>>| {
        Column::new(format!("{name}_{suffix}").into(), values)
    };
    vec![
        column("mean", found.iter().map(|s| s.map(|(mean, ..)| mean)).collect()),
        column("sd", found.iter().map(|s| s.and_then(|(_, sd, _)| sd)).collect()),
        column("low", interval(|i| i.low)),
        column("high", interval(|i| i.high)),
        column("min", known.iter().map(least).collect()),
        column("max", known.iter().map(most).collect()),
    ]
}

/// Dead runs: count, share and its Wilson interval.
fn dead_columns(groups: &[Vec<Option<f64>>], confidence: f64) -> Vec<Column> {
    let count = |g: &Vec<Option<f64>>| g.iter().filter(|d| **d == Some(1.0)).count();
    let wilson = |g: &Vec<Option<f64>>| share::wilson(count(g), g.len(), confidence);
    let share = |g: &Vec<Option<f64>>| (!g.is_empty()).then(|| count(g) as f64 / g.len() as f64);
    let known = |g: &Vec<Option<f64>>| (!g.is_empty()).then(|| count(g) as i64);
    vec![
        Column::new("dead".into(), groups.iter().map(known).collect::<Vec<_>>()),
        Column::new("dead_share".into(), groups.iter().map(share).collect::<Vec<_>>()),
        Column::new(
            "dead_low".into(),
            groups.iter().map(|g| wilson(g).map(|i| i.low)).collect::<Vec<_>>(),
        ),
        Column::new(
            "dead_high".into(),
            groups.iter().map(|g| wilson(g).map(|i| i.high)).collect::<Vec<_>>(),
        ),
    ]
}
