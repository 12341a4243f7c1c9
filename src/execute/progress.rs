//! What a person sees while tasks run: bars on a terminal, plain lines elsewhere.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use dissim_api::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Receives what happens in a run. All of it goes to stderr.
pub trait Console {
    /// The run begins, with so many tasks.
    fn begin(&mut self, tasks: usize);
    /// A task was in the store.
    fn cached(&mut self, task: &str);
    /// A task's process started.
    fn started(&mut self, task: &str);
    /// A task said how far it is.
    fn progress(&mut self, task: &str, progress: &Progress);
    /// A task is done, after so many seconds.
    fn done(&mut self, task: &str, seconds: f64);
    /// A task failed.
    fn failed(&mut self, task: &str, why: &str);
    /// A task failed, and is tried again after so many seconds.
    fn retried(&mut self, task: &str, why: &str, wait_s: f64);
    /// Somebody else computes a task; the run waits for what comes of that.
    fn elsewhere(&mut self, task: &str, who: &str);
    /// The log of a task, where all logs were asked for.
    fn log(&mut self, task: &str, text: &str);
    /// A task was stopped by a signal.
    fn cancelled(&mut self, task: &str);
    /// Some time went by in which nothing happened.
    fn tick(&mut self) {}
    /// The run is over.
    fn end(&mut self);
}

/// Seconds as a person writes them: `0.4s`, `1m 42s`, `5h 10m`.
#[must_use]
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        _ if value < 9.95 => format!("{value:.1}s"),
        0..60 => format!("{whole}s"),
        60..3600 => format!("{}m {:02}s", whole / 60, whole % 60),
        _ => format!("{}h {:02}m", whole / 3600, whole % 3600 / 60),
    }
}

fn retry_line(task: &str, why: &str, wait_s: f64) -> String {
    let why = why.lines().next().unwrap_or_default();
    format!("failed, again in {}: {task}\n  {why}", seconds(wait_s))
}

/// A log with its task's name before every line.
fn log_lines(task: &str, text: &str) -> String {
    text.lines().map(|line| format!("{task} | {line}\n")).collect()
}

/// Tells several consoles.
#[derive(Default)]
pub struct Several(pub Vec<Box<dyn Console>>);

impl Console for Several {
    fn begin(&mut self, tasks: usize) {
        self.0.iter_mut().for_each(|c| c.begin(tasks));
    }

    fn cached(&mut self, task: &str) {
        self.0.iter_mut().for_each(|c| c.cached(task));
    }

    fn started(&mut self, task: &str) {
        self.0.iter_mut().for_each(|c| c.started(task));
    }

    fn progress(&mut self, task: &str, progress: &Progress) {
        self.0.iter_mut().for_each(|c| c.progress(task, progress));
    }

    fn done(&mut self, task: &str, seconds: f64) {
        self.0.iter_mut().for_each(|c| c.done(task, seconds));
    }

    fn failed(&mut self, task: &str, why: &str) {
        self.0.iter_mut().for_each(|c| c.failed(task, why));
    }

    fn retried(&mut self, task: &str, why: &str, wait_s: f64) {
        self.0.iter_mut().for_each(|c| c.retried(task, why, wait_s));
    }

    fn elsewhere(&mut self, task: &str, who: &str) {
        self.0.iter_mut().for_each(|c| c.elsewhere(task, who));
    }

    fn log(&mut self, task: &str, text: &str) {
        self.0.iter_mut().for_each(|c| c.log(task, text));
    }

    fn cancelled(&mut self, task: &str) {
        self.0.iter_mut().for_each(|c| c.cancelled(task));
    }

    fn tick(&mut self) {
        self.0.iter_mut().for_each(|c| c.tick());
    }

    fn end(&mut self) {
        self.0.iter_mut().for_each(|c| c.end());
    }
}

/// A line for every task that ran.
#[derive(Debug, Default)]
pub struct Plain {
    tasks: usize,
    finished: usize,
    /// Tasks that were said to be computed elsewhere.
    elsewhere: BTreeSet<String>,
}

impl Console for Plain {
    fn begin(&mut self, tasks: usize) {
        self.tasks = tasks;
    }

    fn cached(&mut self, _: &str) {
        self.finished += 1;
    }

    fn started(&mut self, task: &str) {
        if !self.elsewhere.contains(task) {
            say!("      start {task}");
        }
    }

    fn progress(&mut self, _: &str, _: &Progress) {}

    fn done(&mut self, task: &str, took: f64) {
        self.finished += 1;
        say!("[{}/{}] {task} {}", self.finished, self.tasks, seconds(took));
    }

    fn failed(&mut self, task: &str, why: &str) {
        say!("failed: {task}\n  {why}");
    }

    fn retried(&mut self, task: &str, why: &str, wait_s: f64) {
        say!("{}", retry_line(task, why, wait_s));
    }

    fn elsewhere(&mut self, task: &str, who: &str) {
        if self.elsewhere.insert(task.to_owned()) {
            say!("      waits {task}: {who} computes it");
        }
    }

    fn log(&mut self, task: &str, text: &str) {
        text.lines().for_each(|line| say!("{task} | {line}"));
    }

    fn cancelled(&mut self, task: &str) {
        say!("stopped: {task}");
    }

    fn end(&mut self) {}
}

/// One summary bar, and a line for every running task.
#[derive(Debug)]
pub struct Fancy {
    bars: MultiProgress,
    summary: ProgressBar,
    running: HashMap<String, ProgressBar>,
}

impl Default for Fancy {
    fn default() -> Self {
        let bars = MultiProgress::new();
        let summary = bars.add(ProgressBar::new(0));
        let style = "{bar:32} {pos}/{len} tasks  {elapsed}  {msg}";
        summary.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
        summary.enable_steady_tick(Duration::from_millis(500));
        Self { bars, summary, running: HashMap::new() }
    }
}

impl Fancy {
    fn remove(&mut self, task: &str) {
        if let Some(bar) = self.running.remove(task) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

impl Console for Fancy {
    fn begin(&mut self, tasks: usize) {
        self.summary.set_length(tasks as u64);
    }

    fn cached(&mut self, _: &str) {
        self.summary.inc(1);
    }

    fn started(&mut self, task: &str) {
        let bar = self.bars.add(ProgressBar::new(0));
        let style = "  {spinner} {prefix}  {pos}/{len} {msg}";
        bar.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
        bar.set_prefix(task.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.running.insert(task.to_owned(), bar);
    }

    fn progress(&mut self, task: &str, progress: &Progress) {
        if let Some(bar) = self.running.get(task) {
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(format!("{}  {}", progress.unit, progress.note));
        }
    }

    fn done(&mut self, task: &str, _: f64) {
        self.remove(task);
        self.summary.inc(1);
    }

    fn failed(&mut self, task: &str, why: &str) {
        self.remove(task);
        // The summary bar is redrawn below what is printed here.
        let _ = self.bars.println(format!("failed: {task}\n  {why}"));
    }

    fn retried(&mut self, task: &str, why: &str, wait_s: f64) {
        self.remove(task);
        let _ = self.bars.println(retry_line(task, why, wait_s));
    }

    fn elsewhere(&mut self, task: &str, _: &str) {
        self.remove(task);
    }

    fn log(&mut self, task: &str, text: &str) {
        let _ = self.bars.println(log_lines(task, text).trim_end());
    }

    fn cancelled(&mut self, task: &str) {
        self.remove(task);
        let _ = self.bars.println(format!("stopped: {task}"));
    }

    fn end(&mut self) {
        self.summary.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn durations_read_well() {
        let shown = [0.04, 9.9, 59.4, 102.0, 18_600.0].map(super::seconds);
        assert_eq!(shown, ["0.0s", "9.9s", "59s", "1m 42s", "5h 10m"]);
    }
}
