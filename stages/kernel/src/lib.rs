//! LeNet-5 on SIMD lanes: the training kernel of the `flex` backend.
//!
//! Every vector holds one value of as many samples as the CPU has lanes (8 with AVX2, 4 with NEON, 1
//! without either), chosen at run time. Convolution, pooling and activation are then the same
//! straight line of multiply-adds on every CPU: no im2col, no gather, no shuffle. A batch is cut
//! into groups of `LANES` samples, and an activation of `F` features is `[groups][F][LANES]`.
//! Weights and gradients are one flat buffer each, in PyTorch's order ([`layout`]).
//!
//! What is covered: LeNet-5 for 3x32x32 with ReLU and max-pooling, and the [`Optimiser`]. The kernel
//! knows no loss: an objective reads the [`Outputs`] and answers with an [`OutputGradient`]. The same
//! model in plain burn (`dissim-model`) is the oracle that the tests compare with.
//!
//! ```
//! use dissim_kernel::{Input, Network, Optimiser, OutputGradient, Rule, layout};
//!
//! let images = vec![128; 2 * 3072]; // u8 [2, 3, 32, 32]
//! let mut network = Network::new(&vec![0.01; layout::WEIGHTS], 64);
//! let mut adam = Optimiser::new(Rule::Adam, 0.001, layout::WEIGHTS);
//! let input = Input { images: &images, rows: &[0, 1], mix: None };
//! let before = network.forward(input).logits(0)[3];
//! let mut gradient = OutputGradient::default();
//! gradient.reset(2, 84);
//! gradient.logits_mut()[3] = 1.0; // minimise logit 3 of sample 0
//! network.backward(&gradient);
//! network.update(&mut adam);
//! assert!(network.forward(input).logits(0)[3] < before);
//! ```

#![allow(
    clippy::needless_range_loop,
    reason = "register blocks are walked by index: several arrays share it, and it must unroll"
)]

mod backward;
mod buffer;
mod conv;
mod dense;
mod forward;
mod input;
pub mod layout;
mod network;
mod optimiser;
mod outputs;
mod pool;

pub use input::standardise;
pub use network::{Input, Mix, Network};
pub use optimiser::{Optimiser, Rule};
pub use outputs::{OutputGradient, Outputs};

/// Bytes of an image, `[3, 32, 32]`.
pub const PIXELS: usize = 3 * 32 * 32;
/// Length of the embedding.
pub const EMBEDDING: usize = 84;
/// Number of classes.
pub const CLASSES: usize = 10;

/// Features after the first pooling, `[6, 14, 14]`.
const POOLED1: usize = 6 * 14 * 14;
/// Features after the second pooling, `[16, 5, 5]`.
const POOLED2: usize = 16 * 5 * 5;
/// Features of the first fully connected layer.
const HIDDEN: usize = 120;
