//! Runs what is not in the store: ready tasks in the order of `queue`, as many at once as there are jobs.

mod audit;
mod edges;
mod events;
mod limits;
mod live;
mod local;
mod process;
mod progress;
mod queue;
mod schedule;
mod signals;
mod slurm;
mod trace;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};

use crate::digest::Digest;
use crate::graph::{Study, TaskId};
use crate::plan::Planner;
use crate::policy::Resources;
use crate::remote::Remote;
use crate::snapshot::CodeSnapshot;
use crate::store::Store;

pub use audit::{Audited, audit};
pub(crate) use edges::wanted;
pub use events::Events;
pub use live::{Activity, Live, Running};
use local::{Executor, Local};
pub use process::{Cancel, serve_task};
pub use progress::{Console, Fancy, Plain, Several, seconds};
use schedule::Scheduler;
pub use signals::cancel_on_signals;
pub use slurm::{Cluster, OnInterrupt, Settings as SlurmSettings, jobs as slurm_jobs, serve_job};
pub use trace::Trace;
use worker::{Job, Message, Outcome};

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The tasks to run; what they need runs too.
    pub targets: BTreeSet<TaskId>,
    /// What the tasks may take of the machine at once. A task takes one core unless its stage says
    /// more, so the cores are the number of tasks at once.
    pub machine: Resources,
    /// Whether independent work goes on after a failure.
    pub on_failure: OnFailure,
    /// Whether the console is told the log of every task.
    pub logs: Logs,
    /// The cluster whose jobs the tasks are; this machine's processes where there is none.
    pub cluster: Option<Cluster>,
    /// A store that is shared: asked before a task runs, and sent what it made.
    pub remote: Option<Arc<Remote>>,
    /// The binary whose `task` command runs a task.
    pub program: PathBuf,
}

/// Which logs the console is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logs {
    /// Those of failures.
    OfFailures,
    /// All: a hit replays the log of the run that made it.
    All,
}

/// What a failure means for the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Running tasks finish, no other starts.
    Stop,
    /// Everything that does not depend on the failed task goes on.
    KeepGoing,
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// Tasks that were asked for, with what they need.
    pub tasks: usize,
    /// Those that were in the store.
    pub cached: usize,
    /// Those that ran.
    pub ran: usize,
    /// Which those are.
    pub computed: BTreeSet<TaskId>,
    /// Those that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Those whose input turned out to be damaged, with what it was. What made it is a miss now.
    pub damaged: Vec<(String, String)>,
    /// Those that could not start because of a failure or an interruption.
    pub skipped: usize,
    /// Seconds that hits took when they ran.
    pub saved_s: f64,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// The artifact of every task that has one.
    pub artifacts: BTreeMap<TaskId, Digest>,
    /// The key of every task that has an artifact.
    pub keys: BTreeMap<TaskId, Digest>,
}

/// How often what turns out to be damaged is made again in one run. A disk that damages what was just
/// written is not mended by writing more.
const MENDS: usize = 3;

/// Runs the targets of a study. Where an input turns out to be damaged, what made it runs again.
///
/// # Errors
/// When the store cannot be written; a task's failure is in the summary.
pub fn run(
    study: &Study,
    store: &Store,
    options: &RunOptions,
    cancel: &Cancel,
    console: &mut dyn Console,
) -> io::Result<Summary> {
    let wanted = wanted(study, &options.targets);
    let tasks = (0..wanted.len()).filter(|task| wanted[*task]);
    let code = Arc::new(CodeSnapshot::take(study, store, tasks));
    let mut summary = pass(study, store, options, &code, cancel, console)?;
    for _ in 0..MENDS {
        if summary.damaged.is_empty() || !summary.failed.is_empty() || cancel.requested() {
            break;
        }
        let before = summary;
        summary = pass(study, store, options, &code, cancel, console)?;
        // What ran before is in the store now, and was not to begin with.
        summary.ran += before.ran;
        summary.cached = summary.cached.saturating_sub(before.ran);
        summary.saved_s = summary.saved_s.min(before.saved_s);
    }
    let damaged = std::mem::take(&mut summary.damaged);
    summary.failed.extend(damaged);
    Ok(summary)
}

/// Runs what is not in the store.
fn pass(
    study: &Study,
    store: &Store,
    options: &RunOptions,
    code: &Arc<CodeSnapshot>,
    cancel: &Cancel,
    console: &mut dyn Console,
) -> io::Result<Summary> {
    let folder = store.run_folder()?;
    let (sender, messages) = mpsc::channel();
    let planner = Planner::for_run(study, store, Arc::clone(code));
    let mut scheduler = Scheduler::new(study, store, options, &planner, console);
    std::thread::scope(|scope| {
        let mut executor: Box<dyn Executor<'_> + '_> = match &options.cluster {
            None => Box::new(Local { scope, cancel, sender: sender.clone() }),
            Some(cluster) => {
                let (slurm, jobs) = slurm::channel();
                let server = slurm::Server::new(cluster, store, options, cancel, sender.clone());
                scope.spawn(move || server.serve(&jobs));
                Box::new(slurm)
            }
        };
        loop {
            if !cancel.requested() && !scheduler.stopping() {
                scheduler.look_up_ready();
                ask(options.remote.as_deref(), scheduler.asks(), &sender);
                let mut jobs = Vec::new();
                while let Some(turn) = scheduler.next_turn() {
                    let (task, key) = (turn.task, &turn.key);
                    let place = match options.cluster {
                        None => folder.attempt(),
                        Some(_) => Ok(slurm::folder(store, key)),
                    };
                    match place {
                        Ok(place) => {
                            jobs.push(Job::new(study, store, &planner, options, place, turn));
                        }
                        Err(error) => scheduler.finished(task, Outcome::Failed(error.to_string())),
                    }
                }
                executor.launch(jobs);
            }
            if scheduler.idle(cancel.requested()) {
                break;
            }
            // A task that is tried again later is waited for like one that runs.
            match messages.recv_timeout(scheduler.patience()) {
                Ok(Message::Progress(task, progress)) => scheduler.progress(task, &progress),
                Ok(Message::Finished(task, outcome)) => scheduler.finished(task, *outcome),
                Ok(Message::Asked(task)) => scheduler.answered(task),
                Err(mpsc::RecvTimeoutError::Timeout) => scheduler.tick(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
            }
        }
    });
    let summary = scheduler.end(cancel.requested());
    drop(folder);
    // What is sent is read and hashed by then; what a power failure takes here is taken from there.
    if let Err(error) = store.sync() {
        say!("warning: what this run made may not survive a power failure: {error}");
    }
    if let Some(remote) = &options.remote {
        remote.finish(|| cancel.requested());
    }
    let mut planner = planner;
    planner.save();
    Ok(summary)
}

/// Asks the remote for what misses here.
fn ask(remote: Option<&Remote>, asks: Vec<(TaskId, Digest)>, sender: &mpsc::Sender<Message>) {
    for (task, key) in asks {
        let sender = sender.clone();
        let Some(remote) = remote else { return };
        remote.ask(key, move |_| {
            // The scheduler is gone only when the run is being torn down.
            let _ = sender.send(Message::Asked(task));
        });
    }
}

#[cfg(test)]
mod tests;
