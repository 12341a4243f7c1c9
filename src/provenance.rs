//! What stands behind a published page: the run, its stages, and the record of every task.
//!
//! The page's artifact depends on the results alone, so this is put into the copy that people open.

use std::collections::{BTreeMap, BTreeSet};
use std::{fs, io};

use serde::Serialize;
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::execute;
use crate::graph::{Study, TaskId};
use crate::history::RunRecord;
use crate::registry::PROVENANCE_SLOT;
use crate::store::{Entry, Record, Store};

/// Of a long log a page shows the end: so many bytes.
const LOG: usize = 4_000;

/// What is known when a page is published.
#[derive(Debug, Clone, Copy)]
pub struct Behind<'a> {
    /// The keys of the tasks that have an artifact.
    pub keys: &'a BTreeMap<TaskId, Digest>,
    /// Those of them that were computed just now.
    pub computed: &'a BTreeSet<TaskId>,
    /// The run that made or found them.
    pub run: Option<&'a RunRecord>,
    /// Set while the page is served: its version.
    pub live: Option<u64>,
}

/// How the tasks of a stage came about.
#[derive(Debug, Default, Serialize)]
struct Stage {
    cached: usize,
    ran: usize,
    missing: usize,
}

/// The page `entry` of an artifact, with the provenance of what these published tasks show.
///
/// # Errors
/// When it is damaged or gone, or cannot be read.
pub fn page(
    entry: &Entry,
    study: &Study,
    store: &Store,
    published: &BTreeSet<TaskId>,
    behind: Behind<'_>,
) -> io::Result<String> {
    let page = store.read_out(entry)?;
    Ok(fill(&String::from_utf8_lossy(&page), &of(study, store, published, behind)))
}

/// A page with its slot filled; as it was where it has none.
fn fill(page: &str, provenance: &Value) -> String {
    // Within a script `<` could begin the tag that ends it.
    let json = provenance.to_string().replace('<', "\\u003c");
    page.replacen(PROVENANCE_SLOT, &PROVENANCE_SLOT.replace("null", &json), 1)
}

/// The provenance of what these published tasks show.
fn of(study: &Study, store: &Store, published: &BTreeSet<TaskId>, behind: Behind<'_>) -> Value {
    let wanted = execute::wanted(study, published);
    let mut stages: BTreeMap<&str, Stage> = BTreeMap::new();
    let mut tasks = serde_json::Map::new();
    for (id, task) in study.tasks.iter().enumerate() {
        let count = stages.entry(&study.stages[task.stage].name).or_default();
        let Some(key) = behind.keys.get(&id) else {
            count.missing += 1;
            continue;
        };
        let ran = behind.computed.contains(&id);
        if ran {
            count.ran += 1
        } else {
            count.cached += 1
        }
        if let Some(record) = store.record(key).filter(|_| wanted[id]) {
            tasks.insert(task.name.clone(), entry(study, store, id, &record, ran));
        }
    }
    json!({ "run": behind.run.map(run), "stages": stages, "tasks": tasks, "live": behind.live })
}

fn run(run: &RunRecord) -> Value {
    let program = |word: &String| word.rsplit('/').next().unwrap_or(word).to_owned();
    let mut command = run.command.clone();
    if let Some(first) = command.first_mut() {
        *first = program(first);
    }
    json!({
        "id": run.id, "started": run.started, "duration_s": run.duration_s,
        "command": command.join(" "), "pipeline": run.pipeline, "backend": run.backend,
        "host": run.host, "dissim": run.dissim, "git": run.git, "outcome": run.outcome,
        "cached": run.cached, "ran": run.ran, "failed": run.failed,
    })
}

fn entry(study: &Study, store: &Store, task: TaskId, record: &Record, ran: bool) -> Value {
    let needs = study.tasks[task].needs.iter();
    // What gathers a whole study needs hundreds: those are found through what they show.
    let inputs = needs.filter(|n| n.tasks.len() == 1).flat_map(|n| n.tasks.iter());
    let inputs: Vec<&str> = inputs.map(|&t| study.tasks[t].name.as_str()).collect();
    json!({
        "inputs": inputs, "ran": ran, "duration_s": record.duration_s, "started": record.started,
        "peak_memory_bytes": record.peak_memory_bytes, "host": record.host, "key": record.key,
        "artifact": record.artifact, "code": record.description.code, "dissim": record.dissim,
        "log": log(store, record),
    })
}

/// The end of a task's log, from the start of a line.
fn log(store: &Store, record: &Record) -> String {
    let bytes = fs::read(store.object(&record.log)).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    if text.len() <= LOG {
        return text.into_owned();
    }
    let tail = &text[text.ceil_char_boundary(text.len() - LOG)..];
    let whole = tail.find('\n').map_or(tail, |at| &tail[at + 1..]);
    format!("..\n{whole}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_filled_once_and_nothing_ends_the_script() {
        let page = format!("<p>{PROVENANCE_SLOT}</p>");
        let filled = fill(&page, &json!({ "log": "</script><script>alert(1)</script>" }));
        assert!(!filled.contains("</script><script>"), "{filled}");
        assert!(filled.contains("\\u003c/script>"));
        assert_eq!(fill("no slot", &json!(1)), "no slot");
    }
}
