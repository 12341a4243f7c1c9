//! The tables of a run, by polars.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use dissim_api::formats::{EpochLog, RunInfo, SplitName};
use dissim_api::{IoContext, StageError};
use dissim_kernel::CLASSES;
use polars::prelude::*;
use serde_json::Value;

use crate::DEAD_BELOW;
use crate::predictions::Predictions;
use crate::probes::Probes;
use crate::selection::Selected;

/// The metrics of a run. Fractions, and none where a split is empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Metrics {
    accuracies: Vec<(&'static str, Option<f64>)>,
    id_loss: Option<f64>,
    ood_loss: Option<f64>,
    dead: Option<bool>,
    same_group_similarity: Option<f64>,
    same_label_similarity: Option<f64>,
    selected: Vec<(&'static str, Option<f64>)>,
    probes: Probes,
}

/// Splits and the columns of their accuracy, the two that the study is about first.
const ACCURACIES: [(SplitName, &str); 7] = [
    (SplitName::IdTest, "id_acc"),
    (SplitName::OodTest, "ood_acc"),
    (SplitName::IdVal, "id_val_acc"),
    (SplitName::BgVal, "bg_val_acc"),
    (SplitName::Conflict, "conflict_acc"),
    (SplitName::Black, "black_acc"),
    (SplitName::BackgroundOnly, "background_only_acc"),
];

impl Metrics {
    pub fn of(splits: &[Predictions], selected: &[Selected], probes: Probes) -> Self {
        let columns = |s: &Selected| {
            let values = [s.epoch, s.id_acc, s.ood_acc];
            s.selector.columns().into_iter().zip(values)
        };
        let split = |name| splits.iter().find(|s| s.name == name);
        let accuracy = |name| split(name).and_then(Predictions::accuracy);
        let id_test = split(SplitName::IdTest);
        Self {
            accuracies: ACCURACIES.map(|(name, column)| (column, accuracy(name))).to_vec(),
            id_loss: id_test.and_then(|s| s.loss),
            ood_loss: split(SplitName::OodTest).and_then(|s| s.loss),
            dead: accuracy(SplitName::IdTest).map(|a| a < DEAD_BELOW),
            same_group_similarity: id_test.and_then(|s| s.same_group),
            same_label_similarity: id_test.and_then(|s| s.same_label),
            selected: selected.iter().flat_map(columns).collect(),
            probes,
        }
    }

    /// Every metric as a number; dead is 0 or 1.
    pub fn numbers(&self) -> Vec<(&'static str, Option<f64>)> {
        let mut numbers = self.accuracies.clone();
        numbers.extend([
            ("id_loss", self.id_loss),
            ("ood_loss", self.ood_loss),
            ("dead", self.dead.map(|d| f64::from(u8::from(d)))),
            ("same_group_similarity", self.same_group_similarity),
            ("same_label_similarity", self.same_label_similarity),
            ("probe_digit_acc", self.probes.digit),
            ("probe_background_acc", self.probes.background),
            ("embedding_rank", self.probes.rank),
        ]);
        numbers.extend(&self.selected);
        numbers
    }
}

/// One row: the facts of the run, its metrics, and the figures of its last epoch.
pub(crate) fn metrics(
    run: &RunInfo,
    epochs: &[EpochLog],
    metrics: &Metrics,
) -> PolarsResult<DataFrame> {
    let mut columns: Vec<Column> = facts(run).iter().map(|(n, v)| fact(n, v)).collect();
    columns.push(Column::new("backend".into(), [run.backend.as_str()]));
    columns.push(Column::new("told".into(), [run.told.as_str()]));
    for (name, value) in metrics.numbers() {
        columns.push(match name {
            "dead" => Column::new(name.into(), [metrics.dead]),
            _ => Column::new(name.into(), [finite(value)]),
        });
    }
    let last = epochs.last();
    let figures: [(&str, Option<f64>); 5] = [
        ("cross_entropy", last.map(|e| e.cross_entropy)),
        ("penalty", last.map(|e| e.penalty)),
        ("pairs_per_batch", last.map(|e| e.pairs)),
        ("active", last.map(|e| e.active)),
        ("train_acc", last.map(|e| e.train_acc)),
    ];
    columns.extend(figures.map(|(name, value)| Column::new(name.into(), [finite(value)])));
    DataFrame::new_infer_height(columns)
}

/// The parameters of training and of the data set, by name. A name that both have, with different
/// values, stands twice: `seed` is training's, `data_seed` the data set's.
fn facts(run: &RunInfo) -> BTreeMap<String, Value> {
    let mut facts: BTreeMap<String, Value> =
        run.params.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    // Left out by `train` where they have no effect; null says so in a table.
    for name in ["lambda", "embed"] {
        facts.entry(name.to_owned()).or_insert(Value::Null);
    }
    // A weight that follows a target is no number: the target has a column of its own.
    if let Some(target) = run.params.get("lambda").and_then(|l| l.get("target")) {
        facts.insert("lambda".to_owned(), Value::Null);
        facts.insert("lambda_target".to_owned(), target.clone());
    }
    for (name, value) in &run.dataset.params {
        match facts.get(name) {
            Some(own) if own != value => facts.insert(format!("data_{name}"), value.clone()),
            Some(_) => None,
            None => facts.insert(name.clone(), value.clone()),
        };
    }
    facts
}

/// A fact as a column of its own type; lists as their JSON.
fn fact(name: &str, value: &Value) -> Column {
    let column = PlSmallStr::from_str(name);
    match value {
        Value::Null if name == "lambda" => Column::new(column, [None::<f64>]),
        Value::Null => Column::new(column, [None::<&str>]),
        Value::Bool(flag) => Column::new(column, [*flag]),
        Value::String(text) => Column::new(column, [text.as_str()]),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => Column::new(column, [whole]),
            None => Column::new(column, [number.as_f64()]),
        },
        other => Column::new(column, [other.to_string()]),
    }
}

/// A row for every split and class that has images.
pub(crate) fn per_class(splits: &[Predictions]) -> PolarsResult<DataFrame> {
    let (mut split, mut class, mut n, mut correct) = (vec![], vec![], vec![], vec![]);
    for predictions in splits {
        for truth in (0..CLASSES).filter(|&c| predictions.count(c) > 0) {
            split.push(predictions.name.as_str());
            class.push(truth as i64);
            n.push(i64::from(predictions.count(truth)));
            correct.push(i64::from(predictions.confusion[truth][truth]));
        }
    }
    let accuracy: Vec<f64> = correct.iter().zip(&n).map(|(c, n)| *c as f64 / *n as f64).collect();
    df!("split" => split, "class" => class, "n" => n, "correct" => correct, "accuracy" => accuracy)
}

/// A row for every split, true class and predicted class; splits without images have none.
pub(crate) fn confusion(splits: &[Predictions]) -> PolarsResult<DataFrame> {
    let (mut split, mut truth, mut predicted, mut count) = (vec![], vec![], vec![], vec![]);
    for predictions in splits.iter().filter(|s| s.accuracy().is_some()) {
        for (t, row) in predictions.confusion.iter().enumerate() {
            for (p, &n) in row.iter().enumerate() {
                split.push(predictions.name.as_str());
                truth.push(t as i64);
                predicted.push(p as i64);
                count.push(i64::from(n));
            }
        }
    }
    df!("split" => split, "truth" => truth, "predicted" => predicted, "count" => count)
}

/// A row an epoch, with its accuracy on the OOD test.
pub(crate) fn epochs(epochs: &[EpochLog], ood: &[Option<f64>]) -> PolarsResult<DataFrame> {
    let column = |value: fn(&EpochLog) -> f64| {
        epochs.iter().map(|e| finite(Some(value(e)))).collect::<Vec<_>>()
    };
    df!(
        "epoch" => epochs.iter().map(|e| i64::from(e.epoch)).collect::<Vec<_>>(),
        "cross_entropy" => column(|e| e.cross_entropy),
        "penalty" => column(|e| e.penalty),
        "pairs" => column(|e| e.pairs),
        "lambda" => column(|e| e.lambda),
        "embedding_norm" => column(|e| e.embedding_norm),
        "zero_norm" => column(|e| e.zero_norm),
        "active" => column(|e| e.active),
        "train_acc" => column(|e| e.train_acc),
        "id_val_acc" => epochs.iter().map(|e| e.id_val_acc).collect::<Vec<_>>(),
        "bg_val_acc" => epochs.iter().map(|e| e.bg_val_acc).collect::<Vec<_>>(),
        "ood_acc" => ood,
    )
}

/// What is not a number has no place in a mean: null.
fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|v| v.is_finite())
}

/// Writes a table as `output/name`; the bytes depend on nothing but the table.
pub(crate) fn write(
    table: PolarsResult<DataFrame>,
    output: &Path,
    name: &str,
) -> Result<(), StageError> {
    let path = output.join(name);
    let mut table = table.or_fail("cannot build a table for", &path)?;
    let file = File::create(&path).or_fail("cannot write", &path)?;
    let writer = ParquetWriter::new(file).with_compression(ParquetCompression::Uncompressed);
    writer.finish(&mut table).or_fail("cannot write", &path)?;
    Ok(())
}
