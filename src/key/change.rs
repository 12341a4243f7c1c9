//! One thing that differs between two descriptions, in words.

use std::collections::BTreeSet;
use std::fmt;

use dissim_api::{Code, PipelineSummary};
use serde::Serialize;
use serde_json::Value;

use super::{About, Backend, Description, InputArtifact};
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
        About::Backend => Change::Backend { old: old.backend.clone(), new: new.backend.clone() },
        About::Code => return code_changes(&old.code, &new.code, code),
        About::Input(name) => {
            let list = |d: &Description| d.inputs.get(name).cloned().unwrap_or_default();
            return input_changes(name, &list(old), &list(new));
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

/// Pairs artifacts by the task that made them. Tasks that only have another name now, and the same
/// artifact, are no change and are not in the key either.
fn input_changes(input: &str, old: &[InputArtifact], new: &[InputArtifact]) -> Vec<Change> {
    let find = |list: &[InputArtifact], task: &str| {
        list.iter().find(|a| a.task == task).map(|a| a.artifact.clone())
    };
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
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
    let mut what = Vec::new();
    let (Some(old), Some(new)) = (old, new) else {
        let what = format!("{} what the kind reads", Edit::of(old, new).word());
        return vec![Change::Pipeline { what }];
    };
    if old.name != new.name {
        what.push(format!("name {} -> {}", old.name, new.name));
    }
    if old.profile != new.profile {
        let text = |p: &Option<String>| p.clone().unwrap_or_else(|| "(none)".to_owned());
        what.push(format!("profile {} -> {}", text(&old.profile), text(&new.profile)));
    }
    let names: BTreeSet<&String> = old.stages.iter().chain(&new.stages).map(|s| &s.name).collect();
    for name in names {
        let find = |p: &PipelineSummary| p.stages.iter().find(|s| s.name == *name).cloned();
        match (find(old), find(new)) {
            (Some(was), Some(is)) if was.tasks != is.tasks => {
                what.push(format!("stage {name}: {} -> {} tasks", was.tasks, is.tasks));
            }
            (Some(was), Some(is)) if was == is => {}
            (was, is) => what.push(format!("stage {name} {}", Edit::of(was, is).word())),
        }
    }
    if what.is_empty() {
        what.push("stages in another order".to_owned());
    }
    what.into_iter().map(|what| Change::Pipeline { what }).collect()
}
