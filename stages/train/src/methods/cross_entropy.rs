//! Softmax cross-entropy of each sample of a batch, and its gradient.
//!
//! With p = softmax(logits) and target t (one class, or two by their shares where images are
//! mixed), the loss of a sample is `-sum_k t_k ln p_k`, and its gradient `p - t`.

use dissim_kernel::{CLASSES, Outputs};

use super::{Batch, Mixed};

/// Cross-entropy of a batch, a sample at a time.
#[derive(Debug, Clone, Default)]
pub struct CrossEntropy {
    /// The loss of each sample, `[n]`.
    pub losses: Vec<f64>,
    /// Its gradient with respect to the sample's own logits, `[n, 10]`; not divided by n.
    pub residuals: Vec<f32>,
    /// Samples whose largest logit is their label's.
    pub correct: usize,
}

impl CrossEntropy {
    /// Computes losses and residuals of a batch.
    pub fn measure(&mut self, batch: &Batch<'_>, outputs: Outputs<'_>) {
        self.losses.clear();
        self.residuals.clear();
        self.correct = 0;
        for (i, &label) in batch.labels.iter().enumerate() {
            let row: &[f32; CLASSES] =
                outputs.logits(i).try_into().expect("a sample has ten logits");
            self.sample(row, usize::from(label), batch.mixed.map(|mixed| partner(mixed, i)));
        }
    }

    fn sample(&mut self, row: &[f32; CLASSES], label: usize, partner: Option<(usize, f32)>) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = row.map(|l| (l - max).exp());
        let sum: f32 = exp.iter().sum();
        let loss = |class: usize| f64::from(sum.ln() - (row[class] - max));
        let mut target = [0.0f32; CLASSES];
        match partner {
            None => {
                target[label] = 1.0;
                self.losses.push(loss(label));
            }
            Some((other, share)) => {
                target[label] += 1.0 - share;
                target[other] += share;
                let share = f64::from(share);
                self.losses.push((1.0 - share) * loss(label) + share * loss(other));
            }
        }
        self.correct += usize::from(largest(row) == label);
        self.residuals.extend((0..CLASSES).map(|c| exp[c] / sum - target[c]));
    }

    /// The mean loss.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.losses.iter().sum::<f64>() / self.losses.len() as f64
    }

    /// Adds the gradient of the mean loss to `logits`, `[n, 10]`.
    pub fn add_gradient(&self, logits: &mut [f32]) {
        let n = self.losses.len() as f32;
        logits.iter_mut().zip(&self.residuals).for_each(|(g, r)| *g += r / n);
    }

    /// Adds the gradient of `sum_i weights[i] * loss_i` to `logits`, `[n, 10]`.
    pub fn add_weighted_gradient(&self, weights: &[f32], logits: &mut [f32]) {
        let samples = logits.chunks_exact_mut(CLASSES).zip(self.residuals.chunks_exact(CLASSES));
        for ((logits, residuals), weight) in samples.zip(weights) {
            logits.iter_mut().zip(residuals).for_each(|(g, r)| *g += weight * r);
        }
    }
}

fn partner(mixed: Mixed<'_>, i: usize) -> (usize, f32) {
    (usize::from(mixed.labels[i]), mixed.shares[i])
}

/// The class with the largest logit; of equals the first.
#[must_use]
pub fn largest(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, c| if logits[c] > logits[best] { c } else { best })
}
