//! The networks: their layers, their weights as files, the engines that compute them, and the
//! similarity of embeddings.
//!
//! LeNet-5 as the study has it runs on `dissim-kernel`. Plain burn, operation by operation, is what
//! the kernel is tested against, and what computes every network that the kernel does not cover.

pub mod architecture;
pub mod backend;
pub mod engine;
mod plain;
pub mod similarity;
pub mod weights;

pub use architecture::{Activation, Architecture, Model, Pooling};
pub use backend::Backend;
pub use engine::Engine;
