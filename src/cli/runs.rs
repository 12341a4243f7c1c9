//! `dissim runs`, and `dissim show RUN`.

use clap::Args;
use serde_json::json;

use super::{Cli, Result, Selection, print, print_json};
use crate::execute::seconds;
use crate::history::{Outcome, RunRecord, stamp};
use crate::registry::Registry;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    #[command(flatten)]
    selection: Selection,
    /// At most so many, the latest last.
    #[arg(long, short, default_value_t = 20, value_name = "N")]
    number: usize,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn runs(cli: &Cli, args: &RunsArgs, registry: &Registry) -> Result<()> {
    let (_, store) = cli.open(&args.selection, registry)?;
    let all = store.run_records();
    let shown = &all[all.len().saturating_sub(args.number)..];
    if args.json {
        return print_json(&shown);
    }
    let width = shown.iter().map(|run| run.id.len()).max().unwrap_or(0).max("run".len());
    let mut text = format!(
        "{:width$}  {:11}  {:>6} {:>7} {:>6} {:>7}  {:>7}\n",
        "run", "outcome", "tasks", "cached", "ran", "failed", "time"
    );
    for run in shown {
        let RunRecord { id, tasks, cached, ran, failed, .. } = run;
        let (outcome, failed) = (word(run.outcome), failed.len());
        let took = seconds(run.duration_s);
        text += &format!(
            "{id:width$}  {outcome:11}  {tasks:>6} {cached:>7} {ran:>6} {failed:>7}  {took:>7}\n"
        );
    }
    print(&text)
}

pub(super) fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Succeeded => "succeeded",
        Outcome::Failed => "failed",
        Outcome::Interrupted => "interrupted",
    }
}

/// The run of that id; `last` is the last, and `last~2` the second before it.
pub(super) fn find(store: &Store, id: &str) -> Option<RunRecord> {
    let before = match id.strip_prefix("last") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix('~').and_then(|n| n.parse::<usize>().ok()),
        None => None,
    };
    // Most of what is asked for is a task: no record of a run is read for it.
    if before.is_none() && !id.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut runs = store.run_records().into_iter();
    match before {
        Some(n) => runs.rev().nth(n),
        None => runs.find(|run| run.id == id),
    }
}

/// Everything that is known of a run.
pub(super) fn page(run: &RunRecord) -> String {
    let git = run.git.as_ref().map_or_else(
        || "not in git".to_owned(),
        |git| match git.dirty {
            Some(true) => format!("{} with changes that are not committed", git.commit),
            Some(false) => git.commit.clone(),
            None => format!("{} (git did not say whether anything differs)", git.commit),
        },
    );
    let mut text = format!("run {}\n", run.id);
    let rows = [
        ("outcome", word(run.outcome).to_owned()),
        ("started", format!("{} UTC", stamp(run.started))),
        ("duration", seconds(run.duration_s)),
        ("command", run.command.join(" ")),
        ("pipeline", run.pipeline.short().to_owned()),
        ("profile", run.profile.clone().unwrap_or_else(|| "(none)".to_owned())),
        ("git", git),
        ("host", run.host.clone()),
        ("backend", run.backend.clone()),
        ("dissim", run.dissim.clone()),
        (
            "tasks",
            format!(
                "{}: {} cached, {} ran, {} failed, {} not run",
                run.tasks,
                run.cached,
                run.ran,
                run.failed.len(),
                run.skipped
            ),
        ),
    ];
    for (name, value) in rows {
        text += &format!("  {name:8}  {value}\n");
    }
    for (task, why) in &run.failed {
        text += &format!("  failed    {task}: {why}\n");
    }
    text
}

/// The same as JSON, with the key of every task.
pub(super) fn json(store: &Store, run: &RunRecord) -> serde_json::Value {
    json!({ "run": run, "keys": store.run_keys(run) })
}
