//! Spectral decoupling: cross-entropy plus lambda times the mean squared logit (Pezeshki et al.,
//! "Gradient Starvation", NeurIPS 2021; weight 0.1 and the mean over samples and classes as in
//! DomainBed). Told nothing.
//!
//! `P = 1/(10 n) sum_i sum_k l_ik^2`, with gradient `2 l_ik / (10 n)`.

use dissim_kernel::{OutputGradient, Outputs};

use super::Batch;
use super::penalised::{Penalty, Term};

/// The mean squared logit.
#[derive(Debug)]
pub struct SquaredLogits;

impl Penalty for SquaredLogits {
    fn add(
        &mut self,
        _: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term {
        let count = outputs.logits.len() as f32;
        let pairs = gradient.logits_mut().iter_mut().zip(outputs.logits);
        pairs.for_each(|(g, l)| *g += 2.0 * weight * l / count);
        let sum: f64 = outputs.logits.iter().map(|l| f64::from(*l).powi(2)).sum();
        Term { value: sum / f64::from(count), pairs: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy};
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let (stats, gradient) = case.evaluate(&mut Penalised::new(0.1, SquaredLogits));
            let mean = |l: &[f64]| l.iter().map(|l| l * l).sum::<f64>() / l.len() as f64;
            let wide: Vec<f64> = case.logits.iter().map(|&l| l.into()).collect();
            prop_assert!((stats.penalty - mean(&wide)).abs() < 1e-6);
            case.check_gradient(&gradient, &|l, _, _| entropy(l, &case.labels) + 0.1 * mean(l));
        }
    }

    /// Logits (2, -1, 0, ..): P = (4 + 1) / 10, and its gradient 2 l / 10.
    #[test]
    fn two_logits_by_hand() {
        let mut case = Case::by_hand(&[0], &[0], &[1.0]);
        (case.logits[0], case.logits[1]) = (2.0, -1.0);
        let (stats, with) = case.evaluate(&mut Penalised::new(0.1, SquaredLogits));
        let (_, without) = case.evaluate(&mut Penalised::new(0.0, SquaredLogits));
        assert!((stats.penalty - 0.5).abs() < 1e-9);
        let difference = |k: usize| with.logits()[k] - without.logits()[k];
        assert!((difference(0) - 0.04).abs() < 1e-6 && (difference(1) + 0.02).abs() < 1e-6);
    }
}
