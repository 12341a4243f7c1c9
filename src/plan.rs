//! Which tasks are hits: from a study and a store to the state of every task.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};
use std::sync::Arc;

use dissim_api::{Code, Params, PipelineSummary, files};
use rayon::prelude::*;

use crate::digest::Digest;
use crate::graph::{Need, Study, TaskId};
use crate::key::{
    ArtifactFacts, Backend, DescribedArtifact, Description, Facts, InputDescription, InputFacts,
    sorted,
};
use crate::snapshot::{CodeSnapshot, ProjectFile, ProjectFiles};
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
    /// The code of a run, as it was when the run began.
    code: Arc<CodeSnapshot>,
    index: Index,
}

impl<'a> Planner<'a> {
    /// A planner for one look at the store. Code counts as it is now.
    #[must_use]
    pub fn new(study: &'a Study, store: &'a Store) -> Self {
        Self::for_run(study, store, Arc::default())
    }

    /// A planner for a run. Code counts as it was when the snapshot was taken.
    #[must_use]
    pub fn for_run(study: &'a Study, store: &'a Store, code: Arc<CodeSnapshot>) -> Self {
        let mut kinds = HashMap::new();
        for node in &study.stages {
            kinds.entry(node.stage.kind()).or_insert_with(|| {
                let manifest = node.stage.code();
                let code = Digest::try_from(manifest.digest()).expect("a code digest is a digest");
                let backend = Backend::of(&study.backend, study.device, &manifest);
                let backend = node.stage.traits().backend.then_some(backend);
                Kind { code, manifest: Arc::new(manifest), backend }
            });
        }
        let (files, index) = (store.file_digests(), store.index());
        Self { study, store, kinds, summary: study.summary(), files, code, index }
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

    /// The project files of a task: what it reads, as it is now, and its code.
    fn files(&self, task: TaskId) -> Result<ProjectFiles, String> {
        let mut files = ProjectFiles::new();
        for pattern in &self.study.tasks[task].files {
            self.add(pattern, &mut files)?;
        }
        // A file that is named in both places counts as code.
        files.extend(self.code_files(task)?);
        Ok(files)
    }

    /// The code of a task: as it was when the run began, or as it is now.
    pub(crate) fn code_files(&self, task: TaskId) -> Result<ProjectFiles, String> {
        let mut files = ProjectFiles::new();
        for pattern in &self.study.tasks[task].code {
            match self.code.files(pattern) {
                Some(copied) => {
                    let copied = copied.map_err(str::to_owned)?;
                    files.extend(copied.iter().map(|(name, file)| (name.clone(), file.clone())));
                }
                None => self.add(pattern, &mut files)?,
            }
        }
        Ok(files)
    }

    /// The current state of the project files that a task reads, without its code.
    pub(crate) fn read_files(&self, task: TaskId) -> Result<ProjectFiles, String> {
        let mut files = self.files(task)?;
        for name in self.code_files(task)?.keys() {
            files.remove(name);
        }
        Ok(files)
    }

    /// Adds the files that a pattern means now.
    fn add(&self, pattern: &Path, files: &mut ProjectFiles) -> Result<(), String> {
        let root = &self.study.root;
        let name = pattern.to_string_lossy();
        // Most are plain files: one question to the file system answers everything.
        let plain = !name.contains(['*', '?'])
            && pattern.components().all(|c| matches!(c, Component::Normal(_)));
        if plain && fs::metadata(root.join(pattern)).is_ok_and(|metadata| metadata.is_file()) {
            files.insert(name.into_owned(), self.look(pattern)?);
            return Ok(());
        }
        for file in files::expand(root, pattern).map_err(|e| e.to_string())? {
            files.insert(file.to_string_lossy().into_owned(), self.look(&file)?);
        }
        Ok(())
    }

    fn look(&self, file: &Path) -> Result<ProjectFile, String> {
        let path = self.study.root.join(file);
        let cannot = |e: std::io::Error| format!("cannot read `{}`: {e}", file.display());
        let metadata = fs::metadata(&path).map_err(cannot)?;
        let executable = metadata.permissions().mode() & 0o111 != 0;
        let digest = self.files.of(path, &metadata).map_err(cannot)?;
        Ok(ProjectFile { digest, executable })
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
        files: ProjectFiles,
    ) -> Description {
        let (of, kind) = (&self.study.tasks[task], self.kind(task));
        let named = self.study.stage_of(task).stage.traits().input_names;
        let described = |need: &Need| {
            let one = |&id: &TaskId| {
                let of = &self.study.tasks[id];
                let axes =
                    if need.gathered { of.axes.iter().cloned().collect() } else { Params::new() };
                let (task, artifact) = (of.name.clone(), artifact(id)?.clone());
                Some(DescribedArtifact { task, axes, artifact })
            };
            let artifacts = need.tasks.iter().filter_map(one).collect();
            InputDescription { gathered: need.gathered, named, artifacts }
        };
        let inputs = of.needs.iter().map(|need| (need.input.clone(), described(need)));
        let (files, executables) = split(files);
        Description {
            version: Description::VERSION,
            kind: self.study.stage_of(task).stage.kind().to_owned(),
            code: kind.code.clone(),
            params: of.params.clone(),
            inputs: inputs.collect(),
            files,
            executables,
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
        let named = self.study.stage_of(task).stage.traits().input_names;
        let seen = |need: &'a Need| {
            let one = |&id: &TaskId| {
                let of = &self.study.tasks[id];
                let axes = of.axes.iter().map(|(axis, value)| (axis.as_str(), value));
                Some(ArtifactFacts {
                    artifact: artifact(id)?,
                    axes: if need.gathered { sorted(axes) } else { Vec::new() },
                    task: named.then_some(of.name.as_str()),
                })
            };
            let artifacts = need.tasks.iter().filter_map(one).collect();
            InputFacts { gathered: need.gathered, artifacts }
        };
        let (digests, executables) = split(files.clone());
        let facts = Facts {
            version: Description::VERSION,
            kind: self.study.stage_of(task).stage.kind(),
            code: &kind.code,
            params: &of.params,
            inputs: of.needs.iter().map(|need| (need.input.as_str(), seen(need))).collect(),
            files: &digests,
            executables: &executables,
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

/// The digests of files, and the names of those that may be executed.
fn split(files: ProjectFiles) -> (BTreeMap<String, Digest>, BTreeSet<String>) {
    let executables =
        files.iter().filter(|(_, file)| file.executable).map(|(name, _)| name.clone()).collect();
    (files.into_iter().map(|(name, file)| (name, file.digest)).collect(), executables)
}
