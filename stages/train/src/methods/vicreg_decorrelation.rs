//! Decorrelation: cross-entropy plus lambda times VICReg's covariance term (Bardes, Ponce and LeCun,
//! ICLR 2022, equations 3 and 4), on the embeddings of a batch. Told nothing.
//!
//! `C = 1/(n-1) sum_i (z_i - m)(z_i - m)'` and `P = 1/d sum_{j != k} C_jk^2`; with D the part of C off
//! the diagonal the gradient is `4/(d (n-1)) D (z_i - m)`. The paper weighs the term by 1 beside
//! 25 for the loss proper; here cross-entropy has the weight 1, and so this has 0.04.

use dissim_kernel::{OutputGradient, Outputs};

use super::Batch;
use super::moments::Moments;
use super::penalised::{Penalty, Term};

/// The sum of squared covariances off the diagonal, a unit.
#[derive(Debug, Default)]
pub struct Covariance {
    moments: Moments,
}

impl Penalty for Covariance {
    fn add(
        &mut self,
        _: &Batch<'_>,
        outputs: Outputs<'_>,
        weight: f32,
        gradient: &mut OutputGradient,
    ) -> Term {
        let (n, d) = (outputs.samples(), outputs.width);
        if n < 2 {
            return Term::default();
        }
        self.moments.measure((0..n).map(|i| outputs.embedding(i)), d);
        (0..d).for_each(|j| self.moments.covariance[j * d + j] = 0.0);
        let off = &self.moments.covariance;
        let value = off.iter().map(|c| f64::from(*c).powi(2)).sum::<f64>() / d as f64;
        let scale = 4.0 * weight / (d * (n - 1)) as f32;
        for (i, gradient) in gradient.embedding_mut().chunks_exact_mut(d).enumerate() {
            self.moments.add_product(off, outputs.embedding(i), scale, gradient);
        }
        Term { value, pairs: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::{Case, cases, entropy};
    use crate::methods::penalised::Penalised;
    use proptest::prelude::*;

    fn brute(z: &[f64], d: usize) -> f64 {
        let n = z.len() / d;
        let mean = |j: usize| (0..n).map(|i| z[i * d + j]).sum::<f64>() / n as f64;
        let covariance = |j: usize, k: usize| {
            let product = |i: usize| (z[i * d + j] - mean(j)) * (z[i * d + k] - mean(k));
            (0..n).map(product).sum::<f64>() / (n as f64 - 1.0)
        };
        let all = (0..d).flat_map(|j| (0..d).map(move |k| (j, k))).filter(|(j, k)| j != k);
        if n < 2 { 0.0 } else { all.map(|(j, k)| covariance(j, k).powi(2)).sum::<f64>() / d as f64 }
    }

    proptest! {
        #[test]
        fn gradient_equals_finite_differences(case in cases()) {
            let (stats, gradient) = case.evaluate(&mut Penalised::new(0.5, Covariance::default()));
            let wide: Vec<f64> = case.embedding.iter().map(|&z| z.into()).collect();
            prop_assert!((stats.penalty - brute(&wide, case.width)).abs() < 1e-4);
            case.check_gradient(&gradient, &|l, z, _| {
                entropy(l, &case.labels) + 0.5 * brute(z, case.width)
            });
        }
    }

    /// Points (1, 1) and (-1, -1): C is 2 everywhere, so P = (4 + 4) / 2.
    #[test]
    fn two_points_by_hand() {
        let case = Case::by_hand(&[0, 1], &[0, 1], &[1.0, 1.0, -1.0, -1.0]);
        let (stats, gradient) = case.evaluate(&mut Penalised::new(0.5, Covariance::default()));
        assert!((stats.penalty - 4.0).abs() < 1e-9);
        // 0.5 * 4 / (2 * 1) times the off-diagonal 2 times the other unit.
        assert_eq!(gradient.embedding().unwrap(), [2.0, 2.0, -2.0, -2.0]);
    }
}
