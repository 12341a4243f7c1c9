//! `dissim show` and `dissim log`.

use std::fs::File;
use std::io;

use clap::Args;
use dissim_api::Params;
use serde_json::json;

use super::standing::{LastRun, Standing, last_run, when};

use super::units::bytes;
use super::{Cli, Failure, Result, Selection, print, print_json, runs, target};
use crate::execute;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::store::{Record, Store, at};
use crate::{say, secret};

#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// Stages, tasks or globs of task names; or a run of `dissim runs`, `last` being the last.
    #[arg(required = true, add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct LogArgs {
    /// A task.
    #[arg(add = super::complete::targets())]
    target: String,
    #[command(flatten)]
    selection: Selection,
}

pub(super) fn show(cli: &Cli, args: &ShowArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    if let [one] = args.targets.as_slice()
        && let Some(run) = runs::find(&store, one)
    {
        let page = || print(&runs::page(&run));
        return if args.json { print_json(&runs::json(&store, &run)) } else { page() };
    }
    let targets = target::select(&study, &args.targets)?;
    let states = Planner::new(&study, &store).plan();
    let (mut text, mut rows) = (String::new(), Vec::new());
    for task in targets {
        let of = &study.tasks[task];
        if let State::Hit(record) = &states[task] {
            let record = masked(record);
            text += &page(&record, &store);
            rows.push(json!({ "task": of.name, "state": "hit", "record": record,
                "tree": store.tree(&record.artifact) }));
            continue;
        }
        let last = last_run(&store, &of.name, &states[task]);
        let params: Params = masked_params(&of.params);
        text += &format!("{}\n{}", of.name, not_there(&of.name, &states[task], last.as_ref()));
        text += &section("parameters", params.iter().map(|(n, v)| (n.clone(), v.to_string())));
        let state = match (&states[task], &last) {
            (_, Some((LastRun::Failed(_), Standing::Current))) => "failed",
            (State::Waiting, _) => "waiting",
            (State::Broken(_), _) => "broken",
            _ => "miss",
        };
        rows.push(json!({ "task": of.name, "state": state, "params": params }));
    }
    if args.json { print_json(&rows) } else { print(&text) }
}

/// Why a task has no result, and what there is of it instead.
fn not_there(name: &str, state: &State, last: Option<&(LastRun, Standing)>) -> String {
    let broken = match state {
        State::Broken(why) => {
            format!("  cannot run: {}\n", why.lines().next().unwrap_or_default())
        }
        _ => String::new(),
    };
    let is_missing = format!("{broken}  is not in the cache: dissim why '{name}'\n");
    match last {
        None => is_missing,
        Some((LastRun::Failed(_), Standing::Current)) => {
            format!("  failed when it last ran: dissim log '{name}'\n")
        }
        Some((LastRun::Failed(_), _)) => {
            format!("{is_missing}  its last run failed: dissim log '{name}'\n")
        }
        Some((LastRun::Done(record), _)) => {
            format!("{is_missing}  its last run was at {}: dissim log '{name}'\n", when(record))
        }
    }
}

/// A record as it is shown.
pub(super) fn masked(record: &Record) -> Record {
    let mut record = record.clone();
    record.description.params = masked_params(&record.description.params);
    record
}

fn masked_params(params: &Params) -> Params {
    params.iter().map(|(name, value)| (name.clone(), secret::mask(name, value))).collect()
}

fn page(record: &Record, store: &Store) -> String {
    let mut text = format!("{}\n", record.task);
    let fact = |name: &str, value: String| (name.to_owned(), value);
    text += &section(
        "run",
        [
            fact("key", record.key.to_string()),
            fact("artifact", record.artifact.to_string()),
            fact("took", execute::seconds(record.duration_s)),
            fact("peak memory", bytes(record.peak_memory_bytes)),
            fact("host", record.host.clone()),
            fact("dissim", record.dissim.clone()),
            fact("code", record.description.code.short().to_owned()),
        ]
        .into_iter(),
    );
    text += &section(
        "parameters",
        record.description.params.iter().map(|(n, v)| (n.clone(), v.to_string())),
    );
    let inputs = record.description.inputs.iter().flat_map(|(name, artifacts)| {
        artifacts
            .artifacts
            .iter()
            .map(move |a| (name.clone(), format!("{}  {}", a.artifact.short(), a.task)))
    });
    text += &section("inputs", inputs);
    text += &section(
        "files",
        record.description.files.iter().map(|(f, d)| (f.clone(), d.short().to_owned())),
    );
    let tree = store.tree(&record.artifact).unwrap_or_default();
    let outputs = tree
        .files
        .iter()
        .map(|(path, e)| (path.clone(), format!("{}  {}", e.digest.short(), bytes(e.size))));
    text += &section("outputs", outputs);
    let number =
        |value: Option<f64>| value.map_or_else(|| "not a number".to_owned(), |v| format!("{v:.6}"));
    text + &section("metrics", record.metrics.iter().map(|(n, v)| (n.clone(), number(*v))))
}

/// A heading and aligned rows; nothing where there are no rows.
fn section(heading: &str, rows: impl Iterator<Item = (String, String)>) -> String {
    let rows: Vec<_> = rows.collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: String =
        rows.iter().map(|(name, value)| format!("    {name:width$}  {value}\n")).collect();
    if rows.is_empty() { String::new() } else { format!("  {heading}\n{lines}") }
}

pub(super) fn log(cli: &Cli, args: &LogArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let targets = target::select(&study, std::slice::from_ref(&args.target))?;
    let Some(task) = targets.first().filter(|_| targets.len() == 1) else {
        let what =
            format!("error: `{}` means {} tasks; a log is of one\n", args.target, targets.len());
        return Err(Failure::Input(what));
    };
    let name = &study.tasks[*task].name;
    let states = Planner::new(&study, &store).plan();
    let Some((last, standing)) = last_run(&store, name, &states[*task]) else {
        return Err(Failure::Input(format!("error: `{name}` never ran, so it has no log\n")));
    };
    let (path, which) = match &last {
        LastRun::Done(record) => {
            (store.object(&record.log), format!("the log of its last run, at {}", when(record)))
        }
        LastRun::Failed(log) => (log.clone(), "the log of its last run, which failed".to_owned()),
    };
    let file = File::open(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::Input(format!(
            "error: the log of `{name}` is gone from the store\n  help: dissim run '{name}'\n"
        )),
        _ => Failure::from(at(error, &path)),
    })?;
    match (standing.reason(), &last) {
        (Some(reason), _) => say!("note: `{name}`: {reason}; this is {which}"),
        (None, LastRun::Failed(_)) => say!("note: `{name}` failed; this is the log of that run"),
        (None, LastRun::Done(_)) => {}
    }
    Ok(say::copy_out(file)?)
}
