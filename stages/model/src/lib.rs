//! LeNet-5 in plain burn, the similarity of its embeddings, and its weights as files.
//!
//! Training usually runs on `dissim-kernel`. This is the same network operation by operation: what
//! the kernel is tested against, and what runs where the kernel does not cover something. Every
//! weight is in the order of [`dissim_kernel::layout`].

mod lenet5;
pub mod similarity;
pub mod weights;

pub use lenet5::{Forward, LeNet5, Loss};
