//! `dissim run`.

use std::io::{self, IsTerminal};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::unchanged::Answer;
use super::{Cli, Failure, Result, Selection, interruptible, print, target, unchanged, watch};
use crate::execute::{
    self, Cancel, Cluster, Console, Events, Fancy, Live, Logs, OnFailure, OnInterrupt, Plain,
    RunOptions, Several, Summary, Trace,
};
use crate::graph::Study;
use crate::history::Recorder;
use crate::plan::{Planner, State};
use crate::policy::Resources;
use crate::publish;
use crate::registry::Registry;
use crate::say::{self, one_line};
use crate::store::{Damaged, Store};

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Stages, tasks or globs of task names; all by default.
    #[arg(add = super::complete::targets())]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) selection: Selection,
    /// Tasks at once; by default as many as there are cores.
    #[arg(long, short, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Goes on with what does not depend on a failed task.
    #[arg(long)]
    keep_going: bool,
    /// Says what would run, and runs nothing.
    #[arg(long)]
    dry_run: bool,
    /// Runs again whenever pipeline.yaml or a file that a task reads was saved.
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,
    /// Prints what happens as JSON, an object a line.
    #[arg(long)]
    pub(super) json: bool,
    /// Where tasks run: on this machine, or as jobs of a Slurm cluster, as `executors:` says.
    #[arg(long, value_enum, default_value_t)]
    executor: Executor,
    /// What becomes of a cluster's jobs on Ctrl-C; off a terminal they are left unless this says so.
    #[arg(long, value_enum, default_value_t)]
    on_interrupt: Interrupt,
    /// Writes a trace for ui.perfetto.dev or chrome://tracing.
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Prints the logs of all tasks; a cached task replays the log of the run that made it.
    #[arg(long)]
    pub(super) output_logs: bool,
}

/// `--executor`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Executor {
    /// Processes of this machine.
    #[default]
    Local,
    /// Jobs of a Slurm cluster that shares this folder.
    Slurm,
}

/// `--on-interrupt`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Interrupt {
    /// A person at a terminal is asked.
    #[default]
    Ask,
    /// They go on, and the next run takes up what they made.
    Leave,
    /// They are cancelled.
    Cancel,
}

/// The cluster that a run uses, if it uses one.
fn cluster(args: &RunArgs, study: &Study) -> Option<Cluster> {
    if args.executor == Executor::Local {
        return None;
    }
    let wish = args.on_interrupt;
    let on_interrupt = move |jobs: usize| match wish {
        Interrupt::Leave => OnInterrupt::Leave,
        Interrupt::Cancel => OnInterrupt::Cancel,
        Interrupt::Ask if io::stdin().is_terminal() && io::stderr().is_terminal() => {
            say::message(&format!(
                "\n{jobs} jobs are in Slurm. Leave them, or cancel them? [l/c] "
            ));
            let mut answer = String::new();
            let read = io::stdin().read_line(&mut answer);
            let cancels = read.is_ok() && answer.trim().to_lowercase().starts_with('c');
            if cancels { OnInterrupt::Cancel } else { OnInterrupt::Leave }
        }
        Interrupt::Ask => OnInterrupt::Leave,
    };
    let settings = study.slurm.clone().unwrap_or_default();
    Some(Cluster { settings, on_interrupt: Arc::new(on_interrupt) })
}

/// `dissim job`.
pub(super) fn job(folder: &Path) -> ExitCode {
    let cancel: &'static Cancel = Box::leak(Box::default());
    let served = execute::cancel_on_signals(cancel)
        .and_then(|()| execute::serve_job(folder, &std::env::current_exe()?, cancel));
    match served {
        Ok(true) => ExitCode::SUCCESS,
        // As a shell says that SIGTERM ended a program.
        Ok(false) => ExitCode::from(143),
        Err(error) => {
            say!("error: {error}");
            ExitCode::from(2)
        }
    }
}

pub(super) fn run(cli: &Cli, args: &RunArgs, registry: &Registry) -> Result<()> {
    if args.dry_run {
        let (study, store) = cli.open(&args.selection, registry)?;
        warn(&study);
        let targets = target::select(&study, &args.targets)?;
        return dry_run(&study, &store, &targets);
    }
    let cancel = interruptible()?;
    if !args.watch {
        let asked = unchanged::Asked::new(&cli.pipeline()?, args);
        let answer = asked.as_ref().map_or(Answer::None, unchanged::Asked::answer);
        let (study, store, recorder) = match answer {
            Answer::Line(line) => return print(&format!("{line}\n")),
            Answer::Begun(store, recorder) => {
                (cli.load(&args.selection, registry)?, store, Some(recorder))
            }
            Answer::None => {
                let (study, store) = cli.open(&args.selection, registry)?;
                (study, store, None)
            }
        };
        return once(args, &study, &store, cancel, asked.as_ref(), recorder);
    }
    loop {
        let opened = cli.open(&args.selection, registry);
        let study = opened.as_ref().ok().map(|(study, _)| study);
        let pipeline = cli.pipeline()?;
        // Looked at before the run: what is saved meanwhile is not missed.
        let seen = watch::Seen::now(&pipeline, study);
        let ended = match &opened {
            Ok((study, store)) => once(args, study, store, cancel, None, None),
            Err(Failure::Coloured(message)) => Err(Failure::Coloured(message.clone())),
            Err(Failure::Input(message)) => Err(Failure::Input(message.clone())),
            Err(_) => Err(Failure::Interrupted),
        };
        match ended {
            Err(Failure::Interrupted) => return Err(Failure::Interrupted),
            Err(Failure::Coloured(message)) => say::coloured_message(&message),
            Err(Failure::Input(message)) => say::message(&message),
            Ok(()) | Err(Failure::Task) => {}
        }
        say!("watching {}; Ctrl-C ends", pipeline.display());
        if !watch::wait(&seen, &pipeline, study, cancel) {
            return Err(Failure::Interrupted);
        }
    }
}

/// Says what is odd about the pipeline and is no error.
fn warn(study: &Study) {
    for warning in &study.warnings {
        say!("warning: {warning}");
    }
}

/// One run, from the store's point of view; what it came to is said.
fn once(
    args: &RunArgs,
    study: &Study,
    store: &Store,
    cancel: &'static Cancel,
    asked: Option<&unchanged::Asked>,
    mut recorder: Option<Recorder>,
) -> Result<()> {
    warn(study);
    let cluster = cluster(args, study);
    let options = RunOptions {
        targets: target::select(study, &args.targets)?,
        machine: match &cluster {
            None => machine(args.jobs),
            Some(cluster) => {
                let asked = args.jobs.and_then(|jobs| u32::try_from(jobs.get()).ok());
                Resources { cpus: cluster.at_once(asked), memory: u64::MAX }
            }
        },
        cluster,
        on_failure: if args.keep_going { OnFailure::KeepGoing } else { OnFailure::Stop },
        logs: if args.output_logs { Logs::All } else { Logs::OfFailures },
        remote: super::remote::of(study, store)?,
        program: std::env::current_exe()?,
    };
    let mut console = console(args, study, store)?;
    let start = std::time::Instant::now();
    let mut attempt = || -> io::Result<_> {
        let recorder = recorder.take().unwrap_or_else(|| Recorder::of(study));
        let summary = execute::run(study, store, &options, cancel, &mut console)?;
        let record = recorder.finish(study, store, &summary);
        let published = publish::publish(study, store, &summary, record.as_ref().ok());
        Ok((summary, record, published))
    };
    let mut ended = attempt()?;
    if ended.2.as_ref().is_err_and(|e| Damaged::of(e).is_some()) {
        // It is in quarantine: what made it is a miss now.
        ended = attempt()?;
    }
    let (summary, record, published) = ended;
    match (record, asked, &published) {
        (Ok(run), Some(asked), Ok(page)) => {
            asked.note(study, store, &summary, run.keys, page.as_deref());
        }
        (Ok(_), ..) => {}
        (Err(error), ..) => say!("warning: the run could not be recorded: {error}"),
    }
    report(&summary);
    let page = published?;
    let line = last_line(&summary, start.elapsed().as_secs_f64(), page.as_deref());
    if args.json {
        let mut line = json!({ "event": "summary", "tasks": summary.tasks, "cached": summary.cached,
            "ran": summary.ran, "failed": summary.failed.len(), "not_run": summary.skipped,
            "line": line });
        if let Some(remote) = &options.remote {
            let (requests, bytes) = remote.cost();
            line["remote"] = json!({ "requests": requests, "bytes": bytes });
        }
        say::json_out(&line.to_string())?;
    } else {
        print(&format!("{line}\n"))?;
    }
    outcome(&summary)
}

/// How a command ends whose tasks came to this.
pub(super) fn outcome(summary: &Summary) -> Result<()> {
    if summary.interrupted {
        return Err(Failure::Interrupted);
    }
    if summary.failed.is_empty() { Ok(()) } else { Err(Failure::Task) }
}

/// The one line that people read.
pub(super) fn last_line(summary: &Summary, seconds: f64, page: Option<&Path>) -> String {
    let page = page.map(|p| format!(" | {}", p.display())).unwrap_or_default();
    let skipped = match summary.skipped {
        0 => String::new(),
        skipped => format!(", {skipped} not run"),
    };
    let Summary { tasks, cached, ran, failed, .. } = summary;
    let noun = if *tasks == 1 { "task" } else { "tasks" };
    let (failed, took, saved) = (failed.len(), execute::seconds(seconds), saved(summary));
    format!(
        "{tasks} {noun}: {cached} cached, {ran} ran, {failed} failed{skipped} | {took}{saved}{page}"
    )
}

/// Tells programs or people what happens, and those at a terminal with bars.
pub(super) fn teller(json: bool) -> Box<dyn Console> {
    if json {
        Box::new(Events)
    } else if io::stderr().is_terminal() {
        Box::new(Fancy::default())
    } else {
        Box::new(Plain::default())
    }
}

/// Who is told what happens.
fn console(args: &RunArgs, study: &Study, store: &Store) -> Result<Several> {
    let live = Live::new(store, args.selection.in_words(study));
    // Before the bars: an error is printed to a terminal that has none.
    let trace = args.trace.as_deref().map(Trace::create).transpose()?;
    let mut consoles: Vec<Box<dyn Console>> = vec![Box::new(live), teller(args.json)];
    consoles.extend(trace.map(|trace| Box::new(trace) as Box<dyn Console>));
    Ok(Several(consoles))
}

/// The cores that were asked for, or all, and all the memory there is.
pub(super) fn machine(jobs: Option<NonZeroUsize>) -> Resources {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let cpus = u32::try_from(jobs.map_or(cores, NonZeroUsize::get)).unwrap_or(u32::MAX);
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kilobytes * 1024)
    });
    // Where the system does not say, memory holds nobody up.
    Resources { cpus, memory: memory.unwrap_or(u64::MAX) }
}

/// What to do after a failure or an interruption.
pub(super) fn report(summary: &Summary) {
    if summary.interrupted {
        say!("interrupted: what was finished is kept; run again to go on");
    } else if !summary.failed.is_empty() {
        let count = summary.failed.len();
        let noun = if count == 1 { "task" } else { "tasks" };
        say!("{count} {noun} failed:");
        for (task, why) in &summary.failed {
            say!("  {}: {}", one_line(task), why.lines().next().unwrap_or_default());
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
    let wanted = execute::wanted(study, targets);
    let (mut text, mut hits, mut runs, mut may) = (String::new(), 0, 0, 0);
    for task in (0..study.tasks.len()).filter(|&t| wanted[t]) {
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
                let why = why.lines().map(str::trim).collect::<Vec<_>>().join("; ");
                text += &format!("would fail {name}: {why}\n");
            }
        }
    }
    planner.save();
    text +=
        &format!("{hits} cached, {runs} would run, {may} may run after those; nothing was run\n");
    print(&text)
}
