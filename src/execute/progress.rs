//! What a person sees while tasks run: bars on a terminal, plain lines elsewhere.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use dissim_api::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::say::{calm, one_line};

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
    format!("failed, again in {}: {}\n  {why}", seconds(wait_s), one_line(task))
}

/// A log with its task's name before every line.
fn log_lines(task: &str, text: &str) -> String {
    let task = one_line(task);
    calm(text).lines().map(|line| format!("{task} | {line}\n")).collect()
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
            say!("      start {}", one_line(task));
        }
    }

    fn progress(&mut self, _: &str, _: &Progress) {}

    fn done(&mut self, task: &str, took: f64) {
        self.finished += 1;
        let (finished, tasks, task) = (self.finished, self.tasks, one_line(task));
        say!("[{finished}/{tasks}] {task} {}", seconds(took));
    }

    fn failed(&mut self, task: &str, why: &str) {
        say!("failed: {}\n  {why}", one_line(task));
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
        log_lines(task, text).lines().for_each(|line| say!("{line}"));
    }

    fn cancelled(&mut self, task: &str) {
        say!("stopped: {}", one_line(task));
    }

    fn end(&mut self) {}
}

/// So many running tasks have a line of their own; of others it is said how many there are.
const LINES: usize = 12;

/// One summary bar, and a line for each of a few running tasks.
#[derive(Debug)]
pub struct Fancy {
    bars: MultiProgress,
    summary: ProgressBar,
    /// With their line, where they have one.
    running: HashMap<String, Option<ProgressBar>>,
    lines: usize,
    /// Those that had no line when they started, the longest first. Some are over.
    waiting: VecDeque<String>,
    failed: usize,
}

impl Default for Fancy {
    fn default() -> Self {
        let bars = MultiProgress::new();
        let summary = bars.add(ProgressBar::new(0));
        let style = "{bar:32} {pos}/{len} tasks  {elapsed}  {wide_msg}";
        summary.set_style(ProgressStyle::with_template(style).expect("a fixed template"));
        summary.enable_steady_tick(Duration::from_millis(500));
        let (running, waiting) = (HashMap::new(), VecDeque::new());
        Self { bars, summary, running, lines: 0, waiting, failed: 0 }
    }
}

impl Fancy {
    /// A line for a task.
    fn line(&mut self, task: &str) -> ProgressBar {
        self.lines += 1;
        let bar = self.bars.add(ProgressBar::new(0));
        // A message is cut where the terminal ends.
        let style = ProgressStyle::with_template("  {spinner} {wide_msg}");
        bar.set_style(style.expect("a fixed template"));
        bar.set_message(one_line(task).into_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        bar
    }

    fn remove(&mut self, task: &str) {
        if let Some(Some(bar)) = self.running.remove(task) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
            self.lines -= 1;
            while let Some(next) = self.waiting.pop_front() {
                if self.running.contains_key(&next) {
                    let bar = self.line(&next);
                    self.running.insert(next, Some(bar));
                    break;
                }
            }
        }
        self.count();
    }

    /// What the summary bar says beside the tasks that are done.
    fn count(&self) {
        let failed = match self.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        self.summary.set_message(format!("{} running{failed}", self.running.len()));
    }

    /// Above the bars, which are drawn anew below it.
    fn print(&self, text: &str) {
        let _ = self.bars.println(calm(text));
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
        let bar = if self.lines < LINES {
            Some(self.line(task))
        } else {
            self.waiting.push_back(task.to_owned());
            None
        };
        self.running.insert(task.to_owned(), bar);
        self.count();
    }

    fn progress(&mut self, task: &str, progress: &Progress) {
        if let Some(Some(bar)) = self.running.get(task) {
            let Progress { done, total, unit, note } = progress;
            let of = if *total > 0 { format!("/{total}") } else { String::new() };
            let text = format!("{task}  {done}{of} {unit}  {note}");
            bar.set_message(one_line(&text).into_owned());
        }
    }

    fn done(&mut self, task: &str, _: f64) {
        self.remove(task);
        self.summary.inc(1);
    }

    fn failed(&mut self, task: &str, why: &str) {
        self.failed += 1;
        self.remove(task);
        self.print(&format!("failed: {}\n  {why}", one_line(task)));
    }

    fn retried(&mut self, task: &str, why: &str, wait_s: f64) {
        self.remove(task);
        self.print(&retry_line(task, why, wait_s));
    }

    fn elsewhere(&mut self, task: &str, _: &str) {
        self.remove(task);
    }

    fn log(&mut self, task: &str, text: &str) {
        self.print(log_lines(task, text).trim_end());
    }

    fn cancelled(&mut self, task: &str) {
        self.remove(task);
        self.print(&format!("stopped: {}", one_line(task)));
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
