//! What a stage and the runner agree on.
//!
//! A stage implements [`Stage`]: it names its parameters and inputs, resolves what the user wrote,
//! and does its job inside a [`Context`]. It knows nothing about caching. The runner knows nothing
//! about learning: it reads [`Stage::resolve`] and [`Stage::code`] for the task key, starts a
//! process with a [`TaskSpec`], and listens to the [`Event`]s that it prints.
//!
//! [`formats`] holds the artifact formats that more than one stage reads.

mod code;
mod context;
mod device;
mod error;
pub mod files;
pub mod formats;
mod params;
mod spec;
mod stage;

pub use code::Code;
pub use context::Context;
pub use device::Device;
pub use error::{IoContext, StageError};
pub use params::{ParamError, Params, resolve, schema};
pub use spec::{
    Event, InputArtifact, InputSpec, PipelineSummary, Progress, StageSummary, TaskSpec,
};
pub use stage::{Arity, Input, Placeholder, PlaceholderTarget, Stage, Traits};
