//! The `train` stage: a network, trained on a data set.
//!
//! Writes `model.safetensors` (PyTorch's names and shapes), `epochs/NN.safetensors` (the same after
//! each epoch), `epochs.jsonl` (a line an epoch) and `run.json` (what was trained on what). Same parameters, same data, same machine: the same bytes.

mod batches;
mod checkpoint;
mod initial;
pub mod methods;
mod params;
mod sampler;
mod training;

use dissim_api::{Code, Context, Input, ParamError, Params, Stage, StageError, Traits};
use serde_json::Value;

/// The compute backends of this build, for the runner.
pub use dissim_model::backend;
pub use params::{
    Embed, EngineKind, Lambda, LambdaSchedule, LrSchedule, Method, Optimiser, Pairs, Sampler,
    TauLoss, TauSpace, TrainParams,
};

/// The `train` stage.
#[derive(Debug, Clone, Copy)]
pub struct Train;

impl Stage for Train {
    fn kind(&self) -> &'static str {
        "train"
    }

    fn summary(&self) -> &'static str {
        "trains a network on a data set"
    }

    fn code(&self) -> Code {
        dissim_api::code!()
    }

    fn inputs(&self) -> &'static [Input] {
        const { &[Input::one("data")] }
    }

    fn traits(&self) -> Traits {
        Traits { backend: true, ..Traits::default() }
    }

    fn schema(&self) -> Value {
        dissim_api::schema::<TrainParams>()
    }

    fn resolve(&self, given: &Params) -> Result<Params, Vec<ParamError>> {
        params::resolve(given)
    }

    fn run(&self, context: &mut Context) -> Result<(), StageError> {
        training::run(context)
    }
}
