//! Class repulsion: the dissimilarity loss without backgrounds. Cross-entropy plus lambda times the
//! mean cosine similarity of pairs that share a label. Told nothing beside the labels.
//!
//! The control for the study's own loss: it says how much of a gain is due to pushing a class apart,
//! whatever its backgrounds. The formula is that of [`super::pairs`], with labels for groups.

use dissim_kernel::{OutputGradient, Outputs};

use super::pairs::GroupSums;
use super::penalised::{Penalty, Term};
use super::{Batch, StepStats};

/// The mean similarity of a label's pairs.
#[derive(Debug, Default)]
pub struct LabelPairs {
    pairs: GroupSums,
}

impl Penalty for LabelPairs {
    fn add(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term {
        let labels: Vec<u32> = batch.labels.iter().map(|&l| l.into()).collect();
        let mut stats = StepStats::default();
        self.pairs.measure(outputs.embedding, &labels, &mut stats);
        self.pairs.add_gradient(weight, gradient.embedding_mut());
        Term { value: stats.penalty, pairs: stats.pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{cases, entropy, mean_cosine};
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let (stats, gradient) = case.evaluate(&mut Penalised::new(1.25, LabelPairs::default()));
            let labels = &case.labels;
            let brute = |z: &[f64]| mean_cosine(z, case.width, |i, j| labels[i] == labels[j]);
            let wide: Vec<f64> = case.embedding.iter().map(|&z| z.into()).collect();
            prop_assert!((stats.penalty - brute(&wide)).abs() < 1e-5);
            case.check_gradient(&gradient, &|l, z, _| entropy(l, labels) + 1.25 * brute(z));
        }
    }
}
