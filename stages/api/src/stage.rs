//! The trait that every stage kind implements.

use std::path::PathBuf;

use serde_json::Value;

use crate::{Code, Context, ParamError, Params, StageError};

/// How many artifacts an input takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// Exactly one, joined on the axes both have: `data: dataset`.
    One,
    /// Any number, gathered: `runs: "evaluate[*]"`.
    Many,
}

/// An input that a stage kind reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Input {
    /// The name under `needs:`.
    pub name: &'static str,
    /// How many artifacts it takes.
    pub arity: Arity,
    /// Whether `needs:` must name it.
    pub required: bool,
}

impl Input {
    /// A required input of exactly one artifact.
    #[must_use]
    pub const fn one(name: &'static str) -> Self {
        Self { name, arity: Arity::One, required: true }
    }

    /// A required input of any number of artifacts.
    #[must_use]
    pub const fn many(name: &'static str) -> Self {
        Self { name, arity: Arity::Many, required: true }
    }

    /// The same input, but `needs:` may leave it out.
    #[must_use]
    pub const fn optional(self) -> Self {
        Self { required: false, ..self }
    }
}

/// What the runner has to know of a kind beside its parameters and inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traits {
    /// It computes on the burn backend, so the backend and its version are part of the task key.
    pub backend: bool,
    /// It reads [`PipelineSummary`](crate::PipelineSummary), which is then part of the task key.
    pub pipeline: bool,
    /// Its artifact is for people: the runner copies it to `reports/` at the end of a run.
    pub published: bool,
    /// `needs:` may name any input, not only those that [`Stage::inputs`] lists.
    pub open_inputs: bool,
    /// `matrix:` may name any axis: one that is no parameter is put, by its name, into the
    /// parameter `matrix`.
    pub open_axes: bool,
    /// It reads the names of the tasks that made its inputs, which are then part of the task key.
    pub input_names: bool,
    /// It runs programs that this build knows nothing about: they get SIGTERM and some time to react before they
    /// are killed.
    pub runs_programs: bool,
}

/// What a placeholder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaceholderTarget {
    /// An input of the stage.
    Input,
    /// An axis of the stage's own.
    Axis,
}

/// An input or axis that the value of a parameter mentions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placeholder {
    /// The part of the value that mentions it, such as `[3]`; empty for the whole value.
    pub path: String,
    /// What `name` is the name of.
    pub target: PlaceholderTarget,
    /// The name of the input or axis.
    pub name: String,
}

/// A kind of stage. Implementations are stateless; the registry in `src/registry.rs` lists them.
pub trait Stage: Send + Sync {
    /// The word after `kind:`.
    fn kind(&self) -> &'static str;

    /// One sentence for the reference.
    fn summary(&self) -> &'static str;

    /// What the stage is compiled from: `dissim_api::code!()`.
    fn code(&self) -> Code;

    /// The inputs `needs:` may name.
    fn inputs(&self) -> &'static [Input];

    /// What the runner has to know beside that.
    fn traits(&self) -> Traits {
        Traits::default()
    }

    /// JSON Schema of `with:`: `dissim_api::schema::<MyParams>()`.
    fn schema(&self) -> Value;

    /// Checks what the user wrote and returns it complete: defaults filled in, what has no effect
    /// left out, so that two ways to write one task give one task key. Usually
    /// `dissim_api::resolve::<MyParams>(given)` and a check of values.
    ///
    /// # Errors
    /// Every parameter that is unknown, missing, of the wrong type or out of range.
    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>>;

    /// The placeholders in the value of a parameter. The stage must have the inputs and axes that they name,
    /// which is checked when the pipeline is read.
    fn placeholders(&self, parameter: &str, value: &Value) -> Vec<Placeholder> {
        let _ = (parameter, value);
        Vec::new()
    }

    /// Files of the project, beside its inputs, that a task with these parameters reads; paths or
    /// globs relative to pipeline.yaml. Their content is part of the task key.
    fn files(&self, params: &Params) -> Vec<PathBuf> {
        let _ = params;
        Vec::new()
    }

    /// Files of the project that the program of a task with these parameters is made of, as
    /// [`Stage::files`] gives the others. A run copies them once, when it begins, for all of its tasks, and
    /// their content at that time is part of the task key.
    fn code_files(&self, params: &Params) -> Vec<PathBuf> {
        let _ = params;
        Vec::new()
    }

    /// Does the job: reads the inputs, writes the output folder, nothing else.
    ///
    /// # Errors
    /// What went wrong, where, and what to do.
    fn run(&self, context: &mut Context) -> Result<(), StageError>;
}
