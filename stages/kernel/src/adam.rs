//! Adam over one flat buffer.

use pulp::{Arch, Simd, WithSimd};

use crate::layout::WEIGHTS;

/// Adam (Kingma & Ba 2015, algorithm 1), with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8
/// added to the root of the corrected second moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Learning rate.
    pub lr: f64,
    /// Updates done.
    pub step: u64,
    /// First moments, in the order of the weights.
    pub first: Vec<f32>,
    /// Second moments.
    pub second: Vec<f32>,
}

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

impl Adam {
    /// Adam before its first update.
    #[must_use]
    pub fn new(lr: f64) -> Self {
        Self { lr, step: 0, first: vec![0.0; WEIGHTS], second: vec![0.0; WEIGHTS] }
    }

    /// One update of `weights` along `grad`, with the CPU's vectors.
    pub fn apply(&mut self, weights: &mut [f32], grad: &[f32]) {
        self.update(Arch::new(), weights, grad);
    }

    pub(crate) fn update(&mut self, arch: Arch, weights: &mut [f32], grad: &[f32]) {
        self.step += 1;
        let correction = |beta: f64| 1.0 - beta.powf(self.step as f64);
        arch.dispatch(Update {
            rate: (self.lr / correction(BETAS[0])) as f32,
            root: correction(BETAS[1]).sqrt().recip() as f32,
            weights,
            grad,
            first: &mut self.first,
            second: &mut self.second,
        });
    }
}

/// The loop, compiled for the CPU's vectors.
struct Update<'a> {
    rate: f32,
    root: f32,
    weights: &'a mut [f32],
    grad: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let [beta1, beta2] = BETAS.map(|b| b as f32);
        let moments = self.first.iter_mut().zip(self.second);
        for ((weight, &grad), (first, second)) in
            self.weights.iter_mut().zip(self.grad).zip(moments)
        {
            *first = beta1 * *first + (1.0 - beta1) * grad;
            *second = beta2 * *second + (1.0 - beta2) * grad * grad;
            *weight -= self.rate * *first / (second.sqrt() * self.root + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula in f64, a weight at a time.
    #[test]
    fn equals_the_formula() {
        let mut adam = Adam::new(0.01);
        let mut weights = vec![0.5f32; WEIGHTS];
        let (mut w, mut m, mut v) = (0.5f64, 0.0, 0.0);
        for t in 1..=20 {
            let g = (t as f64 * 0.7).sin();
            adam.apply(&mut weights, &vec![g as f32; WEIGHTS]);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            w -= 0.01 * m_hat / (v_hat.sqrt() + 1e-8);
            for &weight in [&weights[0], &weights[WEIGHTS - 1]] {
                assert!((f64::from(weight) - w).abs() < 1e-6, "step {t}: {weight} and {w}");
            }
        }
    }
}
