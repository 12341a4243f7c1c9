//! The task key: one description of all that a task depends on, and its hash.
//!
//! [`Description::walk`] visits every fact once. The key hashes what it visits and
//! [`Description::diff`] compares what it visits, so a key never changes without a reason that
//! `dissim why` can name, and nothing is named that does not change the key.

mod change;

use std::collections::BTreeMap;
use std::io::Write;

use dissim_api::{Code, Params, PipelineSummary};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::digest::Digest;

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
    /// Input artifacts by the names under `needs:`, in the order the stage sees them.
    pub inputs: BTreeMap<String, Vec<InputArtifact>>,
    /// Project files by path relative to the root, to the digest of their content.
    pub files: BTreeMap<String, Digest>,
    /// The compute backend, for kinds that compute on it.
    pub backend: Option<Backend>,
    /// The shape of the pipeline, for kinds that read it.
    pub pipeline: Option<PipelineSummary>,
}

/// An artifact that a task reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputArtifact {
    /// The task that made it. Kept to explain, not part of the key: the same bytes by another
    /// name are the same input.
    pub task: String,
    /// Its digest.
    pub artifact: Digest,
}

/// A compute backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Its name, such as `flex`.
    pub name: String,
    /// The version of the crate behind it.
    pub version: String,
}

impl Backend {
    /// The backend of that name, with the version that the stage's code pins.
    #[must_use]
    pub fn of(name: &str, code: &Code) -> Self {
        let version = [format!("burn-{name}"), "burn".to_owned()]
            .iter()
            .find_map(|package| code.0.get(package))
            .map_or_else(|| "none".to_owned(), Clone::clone);
        Self { name: name.to_owned(), version }
    }
}

/// What a fact of a description is about. The order is the order in which `why` lists changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
enum About {
    Format,
    Kind,
    Param(String),
    File(String),
    Code,
    Backend,
    Input(String),
    Pipeline,
}

impl Description {
    /// The version this build writes.
    pub const VERSION: u32 = 1;

    /// Every fact that the key depends on, in a fixed order.
    fn walk(&self) -> BTreeMap<About, Value> {
        let mut facts = BTreeMap::new();
        facts.insert(About::Format, json!(self.version));
        facts.insert(About::Kind, json!(self.kind));
        facts.insert(About::Code, json!(self.code));
        for (name, value) in &self.params {
            facts.insert(About::Param(name.clone()), value.clone());
        }
        for (path, digest) in &self.files {
            facts.insert(About::File(path.clone()), json!(digest));
        }
        if let Some(backend) = &self.backend {
            facts.insert(About::Backend, json!(backend));
        }
        for (name, artifacts) in &self.inputs {
            let digests: Vec<_> = artifacts.iter().map(|a| &a.artifact).collect();
            facts.insert(About::Input(name.clone()), json!(digests));
        }
        if let Some(pipeline) = &self.pipeline {
            facts.insert(About::Pipeline, json!(pipeline));
        }
        facts
    }

    /// The task key: blake3 over the canonical JSON of every fact.
    #[must_use]
    pub fn key(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for (about, value) in self.walk() {
            let about = serde_json::to_value(&about).expect("names serialise");
            let line = format!("{}\t{}\n", canonical(&about), canonical(&value));
            hasher.write_all(line.as_bytes()).expect("a hasher takes all bytes");
        }
        hasher.finalize().into()
    }

    /// What changed from `old` to `new`: empty exactly when their keys are equal. `code` finds the
    /// manifest of a code digest, if it is still kept.
    #[must_use]
    pub fn diff(old: &Self, new: &Self, code: &dyn Fn(&Digest) -> Option<Code>) -> Vec<Change> {
        let (before, after) = (old.walk(), new.walk());
        let mut changed: Vec<&About> = before.keys().chain(after.keys()).collect();
        changed.sort();
        changed.dedup();
        changed.retain(|about| before.get(about) != after.get(about));
        changed.into_iter().flat_map(|about| change::explain(about, old, new, code)).collect()
    }
}

/// JSON without spaces, with the names of every object sorted, whatever order the map keeps.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut names: Vec<_> = map.keys().collect();
            names.sort();
            let pairs = names.iter().map(|name| {
                format!("{}:{}", Value::String((*name).clone()), canonical(&map[name.as_str()]))
            });
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(","))
        }
        plain => plain.to_string(),
    }
}

#[cfg(test)]
mod tests;
