//! `dissim plan`.

use std::num::NonZeroUsize;

use clap::Args;
use serde::Serialize;

use super::{Cli, Result, Selection, print, print_json, target};
use crate::estimate::{self, Estimate, Source};
use crate::execute;
use crate::graph::TaskId;
use crate::plan::{Planner, State};
use crate::registry::Registry;

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// Stages, tasks or globs of task names; all by default.
    #[arg(add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Tasks at once, for the estimate; by default as many as there are cores.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// A stage with tasks to run.
#[derive(Debug, Serialize)]
struct Row {
    stage: String,
    /// Tasks that are not in the store.
    run: usize,
    /// Tasks that run unless what they need comes out as before.
    may_run: usize,
    cached: usize,
    /// Seconds of all that may run, one after the other.
    seconds: f64,
    /// Tasks of which nothing like them ever ran.
    unknown: usize,
}

pub(super) fn plan(cli: &Cli, args: &PlanArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let wanted = target::with_needs(&study, &target::select(&study, &args.targets)?);
    let mut planner = Planner::new(&study, &store);
    let states = planner.plan();
    planner.save();
    let past: Vec<Option<f64>> = study
        .tasks
        .iter()
        .zip(&states)
        .map(|(task, state)| match state {
            State::Hit(record) => Some(record.duration_s),
            _ => store.latest(&task.name).and_then(|key| store.record(&key)).map(|r| r.duration_s),
        })
        .collect();
    let estimates = estimate::estimates(&study, &past);
    let runs = |task: &TaskId| !matches!(states[*task], State::Hit(_));
    let rows: Vec<Row> = study
        .stages
        .iter()
        .map(|stage| {
            let tasks: Vec<TaskId> = stage.tasks.clone().filter(|t| wanted.contains(t)).collect();
            row(&stage.name, &tasks, &states, &estimates)
        })
        .filter(|row| row.run + row.may_run + row.cached > 0)
        .collect();
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok());
    let jobs = jobs.map_or(1, NonZeroUsize::get);
    let tasks: Vec<(TaskId, f64)> =
        wanted.iter().copied().filter(runs).map(|task| (task, estimates[task].seconds)).collect();
    let needs = |task: TaskId| {
        study.tasks[task].needs.iter().flat_map(|n| n.tasks.iter().copied()).collect()
    };
    let span = estimate::makespan(&tasks, needs, jobs);
    if args.json {
        return print_json(&serde_json::json!({
            "stages": rows, "jobs": jobs, "seconds": span, "tasks": tasks.iter().map(|(task, seconds)| {
                let state = match &states[*task] {
                    State::Waiting => "may_run",
                    State::Broken(_) => "would_fail",
                    _ => "run",
                };
                serde_json::json!({ "task": study.tasks[*task].name, "state": state,
                    "seconds": seconds, "from": estimates[*task].source })
            }).collect::<Vec<_>>(),
        }));
    }
    print(&told(&rows, jobs, span))
}

fn row(stage: &str, tasks: &[TaskId], states: &[State], estimates: &[Estimate]) -> Row {
    let count = |wanted: fn(&State) -> bool| tasks.iter().filter(|&&t| wanted(&states[t])).count();
    let runs: Vec<&Estimate> = tasks
        .iter()
        .filter(|&&t| !matches!(states[t], State::Hit(_)))
        .map(|&t| &estimates[t])
        .collect();
    Row {
        stage: stage.to_owned(),
        run: count(|s| matches!(s, State::Miss(_) | State::Broken(_))),
        may_run: count(|s| matches!(s, State::Waiting)),
        cached: count(|s| matches!(s, State::Hit(_))),
        seconds: runs.iter().map(|e| e.seconds).sum(),
        unknown: runs.iter().filter(|e| e.source == Source::Unknown).count(),
    }
}

fn told(rows: &[Row], jobs: usize, span: f64) -> String {
    let width = rows.iter().map(|r| r.stage.len()).max().unwrap_or(0).max("stage".len());
    let mut text = format!(
        "{:width$}  {:>6} {:>6} {:>8} {:>10}\n",
        "stage", "cached", "run", "may run", "time"
    );
    for row in rows {
        let time = match (row.run + row.may_run, row.unknown) {
            (0, _) => String::new(),
            (n, unknown) if n == unknown => "unknown".to_owned(),
            (_, 0) => execute::seconds(row.seconds),
            _ => format!("> {}", execute::seconds(row.seconds)),
        };
        text += &format!(
            "{:width$}  {:>6} {:>6} {:>8} {time:>10}\n",
            row.stage, row.cached, row.run, row.may_run
        );
    }
    let unknown: usize = rows.iter().map(|r| r.unknown).sum();
    let (run, may): (usize, usize) =
        (rows.iter().map(|r| r.run).sum(), rows.iter().map(|r| r.may_run).sum());
    text += &format!(
        "{run} to run, {may} may run after those; {}{} with {jobs} at once\n",
        if unknown > 0 { "more than " } else { "about " },
        execute::seconds(span)
    );
    if unknown > 0 {
        text +=
            &format!("nothing is known of {unknown} of them: nothing of their stage ever ran\n");
    }
    text
}
