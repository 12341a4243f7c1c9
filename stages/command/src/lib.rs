//! Stage kind `command`: any program with declared inputs and outputs, so that a script can be a
//! stage.

mod params;

pub use params::CommandParams;

use std::path::PathBuf;

use dissim_api::{Code, Context, Input, ParamError, Params, Stage, StageError, Traits};
use serde_json::Value;

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
        Traits { open_inputs: true, ..Traits::default() }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<CommandParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        params::resolve(given)
    }

    fn files(&self, params: &Params) -> Vec<PathBuf> {
        let list = |name: &str| params.get(name).and_then(Value::as_array).into_iter().flatten();
        let paths = list("inputs").chain(list("code")).filter_map(Value::as_str);
        paths.map(PathBuf::from).collect()
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        let params: CommandParams = context.params()?;
        Err(StageError::new(format!("running {:?} is being written", params.run)))
    }
}
