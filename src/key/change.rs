//! One thing that differs between two descriptions, in words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dissim_api::{Code, Params, PipelineSummary, StageSummary};
use serde::Serialize;
use serde_json::Value;

use super::{About, Backend, DescribedArtifact, Description, InputDescription};
use crate::digest::Digest;
use crate::secret;

/// What happened to a file or a member of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// It was not there before.
    Added,
    /// It is not there any more.
    Removed,
    /// It is another one now.
    Changed,
}

impl Edit {
    /// What happened to something that was `old` and is `new`.
    fn of<T>(old: Option<T>, new: Option<T>) -> Self {
        match (old, new) {
            (None, _) => Self::Added,
            (_, None) => Self::Removed,
            _ => Self::Changed,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
        }
    }
}

/// One reason why a key is another than before.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// This version of dissim describes tasks in another way.
    Format {
        /// The version before.
        old: u32,
        /// The version now.
        new: u32,
    },
    /// The stage has another kind.
    Kind {
        /// The kind before.
        old: String,
        /// The kind now.
        new: String,
    },
    /// A parameter.
    Param {
        /// Its name.
        name: String,
        /// Its value before, if it had one.
        old: Option<Value>,
        /// Its value now, if it has one.
        new: Option<Value>,
    },
    /// A project file.
    File {
        /// Its path relative to the root.
        path: String,
        /// What happened to it.
        edit: Edit,
    },
    /// A project file may be executed now, or may not any more.
    Executable {
        /// Its path relative to the root.
        path: String,
        /// Whether it may be executed now.
        now: bool,
    },
    /// A source file of the stage.
    Source {
        /// Its path in dissim's workspace.
        path: String,
        /// What happened to it.
        edit: Edit,
    },
    /// A third-party crate that the stage can reach.
    Dependency {
        /// Its name.
        name: String,
        /// Its version before, if it was used.
        old: Option<String>,
        /// Its version now, if it is used.
        new: Option<String>,
    },
    /// The stage's code, where no manifest is left that says which file.
    Code {
        /// The fingerprint before.
        old: Digest,
        /// The fingerprint now.
        new: Digest,
    },
    /// The compute backend.
    Backend {
        /// Name and version before.
        old: Option<Backend>,
        /// Name and version now.
        new: Option<Backend>,
    },
    /// A task that this one needs made another artifact, came in, or went out.
    Upstream {
        /// The name under `needs:`.
        input: String,
        /// The task.
        task: String,
        /// Its artifact before, if it was an input.
        old: Option<Digest>,
        /// Its artifact now, if it is an input.
        new: Option<Digest>,
    },
    /// The same artifacts come in another order, or another number of times.
    InputOrder {
        /// The name under `needs:`.
        input: String,
    },
    /// The input gathers artifacts now, or does not any more.
    InputLayout {
        /// The name under `needs:`.
        input: String,
    },
    /// The shape of the pipeline, for kinds that read it.
    Pipeline {
        /// What about it.
        what: String,
    },
}

impl Change {
    /// The change as it is shown: without the values of secrets.
    #[must_use]
    pub fn masked(self) -> Self {
        match self {
            Self::Param { name, old, new } => {
                let hide = |value: Option<Value>| value.map(|value| secret::mask(&name, &value));
                let (old, new) = (hide(old), hide(new));
                Self::Param { name, old, new }
            }
            other => other,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format { old, new } => write!(f, "format of task keys: {old} -> {new}"),
            Self::Kind { old, new } => write!(f, "kind: {old} -> {new}"),
            Self::Param { name, old, new } => {
                let text = |v: &Option<Value>| {
                    v.as_ref().map_or_else(|| "(not set)".to_owned(), Value::to_string)
                };
                write!(f, "parameter {name}: {} -> {}", text(old), text(new))
            }
            Self::File { path, edit } => write!(f, "file: {path} {}", edit.word()),
            Self::Executable { path, now: true } => write!(f, "file: {path} is executable now"),
            Self::Executable { path, now: false } => {
                write!(f, "file: {path} is not executable any more")
            }
            Self::Source { path, edit } => write!(f, "code: {path} {}", edit.word()),
            Self::Dependency { name, old: Some(old), new: Some(new) } => {
                write!(f, "code: {name} {old} -> {new}")
            }
            Self::Dependency { name, old, new } => {
                let version = old.as_ref().or(new.as_ref()).map_or("", String::as_str);
                write!(f, "code: {name} {version} {}", Edit::of(old.as_ref(), new.as_ref()).word())
            }
            Self::Code { old, new } => {
                write!(f, "code: fingerprint {} -> {}", old.short(), new.short())
            }
            Self::Backend { old, new } => {
                let text = |b: &Option<Backend>| {
                    b.as_ref().map_or_else(|| "(none)".to_owned(), ToString::to_string)
                };
                write!(f, "backend: {} -> {}", text(old), text(new))
            }
            Self::Upstream { input, task, old: Some(old), new: Some(new) } => {
                let (old, new) = (old.short(), new.short());
                write!(f, "input {input}: {task} made another artifact: {old} -> {new}")
            }
            Self::Upstream { input, task, old, new } => {
                write!(f, "input {input}: {task} {}", Edit::of(old.as_ref(), new.as_ref()).word())
            }
            Self::InputOrder { input } => {
                write!(f, "input {input}: the same artifacts in another order or number")
            }
            Self::InputLayout { input } => {
                write!(
                    f,
                    "input {input}: `needs` gathers tasks with brackets, or does not any more"
                )
            }
            Self::Pipeline { what } => write!(f, "pipeline: {what}"),
        }
    }
}

/// The changes behind one fact that differs; never empty.
pub(super) fn explain(
    about: About<'_>,
    old: &Description,
    new: &Description,
    code: &dyn Fn(&Digest) -> Option<Code>,
) -> Vec<Change> {
    let one = match about {
        About::Format => Change::Format { old: old.version, new: new.version },
        About::Kind => Change::Kind { old: old.kind.clone(), new: new.kind.clone() },
        About::Param(name) => Change::Param {
            name: name.to_owned(),
            old: old.params.get(name).cloned(),
            new: new.params.get(name).cloned(),
        },
        About::File(path) => {
            let edit = Edit::of(old.files.get(path), new.files.get(path));
            Change::File { path: path.to_owned(), edit }
        }
        About::Executable(path) => {
            let now = new.executables.contains(path);
            Change::Executable { path: path.to_owned(), now }
        }
        About::Backend => Change::Backend { old: old.backend.clone(), new: new.backend.clone() },
        About::Code => return code_changes(&old.code, &new.code, code),
        About::Input(name) => {
            let input = |d: &Description| d.inputs.get(name).cloned().unwrap_or_default();
            return input_changes(name, &input(old), &input(new));
        }
        About::Pipeline => return pipeline_changes(old.pipeline.as_ref(), new.pipeline.as_ref()),
    };
    vec![one]
}

fn code_changes(old: &Digest, new: &Digest, code: &dyn Fn(&Digest) -> Option<Code>) -> Vec<Change> {
    let unknown = || vec![Change::Code { old: old.clone(), new: new.clone() }];
    let (Some(before), Some(after)) = (code(old), code(new)) else { return unknown() };
    let names: BTreeSet<&String> = before.0.keys().chain(after.0.keys()).collect();
    let mut changes = Vec::new();
    for name in names {
        let (was, is) = (before.0.get(name), after.0.get(name));
        if was == is {
            continue;
        }
        // Source files are paths; the names of crates hold no slash.
        changes.push(if name.contains('/') {
            Change::Source { path: name.clone(), edit: Edit::of(was, is) }
        } else {
            Change::Dependency { name: name.clone(), old: was.cloned(), new: is.cloned() }
        });
    }
    if changes.is_empty() { unknown() } else { changes }
}

/// Pairs artifacts by the task that made them.
fn input_changes(input: &str, old: &InputDescription, new: &InputDescription) -> Vec<Change> {
    let find = |list: &[DescribedArtifact], task: &str| {
        list.iter().find(|a| a.task == task).map(|a| a.artifact.clone())
    };
    let gathered = old.gathered != new.gathered && !old.artifacts.is_empty();
    let (old, new) = (&old.artifacts, &new.artifacts);
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    if gathered {
        changes.push(Change::InputLayout { input: input.to_owned() });
    }
    for task in old.iter().chain(new).map(|a| &a.task) {
        let (was, is) = (find(old, task), find(new, task));
        if seen.insert(task) && was != is {
            let (input, task) = (input.to_owned(), task.clone());
            changes.push(Change::Upstream { input, task, old: was, new: is });
        }
    }
    if changes.is_empty() {
        changes.push(Change::InputOrder { input: input.to_owned() });
    }
    changes
}

fn pipeline_changes(old: Option<&PipelineSummary>, new: Option<&PipelineSummary>) -> Vec<Change> {
    let (Some(old), Some(new)) = (old, new) else {
        let what = format!("{} what the kind reads", Edit::of(old, new).word());
        return vec![Change::Pipeline { what }];
    };
    // Taken apart by name, so that a new field is not forgotten here.
    let PipelineSummary { name, profile, stages, claims, tables } = new;
    let mut what = Vec::new();
    if old.name != *name {
        what.push(format!("name {} -> {name}", old.name));
    }
    if old.profile != *profile {
        let text = |p: &Option<String>| p.clone().unwrap_or_else(|| "(none)".to_owned());
        what.push(format!("profile {} -> {}", text(&old.profile), text(profile)));
    }
    what.extend(list_changes("stage", &stage_entries(&old.stages), &stage_entries(stages)));
    what.extend(list_changes("claim", &entries(&old.claims, "id"), &entries(claims, "id")));
    what.extend(list_changes("table", &entries(&old.tables, "name"), &entries(tables, "name")));
    if what.is_empty() && old != new {
        what.push("what the kind reads changed".to_owned());
    }
    what.into_iter().map(|what| Change::Pipeline { what }).collect()
}

/// The field of a stage that counts its tasks; no claim and no table has a field of that name.
const TASKS: &str = "tasks";

/// One entry of a list of the pipeline: how it is called, and its fields as text.
struct Entry {
    title: String,
    fields: BTreeMap<String, String>,
}

fn stage_entries(stages: &[StageSummary]) -> Vec<Entry> {
    let entry = |stage: &StageSummary| {
        let StageSummary { name, kind, needs, tasks } = stage;
        let fields = [
            ("kind".to_owned(), kind.clone()),
            ("needs".to_owned(), format!("[{}]", needs.join(", "))),
            (TASKS.to_owned(), tasks.to_string()),
        ];
        Entry { title: name.clone(), fields: fields.into() }
    };
    stages.iter().map(entry).collect()
}

/// Claims or tables, each by the value of `key`.
fn entries(list: &[Params], key: &str) -> Vec<Entry> {
    let entry = |params: &Params| {
        let name = params.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut fields = BTreeMap::new();
        leaves("", &Value::Object(params.clone()), &mut fields);
        Entry { title: format!("`{name}`"), fields }
    };
    list.iter().map(entry).collect()
}

/// The values of nested maps by their path: `compare.at.n_bg`.
fn leaves(path: &str, value: &Value, to: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (name, value) in map {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(&path, value, to);
            }
        }
        value => drop(to.insert(path.to_owned(), value.to_string())),
    }
}

/// What was added, removed, or changed in a list whose entries have unique titles.
fn list_changes(noun: &str, old: &[Entry], new: &[Entry]) -> Vec<String> {
    let titles: BTreeSet<&String> = old.iter().chain(new).map(|entry| &entry.title).collect();
    let mut what = Vec::new();
    for title in titles {
        let find = |list: &'_ [Entry]| list.iter().position(|entry| entry.title == *title);
        match (find(old).map(|i| &old[i].fields), find(new).map(|i| &new[i].fields)) {
            (Some(was), Some(is)) if was == is => {}
            (Some(was), Some(is)) => {
                let names: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
                let edits: Vec<String> = names
                    .into_iter()
                    .filter(|name| was.get(*name) != is.get(*name))
                    .map(|name| match (was.get(name), is.get(name)) {
                        (Some(was), Some(is)) if name == TASKS => format!("{was} -> {is} tasks"),
                        (Some(was), Some(is)) => format!("{name} {was} -> {is}"),
                        (was, is) => format!("{name} {}", Edit::of(was, is).word()),
                    })
                    .collect();
                let changed = if noun == "stage" { "" } else { " changed" };
                what.push(format!("{noun} {title}{changed}: {}", edits.join(", ")));
            }
            (was, is) => what.push(format!("{noun} {title} {}", Edit::of(was, is).word())),
        }
    }
    let order = |list: &[Entry]| list.iter().map(|e| e.title.clone()).collect::<Vec<_>>();
    if what.is_empty() && order(old) != order(new) {
        what.push(format!("{noun}s in another order"));
    }
    what
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn params(value: Value) -> Params {
        value.as_object().unwrap().clone()
    }

    fn summary() -> PipelineSummary {
        let stage = |name: &str, needs: &[&str]| StageSummary {
            name: name.into(),
            kind: "command".into(),
            needs: needs.iter().map(|n| (*n).to_owned()).collect(),
            tasks: 3,
        };
        let claim = |id: &str| {
            params(json!({ "id": id, "says": "it helps", "expect": "none", "margin": 1,
                "compare": { "metric": "acc", "at": { "n": 4 } } }))
        };
        let table = |name: &str| params(json!({ "name": name, "rows": ["n"], "metrics": ["acc"] }));
        PipelineSummary {
            name: "x".into(),
            profile: None,
            stages: vec![stage("a", &[]), stage("b", &["a"])],
            claims: vec![claim("c"), claim("d")],
            tables: vec![table("t"), table("u")],
        }
    }

    fn said(edit: impl Fn(&mut PipelineSummary)) -> String {
        let (old, mut new) = (summary(), summary());
        edit(&mut new);
        let changes = pipeline_changes(Some(&old), Some(&new));
        changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_field_of_the_pipeline_is_named() {
        assert_eq!(said(|_| ()), "");
        let edits: [fn(&mut PipelineSummary); 18] = [
            |p| p.name = "y".into(),
            |p| p.profile = Some("quick".into()),
            |p| p.stages[1].kind = "train".into(),
            |p| p.stages[1].needs.clear(),
            |p| p.stages[1].tasks = 4,
            |p| p.stages.truncate(1),
            |p| p.stages[0].name = "z".into(),
            |p| p.stages.reverse(),
            |p| drop(p.claims[0].insert("margin".into(), json!(2))),
            |p| drop(p.claims[0].insert("says".into(), json!("it\nhelps"))),
            |p| drop(p.claims[1].remove("margin")),
            |p| p.claims[1]["compare"]["at"] = json!({ "n": [4, 8], "lr": 0.1 }),
            |p| drop(p.claims.remove(0)),
            |p| p.claims.push(params(json!({ "id": "e" }))),
            |p| p.claims.reverse(),
            |p| p.tables[1]["rows"] = json!(["n", "lr"]),
            |p| drop(p.tables.pop()),
            |p| p.tables.reverse(),
        ];
        let said = edits.map(said).join("\n");
        insta::assert_snapshot!(said, @r#"
        pipeline: name x -> y
        pipeline: profile (none) -> quick
        pipeline: stage b: kind command -> train
        pipeline: stage b: needs [a] -> []
        pipeline: stage b: 3 -> 4 tasks
        pipeline: stage b removed
        pipeline: stage a removed
        pipeline: stage z added
        pipeline: stages in another order
        pipeline: claim `c` changed: margin 1 -> 2
        pipeline: claim `c` changed: says "it helps" -> "it\nhelps"
        pipeline: claim `d` changed: margin removed
        pipeline: claim `d` changed: compare.at.lr added, compare.at.n 4 -> [4,8]
        pipeline: claim `c` removed
        pipeline: claim `e` added
        pipeline: claims in another order
        pipeline: table `u` changed: rows ["n"] -> ["n","lr"]
        pipeline: table `u` removed
        pipeline: tables in another order
        "#);
    }
}
