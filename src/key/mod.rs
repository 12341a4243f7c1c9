//! The task key: one description of all that a task depends on, and its hash.
//!
//! `Facts::walk` visits every fact once. The key hashes what it visits and
//! [`Description::diff`] compares what it visits, so a key never changes without a reason that
//! `dissim why` can name, and nothing is named that does not change the key.

mod change;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use dissim_api::{Code, Device, Params, PipelineSummary};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;
use crate::registry;

pub use change::{Change, Edit};

/// All that a task's result depends on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Version of this struct and of how it is hashed.
    pub version: u32,
    /// The stage kind.
    pub kind: String,
    /// Digest of the stage's [`Code`].
    pub code: Digest,
    /// Resolved parameters.
    pub params: Params,
    /// Inputs by the names under `needs:`.
    pub inputs: BTreeMap<String, InputDescription>,
    /// Project files, code included, by path relative to the root, to the digest of their content.
    pub files: BTreeMap<String, Digest>,
    /// Those of them that may be executed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub executables: BTreeSet<String>,
    /// The compute backend, for kinds that compute on it.
    pub backend: Option<Backend>,
    /// The shape of the pipeline, for kinds that read it.
    pub pipeline: Option<PipelineSummary>,
}

/// One input of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputDescription {
    /// Whether it gathers any number of artifacts: they are laid out in another way, and the task sees
    /// the axes of each.
    pub gathered: bool,
    /// Whether the task sees the names of the tasks that made the artifacts.
    pub named: bool,
    /// The artifacts, in the order the stage sees them.
    pub artifacts: Vec<DescribedArtifact>,
}

/// An artifact that a task reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedArtifact {
    /// The task that made it. Kept to explain. It is part of the key only if the task sees it: the same
    /// bytes made by a task of another name are the same input.
    pub task: String,
    /// The axes of that task, if the input is gathered.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub axes: Params,
    /// Its digest.
    pub artifact: Digest,
}

/// A compute backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name, such as `flex`.
    pub name: String,
    /// The version of the crate behind it, and of the library that one calls.
    pub version: String,
    /// What it computes on.
    #[serde(default, skip_serializing_if = "Device::is_cpu")]
    pub device: Device,
}

impl Backend {
    /// The backend of that name, with the version that the stage's code pins.
    #[must_use]
    pub fn of(name: &str, device: Device, code: &Code) -> Self {
        let version = [format!("burn-{name}"), "burn".to_owned()]
            .iter()
            .find_map(|package| code.0.get(package))
            .map_or_else(|| "none".to_owned(), Clone::clone);
        let version = match registry::backend_library(name) {
            Some(library) => format!("{version}, {library}"),
            None => version,
        };
        Self { name: name.to_owned(), version, device }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)?;
        if self.device.is_cpu() { Ok(()) } else { write!(f, " on {}", self.device) }
    }
}

/// What a fact is about. The order is the order in which `why` lists changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum About<'a> {
    Format,
    Kind,
    Param(&'a str),
    File(&'a str),
    Executable(&'a str),
    Code,
    Backend,
    Input(&'a str),
    Pipeline,
}

/// A description that borrows: what a key needs, without a copy of anything.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// See [`Description`], here and below.
    pub version: u32,
    /// The stage kind.
    pub kind: &'a str,
    /// Digest of the stage's [`Code`].
    pub code: &'a Digest,
    /// Resolved parameters.
    pub params: &'a Params,
    /// Inputs, sorted by name.
    pub inputs: Vec<(&'a str, InputFacts<'a>)>,
    /// Project files, sorted by path.
    pub files: &'a BTreeMap<String, Digest>,
    /// Those of them that may be executed.
    pub executables: &'a BTreeSet<String>,
    /// The compute backend.
    pub backend: Option<&'a Backend>,
    /// The shape of the pipeline.
    pub pipeline: Option<&'a PipelineSummary>,
}

/// The facts about one input that a task can see.
#[derive(Debug, Clone)]
pub struct InputFacts<'a> {
    /// See [`InputDescription::gathered`].
    pub gathered: bool,
    /// The artifacts in order.
    pub artifacts: Vec<ArtifactFacts<'a>>,
}

/// The facts about one artifact that a task can see.
#[derive(Debug, Clone)]
pub struct ArtifactFacts<'a> {
    /// Its digest.
    pub artifact: &'a Digest,
    /// The axes of the task that made it, sorted by name, if the task sees them.
    pub axes: Vec<(&'a str, &'a Value)>,
    /// The name of the task that made it, if the task sees it.
    pub task: Option<&'a str>,
}

impl InputFacts<'_> {
    /// `[gathered,[[artifact,{axis:value,..},task],..]]`: has one form only.
    fn write(&self, to: &mut Vec<u8>) {
        plain(&self.gathered, to);
        for ArtifactFacts { artifact, axes, task } in &self.artifacts {
            to.push(b' ');
            plain(artifact, to);
            object(axes.iter().copied(), to);
            plain(task, to);
        }
    }
}

impl<'a> Facts<'a> {
    /// Visits every fact that the key depends on, in a fixed order, as canonical JSON.
    fn walk(&self, mut visit: impl FnMut(About<'a>, &[u8])) {
        let mut json = Vec::new();
        let mut fact = |about, write: &dyn Fn(&mut Vec<u8>)| {
            json.clear();
            write(&mut json);
            visit(about, &json);
        };
        fact(About::Format, &|to| plain(&self.version, to));
        fact(About::Kind, &|to| plain(self.kind, to));
        // The map may keep the order of the file; the key does not.
        let mut params: Vec<_> = self.params.iter().collect();
        params.sort_by_key(|(name, _)| *name);
        for (name, value) in params {
            fact(About::Param(name), &|to| canonical(value, to));
        }
        for (path, digest) in self.files {
            fact(About::File(path), &|to| plain(digest.as_str(), to));
        }
        for path in self.executables {
            fact(About::Executable(path), &|to| plain(&true, to));
        }
        fact(About::Code, &|to| plain(self.code.as_str(), to));
        if let Some(backend) = self.backend {
            fact(About::Backend, &|to| canonical(&json!(backend), to));
        }
        for (name, input) in &self.inputs {
            fact(About::Input(name), &|to| input.write(to));
        }
        if let Some(pipeline) = self.pipeline {
            fact(About::Pipeline, &|to| canonical(&json!(pipeline), to));
        }
    }

    /// The task key: blake3 over the canonical JSON of every fact.
    #[must_use]
    pub fn key(&self) -> Digest {
        let mut text = Vec::with_capacity(1024);
        self.walk(|about, value| {
            match about {
                About::Param(name) => named("Param", name, &mut text),
                About::File(name) => named("File", name, &mut text),
                About::Executable(name) => named("Executable", name, &mut text),
                About::Input(name) => named("Input", name, &mut text),
                other => plain(&other, &mut text),
            }
            text.push(b'\t');
            text.extend_from_slice(value);
            text.push(b'\n');
        });
        Digest::of(&text)
    }
}

impl Description {
    /// The version this build writes.
    pub const VERSION: u32 = 2;

    /// The same without copies.
    #[must_use]
    pub fn facts(&self) -> Facts<'_> {
        Facts {
            version: self.version,
            kind: &self.kind,
            code: &self.code,
            params: &self.params,
            inputs: self
                .inputs
                .iter()
                .map(|(name, input)| (name.as_str(), input.facts()))
                .collect(),
            files: &self.files,
            executables: &self.executables,
            backend: self.backend.as_ref(),
            pipeline: self.pipeline.as_ref(),
        }
    }

    /// The task key.
    #[must_use]
    pub fn key(&self) -> Digest {
        self.facts().key()
    }

    /// What changed from `old` to `new`: empty exactly when their keys are equal. `code` finds the
    /// manifest of a code digest, if it is still kept.
    #[must_use]
    pub fn diff(old: &Self, new: &Self, code: &dyn Fn(&Digest) -> Option<Code>) -> Vec<Change> {
        let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
        old.facts().walk(|about, json| drop(before.insert(about, json.to_vec())));
        new.facts().walk(|about, json| drop(after.insert(about, json.to_vec())));
        let mut changed: Vec<About<'_>> = before.keys().chain(after.keys()).copied().collect();
        changed.sort();
        changed.dedup();
        changed.retain(|about| before.get(about) != after.get(about));
        changed.into_iter().flat_map(|about| change::explain(about, old, new, code)).collect()
    }
}

impl InputDescription {
    fn facts(&self) -> InputFacts<'_> {
        let artifacts = self.artifacts.iter().map(|of| ArtifactFacts {
            artifact: &of.artifact,
            axes: sorted(of.axes.iter().map(|(axis, value)| (axis.as_str(), value))),
            task: self.named.then_some(of.task.as_str()),
        });
        InputFacts { gathered: self.gathered, artifacts: artifacts.collect() }
    }
}

/// Pairs of name and value, sorted by name.
pub(crate) fn sorted<'a>(
    pairs: impl Iterator<Item = (&'a str, &'a Value)>,
) -> Vec<(&'a str, &'a Value)> {
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort_by_key(|(name, _)| *name);
    pairs
}

/// JSON of what has one form only: no object whose names could come in another order.
fn plain<T: Serialize + ?Sized>(value: &T, to: &mut Vec<u8>) {
    serde_json::to_writer(to, value).expect("memory takes all bytes");
}

/// `{"about":"name"}`.
fn named(about: &str, name: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"");
    to.extend_from_slice(about.as_bytes());
    to.extend_from_slice(b"\":");
    plain(name, to);
    to.push(b'}');
}

/// A JSON object of pairs that are sorted by name.
fn object<'a>(pairs: impl Iterator<Item = (&'a str, &'a Value)>, to: &mut Vec<u8>) {
    to.push(b'{');
    for (at, (name, value)) in pairs.enumerate() {
        if at > 0 {
            to.push(b',');
        }
        plain(name, to);
        to.push(b':');
        canonical(value, to);
    }
    to.push(b'}');
}

/// JSON without spaces, with the names of every object sorted, whatever order the map keeps.
fn canonical(value: &Value, to: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            object(sorted(map.iter().map(|(name, value)| (name.as_str(), value))).into_iter(), to);
        }
        Value::Array(items) => {
            to.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    to.push(b',');
                }
                canonical(item, to);
            }
            to.push(b']');
        }
        other => plain(other, to),
    }
}

#[cfg(test)]
mod tests;
