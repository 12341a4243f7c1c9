//! What happens in a run, for machines: one JSON object a line on stdout.

use dissim_api::Progress;
use serde_json::{Value, json};

use super::progress::Console;
use crate::say::json_out;
use crate::secret::hide;

/// Prints events. The field `event` says which; the others are those of the [`Console`]'s methods.
#[derive(Debug, Default)]
pub struct Events;

fn say(event: &Value) {
    // Who listens may have gone; the run goes on.
    let _ = json_out(&hide(&event.to_string()));
}

impl Console for Events {
    fn begin(&mut self, tasks: usize) {
        say(&json!({ "event": "begin", "tasks": tasks }));
    }

    fn cached(&mut self, task: &str) {
        say(&json!({ "event": "cached", "task": task }));
    }

    fn started(&mut self, task: &str) {
        say(&json!({ "event": "started", "task": task }));
    }

    fn progress(&mut self, task: &str, progress: &Progress) {
        say(&json!({ "event": "progress", "task": task, "progress": progress }));
    }

    fn done(&mut self, task: &str, seconds: f64) {
        say(&json!({ "event": "done", "task": task, "seconds": seconds }));
    }

    fn failed(&mut self, task: &str, why: &str) {
        say(&json!({ "event": "failed", "task": task, "why": why }));
    }

    fn retried(&mut self, task: &str, why: &str, wait_s: f64) {
        say(&json!({ "event": "retried", "task": task, "why": why, "wait_s": wait_s }));
    }

    fn elsewhere(&mut self, task: &str, who: &str) {
        say(&json!({ "event": "elsewhere", "task": task, "who": who }));
    }

    fn log(&mut self, task: &str, text: &str) {
        say(&json!({ "event": "log", "task": task, "text": text }));
    }

    fn cancelled(&mut self, task: &str) {
        say(&json!({ "event": "cancelled", "task": task }));
    }

    fn end(&mut self) {
        say(&json!({ "event": "end" }));
    }
}
