//! The cross-entropy of a batch and what the log says of its embeddings: how most methods begin.

use dissim_kernel::Outputs;

use super::cross_entropy::CrossEntropy;
use super::pairs::GroupSums;
use super::{Batch, StepStats};

/// A batch, measured.
#[derive(Debug, Default)]
pub struct Risk {
    /// The loss of each sample, and its gradient.
    pub entropy: CrossEntropy,
    norms: GroupSums,
}

impl Risk {
    /// Measures a batch. The figures are those of erm: the penalty is the mean similarity of the
    /// labelled pairs, for the log alone.
    pub fn measure(&mut self, batch: &Batch<'_>, outputs: Outputs<'_>) -> StepStats {
        let mut stats = StepStats::default();
        self.entropy.measure(batch, outputs);
        self.norms.measure(outputs.embedding, batch.groups, &mut stats);
        let (cross_entropy, correct) = (self.entropy.mean(), self.entropy.correct);
        StepStats { cross_entropy, correct, ..stats }
    }
}
