//! Empirical risk minimisation: the mean cross-entropy (Vapnik 1992). Told nothing.

use dissim_kernel::{OutputGradient, Outputs};

use super::risk::Risk;
use super::{Batch, Objective, StepStats};

/// The objective; the similarity of the labelled pairs is measured for the log alone.
#[derive(Debug, Default)]
pub struct Erm {
    risk: Risk,
}

impl Objective for Erm {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        self.risk.entropy.add_gradient(gradient.logits_mut());
        stats
    }
}
