//! Tasks as jobs of a Slurm cluster that shares this file system.
//!
//! Slurm schedules; this only submits job arrays, looks how they stand, and keeps what they made. One
//! thread owns all of it. A task is laid out in `cache/jobs/<key>/`, which outlives the runner: a
//! runner that died finds there, when it is started anew, which job has a task and how it ended.

mod array;
mod client;
mod job;
mod script;
mod settings;
mod state;
mod submit;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use dissim_api::{Progress, TaskSpec};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use rayon::prelude::*;

use super::RunOptions;
use super::local::Executor;
use super::process::Cancel;
use super::worker::{Finished, Job, Laid, Message, Outcome};
use crate::graph::TaskId;
use crate::remote::Remote;
use crate::store::{Durable, KeyLock, Store};
use array::{Array, Whereabouts};
use client::Why;
pub use job::serve_job;
pub use settings::Settings;
use state::{JobId, Meaning, Standing};

/// Tasks that become ready within this time of each other go out together.
const GATHER: Duration = Duration::from_millis(300);
/// But the first of them waits no longer than this.
const GATHER_MOST: Duration = Duration::from_secs(2);
/// How often the folders of jobs are looked at,
const LOOK: Duration = Duration::from_millis(500);
/// and the share of that time for each: a file server is asked for no more than 10,000 a second.
const LOOK_EACH: Duration = Duration::from_micros(100);
/// How long a result may take to show on this machine after its job has ended.
const LAG: Duration = Duration::from_secs(20);
/// How often a task is submitted again for what the cluster did.
const AGAIN: u32 = 5;
/// How long Slurm is left alone when it does not answer a submission.
const BUSY: Duration = Duration::from_secs(10);

/// Up to so many tasks that end together are synced one by one.
const FEW: usize = 16;
/// Open files beside the locks of tasks.
const SPARE_FILES: u64 = 500;

/// What becomes of the jobs when the run is interrupted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnInterrupt {
    /// They go on; the next run takes up what they made.
    Leave,
    /// They are cancelled.
    Cancel,
}

/// How a cluster is used in a run.
#[derive(Clone)]
pub struct Cluster {
    /// `executors: { slurm: .. }`.
    pub settings: Settings,
    /// Asked once, with the number of jobs that are out, when the run was interrupted.
    pub on_interrupt: Arc<dyn Fn(usize) -> OnInterrupt + Send + Sync>,
}

impl Cluster {
    /// How many cores are asked for at once. A task that is out holds the lock of its key, which is an
    /// open file: the limit on those is raised as far as the system allows, and kept to.
    #[must_use]
    pub fn at_once(&self, asked: Option<u32>) -> u32 {
        let wanted = asked.unwrap_or(self.settings.at_once);
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
        let files = setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_or(soft, |()| hard);
        let most = u32::try_from(files.saturating_sub(SPARE_FILES)).unwrap_or(u32::MAX).max(1);
        if wanted > most {
            say!(
                "warning: {most} tasks at once in place of {wanted}: more open files are not allowed here (ulimit -n)"
            );
        }
        wanted.min(most)
    }
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// The executor of a cluster: hands tasks to the thread that [`serve`]s them.
pub(super) struct Slurm<'a>(pub Sender<Vec<Job<'a>>>);

impl<'a> Executor<'a> for Slurm<'a> {
    fn launch(&mut self, jobs: Vec<Job<'a>>) {
        if !jobs.is_empty() {
            // The other side goes only after this one.
            let _ = self.0.send(jobs);
        }
    }
}

/// Where the folder of a task's job is.
pub(super) fn folder(store: &Store, key: &crate::digest::Digest) -> PathBuf {
    store.root().join("jobs").join(key.as_str())
}

/// A task whose job Slurm has.
struct Out<'a> {
    job: Job<'a>,
    laid: Laid,
    array: Array,
    id: JobId,
    state: String,
    /// Since when its job is not in the queue any more.
    gone: Option<Instant>,
}

/// The thread that owns the jobs of a run.
pub(super) struct Server<'a> {
    cluster: &'a Cluster,
    store: &'a Store,
    /// The shared store, where claims are made in it.
    remote: Option<&'a Remote>,
    program: PathBuf,
    cancel: &'a Cancel,
    sender: Sender<Message>,
    /// Wait for the lock of their key, which another runner holds.
    blocked: Vec<Job<'a>>,
    /// Locked, to be claimed and laid out.
    locked: Vec<(Job<'a>, KeyLock)>,
    /// Laid out, to be submitted.
    laid: Vec<(Job<'a>, Laid)>,
    out: Vec<Out<'a>>,
    /// Arrays that Slurm may have or not: it did not answer.
    unsure: Vec<(Array, Vec<(Job<'a>, Laid)>)>,
    /// Arrays of earlier runners, as far as it is known whether Slurm has them.
    earlier: HashMap<Array, Whereabouts>,
    /// Tasks of each array whose turn is not over.
    left: HashMap<Array, usize>,
    again: HashMap<TaskId, u32>,
    /// When Slurm may be asked to submit again.
    submit_from: Instant,
    looked: Instant,
    polled: Instant,
    told_silent: bool,
}

impl<'a> Server<'a> {
    pub fn new(
        cluster: &'a Cluster,
        store: &'a Store,
        options: &'a RunOptions,
        cancel: &'a Cancel,
        sender: Sender<Message>,
    ) -> Self {
        let now = Instant::now();
        Self {
            cluster,
            store,
            remote: options.remote.as_deref().filter(|remote| remote.is_written()),
            program: options.program.clone(),
            cancel,
            sender,
            blocked: Vec::new(),
            locked: Vec::new(),
            laid: Vec::new(),
            out: Vec::new(),
            unsure: Vec::new(),
            earlier: HashMap::new(),
            left: HashMap::new(),
            again: HashMap::new(),
            submit_from: now,
            looked: now,
            polled: now,
            told_silent: false,
        }
    }

    /// Serves until the run is over and nothing is out.
    pub fn serve(mut self, jobs: &Receiver<Vec<Job<'a>>>) {
        let mut open = true;
        while open || self.holds_any() {
            open &= self.gather(jobs);
            if self.cancel.requested() {
                self.interrupted();
                continue;
            }
            let blocked = std::mem::take(&mut self.blocked);
            blocked.into_iter().for_each(|job| self.begin(job));
            self.claim();
            if Instant::now() >= self.submit_from {
                self.submit();
            }
            if self.looked.elapsed() >= LOOK.max(LOOK_EACH * self.out.len() as u32) {
                self.collect();
                self.looked = Instant::now();
            }
            if self.polled.elapsed() >= self.cluster.settings.poll {
                self.earlier.retain(|_, known| !matches!(known, Whereabouts::Unknown(_)));
                self.poll();
                self.claim_taken_up();
                self.polled = Instant::now();
            }
        }
    }

    fn holds_any(&self) -> bool {
        !(self.blocked.is_empty()
            && self.locked.is_empty()
            && self.laid.is_empty()
            && self.unsure.is_empty()
            && self.out.is_empty())
    }

    /// Takes in what became ready; false when no more will come.
    fn gather(&mut self, jobs: &Receiver<Vec<Job<'a>>>) -> bool {
        let first = Instant::now();
        let mut wait = LOOK;
        loop {
            match jobs.recv_timeout(wait) {
                Ok(more) => {
                    more.into_iter().for_each(|job| self.begin(job));
                    if first.elapsed() > GATHER_MOST {
                        return true;
                    }
                    wait = GATHER;
                }
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => {
                    if self.holds_any() {
                        std::thread::sleep(LOOK);
                    }
                    return false;
                }
            }
        }
    }

    /// Keeps what jobs left, wherever Slurm believes them to be.
    fn collect(&mut self) {
        let (ended, out): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out)
            .into_par_iter()
            .map(|out| (job::ended(out.job.folder()), out))
            .partition_map(|(ended, out)| match ended {
                Some(finished) => rayon::iter::Either::Left((finished, out)),
                None => rayon::iter::Either::Right(out),
            });
        self.out = out;
        // Many that end together are synced together.
        let durable = if ended.len() > FEW { Durable::Later } else { Durable::Now };
        let outcomes: Vec<_> = ended
            .into_par_iter()
            .map(|(finished, Out { job, laid, array, .. })| {
                let outcome = job.end(laid, finished, durable);
                // Here, as removing files takes long on some file systems.
                job.clear();
                (array, job, outcome.unwrap_or_else(|e| Outcome::Failed(e.to_string())))
            })
            .collect();
        if durable == Durable::Later
            && let Err(error) = self.store.sync()
        {
            say!("warning: what jobs made may not survive a power failure: {error}");
        }
        for (array, job, outcome) in outcomes {
            self.over(&job, outcome);
            self.leaves(array);
        }
    }

    /// Asks Slurm how the jobs stand.
    fn poll(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let ids: Vec<JobId> = self.out.iter().map(|out| out.id).collect();
        let queue = match client::queue(&ids) {
            Ok(queue) => queue,
            Err(Why::Silent(what) | Why::Refused(what)) => return self.tell_silent(&what),
        };
        self.told_silent = false;
        let now = Instant::now();
        for out in &mut self.out {
            match queue.get(&out.id) {
                Some(standing) => {
                    out.gone = None;
                    if out.state != standing.state {
                        out.state.clone_from(&standing.state);
                        tell_state(&self.sender, out, standing);
                    }
                }
                None => drop(out.gone.get_or_insert(now)),
            }
        }
        self.bury();
    }

    /// Jobs that are gone and left no word: why?
    fn bury(&mut self) {
        let gone: Vec<JobId> =
            self.out.iter().filter(|out| out.gone.is_some()).map(|out| out.id).collect();
        if gone.is_empty() {
            return;
        }
        let past = client::past(&gone);
        let mut left = Vec::new();
        for out in std::mem::take(&mut self.out) {
            let Some(since) = out.gone else {
                left.push(out);
                continue;
            };
            let limit = self.cluster.settings.time.map(|t| super::seconds(t.as_secs_f64()));
            let meaning = past.get(&out.id).map(|standing| standing.meaning(limit.as_deref()));
            match meaning {
                Some(Meaning::Failed(why)) => self.failed(out, &why),
                Some(Meaning::Again(why)) => self.once_more(out, &why),
                // Its result may still be on its way through the file system.
                Some(Meaning::Completed | Meaning::Alive) | None if since.elapsed() < LAG => {
                    left.push(out)
                }
                Some(Meaning::Completed) => {
                    self.failed(out, "its job says that it is done, and left no result");
                }
                Some(Meaning::Alive) | None => {
                    self.once_more(out, "its job is gone, and Slurm does not know how it ended");
                }
            }
        }
        self.out.extend(left);
    }

    fn failed(&mut self, out: Out<'a>, why: &str) {
        // A result that came at the last moment is a result.
        let finished = job::ended(out.job.folder()).unwrap_or_else(|| {
            let output = out.array.output_of(out.id);
            Finished::lost(why, job::log(out.job.folder(), &output))
        });
        let outcome = out.job.end(out.laid, finished, Durable::Now);
        self.over(&out.job, outcome.unwrap_or_else(|e| Outcome::Failed(e.to_string())));
        self.leaves(out.array);
    }

    /// Submits a task again for what was not its fault.
    fn once_more(&mut self, out: Out<'a>, why: &str) {
        let times = self.again.entry(out.job.task()).or_default();
        *times += 1;
        if *times > AGAIN {
            return self.failed(out, &format!("{why}; given up after {AGAIN} more attempts"));
        }
        say!("{}: {why}; it is submitted again", out.job.name());
        self.leaves(out.array);
        self.laid.push((out.job, out.laid));
    }

    /// A task of an array is over, or goes out in another one. With the last the array's folder goes.
    fn leaves(&mut self, array: Array) {
        if let Some(left) = self.left.get_mut(&array) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&array);
                let goes_out = |folder: &Path| {
                    let of = job::array_of(self.store, folder);
                    of.is_some_and(|(other, _)| other == array)
                };
                // Jobs that this run has no use for read the list when they start.
                if !array.tasks().iter().any(|folder| goes_out(folder)) {
                    array.clear();
                }
            }
        }
    }

    /// Asks what is to become of the jobs, and ends the run's part in them.
    fn interrupted(&mut self) {
        let blocked = std::mem::take(&mut self.blocked);
        let (locked, laid) = (std::mem::take(&mut self.locked), std::mem::take(&mut self.laid));
        let unsure: Vec<_> = self.unsure.drain(..).flat_map(|(_, tasks)| tasks).collect();
        let locked = locked.iter().map(|(job, _)| job);
        let laid = laid.iter().chain(&unsure).map(|(job, _)| job);
        blocked.iter().chain(locked).chain(laid).for_each(|job| {
            let _ = self.sender.send(Message::Finished(job.task(), Box::new(Outcome::Cancelled)));
        });
        let out = std::mem::take(&mut self.out);
        if out.is_empty() {
            return;
        }
        let ids: Vec<JobId> = out.iter().map(|out| out.id).collect();
        let count = ids.len();
        match (self.cluster.on_interrupt)(count) {
            OnInterrupt::Leave => {
                let noun = if count == 1 { "job goes" } else { "jobs go" };
                say!(
                    "{count} {noun} on in Slurm; the next `dissim run --executor slurm` takes up what they make"
                );
            }
            OnInterrupt::Cancel => match client::cancel(&ids) {
                Ok(()) => {
                    let noun = if count == 1 { "job was" } else { "jobs were" };
                    say!("{count} {noun} cancelled in Slurm");
                    out.iter().for_each(|out| {
                        out.job.clear();
                        out.array.clear();
                    });
                }
                Err(Why::Silent(what) | Why::Refused(what)) => {
                    say!("warning: the jobs could not be cancelled, and go on: {what}");
                }
            },
        }
        for out in out {
            let _ =
                self.sender.send(Message::Finished(out.job.task(), Box::new(Outcome::Cancelled)));
        }
    }

    /// A task's turn is over: its folder goes, and the scheduler is told.
    fn over(&self, job: &Job<'a>, outcome: Outcome) {
        job.clear();
        // The scheduler is gone only when the run is being torn down.
        let _ = self.sender.send(Message::Finished(job.task(), Box::new(outcome)));
    }

    fn tell_silent(&mut self, what: &str) {
        if !std::mem::replace(&mut self.told_silent, true) {
            say!("warning: Slurm does not answer, and is asked again: {what}");
        }
    }
}

/// Tells the console that a job waits or runs, and where.
fn tell_state(sender: &Sender<Message>, out: &Out<'_>, standing: &Standing) {
    let note = match standing.nodes.as_str() {
        "" => format!("{} {}", out.id, standing.state.to_lowercase()),
        nodes => format!("{} {} on {nodes}", out.id, standing.state.to_lowercase()),
    };
    let progress = Progress { done: 0, total: 0, unit: "job".to_owned(), note };
    let _ = sender.send(Message::Progress(out.job.task(), progress));
}

/// A channel to a server of jobs.
pub(super) fn channel<'a>() -> (Slurm<'a>, Receiver<Vec<Job<'a>>>) {
    let (sender, jobs) = mpsc::channel();
    (Slurm(sender), jobs)
}

/// The tasks that jobs of Slurm have, as far as their runners noted it: the task, and the job.
///
/// # Errors
/// When the folder cannot be listed.
pub fn jobs(store: &Store) -> io::Result<Vec<(String, String)>> {
    let root = store.root().join("jobs");
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut jobs = Vec::new();
    for entry in fs::read_dir(root)?.flatten() {
        let spec = fs::read(entry.path().join("spec.json")).ok();
        let spec: Option<TaskSpec> = spec.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if let (Some(spec), Some((array, index))) = (spec, job::array_of(store, &entry.path()))
            && let Some(id) = array.id()
        {
            jobs.push((spec.task, JobId { array: id, index }.to_string()));
        }
    }
    jobs.sort();
    Ok(jobs)
}
