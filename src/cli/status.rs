//! `dissim status`.

use clap::Args;
use serde::Serialize;

use super::{Cli, Result, Selection, print, print_json, units};
use crate::execute;
use crate::graph::Study;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::store::{Store, now};

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
    let busy = busy(&study, &store)?;
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

/// Who computes what: jobs of a cluster, and claims in the shared store.
fn busy(study: &Study, store: &Store) -> Result<String> {
    let mut text = String::new();
    for (task, job) in execute::slurm_jobs(store)? {
        text += &format!("computing  {task}: job {job} of Slurm\n");
    }
    if let Some(remote) = super::remote::of(study, store)? {
        match remote.claims() {
            Ok(claims) => {
                for (_, claim) in claims {
                    let age = units::age(now().saturating_sub(claim.since));
                    text += &format!("computing  {}: {}, for {age}\n", claim.task, claim.by);
                }
            }
            Err(why) => {
                say!("warning: {} does not say who computes what: {why}", remote.address())
            }
        }
    }
    Ok(text)
}

fn line(row: &Row, width: usize) -> String {
    let Row { stage, tasks, hits, misses, waiting, failed, .. } = row;
    format!("{stage:width$}  {tasks:>6} {hits:>6} {misses:>6} {waiting:>8} {failed:>7}\n")
}
