//! A trace of a run in Chrome's format, for <https://ui.perfetto.dev>: a bar for every task that ran,
//! in as many lanes as ran at once.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use dissim_api::Progress;
use serde_json::{Value, json};

use super::progress::Console;
use crate::secret::hide;

/// Collects a trace and writes it when the run ends.
#[derive(Debug)]
pub struct Trace {
    file: PathBuf,
    start: Instant,
    /// Which task holds a lane.
    lanes: Vec<Option<String>>,
    running: HashMap<String, Instant>,
    events: Vec<Value>,
}

impl Trace {
    /// A trace for `file`, which is made at once, so that a wrong path is said before anything ran.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(file: &Path) -> io::Result<Self> {
        std::fs::write(file, "[]\n").map_err(|e| crate::store::at(e, file))?;
        let (lanes, running, events) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(Self { file: file.to_path_buf(), start: Instant::now(), lanes, running, events })
    }

    fn finish(&mut self, task: &str, how: &str) {
        let Some(started) = self.running.remove(task) else { return };
        let lane = self.lanes.iter().position(|held| held.as_deref() == Some(task));
        let lane = lane.unwrap_or_default();
        self.lanes[lane] = None;
        // Microseconds, as the format wants them.
        let since = (started - self.start).as_micros() as u64;
        let took = started.elapsed().as_micros() as u64;
        self.events.push(json!({
            "name": task, "cat": how, "ph": "X", "ts": since, "dur": took, "pid": 1, "tid": lane,
            "args": { "outcome": how },
        }));
    }
}

impl Console for Trace {
    fn begin(&mut self, _: usize) {}

    fn cached(&mut self, _: &str) {}

    fn started(&mut self, task: &str) {
        self.running.insert(task.to_owned(), Instant::now());
        match self.lanes.iter_mut().find(|held| held.is_none()) {
            Some(lane) => *lane = Some(task.to_owned()),
            None => self.lanes.push(Some(task.to_owned())),
        }
    }

    fn progress(&mut self, _: &str, _: &Progress) {}

    fn done(&mut self, task: &str, _: f64) {
        self.finish(task, "done");
    }

    fn failed(&mut self, task: &str, _: &str) {
        self.finish(task, "failed");
    }

    fn retried(&mut self, task: &str, _: &str, _: f64) {
        self.finish(task, "retried");
    }

    fn elsewhere(&mut self, task: &str, _: &str) {
        self.finish(task, "elsewhere");
    }

    fn log(&mut self, _: &str, _: &str) {}

    fn cancelled(&mut self, task: &str) {
        self.finish(task, "cancelled");
    }

    fn end(&mut self) {
        let trace = json!({ "traceEvents": self.events, "displayTimeUnit": "ms" });
        if let Err(error) = std::fs::write(&self.file, format!("{}\n", hide(&trace.to_string()))) {
            say!("warning: the trace could not be written: {}: {error}", self.file.display());
        }
    }
}
