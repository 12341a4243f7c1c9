//! The `aggregate` stage: the runs of a study as tidy tables.
//!
//! | file | a row is |
//! |---|---|
//! | `runs.parquet`, `runs.csv` | a run: its facts, then its metrics |
//! | `columns.json` | not a table: which columns of `runs.parquet` are factors, replicates, metrics |
//! | `summary.parquet`, `summary.csv` | a group of runs that differ in nothing but their seed |
//! | `summary.md` | the same, for people |
//! | `per_class.parquet`, `confusion.parquet`, `epochs.parquet` | those of every run, with its facts |
//! | `embeddings.parquet` | those of one run a group: the first seed that is alive |

mod columns;
mod markdown;
mod summary;
mod table;
pub mod text;
mod variant;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use dissim_api::{Code, Context, Input, IoContext, ParamError, Params, Stage, StageError, Traits};
use polars::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use columns::ColumnRoles;
pub use table::write_csv;
use table::{concat, read, write_parquet};

/// The metrics of `metrics.parquet`; every other column is a fact of the run.
pub const METRICS: [&str; 29] = [
    "id_acc",
    "ood_acc",
    "id_val_acc",
    "bg_val_acc",
    "conflict_acc",
    "black_acc",
    "background_only_acc",
    "id_loss",
    "ood_loss",
    "dead",
    "same_group_similarity",
    "same_label_similarity",
    "cross_entropy",
    "penalty",
    "pairs_per_batch",
    "active",
    "train_acc",
    "epoch@id_val",
    "id_acc@id_val",
    "ood_acc@id_val",
    "epoch@bg_val",
    "id_acc@bg_val",
    "ood_acc@bg_val",
    "epoch@oracle",
    "id_acc@oracle",
    "ood_acc@oracle",
    "probe_digit_acc",
    "probe_background_acc",
    "embedding_rank",
];

/// Columns that tell runs of one group apart, or say what others say: never grouped by.
pub(crate) const REPEATS: [&str; 4] =
    [columns::REPLICATES[0], columns::REPLICATES[1], TASK, variant::VARIANT];

/// The column that names the task behind a run.
const TASK: &str = "task";

/// `with:` of an `aggregate` stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AggregateParams {
    /// The facts that make a group; by default `n_bg`, `method`, `lambda` and every other fact in
    /// which the runs differ, but for their seeds. A group of runs that differ in another factor is
    /// counted and not averaged.
    #[serde(default)]
    pub group_by: Vec<String>,
    /// Confidence of the intervals.
    #[serde(default = "confidence")]
    pub confidence: f64,
}

fn confidence() -> f64 {
    0.95
}

/// The `aggregate` stage.
#[derive(Debug, Clone, Copy)]
pub struct Aggregate;

impl Stage for Aggregate {
    fn kind(&self) -> &'static str {
        "aggregate"
    }

    fn summary(&self) -> &'static str {
        "Gathers runs into tidy tables and summarises them by group."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        const { &[Input::many("runs")] }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<AggregateParams>()
    }

    fn traits(&self) -> Traits {
        Traits { input_names: true, ..Traits::default() }
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        let (params, resolved) = dissim_api::resolve::<AggregateParams>(given)?;
        if params.confidence > 0.0 && params.confidence < 1.0 {
            return Ok(resolved);
        }
        let message = format!("`confidence` must be between 0 and 1, and is {}", params.confidence);
        Err(vec![ParamError::new("confidence", message)])
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: AggregateParams = context.params()?;
        let inputs = context.inputs("runs").iter();
        let (folders, tasks): (Vec<_>, Vec<_>) =
            inputs.map(|a| (a.path.clone(), a.task.clone())).unzip();
        let mut metrics = Vec::new();
        for (done, (folder, task)) in (1..).zip(folders.iter().zip(tasks)) {
            let mut run = read(&folder.join("metrics.parquet"))?;
            let name = Column::new(TASK.into(), vec![task; run.height()]);
            run.with_column(name).or_fail("cannot name the run", folder)?;
            metrics.push(run);
            context.progress(done, folders.len() as u64, "run", "");
        }
        let output = context.output().to_path_buf();
        let heights: Vec<usize> = metrics.iter().map(DataFrame::height).collect();
        let runs =
            variant::name(concat(&metrics, &output)?).or_fail("cannot tell runs apart", &output)?;
        let facts = facts_of(&runs, &heights);
        let runs = sorted(runs, &output)?;
        write_parquet(&runs, &output.join("runs.parquet"))?;
        write_csv(&runs, &output.join("runs.csv"))?;
        let roles = ColumnRoles::of(&runs);
        roles.write(&output)?;
        let groups = summary::group_columns(&runs, &params.group_by)?;
        let (summary, mixed) =
            summary::summarise(&runs, &roles, &groups, params.confidence, &output)?;
        write_parquet(&summary, &output.join("summary.parquet"))?;
        write_csv(&summary, &output.join("summary.csv"))?;
        let path = output.join("summary.md");
        let text = markdown::summary(&summary, &groups, &mixed, params.confidence)
            .or_fail("cannot format", &path)?;
        std::fs::write(&path, text).or_fail("cannot write", &path)?;
        let shown = shown(&facts, &metrics, &groups);
        for name in PER_RUN {
            let tables = folders
                .iter()
                .zip(&facts)
                .enumerate()
                .filter(|(i, (folder, _))| {
                    name != EMBEDDINGS || shown.contains(i) && folder.join(name).is_file()
                })
                .map(|(_, (folder, facts))| {
                    with_facts(read(&folder.join(name))?, facts, &groups, folder)
                })
                .collect::<Result<Vec<_>, _>>()?;
            if !tables.is_empty() {
                write_parquet(&concat(&tables, &output)?, &output.join(name))?;
            }
        }
        context.metric("runs", folders.len() as f64);
        context.metric("groups", summary.height() as f64);
        Ok(())
    }
}

/// Tables that every run has.
const PER_RUN: [&str; 4] = ["per_class.parquet", "confusion.parquet", "epochs.parquet", EMBEDDINGS];

/// Many points, and so kept of one run a group.
const EMBEDDINGS: &str = "embeddings.parquet";

/// Which run of each group has its embeddings shown: the first seed that is alive, or the first where
/// none is. A dead network's are one point.
fn shown(facts: &[DataFrame], metrics: &[DataFrame], groups: &[String]) -> BTreeSet<usize> {
    let mut best: BTreeMap<String, (bool, i64, usize)> = BTreeMap::new();
    for (i, (facts, metrics)) in facts.iter().zip(metrics).enumerate() {
        let value = |table: &DataFrame, name: &str| {
            table.column(name).and_then(|c| c.get(0)).map(AnyValue::into_static).ok()
        };
        let group = groups.iter().map(|g| format!("{:?}|", value(facts, g))).collect();
        let dead = value(metrics, "dead") == Some(AnyValue::Boolean(true));
        let seed = value(facts, "seed").and_then(|v| v.extract()).unwrap_or_default();
        let run = (dead, seed, i);
        best.entry(group).and_modify(|b| *b = run.min(*b)).or_insert(run);
    }
    best.into_values().map(|(_, _, i)| i).collect()
}

/// The facts of each run, of whose rows there are so many.
fn facts_of(runs: &DataFrame, heights: &[usize]) -> Vec<DataFrame> {
    let facts = runs.drop_many(METRICS);
    let mut start = 0;
    let own = heights.iter().map(|&height| {
        start += height;
        facts.slice((start - height) as i64, height)
    });
    own.collect()
}

/// A run's table with its group and seed in front, so that rows of several runs can be told apart.
fn with_facts(
    table: DataFrame,
    facts: &DataFrame,
    groups: &[String],
    path: &Path,
) -> Result<DataFrame, StageError> {
    let n = table.height();
    let mut columns = Vec::new();
    for name in groups.iter().map(String::as_str).chain(REPEATS) {
        // `epochs` has a lambda of its own, which may follow a schedule.
        if let Ok(column) = facts.column(name)
            && table.column(name).is_err()
        {
            columns.push(column.new_from_index(0, n));
        }
    }
    columns.extend(table.columns().iter().cloned());
    DataFrame::new(n, columns).or_fail("cannot join facts", path)
}

/// Runs in the order of their facts, the study's own first.
fn sorted(runs: DataFrame, path: &Path) -> Result<DataFrame, StageError> {
    let first = ["n_bg", "method", "lambda", "seed"];
    let names = runs.get_column_names().into_iter().map(PlSmallStr::as_str).collect::<Vec<_>>();
    let facts = names.iter().copied().filter(|n| !METRICS.contains(n) && !first.contains(n));
    let order: Vec<PlSmallStr> = first
        .into_iter()
        .filter(|n| names.contains(n))
        .chain(facts)
        .map(PlSmallStr::from_str)
        .collect();
    let options = SortMultipleOptions::default().with_maintain_order(true);
    runs.sort(order, options).or_fail("cannot sort runs", path)
}

#[cfg(test)]
mod tests;
