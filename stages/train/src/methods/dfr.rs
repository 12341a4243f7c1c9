//! Deep feature reweighting: erm, and then the last layer fitted anew on held-out backgrounds
//! (Kirichenko, Izmailov and Wilson, ICLR 2023). Told held-out labels: the images of `bg_val`.
//!
//! As in the paper the embeddings are standardised and the fit is a regularised logistic regression;
//! here with a squared penalty (the paper's is absolute), whose minimum Nesterov's accelerated
//! gradient finds without a random number: `1/n sum_i CE_i + a/2 |W|^2`, a = 0.01, 300 steps of 1/L. What
//! comes out is folded back into the layer. `bg_val_acc` and whatever is chosen by it are then
//! measured on data that the method was fitted to; the OOD test stays unseen.

use dissim_api::StageError;
use dissim_api::formats::SplitName;
use dissim_kernel::{CLASSES, OutputGradient, Outputs};
use dissim_model::Engine;

use super::{Batch, Erm, Objective, Setting, StepStats};

/// Weight of the squared penalty, for standardised embeddings.
const DECAY: f64 = 0.01;
/// Steps of the accelerated gradient.
const STEPS: usize = 300;
/// Images a forward pass; no more than the engine was made for.
const CHUNK: usize = 64;

/// The objective: erm's, and a last layer of its own.
#[derive(Debug, Default)]
pub struct Dfr {
    entropy: Erm,
}

impl Objective for Dfr {
    fn evaluate(
        &mut self,
        batch: &Batch<'_>,
        outputs: Outputs<'_>,
        gradient: &mut OutputGradient,
    ) -> StepStats {
        self.entropy.evaluate(batch, outputs, gradient)
    }

    fn finish(&mut self, setting: Setting<'_>, engine: &mut dyn Engine) -> Result<(), StageError> {
        let split = setting.dataset.split(SplitName::BgVal);
        if split.is_empty() {
            return Err(StageError::new("`method: dfr` needs images on held-out backgrounds")
                .help("let the data set hold some out: n_val above 0"));
        }
        let images = setting.dataset.compose(SplitName::BgVal);
        let rows: Vec<u32> = (0..split.len() as u32).collect();
        let chunk = CHUNK.min(setting.params.batch_size as usize);
        let (mut z, mut width) = (Vec::new(), 1);
        for rows in rows.chunks(chunk) {
            let outputs = engine.predict(&images, rows);
            width = outputs.width;
            z.extend(outputs.embedding.iter().take(rows.len() * width).map(|v| f64::from(*v)));
        }
        if z.iter().any(|v| !v.is_finite()) {
            // A run that diverged stays what it is.
            return Ok(());
        }
        let (weight, bias) = fit(&z, width, &split.label);
        let [weight_range, bias_range] = setting.architecture.head();
        let weights = engine.weights_mut();
        weights[weight_range].iter_mut().zip(weight).for_each(|(w, v)| *w = v as f32);
        weights[bias_range].iter_mut().zip(bias).for_each(|(w, v)| *w = v as f32);
        Ok(())
    }
}

/// Weight `[10, d]` and bias `[10]` of the logistic regression on embeddings `z` `[n, d]`.
fn fit(z: &[f64], d: usize, labels: &[u8]) -> (Vec<f64>, Vec<f64>) {
    let (mean, deviation) = scale(z, d);
    let standard: Vec<f64> = z
        .chunks_exact(d)
        .flat_map(|row| {
            let values = row.iter().zip(&mean).zip(&deviation);
            values.map(|((v, m), s)| if *s > 0.0 { (v - m) / s } else { 0.0 }).collect::<Vec<_>>()
        })
        .collect();
    let solution = descend(&standard, d, labels);
    let mut weight = vec![0.0; CLASSES * d];
    let mut bias = vec![0.0; CLASSES];
    for (class, row) in solution.chunks_exact(d + 1).enumerate() {
        bias[class] = row[d];
        for j in (0..d).filter(|&j| deviation[j] > 0.0) {
            weight[class * d + j] = row[j] / deviation[j];
            bias[class] -= row[j] * mean[j] / deviation[j];
        }
    }
    (weight, bias)
}

/// Mean and deviation of each unit.
fn scale(z: &[f64], d: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (z.len() / d) as f64;
    let unit = |j: usize| z.iter().skip(j).step_by(d);
    let mean: Vec<f64> = (0..d).map(|j| unit(j).sum::<f64>() / n).collect();
    let variance = |j: usize| unit(j).map(|v| (v - mean[j]).powi(2)).sum::<f64>() / n;
    let deviation = (0..d).map(|j| variance(j).sqrt()).collect();
    (mean, deviation)
}

/// Nesterov's accelerated gradient from 0; `[10, d + 1]`, the bias last.
fn descend(x: &[f64], d: usize, labels: &[u8]) -> Vec<f64> {
    // The curvature of the softmax is at most half of the largest eigenvalue of X'X / n.
    let step = 1.0 / (0.5 * largest_eigenvalue(x, d) + DECAY);
    let mut at = vec![0.0; CLASSES * (d + 1)];
    let mut ahead = at.clone();
    for k in 0..STEPS {
        let gradient = gradient(x, d, labels, &ahead);
        let next: Vec<f64> = ahead.iter().zip(&gradient).map(|(w, g)| w - step * g).collect();
        let momentum = k as f64 / (k as f64 + 3.0);
        ahead = next.iter().zip(&at).map(|(n, a)| n + momentum * (n - a)).collect();
        at = next;
    }
    at
}

/// The gradient of the regularised mean cross-entropy at `w` `[10, d + 1]`.
fn gradient(x: &[f64], d: usize, labels: &[u8], w: &[f64]) -> Vec<f64> {
    let n = labels.len() as f64;
    let mut gradient: Vec<f64> = w.iter().map(|w| DECAY * w).collect();
    for (row, &label) in x.chunks_exact(d).zip(labels) {
        let logit = |w: &[f64]| w[d] + row.iter().zip(w).map(|(x, w)| x * w).sum::<f64>();
        let logits: Vec<f64> = w.chunks_exact(d + 1).map(logit).collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = logits.iter().map(|l| (l - most).exp()).sum();
        for (class, out) in gradient.chunks_exact_mut(d + 1).enumerate() {
            let target = f64::from(u8::from(class == usize::from(label)));
            let residual = ((logits[class] - most).exp() / total - target) / n;
            out.iter_mut().zip(row).for_each(|(g, x)| *g += residual * x);
            out[d] += residual;
        }
    }
    gradient
}

/// Of X'X / n with a column of ones, by power iteration; 10 % is added for what is left out.
fn largest_eigenvalue(x: &[f64], d: usize) -> f64 {
    let n = (x.len() / d) as f64;
    let mut v = vec![1.0; d + 1];
    let mut value = 1.0;
    for _ in 0..30 {
        let mut next = vec![0.0; d + 1];
        for row in x.chunks_exact(d) {
            let dot = v[d] + row.iter().zip(&v).map(|(x, v)| x * v).sum::<f64>();
            next.iter_mut().zip(row).for_each(|(o, x)| *o += dot * x / n);
            next[d] += dot / n;
        }
        value = next.iter().map(|v| v * v).sum::<f64>().sqrt();
        v = next.into_iter().map(|o| o / value).collect();
    }
    1.1 * value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data() -> (Vec<f64>, Vec<u8>) {
        let noise = |i: usize| (i.wrapping_mul(2_654_435_761) >> 7) as u8 as f64 / 255.0 - 0.5;
        let labels: Vec<u8> = (0..300).map(|i| (i % 3) as u8).collect();
        // Unit 0 tells label 0, unit 1 label 1, unit 2 is noise, unit 3 is dead.
        let z = (0..300).flat_map(|i| {
            let on = |label: usize| f64::from(u8::from(i % 3 == label));
            [5.0 * on(0) + noise(i), 50.0 * on(1) + noise(i + 999), noise(i + 555), 0.0]
        });
        (z.collect(), labels)
    }

    /// Embeddings 1 and -1 of labels 0 and 1. At 0 each class has 1/10, so the weights' gradients
    /// are (-0.9 - 0.1) / 2 = -1/2, (0.1 + 0.9) / 2 = 1/2 and (0.1 - 0.1) / 2 = 0, the biases' are
    /// (-0.9 + 0.1) / 2 = -0.4 twice, and 0.1.
    #[test]
    fn a_gradient_by_hand() {
        let found = gradient(&[1.0, -1.0], 1, &[0, 1], &[0.0; 20]);
        let mut expected = vec![-0.5, -0.4, 0.5, -0.4];
        (2..10).for_each(|_| expected.extend([0.0, 0.1]));
        assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    }

    /// Embeddings 12 and 8 are 10 + 2 x of x = 1 and -1: the same fit has half the weight, and a bias
    /// that is 10 / 2 weights less.
    #[test]
    fn what_was_standardised_is_folded_back_by_hand() {
        let (weight, bias) = fit(&[1.0, -1.0], 1, &[0, 1]);
        let (moved, shifted) = fit(&[12.0, 8.0], 1, &[0, 1]);
        assert!(weight[0] > 1.0 && (weight[0] + weight[1]).abs() < 1e-9);
        for class in 0..10 {
            assert!((moved[class] - weight[class] / 2.0).abs() < 1e-9);
            assert!((shifted[class] - (bias[class] - 5.0 * weight[class])).abs() < 1e-9);
        }
    }

    #[test]
    fn the_fit_stands_at_its_minimum_and_separates() {
        let (z, labels) = data();
        let (mean, deviation) = scale(&z, 4);
        let standard: Vec<f64> =
            (0..z.len())
                .map(|i| {
                    if deviation[i % 4] > 0.0 {
                        (z[i] - mean[i % 4]) / deviation[i % 4]
                    } else {
                        0.0
                    }
                })
                .collect();
        let w = descend(&standard, 4, &labels);
        let rest = gradient(&standard, 4, &labels, &w).iter().fold(0.0f64, |m, g| m.max(g.abs()));
        assert!(rest < 1e-4, "{rest}");
        let (weight, bias) = fit(&z, 4, &labels);
        for (row, &label) in z.chunks_exact(4).zip(&labels) {
            let logit = |c: usize| {
                bias[c] + row.iter().zip(&weight[c * 4..]).map(|(x, w)| x * w).sum::<f64>()
            };
            let best = (1..10).fold(0, |b, c| if logit(c) > logit(b) { c } else { b });
            assert_eq!(best, usize::from(label));
        }
    }
}
