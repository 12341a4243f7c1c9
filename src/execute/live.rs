//! What a run is doing right now, for `dissim serve` and `dissim status`: a small file in `cache/runs/live/`,
//! one a run. Writing it never fails a run.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use dissim_api::Progress;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::progress::Console;
use crate::history::{host, whoami};
use crate::store::{Store, now};

/// The least time between two writes.
const PAUSE: Duration = Duration::from_millis(500);

/// What one run is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activity {
    /// Its process.
    pid: i32,
    /// The machine of that process.
    host: String,
    /// Whose it is: user, machine, process.
    #[serde(default)]
    pub by: String,
    /// What it selects of the pipeline: `--profile poster`; empty with neither profile nor `--set`.
    #[serde(default)]
    pub selection: String,
    /// When it began, in seconds since 1970.
    #[serde(default)]
    pub since: u64,
    /// Its tasks.
    #[serde(default)]
    pub tasks: usize,
    /// Those that were cached, ran or failed.
    #[serde(default)]
    pub finished: usize,
    /// Tasks that run, by name.
    pub running: BTreeMap<String, Running>,
    /// Tasks that failed, with the first line of the reason.
    pub failed: BTreeMap<String, String>,
}

/// How far a task is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when unknown.
    pub total: u64,
    /// What is counted.
    pub unit: String,
}

/// Keeps the file of this run; it goes with the run.
#[derive(Debug)]
pub struct Live {
    store: Store,
    activity: Activity,
    written: Option<Instant>,
    /// Whether something happened since.
    late: bool,
}

impl Live {
    /// For a run on this store that selects so much of its pipeline.
    #[must_use]
    pub fn new(store: &Store, selection: String) -> Self {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let (host, by, since) = (host(), whoami(), now());
        let activity = Activity { pid, host, by, selection, since, ..Activity::default() };
        Self { store: store.clone(), activity, written: None, late: false }
    }

    fn write(&mut self) {
        self.late = self.written.is_some_and(|at| at.elapsed() < PAUSE);
        if self.late {
            return;
        }
        self.written = Some(Instant::now());
        self.write_now();
    }

    fn write_now(&self) {
        if let Ok(bytes) = serde_json::to_vec(&self.activity) {
            let _ = self.store.write_hint(&self.path(), &bytes);
        }
    }

    fn path(&self) -> std::path::PathBuf {
        self.store.activities().join(format!("{}.json", self.activity.pid))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path());
    }
}

impl Console for Live {
    fn begin(&mut self, tasks: usize) {
        self.activity.tasks = tasks;
    }

    fn cached(&mut self, _: &str) {
        self.activity.finished += 1;
    }

    fn started(&mut self, task: &str) {
        self.activity.running.insert(task.to_owned(), Running::default());
        self.write();
    }

    fn progress(&mut self, task: &str, progress: &Progress) {
        let Progress { done, total, unit, .. } = progress.clone();
        self.activity.running.insert(task.to_owned(), Running { done, total, unit });
        self.write();
    }

    fn done(&mut self, task: &str, _: f64) {
        self.activity.finished += 1;
        self.activity.running.remove(task);
        self.write();
    }

    fn failed(&mut self, task: &str, why: &str) {
        self.activity.finished += 1;
        self.activity.running.remove(task);
        let first = why.lines().next().unwrap_or_default().to_owned();
        self.activity.failed.insert(task.to_owned(), first);
        self.write_now();
    }

    fn retried(&mut self, task: &str, _: &str, _: f64) {
        self.activity.running.remove(task);
        self.write();
    }

    fn elsewhere(&mut self, task: &str, _: &str) {
        self.activity.running.remove(task);
        self.write();
    }

    fn log(&mut self, _: &str, _: &str) {}

    fn cancelled(&mut self, task: &str) {
        self.activity.running.remove(task);
    }

    fn tick(&mut self) {
        if self.late {
            self.write();
        }
    }

    fn end(&mut self) {
        let _ = fs::remove_file(self.path());
    }
}

impl Store {
    fn activities(&self) -> std::path::PathBuf {
        self.root().join("runs").join("live")
    }

    /// What the runs on this store are doing. Of a run on this machine whose process is gone, nothing.
    #[must_use]
    pub fn activity(&self) -> Vec<Activity> {
        let here = host();
        let alive = |a: &Activity| a.host != here || kill(Pid::from_raw(a.pid), None).is_ok();
        let entries = fs::read_dir(self.activities()).into_iter().flatten().flatten();
        let read = |e: fs::DirEntry| serde_json::from_slice(&fs::read(e.path()).ok()?).ok();
        entries.filter_map(read).filter(alive).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_while_it_lasts() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut live = Live::new(&store, "--profile poster".to_owned());
        live.begin(3);
        live.cached("digits");
        live.started("train[seed=0]");
        let seen = store.activity();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].tasks, seen[0].finished), (3, 1));
        assert_eq!(seen[0].selection, "--profile poster");
        assert!(seen[0].running.contains_key("train[seed=0]"));
        live.failed("train[seed=0]", "out of memory\nmore");
        let seen = store.activity();
        assert!(seen[0].running.is_empty());
        assert_eq!(seen[0].failed["train[seed=0]"], "out of memory");
        drop(live);
        assert_eq!(store.activity(), []);
    }

    #[test]
    fn what_a_dead_process_left_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut live = Live::new(&store, String::new());
        // No process has the largest number.
        live.activity.pid = i32::MAX;
        live.started("train");
        assert!(live.path().is_file());
        assert_eq!(store.activity(), []);
    }
}
