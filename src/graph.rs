//! A study as the runner sees it: stages, and the tasks they expand to.

use std::path::PathBuf;
use std::sync::Arc;

use dissim_api::{Device, Params, PipelineSummary, Stage, StageSummary};
use serde_json::Value;

use crate::execute::SlurmSettings;
use crate::policy::Policy;
use crate::remote;

/// Index of a task in [`Study::tasks`].
pub type TaskId = usize;
/// Index of a stage in [`Study::stages`].
pub type StageId = usize;

/// A parsed, checked and expanded pipeline.yaml.
#[derive(Clone)]
pub struct Study {
    /// `name:`.
    pub name: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// The folder of that file: paths in it are relative to this, the store is `cache/` in it.
    pub root: PathBuf,
    /// The profile in use, if any.
    pub profile: Option<String>,
    /// The compute backend's name.
    pub backend: String,
    /// What it computes on.
    pub device: Device,
    /// `claims:`, with references replaced.
    pub claims: Vec<Params>,
    /// `tables:`, with references replaced.
    pub tables: Vec<Params>,
    /// `executors: { slurm: .. }`.
    pub slurm: Option<SlurmSettings>,
    /// `store:`: a store that is shared.
    pub remote: Option<remote::Settings>,
    /// Stages, each after those it needs.
    pub stages: Vec<StageNode>,
    /// Tasks, each after those it needs; those of one stage stand together.
    pub tasks: Vec<Task>,
    /// What is odd about the file and is no error, such as a parameter that nothing refers to.
    pub warnings: Vec<String>,
}

/// An entry under `stages:`.
#[derive(Clone)]
pub struct StageNode {
    /// Its key.
    pub name: String,
    /// Its kind.
    pub stage: Arc<dyn Stage>,
    /// The stages it needs, without repeats, in the order of `needs:`.
    pub needs: Vec<StageId>,
    /// Its tasks.
    pub tasks: std::ops::Range<TaskId>,
    /// How they are run.
    pub policy: Policy,
}

/// One instance of a stage after the matrix is expanded.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The stage it is an instance of.
    pub stage: StageId,
    /// Its name: the stage's, with the axes in brackets, such as `train[n_bg=8,method=erm,seed=0]`.
    pub name: String,
    /// Names that mean the same task: another sweep, or a value that is the default.
    pub aliases: Vec<String>,
    /// Its place in the matrix, the stage's own axes first, then the inherited ones.
    pub axes: Vec<(String, Value)>,
    /// Resolved parameters.
    pub params: Params,
    /// What it needs, by the names under `needs:`, sorted by that name.
    pub needs: Vec<Need>,
    /// Project files that it reads, relative to the root, sorted; patterns too.
    pub files: Vec<PathBuf>,
    /// Project files that its program is made of, the same way. A run copies them when it begins.
    pub code: Vec<PathBuf>,
}

/// One input of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// The name under `needs:`.
    pub input: String,
    /// Whether it gathers any number of tasks, however many there are.
    pub gathered: bool,
    /// The tasks whose artifacts it is, in the order of the graph. A join over many is one list that
    /// every task with it shares: n lists of m names, not n times m.
    pub tasks: Arc<[TaskId]>,
}

impl Task {
    /// Every project file that it reads, code included; patterns too.
    pub fn project_files(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().chain(&self.code)
    }
}

impl Study {
    /// The stage of a task.
    #[must_use]
    pub fn stage_of(&self, task: TaskId) -> &StageNode {
        &self.stages[self.tasks[task].stage]
    }

    /// The shape of the pipeline, for a report that draws it.
    #[must_use]
    pub fn summary(&self) -> PipelineSummary {
        let stage = |node: &StageNode| StageSummary {
            name: node.name.clone(),
            kind: node.stage.kind().to_owned(),
            needs: node.needs.iter().map(|&n| self.stages[n].name.clone()).collect(),
            tasks: node.tasks.len(),
        };
        PipelineSummary {
            name: self.name.clone(),
            profile: self.profile.clone(),
            stages: self.stages.iter().map(stage).collect(),
            claims: self.claims.clone(),
            tables: self.tables.clone(),
        }
    }
}
