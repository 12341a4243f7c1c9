//! Which tasks are hits: from a study and a store to the state of every task.

use std::collections::{BTreeMap, HashMap};
use std::io;

use dissim_api::{Code, PipelineSummary, files};

use crate::digest::Digest;
use crate::graph::{Study, TaskId};
use crate::key::{Backend, Description, InputArtifact};
use crate::store::{FileDigests, Record, Store};

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

/// Finds keys and records of tasks.
pub struct Planner<'a> {
    study: &'a Study,
    store: &'a Store,
    codes: HashMap<&'static str, (Digest, Code)>,
    summary: PipelineSummary,
    files: FileDigests,
}

impl<'a> Planner<'a> {
    /// A planner for one look at the store.
    #[must_use]
    pub fn new(study: &'a Study, store: &'a Store) -> Self {
        let (codes, summary) = (HashMap::new(), study.summary());
        Self { study, store, codes, summary, files: store.file_digests() }
    }

    /// The code of a task's kind.
    pub fn code(&mut self, task: TaskId) -> (Digest, Code) {
        let stage = &self.study.stage_of(task).stage;
        let code = self.codes.entry(stage.kind()).or_insert_with(|| {
            let code = stage.code();
            let digest = Digest::try_from(code.digest()).expect("a code digest is a digest");
            (digest, code)
        });
        code.clone()
    }

    /// What a task's key depends on, given the artifacts of what it needs.
    ///
    /// # Errors
    /// When a project file that it reads is missing or cannot be read, in words.
    pub fn describe(
        &mut self,
        task: TaskId,
        artifact: impl Fn(TaskId) -> Option<Digest>,
    ) -> Result<Description, String> {
        let study = self.study;
        let of = &study.tasks[task];
        let traits = study.stage_of(task).stage.traits();
        let mut inputs: BTreeMap<String, Vec<InputArtifact>> = BTreeMap::new();
        for need in &of.needs {
            for &id in &need.tasks {
                let name = &study.tasks[id].name;
                let artifact = artifact(id).ok_or_else(|| format!("`{name}` has not run"))?;
                let input = InputArtifact { task: name.clone(), artifact };
                inputs.entry(need.input.clone()).or_default().push(input);
            }
        }
        let mut digests = BTreeMap::new();
        for pattern in &of.files {
            for file in files::expand(&study.root, pattern).map_err(|e| e.to_string())? {
                let digest = self.files.digest(&study.root, &file).map_err(|e| e.to_string())?;
                digests.insert(file.to_string_lossy().into_owned(), digest);
            }
        }
        let (code, manifest) = self.code(task);
        Ok(Description {
            version: Description::VERSION,
            kind: study.stage_of(task).stage.kind().to_owned(),
            code,
            params: of.params.clone(),
            inputs,
            files: digests,
            backend: traits.backend.then(|| Backend::of(&study.backend, &manifest)),
            pipeline: traits.pipeline.then(|| self.summary.clone()),
        })
    }

    /// The record of a description, if its artifact is whole.
    #[must_use]
    pub fn lookup(&self, description: &Description) -> Option<Record> {
        let record = self.store.record(&description.key())?;
        self.store.whole(&record.artifact)?;
        Some(record)
    }

    /// The state of every task, in order.
    #[must_use]
    pub fn plan(&mut self) -> Vec<State> {
        let mut states: Vec<State> = Vec::with_capacity(self.study.tasks.len());
        for task in 0..self.study.tasks.len() {
            let needs = &self.study.tasks[task].needs;
            let ready =
                needs.iter().flat_map(|n| &n.tasks).all(|&n| matches!(states[n], State::Hit(_)));
            let state = if ready {
                let artifact = |id: TaskId| match &states[id] {
                    State::Hit(record) => Some(record.artifact.clone()),
                    _ => None,
                };
                match self.describe(task, artifact) {
                    Ok(description) => match self.lookup(&description) {
                        Some(record) => State::Hit(Box::new(record)),
                        None => State::Miss(Box::new(description)),
                    },
                    Err(why) => State::Broken(why),
                }
            } else {
                State::Waiting
            };
            states.push(state);
        }
        states
    }

    /// Remembers the digests of files for the next run.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn save(&mut self) -> io::Result<()> {
        self.files.save()
    }
}
