//! What a stage sees of the world while it runs.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Device, Event, InputArtifact, Params, PipelineSummary, Progress, StageError, TaskSpec,
};

/// Where events go: the runner's pipe, or a vector in a test.
type Sink = Box<dyn FnMut(&Event) + Send>;

/// Read-only inputs, an empty output folder, the parameters, and ways to report.
pub struct Context {
    spec: TaskSpec,
    sink: Sink,
    end_processes: Option<fn()>,
}

impl Context {
    /// A context that prints events as JSON lines to stdout, as the runner expects.
    #[must_use]
    pub fn new(spec: TaskSpec) -> Self {
        Self::with_sink(spec, |event| {
            let line = serde_json::to_string(event).expect("events serialise");
            // The runner may be gone; the task then ends by itself or is killed.
            let _ = writeln!(std::io::stdout().lock(), "{line}");
        })
    }

    /// A context whose events go to `sink`.
    pub fn with_sink(spec: TaskSpec, sink: impl FnMut(&Event) + Send + 'static) -> Self {
        Self { spec, sink: Box::new(sink), end_processes: None }
    }

    /// Sets what ends every process below this one; for the process that runs one task and nothing else.
    #[must_use]
    pub fn with_end_of_processes(mut self, end: fn()) -> Self {
        self.end_processes = Some(end);
        self
    }

    /// Ends what the stage's programs left running, in sessions of their own too: it could write to what is about
    /// to be kept. Does nothing outside of a task's own process, such as in a test.
    pub fn end_processes(&self) {
        if let Some(end) = self.end_processes {
            end();
        }
    }

    /// A context for a test of a stage: no inputs yet, events thrown away.
    #[must_use]
    pub fn for_test(kind: &str, params: Params, output: &Path, scratch: &Path) -> Self {
        let spec = TaskSpec {
            version: TaskSpec::VERSION,
            task: kind.to_owned(),
            kind: kind.to_owned(),
            params,
            inputs: BTreeMap::new(),
            code: BTreeMap::new(),
            output: output.to_path_buf(),
            scratch: scratch.to_path_buf(),
            project: output.to_path_buf(),
            backend: "flex".to_owned(),
            device: Device::Cpu,
            pipeline: None,
        };
        Self::with_sink(spec, |_| {})
    }

    /// Adds an input; for tests.
    #[must_use]
    pub fn with_input(mut self, name: &str, task: &str, path: &Path) -> Self {
        let (task, path) = (task.to_owned(), path.to_path_buf());
        let artifact = InputArtifact { task, axes: Params::new(), path };
        self.spec.inputs.entry(name.to_owned()).or_default().artifacts.push(artifact);
        self
    }

    /// Adds an artifact to an input that gathers, with the axes of its task; for tests.
    #[must_use]
    pub fn with_gathered(mut self, name: &str, axes: Params, path: &Path) -> Self {
        let artifact = InputArtifact { task: String::new(), axes, path: path.to_path_buf() };
        let input = self.spec.inputs.entry(name.to_owned()).or_default();
        input.gathered = true;
        input.artifacts.push(artifact);
        self
    }

    /// Computes on another backend than `flex`; for tests.
    #[must_use]
    pub fn with_backend(mut self, backend: &str) -> Self {
        backend.clone_into(&mut self.spec.backend);
        self
    }

    /// Sets what a report is told of the pipeline; for tests.
    #[must_use]
    pub fn with_pipeline(mut self, pipeline: PipelineSummary) -> Self {
        self.spec.pipeline = Some(pipeline);
        self
    }

    /// The resolved parameters as the stage's own struct.
    ///
    /// # Errors
    /// When they are not what [`Stage::resolve`](crate::Stage::resolve) returned.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, StageError> {
        serde_json::from_value(Value::Object(self.spec.params.clone()))
            .map_err(|e| StageError::new(format!("the task's parameters cannot be read: {e}")))
    }

    /// The resolved parameters as they are.
    #[must_use]
    pub fn raw_params(&self) -> &Params {
        &self.spec.params
    }

    /// The folder of the only artifact of input `name`.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub fn input(&self, name: &str) -> Result<&Path, StageError> {
        match self.inputs(name) {
            [one] => Ok(&one.path),
            many => Err(StageError::new(format!(
                "input `{name}` must be one artifact, and is {}",
                many.len()
            ))
            .help(format!("name one task under `needs: {{ {name}: .. }}`"))),
        }
    }

    /// All artifacts of input `name`, in the order of their tasks; none if `needs:` leaves it out.
    #[must_use]
    pub fn inputs(&self, name: &str) -> &[InputArtifact] {
        self.spec.inputs.get(name).map_or(&[], |input| input.artifacts.as_slice())
    }

    /// Whether input `name` gathers any number of artifacts, as `needs: { runs: "train[*]" }` says, even if
    /// there is just one.
    #[must_use]
    pub fn gathers(&self, name: &str) -> bool {
        self.spec.inputs.get(name).is_some_and(|input| input.gathered)
    }

    /// Copies of the project files that the program is made of, by their path relative to the project.
    #[must_use]
    pub fn code(&self) -> &BTreeMap<PathBuf, PathBuf> {
        &self.spec.code
    }

    /// The names of all inputs.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.spec.inputs.keys().map(String::as_str)
    }

    /// The folder to write to.
    #[must_use]
    pub fn output(&self) -> &Path {
        &self.spec.output
    }

    /// A folder for checkpoints: it survives when the task is killed, and goes when it succeeds.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        &self.spec.scratch
    }

    /// The folder of pipeline.yaml.
    #[must_use]
    pub fn project(&self) -> &Path {
        &self.spec.project
    }

    /// The compute backend's name.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.spec.backend
    }

    /// What it computes on.
    #[must_use]
    pub fn device(&self) -> Device {
        self.spec.device
    }

    /// The shape of the pipeline, for kinds whose [`Traits`](crate::Traits) ask for it.
    #[must_use]
    pub fn pipeline(&self) -> Option<&PipelineSummary> {
        self.spec.pipeline.as_ref()
    }

    /// Says how far the task is.
    pub fn progress(&mut self, done: u64, total: u64, unit: &str, note: impl Into<String>) {
        let (unit, note) = (unit.to_owned(), note.into());
        (self.sink)(&Event::Progress(Progress { done, total, unit, note }));
    }

    /// Keeps a number with the task's record.
    pub fn metric(&mut self, name: &str, value: f64) {
        let value = value.is_finite().then_some(value);
        (self.sink)(&Event::Metric { name: name.to_owned(), value });
    }

    /// Writes a line to the task's log.
    pub fn log(&self, line: impl AsRef<str>) {
        let _ = writeln!(std::io::stderr().lock(), "{}", line.as_ref());
    }
}
