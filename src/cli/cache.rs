//! `dissim cache verify|gc|stat`; `push`, `pull` and `key` are in `remote`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::units::{self, bytes};
use super::{Cli, Failure, Result, Selection, print, print_json, remote};
use crate::digest::Digest;
use crate::execute;
use crate::graph::Study;
use crate::parse::{self, LoadOptions};
use crate::plan::{Planner, State};
use crate::registry::Registry;
use crate::say;
use crate::store::{self, Damage, Plan, Policy, Store, Swept};

/// What is younger than this is never removed: a run may be about to use it.
const GRACE: Duration = Duration::from_secs(3600);
/// So many records are named one by one.
const SHOWN: usize = 20;

#[derive(Debug, Args)]
pub(super) struct CacheArgs {
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Reads everything, and puts aside what is damaged; exit code 1 where anything was.
    Verify(VerifyArgs),
    /// Says what could be removed, and removes it with --delete. What the pipeline and any of its
    /// profiles can use stays.
    Gc(GcArgs),
    /// How much there is, and of what.
    Stat(StatArgs),
    /// Sends results to the shared store: those of the pipeline, or of TARGETs.
    Push(remote::PushArgs),
    /// Takes results from the shared store: those of the pipeline, or of TARGETs.
    Pull(remote::PullArgs),
    /// Makes a key to sign results with, and prints the public key for `trusted:`.
    Key(remote::KeyArgs),
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct StatArgs {
    #[command(flatten)]
    selection: Selection,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct GcArgs {
    #[command(flatten)]
    selection: Selection,
    /// Also keeps what is younger: 30d, 12h, 45m.
    #[arg(long, value_name = "AGE", value_parser = units::duration)]
    newer_than: Option<Duration>,
    /// Also keeps the rest, the youngest first, while all of it fits: 20GB, 500MB.
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    at_most: Option<u64>,
    /// Removes it; without this nothing is touched.
    #[arg(long)]
    delete: bool,
    /// What is younger stays whatever else is asked: a run may be about to use it.
    #[arg(long, value_name = "AGE", value_parser = units::duration, hide = true)]
    grace: Option<Duration>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn cache(cli: &Cli, args: &CacheArgs, registry: &Registry) -> Result<()> {
    match &args.command {
        CacheCommand::Verify(args) => verify(cli, args, registry),
        CacheCommand::Gc(args) => gc(cli, args, registry),
        CacheCommand::Stat(args) => stat(cli, args, registry),
        CacheCommand::Push(args) => remote::push(cli, args, registry),
        CacheCommand::Pull(args) => remote::pull(cli, args, registry),
        CacheCommand::Key(args) => remote::key(args),
    }
}

fn verify(cli: &Cli, args: &VerifyArgs, registry: &Registry) -> Result<()> {
    let (_, store) = cli.open(&args.selection, registry)?;
    let found = store.verify()?;
    if args.json {
        let listed = |list: &[Damage]| -> Vec<_> {
            list.iter().map(|d| json!({ "path": d.path, "what": d.what })).collect()
        };
        let (damage, unreadable) = (listed(&found.damage), listed(&found.unreadable));
        print_json(&json!({
            "blobs": found.blobs, "bytes": found.bytes, "records": found.records,
            "damage": damage, "unreadable": unreadable, "incomplete": found.incomplete,
        }))?;
    } else {
        let mut text = String::new();
        for damage in &found.damage {
            text += &format!("damaged: {}: {}\n", damage.path.display(), damage.what);
        }
        for file in found.unreadable.iter().take(SHOWN) {
            text += &format!("could not be read: {}: {}\n", file.path.display(), file.what);
        }
        text += &more(found.unreadable.len(), "could not be read");
        for task in found.incomplete.iter().take(SHOWN) {
            text += &format!("runs again: {task}: its artifact is not whole\n");
        }
        text += &more(found.incomplete.len(), "runs again");
        let put = match (found.damage.len(), found.unreadable.len()) {
            (0, 0) => "no damage".to_owned(),
            (0, n) => format!("no damage in those; {n} could not be read, and were left alone"),
            (n, 0) => format!("{n} damaged, moved to cache/quarantine"),
            (n, m) => format!("{n} damaged, moved to cache/quarantine; {m} could not be read"),
        };
        text += &format!(
            "{} records, {} files, {} read: {put}\n",
            found.records,
            found.blobs,
            bytes(found.bytes)
        );
        print(&text)?;
    }
    let fine = found.damage.is_empty() && found.unreadable.is_empty();
    if fine { Ok(()) } else { Err(Failure::Task) }
}

/// How many were not named one by one.
fn more(count: usize, what: &str) -> String {
    if count > SHOWN { format!("{what}: {} more\n", count - SHOWN) } else { String::new() }
}

fn gc(cli: &Cli, args: &GcArgs, registry: &Registry) -> Result<()> {
    let (study, store) = cli.open(&args.selection, registry)?;
    let grace = args.grace.unwrap_or(GRACE);
    let policy = Policy {
        reachable: reachable(cli, &args.selection, &study, &store, registry)?,
        newer_than: args.newer_than,
        at_most: args.at_most,
        grace,
    };
    let now = store::now();
    let plan = policy.plan(store.held().map_err(not_understood)?, now);
    let left = store.leftovers_of(&policy, &plan).map_err(not_understood)?;
    let swept = if args.delete {
        let Some(swept) = store.sweep_out(&policy, &plan).map_err(not_understood)? else {
            return Err(Failure::Input(
                "error: a run is using the store, so nothing was removed\n  help: try again when it is done\n"
                    .to_owned(),
            ));
        };
        Some(swept)
    } else {
        None
    };
    if args.json {
        let goes: Vec<_> =
            plan.goes.iter().map(|h| json!({ "task": h.task, "key": h.key })).collect();
        return print_json(&json!({
            "goes": goes, "bytes_go": plan.bytes_go, "stays": plan.stays,
            "bytes_stay": plan.bytes_stay, "leftovers_go": left.count, "leftover_bytes_go": left.bytes,
            "unneeded_files_go": left.orphans, "unneeded_bytes_go": left.orphan_bytes,
            "removed": swept.as_ref().map(|s| json!({ "records": s.records, "files": s.blobs,
                "leftovers": s.leftovers, "bytes": s.bytes, "refused": s.refused })),
        }))
        .and_then(|()| refusal(swept.as_ref()));
    }
    let mut text = told(&plan, now);
    if left.count > 0 {
        text += &format!(
            "{} leftovers of runs go with {}: locks, scratch folders, logs of failures\n",
            left.count,
            bytes(left.bytes)
        );
    }
    if left.orphans > 0 {
        let size = bytes(left.orphan_bytes);
        text += &match left.orphans {
            1 => format!("1 file that no record needs goes with {size}\n"),
            n => format!("{n} files that no record needs go with {size}\n"),
        };
    }
    text += &match &swept {
        Some(s) => format!(
            "removed {} records, {} files and {} leftovers, {}\n",
            s.records,
            s.blobs,
            s.leftovers,
            bytes(s.bytes)
        ),
        None if plan.goes.is_empty() && left.count == 0 && left.orphans == 0 => {
            "nothing was removed\n".to_owned()
        }
        None => "nothing was removed: add --delete to do it\n".to_owned(),
    };
    print(&text)?;
    refusal(swept.as_ref())
}

/// The error of a collection that stopped because it does not understand a file of the store.
fn not_understood(error: std::io::Error) -> Failure {
    Failure::Input(format!(
        "error: {error}; nothing was removed\n  help: make the file readable, use the dissim that wrote it, or move \
         the file away if nobody needs it\n"
    ))
}

/// Says what could not be removed, if anything could not.
fn refusal(swept: Option<&Swept>) -> Result<()> {
    let refused = swept.map(|swept| swept.refused.as_slice()).unwrap_or_default();
    for what in refused.iter().take(SHOWN) {
        say!("warning: could not remove {what}");
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Task) }
}

/// A plan as a person reads it.
fn told(plan: &Plan, now: u64) -> String {
    let mut text = String::new();
    for held in plan.goes.iter().take(SHOWN) {
        let age = units::age(now.saturating_sub(held.made));
        text += &format!("goes: {}  {age} old, {}\n", held.task, held.key.short());
    }
    text += &more(plan.goes.len(), "goes");
    text + &format!(
        "{} records go with {}; {} stay with {}\n",
        plan.goes.len(),
        bytes(plan.bytes_go),
        plan.stays,
        bytes(plan.bytes_stay)
    )
}

/// The keys that the pipeline can use in any of its profiles: those of its hits, and the latest of
/// every task, whose key is not known while something before it has to run.
fn reachable(
    cli: &Cli,
    selection: &Selection,
    study: &Study,
    store: &Store,
    registry: &Registry,
) -> Result<BTreeSet<Digest>> {
    let mut keys = keys_of(study, store);
    let file = cli.pipeline()?;
    for profile in parse::profiles(&file) {
        let options = LoadOptions { profile: Some(profile), set: selection.set.clone() };
        // Where one profile is wrong, what it can use is not known: nothing may be removed.
        let study = parse::load(&file, &options, registry)
            .map_err(|errors| Failure::Coloured(errors.render(say::stderr_has_colour())))?;
        keys.extend(keys_of(&study, store));
    }
    Ok(keys)
}

fn keys_of(study: &Study, store: &Store) -> BTreeSet<Digest> {
    let mut keys: BTreeSet<Digest> = BTreeSet::new();
    for (task, state) in study.tasks.iter().zip(Planner::new(study, store).plan()) {
        match state {
            State::Hit(record) => drop(keys.insert(record.key.clone())),
            // A checkpoint of it may be there, or the log of a failure.
            State::Miss(description) => drop(keys.insert(description.key())),
            State::Waiting | State::Broken(_) => {}
        }
        keys.extend(store.latest(&task.name));
    }
    keys
}

fn stat(cli: &Cli, args: &StatArgs, registry: &Registry) -> Result<()> {
    let (_, store) = cli.open(&args.selection, registry)?;
    let mut rows: BTreeMap<String, Kind> = BTreeMap::new();
    for record in store.records()? {
        let row = rows.entry(record.description.kind.clone()).or_default();
        row.records += 1;
        row.seconds += record.duration_s;
        let tree = store.tree(&record.artifact).unwrap_or_default();
        row.logical += tree.size();
        row.blobs.extend(tree.files.into_values().map(|e| (e.digest, e.size)));
    }
    let (files, on_disk) = store.disk_use()?;
    if args.json {
        let kinds: Vec<_> = rows
            .iter()
            .map(|(kind, row)| {
                json!({ "kind": kind, "records": row.records, "bytes": row.logical,
                        "unique_bytes": row.unique(), "seconds": row.seconds })
            })
            .collect();
        return print_json(&json!({ "kinds": kinds, "files": files, "bytes_on_disk": on_disk }));
    }
    let width = rows.keys().map(String::len).max().unwrap_or(0).max("kind".len());
    let mut text = format!(
        "{:width$}  {:>8} {:>10} {:>10} {:>9}\n",
        "kind", "records", "size", "unique", "time"
    );
    for (kind, row) in &rows {
        text += &format!(
            "{kind:width$}  {:>8} {:>10} {:>10} {:>9}\n",
            row.records,
            bytes(row.logical),
            bytes(row.unique()),
            execute::seconds(row.seconds)
        );
    }
    text += &format!("{files} files, {} on disk in {}\n", bytes(on_disk), store.root().display());
    print(&text)
}

/// What the store holds of one stage kind.
#[derive(Default)]
struct Kind {
    records: usize,
    logical: u64,
    seconds: f64,
    blobs: BTreeMap<Digest, u64>,
}

impl Kind {
    fn unique(&self) -> u64 {
        self.blobs.values().sum()
    }
}
