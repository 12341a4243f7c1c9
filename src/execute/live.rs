//! What a run is doing right now, for `dissim serve` and `dissim status`: a small file in `cache/runs/live/`,
//! one a run. Writing it never fails a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use dissim_api::Progress;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::progress::Console;
use crate::history::{host, whoami};
use crate::secret;
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
    /// Locked while this run lives: a process of the same number later is not taken for it.
    lock: Option<NamedTempFile>,
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
        let lock = store.live_lock().ok();
        Self { store: store.clone(), activity, lock, written: None, late: false }
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
        let bytes = serde_json::to_vec(&self.activity).ok();
        if let (Some(path), Some(bytes)) = (self.path(), bytes) {
            let _ = self.store.write_hint(&path, &bytes);
        }
    }

    /// `NAME.json` beside the lock `NAME.lock`; none if there is no lock, and so nothing would tell when the run is over.
    fn path(&self) -> Option<PathBuf> {
        Some(self.lock.as_ref()?.path().with_extension("json"))
    }

    fn remove(&self) {
        if let Some(path) = self.path() {
            let _ = fs::remove_file(path);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.remove();
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
        let first = secret::hide(why.lines().next().unwrap_or_default()).into_owned();
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
        self.remove();
    }
}

impl Store {
    /// The activities of all live runs on this store.
    #[must_use]
    pub fn activity(&self) -> Vec<Activity> {
        let entries = fs::read_dir(self.live_folder()).into_iter().flatten().flatten();
        let files = entries.map(|entry| entry.path());
        let files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
        let read = |path: PathBuf| serde_json::from_slice(&fs::read(path).ok()?).ok();
        files.filter(|path| self.is_live(path)).filter_map(read).collect()
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
        live.started("train");
        let path = live.path().unwrap();
        assert_eq!(store.activity().len(), 1);
        // As a killed runner leaves them: the files are there, and nobody holds the lock. The number of its
        // process is this one's.
        let copy = path.with_file_name("copy.json");
        fs::copy(&path, &copy).unwrap();
        fs::write(path.with_file_name("copy.lock"), "").unwrap();
        let lonely = path.with_file_name("lonely.json");
        fs::copy(&path, &lonely).unwrap();
        assert_eq!(store.activity().len(), 1);
        // The next run removes them, and what is written by the living stays.
        drop(store.run_folder().unwrap());
        let left: Vec<_> = fs::read_dir(store.live_folder()).unwrap().flatten().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        drop(live);
        assert_eq!(fs::read_dir(store.live_folder()).unwrap().count(), 0);
    }
}
