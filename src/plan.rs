//! Which tasks are hits: from a study and a store to the state of every task.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Component;
use std::sync::Arc;

use dissim_api::{Code, PipelineSummary, files};
use rayon::prelude::*;

use crate::digest::Digest;
use crate::graph::{Need, Study, TaskId};
use crate::key::{Backend, Description, Facts, InputArtifact};
use crate::store::{FileDigests, Hit, Index, Record, Store};

/// What is known of a task before it runs.
#[derive(Debug, Clone)]
pub enum State {
    /// The store has a record and its artifact is whole.
    Hit(Box<Record>),
    /// It must run.
    Miss(Box<Description>),
    /// It depends on tasks that must run; when their artifacts come out as before, it is a hit.
    Waiting,
    /// Its key cannot be known: a file it reads is missing, say.
    Broken(String),
}

/// What the store says of a task, as far as a run has to know.
#[derive(Debug)]
pub enum Found {
    /// Its artifact is there.
    Hit(Hit),
    /// It must run.
    Miss(Box<Description>),
}

/// What all tasks of a kind share in their keys.
#[derive(Debug)]
struct Kind {
    code: Digest,
    manifest: Arc<Code>,
    backend: Option<Backend>,
}

/// Finds keys and records of tasks.
pub struct Planner<'a> {
    study: &'a Study,
    store: &'a Store,
    kinds: HashMap<&'static str, Kind>,
    summary: PipelineSummary,
    files: FileDigests,
    index: Index,
}

impl<'a> Planner<'a> {
    /// A planner for one look at the store.
    #[must_use]
    pub fn new(study: &'a Study, store: &'a Store) -> Self {
        let mut kinds = HashMap::new();
        for node in &study.stages {
            kinds.entry(node.stage.kind()).or_insert_with(|| {
                let manifest = node.stage.code();
                let code = Digest::try_from(manifest.digest()).expect("a code digest is a digest");
                let backend = Backend::of(&study.backend, &manifest);
                let backend = node.stage.traits().backend.then_some(backend);
                Kind { code, manifest: Arc::new(manifest), backend }
            });
        }
        let (files, index) = (store.file_digests(), store.index());
        Self { study, store, kinds, summary: study.summary(), files, index }
    }

    fn kind(&self, task: TaskId) -> &Kind {
        &self.kinds[self.study.stage_of(task).stage.kind()]
    }

    /// The code of a task's kind.
    #[must_use]
    pub fn code(&self, task: TaskId) -> (Digest, Arc<Code>) {
        let kind = self.kind(task);
        (kind.code.clone(), Arc::clone(&kind.manifest))
    }

    /// The digests of the project files that a task reads, as they are now.
    pub(crate) fn files(&self, task: TaskId) -> Result<BTreeMap<String, Digest>, String> {
        let root = &self.study.root;
        let mut digests = BTreeMap::new();
        for pattern in &self.study.tasks[task].files {
            let name = pattern.to_string_lossy();
            // Most are plain files: one question to the file system answers everything.
            if !name.contains(['*', '?'])
                && pattern.components().all(|c| matches!(c, Component::Normal(_)))
            {
                let path = root.join(pattern);
                if let Ok(metadata) = fs::metadata(&path)
                    && metadata.is_file()
                {
                    let digest = self.files.of(path, &metadata);
                    let digest = digest.map_err(|e| format!("{}: {e}", pattern.display()))?;
                    digests.insert(name.into_owned(), digest);
                    continue;
                }
            }
            for file in files::expand(root, pattern).map_err(|e| e.to_string())? {
                let digest = self.files.digest(root, &file).map_err(|e| e.to_string())?;
                digests.insert(file.to_string_lossy().into_owned(), digest);
            }
        }
        Ok(digests)
    }

    /// What a task's key depends on, given the artifacts of what it needs.
    ///
    /// # Errors
    /// When a project file that it reads is missing or cannot be read, in words.
    pub fn describe<'d>(
        &self,
        task: TaskId,
        artifact: impl Fn(TaskId) -> Option<&'d Digest>,
    ) -> Result<Description, String> {
        Ok(self.description(task, &artifact, self.files(task)?))
    }

    fn description<'d>(
        &self,
        task: TaskId,
        artifact: &impl Fn(TaskId) -> Option<&'d Digest>,
        files: BTreeMap<String, Digest>,
    ) -> Description {
        let (of, kind) = (&self.study.tasks[task], self.kind(task));
        let input = |&id: &TaskId| {
            let task = self.study.tasks[id].name.clone();
            artifact(id).map(|artifact| InputArtifact { task, artifact: artifact.clone() })
        };
        let inputs = of
            .needs
            .iter()
            .map(|need| (need.input.clone(), need.tasks.iter().filter_map(input).collect()));
        Description {
            version: Description::VERSION,
            kind: self.study.stage_of(task).stage.kind().to_owned(),
            code: kind.code.clone(),
            params: of.params.clone(),
            inputs: inputs.collect(),
            files,
            backend: kind.backend.clone(),
            pipeline: self.reads_pipeline(task).then(|| self.summary.clone()),
        }
    }

    fn reads_pipeline(&self, task: TaskId) -> bool {
        self.study.stage_of(task).stage.traits().pipeline
    }

    /// Finds a task in the store, given the artifacts of what it needs, all of which are there.
    /// Copies nothing where it is a hit.
    ///
    /// # Errors
    /// When a project file that it reads is missing or cannot be read, in words.
    pub fn look_up<'d>(
        &self,
        task: TaskId,
        artifact: impl Fn(TaskId) -> Option<&'d Digest>,
    ) -> Result<Found, String> {
        let (of, kind) = (&self.study.tasks[task], self.kind(task));
        let files = self.files(task)?;
        let digests = |need: &'a Need| -> Vec<&'d Digest> {
            need.tasks.iter().filter_map(|&id| artifact(id)).collect()
        };
        let facts = Facts {
            version: Description::VERSION,
            kind: self.study.stage_of(task).stage.kind(),
            code: &kind.code,
            params: &of.params,
            inputs: of.needs.iter().map(|need| (need.input.as_str(), digests(need))).collect(),
            files: &files,
            backend: kind.backend.as_ref(),
            pipeline: self.reads_pipeline(task).then_some(&self.summary),
        };
        Ok(match self.index.look_up(&facts.key()) {
            Some(hit) => Found::Hit(hit),
            None => Found::Miss(Box::new(self.description(task, &artifact, files))),
        })
    }

    /// The state of every task, in order. The tasks of a stage do not need each other, so they are
    /// looked up side by side.
    #[must_use]
    pub fn plan(&mut self) -> Vec<State> {
        let mut states: Vec<State> = Vec::with_capacity(self.study.tasks.len());
        for stage in &self.study.stages {
            let found: Vec<State> =
                stage.tasks.clone().into_par_iter().map(|task| self.state(task, &states)).collect();
            states.extend(found);
        }
        states
    }

    fn state(&self, task: TaskId, before: &[State]) -> State {
        let mut needs = self.study.tasks[task].needs.iter().flat_map(|n| n.tasks.iter());
        if !needs.all(|&n| matches!(before[n], State::Hit(_))) {
            return State::Waiting;
        }
        let artifact = |id: TaskId| match &before[id] {
            State::Hit(record) => Some(&record.artifact),
            _ => None,
        };
        let miss = || self.describe(task, artifact).map(|d| State::Miss(Box::new(d)));
        match self.look_up(task, artifact) {
            Ok(Found::Hit(hit)) => match self.store.record(&hit.key) {
                Some(record) => State::Hit(Box::new(record)),
                None => miss().unwrap_or_else(State::Broken),
            },
            Ok(Found::Miss(description)) => State::Miss(description),
            Err(why) => State::Broken(why),
        }
    }

    /// The index of records that it looks up in.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Remembers what `stat` said of files and records for the next run. Only a hint: where it cannot
    /// be kept, that is said, and it is found out again.
    pub fn save(&mut self) {
        if let Err(error) = self.files.save().and_then(|()| self.index.save()) {
            say!("warning: what was seen of files could not be kept: {error}");
        }
    }
}
