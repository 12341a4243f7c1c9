//! `dissim`: declarative, cached machine-learning studies.
//!
//! The runner as a library. Data flows one way:
//!
//! ```text
//! pipeline.yaml -> parse -> expand -> plan -> execute -> store -> report
//! ```
//!
//! [`parse`] turns the file into a [`graph::Study`] (expansion included) or into a list of errors
//! with positions; [`plan`] finds out which tasks are hits; [`execute`] runs the others, each in a
//! process of its own; [`store`] keeps what they made, and [`remote`] shares it; [`publish`] copies reports out of it.

#[macro_use]
mod say;

pub mod cli;
pub mod digest;
pub mod estimate;
pub mod execute;
mod expand;
pub mod graph;
pub mod history;
pub mod key;
pub mod parse;
pub mod partial;
pub mod past;
pub mod plan;
pub mod policy;
pub mod provenance;
pub mod publish;
pub mod registry;
pub mod remote;
pub mod schema;
pub mod secret;
pub mod serve;
pub mod snapshot;
pub mod store;
