//! `dissim show` and `dissim log`.

use std::fs;
use std::io::{self, Write};

use clap::Args;
use serde_json::json;

use super::units::bytes;
use super::{Cli, Failure, Result, Selection, print, print_json, runs, target};
use crate::execute;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::store::{Record, Store};

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
        match &states[task] {
            State::Hit(record) => {
                text += &page(record, &store);
                rows.push(json!({ "task": of.name, "record": record, "tree": store.tree(&record.artifact) }));
            }
            _ => {
                text += &format!("{}\n  is not in the cache: dissim why '{}'\n", of.name, of.name);
                text += &section(
                    "parameters",
                    of.params.iter().map(|(n, v)| (n.clone(), v.to_string())),
                );
                rows.push(json!({ "task": of.name, "params": of.params }));
            }
        }
    }
    if args.json { print_json(&rows) } else { print(&text) }
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
    let Some(key) = store.latest(name) else {
        return Err(Failure::Input(format!("error: `{name}` never ran, so it has no log\n")));
    };
    let failed = fs::read(store.failed_log(&key));
    let log = failed.or_else(|_| match store.record(&key) {
        Some(record) => fs::read(store.object(&record.log)),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "the log is gone from the store")),
    })?;
    Ok(io::stdout().lock().write_all(&log)?)
}
