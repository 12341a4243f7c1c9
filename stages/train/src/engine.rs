//! What computes a step: the SIMD kernel, or plain burn.

use dissim_kernel::{Adam, Batch, CLASSES, Network, Penalty, StepStats};

/// Weights and the optimiser's state: all that a step changes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct State {
    /// Weights in the order of `dissim_kernel::layout`.
    pub weights: Vec<f32>,
    /// Adam's moments and count.
    pub adam: Adam,
}

/// One way to compute a step.
pub(crate) trait Engine {
    /// Forward, backward, update.
    fn step(&mut self, batch: Batch<'_>) -> StepStats;

    /// The logits of some images.
    fn logits(&mut self, images: &[u8], rows: &[u32]) -> Vec<[f32; CLASSES]>;

    /// The state after the last step.
    fn state(&self) -> State;
}

/// The SIMD kernel.
pub(crate) struct Fused {
    network: Network,
    adam: Adam,
    penalty: Option<Penalty>,
}

impl Fused {
    pub fn new(state: &State, batch_size: usize, penalty: Option<Penalty>) -> Self {
        let network = Network::new(&state.weights, batch_size);
        Self { network, adam: state.adam.clone(), penalty }
    }
}

impl Engine for Fused {
    fn step(&mut self, batch: Batch<'_>) -> StepStats {
        let stats = self.network.gradient(batch, self.penalty);
        self.network.update(&mut self.adam);
        stats
    }

    fn logits(&mut self, images: &[u8], rows: &[u32]) -> Vec<[f32; CLASSES]> {
        let outputs = self.network.predict(images, rows);
        (0..rows.len()).map(|i| outputs.logits(i)).collect()
    }

    fn state(&self) -> State {
        State { weights: self.network.weights().to_vec(), adam: self.adam.clone() }
    }
}
