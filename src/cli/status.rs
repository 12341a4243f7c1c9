//! `dissim status`.

use std::collections::HashSet;

use clap::Args;
use serde::Serialize;

use super::{Cli, Result, Selection, print, print_json, units};
use crate::execute::{self, Activity, Running};
use crate::graph::Study;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::remote::Claim;
use crate::store::{Store, now};

/// So many tasks that are being computed are named.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// How the tasks of a stage stand.
#[derive(Debug, Default, Serialize)]
struct Row {
    stage: String,
    kind: String,
    tasks: usize,
    hits: usize,
    misses: usize,
    waiting: usize,
    failed: usize,
}

pub(super) fn status(cli: &Cli, args: &StatusArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let mut planner = Planner::new(&study, &store);
    let states = planner.plan();
    planner.save();
    let mut rows = Vec::new();
    for stage in &study.stages {
        let kind = stage.stage.kind().to_owned();
        let mut row =
            Row { stage: stage.name.clone(), kind, tasks: stage.tasks.len(), ..Row::default() };
        for state in &states[stage.tasks.clone()] {
            match state {
                State::Hit(_) => row.hits += 1,
                State::Miss(d) if store.failed_log(&d.key()).exists() => row.failed += 1,
                State::Miss(_) => row.misses += 1,
                State::Waiting => row.waiting += 1,
                State::Broken(_) => row.failed += 1,
            }
        }
        rows.push(row);
    }
    if args.json {
        return print_json(&rows);
    }
    let busy = busy(&study, &store, &args.selection.in_words(&study))?;
    let width = rows.iter().map(|r| r.stage.len()).max().unwrap_or(0).max("stage".len());
    let mut text = format!(
        "{:width$}  {:>6} {:>6} {:>6} {:>8} {:>7}\n",
        "stage", "tasks", "hits", "misses", "waiting", "failed"
    );
    let mut total = Row { stage: "total".into(), ..Row::default() };
    for row in &rows {
        text += &line(row, width);
        total.tasks += row.tasks;
        total.hits += row.hits;
        total.misses += row.misses;
        total.waiting += row.waiting;
        total.failed += row.failed;
    }
    print(&(text + &line(&total, width) + &busy))
}

/// Who computes what: jobs of a cluster, runs on this store, and claims in the shared one; and how far the
/// runs on this store are.
fn busy(study: &Study, store: &Store, selection: &str) -> Result<String> {
    let mut runs = String::new();
    let mut who: Vec<(String, String)> = Vec::new();
    for (task, job) in execute::slurm_jobs(store)? {
        who.push((task, format!("job {job} of Slurm")));
    }
    let with_jobs: HashSet<String> = who.iter().map(|(task, _)| task.clone()).collect();
    let mut here: HashSet<(String, String)> = HashSet::new();
    for activity in store.activity() {
        runs += &told(&activity, selection);
        let by = activity.by;
        for (task, how_far) in activity.running {
            if !with_jobs.contains(&task) {
                who.push((task.clone(), format!("{by}{}", of_task(&how_far))));
            }
            here.insert((task, by.clone()));
        }
    }
    if let Some(remote) = super::remote::of(study, store)? {
        match remote.claims() {
            Ok(claims) => {
                let known = |claim: &Claim| here.contains(&(claim.task.clone(), claim.by.clone()));
                for (_, claim) in claims.into_iter().filter(|(_, claim)| !known(claim)) {
                    let age = units::age(now().saturating_sub(claim.since));
                    who.push((claim.task, format!("{}, for {age}", claim.by)));
                }
            }
            Err(why) => {
                say!("warning: {} does not say who computes what: {why}", remote.address())
            }
        }
    }
    let mut text: String =
        who.iter().take(SHOWN).map(|(t, w)| format!("computing  {t}: {w}\n")).collect();
    if who.len() > SHOWN {
        text += &format!("computing  {} more\n", who.len() - SHOWN);
    }
    Ok(text + &runs)
}

/// How far a run is, and how to see its stages where they are not those that were asked for.
fn told(run: &Activity, selection: &str) -> String {
    let Activity { by, finished, tasks, .. } = run;
    let age = units::age(now().saturating_sub(run.since));
    let other = if run.selection == selection {
        String::new()
    } else {
        let command = format!("dissim status {}", run.selection);
        format!("; `{}` shows its stages", command.trim_end())
    };
    format!("running    {by}, for {age}: {finished} of {tasks} tasks finished{other}\n")
}

/// How far a task is, where it said so.
fn of_task(Running { done, total, unit }: &Running) -> String {
    match total {
        0 => String::new(),
        total => format!(", {done}/{total} {unit}").trim_end().to_owned(),
    }
}

fn line(row: &Row, width: usize) -> String {
    let Row { stage, tasks, hits, misses, waiting, failed, .. } = row;
    format!("{stage:width$}  {tasks:>6} {hits:>6} {misses:>6} {waiting:>8} {failed:>7}\n")
}
