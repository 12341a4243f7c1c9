//! Owns the transitions of every task's life.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::edges::Edges;
use super::progress::Console;
use super::queue::Queue;
use super::worker::{Outcome, Turn, tail_of};
use super::{Logs, OnFailure, RunOptions, Summary};
use crate::digest::Digest;
use crate::graph::{Study, TaskId};
use crate::key::Description;
use crate::plan::{Found, Planner};
use crate::policy::{Budget, Policy};
use crate::store::{Hit, Store};

/// How long to wait for news where nothing is due: a signal is noticed that fast.
const PATIENCE: Duration = Duration::from_millis(200);
/// The last bytes of a log that are shown when all logs are asked for.
const MAX_SHOWN_LOG_BYTES: u64 = 4 << 20;
/// Tasks with a duration that nobody knows are taken to need this long.
const UNKNOWN_S: f64 = 1.0;

/// The life of a task in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Life {
    /// Not asked for.
    Unwanted,
    /// Tasks it needs are not done.
    Pending,
    /// All it needs is there; its key can be known.
    Ready,
    /// A miss; the remote is asked whether it has it.
    Asked,
    /// A miss, in line for its share of the machine, for an equal key that is being computed, here
    /// or elsewhere, or for another attempt.
    Queued,
    /// Its process runs.
    Running,
    /// Its artifact is in the store.
    Done(Digest),
    /// It failed, or cannot run because something it needs failed.
    Lost,
}

/// A miss on its way.
struct Miss {
    key: Digest,
    description: Arc<Description>,
    failed: u32,
}

pub(super) struct Scheduler<'a> {
    study: &'a Study,
    store: &'a Store,
    options: &'a RunOptions,
    planner: &'a Planner<'a>,
    console: &'a mut dyn Console,
    budget: Budget,
    edges: Edges,
    life: Vec<Life>,
    ready: VecDeque<TaskId>,
    queue: Queue,
    misses: HashMap<TaskId, Miss>,
    /// Tasks whose equal is being computed, by key.
    equal: HashMap<Digest, Vec<TaskId>>,
    /// Misses that the remote is to be asked for.
    asks: Vec<TaskId>,
    /// How many it was asked for, and has not answered.
    asking: usize,
    /// Tasks that are tried again, and when.
    delayed: Vec<(Instant, TaskId)>,
    started: HashMap<TaskId, Instant>,
    summary: Summary,
}

impl<'a> Scheduler<'a> {
    pub fn new(
        study: &'a Study,
        store: &'a Store,
        options: &'a RunOptions,
        planner: &'a Planner<'a>,
        console: &'a mut dyn Console,
    ) -> Self {
        let edges = Edges::new(study, &options.targets);
        let ready: VecDeque<_> = edges.free().into();
        let life = |wanted: &bool| if *wanted { Life::Pending } else { Life::Unwanted };
        let mut life: Vec<_> = edges.wanted.iter().map(life).collect();
        ready.iter().for_each(|&task| life[task] = Life::Ready);
        let tasks = edges.wanted.iter().filter(|w| **w).count();
        let summary = Summary { tasks, ..Summary::default() };
        console.begin(tasks);
        Self {
            study,
            store,
            options,
            planner,
            console,
            budget: Budget::new(options.machine.clone()),
            edges,
            life,
            ready,
            queue: Queue::default(),
            misses: HashMap::new(),
            equal: HashMap::new(),
            asks: Vec::new(),
            asking: 0,
            delayed: Vec::new(),
            started: HashMap::new(),
            summary,
        }
    }

    pub fn stopping(&self) -> bool {
        self.options.on_failure == OnFailure::Stop && !self.summary.failed.is_empty()
    }

    /// Whether nothing runs and nothing will.
    pub fn idle(&self, cancelled: bool) -> bool {
        let nothing_due = self.delayed.is_empty()
            && self.queue.is_empty()
            && self.asks.is_empty()
            && self.asking == 0;
        self.started.is_empty() && (cancelled || self.stopping() || nothing_due)
    }

    /// How long to wait for news before looking again.
    pub fn patience(&self) -> Duration {
        let due = self.delayed.iter().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        due.min().map_or(PATIENCE, |due| due.min(PATIENCE))
    }

    fn name(&self, task: TaskId) -> &'a str {
        &self.study.tasks[task].name
    }

    fn policy(&self, task: TaskId) -> &'a Policy {
        &self.study.stage_of(task).policy
    }

    /// Finds the keys of ready tasks, side by side: hits are done at once, misses queue.
    pub fn look_up_ready(&mut self) {
        while !self.ready.is_empty() {
            let tasks: Vec<TaskId> = self.ready.drain(..).collect();
            let (life, planner) = (&self.life, self.planner);
            let artifact = |id: TaskId| match &life[id] {
                Life::Done(digest) => Some(digest),
                _ => None,
            };
            let look = |&task: &TaskId| (task, planner.look_up(task, artifact));
            let found: Vec<_> = match tasks.as_slice() {
                [one] => vec![look(one)],
                many => many.par_iter().map(look).collect(),
            };
            for (task, found) in found {
                match found {
                    Ok(Found::Hit(hit)) => self.hit(task, hit),
                    Ok(Found::Miss(description)) => self.miss(task, *description),
                    Err(why) => {
                        self.console.failed(self.name(task), &why);
                        self.lose(task, why);
                    }
                }
            }
        }
    }

    fn miss(&mut self, task: TaskId, description: Description) {
        if let Some(why) = self.budget.refuses(&self.policy(task).resources) {
            self.console.failed(self.name(task), &why);
            return self.lose(task, why);
        }
        let key = description.key();
        self.life[task] = Life::Queued;
        match self.equal.get_mut(&key) {
            Some(waiting) => waiting.push(task),
            None => {
                self.equal.insert(key.clone(), Vec::new());
                let description = Arc::new(description);
                self.misses.insert(task, Miss { key, description, failed: 0 });
                if self.options.remote.is_some() {
                    self.life[task] = Life::Asked;
                    self.asks.push(task);
                } else {
                    self.enqueue(task);
                }
            }
        }
    }

    /// Misses that the remote is to be asked for, with their keys.
    pub fn asks(&mut self) -> Vec<(TaskId, Digest)> {
        self.asking += self.asks.len();
        let misses = &self.misses;
        self.asks.drain(..).map(|task| (task, misses[&task].key.clone())).collect()
    }

    /// The remote answered: the task is a hit now, or waits for its turn.
    pub fn answered(&mut self, task: TaskId) {
        self.asking -= 1;
        match self.planner.index().look_up(&self.misses[&task].key) {
            Some(hit) => {
                self.hit(task, hit);
                self.release(task);
            }
            None => {
                self.life[task] = Life::Queued;
                self.enqueue(task);
            }
        }
    }

    fn enqueue(&mut self, task: TaskId) {
        if !self.queue.knows_the_work() {
            let (study, index, life) = (self.study, self.planner.index(), &self.life);
            let past = |task: TaskId| index.past_duration(&study.tasks[task].name);
            let seconds = |task: TaskId| past(task).unwrap_or(UNKNOWN_S);
            let over =
                |task: TaskId| matches!(life[task], Life::Unwanted | Life::Done(_) | Life::Lost);
            let left = (0..life.len()).map(|t| if over(t) { 0.0 } else { seconds(t) }).collect();
            self.queue.expect(self.edges.ranks(seconds), self.edges.depths(study), left);
        }
        self.queue.insert(task);
    }

    /// The next task whose share of the machine is free; it counts as started. A smaller task may
    /// overtake one that waits for more than is free.
    pub fn next_turn(&mut self) -> Option<Turn> {
        let now = Instant::now();
        let due: Vec<TaskId> = self.delayed.iter().filter(|d| d.0 <= now).map(|d| d.1).collect();
        self.delayed.retain(|(at, _)| *at > now);
        for task in due {
            // Somebody may have computed it meanwhile.
            if self.options.remote.is_some() {
                self.life[task] = Life::Asked;
                self.asks.push(task);
            } else {
                self.enqueue(task);
            }
        }
        // Most often all cores are taken, and the queue may be long.
        if !self.budget.has_room() {
            return None;
        }
        let (study, budget) = (self.study, &mut self.budget);
        let cpus = self.options.machine.cpus;
        let task = self.queue.take(cpus, |t| budget.take(&study.stage_of(t).policy.resources))?;
        let miss = self.misses.get(&task)?;
        let turn = Turn { task, key: miss.key.clone(), description: Arc::clone(&miss.description) };
        self.life[task] = Life::Running;
        self.started.insert(task, now);
        self.console.started(self.name(task));
        Some(turn)
    }

    /// Nothing happened for a while.
    pub fn tick(&mut self) {
        self.console.tick();
    }

    pub fn progress(&mut self, task: TaskId, progress: &dissim_api::Progress) {
        self.console.progress(self.name(task), progress);
    }

    pub fn finished(&mut self, task: TaskId, outcome: Outcome) {
        self.budget.give_back(&self.policy(task).resources);
        let name = self.name(task);
        let seconds = self.started.remove(&task).map_or(0.0, |s| s.elapsed().as_secs_f64());
        match outcome {
            Outcome::Ran(hit) => {
                self.summary.ran += 1;
                self.summary.computed.insert(task);
                self.replay(name, &hit.key);
                self.console.done(name, seconds);
                self.complete(task, hit);
            }
            Outcome::TakenOver(hit) => self.hit(task, hit),
            Outcome::Failed(why) => {
                if let Some(wait) = self.another_attempt(task) {
                    self.console.retried(name, &why, wait.as_secs_f64());
                    self.life[task] = Life::Queued;
                    self.delayed.push((Instant::now() + wait, task));
                    return;
                }
                self.console.failed(name, &why);
                self.lose(task, why);
            }
            Outcome::Stale(why) => {
                self.console.failed(name, &why);
                self.lose(task, why);
            }
            Outcome::Elsewhere(who) => {
                self.console.elsewhere(name, &who);
                let wait = self.options.remote.as_ref().map_or(PATIENCE, |r| r.patience());
                self.life[task] = Life::Queued;
                self.delayed.push((Instant::now() + wait, task));
                return;
            }
            Outcome::Damaged(why) => {
                self.console.retried(name, &why, 0.0);
                self.lose_users(task);
                self.summary.damaged.push((name.to_owned(), why));
            }
            Outcome::Cancelled => {
                self.console.cancelled(name);
                self.life[task] = Life::Queued;
            }
        }
        self.release(task);
    }

    /// Tasks with an equal key find its record now; after a failure one of them tries again.
    fn release(&mut self, task: TaskId) {
        if let Some(miss) = self.misses.remove(&task)
            && let Some(waiting) = self.equal.remove(&miss.key)
        {
            self.ready.extend(waiting);
        }
    }

    /// The wait before another attempt, if the stage's policy has one.
    fn another_attempt(&mut self, task: TaskId) -> Option<Duration> {
        let retry = &self.policy(task).retry;
        let miss = self.misses.get_mut(&task)?;
        miss.failed += 1;
        retry.after(miss.failed)
    }

    fn hit(&mut self, task: TaskId, hit: Hit) {
        self.summary.cached += 1;
        self.summary.saved_s += hit.duration_s;
        let name = self.name(task);
        self.planner.index().put_latest(name, &hit.key);
        self.replay(name, &hit.key);
        self.console.cached(name);
        self.complete(task, hit);
    }

    /// Tells the console the log that was kept, where all logs are asked for.
    fn replay(&mut self, task: &str, key: &Digest) {
        if self.options.logs == Logs::All {
            let record = self.store.record(key);
            let log =
                record.and_then(|r| tail_of(&self.store.object(&r.log), MAX_SHOWN_LOG_BYTES).ok());
            let (log, left_out) = log.unwrap_or_default();
            if left_out > 0 {
                let line =
                    format!("(the first {left_out} bytes are left out; `dissim log` has them)\n");
                self.console.log(task, &line);
            }
            self.console.log(task, &String::from_utf8_lossy(&log));
        }
    }

    fn complete(&mut self, task: TaskId, hit: Hit) {
        self.summary.artifacts.insert(task, hit.artifact.clone());
        self.summary.keys.insert(task, hit.key);
        self.life[task] = Life::Done(hit.artifact);
        self.queue.over(task);
        for user in self.edges.done(task) {
            // What needs a lost task is lost, whatever else it waited for.
            if self.life[user] == Life::Pending {
                self.life[user] = Life::Ready;
                self.ready.push_back(user);
            }
        }
    }

    /// A task failed: so has everything that needs it.
    fn lose(&mut self, task: TaskId, why: String) {
        self.summary.failed.push((self.name(task).to_owned(), why));
        self.lose_users(task);
    }

    fn lose_users(&mut self, task: TaskId) {
        self.life[task] = Life::Lost;
        self.queue.over(task);
        let mut lost: Vec<TaskId> = self.edges.users(task).collect();
        while let Some(user) = lost.pop() {
            if self.life[user] != Life::Lost {
                self.life[user] = Life::Lost;
                self.queue.over(user);
                self.summary.skipped += 1;
                lost.extend(self.edges.users(user));
            }
        }
    }

    pub fn end(mut self, interrupted: bool) -> Summary {
        self.console.end();
        let unfinished = |life: &&Life| {
            matches!(life, Life::Pending | Life::Ready | Life::Asked | Life::Queued | Life::Running)
        };
        self.summary.skipped += self.life.iter().filter(unfinished).count();
        self.summary.interrupted = interrupted;
        self.summary
    }
}
