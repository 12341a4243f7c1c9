//! Empirical risk minimisation: the mean cross-entropy (Vapnik 1992). Told nothing.

use dissim_kernel::{OutputGradient, Outputs};

use super::cross_entropy::CrossEntropy;
use super::pairs::GroupSums;
use super::{Batch, Objective, StepStats};

/// The objective; the similarity of the labelled pairs is measured for the log alone.
#[derive(Debug, Default)]
pub struct Erm {
    entropy: CrossEntropy,
    pairs: GroupSums,
}

impl Objective for Erm {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let mut stats = StepStats::default();
        self.entropy.measure(batch, outputs);
        self.entropy.add_gradient(gradient.logits_mut());
        self.pairs.measure(outputs.embedding, batch.groups, &mut stats);
        let (cross_entropy, correct) = (self.entropy.mean(), self.entropy.correct);
        StepStats { cross_entropy, correct, ..stats }
    }
}
