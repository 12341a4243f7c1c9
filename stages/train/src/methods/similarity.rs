//! Similarity across backgrounds: cross-entropy minus lambda times the mean cosine similarity of
//! pairs that share a label and not a background. Told the training groups.
//!
//! The opposite sign of the dissimilarity loss, on the pairs that it leaves out: what contrastive
//! methods do (Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020) without their
//! negatives. The pairs are all of a label's but those of its groups, so with A and B the sums over
//! either, `P = -(A - B) / (|M_label| - |M_group|)`: two of [`super::pairs`]'s closed forms.

use dissim_kernel::{OutputGradient, Outputs};

use super::pairs::GroupSums;
use super::penalised::{Penalty, Term};
use super::{Batch, StepStats};

/// Minus the mean similarity of a label's pairs on different backgrounds.
#[derive(Debug, Default)]
pub struct AcrossBackgrounds {
    labels: GroupSums,
    groups: GroupSums,
}

impl Penalty for AcrossBackgrounds {
    fn add(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term {
        let labels: Vec<u32> = batch.labels.iter().map(|&l| l.into()).collect();
        let (mut all, mut own) = (StepStats::default(), StepStats::default());
        self.labels.measure(outputs.embedding, &labels, &mut all);
        self.groups.measure(outputs.embedding, batch.groups, &mut own);
        let pairs = all.pairs - own.pairs;
        if pairs == 0.0 {
            return Term::default();
        }
        let gradient = gradient.embedding_mut();
        self.labels.add_gradient(-weight * (all.pairs / pairs) as f32, gradient);
        self.groups.add_gradient(weight * (own.pairs / pairs) as f32, gradient);
        Term { value: (own.penalty * own.pairs - all.penalty * all.pairs) / pairs, pairs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy, mean_cosine};
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let mut objective = Penalised::new(1.0, AcrossBackgrounds::default());
            let (stats, gradient) = case.evaluate(&mut objective);
            let (labels, groups) = (&case.labels, &case.groups);
            let brute = |z: &[f64]| {
                let across = |i: usize, j: usize| labels[i] == labels[j] && groups[i] != groups[j];
                -mean_cosine(z, case.width, across)
            };
            let wide: Vec<f64> = case.embedding.iter().map(|&z| z.into()).collect();
            prop_assert!((stats.penalty - brute(&wide)).abs() < 1e-4);
            case.check_gradient(&gradient, &|l, z, _| entropy(l, labels) + brute(z));
        }
    }

    /// Of three samples of a label two share a background: the pairs across are (1, 0) with
    /// (0.6, 0.8) and with (0, 1), and P = -(0.6 + 0) / 2.
    #[test]
    fn pairs_across_by_hand() {
        let case = Case::by_hand(&[3, 3, 3], &[0, 1, 1], &[1.0, 0.0, 0.6, 0.8, 0.0, 1.0]);
        let mut objective = Penalised::new(1.0, AcrossBackgrounds::default());
        let (stats, gradient) = case.evaluate(&mut objective);
        assert_eq!(stats.pairs, 4.0);
        assert!((stats.penalty + 0.3).abs() < 1e-6);
        // -(2/4) ((0.6, 0.8) + (0, 1)), less what lies along (1, 0).
        let found = gradient.embedding().unwrap();
        assert!(found[0].abs() < 1e-6 && (found[1] + 0.9).abs() < 1e-6, "{found:?}");
    }
}
