//! Stage kind `command`: any program with declared inputs and outputs, so that a script can be a
//! stage.
//!
//! The program runs in a private working folder (`work_folder`) that holds copies of the project files it
//! declares and `inputs/<name>` for each artifact it needs. Its environment (`program`) has
//! `$DISSIM_INPUT_<NAME>` (the path of `inputs/<name>`), `$DISSIM_MATRIX_<AXIS>`, `$DISSIM_OUTPUT` (the working folder) and
//! `$DISSIM_SCRATCH` (a folder that survives when the task is killed). Nothing is a sandbox: a program that reads what it does
//! not declare is not stopped, and a change of that is not noticed.

mod params;
mod program;
mod work_folder;

pub use params::CommandParams;

use std::path::{Path, PathBuf};

use dissim_api::{
    Code, Context, Input, ParamError, Params, Placeholder, Stage, StageError, Traits,
};
use serde_json::Value;

use work_folder::WorkFolder;

/// The variable that names the folder which survives when a task is killed. Its value is another one for every
/// task of every store.
pub const SCRATCH: &str = "DISSIM_SCRATCH";

/// The folder that [`SCRATCH`] names, in a task's scratch folder.
#[must_use]
pub fn kept(scratch: &Path) -> PathBuf {
    scratch.join("keep")
}

/// The stage kind `command`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Command;

impl Stage for Command {
    fn kind(&self) -> &'static str {
        "command"
    }

    fn summary(&self) -> &'static str {
        "Runs a program of yours with declared inputs and outputs."
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        &[]
    }

    fn traits(&self) -> Traits {
        Traits { open_inputs: true, open_axes: true, runs_programs: true, ..Traits::default() }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<CommandParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        params::resolve(given)
    }

    fn placeholders(&self, parameter: &str, value: &Value) -> Vec<Placeholder> {
        params::placeholders(parameter, value)
    }

    fn files(&self, params: &Params) -> Vec<PathBuf> {
        paths(params, "inputs")
    }

    fn code_files(&self, params: &Params) -> Vec<PathBuf> {
        paths(params, "code")
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: CommandParams = context.params()?;
        let work = WorkFolder::prepare(context, &params)?;
        program::run(context, &params, &work)?;
        let undeclared = match work.collect(&params.outputs, context.output()) {
            Ok(undeclared) => undeclared,
            Err(error) => {
                log_undeclared(context, &work.left_over()?);
                return Err(error);
            }
        };
        log_undeclared(context, &undeclared);
        Ok(())
    }
}

fn paths(params: &Params, name: &str) -> Vec<PathBuf> {
    let list = params.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(PathBuf::from).collect()
}

/// A file that nobody declared may be one that somebody forgot.
fn log_undeclared(context: &Context, files: &[PathBuf]) {
    for file in files {
        context.log(format!("not declared under `outputs`, not kept: {}", file.display()));
    }
}

#[cfg(test)]
mod tests;
