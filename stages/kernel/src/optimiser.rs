//! Optimisers over one flat buffer.

use pulp::{Arch, Simd, WithSimd};

/// How a gradient becomes a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// Adam (Kingma & Ba 2015, algorithm 1), with PyTorch's defaults: betas 0.9 and 0.999, eps 1e-8
    /// added to the root of the corrected second moment.
    Adam,
    /// AdamW (Loshchilov & Hutter 2019, algorithm 2): Adam, and every weight shrinks by
    /// `lr * decay` of itself beforehand.
    AdamW {
        /// The decoupled weight decay.
        decay: f32,
    },
    /// Stochastic gradient descent with heavy-ball momentum as PyTorch has it: `v = m v + g`,
    /// `w -= lr v` (Sutskever et al. 2013, up to where lr stands).
    Sgd {
        /// m, in 0..1.
        momentum: f32,
    },
}

/// A rule and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct Optimiser {
    /// The rule.
    pub rule: Rule,
    /// Learning rate.
    pub lr: f64,
    /// Updates done.
    pub step: u64,
    /// First moments, or velocities, in the order of the weights.
    pub first: Vec<f32>,
    /// Second moments; empty where the rule has none.
    pub second: Vec<f32>,
}

const BETAS: [f64; 2] = [0.9, 0.999];
const EPSILON: f32 = 1e-8;

impl Optimiser {
    /// An optimiser of so many weights before its first update.
    #[must_use]
    pub fn new(rule: Rule, lr: f64, weights: usize) -> Self {
        let second = if matches!(rule, Rule::Sgd { .. }) { 0 } else { weights };
        Self { rule, lr, step: 0, first: vec![0.0; weights], second: vec![0.0; second] }
    }

    /// Forgets its state, as before the first update.
    pub fn reset(&mut self) {
        *self = Self::new(self.rule, self.lr, self.first.len());
    }

    /// One update of `weights` along `grad`, with the CPU's vectors.
    ///
    /// # Panics
    /// When there are not as many weights and gradients as it was made for.
    pub fn apply(&mut self, weights: &mut [f32], grad: &[f32]) {
        self.update(Arch::new(), weights, grad);
    }

    pub(crate) fn update(&mut self, arch: Arch, weights: &mut [f32], grad: &[f32]) {
        assert!(weights.len() == self.first.len() && grad.len() == self.first.len());
        self.step += 1;
        let (first, second) = (&mut self.first[..], &mut self.second[..]);
        match self.rule {
            Rule::Sgd { momentum } => {
                let rate = self.lr as f32;
                arch.dispatch(Momentum { rate, momentum, weights, grad, velocity: first });
            }
            Rule::AdamW { decay } => {
                let keep = 1.0 - self.lr as f32 * decay;
                weights.iter_mut().for_each(|w| *w *= keep);
                arch.dispatch(Moments::new(self.lr, self.step, weights, grad, [first, second]));
            }
            Rule::Adam => {
                arch.dispatch(Moments::new(self.lr, self.step, weights, grad, [first, second]));
            }
        }
    }
}

/// Adam's loop, compiled for the CPU's vectors.
struct Moments<'a> {
    rate: f32,
    root: f32,
    weights: &'a mut [f32],
    grad: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl<'a> Moments<'a> {
    fn new(
        lr: f64,
        step: u64,
        weights: &'a mut [f32],
        grad: &'a [f32],
        [first, second]: [&'a mut [f32]; 2],
    ) -> Self {
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let rate = (lr / correction(BETAS[0])) as f32;
        let root = correction(BETAS[1]).sqrt().recip() as f32;
        Self { rate, root, weights, grad, first, second }
    }
}

impl WithSimd for Moments<'_> {
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

/// The loop of SGD with momentum.
struct Momentum<'a> {
    rate: f32,
    momentum: f32,
    weights: &'a mut [f32],
    grad: &'a [f32],
    velocity: &'a mut [f32],
}

impl WithSimd for Momentum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let steps = self.weights.iter_mut().zip(self.grad).zip(self.velocity);
        for ((weight, &grad), velocity) in steps {
            *velocity = self.momentum * *velocity + grad;
            *weight -= self.rate * *velocity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 steps along the same gradients, and the formula in f64, a weight at a time.
    fn check(rule: Rule, mut formula: impl FnMut(i32, f64, f64) -> f64) {
        const WEIGHTS: usize = 37;
        let mut optimiser = Optimiser::new(rule, 0.01, WEIGHTS);
        let mut weights = vec![0.5f32; WEIGHTS];
        let mut w = 0.5f64;
        for t in 1..=20 {
            let g = (f64::from(t) * 0.7).sin();
            optimiser.apply(&mut weights, &[g as f32; WEIGHTS]);
            w = formula(t, w, g);
            for &weight in &weights {
                assert!((f64::from(weight) - w).abs() < 1e-6, "{rule:?} {t}: {weight} and {w}");
            }
        }
        optimiser.reset();
        assert_eq!(optimiser, Optimiser::new(rule, 0.01, WEIGHTS));
    }

    fn adam() -> impl FnMut(i32, f64) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        move |t, g| {
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (m_hat, v_hat) = (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t)));
            0.01 * m_hat / (v_hat.sqrt() + 1e-8)
        }
    }

    #[test]
    fn each_rule_equals_its_formula() {
        let mut step = adam();
        check(Rule::Adam, |t, w, g| w - step(t, g));
        let mut step = adam();
        check(Rule::AdamW { decay: 0.1 }, |t, w, g| w * (1.0 - 0.01 * 0.1) - step(t, g));
        let mut velocity = 0.0;
        check(Rule::Sgd { momentum: 0.9 }, |_, w, g| {
            velocity = 0.9 * velocity + g;
            w - 0.01 * velocity
        });
    }
}
