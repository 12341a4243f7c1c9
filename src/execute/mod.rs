//! Runs what is not in the store: ready tasks first, as many at once as there are jobs.

mod process;
mod progress;
mod worker;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Instant;

use crate::digest::Digest;
use crate::graph::{Study, TaskId};
use crate::key::Description;
use crate::plan::Planner;
use crate::store::{Record, Store};

pub use process::{Cancel, serve_task};
pub use progress::{Console, Fancy, Plain, seconds};
use worker::{Job, Message, Outcome};

/// How to run.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The tasks to run; what they need runs too.
    pub targets: BTreeSet<TaskId>,
    /// Tasks at once.
    pub jobs: usize,
    /// Whether independent work goes on after a failure.
    pub on_failure: OnFailure,
    /// The binary whose `task` command runs a task.
    pub program: PathBuf,
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
    /// Those that failed, with the reason.
    pub failed: Vec<(String, String)>,
    /// Those that could not start because of a failure or an interruption.
    pub skipped: usize,
    /// Seconds that hits took when they ran.
    pub saved_s: f64,
    /// Whether a signal ended it.
    pub interrupted: bool,
    /// The artifact of every task that has one.
    pub artifacts: BTreeMap<TaskId, Digest>,
}

/// The life of a task in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    /// Not asked for.
    Unwanted,
    /// So many of the tasks it needs are not done.
    Pending(usize),
    /// All it needs is there; its key can be known.
    Ready,
    /// A miss, in line for a free job or for an equal key that is being computed.
    Queued,
    /// Its process runs.
    Running,
    /// Its artifact is in the store.
    Done(Digest),
    /// It failed, or cannot run because something it needs failed.
    Lost,
}

/// Runs the targets of a study.
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
    let folder = store.run_folder()?;
    let (sender, messages) = mpsc::channel();
    let mut scheduler = Scheduler::new(study, store, options, console);
    std::thread::scope(|scope| {
        loop {
            let stopped = cancel.requested() || scheduler.stopping();
            if !stopped {
                scheduler.look_up_ready()?;
                while let Some((task, description)) = scheduler.next_job() {
                    let job = Job::new(
                        study,
                        store,
                        task,
                        description,
                        &folder,
                        options,
                        &mut scheduler.planner,
                    );
                    scheduler.started(task);
                    let sender = sender.clone();
                    scope.spawn(move || job.run(cancel, &sender));
                }
            }
            if scheduler.running == 0 {
                break;
            }
            match messages.recv() {
                Ok(Message::Progress(task, progress)) => scheduler.progress(task, &progress),
                Ok(Message::Finished(task, outcome)) => scheduler.finished(task, *outcome)?,
                Err(_) => break,
            }
        }
        scheduler.end(cancel.requested())
    })
}

/// Owns the transitions of every task's life.
struct Scheduler<'a> {
    study: &'a Study,
    store: &'a Store,
    options: &'a RunOptions,
    console: &'a mut dyn Console,
    planner: Planner<'a>,
    life: Vec<Life>,
    users: Vec<Vec<TaskId>>,
    ready: VecDeque<TaskId>,
    queue: VecDeque<(TaskId, Box<Description>)>,
    /// Tasks whose equal is being computed, by key.
    equal: HashMap<Digest, Vec<TaskId>>,
    keys: HashMap<TaskId, Digest>,
    running: usize,
    started: HashMap<TaskId, Instant>,
    summary: Summary,
}

impl<'a> Scheduler<'a> {
    fn new(
        study: &'a Study,
        store: &'a Store,
        options: &'a RunOptions,
        console: &'a mut dyn Console,
    ) -> Self {
        let n = study.tasks.len();
        let mut wanted = vec![false; n];
        for task in (0..n).rev() {
            wanted[task] |= options.targets.contains(&task);
            if wanted[task] {
                let needs = study.tasks[task].needs.iter().flat_map(|need| &need.tasks);
                needs.for_each(|&need| wanted[need] = true);
            }
        }
        let mut users = vec![Vec::new(); n];
        let mut life = vec![Life::Unwanted; n];
        let mut ready = VecDeque::new();
        for task in (0..n).filter(|&t| wanted[t]) {
            let mut needs: Vec<TaskId> =
                study.tasks[task].needs.iter().flat_map(|need| need.tasks.clone()).collect();
            needs.sort_unstable();
            needs.dedup();
            needs.iter().for_each(|&need| users[need].push(task));
            life[task] = if needs.is_empty() { Life::Ready } else { Life::Pending(needs.len()) };
            if needs.is_empty() {
                ready.push_back(task);
            }
        }
        let summary =
            Summary { tasks: wanted.iter().filter(|w| **w).count(), ..Summary::default() };
        console.begin(summary.tasks);
        Self {
            study,
            store,
            options,
            console,
            planner: Planner::new(study, store),
            life,
            users,
            ready,
            queue: VecDeque::new(),
            equal: HashMap::new(),
            keys: HashMap::new(),
            running: 0,
            started: HashMap::new(),
            summary,
        }
    }

    fn stopping(&self) -> bool {
        self.options.on_failure == OnFailure::Stop && !self.summary.failed.is_empty()
    }

    /// Finds the keys of ready tasks: hits are done at once, misses queue.
    fn look_up_ready(&mut self) -> io::Result<()> {
        while let Some(task) = self.ready.pop_front() {
            let life = &self.life;
            let artifact = |id: TaskId| match &life[id] {
                Life::Done(digest) => Some(digest.clone()),
                _ => None,
            };
            let description = match self.planner.describe(task, artifact) {
                Ok(description) => description,
                Err(why) => {
                    self.lose(task, why);
                    continue;
                }
            };
            if let Some(record) = self.planner.lookup(&description) {
                self.hit(task, &record)?;
                continue;
            }
            let key = description.key();
            self.keys.insert(task, key.clone());
            self.life[task] = Life::Queued;
            match self.equal.get_mut(&key) {
                Some(waiting) => waiting.push(task),
                None => {
                    self.equal.insert(key, Vec::new());
                    self.queue.push_back((task, Box::new(description)));
                }
            }
        }
        Ok(())
    }

    fn next_job(&mut self) -> Option<(TaskId, Box<Description>)> {
        if self.running >= self.options.jobs { None } else { self.queue.pop_front() }
    }

    fn started(&mut self, task: TaskId) {
        self.life[task] = Life::Running;
        self.running += 1;
        self.started.insert(task, Instant::now());
        self.console.started(&self.study.tasks[task].name);
    }

    fn progress(&mut self, task: TaskId, progress: &dissim_api::Progress) {
        self.console.progress(&self.study.tasks[task].name, progress);
    }

    fn finished(&mut self, task: TaskId, outcome: Outcome) -> io::Result<()> {
        self.running -= 1;
        let name = &self.study.tasks[task].name;
        let seconds = self.started.remove(&task).map_or(0.0, |s| s.elapsed().as_secs_f64());
        match outcome {
            Outcome::Ran(record) => {
                self.summary.ran += 1;
                self.console.done(name, seconds);
                self.complete(task, record.artifact);
            }
            Outcome::TakenOver(record) => self.hit(task, &record)?,
            Outcome::Failed(why) => {
                self.console.failed(name, &why);
                self.lose(task, why);
            }
            Outcome::Cancelled => {
                self.console.cancelled(name);
                self.life[task] = Life::Queued;
            }
        }
        // Tasks with an equal key find its record now; after a failure one of them tries again.
        if let Some(key) = self.keys.get(&task)
            && let Some(waiting) = self.equal.remove(key)
        {
            self.ready.extend(waiting);
        }
        Ok(())
    }

    fn hit(&mut self, task: TaskId, record: &Record) -> io::Result<()> {
        self.summary.cached += 1;
        self.summary.saved_s += record.duration_s;
        let name = &self.study.tasks[task].name;
        self.store.put_latest(name, &record.key)?;
        self.console.cached(name);
        self.complete(task, record.artifact.clone());
        Ok(())
    }

    fn complete(&mut self, task: TaskId, artifact: Digest) {
        self.summary.artifacts.insert(task, artifact.clone());
        self.life[task] = Life::Done(artifact);
        for &user in &self.users[task] {
            if let Life::Pending(count) = &mut self.life[user] {
                *count -= 1;
                if *count == 0 {
                    self.life[user] = Life::Ready;
                    self.ready.push_back(user);
                }
            }
        }
    }

    /// A task failed: so has everything that needs it.
    fn lose(&mut self, task: TaskId, why: String) {
        self.summary.failed.push((self.study.tasks[task].name.clone(), why));
        self.life[task] = Life::Lost;
        let mut lost = self.users[task].clone();
        while let Some(user) = lost.pop() {
            if self.life[user] != Life::Lost {
                self.life[user] = Life::Lost;
                self.summary.skipped += 1;
                lost.extend(&self.users[user]);
            }
        }
    }

    fn end(mut self, interrupted: bool) -> io::Result<Summary> {
        self.console.end();
        self.planner.save()?;
        let unfinished = |life: &&Life| {
            matches!(life, Life::Pending(_) | Life::Ready | Life::Queued | Life::Running)
        };
        self.summary.skipped += self.life.iter().filter(unfinished).count();
        self.summary.interrupted = interrupted;
        Ok(self.summary)
    }
}

#[cfg(test)]
mod tests;
