//! What goes into a task's process and what comes out of it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Device, Params, StageError};

/// The whole of what a task's process is told: `dissim task SPEC` reads it as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// Version of this format.
    pub version: u32,
    /// The task's name, such as `train[method=erm,n_bg=8,seed=0]`.
    pub task: String,
    /// The stage kind.
    pub kind: String,
    /// Resolved parameters.
    pub params: Params,
    /// Input artifacts by the names under `needs:`.
    pub inputs: BTreeMap<String, InputSpec>,
    /// Project files that the program is made of ([`Stage::code_files`](crate::Stage::code_files)), as they
    /// were when the run began, by path relative to the project: where each copy is.
    #[serde(default)]
    pub code: BTreeMap<PathBuf, PathBuf>,
    /// The folder to write to, empty at the start.
    pub output: PathBuf,
    /// A folder that survives when the task is killed and is emptied when it succeeds.
    pub scratch: PathBuf,
    /// The folder of pipeline.yaml.
    pub project: PathBuf,
    /// The compute backend, such as `flex`.
    pub backend: String,
    /// What it computes on.
    #[serde(default)]
    pub device: Device,
    /// For kinds that read it: the shape of the pipeline.
    pub pipeline: Option<PipelineSummary>,
}

impl TaskSpec {
    /// The version this build reads and writes.
    pub const VERSION: u32 = 2;
}

/// One input of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Whether `needs:` gathers any number of artifacts (`train[*]`), however many there are.
    pub gathered: bool,
    /// The artifacts, in the order of their tasks.
    pub artifacts: Vec<InputArtifact>,
}

/// One input artifact of a task. What is in it is part of the task's key, but for the path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputArtifact {
    /// The task that made it; empty unless the kind's traits have
    /// [`input_names`](crate::Traits::input_names).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task: String,
    /// The axes of that task, if the input gathers: they tell the artifacts apart.
    #[serde(default, skip_serializing_if = "Params::is_empty")]
    pub axes: Params,
    /// Where it is, read-only.
    pub path: PathBuf,
}

/// What a report is told of the pipeline: its shape, its claims and its tables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipelineSummary {
    /// `name:` of pipeline.yaml.
    pub name: String,
    /// The profile in use, if any.
    pub profile: Option<String>,
    /// Stages, each after those it needs.
    pub stages: Vec<StageSummary>,
    /// `claims:`, with references replaced; checked when the file was read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Params>,
    /// `tables:`, the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<Params>,
}

/// A stage in a [`PipelineSummary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageSummary {
    /// Its key under `stages:`.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The stages it needs.
    pub needs: Vec<String>,
    /// How many tasks it has.
    pub tasks: usize,
}

/// One line of JSON that a task's process prints to stdout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// How far the task is.
    Progress(Progress),
    /// A number to keep with the record.
    Metric {
        /// Its name, such as `ood_acc`.
        name: String,
        /// Its value; not finite becomes null.
        value: Option<f64>,
    },
    /// The task failed and says why. Printed last.
    Failed(StageError),
    /// The task is done. Printed last: a process that ends without it did not finish.
    Done,
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done.
    pub done: u64,
    /// Units in all; 0 when unknown.
    pub total: u64,
    /// What is counted: `epoch`, `bytes`.
    pub unit: String,
    /// A few words on where it is: `loss 0.31`.
    pub note: String,
}
