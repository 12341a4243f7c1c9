//! SiFer, the feature sieve: what a small classifier can read early in the network is made to be
//! forgotten there (Tiwari and Shenoy, "Overcoming simplicity bias in deep networks using a feature
//! sieve", ICML 2023). Told nothing.
//!
//! The classifier q reads f `[n, d]`, what the second pooling leaves, and is linear: `q = softmax(W f + b)`.
//! Every step its own Adam (0.001) minimises its cross-entropy; the network gets no gradient of that.
//! Every tenth step the layers below f get the gradient of lambda F besides, where
//! `F = mean_i -1/10 sum_k ln q_k(f_i)` is the cross-entropy to labels that are all the same likely, with
//! W and b held: `dF/df_i = W' (q_i - 1/10) / n`. What stays in f is what needs the layers above to be read.
//!
//! The paper tunes place, depth, weights and period by data set, and forgets in an update of its own;
//! here lambda is 1, and the two gradients share a step.

use dissim_kernel::{CLASSES, Optimiser, OutputGradient, Outputs, Rule};

use super::risk::Risk;
use super::weight::Weight;
use super::{Batch, Objective, StepStats};
use crate::batches::Stream;

/// Steps from one forgetting to the next.
const PERIOD: u64 = 10;
/// The classifier's learning rate.
const RATE: f64 = 0.001;

/// The objective.
#[derive(Debug)]
pub struct Sifer {
    weight: Weight,
    seed: u64,
    risk: Risk,
    /// There once features have been seen.
    classifier: Option<Classifier>,
}

impl Sifer {
    /// With the weight of its forgetting and the seed of its classifier.
    #[must_use]
    pub fn new(weight: impl Into<Weight>, seed: u64) -> Self {
        Self { weight: weight.into(), seed, risk: Risk::default(), classifier: None }
    }
}

impl Objective for Sifer {
    fn reads_features(&self) -> bool {
        true
    }

    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        let stats = self.risk.measure(batch, outputs);
        self.risk.entropy.add_gradient(gradient.logits_mut());
        let d = outputs.features.len() / batch.labels.len();
        let seed = self.seed;
        let classifier = self.classifier.get_or_insert_with(|| Classifier::new(d, seed));
        let q = classifier.probabilities(outputs.features);
        let lambda = self.weight.at(batch.clock);
        // With a weight of 0 the gradient must be cross-entropy's own, to the last bit.
        if lambda != 0.0 && batch.clock.step % PERIOD == PERIOD - 1 {
            classifier.forget(&q, lambda as f32, gradient.features_mut(d));
        }
        classifier.learn(outputs.features, q.clone(), batch.labels);
        StepStats { penalty: unlikeness(&q), pairs: 0.0, lambda, ..stats }
    }

    fn state(&self) -> Vec<f64> {
        self.classifier.as_ref().map(Classifier::state).unwrap_or_default()
    }

    fn restore(&mut self, state: &[f64]) {
        self.classifier = Classifier::of(state);
    }
}

/// F: the mean cross-entropy of probabilities `[n, 10]` to equal labels.
fn unlikeness(q: &[f32]) -> f64 {
    let log = |q: &f32| f64::from(q.max(f32::MIN_POSITIVE)).ln();
    -q.iter().map(log).sum::<f64>() / q.len() as f64
}

/// A linear classifier of features, and its optimiser.
#[derive(Debug, Clone, PartialEq)]
struct Classifier {
    d: usize,
    /// W `[10, d]`, then b `[10]`.
    weights: Vec<f32>,
    optimiser: Optimiser,
}

impl Classifier {
    /// Uniform within 1/sqrt(d) of 0, as every other layer.
    fn new(d: usize, seed: u64) -> Self {
        let mut stream = Stream::new("dissim train sieve v1", seed, 0);
        let bound = (d as f64).sqrt().recip();
        let weights: Vec<f32> =
            (0..CLASSES * (d + 1)).map(|_| (stream.symmetric() * bound) as f32).collect();
        let optimiser = Optimiser::new(Rule::Adam, RATE, weights.len());
        Self { d, weights, optimiser }
    }

    /// Back from what [`state`](Self::state) gave.
    fn of(state: &[f64]) -> Option<Self> {
        let (step, rest) = state.split_first()?;
        let count = rest.len() / 3;
        let mut parts = rest.chunks_exact(count).map(|p| p.iter().map(|v| *v as f32).collect());
        let mut part = || parts.next().unwrap_or_default();
        let (weights, first, second): (Vec<f32>, _, _) = (part(), part(), part());
        let rule = Rule::Adam;
        let optimiser = Optimiser { rule, lr: RATE, step: *step as u64, first, second };
        Some(Self { d: count / CLASSES - 1, weights, optimiser })
    }

    fn state(&self) -> Vec<f64> {
        let Optimiser { step, first, second, .. } = &self.optimiser;
        let values = self.weights.iter().chain(first).chain(second);
        std::iter::once(*step as f64).chain(values.map(|v| f64::from(*v))).collect()
    }

    /// q `[n, 10]`.
    fn probabilities(&self, features: &[f32]) -> Vec<f32> {
        let (weight, bias) = self.weights.split_at(CLASSES * self.d);
        let mut q = Vec::with_capacity(features.len() / self.d * CLASSES);
        for f in features.chunks_exact(self.d) {
            let logit = |k: usize| {
                let row = &weight[k * self.d..(k + 1) * self.d];
                bias[k] + row.iter().zip(f).map(|(w, f)| w * f).sum::<f32>()
            };
            let logits: [f32; CLASSES] = std::array::from_fn(logit);
            let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let exp = logits.map(|l| (l - most).exp());
            let sum: f32 = exp.iter().sum();
            q.extend(exp.map(|e| e / sum));
        }
        q
    }

    /// Adds the gradient of `lambda F` to that of the features, `[n, d]`.
    fn forget(&self, q: &[f32], lambda: f32, gradient: &mut [f32]) {
        let scale = lambda / (q.len() / CLASSES) as f32;
        let samples = gradient.chunks_exact_mut(self.d).zip(q.chunks_exact(CLASSES));
        for (gradient, q) in samples {
            for (row, q) in self.weights.chunks_exact(self.d).zip(q) {
                let factor = scale * (q - 1.0 / CLASSES as f32);
                gradient.iter_mut().zip(row).for_each(|(g, w)| *g += factor * w);
            }
        }
    }

    /// One step of its own cross-entropy, from the probabilities `q` that it gave.
    fn learn(&mut self, features: &[f32], mut q: Vec<f32>, labels: &[u8]) {
        let n = labels.len() as f32;
        let mut gradient = vec![0.0; self.weights.len()];
        let (weight, bias) = gradient.split_at_mut(CLASSES * self.d);
        let samples = features.chunks_exact(self.d).zip(q.chunks_exact_mut(CLASSES)).zip(labels);
        for ((f, residual), &label) in samples {
            residual[usize::from(label)] -= 1.0;
            for (k, residual) in residual.iter().enumerate() {
                let factor = residual / n;
                let row = &mut weight[k * self.d..(k + 1) * self.d];
                row.iter_mut().zip(f).for_each(|(g, f)| *g += factor * f);
                bias[k] += factor;
            }
        }
        self.optimiser.apply(&mut self.weights, &gradient);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::methods::check::cases;
    use proptest::prelude::*;

    /// One feature of 1 with W = (ln 11, 0, ..): q = (11, 1, .., 1) / 20. F = -(ln 0.55 + 9 ln 0.05) / 10
    /// and dF/df = ln 11 (0.55 - 0.1).
    #[test]
    fn one_feature_by_hand() {
        let mut classifier = Classifier::new(1, 0);
        classifier.weights.fill(0.0);
        classifier.weights[0] = 11f32.ln();
        let q = classifier.probabilities(&[1.0]);
        assert!((q[0] - 0.55).abs() < 1e-6 && (q[9] - 0.05).abs() < 1e-6);
        let expected = -(0.55f64.ln() + 9.0 * 0.05f64.ln()) / 10.0;
        assert!((unlikeness(&q) - expected).abs() < 1e-6);
        let mut gradient = [0.0];
        classifier.forget(&q, 2.0, &mut gradient);
        assert!((gradient[0] - 2.0 * 11f32.ln() * 0.45).abs() < 1e-6);
        // Adam's first step is the learning rate against the gradient's sign: label 3 has 0.05 - 1.
        classifier.learn(&[1.0], q, &[3]);
        assert!((classifier.weights[3] - 0.001).abs() < 1e-6);
        assert!((classifier.weights[0] - (11f32.ln() - 0.001)).abs() < 1e-6);
    }

    #[test]
    fn it_survives_a_checkpoint_and_learns() {
        let mut classifier = Classifier::new(3, 5);
        let features = [1.0, 0.0, 0.5, 0.0, 1.0, 0.5];
        let loss = |c: &Classifier| {
            let q = c.probabilities(&features);
            -f64::from(q[4]).ln() - f64::from(q[10 + 7]).ln()
        };
        let before = loss(&classifier);
        for _ in 0..100 {
            let q = classifier.probabilities(&features);
            classifier.learn(&features, q, &[4, 7]);
        }
        assert!(loss(&classifier) < before - 0.2, "{before} {}", loss(&classifier));
        assert_eq!(Classifier::of(&classifier.state()), Some(classifier));
        assert_eq!(Classifier::of(&[]), None);
    }

    proptest! {
        /// Every tenth step, against central differences of F in f64; cross-entropy's alone before.
        #[test]
        fn gradient_equals_finite_differences(case in cases(), seed: u64) {
            let d = case.width;
            let outputs = Outputs { features: &case.pre, ..case.outputs() };
            let evaluate = |step: u64| {
                let mut gradient = OutputGradient::default();
                gradient.reset(case.labels.len(), d);
                let batch = case.batch();
                let batch = Batch { clock: crate::methods::Clock { step, ..batch.clock }, ..batch };
                let stats = Sifer::new(1.5, seed).evaluate(&batch, outputs, &mut gradient);
                (stats, gradient)
            };
            let (_, before) = evaluate(0);
            prop_assert!(before.features().is_none());
            let (stats, gradient) = evaluate(9);
            let classifier = Classifier::new(d, seed);
            let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| x.into()).collect() };
            let (w, at) = (wide(&classifier.weights), wide(&case.pre));
            let brute = |f: &[f64]| {
                let sample = |f: &[f64]| {
                    let logit = |k: usize| w[10 * d + k] + (0..d).map(|j| w[k * d + j] * f[j]).sum::<f64>();
                    let total = (0..10).map(|k| logit(k).exp()).sum::<f64>().ln();
                    (0..10).map(|k| total - logit(k)).sum::<f64>() / 10.0
                };
                f.chunks_exact(d).map(sample).sum::<f64>() / case.labels.len() as f64
            };
            prop_assert!((stats.penalty - brute(&at)).abs() < 1e-4);
            for (i, found) in gradient.features().unwrap().iter().enumerate() {
                let value = |delta: f64| {
                    let mut moved = at.clone();
                    moved[i] += delta;
                    1.5 * brute(&moved)
                };
                let expected = (value(1e-5) - value(-1e-5)) / 2e-5;
                prop_assert!((f64::from(*found) - expected).abs() < 1e-4, "{i}: {found} {expected}");
            }
        }
    }
}
