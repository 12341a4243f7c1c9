//! `dissim cache push|pull|key`: the store that a group shares.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::units::bytes;
use super::{Cli, Failure, Result, Selection, print, print_json, target};
use crate::digest::Digest;
use crate::execute;
use crate::graph::Study;
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::remote::{Mode, Moved, Remote, Settings, Taken, new_pair};
use crate::store::{Record, Store};

#[derive(Debug, Args)]
pub(super) struct PushArgs {
    #[command(flatten)]
    which: Which,
    /// Sends every result in the store, also those that the pipeline does not use now.
    #[arg(long, conflicts_with = "targets")]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct PullArgs {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Which {
    /// Stages, tasks or globs of task names, with what they need; all by default.
    #[arg(add = super::complete::targets())]
    targets: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// The shared store, in place of `store:` in pipeline.yaml.
    #[arg(long, value_name = "ADDRESS")]
    remote: Option<String>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Where the secret key is written; for its owner alone to read.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// The remote that a pipeline names, if it names one.
pub(super) fn of(study: &Study, store: &Store) -> Result<Option<Arc<Remote>>> {
    let Some(settings) = study.remote.clone() else { return Ok(None) };
    Ok(Some(Arc::new(Remote::open(settings, store, ", continuing without it")?)))
}

impl Which {
    fn open(
        &self,
        cli: &Cli,
        registry: &Registry,
    ) -> Result<(Study, Store, Remote, BTreeSet<usize>)> {
        let (study, store) = cli.open(&self.selection, registry)?;
        let settings = match (&self.remote, &study.remote) {
            (Some(address), ours) => {
                let named =
                    Settings::new(address).map_err(|e| Failure::Input(format!("error: {e}\n")))?;
                // Whom to believe does not change with the place.
                let trusted = ours.as_ref().map(|s| s.trusted.clone()).unwrap_or_default();
                Settings { trusted, ..named }
            }
            (None, Some(ours)) => ours.clone(),
            (None, None) => {
                return Err(Failure::Input(
                    "error: there is no shared store\n  help: write `store: { remote: s3://bucket/folder }` in pipeline.yaml, or name one with --remote\n"
                        .to_owned(),
                ));
            }
        };
        let remote = Remote::open(Settings { mode: Mode::ReadWrite, ..settings }, &store, "")?;
        let wanted = execute::wanted(&study, &target::select(&study, &self.targets)?);
        let wanted = (0..study.tasks.len()).filter(|&task| wanted[task]).collect();
        Ok((study, store, remote, wanted))
    }

    /// Says what was moved.
    fn tell(
        &self,
        verb: &str,
        preposition: &str,
        remote: &Remote,
        moved: &[Option<Moved>],
    ) -> Result<()> {
        let records: u64 = moved.iter().flatten().map(|m| m.records).sum();
        let size: u64 = moved.iter().flatten().map(|m| m.bytes).sum();
        let failed = moved.iter().filter(|m| m.is_none()).count();
        let known = moved.len() - failed - usize::try_from(records).unwrap_or(0);
        if self.json {
            print_json(&json!({ verb: records, "bytes": size, "known": known, "failed": failed,
                "requests": remote.cost().0, "remote": remote.address() }))?;
        } else {
            let known = if known > 0 { format!(", {known} there already") } else { String::new() };
            let failed =
                if failed > 0 { format!(", {failed} could not be {verb}") } else { String::new() };
            print(&format!(
                "{records} results {verb} {preposition} {}, {}{known}{failed}\n",
                remote.address(),
                bytes(size)
            ))?;
        }
        if failed == 0 { Ok(()) } else { Err(Failure::Task) }
    }
}

pub(super) fn push(cli: &Cli, args: &PushArgs, registry: &Registry) -> Result<()> {
    let (study, store, remote, wanted) = args.which.open(cli, registry)?;
    let records: Vec<Record> = if args.all {
        store.records()?
    } else {
        let states = Planner::new(&study, &store).plan();
        let hits = states.into_iter().enumerate().filter(|(task, _)| wanted.contains(task));
        hits.filter_map(|(_, state)| match state {
            State::Hit(record) => Some(*record),
            _ => None,
        })
        .collect()
    };
    let bar = bar(records.len(), "sending");
    let sent = remote.send_all(&records, |done| bar.set_position(done as u64));
    bar.finish_and_clear();
    args.which.tell("sent", "to", &remote, &sent)
}

pub(super) fn pull(cli: &Cli, args: &PullArgs, registry: &Registry) -> Result<()> {
    let (study, store, remote, wanted) = args.which.open(cli, registry)?;
    let mut asked: BTreeSet<Digest> = BTreeSet::new();
    let mut moved = Vec::new();
    // What is taken makes the keys of later tasks known.
    loop {
        let states = Planner::new(&study, &store).plan();
        let misses = wanted.iter().filter_map(|&task| match &states[task] {
            State::Miss(description) => Some(description.key()),
            _ => None,
        });
        let keys: BTreeSet<Digest> = misses.filter(|key| !asked.contains(key)).collect();
        if keys.is_empty() {
            break;
        }
        let keys: Vec<Digest> = keys.into_iter().collect();
        let bar = bar(keys.len(), "taking");
        let taken = remote.take_all(&keys, |done| bar.set_position(done as u64));
        bar.finish_and_clear();
        moved.extend(taken.into_iter().filter_map(|taken| match taken {
            Taken::Here(moved) => Some(Some(moved)),
            Taken::Absent => None,
            Taken::Failed => Some(None),
        }));
        asked.extend(keys);
    }
    store.sync()?;
    args.which.tell("taken", "from", &remote, &moved)
}

pub(super) fn key(args: &KeyArgs) -> Result<()> {
    let (secret, public) = new_pair()?;
    let mut options = File::options();
    let made = options.write(true).create_new(true).mode(0o600).open(&args.file);
    let mut file = made.map_err(|e| crate::store::at(e, &args.file))?;
    file.write_all(secret.as_bytes()).map_err(|e| crate::store::at(e, &args.file))?;
    let public = String::from(public);
    say!(
        "the secret key is in {}; sign with it by setting {} to that path",
        args.file.display(),
        crate::remote::VARIABLE
    );
    print(&format!("{public}\n"))
}

fn bar(length: usize, what: &'static str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64);
    let style = "{bar:32} {pos}/{len} {msg}  {elapsed}";
    bar.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
    bar.set_message(what);
    bar
}
