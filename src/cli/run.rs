//! `dissim run`.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;

use clap::Args;

use super::{Cli, Failure, Result, Selection, print, target};
use crate::execute::{self, Cancel, Console, Fancy, OnFailure, Plain, RunOptions, Summary};
use crate::graph::Study;
use crate::plan::{Planner, State};
use crate::publish;
use crate::registry::Registry;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Stages, tasks or globs of task names; all by default.
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Tasks at once; by default as many as there are cores.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Goes on with what does not depend on a failed task.
    #[arg(long)]
    keep_going: bool,
    /// Says what would run, and runs nothing.
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(cli: &Cli, args: &RunArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let targets = target::select(&study, &args.targets)?;
    if args.dry_run {
        return dry_run(&study, &store, &targets);
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let options = RunOptions {
        targets,
        jobs: args.jobs.map_or(cores, NonZeroUsize::get),
        on_failure: if args.keep_going { OnFailure::KeepGoing } else { OnFailure::Stop },
        program: std::env::current_exe()?,
    };
    // The handler lives as long as the process.
    let cancel: &'static Cancel = Box::leak(Box::default());
    ctrlc::set_handler(|| cancel.request())
        .map_err(|e| Failure::Input(format!("error: cannot listen for Ctrl-C: {e}\n")))?;
    let mut console: Box<dyn Console> = if io::stderr().is_terminal() {
        Box::new(Fancy::default())
    } else {
        Box::new(Plain::default())
    };
    let start = std::time::Instant::now();
    let summary = execute::run(&study, &store, &options, cancel, &mut *console)?;
    let page = publish::publish(&study, &store, &summary)?;
    let page = page.map(|p| format!(" | {}", p.display())).unwrap_or_default();
    report(&summary);
    print(&format!(
        "{} tasks: {} cached, {} ran, {} failed{} | {}{}{page}\n",
        summary.tasks,
        summary.cached,
        summary.ran,
        summary.failed.len(),
        if summary.skipped > 0 { format!(", {} not run", summary.skipped) } else { String::new() },
        execute::seconds(start.elapsed().as_secs_f64()),
        saved(&summary),
    ))?;
    if summary.interrupted {
        return Err(Failure::Interrupted);
    }
    if summary.failed.is_empty() { Ok(()) } else { Err(Failure::Task) }
}

/// What to do after a failure or an interruption.
fn report(summary: &Summary) {
    if summary.interrupted {
        eprintln!("interrupted: what was finished is kept; run again to go on");
    } else if !summary.failed.is_empty() {
        let count = summary.failed.len();
        let noun = if count == 1 { "task" } else { "tasks" };
        eprintln!("{count} {noun} failed:");
        for (task, why) in &summary.failed {
            eprintln!("  {task}: {}", why.lines().next().unwrap_or_default());
        }
    }
}

fn saved(summary: &Summary) -> String {
    if summary.saved_s < 1.0 {
        return String::new();
    }
    format!(" (saved {})", execute::seconds(summary.saved_s))
}

fn dry_run(
    study: &Study,
    store: &Store,
    targets: &std::collections::BTreeSet<usize>,
) -> Result<()> {
    let mut planner = Planner::new(study, store);
    let states = planner.plan();
    let mut wanted = targets.clone();
    for task in (0..study.tasks.len()).rev() {
        if wanted.contains(&task) {
            wanted.extend(study.tasks[task].needs.iter().flat_map(|n| n.tasks.iter().copied()));
        }
    }
    let (mut text, mut hits, mut runs, mut may) = (String::new(), 0, 0, 0);
    for task in wanted {
        let name = &study.tasks[task].name;
        match &states[task] {
            State::Hit(_) => hits += 1,
            State::Miss(_) => {
                runs += 1;
                text += &format!("would run  {name}\n");
            }
            State::Waiting => {
                may += 1;
                text += &format!("may run    {name}\n");
            }
            State::Broken(why) => {
                runs += 1;
                text += &format!("would fail {name}: {why}\n");
            }
        }
    }
    planner.save()?;
    text +=
        &format!("{hits} cached, {runs} would run, {may} may run after those; nothing was run\n");
    print(&text)
}
