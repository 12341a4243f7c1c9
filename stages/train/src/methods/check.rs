//! For the tests of the methods: batches of numbers, and gradients against finite differences.

use dissim_kernel::{CLASSES, OutputGradient, Outputs, PIXELS};
use proptest::prelude::*;

use super::{Batch, Clock, Mixed, Objective, StepStats};

/// A loss of logits, embedding and pre-embedding, written plainly in f64.
type PlainLoss<'a> = dyn Fn(&[f64], &[f64], &[f64]) -> f64 + 'a;

/// A batch with its outputs, made of plain numbers.
#[derive(Debug, Clone)]
pub struct Case {
    pub images: Vec<u8>,
    pub rows: Vec<u32>,
    pub labels: Vec<u8>,
    pub backgrounds: Vec<u32>,
    pub groups: Vec<u32>,
    pub partner_labels: Vec<u8>,
    pub shares: Option<Vec<f32>>,
    pub logits: Vec<f32>,
    pub embedding: Vec<f32>,
    pub pre: Vec<f32>,
    pub width: usize,
    pub clock: Clock,
}

impl Case {
    /// A batch written out by hand: black images, logits of 0.
    pub fn by_hand(labels: &[u8], backgrounds: &[u32], embedding: &[f32]) -> Self {
        let n = labels.len();
        Self {
            images: vec![0; n * PIXELS],
            rows: (0..n as u32).collect(),
            labels: labels.to_vec(),
            backgrounds: backgrounds.to_vec(),
            groups: crate::batches::groups(labels, backgrounds),
            partner_labels: labels.to_vec(),
            shares: None,
            logits: vec![0.0; n * CLASSES],
            embedding: embedding.to_vec(),
            pre: embedding.to_vec(),
            width: embedding.len() / n,
            clock: Clock { epoch: 1, epochs: 1, step: 0, steps: 1 },
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let Self { images, rows, labels, backgrounds, groups, .. } = self;
        let shares = self.shares.as_deref();
        let mixed = shares.map(|shares| Mixed { labels: &self.partner_labels, shares });
        Batch { images, rows, labels, backgrounds, groups, mixed, clock: self.clock }
    }

    pub fn outputs(&self) -> Outputs<'_> {
        let Self { logits, embedding, pre, width, .. } = self;
        Outputs { logits, embedding, pre, width: *width, features: &[] }
    }

    /// Figures and gradient by an objective.
    pub fn evaluate(&self, objective: &mut dyn Objective) -> (StepStats, OutputGradient) {
        let mut gradient = OutputGradient::default();
        gradient.reset(self.labels.len(), self.width);
        let stats = objective.evaluate(&self.batch(), self.outputs(), &mut gradient);
        (stats, gradient)
    }

    /// Compares the gradient of an objective with central differences of its brute-force loss in
    /// f64 over logits, embedding and pre-embedding.
    pub fn check_gradient(&self, gradient: &OutputGradient, loss: &PlainLoss) {
        let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|&x| f64::from(x)).collect() };
        let at = [wide(&self.logits), wide(&self.embedding), wide(&self.pre)];
        let zeros = vec![0.0; self.embedding.len()];
        let found = [
            gradient.logits(),
            gradient.embedding().unwrap_or(&zeros),
            gradient.pre().unwrap_or(&zeros),
        ];
        for which in 0..3 {
            for i in 0..at[which].len() {
                let value = |delta: f64| {
                    let mut moved = at.clone();
                    moved[which][i] += delta;
                    loss(&moved[0], &moved[1], &moved[2])
                };
                let expected = (value(1e-5) - value(-1e-5)) / 2e-5;
                let found = f64::from(found[which][i]);
                let tolerance = 1e-4 * (1.0 + expected.abs());
                assert!((found - expected).abs() < tolerance, "{which} {i}: {found} {expected}");
            }
        }
    }
}

/// Batches of up to 20 samples of three labels with three backgrounds each, embeddings of 1 to 6.
/// The embedding is the pre-embedding's positive part, as after ReLU, and away from 0.
pub fn cases() -> impl Strategy<Value = Case> {
    (1usize..7, 1usize..20).prop_flat_map(|(width, n)| {
        let sample = (0u8..3, 0u32..3, 0u8..3, 0.0f32..1.0);
        // Away from 0, where a norm or an activation has a corner.
        let unit = prop_oneof![0.1f32..2.0, -2.0f32..-0.1];
        (
            prop::collection::vec(sample, n),
            prop::collection::vec(-3.0f32..3.0, n * CLASSES),
            prop::collection::vec(unit, n * width),
            prop::collection::vec(any::<u8>(), 48),
        )
            .prop_map(move |(samples, logits, pre, noise)| {
                let labels: Vec<u8> = samples.iter().map(|s| s.0).collect();
                // A background belongs to one label only.
                let backgrounds: Vec<u32> =
                    samples.iter().map(|s| u32::from(s.0) * 3 + s.1).collect();
                let groups = crate::batches::groups(&labels, &backgrounds);
                Case {
                    images: (0..n * PIXELS)
                        .map(|i| noise[i / 7 % 48] ^ (i / PIXELS) as u8)
                        .collect(),
                    rows: (0..n as u32).collect(),
                    groups,
                    backgrounds,
                    partner_labels: samples.iter().map(|s| s.2).collect(),
                    shares: None,
                    logits,
                    embedding: pre.iter().map(|v: &f32| v.max(0.05)).collect(),
                    pre,
                    width,
                    clock: Clock { epoch: 1, epochs: 5, step: 0, steps: 10 },
                    labels,
                }
            })
    })
}

/// Cross-entropy by its definition, in f64.
pub fn entropy(logits: &[f64], labels: &[u8]) -> f64 {
    let rows = logits.chunks_exact(CLASSES).zip(labels);
    let loss = |(row, &label): (&[f64], &u8)| {
        row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[usize::from(label)]
    };
    rows.map(loss).sum::<f64>() / labels.len() as f64
}

/// Cross-entropy of sample `i` under `label`.
pub fn entropy_of(logits: &[f64], i: usize, label: usize) -> f64 {
    let row = &logits[i * CLASSES..(i + 1) * CLASSES];
    row.iter().map(|l| l.exp()).sum::<f64>().ln() - row[label]
}

/// The mean of S_ij over the ordered pairs of samples that `wanted` picks; 0 where it picks none.
pub fn mean_cosine(z: &[f64], width: usize, wanted: impl Fn(usize, usize) -> bool) -> f64 {
    let n = z.len() / width;
    let all = (0..n).flat_map(|i| (0..n).map(move |j| (i, j)));
    let found: Vec<f64> =
        all.filter(|&(i, j)| i != j && wanted(i, j)).map(|(i, j)| cosine(z, width, i, j)).collect();
    if found.is_empty() { 0.0 } else { found.iter().sum::<f64>() / found.len() as f64 }
}

/// S_ij of `z` `[n, width]` in f64.
pub fn cosine(z: &[f64], width: usize, i: usize, j: usize) -> f64 {
    let row = |i: usize| &z[i * width..(i + 1) * width];
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    dot(row(i), row(j)) / (dot(row(i), row(i)) * dot(row(j), row(j))).sqrt()
}

mod tests {
    use super::*;
    use crate::methods::Erm;

    /// Logits (ln 9, 0, ..) give (9, 1, .., 1) / 18: the loss of label 0 is ln 2, of label 1 ln 18.
    #[test]
    fn cross_entropy_by_hand() {
        let mut case = Case::by_hand(&[0], &[0], &[1.0]);
        case.logits[0] = 9f32.ln();
        let (stats, gradient) = case.evaluate(&mut Erm::default());
        assert!((stats.cross_entropy - 2f64.ln()).abs() < 1e-6 && stats.correct == 1);
        assert!((gradient.logits()[0] + 0.5).abs() < 1e-6);
        assert!((gradient.logits()[1] - 1.0 / 18.0).abs() < 1e-6);
        // Mixup with a quarter of label 1.
        (case.partner_labels, case.shares) = (vec![1], Some(vec![0.25]));
        let (stats, gradient) = case.evaluate(&mut Erm::default());
        let expected = 0.75 * 2f64.ln() + 0.25 * 18f64.ln();
        assert!((stats.cross_entropy - expected).abs() < 1e-6);
        assert!((gradient.logits()[0] - (0.5 - 0.75)).abs() < 1e-6);
        assert!((gradient.logits()[1] - (1.0 / 18.0 - 0.25)).abs() < 1e-6);
    }

    proptest! {
        #[test]
        fn cross_entropy_equals_its_definition(case in cases()) {
            let (stats, gradient) = case.evaluate(&mut Erm::default());
            let loss = |logits: &[f64], _: &[f64], _: &[f64]| entropy(logits, &case.labels);
            let wide: Vec<f64> = case.logits.iter().map(|&x| f64::from(x)).collect();
            prop_assert!((stats.cross_entropy - loss(&wide, &[], &[])).abs() < 1e-5);
            case.check_gradient(&gradient, &loss);
        }

        /// The cross-entropy of a mixture is the mixture of the cross-entropies.
        #[test]
        fn mixed_labels_share_the_loss(case in cases(), share in 0.0f32..1.0) {
            let case = Case { shares: Some(vec![share; case.labels.len()]), ..case };
            let (stats, gradient) = case.evaluate(&mut Erm::default());
            let share = f64::from(share);
            let loss = |logits: &[f64], _: &[f64], _: &[f64]| {
                (1.0 - share) * entropy(logits, &case.labels)
                    + share * entropy(logits, &case.partner_labels)
            };
            let wide: Vec<f64> = case.logits.iter().map(|&x| f64::from(x)).collect();
            prop_assert!((stats.cross_entropy - loss(&wide, &[], &[])).abs() < 1e-5);
            case.check_gradient(&gradient, &loss);
        }
    }
}
