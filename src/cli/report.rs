//! `dissim report`: the page from what is cached.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;
use serde_json::json;

use super::{Cli, Failure, Result, Selection, interruptible, print, run};
use crate::execute::{self, Cancel, Console, Logs, OnFailure, RunOptions, Summary};
use crate::graph::Study;
use crate::history::Recorder;
use crate::partial::{self, Nothing, Partial};
use crate::plan::Planner;
use crate::publish;
use crate::registry::Registry;
use crate::say;
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    selection: Selection,
    /// Opens the page in the browser.
    #[arg(long)]
    open: bool,
    /// Prints what happens as JSON, an object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn report(cli: &Cli, args: &ReportArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let chosen = args.selection.behind(&study);
    let partial = available(&study, &store, &chosen)?;
    let cancel = interruptible()?;
    let mut console = run::teller(args.json);
    let start = std::time::Instant::now();
    let recorder = Recorder::of(&study);
    let summary = gather(&partial, &store, cancel, &mut *console)?;
    let record = recorder.finish(&partial.study, &store, &summary);
    let page = publish::publish(&partial.study, &store, &summary, record.as_ref().ok())?;
    run::report(&summary);
    let line = run::last_line(&summary, start.elapsed().as_secs_f64(), page.as_deref());
    if args.json {
        let missing: Vec<_> = partial
            .missing
            .iter()
            .map(|(stage, (have, of))| json!({ "stage": stage, "cached": have, "tasks": of }))
            .collect();
        let line = json!({ "event": "summary", "missing": missing, "page": page, "line": line });
        say::json_out(&line.to_string())?;
    } else {
        print(&format!("{}{line}\n", missing(&partial, &chosen)))?;
    }
    run::outcome(&summary)?;
    match page.filter(|_| args.open) {
        Some(page) => open(study.root.join(page)),
        None => Ok(()),
    }
}

/// The study cut down to what the store holds. `chosen`: the options that chose it.
pub(super) fn available(study: &Study, store: &Store, chosen: &str) -> Result<Partial> {
    let mut planner = Planner::new(study, store);
    let states = planner.plan();
    planner.save();
    partial::of(study, &states).map_err(|nothing| {
        let help = match nothing {
            Nothing::NoReport => {
                "add `report: { kind: report, needs: { results: .. } }`".to_owned()
            }
            Nothing::NoRuns(_) => format!("dissim run{chosen}"),
        };
        Failure::Input(format!("error: {nothing}\n  help: {help}\n"))
    })
}

/// Runs what gathers and reports; everything else is there.
pub(super) fn gather(
    partial: &Partial,
    store: &Store,
    cancel: &Cancel,
    console: &mut dyn Console,
) -> Result<Summary> {
    let options = RunOptions {
        targets: partial.targets.clone(),
        machine: run::machine(None),
        on_failure: OnFailure::Stop,
        logs: Logs::OfFailures,
        // The report of what is here is made here.
        cluster: None,
        remote: None,
        program: std::env::current_exe()?,
    };
    Ok(execute::run(&partial.study, store, &options, cancel, console)?)
}

/// What the report lacks, a line a stage, and how to get it; nothing where it is whole.
pub(super) fn missing(partial: &Partial, chosen: &str) -> String {
    if partial.missing.is_empty() {
        return String::new();
    }
    let line = |(stage, (have, of)): (&String, &(usize, usize))| {
        format!("  {stage}: {have} of {of} tasks are in the cache\n")
    };
    let lines: String = partial.missing.iter().map(line).collect();
    format!("the report is of a part of the study:\n{lines}  help: dissim run{chosen}\n")
}

/// Opens a file or an address in the browser.
pub(super) fn open(what: impl AsRef<Path>) -> Result<()> {
    let what = what.as_ref();
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let browser =
        std::env::var("BROWSER").ok().filter(|b| !b.is_empty() && !b.contains(['%', ':']));
    let program = browser.unwrap_or_else(|| program.to_owned());
    let started = Command::new(&program)
        .arg(what)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    started.map(|_| ()).map_err(|e| {
        Failure::Input(format!(
            "error: no browser could be started ({program}: {e})\n  help: open {} yourself\n",
            what.display()
        ))
    })
}
