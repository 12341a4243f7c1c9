//! `dissim diff` of two runs: what they ran with, what of it made tasks differ, and what that did to
//! the metrics.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{Result, print, print_json};
use crate::digest::Digest;
use crate::execute::seconds;
use crate::history::RunRecord;
use crate::key::Description;
use crate::store::{Record, Store};

/// A task whose keys differ between the runs, with both records.
struct Pair {
    a: Record,
    b: Record,
}

/// How the tasks of two runs stand to each other.
struct Compared {
    same: usize,
    only_a: Vec<String>,
    only_b: Vec<String>,
    pairs: Vec<Pair>,
    /// Tasks of whose differing keys a record is gone.
    gone: Vec<String>,
}

/// A metric of one task, or its means over a stage's tasks that differ.
struct Row {
    name: String,
    tasks: usize,
    metric: String,
    a: f64,
    b: f64,
}

pub(super) fn diff(
    store: &Store,
    a: &RunRecord,
    b: &RunRecord,
    each_task: bool,
    as_json: bool,
) -> Result<()> {
    let compared = compare(store, a, b);
    let reasons = reasons(store, &compared.pairs);
    if as_json {
        return print_json(&in_json(a, b, &compared, &reasons));
    }
    let of = |name: &str| name.split('[').next().unwrap_or(name).to_owned();
    let group = |pair: &Pair| if each_task { pair.b.task.clone() } else { of(&pair.b.task) };
    let rows = rows(&compared.pairs, group);
    print(&told(a, b, &compared, &reasons, &rows))
}

fn compare(store: &Store, a: &RunRecord, b: &RunRecord) -> Compared {
    let (old, new) = (store.run_keys(a), store.run_keys(b));
    let without = |one: &BTreeMap<String, Digest>, other: &BTreeMap<String, Digest>| {
        one.keys().filter(|task| !other.contains_key(*task)).cloned().collect::<Vec<_>>()
    };
    let (only_a, only_b) = (without(&old, &new), without(&new, &old));
    let mut compared = Compared { same: 0, only_a, only_b, pairs: Vec::new(), gone: Vec::new() };
    for (task, a) in &old {
        match new.get(task) {
            None => {}
            Some(b) if a == b => compared.same += 1,
            Some(b) => match (store.record(a), store.record(b)) {
                (Some(a), Some(b)) => compared.pairs.push(Pair { a, b }),
                _ => compared.gone.push(task.clone()),
            },
        }
    }
    compared
}

/// Why tasks differ: by stage and reason, in how many tasks it is one.
fn reasons(store: &Store, pairs: &[Pair]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for Pair { a, b } in pairs {
        let stage = b.task.split('[').next().unwrap_or_default().to_owned();
        let mut of_task = BTreeSet::new();
        for change in Description::diff(&a.description, &b.description, &|code| store.code(code)) {
            // An upstream task's own reasons are in the list already: one line a stage says enough.
            let text = match change {
                crate::key::Change::Upstream { input, old: Some(_), new: Some(_), .. } => {
                    format!("input {input}: another artifact")
                }
                other => other.masked().to_string(),
            };
            of_task.insert(text);
        }
        for text in of_task {
            *counts.entry((stage.clone(), text)).or_insert(0) += 1;
        }
    }
    counts
}

/// Metrics that differ, as means over the tasks of a group that both runs have a number for.
fn rows(pairs: &[Pair], group: impl Fn(&Pair) -> String) -> Vec<Row> {
    let mut sums: BTreeMap<(String, String), (usize, f64, f64)> = BTreeMap::new();
    for pair in pairs {
        for (metric, value) in &pair.a.metrics {
            let other = pair.b.metrics.get(metric).copied().flatten();
            if let (Some(a), Some(b)) = (value, other) {
                let sum = sums.entry((group(pair), metric.clone())).or_default();
                *sum = (sum.0 + 1, sum.1 + a, sum.2 + b);
            }
        }
    }
    let row = |((name, metric), (tasks, a, b)): ((String, String), (usize, f64, f64))| Row {
        name,
        tasks,
        metric,
        a: a / tasks as f64,
        b: b / tasks as f64,
    };
    sums.into_iter().map(row).filter(|row| row.a != row.b).collect()
}

/// What a run ran with, as far as two runs may differ in it.
fn facts(run: &RunRecord) -> Vec<(&'static str, String)> {
    let commit = run.git.as_ref().map(|git| {
        let dirty = if git.dirty == Some(true) { " with changes" } else { "" };
        format!("{}{dirty}", git.commit.get(..12).unwrap_or(&git.commit))
    });
    let none = || "(none)".to_owned();
    vec![
        ("outcome", super::runs::word(run.outcome).to_owned()),
        ("command", run.command.iter().skip(1).cloned().collect::<Vec<_>>().join(" ")),
        ("profile", run.profile.clone().unwrap_or_else(none)),
        ("pipeline", run.pipeline.short().to_owned()),
        ("git", commit.unwrap_or_else(none)),
        ("backend", run.backend.clone()),
        ("host", run.host.clone()),
        ("dissim", run.dissim.clone()),
        ("tasks", run.tasks.to_string()),
    ]
}

fn told(
    a: &RunRecord,
    b: &RunRecord,
    compared: &Compared,
    reasons: &BTreeMap<(String, String), usize>,
    rows: &[Row],
) -> String {
    let head = |run: &RunRecord| format!("{}  {}", run.id, seconds(run.duration_s));
    let mut text = format!("a  {}\nb  {}\n", head(a), head(b));
    let differing = facts(a).into_iter().zip(facts(b)).filter(|(a, b)| a != b);
    let facts = differing.map(|((name, a), (_, b))| vec![name.to_owned(), a, b]).collect();
    text += &section("run", facts);
    let Compared { same, only_a, only_b, pairs, gone } = compared;
    text += &format!(
        "  tasks\n    {same} the same, {} differ, {} only in a, {} only in b\n",
        pairs.len() + gone.len(),
        only_a.len(),
        only_b.len()
    );
    for (side, tasks) in [("a", only_a), ("b", only_b)] {
        text += &few(tasks, &format!("only in {side}"));
    }
    text += &few(gone, "record gone");
    let count =
        |tasks: usize| if tasks == 1 { "1 task".to_owned() } else { format!("{tasks} tasks") };
    let why =
        reasons.iter().map(|((stage, why), &tasks)| vec![stage.clone(), count(tasks), why.clone()]);
    text += &section("what made them differ", why.collect());
    let number = |value: f64| format!("{value:.6}");
    let metrics = rows.iter().map(|row| {
        let of = if row.tasks == 1 { String::new() } else { format!("mean of {}", row.tasks) };
        let delta = format!("{:+.6}", row.b - row.a);
        vec![row.name.clone(), row.metric.clone(), number(row.a), number(row.b), delta, of]
    });
    text + &section("metrics", metrics.collect())
}

/// Rows under a heading, in columns; nothing where there are none.
fn section(heading: &str, rows: Vec<Vec<String>>) -> String {
    let Some(first) = rows.first() else { return String::new() };
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..first.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = format!("  {heading}\n");
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text += &format!("    {}\n", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text
}

/// At most five names, and how many more there are.
fn few(names: &[String], what: &str) -> String {
    let mut text: String =
        names.iter().take(5).map(|name| format!("    {what}: {name}\n")).collect();
    if names.len() > 5 {
        text += &format!("    {what}: {} more\n", names.len() - 5);
    }
    text
}

fn in_json(
    a: &RunRecord,
    b: &RunRecord,
    compared: &Compared,
    reasons: &BTreeMap<(String, String), usize>,
) -> Value {
    let differ = compared.pairs.iter().map(|Pair { a, b }| {
        let side = |r: &Record| {
            let params = super::show::masked(r).description.params;
            json!({ "key": r.key, "params": params, "metrics": r.metrics })
        };
        json!({ "task": b.task, "a": side(a), "b": side(b) })
    });
    let why = reasons
        .iter()
        .map(|((stage, why), tasks)| json!({ "stage": stage, "reason": why, "tasks": tasks }));
    json!({
        "a": a, "b": b, "same": compared.same, "only_a": compared.only_a, "only_b": compared.only_b,
        "gone": compared.gone, "reasons": why.collect::<Vec<_>>(), "differ": differ.collect::<Vec<_>>(),
    })
}
