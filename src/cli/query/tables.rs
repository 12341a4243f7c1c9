//! The tables of a study: what its stages made, and what the runner knows itself.
//!
//! | table | a row |
//! |---|---|
//! | `tasks` | a task: stage, state, key, when, how long, how much memory |
//! | `history` | a run that was recorded |
//! | the name of a Parquet file of a stage with one task, such as `runs` and `summary` of an aggregate | as in the file |
//! | the name of a stage | a task of it: axes, parameters, what `tasks` has, metrics |
//!
//! Of two that would have one name the upper keeps it; a file is `STAGE_NAME` then, a stage `STAGE_tasks`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;

use crate::graph::{StageNode, Study, Task};
use crate::history::RunRecord;
use crate::partial;
use crate::plan::{Planner, State};
use crate::registry::{QueryError, Tables, Values};
use crate::secret;
use crate::store::{Record, Store};

use super::super::runs::word;

/// What can be asked for.
pub(super) struct Found {
    pub tables: Tables,
    /// Stages with one task, which may make tables, and whose task is not in the cache.
    pub stale: Vec<String>,
    /// Files that are not Parquet although their names say so, by the names that their tables would have.
    pub unreadable: BTreeMap<String, Unreadable>,
}

/// A file that is not a table.
pub(super) struct Unreadable {
    /// The task that made it.
    pub task: String,
    /// Its path in the task's artifact.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

type Columns = Vec<(String, Values)>;

pub(super) fn of(study: &Study, store: &Store) -> Result<Found, QueryError> {
    let mut planner = Planner::new(study, store);
    let states = planner.plan();
    planner.save();
    let stale: Vec<String> = study
        .stages
        .iter()
        .filter(|s| s.tasks.len() == 1 && !matches!(states[s.tasks.start], State::Hit(_)))
        .map(|s| s.name.clone())
        .collect();
    let mut tables = Tables::default();
    let mut insert = |name: &str, columns: Columns| {
        tables.insert(name, columns.iter().map(|(n, v)| (n.as_str(), v.clone())).collect())
    };
    insert("tasks", tasks(study, store, &states))?;
    insert("history", history(&store.run_records()))?;
    let mut names: BTreeSet<String> = ["tasks", "history"].map(str::to_owned).into();
    let mut files = files(study, store, &states);
    // As `dissim report` leaves it: the runs that are there may be a part of the study.
    if !stale.is_empty()
        && let Ok(part) = partial::of(study, &states)
    {
        let states = Planner::new(&part.study, store).plan();
        let of_part = self::files(&part.study, store, &states);
        files.extend(of_part.into_iter().filter(|file| stale.contains(&file.stage)));
    }
    let mut of_files = BTreeMap::new();
    for file in files {
        let name = free_name(&names, file.name.clone(), &format!("{}_{}", file.stage, file.name));
        names.insert(name.clone());
        of_files.insert(name, file);
    }
    for stage in &study.stages {
        let name = free_name(&names, stage.name.clone(), &format!("{}_tasks", stage.name));
        insert(&name, stage_table(study, stage, store, &states))?;
        names.insert(name);
    }
    let mut unreadable = BTreeMap::new();
    for (name, file) in of_files {
        if let Err(error) = tables.parquet(&name, &file.path) {
            let File { task, file, .. } = file;
            unreadable.insert(name, Unreadable { task, file, why: error.message });
        }
    }
    Ok(Found { tables, stale, unreadable })
}

/// A name that is not taken: the first, or the second, or that with a number.
fn free_name(taken: &BTreeSet<String>, first: String, second: &str) -> String {
    let numbered = (2..).map(|n| format!("{second}_{n}"));
    let mut names = [first, second.to_owned()].into_iter().chain(numbered);
    names.find(|name| !taken.contains(name)).expect("numbers do not end")
}

/// A table that a stage made.
struct File {
    stage: String,
    task: String,
    /// What the table is called if nothing else is.
    name: String,
    /// Its path in the artifact.
    file: String,
    path: PathBuf,
}

fn files(study: &Study, store: &Store, states: &[State]) -> Vec<File> {
    let mut found = Vec::new();
    for stage in study.stages.iter().filter(|stage| stage.tasks.len() == 1) {
        let State::Hit(record) = &states[stage.tasks.start] else { continue };
        for (path, entry) in store.tree(&record.artifact).unwrap_or_default().files {
            if let Some(name) = path.strip_suffix(".parquet") {
                found.push(File {
                    stage: stage.name.clone(),
                    task: study.tasks[stage.tasks.start].name.clone(),
                    name: name.replace('/', "_"),
                    path: store.object(&entry.digest),
                    file: path,
                });
            }
        }
    }
    found
}

fn state(state: &State, store: &Store) -> &'static str {
    match state {
        State::Hit(_) => "hit",
        State::Miss(d) if store.failed_log(&d.key()).exists() => "failed",
        State::Miss(_) => "miss",
        State::Waiting => "waiting",
        State::Broken(_) => "broken",
    }
}

/// What the store knows of tasks.
fn facts(states: &[State], store: &Store) -> Columns {
    let records: Vec<Option<&Record>> = states
        .iter()
        .map(|state| if let State::Hit(record) = state { Some(&**record) } else { None })
        .collect();
    let text = |of: &dyn Fn(&Record) -> String| {
        Values::Text(records.iter().map(|record| record.map(of)).collect())
    };
    let whole = |of: &dyn Fn(&Record) -> u64| {
        Values::Whole(records.iter().map(|r| r.and_then(|r| i64::try_from(of(r)).ok())).collect())
    };
    let seconds = records.iter().map(|r| r.map(|r| r.duration_s)).collect();
    let named = [
        ("state", Values::Text(states.iter().map(|s| Some(state(s, store).to_owned())).collect())),
        ("key", text(&|r| r.key.to_string())),
        ("artifact", text(&|r| r.artifact.to_string())),
        ("started", whole(&|r| r.started)),
        ("seconds", Values::Number(seconds)),
        ("peak_memory_bytes", whole(&|r| r.peak_memory_bytes)),
        ("host", text(&|r| r.host.clone())),
    ];
    named.map(|(name, values)| (name.to_owned(), values)).into()
}

fn tasks(study: &Study, store: &Store, states: &[State]) -> Columns {
    let name = study.tasks.iter().map(|t| Some(t.name.clone())).collect();
    let stage = |task: usize| Some(study.stage_of(task).name.clone());
    let stages = (0..study.tasks.len()).map(stage).collect();
    let mut columns =
        vec![("task".to_owned(), Values::Text(name)), ("stage".to_owned(), Values::Text(stages))];
    columns.extend(facts(states, store));
    columns
}

fn stage_table(study: &Study, stage: &StageNode, store: &Store, states: &[State]) -> Columns {
    let (tasks, states) = (&study.tasks[stage.tasks.clone()], &states[stage.tasks.clone()]);
    let name = tasks.iter().map(|t| Some(t.name.clone())).collect();
    let mut columns = vec![("task".to_owned(), Values::Text(name))];
    let mut add = |name: String, values: Values| {
        // A parameter may have the name of a fact, and a metric that of a parameter.
        let taken = |name: &str| columns.iter().any(|(other, _)| other == name);
        let name = if taken(&name) { format!("task_{name}") } else { name };
        if !taken(&name) {
            columns.push((name, values));
        }
    };
    let axis = |task: &Task, name: &str| {
        task.axes.iter().find(|(axis, _)| axis == name).map(|(_, value)| value.clone())
    };
    let mut names: Vec<&str> = Vec::new();
    let of_axes = tasks.iter().flat_map(|t| t.axes.iter().map(|(name, _)| name.as_str()));
    let of_params = tasks.iter().flat_map(|t| t.params.keys().map(String::as_str));
    for name in of_axes.chain(of_params) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    for name in names {
        let value = |task: &Task| axis(task, name).or_else(|| task.params.get(name).cloned());
        let value = |task: &Task| value(task).map(|value| secret::mask(name, &value));
        add(name.to_owned(), typed(tasks.iter().map(value).collect()));
    }
    for (name, values) in facts(states, store) {
        add(name, values);
    }
    let metrics = |state: &State| match state {
        State::Hit(record) => record.metrics.clone(),
        _ => BTreeMap::new(),
    };
    let metrics: Vec<_> = states.iter().map(metrics).collect();
    let names: BTreeSet<&String> = metrics.iter().flat_map(BTreeMap::keys).collect();
    for name in names {
        let values = metrics.iter().map(|of| of.get(name).map(|&v| Value::from(v))).collect();
        add(name.clone(), typed(values));
    }
    columns
}

/// A column of one type: text where the values have several.
fn typed(values: Vec<Option<Value>>) -> Values {
    let known = || values.iter().flatten().filter(|v| !v.is_null());
    if known().count() > 0 && known().all(Value::is_boolean) {
        return Values::Truth(values.iter().map(|v| v.as_ref()?.as_bool()).collect());
    }
    if known().count() > 0 && known().all(Value::is_i64) {
        return Values::Whole(values.iter().map(|v| v.as_ref()?.as_i64()).collect());
    }
    if known().count() > 0 && known().all(Value::is_number) {
        return Values::Number(values.iter().map(|v| v.as_ref()?.as_f64()).collect());
    }
    let text = |value: &Option<Value>| match value.as_ref()? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    Values::Text(values.iter().map(text).collect())
}

fn history(runs: &[RunRecord]) -> Columns {
    let text =
        |of: &dyn Fn(&RunRecord) -> Option<String>| Values::Text(runs.iter().map(of).collect());
    let whole = |of: &dyn Fn(&RunRecord) -> usize| {
        Values::Whole(runs.iter().map(|run| i64::try_from(of(run)).ok()).collect())
    };
    let git = |run: &RunRecord| run.git.as_ref().map(|git| git.commit.clone());
    let dirty = |run: &RunRecord| run.git.as_ref().and_then(|git| git.dirty);
    let started = runs.iter().map(|run| i64::try_from(run.started).ok()).collect();
    let named = [
        ("run", text(&|run| Some(run.id.clone()))),
        ("started", Values::Whole(started)),
        ("seconds", Values::Number(runs.iter().map(|run| Some(run.duration_s)).collect())),
        ("outcome", text(&|run| Some(word(run.outcome).to_owned()))),
        ("profile", text(&|run| run.profile.clone())),
        ("commit", text(&git)),
        ("dirty", Values::Truth(runs.iter().map(dirty).collect())),
        ("command", text(&|run| Some(run.command.join(" ")))),
        ("host", text(&|run| Some(run.host.clone()))),
        ("tasks", whole(&|run| run.tasks)),
        ("cached", whole(&|run| run.cached)),
        ("ran", whole(&|run| run.ran)),
        ("failed", whole(&|run| run.failed.len())),
    ];
    named.map(|(name, values)| (name.to_owned(), values)).into()
}
